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
