package tui

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"metalrise.dev/fleet"
)

func (a *App) viewRun() Picture {
	var p Picture
	p.Lines = append(p.Lines, a.runTitle(), a.siteBar(), a.runNotice())
	room := a.height - 5 // title, bar, notice, message, keys
	switch {
	case !a.run.seen:
		text := a.t("looking for the run …")
		if a.run.lost != nil {
			text = ""
		}
		p.Lines = append(p.Lines, line(Plain, " "+text))
	case a.run.view.Plan == "":
		text := a.t("No plan was applied yet; there is nothing to watch. metalrise apply begins one.")
		if !a.options.Attach {
			text = a.t("No plan was applied yet; Review starts one. Esc leads to the steps.")
		}
		p.Lines = append(p.Lines, nil, line(Plain, " "+text))
	case a.run.page == pageLog:
		p.Lines = append(p.Lines, a.logRows(room)...)
	case a.run.page == pageCard:
		p.Lines = append(p.Lines, a.cardRows(a.width, room)...)
	case a.width >= 112:
		p.Lines = append(p.Lines, a.beside(room)...)
	default:
		rows := min(max(len(a.run.view.Servers), 1), max(room/2-2, 5))
		p.Lines = append(p.Lines, a.table(a.width, rows+1)...)
		p.Lines = append(p.Lines, line(Faint, strings.Repeat("─", a.width)))
		p.Lines = append(p.Lines, a.details(a.width, room-len(p.Lines)+3)...)
	}
	for len(p.Lines) < a.height-2 {
		p.Lines = append(p.Lines, nil)
	}
	p.Lines = append(p.Lines[:a.height-2], line(Plain, " "+a.runMessage()), line(Heading, " "+a.runKeys()))
	return p
}

func (a *App) runTitle() Line {
	r := &a.run
	title := a.options.Title
	if r.view.Site != "" {
		title = r.view.Site
	}
	text := " metalrise · " + a.t("Run") + " · " + title
	if r.view.Plan != "" {
		text += " · " + a.f("plan %.12s", r.view.Plan)
	}
	if a.options.Replay {
		text += " · " + a.t("REPLAY")
	}
	return line(Title, text).fit(a.width)
}

// siteBar sums up all servers.
func (a *App) siteBar() Line {
	r := &a.run
	if len(r.view.Servers) == 0 {
		return nil
	}
	settled, held := r.count()
	part := r.whole()
	if settled < len(r.view.Servers) {
		part = min(part, 0.99)
	}
	l := Line{{Plain, " "}, {Busy, bar(part, 20)}, {Heading, fmt.Sprintf(" %3d %%  ", int(part*100))},
		{Plain, a.f("%d of %d installed", settled, len(r.view.Servers))}}
	if held > 0 {
		l = append(l, Span{Plain, "  "}, Span{Bad, a.f("%d held", held)})
	}
	if !r.began.IsZero() {
		end := a.now
		if r.view.Quiet && !r.last.IsZero() {
			end = r.last
		}
		l = append(l, Span{Plain, "  " + a.f("elapsed %s", span(end.Sub(r.began)))})
	}
	return l
}

// runNotice says when what is shown is not live.
func (a *App) runNotice() Line {
	r := &a.run
	switch {
	case r.lost != nil:
		return line(Bad, " ✗ "+a.f("the run cannot be read: %s; trying again", causeText(r.lost)))
	case !r.seen || r.view.Plan == "":
		return nil
	case !r.view.Engine && !r.view.Quiet:
		return line(Bad, " ✗ "+a.t("the engine is not running; nothing is lost. Press e to start it again"))
	case a.now.Sub(r.view.At) > 10*time.Second:
		return line(Warn, " ! "+a.f("seen %s ago", span(a.now.Sub(r.view.At))))
	case r.view.Quiet:
		settled, held := r.count()
		if held > 0 {
			return line(Warn, " ! "+a.f("nothing moves: %d installed, %d held for a person", settled, held))
		}
		return line(Good, " ✓ "+a.t("all servers are installed"))
	case r.gone > 0:
		return line(Warn, " ! "+a.f("the engine was gone %d times and runs again", r.gone))
	}
	return nil
}

