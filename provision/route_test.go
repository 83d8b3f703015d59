package provision

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"metalrise.dev/fleet"
)

// laddered is a world whose engine serves every rung.
func laddered(n int) *world {
	w := newWorld(n)
	w.roads = map[fleet.BootRoute]string{}
	return w
}

// steps lists the rungs of a server's attempts as the journal tells them.
func steps(w *world, id fleet.ServerID) (routes []string, notes string) {
	t := NewTrack(id, w.plan.ID)
	for _, e := range w.journal() {
		t.Fold(e)
		if e.Server == id && e.Action == fleet.ActStage {
			routes = append(routes, string(t.Route.Now))
			notes += e.Note + "\n"
		}
	}
	return routes, notes
}

func TestLadder(t *testing.T) {
	const v, h, u, p, usb = "virtual-media", "virtual-media-http", "uefi-http", "pxe", "usb"
	for name, c := range map[string]struct {
		break_ func(*rig)
		lacks  map[fleet.BootRoute]string
		want   []string
		note   string
		held   fleet.Code
	}{
		"all is well":                   {func(*rig) {}, nil, []string{v}, "", ""},
		"no TLS":                        {func(r *rig) { r.noTLS = true }, nil, []string{v, h}, "certificate not trusted", ""},
		"no drive":                      {func(r *rig) { r.noDrive = true }, nil, []string{v, h, u}, "no virtual drive", ""},
		"no drive and no UEFI HTTP":     {func(r *rig) { r.noDrive, r.ignores = true, fleet.UEFIHTTP }, nil, []string{v, h, u, p}, "nobody asked", ""},
		"no drive, no network to serve": {func(r *rig) { r.noDrive = true }, map[fleet.BootRoute]string{u: "serving.netboot is not set", p: "serving.netboot is not set"}, []string{v, h, usb}, "serving.netboot is not set", fleet.CodeNoVirtualMedia},
		"nothing works":                 {func(r *rig) { r.noDrive, r.noNet = true, true }, nil, []string{v, h, u, p, usb}, "no boot target", fleet.CodeNoVirtualMedia},
		"medium never asked for":        {func(r *rig) { r.deaf = true }, nil, []string{v, h, u}, "nobody asked for its medium", ""},
		"medium read, machine silent":   {func(r *rig) { r.silentLive = 9 }, nil, []string{v, v}, "trying once more", fleet.CodeBootSilent},
		"first boot is lost":            {func(r *rig) { r.silentLive = 1 }, nil, []string{v, v}, "trying once more", ""},
		"another machine":               {func(r *rig) { r.swapped = true }, nil, []string{v}, "", fleet.CodeIdentityMismatch},
		"BMC gone":                      {func(r *rig) { r.dead = true }, nil, []string{v}, "", fleet.CodeBMCUnreachable},
		"write fails":                   {func(r *rig) { r.noTLS, r.agentGivesUp = true, true }, nil, []string{v, h}, "", fleet.CodeWriteFailed},
		"wrong disk":                    {func(r *rig) { r.wrongDisk = true }, nil, []string{v}, "", fleet.CodeDiskChanged},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := laddered(2)
				for r, why := range c.lacks {
					w.roads[r] = why
				}
				c.break_(w.servers["SN001"])
				o := install(t, w, 5*time.Hour)
				routes, notes := steps(w, "SN001")
				if !slices.Equal(routes, c.want) || !strings.Contains(notes, c.note) {
					t.Errorf("rungs %v, want %v; notes must tell %q:\n%s", routes, c.want, c.note, notes)
				}
				s := o.Servers[0]
				if c.held == "" && (s.Condition != fleet.Settled || w.servers["SN001"].writes != 1) {
					t.Errorf("%+v, %d writes, want settled and one", s, w.servers["SN001"].writes)
				}
				if c.held != "" && (s.Condition != fleet.Held || s.Cause.Code != c.held) {
					t.Errorf("%+v, want held with %s", s, c.held)
				}
				if string(s.Route) != c.want[len(c.want)-1] {
					t.Errorf("status shows route %q", s.Route)
				}
				wantInstalled(t, w, o, "SN001")
			})
		})
	}
}

