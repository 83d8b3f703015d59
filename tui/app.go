package tui

import (
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
	a.run.follow = true
	a.hub = newHub()
	if o.Sheet != nil {
		a.hub.take(*o.Sheet)
	}
	return a
}

// Begin is what is to be done first.
func (a *App) Begin() []Action {
	if a.options.Attach {
		return []Action{{Do: DoWatch}}
	}
	return a.hub.start(DoLoad, Action{Do: DoLoad})
}

// Secret tells whether what is typed now must not be shown or written down.
func (a *App) Secret() bool { return !a.options.Attach && a.popup == nil && a.hub.secret() }

// Step takes one Input and tells what is to be done because of it.
func (a *App) Step(in Input) []Action {
	if in.At.After(a.now) {
		a.now = in.At
	}
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
	case DoRetry, DoEngine:
		a.run.answered(a.words, d)
		return nil
	case DoQuit, DoWatch, DoCancel:
		return nil
	}
	next := a.hub.done(a, d)
	if d.Do == DoApply && d.Err == nil {
		a.hub.go_(stepRun)
		a.run.reset()
		next = append(next, Action{Do: DoWatch})
	}
	return next
}

// watched takes a look at the run and asks for the next one while it is shown.
func (a *App) watched(w Watched) []Action {
	a.run.take(w)
	if a.leaving || !a.watching() {
		a.run.asked = false
		return nil
	}
	a.run.asked = true
	return []Action{{Do: DoWatch, After: a.run.after}}
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
	typing := !a.options.Attach && (a.hub.typing() || a.hub.secret())
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
	if a.options.Attach || a.hub.step == stepRun && !a.hub.rail {
		return a.pressRun(in)
	}
	return a.pressHub(in)
}

// quit ends the view.
func (a *App) quit() []Action {
	a.leaving = true
	return []Action{{Do: DoQuit}}
}

// View draws the screen.
func (a *App) View() Picture {
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
	p.Lines = p.Lines[:a.height]
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