func (a *App) runMessage() string {
	if a.run.note != "" {
		return a.run.note
	}
	if n := len(a.run.events); n > 0 {
		return a.t("last:") + " " + a.eventText(a.run.events[n-1])
	}
	return ""
}

func (a *App) runKeys() string {
	switch a.run.page {
	case pageLog:
		return a.t("↑↓ PgUp PgDn scroll   End follow   l back   d detach   ? help")
	case pageCard:
		return a.t("Esc back   Tab next server   ↑↓ scroll   r retry   l log   d detach   ? help")
	}
	if !a.options.Attach {
		return a.t("↑↓ choose  Enter details  r retry  h held  l log  d detach  Esc steps  ? help")
	}
	return a.t("↑↓ choose   Enter details   r retry   h next held   l log   d detach   ? help")
}

func runHelp() []string {
	return []string{
		say("↑ ↓ PgUp PgDn: choose a server. Enter: all about it. Esc: back."),
		say("r: another attempt with the held server. A disk that was written well is not written again."),
		say("h: go to the next server that is held for a person."),
		say("l: the journal of all servers, newest last."),
		say("e: start the engine again when it is gone. It continues where it was."),
		say("d: detach. The engine goes on; metalrise attach shows it again, in any terminal, for several people at once."),
		say("q or Ctrl-C: leave, after a question."),
		say("A server passes Planned, Staged, Booted and Installed. Moving: something is done. Waiting: for the machine, with the time since when. Held: a person must act. Settled: done."),
		say("The percentage counts steps, not time: booting and writing weigh most."),
		say("F1 or ?: this help."),
	}
}

// beside draws table and details next to each other on wide terminals.
func (a *App) beside(room int) []Line {
	left := a.width * 6 / 10
	rows := a.table(left, room)
	right := a.details(a.width-left-3, room)
	out := make([]Line, room)
	for i := range out {
		var l Line
		if i < len(rows) {
			l = rows[i]
		}
		out[i] = append(l.fit(left), Span{Faint, " │ "})
		if i < len(right) {
			out[i] = append(out[i], right[i]...)
		}
	}
	return out
}

// table draws a heading and the rows around the cursor.
func (a *App) table(w, room int) []Line {
	r := &a.run
	host := 14
	for _, s := range r.view.Servers {
		host = max(host, width(name(s)))
	}
	host = min(host, w/3)
	step := w - host - 3 - 10 - 9 - 7 - 5
	head := fit("", 3) + fit(a.t("HOST"), host) + " " + fit(a.t("PHASE"), 10) + fit(a.t("IS"), 9) + fit(a.t("STEP"), step-1) + " " + fit(a.t("FOR"), 6) + fit(a.t("TRY"), 4)
	out := []Line{line(Heading, head)}
	room--
	top := max(0, min(r.cursor-room/2, len(r.view.Servers)-room))
	for i := top; i < min(top+room, len(r.view.Servers)); i++ {
		s := r.view.Servers[i]
		mark, style := conditionMark(s)
		point := " "
		if i == r.cursor {
			point = "▸"
		}
		names := Span{Plain, fit(name(s), host) + " " + fit(a.t(string(s.Phase)), 10)}
		if i == r.cursor {
			names.Style = Selected
		}
		out = append(out, Line{{Plain, point}, {style, mark + " "}, names, {style, fit(a.t(string(s.Condition)), 9)},
			{Plain, fit(a.stepText(s), step-1) + " " + fit(a.since(s), 6) + fit(strconv.Itoa(s.Attempt), 4)}})
	}
	return out
}

func (a *App) since(s fleet.Status) string {
	if s.Since.IsZero() {
		return "-"
	}
	end := a.now
	if s.Condition == fleet.Settled {
		return "-"
	}
	return span(end.Sub(s.Since))
}