// TestLadderKilledAtEveryEvent kills the engine at every event of an install
// that needs the third rung.
func TestLadderKilledAtEveryEvent(t *testing.T) {
	make := func() *world {
		w := laddered(1)
		w.servers["SN001"].noDrive = true
		return w
	}
	events := 0
	synctest.Test(t, func(t *testing.T) {
		w := make()
		install(t, w, time.Hour)
		events = len(w.events)
	})
	for cut := 1; cut <= events; cut++ {
		for _, durable := range []bool{false, true} {
			t.Run(fmt.Sprintf("event %d durable %v", cut, durable), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := make()
					w.cut, w.durable = cut, durable
					o := install(t, w, 3*time.Hour)
					r := w.servers["SN001"]
					if s := o.Servers[0]; s.Condition != fleet.Settled || r.writes != 1 || r.diskBoots > 2 {
						routes, notes := steps(w, "SN001")
						t.Errorf("%+v: %d writes, %d live boots, %d disk boots; rungs %v\n%s", s, r.writes, r.liveBoots, r.diskBoots, routes, notes)
					}
				})
			})
		}
	}
}

// TestPersonBootsFromUSB takes a server on its last rung to its installed system.
func TestPersonBootsFromUSB(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := laddered(1)
		r := w.servers["SN001"]
		r.noDrive, r.noNet = true, true
		e, err := w.boot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		s := e.Overview().Servers[0]
		if s.Condition != fleet.Held || !strings.Contains(strings.Join(s.Cause.Chain, " "), "metalrise medium SN001") {
			t.Fatalf("not held with instructions: %+v", s)
		}
		res, err := e.Medium("SN001")
		if err != nil {
			t.Fatal(err)
		}
		r.plugIn(res)
		time.Sleep(time.Hour)
		if s = e.Overview().Servers[0]; s.Condition != fleet.Settled || r.written() != 1 {
			t.Errorf("%+v, %d writes", s, r.written())
		}
		w.kill()
		e.Wait()
		w.unplug()
	})
}

// TestRetryBeginsAtTheTop unless a lower rung is known to work.
func TestRetryBeginsAtTheTop(t *testing.T) {
	for name, c := range map[string]struct {
		break_, mend func(*rig)
		want         fleet.BootRoute
	}{
		"nothing worked before":   {func(r *rig) { r.noDrive, r.noNet = true, true }, func(r *rig) { r.noDrive = false }, fleet.VirtualMedia},
		"a lower rung had worked": {func(r *rig) { r.noDrive, r.agentGivesUp = true, true }, func(r *rig) { r.agentGivesUp = false }, fleet.UEFIHTTP},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := laddered(1)
				r := w.servers["SN001"]
				c.break_(r)
				e, err := w.boot(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(2 * time.Hour)
				r.mu.Lock()
				c.mend(r)
				r.mu.Unlock()
				if err := e.Retry(t.Context(), "SN001", "test"); err != nil {
					t.Fatal(err)
				}
				time.Sleep(2 * time.Hour)
				if s := e.Overview().Servers[0]; s.Condition != fleet.Settled || s.Route != c.want || len(s.Missed) != 0 {
					t.Errorf("%+v, want settled by %s", s, c.want)
				}
				w.kill()
				e.Wait()
				w.unplug()
			})
		})
	}
}

// TestPersonChoosesTheRoute begins an attempt where a person says, refuses what
// leads nowhere, and goes on downwards from there.
func TestPersonChoosesTheRoute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := laddered(1)
		w.roads[fleet.VirtualMediaHTTP] = "media are not served without TLS"
		r := w.servers["SN001"]
		r.silentLive = 9
		e, err := w.boot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := e.RetryBy(t.Context(), "SN001", "test", fleet.PXE); fleet.CodeOf(err) != fleet.CodePlanUnknown {
			t.Errorf("a server that is not held: %v", err)
		}
		time.Sleep(3 * time.Hour)
		s := e.Overview().Servers[0]
		if s.Condition != fleet.Held || len(s.Routes) != 5 || s.Routes[1].Unserved == "" || s.Routes[3].Unserved != "" {
			t.Fatalf("held with %+v", s)
		}
		for _, bad := range []fleet.BootRoute{"floppy", fleet.VirtualMediaHTTP} {
			if err := e.RetryBy(t.Context(), "SN001", "test", bad); fleet.CodeOf(err) != fleet.CodeNoVirtualMedia {
				t.Errorf("%s: %v", bad, err)
			}
		}
		if s := e.Overview().Servers[0]; s.Condition != fleet.Held {
			t.Errorf("a refused choice changed %+v", s)
		}
		r.mu.Lock()
		r.silentLive, r.ignores = 0, fleet.UEFIHTTP
		r.mu.Unlock()
		if err := e.RetryBy(t.Context(), "SN001", "test", fleet.UEFIHTTP); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Hour)
		routes, _ := steps(w, "SN001")
		if s := e.Overview().Servers[0]; s.Condition != fleet.Settled || s.Route != fleet.PXE || !slices.Equal(routes[len(routes)-2:], []string{"uefi-http", "pxe"}) || len(s.Routes) != 0 {
			t.Errorf("%+v by %v", s, routes)
		}
		if err := e.RetryBy(t.Context(), "SN001", "test", fleet.PXE); err == nil {
			t.Error("an installed server was given a medium")
		}
		w.kill()
		e.Wait()
		w.unplug()
	})
}

