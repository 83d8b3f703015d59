package main

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"metalrise.dev/fleet"
)

// TestRealLadder installs three servers: one whose BMC fails to load the first
// two media, which needs the second rung; one without a licence for virtual media,
// which ends at a person's USB drive and is booted by it; and one that is well.
func TestRealLadder(t *testing.T) {
	r := newRack(t, "ladder", 3)
	r.planned(3)
	names := r.labView().Servers
	r.must("lab", "fault", "--name", r.lab, names[0].Name, "media-download-fails times=2")
	r.must("lab", "fault", "--name", r.lab, names[1].Name, "quirk name=licence-dell")
	r.must("apply", "--erase-disks", "3", "--detach", "--no-probe") // the faults are meant for the run
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
	r.bootByHand(hand, names[1].Name, file)
	v = r.await(5*time.Minute, "the server of the last rung installed", allSettled)
	for _, s := range v.Servers {
		if s.Server == hand.Server && s.Route != fleet.USB {
			t.Errorf("it was booted by hand and says %s", s.Route)
		}
	}
	r.installedOnce()
}

// bootByHand is the person with the USB drive: the file gets into the machine by
// no way that the engine knows of, and the machine is switched on at its button.
func (r *rack) bootByHand(s fleet.Status, name, file string) {
	r.t.Helper()
	r.must("lab", "fault", "--name", r.lab, name, "--clear")
	l, err := net.Listen("tcp", r.gateway()+":0")
	if err != nil {
		r.t.Fatal(err)
	}
	srv := &http.Server{Handler: http.FileServer(http.Dir(filepath.Dir(file)))}
	go srv.Serve(l)
	r.t.Cleanup(func() { srv.Close() })
	r.byHand("media", s.BMC, "insert", "http://"+l.Addr().String()+"/"+filepath.Base(file))
	r.byHand("boot", s.BMC, "cd")
	r.must("lab", "power", "--name", r.lab, name, "on")
}

// byHand does something to a BMC beside the engine.
func (r *rack) byHand(args ...string) {
	r.t.Helper()
	r.must(append(append([]string{"bmc"}, args...), "--username", "admin", "--password-file",
		filepath.Join(filepath.Dir(r.site), "bmc-password"), "--accept-new-pins", "--meanwhile")...)
}

// gateway is the lab's own address on its bridge.
func (r *rack) gateway() string {
	r.t.Helper()
	b, err := os.ReadFile(r.site)
	if err != nil {
		r.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "gateway: ")
	address, _, _ := strings.Cut(rest, "\n")
	return address
}

// TestRealProbe asks BMCs of several habits to fetch the probe: each route works
// or says why not, nothing stays in a drive, and no machine is switched on.
func TestRealProbe(t *testing.T) {
	for _, habits := range []string{"standard", "idrac9", "ilo5", "ibmc"} {
		t.Run(habits, func(t *testing.T) {
			r := newRack(t, "probe-"+habits, 2, "--personality", habits)
			r.must("discover")
			r.must("inspect")
			n2 := r.labView().Servers[1].Name
			r.must("lab", "fault", "--name", r.lab, n2, "media-download-fails")
			out, code := r.try("probe", "--output", "json")
			var v struct{ Servers []serverProbe }
			if err := json.Unmarshal([]byte(out), &v); err != nil || len(v.Servers) != 2 {
				t.Fatalf("probe: exit %d, %v\n%s", code, err, out)
			}
			if code != exitFindings {
				t.Errorf("exit %d with a server that fetched nothing", code)
			}
			for i, s := range v.Servers {
				works := false
				for _, p := range s.Routes {
					works = works || p.State == probeWorks
					if p.State == probeFailed && p.Cause == nil || p.State == probeWorks && (p.From == "" || p.Bytes == 0) {
						t.Errorf("%s %+v says neither that it works nor why not", s.Server, p)
					}
					t.Logf("%s %s: %s in %.2f s, %s", s.Server, p.Route, p.State, p.Seconds, p.why())
				}
				if works != (i == 0) {
					t.Errorf("%s: works %t", s.Server, works)
				}
				if media := r.must("bmc", "media", s.BMC, "status", "--output", "json"); strings.Contains(media, `"inserted": true`) {
					t.Errorf("%s: left in the drive: %s", s.Server, media)
				}
			}
			for _, s := range r.labView().Servers {
				if s.Boots != 0 {
					t.Errorf("%s booted %d times", s.Name, s.Boots)
				}
			}
		})
	}
}
