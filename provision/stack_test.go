package provision

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"metalrise.dev/fleet"
)

// wantPlatform wants the platform there and proven, and nothing left of the
// proofs.
func wantPlatform(t *testing.T, w *world, o fleet.Overview) {
	t.Helper()
	wantReady(t, w, o)
	if o.Stack == nil || !o.Stack.Done || o.Stack.Held {
		t.Fatalf("platform %+v", o.Stack)
	}
	for _, s := range o.Stack.Steps {
		if s.State != fleet.StepOK && s.State != fleet.StepSkipped || s.State == fleet.StepSkipped && s.Note == "" {
			t.Errorf("%s%s: %s %s %+v", s.Component, s.Proof, s.State, s.Note, s.Cause)
		}
		if s.Proof != "" && s.State == fleet.StepOK && (s.Result == nil || len(s.Result.Words) == 0) {
			t.Errorf("%s has no result", s.Proof)
		}
	}
	handed := 0
	for _, e := range w.journal() {
		if e.Action == fleet.ActHandOver && e.Plan == w.plan.ID {
			handed++
		}
	}
	if handed != 1 {
		t.Errorf("handed over %d times", handed)
	}
	wantCleared(t, w)
}

func wantCleared(t *testing.T, w *world) {
	t.Helper()
	if w.kube.stack.vms {
		t.Error("VMs of a proof are left")
	}
	for id, r := range w.servers {
		if r.power != fleet.PowerOn {
			t.Errorf("%s is still off", id)
		}
	}
}

func TestPlatformIsProven(t *testing.T) {
	for _, shape := range [][2]int{{1, 0}, {1, 2}, {3, 2}, {3, 0}} {
		t.Run(fmt.Sprint(shape), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newPlatformWorld(shape[0], shape[1])
				o := install(t, w, 3*time.Hour)
				wantPlatform(t, w, o)
				for name, n := range w.kube.stack.began {
					if n != 1 {
						t.Errorf("%s was begun %d times", name, n)
					}
				}
				offs := 0
				for _, e := range w.journal() {
					if e.Action == fleet.ActPowerOff && strings.Contains(string(e.Data), "fence") && e.Edge == fleet.Ended {
						offs++
					}
				}
				if fenced := stepOf(o.Stack, "fence").State == fleet.StepOK; fenced != (offs == 1) {
					t.Errorf("fenced %v, %d times switched off", fenced, offs)
				}
			})
		})
	}
}

// TestPlatformSurvivesKills kills the engine at every event of the platform,
// lost and durable: also while a node is switched off for a proof.
func TestPlatformSurvivesKills(t *testing.T) {
	var first, last int
	synctest.Test(t, func(t *testing.T) {
		w := newPlatformWorld(1, 2)
		install(t, w, 3*time.Hour)
		last = len(w.events)
		for i, e := range w.events {
			if e.Action == fleet.ActComponent && first == 0 {
				first = i + 1
			}
		}
	})
	if last-first < 30 {
		t.Fatalf("a platform has only %d events", last-first)
	}
	for cut := first; cut <= last; cut++ {
		for _, durable := range []bool{false, true} {
			t.Run(fmt.Sprintf("event %d durable %v", cut, durable), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newPlatformWorld(1, 2)
					w.cut, w.durable = cut, durable
					o := install(t, w, 4*time.Hour)
					wantPlatform(t, w, o)
					more := 0
					for _, n := range w.kube.stack.began {
						more += n - 1
					}
					if more > 1 {
						t.Errorf("steps were repeated: %v", w.kube.stack.began)
					}
				})
			})
		}
	}
}

// TestPlatformKilledAtAnyTime kills between events, in the middle of calls.
func TestPlatformKilledAtAnyTime(t *testing.T) {
	var begin, end time.Duration
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		w := newPlatformWorld(1, 2)
		install(t, w, 3*time.Hour)
		for _, e := range w.events {
			if e.Action == fleet.ActProve && begin == 0 {
				begin = e.At.Sub(start)
			}
		}
		end = w.events[len(w.events)-1].At.Sub(start)
	})
	for after := begin; after < end; after += 1310 * time.Millisecond {
		t.Run(after.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newPlatformWorld(1, 2)
				kill := time.AfterFunc(after, func() {
					w.mu.Lock()
					defer w.mu.Unlock()
					w.engine.Store(nil)
					w.kill()
				})
				defer kill.Stop()
				wantPlatform(t, w, install(t, w, 4*time.Hour))
			})
		})
	}
}

