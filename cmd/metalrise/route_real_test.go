package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"metalrise.dev/fleet"
)

// TestRealLadder installs three servers: one whose BMC fails to load the first
// two media, which needs the second rung; one without a licence for virtual media,
// which ends at a person's USB drive; and one that is well.
func TestRealLadder(t *testing.T) {
	r := newRack(t, "ladder", 3)
	r.planned(3)
	names := r.labView().Servers
	r.must("lab", "fault", "--name", r.lab, names[0].Name, "media-download-fails times=2")
	r.must("lab", "fault", "--name", r.lab, names[1].Name, "quirk name=licence-dell")
	r.must("apply", "--erase-disks", "3", "--detach")
	v := r.await(5*time.Minute, "two installed and one held", func(v fleet.Overview) bool {
		held := 0
		for _, s := range v.Servers {
			if s.Condition == fleet.Held {
				held++
			}
		}
		return v.Quiet && held == 1
	})
	routes := map[fleet.BootRoute]fleet.Status{}
	for _, s := range v.Servers {
		routes[s.Route] = s
	}
	plain, hand := routes[fleet.VirtualMediaHTTP], routes[fleet.USB]
	if len(routes) != 3 || routes[fleet.VirtualMedia].Condition != fleet.Settled {
		t.Fatalf("routes %+v", routes)
	}
	if plain.Condition != fleet.Settled || len(plain.Missed) != 1 || plain.Missed[0].Route != fleet.VirtualMedia {
		t.Errorf("the server of the second rung: %+v", plain)
	}
	if hand.Condition != fleet.Held || len(hand.Missed) != 4 || hand.Missed[0].Cause.Code != fleet.CodeBMCLicence ||
		!strings.Contains(strings.Join(hand.Cause.Chain, " "), "metalrise medium "+string(hand.Server)) {
		t.Errorf("the server of the last rung: %+v %+v", hand, hand.Cause)
	}
	file := filepath.Join(t.TempDir(), "usb.iso")
	r.must("medium", string(hand.Server), "--to", file)
	if info, err := os.Stat(file); err != nil || info.Size() < 1<<20 {
		t.Errorf("the medium: %v, %v", info, err)
	}
	if out, code := r.try("medium", string(plain.Server), "--to", file, "--force"); code == 0 {
		t.Errorf("an installed server's medium was written: %s", out)
	}
}
