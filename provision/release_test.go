package provision

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"metalrise.dev/fleet"
)

// TestWithoutRelease starts an engine whose release is not there: it does what
// needs no live system, and refuses the rest with the fault of the release.
func TestWithoutRelease(t *testing.T) {
	missing := fleet.NewFault(fleet.CodeImageMissing, fleet.Invalid, nil, "read the release's manifest: no such file")
	without := func(w *world, c *Clusters) *Engine {
		t.Helper()
		e, err := NewEngine(Config{Site: "osaka", Journal: w, Archive: w, BMCs: w, Configs: w, Routes: w,
			Secret: []byte("0123456789abcdef0123456789abcdef"), NoRelease: missing, Clusters: c})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	synctest.Test(t, func(t *testing.T) {
		w := newClusterWorld(1, 1)
		install(t, w, 5*time.Hour)
		e := without(w, w.clusters())
		if err := e.Resume(t.Context()); err != nil {
			t.Fatal("a finished site: ", err)
		}
		if err := e.Remove(t.Context(), "SN002", fleet.Removal{By: "t", Erase: true}); fleet.CodeOf(err) != fleet.CodeImageMissing {
			t.Errorf("a removal that erases: %v", err)
		}
		if err := e.Reinstall(t.Context(), "SN002", "t"); fleet.CodeOf(err) != fleet.CodeImageMissing {
			t.Errorf("a new installation: %v", err)
		}
		if err := e.Remove(t.Context(), "SN002", fleet.Removal{By: "t"}); err != nil {
			t.Errorf("a removal: %v", err)
		}
		if !untilQuiet(t, e, time.Hour) || !slices.ContainsFunc(e.Overview().Servers, func(s fleet.Status) bool {
			return s.Server == "SN002" && s.Condition == fleet.Settled && s.Step == "removed"
		}) {
			show(t, e.Overview())
			t.Error("the node was not removed")
		}
		finish(w, e)
	})
	synctest.Test(t, func(t *testing.T) {
		w := newClusterWorld(1, 0)
		e := without(w, w.clusters())
		if err := e.Resume(t.Context()); err != nil {
			t.Fatal("nothing was consented to: ", err)
		}
		if err := e.Apply(t.Context(), fleet.Consent{Plan: w.plan.ID, EraseDisks: len(w.plan.ErasedDisks())}); fleet.CodeOf(err) != fleet.CodeImageMissing {
			t.Errorf("a server is to be installed: %v", err)
		}
	})
}