func TestFaultsOfThePlatform(t *testing.T) {
	for name, c := range map[string]struct {
		fault func(*stackFake)
		step  string     // that ends failed; "" when all is well in the end
		code  fleet.Code //
		tries int        // of that step
		later fleet.StepState
	}{
		"a component fails once":         {func(f *stackFake) { f.fails["cdi"] = 1 }, "", "", 0, ""},
		"a component never comes up":     {func(f *stackFake) { f.fails["cdi"] = 9 }, "cdi", fleet.CodeComponentStuck, 2, fleet.StepPending},
		"a component is refused":         {func(f *stackFake) { f.refuses["cdi"] = true }, "cdi", fleet.CodeComponentRefused, 1, fleet.StepPending},
		"a component hangs once":         {func(f *stackFake) { f.hangs["kubevirt"] = 1 }, "", "", 0, ""},
		"a component hangs":              {func(f *stackFake) { f.hangs["kubevirt"] = 9 }, "kubevirt", fleet.CodeComponentStuck, 2, fleet.StepPending},
		"a proof fails once":             {func(f *stackFake) { f.fails["migrate"] = 1 }, "", "", 0, ""},
		"a proof fails, others go on":    {func(f *stackFake) { f.fails["migrate"] = 9 }, "migrate", fleet.CodeComponentStuck, 2, fleet.StepOK},
		"a proof hangs":                  {func(f *stackFake) { f.hangs["volume"] = 9 }, "volume", fleet.CodeVolumeFailed, 2, fleet.StepOK},
		"no VM starts":                   {func(f *stackFake) { f.refuses["start"] = true }, "start", fleet.CodeComponentRefused, 1, fleet.StepPending},
		"a proof hangs with a node off":  {func(f *stackFake) { f.hangs["dark"] = 1 }, "", "", 0, ""},
		"what is left is hard to remove": {func(f *stackFake) { f.hangs["network"] = 1; f.sticky = 3 }, "", "", 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newPlatformWorld(1, 2)
				c.fault(&w.kube.stack)
				o := install(t, w, 12*time.Hour)
				if c.step == "" {
					wantPlatform(t, w, o)
					return
				}
				wantCleared(t, w)
				s := stepOf(o.Stack, c.step)
				if !o.Stack.Held || s.State != fleet.StepFailed || s.Cause == nil || s.Cause.Code != c.code || s.Tries != c.tries {
					t.Errorf("held %v, %s: %s, %d tries, %+v", o.Stack.Held, c.step, s.State, s.Tries, s.Cause)
				}
				if last := stepOf(o.Stack, "fence"); last.State != c.later {
					t.Errorf("fence is %s, want %s", last.State, c.later)
				}
			})
		})
	}
}

// running boots an engine and waits until nothing moves.
func running(t *testing.T, w *world) (e *Engine, quiet func()) {
	t.Helper()
	e, err := w.boot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	quiet = func() {
		t.Helper()
		for end := time.Now().Add(12 * time.Hour); !e.Quiet(); time.Sleep(5 * time.Second) {
			if time.Now().After(end) {
				t.Fatalf("never quiet: %+v", e.Overview().Stack)
			}
		}
	}
	t.Cleanup(func() {
		w.kill()
		e.Wait()
		w.unplug()
		synctest.Wait()
	})
	return e, quiet
}

func TestProofThatCannotBeRunHere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPlatformWorld(1, 2)
		w.kube.stack.skips = map[string]bool{"migrate": true}
		o := install(t, w, 3*time.Hour)
		wantPlatform(t, w, o)
		if s := stepOf(o.Stack, "migrate"); s.State != fleet.StepSkipped || s.Note != "no node can take it" {
			t.Errorf("migrate %+v", s)
		}
	})
}

