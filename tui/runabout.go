package tui

import (
	"strings"
	"time"

	"metalrise.dev/fleet"
)

// about tells all that is known of a server's run: who it is, why it is held,
// and every step of every attempt.
func (a *App) about(s fleet.Status, w int) []Line {
	out := []Line{line(Heading, " "+name(s)+"  "+string(s.Server)+"  "+a.t(string(s.Role))+"  BMC "+s.BMC)}
	if s.Cause != nil {
		out = append(out, a.errorCard(s, w)...)
	}
	attempt := -1
	began := map[fleet.Action]time.Time{}
	for _, e := range a.run.events {
		if e.Server != s.Server || e.Plan != a.run.view.Plan || e.Edge == fleet.Progressed {
			continue
		}
		if e.Edge == fleet.Began {
			began[e.Action] = e.At
			if ended, _ := a.after(e); ended {
				continue
			}
		}
		if e.Attempt != attempt && e.Attempt > 0 {
			attempt = e.Attempt
			out = append(out, line(Heading, " "+a.f("attempt %d", attempt)))
		}
		out = append(out, a.eventRow(e, began[e.Action], w)...)
	}
	return out
}

// after tells what came of an action that began: whether it ended, and whether
// anything else happened to its server since.
func (a *App) after(began fleet.Event) (ended, more bool) {
	for i := len(a.run.events) - 1; i >= 0 && a.run.events[i].Seq > began.Seq; i-- {
		e := a.run.events[i]
		if e.Server == began.Server && e.Plan == began.Plan && e.Edge != fleet.Progressed {
			more = true
			ended = ended || e.Action == began.Action
		}
	}
	return ended, more
}

func (a *App) eventRow(e fleet.Event, began time.Time, w int) []Line {
	mark, style := "✓", Good
	_, more := a.after(e)
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
	head := Line{{Plain, "  "}, {style, mark + " "}, {Plain, fit(a.t(string(e.Action)), 12) + " " + e.At.Local().Format("15:04:05") + " " + fit(took, 9)}}
	note := e.Note
	if e.Outcome == fleet.Adopted {
		note = strings.TrimSpace(a.t("was done, as looking showed") + " " + note)
	}
	if e.Cause != nil {
		note = causeText(e.Cause)
	}
	indent, out := 35, []Line{}
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
	page, _ := fleet.Page(s.Cause.Code)
	var out []Line
	row := func(label string, style Style, text string) {
		for i, t := range wrap(text, w-12) {
			head := ""
			if i == 0 {
				head = a.t(label)
			}
			out = append(out, Line{{Heading, " " + fit(head, 10)}, {style, t}})
		}
	}
	row(say("what"), Bad, page.Title)
	row(say("why"), Plain, page.Why)
	for i, c := range s.Cause.Chain {
		label := ""
		if i == 0 {
			label = say("evidence")
		}
		row(label, Plain, strings.Repeat("  ", min(i, 4))+c)
	}
	row(say("tried"), Plain, a.tried(s))
	row(say("next"), Plain, page.Remedy+" "+a.t("Then press r."))
	row(say("code"), Plain, a.f("%[1]s; metalrise explain %[1]s", s.Cause.Code))
	return out
}

// tried counts what was done for a server before it was held.
func (a *App) tried(s fleet.Status) string {
	failed := map[fleet.Action]int{}
	var order []fleet.Action
	for _, e := range a.run.events {
		if e.Server == s.Server && e.Plan == a.run.view.Plan && e.Edge == fleet.Ended && e.Outcome != fleet.OK && e.Outcome != fleet.Adopted && e.Outcome != "" && e.Action != fleet.ActHold {
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
