package provision

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"metalrise.dev/fleet"
)

// TestRemovalIsGivenUp takes the consent back while a node cannot be drained.
// Pods may run on it again, nothing of the removal comes back with the next
// consent, and no connection to the API is left.
func TestRemovalIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newClusterWorld(1, 2)
		e, err := w.boot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		quiet := func() {
			for !e.Quiet() {
				time.Sleep(10 * time.Second)
			}
		}
		quiet()
		w.kube.mu.Lock()
		w.kube.blocked = true
		w.kube.mu.Unlock()
		if err := e.Remove(t.Context(), "SN003", fleet.Removal{By: "test"}); err != nil {
			t.Fatal(err)
		}
		quiet()
		if s := e.Overview().Servers[2]; s.Condition != fleet.Held || s.Cause.Code != fleet.CodeDrainBlocked {
			t.Fatalf("%s %s %+v", s.Condition, s.Step, s.Cause)
		}
		nodes, err := Cordoned(t.Context(), w, w)
		if err != nil || len(nodes) != 1 || nodes[0].Server != "SN003" {
			t.Errorf("the journal tells that %v are cordoned, %v", nodes, err)
		}
		if err := e.Withdraw(t.Context(), "test"); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(w.kube.undrained, []fleet.ServerID{"SN003"}) {
			t.Errorf("undrained %v", w.kube.undrained)
		}
		if w.kube.closed != w.kube.opened {
			t.Errorf("%d ways to the API were opened, %d closed", w.kube.opened, w.kube.closed)
		}
		if nodes, err := Cordoned(t.Context(), w, w); err != nil || len(nodes) != 0 {
			t.Errorf("after it was given up %v are cordoned, %v", nodes, err)
		}
		ctx, end := context.WithCancel(t.Context())
		if err := e.Apply(ctx, fleet.Consent{Plan: w.plan.ID, EraseDisks: 3, By: "test"}); err != nil {
			t.Fatal(err)
		}
		quiet()
		wantReady(t, w, e.Overview())
		if len(w.kube.drained) != 0 {
			t.Errorf("drained after all: %v", w.kube.drained)
		}
		end()
		e.Wait()
		w.unplug()
		synctest.Wait()
	})
}

// TestErasedServerIsNotGivenBack takes the consent back after the disk of a
// server was ordered to be erased that the cluster still knows, or that is no
// node. It must not count as installed afterwards: nothing is on its disk.
func TestErasedServerIsNotGivenBack(t *testing.T) {
	for name, node := range map[string]*fleet.NodePlan{"installed host": nil, "node forced out of a cluster that does not answer": {Name: "w1"}} {
		for _, erased := range []bool{false, true} {
			track := NewTrack("SN001", "P")
			track.Node.Plan, track.Node.Joined = node, node != nil
			now := time.Unix(0, 0)
			fold := func(a fleet.Action, edge fleet.Edge, o fleet.Outcome, data string) {
				track.Fold(fleet.Event{Server: "SN001", Plan: "P", Action: a, Edge: edge, Outcome: o, At: now, Attempt: 1, Data: []byte(data)})
			}
			fold(fleet.ActArrive, fleet.Ended, fleet.OK, `{}`)
			fold(fleet.ActRemove, fleet.Began, "", `{"by":"test","erase":true,"force":true}`)
			fold(fleet.ActStage, fleet.Ended, fleet.OK, `{}`)
			if !track.removing() {
				t.Errorf("%s: nothing is lost yet, and the removal cannot be given up", name)
			}
			fold(fleet.ActHello, fleet.Ended, fleet.OK, `{"key":"k"}`)
			fold(fleet.ActErase, fleet.Began, "", "")
			if erased {
				fold(fleet.ActErase, fleet.Ended, fleet.OK, `{}`)
			}
			track.giveUpRemoval()
			if track.Node.Removal == nil {
				t.Errorf("%s, erased %v: it is taken for installed again", name, erased)
			}
			look := Look{Heard: now, Started: now}
			if _, done := Next(track, look, now, Limits{}.withDefaults()).(Done); done {
				t.Errorf("%s, erased %v: nothing is left to do for it", name, erased)
			}
		}
	}
}