func TestRetryOfThePlatform(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPlatformWorld(1, 2)
		w.kube.stack.fails["cdi"] = 2
		w.kube.stack.refuses["migrate"] = true
		e, quiet := running(t, w)
		if err := e.RetryPlatform(t.Context(), fleet.PlatformRetry{By: "test"}); err == nil {
			t.Error("a platform that nothing holds was let be retried")
		}
		quiet()
		if s := stepOf(e.Overview().Stack, "cdi"); s.State != fleet.StepFailed {
			t.Fatalf("cdi %+v", s)
		}
		if err := e.RetryPlatform(t.Context(), fleet.PlatformRetry{By: "test"}); err != nil {
			t.Fatal(err)
		}
		quiet()
		if s := stepOf(e.Overview().Stack, "migrate"); s.State != fleet.StepFailed {
			t.Fatalf("migrate %+v", s)
		}
		if err := e.RetryPlatform(t.Context(), fleet.PlatformRetry{By: "test", Waive: []string{"migration"}}); err == nil {
			t.Error("a name that the plan does not have was taken")
		}
		if err := e.RetryPlatform(t.Context(), fleet.PlatformRetry{By: "anna", Waive: []string{"migrate"}}); err != nil {
			t.Fatal(err)
		}
		quiet()
		o := e.Overview()
		wantPlatform(t, w, o)
		if s := stepOf(o.Stack, "migrate"); s.Note != "waived by anna" {
			t.Errorf("migrate %+v", s)
		}
		if n := w.kube.stack.began["kubevirt"]; n != 1 {
			t.Errorf("kubevirt was begun %d times", n)
		}
		if err := e.RetryPlatform(t.Context(), fleet.PlatformRetry{By: "anna", Prove: []fleet.Proof{fleet.ProofSnapshot}}); err == nil {
			t.Error("a proof that the site cannot do was let be run")
		}
		if err := e.RetryPlatform(t.Context(), fleet.PlatformRetry{By: "anna", Prove: []fleet.Proof{fleet.ProofFence}}); err != nil {
			t.Fatal(err)
		}
		if e.Quiet() || e.Overview().Stack.Done {
			t.Error("quiet although a proof is to be run again")
		}
		quiet()
		if n := w.kube.stack.proofs; n[fleet.ProofFence] != 2 || n[fleet.ProofStart] != 1 {
			t.Errorf("proofs %v", n)
		}
		wantCleared(t, w)
	})
}

// TestNodeThatStaysOff: the BMC does not switch the fenced node on again. A
// person mends that, and all ends well.
func TestNodeThatStaysOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPlatformWorld(1, 2)
		e, quiet := running(t, w)
		last := w.servers["SN003"]
		for e.Overview().Servers[2].Step != "switched off for the proof fence" {
			time.Sleep(time.Second)
		}
		if err := e.Remove(t.Context(), "SN003", fleet.Removal{By: "test"}); err == nil {
			t.Error("a node that a proof switched off was let be taken away")
		}
		time.Sleep(5 * time.Second)
		last.mu.Lock()
		last.dead = true
		last.mu.Unlock()
		quiet()
		o := e.Overview()
		if !o.Stack.Held || o.Servers[2].Condition != fleet.Settled {
			t.Fatalf("platform %+v, server %+v", o.Stack, o.Servers[2])
		}
		d, _ := e.current().platform.present().(Hold)
		if d.Cause.Code != fleet.CodeFencingFailed || !strings.Contains(strings.Join(d.Cause.Chain, ": "), "still off") {
			t.Errorf("cause %+v", d.Cause)
		}
		last.mu.Lock()
		last.dead = false
		last.mu.Unlock()
		if err := e.RetryPlatform(t.Context(), fleet.PlatformRetry{By: "test"}); err != nil {
			t.Fatal(err)
		}
		quiet()
		wantPlatform(t, w, e.Overview())
	})
}

// TestLostAnswersOfAFence: the BMC acts and its answer is lost.
func TestLostAnswersOfAFence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPlatformWorld(1, 2)
		e, quiet := running(t, w)
		for e.Overview().Stack.Steps[len(e.Overview().Stack.Steps)-1].State != fleet.StepRunning {
			time.Sleep(100 * time.Millisecond)
		}
		w.servers["SN003"].mu.Lock()
		w.servers["SN003"].lose = "power"
		w.servers["SN003"].mu.Unlock()
		quiet()
		wantPlatform(t, w, e.Overview())
		if n := w.kube.stack.began["fence"]; n != 1 {
			t.Errorf("the proof was begun %d times", n)
		}
	})
}

// TestFenceOfAnotherMachine: the BMC's address leads to another machine
// meanwhile. It is never switched off.
func TestFenceOfAnotherMachine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPlatformWorld(1, 2)
		e, quiet := running(t, w)
		for e.Overview().Stack.Steps[0].State != fleet.StepOK {
			time.Sleep(time.Second)
		}
		sick := w.servers["SN003"]
		sick.mu.Lock()
		sick.swapped = true
		offs := sick.powerOffs
		sick.mu.Unlock()
		quiet()
		if sick.powerOffs != offs {
			t.Error("another machine was switched off")
		}
		s := stepOf(e.Overview().Stack, "fence")
		if s.State != fleet.StepFailed || s.Cause.Code != fleet.CodeIdentityMismatch {
			t.Errorf("fence %+v", s)
		}
	})
}

