package tui

import (
	"strings"
	"time"

	"metalrise.dev/fleet"
)

// about tells all that is known of a server's run: who it is, why it is held,
// which checks are not true, and every step of every attempt.
func (a *App) about(s fleet.Status, w int) []Line {
	out := []Line{line(Heading, " "+name(s)+"  "+string(s.Server)+"  "+a.t(string(s.Role))+"  BMC "+s.BMC)}
	if s.Cause != nil {
		out = append(out, a.errorCard(s, w)...)
	}
	attempt := -1
	began := map[fleet.Action]time.Time{}
	events := a.run.mine[s.Server]
	ended := ends(events)
	for i, e := range events {
		if e.Edge == fleet.Began {
			began[e.Action] = e.At
			if ended[i] {
				continue
			}
		}
		if e.Attempt != attempt && e.Attempt > 0 {
			attempt = e.Attempt
			out = append(out, line(Heading, " "+a.f("attempt %d", attempt)))
		}
		out = append(out, a.eventRow(e, began[e.Action], i+1 < len(events), w)...)
	}
	return append(out, a.checkRows(s, w)...)
}

// ends tells of each event that begins an action whether an end of it follows.
func ends(events []fleet.Event) []bool {
	out := make([]bool, len(events))
	seen := map[fleet.Action]bool{}
	for i := len(events) - 1; i >= 0; i-- {
		out[i] = seen[events[i].Action]
		seen[events[i].Action] = seen[events[i].Action] || events[i].Edge == fleet.Ended
	}
	return out
}

// checkRows lists the checks of a node: those that are missing with what is
// missing and since when, the others in one line.
func (a *App) checkRows(s fleet.Status, w int) []Line {
	if len(s.Checks) == 0 {
		return nil
	}
	missing, ok := missingChecks(s)
	out := []Line{line(Heading, " "+a.f("checks: %d of %d true", len(ok), len(s.Checks)))}
	for _, c := range missing {
		since := ""
		if !c.Since.IsZero() {
			since = "  " + a.f("since %s", span(a.now.Sub(c.Since)))
		}
		for i, t := range wrap(a.t(c.Name)+": "+a.engineText(c.Missing)+since, w-5) {
			mark := "✗ "
			if i > 0 {
				mark = "  "
			}
			out = append(out, Line{{Plain, "  "}, {Bad, mark}, {Plain, t}})
		}
	}
	var names []string
	for _, c := range ok {
		names = append(names, a.t(c.Name))
	}
	for i, t := range wrap(strings.Join(names, ", "), w-5) {
		mark := "✓ "
		if i > 0 || t == "" {
			mark = "  "
		}
		out = append(out, Line{{Plain, "  "}, {Good, mark}, {Plain, t}})
	}
	return out
}

func (a *App) eventRow(e fleet.Event, began time.Time, more bool, w int) []Line {
	mark, style := "✓", Good
	switch {
	case e.Edge == fleet.Began && more:
		mark, style = "·", Plain // some actions have no end of their own
	case e.Edge == fleet.Began:
		mark, style = "●", Busy
	case e.Action == fleet.ActHold || e.Outcome == fleet.Failed:
		mark, style = "✗", Bad
	case e.Outcome == fleet.Uncertain:
		mark, style = "!", Warn
	}
	took := ""
	switch {
	case e.Edge == fleet.Began && !more:
		took = a.f("since %s", span(a.now.Sub(e.At)))
	case e.Edge == fleet.Ended && !began.IsZero() && e.At.Sub(began) >= time.Second:
		took = span(e.At.Sub(began))
	}
	head := Line{{Plain, "  "}, {style, mark + " "}, {Plain, fit(a.t(string(e.Action)), 12) + " " + e.At.Local().Format("15:04:05") + " " + fit(took, 10)}}
	note := a.engineText(e.Note)
	if e.Outcome == fleet.Adopted {
		note = strings.TrimSpace(a.t("was done, as looking showed") + " " + note)
	}
	if e.Cause != nil {
		note = a.causeText(e.Cause)
	}
	indent, out := 36, []Line{}
	if w < 60 && note != "" { // beside the table: the note goes below
		indent, out = 6, []Line{head}
		head = line(Plain, strings.Repeat(" ", indent))
	}
	for i, t := range wrap(note, max(w-indent-1, 20)) {
		if i == 0 {
			out = append(out, append(head, Span{Plain, t}))
		} else if i < 4 {
			out = append(out, line(Plain, strings.Repeat(" ", indent)+t))
		}
	}
	if len(out) == 0 {
		out = append(out, head)
	}
	return out
}

// errorCard says what failed, why, what was seen and tried, and what to do.
func (a *App) errorCard(s fleet.Status, w int) []Line {
	page := a.page(s.Cause.Code)
	var out []Line
	under := func(label string, style Style, text string, depth int) {
		indent := strings.Repeat("  ", min(depth, 4))
		for i, t := range wrap(text, w-12-len(indent)) {
			head := ""
			if i == 0 && label != "" {
				head = a.t(label)
			}
			out = append(out, Line{{Heading, " " + fit(head, 10)}, {style, indent + t}})
		}
	}
	row := func(label string, style Style, text string) { under(label, style, text, 0) }
	row(say("what"), Bad, string(s.Cause.Code)+" "+page.Title)
	row(say("why"), Plain, page.Why)
	for i, c := range s.Cause.Chain {
		label := ""
		if i == 0 {
			label = say("evidence")
		}
		under(label, Plain, a.engineText(c), i)
	}
	row(say("tried"), Plain, a.tried(s))
	row(say("next"), Plain, page.Remedy+" "+a.nextKeys(s))
	row(say("code"), Plain, a.f("%[1]s; metalrise explain %[1]s", s.Cause.Code))
	return out
}

// tried counts what was done for a server before it was held.
func (a *App) tried(s fleet.Status) string {
	failed := map[fleet.Action]int{}
	var order []fleet.Action
	for _, e := range a.run.mine[s.Server] {
		if e.Edge == fleet.Ended && e.Outcome != fleet.OK && e.Outcome != fleet.Adopted && e.Outcome != "" && e.Action != fleet.ActHold {
			if failed[e.Action]++; failed[e.Action] == 1 {
				order = append(order, e.Action)
			}
		}
	}
	out := a.f("%d attempts", s.Attempt)
	for _, act := range order {
		out += ", " + a.f("%s failed %d times", a.t(string(act)), failed[act])
	}
	return out
}

// nextKeys says which keys lead on from a fault.
func (a *App) nextKeys(s fleet.Status) string {
	if len(fixesOf(s.Cause.Code)) > 0 {
		return a.t("Then press r; c changes the value, x leaves this server out.")
	}
	return a.t("Then press r; x leaves this server out.")
}
