package provision

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"metalrise.dev/fleet"
)

func untilQuiet(t *testing.T, e *Engine, limit time.Duration) bool {
	end := time.Now().Add(limit)
	for !e.Quiet() {
		if time.Now().After(end) {
			return false
		}
		time.Sleep(10 * time.Second)
	}
	return true
}

func show(t *testing.T, o fleet.Overview) {
	t.Helper()
	for _, s := range o.Servers {
		t.Logf("%s %s %s %q cause=%+v", s.Server, s.Phase, s.Condition, s.Step, s.Cause)
	}
	t.Logf("cluster %+v quiet %v", o.Cluster, o.Quiet)
}

func finish(w *world, e *Engine) {
	w.kill()
	if r := e.current(); r != nil {
		r.end()
	}
	e.Wait()
	w.unplug()
	synctest.Wait()
}

// TestClusterOutlivesItsInitialNode: the cluster goes on when the control plane that began it is taken away.
func TestClusterOutlivesItsInitialNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newClusterWorld(3, 1)
		e, err := w.boot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		untilQuiet(t, e, 5*time.Hour)
		if err := e.Remove(t.Context(), "SN001", fleet.Removal{By: "t"}); err != nil {
			t.Fatal(err)
		}
		untilQuiet(t, e, time.Hour)
		t.Log("members after removing SN001:", len(w.kube.members), "up:", e.Overview().Cluster.Up)
		if err := e.Remove(t.Context(), "SN002", fleet.Removal{By: "t"}); err != nil {
			t.Fatal(err)
		}
		untilQuiet(t, e, time.Hour)
		show(t, e.Overview())
		if _, m := w.kube.members["SN002"]; m && w.servers["SN002"].power == fleet.PowerOff {
			t.Errorf("SN002 is switched off, but was never drained (%v) and is still a member: %d of %d members live", w.kube.drained, len(w.kube.members)-1, len(w.kube.members))
		}
		finish(w, e)
	})
}

// TestPlanOlderThanRemovalIsRefused: a plan that keeps a server is refused once that server was taken away.
func TestPlanOlderThanRemovalIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newClusterWorld(1, 2)
		e, err := w.boot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		untilQuiet(t, e, 5*time.Hour)
		first := w.plan
		w.older = []fleet.Plan{first}
		w.plan.Assignments = slices.Clone(first.Assignments)
		for i := range w.plan.Assignments {
			w.plan.Assignments[i].Kept = first.ID
		}
		_ = w.plan.Seal()
		w.servers["SN003"].mu.Lock()
		w.servers["SN003"].toErase = true
		w.servers["SN003"].mu.Unlock()
		if err := e.Remove(t.Context(), "SN003", fleet.Removal{By: "t", Erase: true}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Minute)
		show(t, e.Overview())
		err = e.Apply(t.Context(), fleet.Consent{Plan: w.plan.ID, EraseDisks: 0, By: "t"})
		t.Log("apply of the plan made before the removal:", err)
		untilQuiet(t, e, time.Hour)
		o := e.Overview()
		show(t, o)
		if o.Servers[2].Phase == fleet.Ready {
			t.Errorf("SN003 is %s though erased=%d power=%s", o.Servers[2].Phase, w.servers["SN003"].erased, w.servers["SN003"].power)
		}
		s, _, _ := StandingOf(t.Context(), w, w)
		t.Log("standing done:", s.Done)
		finish(w, e)
	})
}

// TestPlanOlderThanInstallIsRefused: a plan made before another one was carried out is refused after it.
func TestPlanOlderThanInstallIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newClusterWorld(1, 2)
		second := w.plan
		second.Assignments = slices.Clone(w.plan.Assignments)
		second.SiteDigest = "edited"
		_ = second.Seal()
		e, err := w.boot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		untilQuiet(t, e, 5*time.Hour)
		w.older = []fleet.Plan{w.plan}
		w.plan = second
		err = e.Apply(t.Context(), fleet.Consent{Plan: second.ID, EraseDisks: 3, By: "t"})
		t.Log("apply:", err)
		untilQuiet(t, e, 5*time.Hour)
		show(t, e.Overview())
		if w.servers["SN001"].written() > 1 || w.kube.begun > 1 {
			t.Errorf("SN001 written %d times, %d clusters begun", w.servers["SN001"].written(), w.kube.begun)
		}
		finish(w, e)
	})
}