// TestWithdrawnInAFence: nothing of a proof is left when the consent is taken
// back in its middle.
func TestWithdrawnInAFence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPlatformWorld(1, 2)
		e, _ := running(t, w)
		for e.Overview().Servers[2].Step != "switched off for the proof fence" {
			time.Sleep(time.Second)
		}
		time.Sleep(5 * time.Second)
		if err := e.Withdraw(t.Context(), "test"); err != nil {
			t.Fatal(err)
		}
		wantCleared(t, w)
		if !e.Quiet() {
			t.Error("not quiet")
		}
	})
}

// TestProofsWaitForHeldNodes: components do not, proofs do until a person lets
// them go on without.
func TestProofsWaitForHeldNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPlatformWorld(1, 3)
		w.servers["SN003"].noReport = true
		e, quiet := running(t, w)
		quiet()
		o := e.Overview()
		if s := stepOf(o.Stack, "instance-types"); s.State != fleet.StepOK {
			t.Errorf("components waited: %+v", s)
		}
		s := stepOf(o.Stack, "start")
		if s.State != fleet.StepPending || !strings.Contains(s.Note, "sn003") || o.Stack.Done {
			t.Errorf("start %+v", s)
		}
		if err := e.RetryPlatform(t.Context(), fleet.PlatformRetry{By: "test"}); err != nil {
			t.Fatal(err)
		}
		quiet()
		o = e.Overview()
		if !o.Stack.Done || w.kube.stack.nodes["start"] != 3 {
			t.Errorf("platform %+v, %d nodes", o.Stack, w.kube.stack.nodes["start"])
		}
		if s := stepOf(o.Stack, "start"); s.Note != "without 1 held nodes" {
			t.Errorf("start %+v", s)
		}
		wantCleared(t, w)
	})
}

// TestLaterPlanProvesNothingAgain: where VMs of others may run, nothing is
// drained or switched off unless a person asks.
func TestLaterPlanProvesNothingAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPlatformWorld(1, 2)
		wantPlatform(t, w, install(t, w, 3*time.Hour))
		w.older = append(w.older, w.plan)
		first := w.plan.ID
		w.plan.Assignments = slices.Clone(w.plan.Assignments)
		for i := range w.plan.Assignments {
			w.plan.Assignments[i].Kept = first
		}
		grown, stack := *w.plan.Cluster, *w.plan.Stack
		grown.Since = first
		stack.Proofs = append([]fleet.ProofPlan{}, stack.Proofs...)
		for i, p := range stack.Proofs {
			if p.Name == fleet.ProofSnapshot {
				stack.Proofs[i].Skip = "" // there is a class now
			}
		}
		w.plan.Cluster, w.plan.Stack = &grown, &stack
		if err := w.plan.Seal(); err != nil {
			t.Fatal(err)
		}
		e, quiet := running(t, w)
		quiet()
		o := e.Overview()
		wantPlatform(t, w, o)
		if n := w.kube.stack; n.began["fence"] != 1 || n.began["snapshot"] != 0 || n.began["kubevirt"] != 2 {
			t.Errorf("begun %v", n.began)
		}
		if s := stepOf(o.Stack, "fence"); s.State != fleet.StepOK || !strings.Contains(s.Note, first[:12]) || s.Result == nil {
			t.Errorf("fence %+v", s)
		}
		if s := stepOf(o.Stack, "snapshot"); s.State != fleet.StepSkipped || !strings.Contains(s.Note, "verify --proof snapshot") {
			t.Errorf("snapshot %+v", s)
		}
		if err := e.RetryPlatform(t.Context(), fleet.PlatformRetry{By: "test", Prove: []fleet.Proof{fleet.ProofSnapshot}}); err != nil {
			t.Fatal(err)
		}
		quiet()
		if s := stepOf(e.Overview().Stack, "snapshot"); s.State != fleet.StepOK {
			t.Errorf("snapshot %+v", s)
		}
	})
}

// TestPlatformFromTheJournalAlone: what an engine says is what the journal says
// when none runs.
func TestPlatformFromTheJournalAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPlatformWorld(1, 2)
		install(t, w, 3*time.Hour)
		o, err := Recall(t.Context(), w, w)
		if err != nil {
			t.Fatal(err)
		}
		wantPlatform(t, w, o)
		b, _ := json.Marshal(o.Stack)
		if !strings.Contains(string(b), "restartSeconds") {
			t.Errorf("no figures in %s", b)
		}
	})
}
