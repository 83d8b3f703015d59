package provision

import (
	"fmt"
	"testing"
	"time"

	"metalrise.dev/fleet"
)

// wideRun is the run of a cluster of n servers, a tenth of them joined, with a
// VM platform to come.
func wideRun(n int) *Engine {
	w := newClusterWorld(3, n-3)
	w.plan.Stack = &fleet.StackPlan{Components: []fleet.ComponentPlan{{Name: fleet.ComponentKubeVirt}}}
	e := &Engine{Config: Config{Limits: Limits{}.withDefaults()}, started: time.Now()}
	var events []fleet.Event
	for i, a := range w.plan.Assignments {
		if i > 2 && i%10 != 0 {
			continue
		}
		for _, action := range []fleet.Action{fleet.ActStage, fleet.ActArrive, fleet.ActPrepare, fleet.ActBase, fleet.ActJoin, fleet.ActAdmit, fleet.ActReady} {
			events = append(events, fleet.Event{Server: a.Server, Plan: w.plan.ID, Action: action, Edge: fleet.Ended, Outcome: fleet.OK, Data: []byte(`{}`), At: e.started, Attempt: 1})
		}
	}
	e.run = e.newRun(w.plan, events)
	return e
}

// BenchmarkRun asks what is asked again and again in a run: where everything is,
// and what the VM platform does next.
func BenchmarkRun(b *testing.B) {
	for _, n := range []int{100, 1000} {
		e := wideRun(n)
		b.Run(fmt.Sprintf("overview/%d", n), func(b *testing.B) {
			for b.Loop() {
				e.Overview()
			}
		})
		b.Run(fmt.Sprintf("platform/%d", n), func(b *testing.B) {
			for b.Loop() {
				e.run.platform.look()
			}
		})
		b.Run(fmt.Sprintf("turn/%d", n), func(b *testing.B) {
			for b.Loop() {
				e.run.cluster.look(e.run.servers[e.run.order[n-1]].track)
			}
		})
	}
}
