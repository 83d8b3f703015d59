package provision

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"metalrise.dev/fleet"
)

// install runs engines on the world until it is quiet or virtual time is up. A
// killed engine is followed by another one.
func install(t *testing.T, w *world, limit time.Duration) fleet.Overview {
	t.Helper()
	end := time.Now().Add(limit)
	e, err := w.boot(t.Context())
	if err != nil && w.engine.Load() != nil {
		t.Fatal(err)
	}
	for time.Now().Before(end) {
		time.Sleep(5 * time.Second)
		if w.engine.Load() == nil {
			if e != nil {
				e.Wait()
			}
			if e, err = w.boot(t.Context()); err != nil && w.engine.Load() != nil {
				t.Fatal(err)
			}
			continue
		}
		if e.Quiet() {
			break
		}
	}
	o := e.Overview()
	w.kill()
	e.Wait()
	w.unplug()
	synctest.Wait()
	return o
}

func wantInstalled(t *testing.T, w *world, o fleet.Overview, but ...fleet.ServerID) {
	t.Helper()
	if len(o.Servers) != len(w.servers) {
		t.Fatalf("%d servers in the overview, want %d", len(o.Servers), len(w.servers))
	}
next:
	for _, s := range o.Servers {
		for _, b := range but {
			if s.Server == b {
				continue next
			}
		}
		r := w.servers[s.Server]
		if s.Phase != fleet.Installed || s.Condition != fleet.Settled {
			t.Errorf("%s: %s, %s, %s", s.Server, s.Phase, s.Condition, s.Step)
		}
		if r.writes != 1 || r.liveBoots != 1 || r.diskBoots != 1 || r.powerOffs != 1 {
			t.Errorf("%s: %d writes, %d live boots, %d disk boots, %d times power cut, want one each", s.Server, r.writes, r.liveBoots, r.diskBoots, r.powerOffs)
		}
		if r.media != "" {
			t.Errorf("%s: medium left in the drive", s.Server)
		}
	}
}

func TestRackIsInstalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(5)
		wantInstalled(t, w, install(t, w, time.Hour))
	})
}

// TestKilledAtEveryEvent kills the engine at every event of an install, once
// with the event lost and once with it durable but unanswered. The run must
// converge, and nothing destructive may be done twice.
func TestKilledAtEveryEvent(t *testing.T) {
	var events int
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(3)
		install(t, w, time.Hour)
		events = len(w.events)
	})
	if events < 50 {
		t.Fatalf("an install of 3 servers has only %d events", events)
	}
	for cut := 1; cut <= events; cut++ {
		for _, durable := range []bool{false, true} {
			t.Run(fmt.Sprintf("event %d durable %v", cut, durable), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(3)
					w.cut, w.durable = cut, durable
					wantInstalled(t, w, install(t, w, 2*time.Hour))
				})
			})
		}
	}
}

// TestKilledAtAnyTime kills the engine between events, in the middle of calls.
func TestKilledAtAnyTime(t *testing.T) {
	for after := 250 * time.Millisecond; after < 3*time.Minute; after += 1130 * time.Millisecond {
		t.Run(after.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(2)
				kill := time.AfterFunc(after, func() {
					w.mu.Lock()
					defer w.mu.Unlock()
					w.engine.Store(nil)
					w.kill()
				})
				defer kill.Stop()
				wantInstalled(t, w, install(t, w, 2*time.Hour))
			})
		})
	}
}

