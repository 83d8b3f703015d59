package tui

import (
	"slices"
	"strconv"
	"strings"

	"metalrise.dev/fleet"
)

// lines is the wizard as questions and answers, one after the other, for screen
// readers and terminals that cannot move a cursor. It has no state of the site
// of its own: every answer goes the way that a key goes on the screens, through
// the hub and the run.
type lines struct {
	mode    lineMode
	field   *field            // asked for, in askValue
	server  fleet.Assignment  // asked for, in askRole
	shown   step              // the step whose introduction was told; -1: none
	from    int               // first row that was not told yet
	waiting bool              // an action must end before the next question
	picks   []func() []Action // of the rows in askPick
	early   []string          // answers that came while waiting
	said    []string          // by the last Step
	prompt  string            // stands at the end, without a line's end
	quarter map[Do]int        // of a long action, told last
	told    map[fleet.ServerID]string
	notice  string // of the run, told last
}

// lineMode is what the next answer is for.
type lineMode int

const (
	askMenu   lineMode = iota // what to do on this step
	askValue                  // of a field
	askRole                   // of a server
	askStep                   // which step to go to
	askLeave                  // whether to leave
	askPick                   // a row of a card
	askFixing                 // what the way to a next attempt asks
)

// tellRows is how many rows are told at once; m tells the next ones.
const tellRows = 20

func newLines() *lines {
	return &lines{shown: -1, quarter: map[Do]int{}, told: map[fleet.ServerID]string{}}
}

// say tells text, line by line. What comes from BMCs and machines is cleaned of
// everything that a terminal would obey.
func (l *lines) say(texts ...string) {
	for _, t := range texts {
		for _, s := range strings.Split(t, "\n") {
			l.said = append(l.said, strings.TrimRight(clean(s), " "))
		}
	}
}

// Said is what the last Step told a person who works with lines. It ends with a
// question that has no line's end, when one is open.
func (a *App) Said() string {
	l := a.lines
	if l == nil {
		return ""
	}
	out := ""
	if len(l.said) > 0 {
		out = strings.Join(l.said, "\n") + "\n"
	}
	return out + clean(l.prompt)
}

// stepLines is Step for a person who works with lines.
func (a *App) stepLines(in Input) []Action {
	l := a.lines
	l.said, l.prompt = nil, ""
	if in.Line != nil {
		if l.waiting {
			return a.early(*in.Line)
		}
		return a.answer(*in.Line)
	}
	acts := a.step(in)
	return append(acts, a.heard(in)...)
}

// heard tells what an Input changed, and asks the next question when it ended
// what was waited for.
func (a *App) heard(in Input) []Action {
	l := a.lines
	switch {
	case in.Progress != nil:
		a.tellProgress(*in.Progress)
	case in.Watched != nil && a.watching():
		a.tellRun()
	case in.Done != nil && l.mode == askFixing:
		if f := a.run.fix; f == nil || f.stage != fixSaving && f.stage != fixReading && f.stage != fixStarting && f.stage != fixLoading {
			a.hub.note = ""
			return a.askFix(nil)
		}
	case in.Done != nil && in.Done.Do == DoLog:
		a.tellEngineLog()
	case in.Done != nil && (in.Done.Do == DoRetry || in.Done.Do == DoEngine || in.Done.Do == DoGather):
		l.say(a.run.note)
	case in.Done != nil && l.waiting && len(a.hub.busy) == 0:
		return a.ended(*in.Done)
	}
	return nil
}

// ended goes on after an action.
func (a *App) ended(d Done) []Action {
	l := a.lines
	l.waiting = false
	a.tellNote()
	if l.mode == askValue && (d.Err == nil || l.field == nil) || l.mode == askRole {
		l.mode = askMenu
	}
	if d.Err == nil && (d.Do == DoFind || d.Do == DoInspect) {
		l.shown = -1 // the step has something new to tell
	}
	if d.Stopped {
		l.mode = askMenu
	}
	for len(l.early) > 0 && !l.waiting {
		first := l.early[0]
		l.early = l.early[1:]
		if acts := a.answer(first); len(acts) > 0 {
			return acts
		}
	}
	if !l.waiting {
		if items := a.hub.items(); len(items) == 1 && items[0].field != nil && d.Do == DoLoad {
			a.tellStep()
			return a.choose(items[0], false) // there is nothing else to do
		}
		a.ask()
	}
	return nil
}

// early takes an answer that came while something was under way.
func (a *App) early(text string) []Action {
	l := a.lines
	for _, do := range []Do{DoFind, DoInspect} {
		if p, busy := a.hub.busy[do]; busy {
			if text = strings.TrimSpace(text); text == "stop" {
				return []Action{{Do: DoCancel}}
			}
			l.say(a.f("Still at it: %d of %d done. Type stop to end it.", p.Done, p.Total))
			return nil
		}
	}
	if len(l.early) < 100 {
		l.early = append(l.early, text)
	}
	return nil
}

// answer takes one line for the question that is open.
func (a *App) answer(text string) []Action {
	l := a.lines
	switch l.mode {
	case askValue:
		return a.answerValue(text)
	case askRole:
		return a.answerRole(strings.TrimSpace(text))
	case askPick:
		return a.answerPick(strings.TrimSpace(text))
	case askFixing:
		return a.answerFix(text)
	case askStep:
		return a.answerStep(strings.TrimSpace(text))
	case askLeave:
		l.mode = askMenu
		if t := strings.ToLower(strings.TrimSpace(text)); t == "y" || t == "yes" || t == "はい" {
			return a.quit()
		}
		a.ask()
		return nil
	}
	if a.followsRun() {
		return a.answerRun(strings.TrimSpace(text))
	}
	return a.answerMenu(strings.ToLower(strings.TrimSpace(text)))
}

