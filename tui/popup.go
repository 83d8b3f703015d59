package tui

import (
	"slices"
	"time"

	"metalrise.dev/fleet"
)

// popup covers the body until it is answered. It takes no keys for its first half
// second, so that typing that was meant for the screen below neither answers nor
// closes it.
type popup struct {
	title  string
	body   []Line // as wide as they like; wrapped when drawn
	asks   bool   // y or n; else any of Esc, Enter closes it
	opened time.Time
	scroll int
	picks  []func() []Action // what Enter does on each row, when it is a list to choose from; nil: the row cannot be chosen
	cursor int
	does   string          // the line of keys, where Enter does something else than go to a row
	yes    func() []Action // only set by asks
}

const grace = 500 * time.Millisecond

func (a *App) open(title string, body []Line) *popup {
	return &popup{title: title, body: body, opened: a.now}
}

func (a *App) askQuit() *popup {
	text := a.t("Leave metalrise? What you entered is in the site file; the next start shows it again.")
	if a.options.Attach || a.hub.step >= stepRun {
		text = a.t("Leave this view? The engine goes on without it; metalrise attach shows it again.")
	}
	p := a.open(a.t("Leave"), []Line{line(Plain, text)})
	p.asks, p.yes = true, a.quit
	return p
}

func (a *App) pressPopup(in Input) []Action {
	p := a.popup
	if in.At.Sub(p.opened) < grace {
		return nil
	}
	if p.asks {
		switch {
		case in.Text == "y" || in.Text == "Y":
			a.popup = nil
			return p.yes()
		case in.Text == "n" || in.Text == "N" || in.Key == "esc":
			a.popup = nil
		}
		return nil
	}
	switch in.Key {
	case "esc", "f1", "f2", "ctrl+c":
		a.popup = nil
	case "enter":
		a.popup = nil
		if p.cursor < len(p.picks) && p.picks[p.cursor] != nil {
			return p.picks[p.cursor]()
		}
	case "up", "down", "pgup", "pgdown":
		by := map[string]int{"up": -1, "down": 1, "pgup": -10, "pgdown": 10}[in.Key]
		if len(p.picks) > 0 {
			p.choose(by)
		} else {
			p.scroll = max(p.scroll+by, 0)
		}
	}
	if in.Text == "?" || in.Text == "q" {
		a.popup = nil
	}
	return nil
}

// choose moves the cursor to another row that can be chosen.
func (p *popup) choose(by int) {
	step := 1
	if by < 0 {
		step, by = -1, -by
	}
	for at := p.cursor + step; at >= 0 && at < len(p.picks) && by > 0; at += step {
		if p.picks[at] != nil {
			p.cursor, by = at, by-1
		}
	}
}

func (a *App) viewPopup() Picture {
	p := a.popup
	out := Picture{Lines: []Line{line(Title, " metalrise · "+p.title).fit(a.width), nil}}
	var rows []Line
	at := 0 // line on which the chosen row begins
	for i, l := range p.body {
		if len(p.picks) > 0 && i == p.cursor {
			at = len(rows)
		}
		rows = append(rows, a.wrapLine(l, len(p.picks) > 0 && i == p.cursor)...)
	}
	room := a.height - 4
	top := min(p.scroll, max(len(rows)-room, 0))
	if len(p.picks) > 0 {
		top = max(0, min(at-room/2, len(rows)-room))
	}
	p.scroll = top
	for i, l := range rows[top:min(top+room, len(rows))] {
		point := Span{Plain, "  "}
		if len(p.picks) > 0 && top+i == at {
			point.Text = "▸ "
		}
		out.Lines = append(out.Lines, append(Line{point}, l...))
	}
	for len(out.Lines) < a.height-1 {
		out.Lines = append(out.Lines, nil)
	}
	keys := a.t("Esc back   ↑↓ PgUp PgDn scroll")
	switch {
	case p.asks:
		keys = a.t("y yes   n no")
	case p.does != "":
		keys = p.does
	case len(p.picks) > 0:
		keys = a.t("↑↓ choose   Enter go there   Esc back")
	}
	out.Lines = append(out.Lines, line(Heading, " "+keys))
	return out
}

// wrapLine breaks a line of one style; lines of several styles are made to fit
// where they are made.
func (a *App) wrapLine(l Line, selected bool) []Line {
	if len(l) != 1 {
		return []Line{l}
	}
	style := l[0].Style
	if selected {
		style = Selected
	}
	var out []Line
	for _, s := range wrap(l[0].Text, a.width-4) {
		out = append(out, line(style, s))
	}
	return out
}

// problems lists all findings, and leads to the step where each is solved.
func (a *App) problems() *popup {
	p := a.open(a.t("All problems"), nil)
	for _, f := range a.hub.findings() {
		p.body = append(p.body, line(severityStyle(f.Severity), findingText(a.words, f)))
		p.picks = append(p.picks, func() []Action {
			a.hub.jump(f)
			return a.look()
		})
	}
	if len(p.body) == 0 {
		p.body = []Line{line(Good, a.t("No problem is known."))}
	}
	return p
}

func severityStyle(s fleet.Severity) Style {
	switch s {
	case fleet.Blocker:
		return Bad
	case fleet.Warning:
		return Warn
	}
	return Plain
}

func severityMark(s fleet.Severity) string {
	switch s {
	case fleet.Blocker:
		return "✗"
	case fleet.Warning:
		return "!"
	}
	return "·"
}

func findingText(w words, f fleet.Finding) string {
	where := f.Path
	if f.Server != "" {
		where = string(f.Server) + " " + where
	}
	return severityMark(f.Severity) + " " + string(f.Code) + " " + where + ": " + w.engineText(f.Text) + " → " + w.engineText(f.Remedy)
}

// help tells the keys that work now, and about the field where the cursor is.
func (a *App) help() *popup {
	p := a.open(a.t("Help"), nil)
	add := func(style Style, text string) { p.body = append(p.body, line(style, text)) }
	if a.options.Attach || a.hub.step == stepRun && !a.hub.rail {
		for _, s := range runHelp() {
			add(Plain, a.t(s))
		}
		return p
	}
	if it, ok := a.hub.current(); ok && it.field != nil && !a.hub.rail {
		add(Heading, a.label(it.field))
		add(Plain, a.t(it.field.help))
		add(Plain, a.f("In the site file: %s", it.field.path))
		add(Plain, "")
	}
	add(Heading, a.t(steps()[a.hub.step].title))
	add(Plain, a.stepHelp(a.hub.step))
	add(Plain, "")
	for _, s := range hubHelp() {
		add(Plain, a.t(s))
	}
	return p
}

// explain is the card of one finding or fault.
func (a *App) explain(code fleet.Code) []Line {
	page := a.page(code)
	if page.Code == "" {
		return nil
	}
	return slices.Concat(
		[]Line{line(Bad, string(code)+"  "+page.Title)},
		[]Line{line(Plain, a.t("why")+"   "+page.Why)},
		[]Line{line(Plain, a.t("next")+"  "+page.Remedy)},
	)
}