func conditionMark(s fleet.Status) (string, Style) {
	switch s.Condition {
	case fleet.Settled:
		return "✓", Good
	case fleet.Held:
		return "✗", Bad
	case fleet.Moving:
		return "●", Busy
	}
	return "·", Plain
}

// stepText says what a server is at; while it writes, how far.
func (a *App) stepText(s fleet.Status) string {
	switch {
	case s.Condition == fleet.Settled:
		if kvm, ok := s.KVM.Get(); ok && kvm.Usable {
			return a.t("installed; KVM works")
		} else if ok {
			return a.t("installed; no KVM")
		}
		return a.t("installed")
	case s.Done > 0 && s.Total > 0:
		share := float64(min(s.Done, s.Total)) / float64(s.Total)
		return fmt.Sprintf("%s %s %3d %%", a.t("write"), bar(share, 8), int(share*100))
	}
	return a.phrase(s.Step)
}

// phrase translates the engine's own short sentences where they are known.
func (a *App) phrase(s string) string {
	if act, ok := strings.CutPrefix(s, "look whether "); ok {
		if act, ok = strings.CutSuffix(act, " was done"); ok {
			return a.f("look whether %s was done", a.t(act))
		}
	}
	if act, ok := strings.CutPrefix(s, "wait for the next try of "); ok {
		return a.f("wait for the next try of %s", a.t(act))
	}
	return a.t(s)
}

// details are the lines about the chosen server below or beside the table.
func (a *App) details(w, room int) []Line {
	s, ok := a.run.chosen()
	if !ok || room <= 0 {
		return nil
	}
	all := a.about(s, w)
	if s.Condition != fleet.Held && len(all) > room { // keep the head, and the newest of the rest
		rest := all[len(all)-room+1:]
		for len(rest) > 0 && len(rest[0]) == 1 && strings.HasPrefix(rest[0][0].Text, "      ") {
			rest = rest[1:] // the end of a note whose beginning is not shown
		}
		all = append(all[:1:1], rest...)
	}
	return all[:min(room, len(all))]
}

// cardRows is the chosen server alone, scrolled.
func (a *App) cardRows(w, room int) []Line {
	s, ok := a.run.chosen()
	if !ok {
		return nil
	}
	all := a.about(s, w)
	r := &a.run
	r.scroll = min(r.scroll, max(len(all)-room, 0))
	return all[r.scroll:min(r.scroll+room, len(all))]
}

func (a *App) logRoom() int { return max(a.height-5, 1) }

// logRows is the journal.
func (a *App) logRows(room int) []Line {
	r := &a.run
	top := max(len(r.events)-room, 0)
	if !r.follow {
		top = min(r.scroll, top)
		r.scroll = top
	}
	var out []Line
	for _, e := range r.events[top:min(top+room, len(r.events))] {
		style := Plain
		if e.Cause != nil {
			style = Warn
		}
		out = append(out, line(style, " "+e.At.Local().Format("15:04:05")+" "+a.eventText(e)))
	}
	return out
}

// eventText is an event on one line.
func (a *App) eventText(e fleet.Event) string {
	who := a.t("site")
	if e.Server != "" {
		who = string(e.Server)
		for _, s := range a.run.view.Servers {
			if s.Server == e.Server {
				who = name(s)
			}
		}
	}
	what := string(e.Edge)
	if e.Outcome != "" {
		what = string(e.Outcome)
	}
	text := fmt.Sprintf("%s %s %s", who, a.t(string(e.Action)), a.t(what))
	var p struct{ Done, Total int64 }
	if e.Edge == fleet.Progressed && json.Unmarshal(e.Data, &p) == nil && p.Total > 0 {
		text += fmt.Sprintf(" %d %%", 100*min(p.Done, p.Total)/p.Total)
	}
	if e.Note != "" {
		text += " " + e.Note
	}
	if e.Cause != nil {
		text += " " + causeText(e.Cause)
	}
	return text
}

func orEmpty(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}
