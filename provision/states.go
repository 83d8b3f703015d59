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
	b.WriteString("# States of a server and of the VM platform\n\n<!-- Made from the code by `make docs`. Change the code, not this page. -->\n\n")
	b.WriteString("A server has a *phase*, the last milestone it passed, and a *condition*, what is happening to it now.\nTrouble changes the condition, never the phase.\n\n")
	b.WriteString("## Phases\n\n| phase | in OpenStack Ironic |\n|---|---|\n")
	for _, p := range fleet.Phases() {
		fmt.Fprintf(&b, "| %s | %s |\n", p, p.Ironic())
	}
	b.WriteString("\n`Joined` and `Ready` are reached where the plan has a cluster; else a server ends as *Installed*.\n")
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
	writeWay(&b, nil)
	b.WriteString("\n### From an installed server to a node\n\nThe control plane that begins the cluster; the rows above come first:\n\n")
	b.WriteString("| # | phase | decision | why | the journal then says |\n|---|---|---|---|---|\n")
	writeWay(&b, &fleet.NodePlan{Initial: true})
	b.WriteString("\nEvery other node, when the cluster is up and it is its turn: control planes one by one, because etcd takes in one\nmember at a time, then all workers together:\n\n")
	b.WriteString("| # | phase | decision | why | the journal then says |\n|---|---|---|---|---|\n")
	writeWay(&b, &fleet.NodePlan{})
	b.WriteString("\nA begin or join that fails is removed from the node (*reset*) and tried once more; then the server is held. A node\nthat falls silent before it joined is looked at through its BMC and switched on if it is off. A server held because\nits checks did not come true goes on by itself when they do.\n")
	b.WriteString("\n## When an action does not go well\n\n| kind of fault | what happens |\n|---|---|\n")
	b.WriteString("| transient | tried again after 2, 4, 8, 16 s; held after five tries |\n")
	b.WriteString("| uncertain (no answer came) | look through the BMC first; adopted when it was done, else tried again |\n")
	b.WriteString("| denied, unsupported, conflict, invalid | held at once: trying again cannot help |\n")
	b.WriteString("\n## The boot ladder\n\nThe routes by which the live system gets onto a server, best first: ")
	for i, r := range fleet.BootRoutes() {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "`%s`", r)
	}
	b.WriteString(".\nThe next one is taken, in a new attempt, when insert or boot-once fails in a way that belongs to the route (refused, not offered, no\nlicence, medium not loaded: at the second time where trying again could help), or when the live system does not call home and\nits medium was not read. A wrong identity, a refused login, a BMC that does not answer or anything after the call home never\nchanges the route. Routes that the engine cannot serve are left out, with the reason. On the last one a person boots the server.\nA retry begins with the route that a person chose, else with the one that worked before, else at the top.\n")
	b.WriteString("\nA live system that does not call home is booted once more without a person, as long as no write was granted.\nA write is granted once; if its machine falls silent, the server is held.\n")
	writeStackStates(&b)
	return b.String()
}

// writeWay plays one install and writes a row for each decision; with a node
// plan only the rows after the installed system's report.
func writeWay(b *strings.Builder, node *fleet.NodePlan) {
	now := time.Unix(0, 0)
	t := NewTrack("S", "P")
	t.Node.Plan = node
	look := Look{Heard: now, Cluster: ClusterLook{Turn: true, Up: true, Checks: []fleet.Check{{Name: fleet.CheckRegistered, OK: true}}}}
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
		arrived := t.Arrived
		switch d := Next(t, look, now, Limits{}.withDefaults()).(type) {
		case Act:
			what, why = string(d.Action), d.Why
			switch d.Action {
			case fleet.ActStage, fleet.ActFinish, fleet.ActReady:
				then = fold(ok(d.Action, `{}`))
			case fleet.ActPrepare, fleet.ActBegin, fleet.ActJoin:
				then = fold(fleet.Event{Action: d.Action, Edge: fleet.Began, Data: []byte(`{"task":"` + t.Node.taskID(d.Action) + `"}`)})
			case fleet.ActRestart:
				then = fold(fleet.Event{Action: d.Action, Edge: fleet.Began})
			default:
				then = fold(fleet.Event{Action: d.Action, Edge: fleet.Began})
				then += ", " + fold(ok(d.Action, `{"power":"on","media":"inserted"}`))
			}
		case Wait:
			what, why = "wait for "+d.For, "it says what it does; when it falls silent, the server is held"
			if d.Overdue != "" {
				why = "held with " + string(d.Overdue) + " when it takes too long"
			}
			switch {
			case t.Live.Key == "":
				then = fold(ok(fleet.ActHello, `{"key":"k"}`)) + ", " + fold(fleet.Event{Action: fleet.ActWrite, Edge: fleet.Began})
			case !t.Written:
				then = fold(ok(fleet.ActWrite, `{}`))
			case t.Node.Task != nil:
				then = fold(ok(t.Node.Task.Action, `{"task":"`+t.Node.Task.ID+`"}`))
			default:
				then = fold(ok(fleet.ActArrive, `{}`))
			}
		case Done:
			fmt.Fprintf(b, "| %d | %s | done | | |\n", n, phase)
			return
		}
		if node != nil && !arrived {
			continue
		}
		fmt.Fprintf(b, "| %d | %s | %s | %s | %s |\n", n, phase, what, why, then)
	}
}
