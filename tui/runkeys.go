package tui

import (
	"time"

	"metalrise.dev/fleet"
)

// rest is how long the cursor stays on a server before its steps are drawn.
// Who goes through a long table, or over a slow line, is not held up by them.
const rest = 300 * time.Millisecond

// pressRun is for the keys of the run screen.
func (a *App) pressRun(in Input) []Action {
	r := &a.run
	switch {
	case r.fix != nil:
		return a.pressFix(in)
	case r.page == pageLog:
		return a.pressLog(in)
	}
	r.note = ""
	if by, ok := moves()[in.Key]; ok {
		return a.moveRun(in.Key, by)
	}
	switch in.Key {
	case "enter", "right":
		if r.page == pageList {
			r.page, r.scroll, r.shown = pageCard, 0, r.server
		} else if in.Key == "enter" {
			r.page = pageList
		}
	case "esc", "left":
		if r.page == pageList && !a.options.Attach {
			a.hub.rail = true
		}
		r.page = pageList
	case "f8":
		return a.openLog()
	case "f9":
		return a.gather()
	case "f10":
		return a.quit()
	}
	return a.letter(in.Text)
}

// letter is for the keys that are letters.
func (a *App) letter(text string) []Action {
	r := &a.run
	switch text {
	case "l":
		return a.openLog()
	case "g":
		return a.gather()
	case "h":
		return a.nextHeld()
	case "d":
		return a.quit()
	case "q":
		a.popup = a.askQuit()
	case "e":
		if r.seen && !r.view.Engine && !r.view.Quiet {
			r.note = a.t("starting the engine")
			return []Action{{Do: DoEngine}}
		}
		r.note = a.t("the engine needs no start now")
	case "r", "c", "b", "x", "o":
		s, ok := r.chosen()
		if !ok {
			r.note = a.t("there is no server here")
			return nil
		}
		r.shown = r.server
		return a.forServer(text, s)
	}
	return nil
}

// forServer is for the keys that concern the chosen server.
func (a *App) forServer(key string, s fleet.Status) []Action {
	r := &a.run
	switch key {
	case "r":
		if p := r.view.Stack; s.Condition != fleet.Held && p != nil && !p.Done && r.view.Quiet {
			r.note = a.t("asking for another try of the VM platform")
			return []Action{{Do: DoRetry}}
		}
		if s.Condition != fleet.Held {
			r.note = a.t("only a held server can be given another attempt")
			return nil
		}
		r.note = a.f("asking for another attempt with %s", name(s))
		return []Action{{Do: DoRetry, Server: s.Server}}
	case "c":
		if s.Condition != fleet.Held {
			r.note = a.t("only a held server's values are changed here; the steps of the wizard change all others")
			return nil
		}
		return a.openFix(s, false)
	case "x":
		if s.Condition == fleet.Settled {
			r.note = a.t("this server is done already; excluding it would change nothing")
			return nil
		}
		if phaseAtLeast(s.Phase, fleet.Joined) {
			r.note = a.f("this server is a node already: metalrise node remove %s takes it away", name(s))
			return nil
		}
		return a.openFix(s, true)
	case "b":
		a.popup = a.bootCard(s)
	case "o":
		a.popup = a.consoleCard(s)
	}
	return nil
}

func (a *App) gather() []Action {
	a.run.note = a.t("gathering journal, plan and facts …")
	return []Action{{Do: DoGather}}
}

// runDone takes the end of what the run screen asked for.
func (a *App) runDone(d Done) []Action {
	r := &a.run
	switch {
	case d.Do == DoRest:
		if a.now.Sub(r.moved) >= rest {
			r.shown = r.server
		}
	case d.Do == DoLog:
		r.log.took(a.words, d)
	case d.Do == DoPace:
		if d.Err == nil && d.Pace != nil { // without it there is just no estimate
			r.pace, r.watch = *d.Pace, newStopwatch()
			for _, e := range r.events {
				if e.Plan == r.view.Plan {
					if leg, took, ok := r.watch.add(e); ok {
						r.pace.note(r.pace.Models[e.Server], leg, took)
					}
				}
			}
		}
	case d.Err != nil:
		r.note = a.causeText(d.Err)
		if a.popup == nil && a.lines == nil && width(r.note) > a.width-2 { // too long for its line
			a.popup = a.faultCard(d.Err)
		}
	case d.Do == DoRetry:
		r.note = a.t("another attempt begins")
	case d.Do == DoEngine:
		r.note = a.t("the engine runs again")
	case d.Do == DoGather:
		r.note = a.f("written: %s (no secrets in it)", d.File)
	}
	return nil
}

func moves() map[string]int {
	return map[string]int{"up": -1, "down": 1, "pgup": -10, "pgdown": 10, "home": -1 << 20, "end": 1 << 20, "tab": 1, "shift+tab": -1}
}

// moveRun moves the cursor, or the text of the card.
func (a *App) moveRun(key string, by int) []Action {
	r := &a.run
	if r.page == pageCard {
		if key == "tab" || key == "shift+tab" {
			r.move(by)
			r.scroll, r.shown = 0, r.server
			return nil
		}
		r.scroll = max(r.scroll+by, 0)
		return nil
	}
	return a.goTo(by)
}

// goTo moves the cursor to another server. Its steps are drawn once the cursor
// rests.
func (a *App) goTo(by int) []Action {
	r := &a.run
	before := r.server
	r.move(by)
	if r.server == before {
		return nil
	}
	r.moved = a.now
	return []Action{{Do: DoRest}}
}

// nextHeld moves to the next server that needs a person.
func (a *App) nextHeld() []Action {
	r := &a.run
	n := len(r.view.Servers)
	for i := 1; i <= n; i++ {
		at := (r.cursor + i) % n
		if r.view.Servers[at].Condition == fleet.Held {
			r.scroll = 0
			acts := a.goTo(at - r.cursor)
			if r.page == pageCard {
				r.shown = r.server
			}
			return acts
		}
	}
	r.note = a.t("no server is held")
	return nil
}

// typing tells whether letters go into a text.
func (r *run) typing() bool {
	return r.fix != nil && r.fix.stage == fixTyping || r.fix != nil && r.fix.stage == fixConsent || r.fix == nil && r.page == pageLog && r.log.asking
}