// followsRun tells whether the run is what lines are about.
func (a *App) followsRun() bool { return a.options.Attach || a.hub.step == stepRun }

// answerMenu takes a number or a word for a step.
func (a *App) answerMenu(text string) []Action {
	l, h := a.lines, &a.hub
	items := h.items()
	switch text {
	case "?":
		a.tellHelp()
		a.ask()
		return nil
	case "p":
		a.tellProblems()
		a.ask()
		return nil
	case "s":
		return a.offerSteps()
	case "l":
		l.shown = -1
		a.ask()
		return nil
	case "m":
		a.tellItems(false)
		a.ask()
		return nil
	case "q":
		return a.offerLeave()
	case "start":
		for _, it := range items {
			if it.button == startButton {
				return a.choose(it, true)
			}
		}
	case "":
		if at := a.recommended(items); at >= 0 {
			return a.choose(items[at], false)
		}
		a.ask()
		return nil
	}
	if n, err := strconv.Atoi(text); err == nil && n >= 1 && n <= len(items) {
		return a.choose(items[n-1], false)
	}
	l.say(a.f("%q is none of the answers.", text))
	a.ask()
	return nil
}

// choose does what Enter does on an item of the screen. The run starts by its
// word alone.
func (a *App) choose(it item, byWord bool) []Action {
	l, h := a.lines, &a.hub
	h.cursor[h.step] = max(slices.IndexFunc(h.items(), func(x item) bool { return sameItem(x, it) }), 0)
	switch {
	case it.field != nil:
		l.mode, l.field = askValue, it.field
		a.ask()
		return nil
	case it.button == startButton && !byWord:
		l.say(a.t("Type the word start."))
		a.ask()
		return nil
	case it.button != noButton:
		acts := a.push(it.button)
		a.tellCard()
		return a.wait(acts)
	case h.step == stepRoles && it.row < len(h.assignments()):
		l.mode, l.server = askRole, h.assignments()[it.row]
		a.ask()
		return nil
	}
	acts := a.useRow(it.row)
	a.tellCard()
	return a.wait(acts)
}

func sameItem(x, y item) bool {
	if x.field != nil && y.field != nil {
		return x.field.path == y.field.path
	}
	return (x.field == nil) == (y.field == nil) && x.button == y.button && x.row == y.row
}

// wait lets the next question wait for actions, where there are any.
func (a *App) wait(acts []Action) []Action {
	l := a.lines
	if len(a.hub.busy) > 0 {
		l.waiting = true
		l.quarter = map[Do]int{}
		if text := a.hubMessage(); text != "" && (len(acts) == 0 || acts[0].Do == DoApply) {
			l.say(text)
		}
		return acts
	}
	a.tellNote()
	a.ask()
	return acts
}

// answerValue takes what was typed for a field.
func (a *App) answerValue(text string) []Action {
	l, h, f := a.lines, &a.hub, a.lines.field
	trimmed := strings.TrimSpace(text)
	switch {
	case trimmed == "?":
		l.say(a.t(f.help), a.f("In the site file: %s", f.path))
		a.ask()
		return nil
	case trimmed == "" && a.offered(f) != "":
		trimmed = a.offered(f)
	case trimmed == "":
		l.mode = askMenu
		delete(h.wrong, f.path)
		delete(h.drafts, f.path)
		a.ask()
		return nil
	case trimmed == "-" && f.kind != secret:
		trimmed = ""
	case f.kind == choice && !slices.Contains(f.options, trimmed):
		l.say(a.f("%q is none of the answers.", trimmed))
		a.ask()
		return nil
	}
	if f.kind == secret {
		trimmed = text // blanks belong to it
	}
	acts := a.accept(f, trimmed)
	if h.wrong[f.path] == "" {
		l.mode = askMenu
		if len(acts) > 0 {
			l.mode = askValue // until it is saved
		}
	}
	return a.wait(acts)
}

// answerRole takes the role of one server.
func (a *App) answerRole(text string) []Action {
	l := a.lines
	var value any
	switch {
	case text == "":
		l.mode = askMenu
		a.ask()
		return nil
	case text == "-":
	case slices.Contains(roleNames(), text):
		value = text
	default:
		l.say(a.f("%q is none of the answers.", text))
		a.ask()
		return nil
	}
	return a.wait(a.hub.start(DoOverride, Action{Do: DoOverride, Server: l.server.Server, Path: "role", Value: value}))
}

func roleNames() []string {
	return []string{string(fleet.ControlPlane), string(fleet.Worker), string(fleet.SingleNode), string(fleet.Excluded)}
}

func (a *App) offerSteps() []Action {
	a.lines.mode = askStep
	a.ask()
	return nil
}

func (a *App) offerLeave() []Action {
	a.lines.mode = askLeave
	a.ask()
	return nil
}

// answerStep goes to a step.
func (a *App) answerStep(text string) []Action {
	l := a.lines
	l.mode = askMenu
	if n, err := strconv.Atoi(text); err == nil && n >= 1 && n <= len(steps()) {
		a.hub.go_(step(n - 1))
		a.hub.rail, l.shown = false, -1
		acts := a.look()
		a.ask()
		return acts
	} else if text != "" {
		l.say(a.f("%q is none of the answers.", text))
	}
	a.ask()
	return nil
}