func TestOneServersFaultNeverStopsTheOthers(t *testing.T) {
	const bad = fleet.ServerID("SN002")
	for name, c := range map[string]struct {
		break_ func(*rig)
		code   fleet.Code
		phase  fleet.Phase
		writes int
	}{
		"BMC gone":        {func(r *rig) { r.dead = true }, fleet.CodeBMCUnreachable, fleet.Staged, 0},
		"another machine": {func(r *rig) { r.swapped = true }, fleet.CodeIdentityMismatch, fleet.Staged, 0},
		"never boots":     {func(r *rig) { r.silentLive = 9 }, fleet.CodeBootSilent, fleet.Staged, 0},
		"corrupt image":   {func(r *rig) { r.badImage = true }, fleet.CodeImageMismatch, fleet.Booted, 1},
		"agent gives up":  {func(r *rig) { r.agentGivesUp = true }, fleet.CodeWriteFailed, fleet.Booted, 1},
		"agent silent":    {func(r *rig) { r.slowWrite = 24 * time.Hour }, fleet.CodeAgentSilent, fleet.Booted, 1},
		"wrong disk":      {func(r *rig) { r.wrongDisk = true }, fleet.CodeDiskChanged, fleet.Staged, 0},
		"token stolen":    {func(r *rig) { r.thief = true }, fleet.CodeAgentSilent, fleet.Booted, 0},
		"boots it again":  {func(r *rig) { r.bootsAgain = true }, fleet.CodeWrongBoot, fleet.Booted, 1},
		"never reports":   {func(r *rig) { r.noReport = true }, fleet.CodeArriveSilent, fleet.Booted, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(3)
				c.break_(w.servers[bad])
				o := install(t, w, 3*time.Hour)
				wantInstalled(t, w, o, bad)
				s := o.Servers[1]
				if s.Condition != fleet.Held || s.Cause == nil || s.Cause.Code != c.code || s.Phase != c.phase {
					t.Errorf("%s: %s %s %+v, want held with %s in %s", s.Server, s.Phase, s.Condition, s.Cause, c.code, c.phase)
				}
				if got := w.servers[bad].writes; got != c.writes {
					t.Errorf("%d writes, want %d", got, c.writes)
				}
			})
		})
	}
}

func TestLostRepliesAreAdopted(t *testing.T) {
	for _, call := range []string{"look", "insert", "boot-once", "power", "eject"} {
		t.Run(call, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(2)
				w.servers["SN001"].lose = call
				wantInstalled(t, w, install(t, w, time.Hour))
			})
		})
	}
}

func TestSecondBootIsTriedWithoutAPersonBeforeAnythingIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(1)
		w.servers["SN001"].silentLive = 1
		o := install(t, w, time.Hour)
		if s := o.Servers[0]; s.Condition != fleet.Settled || s.Attempt != 2 || w.servers["SN001"].writes != 1 {
			t.Errorf("%+v, %d writes", s, w.servers["SN001"].writes)
		}
	})
}

func TestRetryFinishesAHeldServer(t *testing.T) {
	for name, c := range map[string]struct {
		break_, mend func(*rig)
		writes       int
	}{
		"after a refused write the disk is written again": {func(r *rig) { r.agentGivesUp = true }, func(r *rig) { r.agentGivesUp = false }, 2},
		"after a good write the disk is only booted":      {func(r *rig) { r.noReport = true }, func(r *rig) { r.noReport = false }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(1)
				r := w.servers["SN001"]
				c.break_(r)
				e, err := w.boot(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(2 * time.Hour)
				if s := e.Overview().Servers[0]; s.Condition != fleet.Held {
					t.Fatalf("not held: %+v", s)
				}
				r.mu.Lock()
				c.mend(r)
				r.mu.Unlock()
				if err := e.Retry(t.Context(), "SN001", "test"); err != nil {
					t.Fatal(err)
				}
				time.Sleep(2 * time.Hour)
				if s := e.Overview().Servers[0]; s.Condition != fleet.Settled || r.written() != c.writes {
					t.Errorf("%+v, %d writes, want settled and %d", s, r.written(), c.writes)
				}
				if err := e.Retry(t.Context(), "SN001", "test"); err == nil {
					t.Error("a settled server was retried")
				}
				w.kill()
				e.Wait()
				w.unplug()
			})
		})
	}
}

func TestApplyWantsTheRightNumberOfDisks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(2)
		e, err := NewEngine(Config{Site: "osaka", Journal: w, Archive: w, BMCs: w, Configs: w, Routes: w, Secret: make([]byte, 32)})
		if err != nil {
			t.Fatal(err)
		}
		for c, want := range map[fleet.Consent]fleet.Code{
			{Plan: w.plan.ID, EraseDisks: 3}: fleet.CodeConsentMismatch,
			{Plan: w.plan.ID}:                fleet.CodeConsentMismatch,
			{Plan: "other", EraseDisks: 2}:   fleet.CodePlanUnknown,
		} {
			if err := e.Apply(t.Context(), c); fleet.CodeOf(err) != want {
				t.Errorf("%+v: %v, want %s", c, err, want)
			}
		}
		if len(w.journal()) != 0 {
			t.Errorf("a refused apply wrote %d events", len(w.journal()))
		}
	})
}