// TestKeptInitialNodeStillGetsBase: what every cluster needs is applied under a later plan if it was not before.
func TestKeptInitialNodeStillGetsBase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newClusterWorld(1, 1)
		e, err := w.boot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		w.kube.mu.Lock()
		w.kube.away = true
		w.kube.mu.Unlock()
		untilQuiet(t, e, 5*time.Hour)
		show(t, e.Overview())
		s, _, _ := StandingOf(t.Context(), w, w)
		t.Log("standing:", s.Done, s.Begun, "based", w.kube.based)
		w.kube.mu.Lock()
		w.kube.away = false
		w.kube.mu.Unlock()
		first := w.plan
		w.older = []fleet.Plan{first}
		w.plan.Assignments = slices.Clone(first.Assignments)
		w.plan.SiteDigest = "mended"
		for i := range w.plan.Assignments {
			if s.Done[w.plan.Assignments[i].Server] {
				w.plan.Assignments[i].Kept = first.ID
			}
		}
		_ = w.plan.Seal()
		err = e.Apply(t.Context(), fleet.Consent{Plan: w.plan.ID, EraseDisks: len(w.plan.ErasedDisks()), By: "t"})
		t.Log("apply:", err)
		untilQuiet(t, e, 5*time.Hour)
		o := e.Overview()
		show(t, o)
		if !w.kube.based {
			t.Errorf("the base was never applied, yet SN001 is %s and the cluster up %v; breaches %v", o.Servers[0].Phase, o.Cluster.Up, w.kube.breaches)
		}
		finish(w, e)
	})
}

// TestKeptNodeIsReadyOnlyWhenItIs: a node that joined but was not ready is not called ready by a later plan.
func TestKeptNodeIsReadyOnlyWhenItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newClusterWorld(1, 1)
		w.servers["SN002"].noKVM = true
		e, err := w.boot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		untilQuiet(t, e, 5*time.Hour)
		show(t, e.Overview())
		s, _, _ := StandingOf(t.Context(), w, w)
		first := w.plan
		w.older = []fleet.Plan{first}
		w.plan.Assignments = slices.Clone(first.Assignments)
		for i := range w.plan.Assignments {
			if s.Done[w.plan.Assignments[i].Server] {
				w.plan.Assignments[i].Kept = first.ID
			}
		}
		_ = w.plan.Seal()
		t.Log("apply:", e.Apply(t.Context(), fleet.Consent{Plan: w.plan.ID, EraseDisks: len(w.plan.ErasedDisks()), By: "t"}))
		untilQuiet(t, e, time.Hour)
		o := e.Overview()
		show(t, o)
		if st := o.Servers[1]; st.Phase == fleet.Ready {
			t.Errorf("SN002 is Ready and %s; checks %+v", st.Condition, st.Checks)
		}
		finish(w, e)
	})
}

// TestRetryGivesTime: a retried node gets its full time again.
func TestRetryGivesTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newClusterWorld(1, 0)
		e, err := w.boot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for !w.kube.isDressed("SN001") {
			time.Sleep(time.Second)
		}
		w.kube.mu.Lock()
		w.kube.members["SN001"] = time.Now().Add(1000 * time.Hour)
		w.kube.changedLocked()
		w.kube.mu.Unlock()
		untilQuiet(t, e, 5*time.Hour)
		show(t, e.Overview())
		at := time.Now()
		t.Log("retry:", e.Retry(t.Context(), "SN001", "t"))
		time.Sleep(time.Second)
		show(t, e.Overview())
		if e.Overview().Servers[0].Condition == fleet.Held {
			t.Errorf("held again %s after the retry", time.Since(at))
		}
		finish(w, e)
	})
}

// TestQuietWithoutInitialNode: who waits for a control plane that was taken away keeps nothing busy.
func TestQuietWithoutInitialNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newClusterWorld(3, 1)
		w.servers["SN001"].failTasks = map[string]int{"begin": 2}
		e, err := w.boot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		untilQuiet(t, e, 5*time.Hour)
		t.Log(e.Remove(t.Context(), "SN001", fleet.Removal{By: "t"}))
		if !untilQuiet(t, e, 100*time.Hour) {
			show(t, e.Overview())
			t.Error("not quiet after 100 hours")
		}
		finish(w, e)
	})
}

// TestNewSoftwareLeavesFinishedRunAlone: newer software or a newer image keeps no engine from a run that is done.
func TestNewSoftwareLeavesFinishedRunAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newClusterWorld(1, 0)
		install(t, w, 5*time.Hour)
		c := w.clusters()
		c.Payload = "newer build"
		e, err := NewEngine(Config{Site: "osaka", Journal: w, Archive: w, BMCs: w, Configs: w, Routes: w,
			Secret: []byte("0123456789abcdef0123456789abcdef"), Clusters: c})
		if err != nil {
			t.Fatal(err)
		}
		e.Image.SHA256 = "good"
		if err := e.Resume(t.Context()); err != nil {
			t.Error("engine cannot start on a settled cluster:", err)
		}
	})
}

