package provision

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"metalrise.dev/fleet"
)

// TestLadderAfterProbe begins on the first rung that stood the probe.
func TestLadderAfterProbe(t *testing.T) {
	const v, h, u, usb = "virtual-media", "virtual-media-http", "uefi-http", "usb"
	lost := &fleet.Cause{Code: fleet.CodeMediaLost, Kind: fleet.Transient, Chain: []string{"the certificate is not trusted"}}
	licence := &fleet.Cause{Code: fleet.CodeBMCLicence, Kind: fleet.Unsupported, Chain: []string{"no licence"}}
	gone := &fleet.Cause{Code: fleet.CodeBMCUnreachable, Kind: fleet.Transient, Chain: []string{"no answer"}}
	noNet := map[fleet.BootRoute]string{fleet.UEFIHTTP: "serving.netboot is not set", fleet.PXE: "serving.netboot is not set"}
	for name, c := range map[string]struct {
		results []Probed
		age     time.Duration
		lacks   map[fleet.BootRoute]string
		want    []string
		note    string
		held    fleet.Code
	}{
		"works":                   {[]Probed{{fleet.VirtualMedia, true, nil}}, time.Hour, nil, []string{v}, "", ""},
		"HTTPS fails":             {[]Probed{{fleet.VirtualMedia, false, lost}, {fleet.VirtualMediaHTTP, true, nil}}, time.Hour, nil, []string{h}, "certificate is not trusted", ""},
		"both fail":               {[]Probed{{fleet.VirtualMedia, false, licence}, {fleet.VirtualMediaHTTP, false, licence}}, time.Hour, nil, []string{u}, "no licence", ""},
		"nothing is left":         {[]Probed{{fleet.VirtualMedia, false, licence}, {fleet.VirtualMediaHTTP, false, licence}}, time.Hour, noNet, []string{usb}, "no licence", fleet.CodeNoVirtualMedia},
		"BMC was away":            {[]Probed{{fleet.VirtualMedia, false, gone}, {fleet.VirtualMediaHTTP, false, gone}}, time.Hour, nil, []string{v}, "", ""},
		"nothing was learnt":      {[]Probed{{fleet.VirtualMedia, false, nil}}, time.Hour, nil, []string{v}, "", ""},
		"failed too long ago":     {[]Probed{{fleet.VirtualMedia, false, lost}}, 30 * time.Hour, nil, []string{v}, "", ""},
		"only a retry was probed": {nil, time.Hour, nil, []string{v}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := laddered(2)
				for r, why := range c.lacks {
					w.roads[r] = why
				}
				e, err := ProbeEvent(time.Now().Add(-c.age), "SN001", c.results, "")
				if err != nil {
					t.Fatal(err)
				}
				if _, err := w.Append(t.Context(), e); err != nil {
					t.Fatal(err)
				}
				fresh, err := FreshProbes(t.Context(), w, time.Now().Add(-ProbeLasts))
				if err != nil || fresh["SN001"] != (c.age < ProbeLasts) || fresh["SN002"] {
					t.Errorf("%v %v", fresh, err)
				}
				o := install(t, w, 5*time.Hour)
				routes, notes := steps(w, "SN001")
				if !slices.Equal(routes, c.want) || !strings.Contains(notes, c.note) {
					t.Errorf("rungs %v, want %v; notes must tell %q:\n%s", routes, c.want, c.note, notes)
				}
				s := o.Servers[0]
				if c.held == "" && s.Condition != fleet.Settled || c.held != "" && (s.Condition != fleet.Held || s.Cause.Code != c.held || !strings.Contains(strings.Join(s.Cause.Chain, " "), c.note)) {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}

// TestRetryForgetsProbe lets a person's retry begin at the top again: something
// was mended.
func TestRetryForgetsProbe(t *testing.T) {
	track := NewTrack("SN001", "p")
	e, err := ProbeEvent(time.Now(), "SN001", []Probed{{fleet.VirtualMedia, false, &fleet.Cause{Code: fleet.CodeMediaLost}}}, "")
	if err != nil {
		t.Fatal(err)
	}
	look := Look{Roads: map[fleet.BootRoute]string{fleet.VirtualMediaHTTP: "", fleet.UEFIHTTP: "", fleet.PXE: "", fleet.USB: ""}}
	track.Route.foldProbe(e)
	if r, missed := track.Route.start(look); r != fleet.VirtualMediaHTTP || len(missed) != 1 {
		t.Errorf("%s %v", r, missed)
	}
	if e.Outcome != fleet.Failed || e.Cause == nil {
		t.Errorf("%+v", e)
	}
	track.Fold(fleet.Event{Server: "SN001", Plan: "p", Action: fleet.ActRetry})
	if r, _ := track.Route.start(look); r != fleet.VirtualMedia {
		t.Errorf("after a retry: %s", r)
	}
}
