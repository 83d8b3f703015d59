package tui

import (
	"strings"
	"testing"
	"time"

	"metalrise.dev/fleet"
)

// wayOf is the journal of one server that takes the given seconds on each leg.
func wayOf(id fleet.ServerID, plan string, took ...int) []fleet.Event {
	at := noon
	var out []fleet.Event
	acts := []fleet.Action{fleet.ActStage, fleet.ActHello, fleet.ActWrite, fleet.ActArrive, fleet.ActAdmit, fleet.ActReady}
	for i, act := range acts[:len(took)+1] {
		if i > 0 {
			at = at.Add(time.Duration(took[i-1]) * time.Second)
		}
		out = append(out, fleet.Event{At: at, Server: id, Plan: plan, Action: act, Edge: fleet.Ended, Outcome: fleet.OK})
	}
	return out
}

func TestPaceIsLearntByModel(t *testing.T) {
	p := Pace{Models: map[fleet.ServerID]string{"A": "fast", "B": "slow", "C": "fast"}}
	for i, boot := range []int{50, 70, 60} {
		p.Learn(wayOf("A", "p"+string(rune('1'+i)), boot, 100, 40), "")
	}
	p.Learn(wayOf("B", "p1", 600, 300, 200), "")
	p.Learn(wayOf("C", "now", 1, 1, 1), "now")
	if d, ok := p.usual("fast", LegBoot); !ok || d != time.Minute {
		t.Errorf("boot of the fast model: %v %v", d, ok)
	}
	s := fleet.Status{Server: "C", Phase: fleet.Planned, Condition: fleet.Moving}
	if d, ok := p.left(s, time.Time{}, false, noon); !ok || d != 200*time.Second {
		t.Errorf("whole way of a fast one: %v %v", d, ok)
	}
	s.Phase, s.Done, s.Total = fleet.Booted, 30, 100
	if d, ok := p.left(s, noon, false, noon); !ok || d != 110*time.Second {
		t.Errorf("at 30 %% of the write: %v %v", d, ok)
	}
	s = fleet.Status{Server: "B", Phase: fleet.Staged, Condition: fleet.Waiting}
	if d, _ := p.left(s, noon, false, noon.Add(400*time.Second)); d != 700*time.Second {
		t.Errorf("400 s into the boot of a slow one: %v", d)
	}
	if d, _ := p.left(s, noon, false, noon.Add(time.Hour)); d != 560*time.Second {
		t.Errorf("an hour into the boot: %v", d)
	}
	if _, ok := p.left(s, noon, true, noon); ok {
		t.Error("how long a join takes was guessed")
	}
}

func TestHoldsTellNothingAboutServers(t *testing.T) {
	p := Pace{Models: map[fleet.ServerID]string{"A": "m"}}
	way := wayOf("A", "p", 10, 20, 30)
	held := fleet.Event{At: noon, Server: "A", Plan: "p", Action: fleet.ActHold, Edge: fleet.Ended, Outcome: fleet.Failed}
	p.Learn(append([]fleet.Event{way[0], held}, way[1:]...), "")
	if _, ok := p.usual("m", LegBoot); ok {
		t.Error("a leg that a hold interrupted was learnt")
	}
	if d, ok := p.usual("m", LegWrite); !ok || d != 20*time.Second {
		t.Errorf("the legs after it: %v %v", d, ok)
	}
}

func TestFirstRunSaysElapsedOnly(t *testing.T) {
	a := sized(Options{Attach: true}, 80, 24)
	run := sampleRun(5)
	a.Step(at(Input{Watched: &run}))
	if bar := strings.Split(a.View().Text(), "\n")[1]; strings.Contains(bar, "left") || !strings.Contains(bar, "elapsed") {
		t.Errorf("bar of a first run: %s", bar)
	}
	p := Pace{Models: map[fleet.ServerID]string{}}
	for _, s := range run.Overview.Servers {
		p.Models[s.Server] = "R7"
	}
	p.Models["old"] = "R7"
	p.Learn(wayOf("old", "before", 300, 600, 240), run.Overview.Plan)
	a.Step(at(Input{Done: &Done{Do: DoPace, Pace: &p}}))
	if bar := strings.Split(a.View().Text(), "\n")[1]; !strings.Contains(bar, "about 19m left") {
		t.Errorf("bar of a second run: %s", bar)
	}
}