// press is somebody who switches a machine on; its firmware asks the network first.
func (r *rig) press() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.off != nil {
		r.off()
	}
	r.power, r.netOnce = fleet.PowerOn, fleet.PXE
	r.startLocked()
}

// serve runs unattended engines on the world for some time, in which somebody
// switches every machine on, twice.
func serve(t *testing.T, w *world) fleet.Overview {
	t.Helper()
	w.unattended = true
	e, err := w.boot(t.Context())
	for minute := range 180 {
		time.Sleep(time.Minute)
		for w.engine.Load() == nil {
			if e != nil {
				e.Wait()
			}
			e, err = w.boot(t.Context())
		}
		if err != nil && w.engine.Load() != nil {
			t.Fatal(err)
		}
		for _, r := range w.servers {
			r.mu.Lock()
			idle := r.liveBoots == 0
			r.mu.Unlock()
			if minute == 5 || minute > 5 && idle {
				r.press()
			}
		}
	}
	o := e.Overview()
	w.kill()
	e.Wait()
	w.unplug()
	synctest.Wait()
	return o
}

func TestUnattended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := laddered(3)
		o := serve(t, w)
		for _, s := range o.Servers {
			r := w.servers[s.Server]
			if s.Condition != fleet.Settled || r.writes != 1 || r.liveBoots != 1 || r.diskBoots != 1 || r.powerOffs != 0 {
				t.Errorf("%+v: %d writes, %d live boots, %d disk boots", s, r.writes, r.liveBoots, r.diskBoots)
			}
		}
	})
}

// TestUnattendedMachineIsNotWrittenTwice switches an installed machine on again:
// it gets no answer from the network and boots its disk.
func TestUnattendedMachineIsNotWrittenTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := laddered(1)
		w.unattended = true
		e, err := w.boot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		r := w.servers["SN001"]
		for range 3 {
			time.Sleep(10 * time.Minute)
			r.press()
		}
		time.Sleep(10 * time.Minute)
		if s := e.Overview().Servers[0]; s.Condition != fleet.Settled || r.written() != 1 || len(e.NetGuests()) != 0 {
			t.Errorf("%+v, %d writes", s, r.written())
		}
		if id, ok := e.Planned("52:54:00:00:00:01", ""); !ok || id != "SN001" {
			t.Errorf("%s, %t: an installed server is no stranger", id, ok)
		}
		if _, ok := e.Planned("52:54:00:00:00:99", "c0ffee00-0000-0000-0000-000000000000"); ok {
			t.Error("a stranger was taken for a planned server")
		}
		w.kill()
		e.Wait()
		w.unplug()
	})
}

func TestUnattendedKilledAtEveryEvent(t *testing.T) {
	events := 0
	synctest.Test(t, func(t *testing.T) {
		w := laddered(1)
		serve(t, w)
		events = len(w.events)
	})
	for cut := 1; cut <= events; cut++ {
		for _, durable := range []bool{false, true} {
			t.Run(fmt.Sprintf("event %d durable %v", cut, durable), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := laddered(1)
					w.cut, w.durable = cut, durable
					o := serve(t, w)
					if s, r := o.Servers[0], w.servers["SN001"]; s.Condition != fleet.Settled || r.writes != 1 {
						t.Errorf("%+v: %d writes, %d live boots", s, r.writes, r.liveBoots)
					}
				})
			})
		}
	}
}

// TestServedNoMore stops an unattended engine before any machine came. The next
// engine drives BMCs, and cannot boot from the network.
func TestServedNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := laddered(2)
		w.unattended = true
		e, err := w.boot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if s := e.Overview().Servers[0]; s.Route != fleet.PXE || s.Condition != fleet.Waiting {
			t.Errorf("%+v", s)
		}
		w.kill()
		e.Wait()
		w.engine.Store(nil)
		w.unattended = false
		w.roads = map[fleet.BootRoute]string{fleet.UEFIHTTP: "no interface", fleet.PXE: "no interface"}
		o := install(t, w, time.Hour)
		wantInstalled(t, w, o)
		if s := o.Servers[0]; s.Route != fleet.VirtualMedia || len(s.Missed) == 0 {
			t.Errorf("%+v", s)
		}
	})
}
