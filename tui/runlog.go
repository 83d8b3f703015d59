package tui

import (
	"encoding/json"
	"fmt"
	"strings"

	"metalrise.dev/fleet"
)

// journalPage is the state of the log page: the journal, or what the engine
// itself wrote.
type journalPage struct {
	engine bool // the engine's log instead of the journal
	one    bool // only events of the chosen server
	filter string
	asking bool // the filter is typed
	follow bool // it stays at its end
	top    int
	lines  []string // of the engine's log
	wrong  string   // why that cannot be read
}

func (a *App) openLog() []Action {
	r := &a.run
	r.page, r.note = pageLog, ""
	r.log = journalPage{follow: true, lines: r.log.lines}
	return nil
}

func (l *journalPage) took(w words, d Done) {
	l.wrong = ""
	if d.Err != nil {
		l.wrong = w.causeText(d.Err)
		return
	}
	l.lines = d.Lines
}

// pressLog is for the keys of the log page.
func (a *App) pressLog(in Input) []Action {
	r, l := &a.run, &a.run.log
	if l.asking {
		switch {
		case in.Key == "enter":
			l.asking = false
		case in.Key == "esc":
			l.asking, l.filter = false, ""
		case in.Key == "ctrl+u":
			l.filter = ""
		case in.Key == "backspace" && l.filter != "":
			letters := []rune(l.filter)
			l.filter = string(letters[:len(letters)-1])
		case in.Text != "" && len(l.filter) < 100:
			l.filter += clean(in.Text)
		}
		l.follow = true
		return nil
	}
	if by, ok := moves()[in.Key]; ok {
		a.scrollLog(by)
		return nil
	}
	switch {
	case in.Key == "esc" && l.filter != "":
		l.filter, l.follow = "", true
	case in.Key == "esc", in.Key == "left", in.Key == "f8", in.Text == "l", in.Text == "q":
		r.page = pageList
	case in.Text == "/":
		l.asking = true
	case in.Text == "s":
		l.one, l.follow = !l.one, true
	case in.Text == "w":
		l.engine, l.follow = !l.engine, true
		if l.engine {
			return []Action{{Do: DoLog}}
		}
	case in.Key == "f9", in.Text == "g":
		r.page = pageList
		return a.gather()
	case in.Key == "f10", in.Text == "d":
		return a.quit()
	case in.Key == "f5" && l.engine:
		return []Action{{Do: DoLog}}
	}
	return nil
}

func (a *App) scrollLog(by int) {
	l := &a.run.log
	end := max(len(a.logLines())-a.logRoom(), 0)
	if l.follow {
		l.top = end
	}
	l.top = min(max(l.top+by, 0), end)
	l.follow = l.top == end
}

func (a *App) logRoom() int { return max(a.runRoom()-1, 1) }

// logRow is one line of the log with what it is about.
type logRow struct {
	text  string
	style Style
}

// logLines are all lines that the filter passes.
func (a *App) logLines() []logRow {
	r, l := &a.run, &a.run.log
	want := strings.ToLower(l.filter)
	var out []logRow
	if l.engine {
		for _, s := range l.lines {
			if want == "" || strings.Contains(strings.ToLower(s), want) {
				out = append(out, logRow{s, Plain})
			}
		}
		return out
	}
	for _, e := range r.events {
		if l.one && e.Server != r.server {
			continue
		}
		if want == "" { // most often; a line is made only where it is shown
			out = append(out, logRow{style: eventStyle(e)})
			continue
		}
		if text := a.logText(e); strings.Contains(strings.ToLower(text), want) {
			out = append(out, logRow{text, eventStyle(e)})
		}
	}
	if want != "" {
		return out
	}
	// Lines in view are written now.
	top := max(len(out)-a.logRoom(), 0)
	if !l.follow {
		top = min(l.top, top)
	}
	at := 0
	for _, e := range r.events {
		if l.one && e.Server != r.server {
			continue
		}
		if at >= top && at < top+a.logRoom() {
			out[at].text = a.logText(e)
		}
		at++
	}
	return out
}

func eventStyle(e fleet.Event) Style {
	if e.Cause != nil {
		return Warn
	}
	return Plain
}

func (a *App) logText(e fleet.Event) string {
	return e.At.Local().Format("15:04:05") + " " + a.eventText(e)
}

// logRows is the part of the log that is in view.
func (a *App) logRows(room int) []Line {
	l := &a.run.log
	all := a.logLines()
	what := a.t("journal of all servers")
	switch {
	case l.engine:
		what = a.t("the engine's own log; F5 reads it again")
	case l.one:
		what = a.f("journal of %s", a.run.nameOf(a.run.server))
	}
	if l.filter != "" || l.asking {
		what += "   /" + l.filter
		if l.asking {
			what += "_"
		}
	}
	out := []Line{line(Heading, " "+what+fmt.Sprintf("   %d", len(all)))}
	if l.engine && l.wrong != "" {
		return append(out, line(Bad, " ✗ "+l.wrong))
	}
	room--
	top := max(len(all)-room, 0)
	if !l.follow {
		top = min(l.top, top)
	}
	for _, row := range all[top:min(top+room, len(all))] {
		out = append(out, line(row.style, " "+row.text))
	}
	return out
}

func (r *run) nameOf(id fleet.ServerID) string {
	if n := r.names[id]; n != "" {
		return n
	}
	return string(id)
}

// eventText is an event on one line.
func (a *App) eventText(e fleet.Event) string {
	who := a.t("site")
	if e.Server != "" {
		who = a.run.nameOf(e.Server)
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
		text += " " + a.engineText(e.Note)
	}
	if e.Cause != nil {
		text += " " + a.causeText(e.Cause)
	}
	return text
}
