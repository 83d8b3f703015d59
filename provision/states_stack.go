package provision

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"metalrise.dev/fleet"
)

// writeStackStates is the part of docs/states.md about the VM platform. Like the
// way of a server it is not drawn by hand: each row is what NextStack decides.
func writeStackStates(b *strings.Builder) {
	b.WriteString("\n## The steps of the VM platform\n\nA platform has two kinds of steps: *components*, which are installed one after the other, and *proofs*, which follow them.\n" +
		"Behind the last one comes the hand-over. At most one step is under way.\n\n| state of a step | meaning |\n|---|---|\n")
	for _, s := range []struct {
		s fleet.StepState
		m string
	}{
		{fleet.StepPending, "it has not begun, or waits for its next try; the first of them says what all wait for"},
		{fleet.StepRunning, "it is under way; a component shows which of its checks are not true yet"},
		{fleet.StepOK, "a component is ready; a proof's guests said so. It may stand from an earlier plan"},
		{fleet.StepSkipped, "it is left out: by the plan, by a person's name, or because the cluster turned out to be unable to. The reason stands beside it"},
		{fleet.StepFailed, "it will not be tried again by itself; the cause has a code, see errors.md"},
	} {
		fmt.Fprintf(b, "| %s | %s |\n", s.s, s.m)
	}
	b.WriteString("\nThe platform as a whole is *held* when a person must act, and *done* once it was handed over.\n\n### When all goes well\n\n" +
		"A plan with two components and three proofs, one of which the site cannot give:\n\n| # | decision | why | the journal then says |\n|---|---|---|---|\n")
	writeStackWay(b)
	b.WriteString("\n### When a step does not go well\n\n| what the journal says | decision |\n|---|---|\n")
	for _, c := range stackTroubles() {
		s := newStackStory()
		c.tell(s)
		fmt.Fprintf(b, "| %s | %s |\n", c.says, decided(s.next()))
	}
	l := Limits{}.withDefaults()
	fmt.Fprintf(b, "\nTransient faults are tried %d times, after %s; what a step left is removed up to %d times. A component has %s, a proof %s.\n",
		l.StackTries, l.StackBackoff, l.ActionTries, minutes(l.ComponentTimeout), minutes(l.ProofTimeout))
}

func minutes(d time.Duration) string { return fmt.Sprintf("%.0f minutes", d.Minutes()) }

// stackStory plays events to NextStack.
type stackStory struct {
	plan  fleet.StackPlan
	track *StackTrack
	look  StackLook
	now   time.Time
}

func newStackStory() *stackStory {
	p := fleet.StackPlan{Components: []fleet.ComponentPlan{{Name: fleet.ComponentKubeVirt}, {Name: fleet.ComponentInstanceTypes}},
		Proofs: []fleet.ProofPlan{{Name: fleet.ProofStart}, {Name: fleet.ProofSnapshot, Skip: "there is no VolumeSnapshotClass"}, {Name: fleet.ProofFence}}}
	return &stackStory{plan: p, track: NewStackTrack(fleet.Plan{ID: "P"}), now: time.Unix(0, 0)}
}

func (s *stackStory) next() Decision {
	return NextStack(s.plan, s.track, s.look, s.now, Limits{}.withDefaults())
}

// fold takes an event in and says how the journal shows it.
func (s *stackStory) fold(e fleet.Event, name StepName) string {
	e.Plan, e.At = s.track.Plan, s.now
	e.Data, _ = json.Marshal(StepData{StepName: name}) // a struct of strings has always an encoding
	s.track.Fold(e)
	text := fmt.Sprintf("%s %s", e.Action, e.Edge)
	if e.Outcome != "" {
		text += " " + string(e.Outcome)
	}
	if step := name.String(); step != "" {
		text += " (" + step + ")"
	}
	return text
}

func (s *stackStory) began(name StepName) string {
	return s.fold(fleet.Event{Action: name.action(), Edge: fleet.Began}, name)
}

func (s *stackStory) ended(name StepName, kind fleet.Kind) string {
	e := fleet.Event{Action: name.action(), Edge: fleet.Ended, Outcome: fleet.OK}
	if kind != "" {
		e.Outcome, e.Cause = fleet.Failed, &fleet.Cause{Code: overdueCode(name), Kind: kind, Chain: []string{"its cause"}}
	}
	return s.fold(e, name)
}

// through lets steps end well.
func (s *stackStory) through(all ...StepName) {
	for _, name := range all {
		s.began(name)
		s.ended(name, "")
	}
}

