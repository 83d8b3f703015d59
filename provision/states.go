package provision

import (
	"fmt"
	"strings"
	"time"

	"metalrise.dev/fleet"
)

// StatesPage writes docs/states.md: the phases, the conditions, and the way of
// one server as Next decides it. The way is not a drawing kept by hand: the
// page asks Next itself, starting from nothing and answering each action with
// its success.
func StatesPage() string {
	var b strings.Builder
	b.WriteString("# States of a server\n\n<!-- Made from the code by `make docs`. Change the code, not this page. -->\n\n")
	b.WriteString("A server has a *phase*, the last milestone it passed, and a *condition*, what is happening to it now.\nTrouble changes the condition, never the phase.\n\n")
	b.WriteString("## Phases\n\n| phase | in OpenStack Ironic |\n|---|---|\n")
	for _, p := range fleet.Phases() {
		fmt.Fprintf(&b, "| %s | %s |\n", p, p.Ironic())
	}
	b.WriteString("\n`Joined` and `Ready` are reached once a cluster is brought up on installed servers.\n")
	b.WriteString("\n## Conditions\n\n| condition | meaning |\n|---|---|\n")
	for _, c := range []struct {
		c fleet.Condition
		m string
	}{
		{fleet.Idle, "no plan is being applied to it"}, {fleet.Moving, "an action is under way"},
		{fleet.Waiting, "for the machine, the BMC or the time of the next try"},
		{fleet.Held, "a person must act; the cause has a code, see errors.md"}, {fleet.Settled, "the plan is fulfilled"},
	} {
		fmt.Fprintf(&b, "| %s | %s |\n", c.c, c.m)
	}
	b.WriteString("\n## The way of one server\n\nA server that is on, with an old medium in its virtual drive, when all goes well:\n\n")
	b.WriteString("| # | phase | decision | why | the journal then says |\n|---|---|---|---|---|\n")
	writeWay(&b)
	b.WriteString("\n## When an action does not go well\n\n| kind of fault | what happens |\n|---|---|\n")
	b.WriteString("| transient | tried again after 2, 4, 8, 16 s; held after five tries |\n")
	b.WriteString("| uncertain (no answer came) | look through the BMC first; adopted when it was done, else tried again |\n")
	b.WriteString("| denied, unsupported, conflict, invalid | held at once: trying again cannot help |\n")
	b.WriteString("\nA live system that does not call home is booted once more without a person, as long as no write was granted.\nA write is granted once; if its machine falls silent, the server is held.\n")
	return b.String()
}

// writeWay plays one install and writes a row for each decision.
func writeWay(b *strings.Builder) {
	now := time.Unix(0, 0)
	t := NewTrack("S", "P")
	fold := func(e fleet.Event) string {
		e.Server, e.Plan, e.At = t.Server, t.Plan, now
		t.Fold(e)
		if e.Outcome != "" {
			return fmt.Sprintf("%s %s %s", e.Action, e.Edge, e.Outcome)
		}
		return fmt.Sprintf("%s %s", e.Action, e.Edge)
	}
	ok := func(a fleet.Action, data string) fleet.Event {
		return fleet.Event{Action: a, Edge: fleet.Ended, Outcome: fleet.OK, Data: []byte(data), Attempt: 1}
	}
	for n := 1; n < 50; n++ {
		phase := t.Phase()
		var what, why, then string
		switch d := Next(t, Look{}, now, Limits{}.withDefaults()).(type) {
		case Act:
			what, why = string(d.Action), d.Why
			switch d.Action {
			case fleet.ActStage, fleet.ActFinish:
				then = fold(ok(d.Action, `{}`))
			case fleet.ActRestart:
				then = fold(fleet.Event{Action: d.Action, Edge: fleet.Began})
			default:
				then = fold(fleet.Event{Action: d.Action, Edge: fleet.Began})
				then += ", " + fold(ok(d.Action, `{"power":"on","media":"inserted"}`))
			}
		case Wait:
			what, why = "wait for "+d.For, "held with "+string(d.Overdue)+" when it takes too long"
			switch {
			case t.Live.Key == "":
				then = fold(ok(fleet.ActHello, `{"key":"k"}`)) + ", " + fold(fleet.Event{Action: fleet.ActWrite, Edge: fleet.Began})
			case !t.Written:
				then = fold(ok(fleet.ActWrite, `{}`))
			default:
				then = fold(ok(fleet.ActArrive, `{}`))
			}
		case Done:
			fmt.Fprintf(b, "| %d | %s | done | | |\n", n, phase)
			return
		}
		fmt.Fprintf(b, "| %d | %s | %s | %s | %s |\n", n, phase, what, why, then)
	}
}
