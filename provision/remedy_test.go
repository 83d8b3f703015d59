package provision

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"metalrise.dev/fleet"
)

func switchOf(feature fleet.BIOSFeature, name, value string, on fleet.Maybe[bool]) fleet.BIOSSetting {
	return fleet.BIOSSetting{Feature: feature, Name: name, Value: value, On: on}
}

func TestRemedyNamesTheAttribute(t *testing.T) {
	off, on, unknown := fleet.Known(false), fleet.Known(true), fleet.Maybe[bool]{}
	for name, c := range map[string]struct {
		cpu  string
		all  []fleet.BIOSSetting
		want string
	}{
		"nothing was read": {"", nil, "switch on VT-x or AMD-V in the BIOS settings"},
		"only others": {"Intel", []fleet.BIOSSetting{switchOf(fleet.FeatureIOMMU, "IntelProcVtd", "Disabled", off)},
			"switch on VT-x or AMD-V in the BIOS settings"},
		"off": {"Intel", []fleet.BIOSSetting{switchOf(fleet.FeatureIOMMU, "IntelProcVtd", "Disabled", off), switchOf(fleet.FeatureVTx, "ProcVirtualization", "Disabled", off)},
			"BIOS attribute ProcVirtualization is Disabled at this server; switch it on"},
		"both makers' switches off, an AMD processor": {"AMD EPYC 9124", []fleet.BIOSSetting{switchOf(fleet.FeatureVTx, "IntelVT", "Disabled", off), switchOf(fleet.FeatureAMDV, "SVMMode", "Disabled", off)},
			"BIOS attribute SVMMode is Disabled at this server; switch it on"},
		"one off, one of an unknown word": {"Intel", []fleet.BIOSSetting{switchOf(fleet.FeatureVTx, "A", "Auto", unknown), switchOf(fleet.FeatureAMDV, "B", "Off", off)},
			"BIOS attribute B is Off at this server; switch it on"},
		"on": {"Intel", []fleet.BIOSSetting{switchOf(fleet.FeatureVTx, "ProcVirtualization", "Enabled", on)},
			"BIOS attribute ProcVirtualization was Enabled when this server was inspected, so that is not the reason unless it was changed since"},
		"a name that is a code": {"AMD", []fleet.BIOSSetting{{Feature: fleet.FeatureAMDV, Name: "CPU005", Label: "SVM Mode", Value: "CPU005Disabled", On: off}},
			"BIOS attribute CPU005 (SVM Mode) is CPU005Disabled at this server; switch it on"},
	} {
		t.Run(name, func(t *testing.T) {
			got := KVMRemedy(fleet.Facts{CPU: fleet.CPU{Model: fleet.Known(c.cpu)}, BIOSSettings: c.all})
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// TestHeldNodeNamesTheAttribute: the cause of a node without KVM says what its
// own BMC calls the switch, and an archive that hangs keeps no machine waiting.
func TestHeldNodeNamesTheAttribute(t *testing.T) {
	for name, hangs := range map[string]bool{"read": false, "the archive hangs": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newClusterWorld(1, 1)
				w.servers["SN002"].noKVM = true
				w.noArchive = hangs
				w.seen = map[string]fleet.Facts{"SN002": {BIOSSettings: []fleet.BIOSSetting{switchOf(fleet.FeatureVTx, "ProcVirtualization", "Disabled", fleet.Known(false))}}}
				o := install(t, w, 6*time.Hour)
				s := o.Servers[1]
				if s.Cause == nil || s.Cause.Code != fleet.CodeKVMUnproven {
					t.Fatalf("%s %+v", s.Condition, s.Cause)
				}
				want := "BIOS attribute ProcVirtualization is Disabled"
				if hangs {
					want = "switch on VT-x or AMD-V"
				}
				if text := strings.Join(s.Cause.Chain, " "); !strings.Contains(text, want) {
					t.Errorf("the cause is %q, want %q in it", text, want)
				}
			})
		})
	}
}
