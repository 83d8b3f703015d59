package provision

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"metalrise.dev/fleet"
)

// handed lets a person boot a server from the medium that the engine names.
func handed(t *testing.T, w *world, e *Engine, id fleet.ServerID) {
	t.Helper()
	for !e.Quiet() {
		time.Sleep(10 * time.Second)
	}
	s := statusFor(e, id)
	if s.Condition != fleet.Held || !strings.Contains(strings.Join(s.Cause.Chain, " "), "metalrise medium "+string(id)) {
		t.Fatalf("not held with instructions: %+v", s)
	}
	res, err := e.Medium(id)
	if err != nil {
		t.Fatal(err)
	}
	w.servers[id].plugIn(res)
	for statusFor(e, id).Condition == fleet.Held {
		time.Sleep(10 * time.Second)
	}
}

func statusFor(e *Engine, id fleet.ServerID) fleet.Status {
	for _, s := range e.Overview().Servers {
		if s.Server == id {
			return s
		}
	}
	return fleet.Status{}
}

// TestServerWithoutBMC installs a server that only a person can start, lets it lose
// its power while it joins, and takes it away again with its disk erased. No BMC is
// asked for anything: there is none.
func TestServerWithoutBMC(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newClusterWorld(1, 1)
		w.plan.Assignments[1].BMC = fleet.ByHand("SN002")
		if err := w.plan.Seal(); err != nil {
			t.Fatal(err)
		}
		r := w.servers["SN002"]
		r.stall = "join"
		e, err := w.boot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		handed(t, w, e, "SN002")
		waited := ""
		for !e.Quiet() {
			time.Sleep(10 * time.Second)
			if s := statusFor(e, "SN002"); strings.Contains(s.Step, "no BMC") {
				waited = s.Step
			}
		}
		if s := statusFor(e, "SN002"); s.Condition != fleet.Held || s.Cause.Code != fleet.CodeNodeSilent || r.isOn() {
			t.Fatalf("%+v", s)
		}
		if !strings.Contains(waited, "look whether it is switched on") {
			t.Errorf("a person is not told to look: %q", waited)
		}
		r.mu.Lock() // somebody does
		r.power = fleet.PowerOn
		r.startLocked()
		r.mu.Unlock()
		time.Sleep(5 * time.Minute)
		for !e.Quiet() {
			time.Sleep(10 * time.Second)
		}
		wantReady(t, w, e.Overview())
		r.mu.Lock()
		r.toErase = true
		r.mu.Unlock()
		if err := e.Remove(t.Context(), "SN002", fleet.Removal{By: "test", Erase: true}); err != nil {
			t.Fatal(err)
		}
		handed(t, w, e, "SN002")
		for !e.Quiet() {
			time.Sleep(10 * time.Second)
		}
		if s := statusFor(e, "SN002"); s.Condition != fleet.Settled || s.Step != "removed" || r.erased != 1 {
			t.Errorf("%+v, erased %d times", s, r.erased)
		}
		for _, ev := range w.journal() {
			if ev.Server == "SN002" && (settles(ev.Action) || ev.Action == fleet.ActIdentify) {
				t.Errorf("a BMC was asked: %s %s %s %+v", ev.Action, ev.Edge, ev.Outcome, ev.Cause)
			}
		}
		w.kill()
		e.Wait()
		w.unplug()
		synctest.Wait()
	})
}