// TestFinishNeverSwallowsRemoval: a removal asked for while a server is being finished is carried out.
func TestFinishNeverSwallowsRemoval(t *testing.T) {
	tr := NewTrack("S", "P")
	tr.Node.Plan = &fleet.NodePlan{}
	now := time.Unix(1000, 0)
	f := func(e fleet.Event) { e.Server, e.Plan, e.At = "S", "P", now; tr.Fold(e) }
	f(fleet.Event{Action: fleet.ActReady, Edge: fleet.Ended, Outcome: fleet.OK})
	f(fleet.Event{Action: fleet.ActRemove, Edge: fleet.Began, Data: []byte(`{"by":"t"}`)})
	f(fleet.Event{Action: fleet.ActFinish, Edge: fleet.Ended, Outcome: fleet.OK})
	d := Next(tr, Look{Heard: now, Cluster: ClusterLook{Up: true}}, now, Limits{}.withDefaults())
	if _, done := d.(Done); done && !tr.Node.Removed {
		t.Errorf("%T, result %q although a removal was accepted", d, tr.result())
	}
}

// TestHalfMemberLeavesBeforeOthersJoin: a control plane that fell silent in its join leaves etcd before the next one joins.
func TestHalfMemberLeavesBeforeOthersJoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newClusterWorld(3, 0)
		w.servers["SN002"].stall = "join"
		w.servers["SN002"].noReport = false
		e, err := w.boot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		// the machine never comes up again
		for w.servers["SN002"].isOn() || w.servers["SN002"].written() == 0 {
			time.Sleep(time.Second)
		}
		w.servers["SN002"].mu.Lock()
		w.servers["SN002"].noReport = true
		w.servers["SN002"].mu.Unlock()
		untilQuiet(t, e, 10*time.Hour)
		show(t, e.Overview())
		left := 0
		for _, ev := range w.journal() {
			if ev.Server == "SN002" && ev.Action == fleet.ActLeave {
				left++
			}
		}
		if left == 0 {
			t.Errorf("SN003 joined; SN002's half join was never taken out of etcd")
		}
		finish(w, e)
	})
}

// TestForceNeedsNoAPI: a server is taken for gone by force also when the API is gone.
func TestForceNeedsNoAPI(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newClusterWorld(1, 1)
		e, err := w.boot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		untilQuiet(t, e, 5*time.Hour)
		w.kube.mu.Lock()
		w.kube.away = true
		w.kube.changedLocked()
		w.kube.mu.Unlock()
		t.Log(e.Remove(t.Context(), "SN001", fleet.Removal{By: "t", Force: true}))
		untilQuiet(t, e, 5*time.Hour)
		o := e.Overview()
		show(t, o)
		if o.Servers[0].Condition == fleet.Held {
			t.Error("forced removal of a dead control plane is held")
		}
		finish(w, e)
	})
}

// TestPlanThatForgetsServersIsRefused: a plan that does not know a server of the cluster is refused.
func TestPlanThatForgetsServersIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newClusterWorld(1, 2)
		all := w.plan
		w.plan.Assignments = slices.Clone(all.Assignments[:2])
		_ = w.plan.Seal()
		e, err := w.boot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		untilQuiet(t, e, 5*time.Hour)
		first := w.plan
		w.older = []fleet.Plan{first}
		w.plan.Assignments = append(slices.Clone(first.Assignments), all.Assignments[2])
		for i := range 2 {
			w.plan.Assignments[i].Kept = first.ID
		}
		_ = w.plan.Seal()
		t.Log(e.Apply(t.Context(), fleet.Consent{Plan: w.plan.ID, EraseDisks: 1, By: "t"}))
		untilQuiet(t, e, 5*time.Hour)
		s, _, _ := StandingOf(t.Context(), w, w)
		t.Log("after the second plan", s.Done)
		t.Log("apply the first again:", e.Apply(t.Context(), fleet.Consent{Plan: first.ID, EraseDisks: 2, By: "t"}))
		s, _, _ = StandingOf(t.Context(), w, w)
		t.Log("after it", s.Done)
		if !s.Done["SN003"] {
			t.Error("SN003 is a node, but is not known to be done any more: the next plan erases it")
		}
		finish(w, e)
	})
}
