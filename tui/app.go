package tui

import (
	"strings"
	"time"

	"metalrise.dev/fleet"
)

// Options is how an App is made; it is the first line of a record.
type Options struct {
	Language Language `json:"language"`
	Attach   bool     `json:"attach"`           // the run screen alone
	Title    string   `json:"title,omitempty"`  // the site's name or file, for the first line
	Sheet    *Sheet   `json:"sheet,omitempty"`  // what is known at the start
	Replay   bool     `json:"replay,omitempty"` // says so on the screen
	// Lines shows questions and answers instead of screens, for screen readers.
	Lines bool `json:"lines,omitempty"`
}

// App is all that the screens know. It changes by Step alone.
type App struct {
	words
	options Options
	width   int
	height  int
	now     time.Time
	run     run
	hub     hub
	popup   *popup
	lines   *lines // nil on screens
	leaving bool
}

// Smallest size that screens are made for.
const (
	minWidth  = 80
	minHeight = 24
)

// New makes an App as it is before the first Input.
func New(o Options) *App {
	a := &App{words: newWords(o.Language), options: o, width: minWidth, height: minHeight}
	a.run = newRun()
	a.hub = newHub()
	if o.Lines {
		a.lines = newLines()
	}
	if o.Sheet != nil {
		a.hub.take(*o.Sheet)
	}
	return a
}

// Begin is what is to be done first.
func (a *App) Begin() []Action {
	if a.options.Attach {
		if a.lines != nil {
			a.askRun()
		}
		a.run.asked = true
		return []Action{{Do: DoWatch}}
	}
	if a.lines != nil {
		a.lines.waiting = true
	}
	return a.hub.start(DoLoad, Action{Do: DoLoad})
}

// Secret tells whether what is typed now must not be shown or written down.
func (a *App) Secret() bool {
	if l := a.lines; l != nil {
		return l.mode == askValue && l.field.kind == secret || l.mode == askFixing && a.run.fix != nil && a.run.fix.secret()
	}
	if a.run.fix != nil {
		return a.popup == nil && a.run.fix.secret()
	}
	return !a.options.Attach && a.popup == nil && a.hub.secret()
}

// typingText tells whether letters are typed into something now.
func (a *App) typingText() bool {
	if a.onRun() {
		return a.run.typing()
	}
	return a.hub.typing() || a.hub.secret()
}

// onRun tells whether the keys go to the run screen.
func (a *App) onRun() bool { return a.options.Attach || a.hub.step == stepRun && !a.hub.rail }

// Step takes one Input and tells what is to be done because of it.
func (a *App) Step(in Input) []Action {
	if in.At.After(a.now) {
		a.now = in.At
	}
	if a.lines != nil {
		return a.stepLines(in)
	}
	return a.step(in)
}

// step is Step once the time is known.
func (a *App) step(in Input) []Action {
	switch {
	case in.Size != nil:
		a.width, a.height = max(in.Size.Width, 0), max(in.Size.Height, 0)
	case in.Watched != nil:
		return a.watched(*in.Watched)
	case in.Progress != nil:
		a.hub.progress(*in.Progress)
	case in.Done != nil:
		return a.done(*in.Done)
	case in.Key != "" || in.Text != "":
		return a.press(in)
	}
	return nil
}

// done takes the end of an action.
func (a *App) done(d Done) []Action {
	switch d.Do {
	case DoRetry, DoEngine, DoPace, DoLog, DoGather, DoRest:
		return a.runDone(d)
	case DoQuit, DoWatch, DoCancel:
		return nil
	}
	next := a.hub.done(a, d)
	if a.run.fix != nil {
		return append(next, a.fixDone(d)...)
	}
	if d.Do == DoApply && d.Err == nil {
		a.hub.go_(stepRun)
		a.run.reset()
		next = append(next, a.look()...)
	}
	return next
}

// watched takes a look at the run and asks for the next one while it is shown.
func (a *App) watched(w Watched) []Action {
	before := a.run.view.Plan
	a.run.take(w)
	a.hub.nodes = len(a.run.view.Servers)
	if a.leaving || !a.watching() {
		a.run.asked = false
		return nil
	}
	a.run.asked = true
	out := []Action{{Do: DoWatch, After: a.run.after}}
	if a.run.view.Plan != before {
		out = append(out, Action{Do: DoPace})
	}
	return out
}

func (a *App) watching() bool {
	return a.options.Attach || a.hub.step == stepRun || a.hub.step == stepHandOff
}

// press is for keys and text.
func (a *App) press(in Input) []Action {
	if a.popup != nil {
		return a.pressPopup(in)
	}
	key := in.Key
	typing := a.typingText()
	switch {
	case key == "ctrl+c":
		a.popup = a.askQuit()
		return nil
	case key == "f1", in.Text == "?" && !typing:
		a.popup = a.help()
		return nil
	case key == "f2" && !a.options.Attach:
		a.popup = a.problems()
		return nil
	}
	if a.onRun() {
		return a.pressRun(in)
	}
	return a.pressHub(in)
}

// quit ends the view.
func (a *App) quit() []Action {
	a.leaving = true
	return []Action{{Do: DoQuit}}
}

// View draws the screen; of a person who works with lines, what the last Step
// told.
func (a *App) View() Picture {
	if a.lines != nil {
		var p Picture
		for _, s := range strings.Split(strings.TrimSuffix(a.Said(), "\n"), "\n") {
			p.Lines = append(p.Lines, line(Plain, s))
		}
		return p
	}
	if a.width < 1 || a.height < 1 {
		return Picture{}
	}
	if a.width < minWidth || a.height < minHeight {
		return a.tooSmall()
	}
	var p Picture
	if a.options.Attach {
		p = a.viewRun()
	} else {
		p = a.viewHub()
	}
	if a.popup != nil {
		p = a.viewPopup()
	}
	for len(p.Lines) < a.height {
		p.Lines = append(p.Lines, nil)
	}
	p.Lines, p.Width = p.Lines[:a.height], a.width
	for i := range p.Lines {
		p.Lines[i] = p.Lines[i].fit(a.width)
	}
	return p
}

func (a *App) tooSmall() Picture {
	var p Picture
	text := a.f("This terminal is %d x %d; metalrise needs %d x %d. Make it larger; nothing is lost.", a.width, a.height, minWidth, minHeight)
	for i, l := range wrap(text, a.width) {
		if i < a.height {
			p.Lines = append(p.Lines, line(Warn, l).fit(a.width))
		}
	}
	return p
}

// causeText is a fault on one line.
func causeText(c *fleet.Cause) string {
	out := string(c.Code)
	if c.Code == fleet.CodeUnexpected {
		out = ""
	}
	for i, s := range c.Chain {
		switch {
		case i > 0:
			out += ": "
		case out != "":
			out += " "
		}
		out += s
	}
	return out
}