func writeStackWay(b *strings.Builder) {
	s := newStackStory()
	s.look = StackLook{Base: "a first hypervisor to be ready", Nodes: "every node to be ready"}
	for n := 1; n < 30; n++ {
		d := s.next()
		why, then := "", "nothing"
		switch d := d.(type) {
		case Install:
			name := StepName{Component: d.Name}
			why, then = "it is the next of the plan", s.began(name)+", "+s.ended(name, "")
		case Prove:
			name := StepName{Proof: d.Proof}
			why, then = "every node takes part", s.began(name)+", "+s.ended(name, "")
		case HandOver:
			why = "all is there, and proven or left out by name"
			then = s.fold(fleet.Event{Action: fleet.ActHandOver, Edge: fleet.Ended, Outcome: fleet.OK}, StepName{})
		case Wait:
			if s.look.Base != "" {
				why, s.look.Base = "images and operators take minutes; what comes later is found by Kubernetes itself", ""
			} else {
				why, s.look.Nodes = "what a proof says is about all of them", ""
			}
		case Done:
			fmt.Fprintf(b, "| %d | done | | |\n", n)
			return
		}
		fmt.Fprintf(b, "| %d | %s | %s | %s |\n", n, decided(d), why, then)
	}
}

// decided says a decision in the words of the page.
func decided(d Decision) string {
	switch d := d.(type) {
	case Install:
		return "install " + string(d.Name)
	case Prove:
		return "prove " + string(d.Proof)
	case Sweep:
		return "clear away after " + d.Step.String()
	case Light:
		return "switch the node on again, before anything else"
	case HandOver:
		return "hand over"
	case Rest:
		return "rest: the engine ends"
	case Hold:
		return "held with " + string(d.Cause.Code)
	case Wait:
		if d.Stuck {
			return "wait for " + d.For + "; only a person can end that"
		}
		return "wait for " + d.For
	}
	return describe(d)
}

// stackTrouble is one row of what can go wrong.
type stackTrouble struct {
	says string
	tell func(*stackStory)
}

func stackTroubles() []stackTrouble {
	kubevirt, types := StepName{Component: fleet.ComponentKubeVirt}, StepName{Component: fleet.ComponentInstanceTypes}
	start, fence := StepName{Proof: fleet.ProofStart}, StepName{Proof: fleet.ProofFence}
	fail := func(s *stackStory, name StepName, kind fleet.Kind) { s.began(name); s.ended(name, kind) }
	return []stackTrouble{
		{"a component failed, transient", func(s *stackStory) { fail(s, kubevirt, fleet.Transient) }},
		{"the same a second time", func(s *stackStory) { fail(s, kubevirt, fleet.Transient); fail(s, kubevirt, fleet.Transient) }},
		{"a component failed: denied, unsupported, conflict or invalid", func(s *stackStory) { fail(s, kubevirt, fleet.Conflict) }},
		{"it failed, and a person waived it", func(s *stackStory) { fail(s, kubevirt, fleet.Conflict); s.track.step(kubevirt).Waived = "anna" }},
		{"proof *start* failed for good: nothing else can be proven", func(s *stackStory) { s.through(kubevirt, types); fail(s, start, fleet.Conflict) }},
		{"another proof failed for good: the others are still run, then", func(s *stackStory) { s.through(kubevirt, types, start); fail(s, fence, fleet.Conflict) }},
		{"a held node stands in the way of the proofs", func(s *stackStory) {
			s.through(kubevirt, types)
			s.look.Nodes, s.look.NodesStuck = "every node to be ready", true
		}},
		{"a step began and did not end: the engine was killed", func(s *stackStory) { s.through(kubevirt, types); s.began(start) }},
		{"the same while the engine is asked to end", func(s *stackStory) { s.through(kubevirt, types); s.began(start); s.look.Stopping = true }},
		{"the engine is asked to end, and nothing is left of a step", func(s *stackStory) { s.through(kubevirt, types); s.look.Stopping = true }},
		{"a proof switched a node off and was broken off", func(s *stackStory) {
			s.through(kubevirt, types, start)
			s.began(fence)
			s.look.Dark = []Dark{{Server: "S", Host: "w1", Proof: fleet.ProofFence}}
		}},
		{"the node does not come on again", func(s *stackStory) {
			s.through(kubevirt, types, start)
			s.began(fence)
			s.look.Dark = []Dark{{Server: "S", Host: "w1", Proof: fleet.ProofFence, Failures: 5, Cause: &fleet.Cause{Code: fleet.CodePowerStuck, Kind: fleet.Transient}}}
		}},
		{"an earlier plan of the cluster was handed over: VMs of others may run, nothing is proven unless a person asks", func(s *stackStory) {
			s.track.Earlier = true
			s.through(kubevirt, types)
		}},
		{"a node that was ready is not any more, when all else is done", func(s *stackStory) {
			s.through(kubevirt, types, start, fence)
			s.look.Nodes, s.look.Unmet = "nodes to be ready again", []string{"w1: kubelet"}
		}},
	}
}
