package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"metalrise.dev/fleet"
)

// rules gives the site these rules and no BMCs.
func (r *rack) rules(text string) {
	r.t.Helper()
	old, err := os.ReadFile(r.site)
	if err != nil {
		r.t.Fatal(err)
	}
	bare := regexp.MustCompile(`(?m)^bmcs:\n(?: .*\n)+`).ReplaceAll(old, nil)
	bare = regexp.MustCompile(`(?m)^rules:\n(?: .*\n)+`).ReplaceAll(bare, nil)
	if err := os.WriteFile(r.site, append(bare, "rules:\n"+text+"\n"...), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// console is all that a machine showed.
func (r *rack) console(name string) string {
	out, _ := r.try("lab", "console", "--name", r.lab, name)
	return out
}

// untouched fails when the plan or the lab says that anything was installed.
func (r *rack) untouched(when string) {
	r.t.Helper()
	for _, e := range r.events() {
		if e.Action == fleet.ActWrite || e.Action == fleet.ActHello {
			r.t.Errorf("%s: %+v", when, e)
		}
	}
	for _, s := range r.labView().Servers {
		if s.Touched != "" {
			r.t.Errorf("%s: %s was written: %s", when, s.Name, s.Touched)
		}
	}
	if strings.Contains(r.console("n1"), "told to write") {
		r.t.Errorf("%s: the machine was told to write", when)
	}
}

// TestRealUnnamed switches on a machine that no file names, by hand, so that real
// firmware asks the network; another DHCP server gives the addresses. With no rule
// for its MAC it gets no answer and is shown. With a rule that its other facts do not
// fit it boots a system that only looks, is shown and held. With one that fits it is
// enrolled; and only after a plan and a consent it is installed, without another start.
func TestRealUnnamed(t *testing.T) {
	for _, firmware := range []string{"bios", "uefi"} {
		t.Run(firmware, func(t *testing.T) {
			r := netRack(t, "unnamed-"+firmware, firmware)
			r.onFailure()
			var lab struct {
				Bridge, Network string
				Servers         []struct{ Name, MAC, BMC string }
			}
			if err := json.Unmarshal([]byte(r.must("lab", "status", "--name", r.lab, "--output", "json")), &lab); err != nil {
				t.Fatal(err)
			}
			mac, bmc := lab.Servers[0].MAC, lab.Servers[0].BMC
			r.dhcp(lab.Bridge, lab.Network)
			begin := time.Now()
			seen := func(what string) { t.Logf("after %s: %s", time.Since(begin).Round(time.Second), what) }
			start := func() {
				r.must("lab", "power", "--name", r.lab, "n1", "off")
				r.byHand("boot", bmc, "pxe")
				r.must("lab", "power", "--name", r.lab, "n1", "on")
			}

			r.rules(`  - {name: others, role: control-plane, match: {macPrefix: "02:ff:ff"}}`)
			serve := r.serves()
			r.await(time.Minute, "the engine serves", func(v fleet.Overview) bool { return v.Engine })
			start()
			v := r.await(installLimit, "a machine without a rule is shown", func(v fleet.Overview) bool { return len(v.Strangers) == 1 })
			seen("no rule for its MAC: shown")
			if s := v.Strangers[0]; !strings.EqualFold(s.MAC, mac) || s.Serial != "" || s.Rule != "" {
				t.Errorf("%+v", s)
			}
			serve()
			r.untouched("without a rule for its MAC")

			r.rules(`  - {name: first, role: control-plane, match: {macPrefix: "` + mac + `", disks: 7}}`)
			serve = r.serves()
			r.await(time.Minute, "the engine serves", func(v fleet.Overview) bool { return v.Engine })
			start()
			v = r.await(installLimit, "a machine that fits no rule is held and shown", func(v fleet.Overview) bool { return len(v.Strangers) == 1 && v.Strangers[0].Serial != "" })
			seen("booted the system that looks, and was shown")
			if s := v.Strangers[0]; s.Rule != "" || !strings.Contains(s.Note, "no rule of the site file matches it") {
				t.Errorf("%+v", s)
			}
			r.happens(time.Minute, "its console says so", func() bool { return strings.Contains(r.console("n1"), "no rule of the site file matches it") })
			serve()
			r.untouched("without a rule that fits")
			if _, code := r.try("plan"); code == exitOK {
				t.Error("a plan was made of a machine that fits no rule")
			}

			r.rules(`  - {name: first, role: control-plane, match: {macPrefix: "` + mac + `", disks: 1}}`)
			serve = r.serves()
			v = r.await(installLimit, "the machine, which still asks, is enrolled", func(v fleet.Overview) bool { return len(v.Strangers) == 1 && v.Strangers[0].Rule == "first" })
			seen("enrolled: " + v.Strangers[0].Note)
			serve()
			r.untouched("without a consent")

			var p planReport
			if err := json.Unmarshal([]byte(r.must("plan", "--output", "json")), &p); err != nil || len(p.Erase) != 1 || p.Blocked || p.Plan.Assignments[0].Server != "LAB0001" {
				t.Fatalf("plan: %v %+v", err, p)
			}
			defer r.serves("--erase-disks", "1")()
			r.await(time.Minute, "the engine has the plan", func(v fleet.Overview) bool { return v.Engine && len(v.Servers) == 1 })
			r.installedBy(fleet.PXE)
			seen("installed")
			for _, s := range r.labView().Servers {
				if s.Touched != "" {
					t.Errorf("%s: a disk that was not planned was written: %s", s.Name, s.Touched)
				}
			}
		})
	}
}

// TestRealSiteMedium starts full machines, one after the other, from one medium that
// was made for the whole site: each finds itself in it and is installed once.
func TestRealSiteMedium(t *testing.T) {
	for _, c := range []struct {
		firmware string
		port     string
		machines int
	}{{"bios", "18557", 2}, {"uefi", "18558", 1}} {
		t.Run(c.firmware, func(t *testing.T) {
			if os.Getenv("METALRISE_QEMU") == "" {
				t.Skip("skipped: heavy, software emulation takes minutes; set METALRISE_QEMU=1")
			}
			// Two are planned for in any case: finding oneself is no art where there is one.
			r := newRack(t, "onemedium-"+c.firmware, 2, "--machine", "qemu", "--firmware", c.firmware)
			r.onFailure()
			text, err := os.ReadFile(r.site)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(r.site, append(text, "\nserving:\n  port: "+c.port+"\n"...), 0o600); err != nil {
				t.Fatal(err)
			}
			r.planned(2)
			file := filepath.Join(t.TempDir(), "site.iso")
			t.Logf("%s", r.must("iso", "build", "--to", file))
			defer r.serves("--erase-disks", "2")()
			r.await(time.Minute, "the engine serves", func(v fleet.Overview) bool { return v.Engine && len(v.Servers) == 2 })
			for i, s := range r.labView().Servers[:c.machines] {
				begin := time.Now()
				r.bootByHand(fleet.Status{BMC: s.BMC}, s.Name, file)
				id := fleet.ServerID([]string{"LAB0001", "LAB0002"}[i])
				v := r.await(installLimit, string(id)+" is installed", func(v fleet.Overview) bool { return statusOf(v, id).Condition == fleet.Settled })
				t.Logf("%s by %s after %s", id, statusOf(v, id).Route, time.Since(begin).Round(time.Second))
				if got := statusOf(v, id); got.Phase != fleet.Installed || got.Route != fleet.USB {
					t.Errorf("%+v", got)
				}
				if !strings.Contains(r.console(s.Name), "this machine is "+string(id)) {
					t.Errorf("the console of %s does not say who it is", s.Name)
				}
				for _, other := range v.Servers {
					if other.Server != id && other.Phase != fleet.Installed && (other.Phase != fleet.Staged || other.Condition != fleet.Waiting) {
						t.Errorf("the other server is not as it was: %+v", other)
					}
				}
			}
			grants := map[fleet.ServerID]int{}
			for _, e := range r.events() {
				switch e.Action {
				case fleet.ActInsert, fleet.ActPowerOn, fleet.ActPowerOff, fleet.ActBootOnce:
					t.Errorf("the engine drove a BMC: %+v", e)
				case fleet.ActWrite:
					if e.Edge == fleet.Began {
						grants[e.Server]++
					}
				}
			}
			if len(grants) != c.machines || grants["LAB0001"] != 1 {
				t.Errorf("disks were granted: %v", grants)
			}
		})
	}
}
