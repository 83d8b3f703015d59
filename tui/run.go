package tui

import (
	"fmt"
	"strings"
	"time"

	"metalrise.dev/fleet"
)

// run is the state of the run screen.
type run struct {
	asked  bool // a look is under way
	seen   bool // one came
	view   fleet.Overview
	lost   *fleet.Cause // why the last look failed
	events []fleet.Event
	after  int64
	began  time.Time // of the plan's consent
	last   time.Time // of the plan's last event
	cursor int
	server fleet.ServerID // where the cursor is, also when rows move
	page   runPage
	scroll int
	follow bool // the log stays at its end
	note   string
	engine bool // it was seen running at least once
	gone   int  // how often it was then seen to be gone
}

// runPage is what the run screen shows.
type runPage int

const (
	pageList runPage = iota // rows above, the chosen one's steps below
	pageCard                // the chosen server alone
	pageLog                 // all events
)

// maxEvents bounds what is remembered: a server's whole way takes about 30.
const maxEvents = 40000

func (r *run) reset() {
	*r = run{follow: true}
}

// take adds what one look gave.
func (r *run) take(w Watched) {
	r.lost = w.Err
	if w.Err != nil {
		return
	}
	if r.view.Plan != w.Overview.Plan {
		r.began, r.last = time.Time{}, time.Time{}
	}
	if r.engine && !w.Overview.Engine && r.view.Engine {
		r.gone++
	}
	r.engine = r.engine || w.Overview.Engine
	r.view, r.seen = w.Overview, true
	for _, e := range w.Events {
		if e.Seq > r.after {
			r.after = e.Seq
			r.events = append(r.events, e)
		}
	}
	if over := len(r.events) - maxEvents; over > 0 {
		r.events = append([]fleet.Event(nil), r.events[over:]...)
	}
	for _, e := range r.events[max(len(r.events)-len(w.Events), 0):] {
		r.clock(e)
	}
	if r.began.IsZero() {
		for _, e := range r.events {
			r.clock(e)
		}
	}
	r.find()
}

// clock finds when the run of this plan began, and when something last happened.
func (r *run) clock(e fleet.Event) {
	if e.Plan == "" || e.Plan != r.view.Plan {
		return
	}
	if e.Action == fleet.ActConsent && r.began.IsZero() {
		r.began = e.At
	}
	if e.Action != fleet.ActPlan && e.At.After(r.last) {
		r.last = e.At
	}
}

// find keeps the cursor on its server.
func (r *run) find() {
	for i, s := range r.view.Servers {
		if s.Server == r.server {
			r.cursor = i
			return
		}
	}
	r.move(0)
}

func (r *run) move(by int) {
	r.cursor = max(min(r.cursor+by, len(r.view.Servers)-1), 0)
	if r.cursor < len(r.view.Servers) {
		r.server = r.view.Servers[r.cursor].Server
	}
}

func (r *run) chosen() (fleet.Status, bool) {
	if r.cursor < len(r.view.Servers) {
		return r.view.Servers[r.cursor], true
	}
	return fleet.Status{}, false
}

func (r *run) answered(w words, d Done) {
	switch {
	case d.Err != nil:
		r.note = causeText(d.Err)
	case d.Do == DoRetry:
		r.note = w.t("another attempt begins")
	case d.Do == DoEngine:
		r.note = w.t("the engine runs again")
	}
}

// count tells how many servers are done and how many held.
func (r *run) count() (settled, held int) {
	for _, s := range r.view.Servers {
		switch s.Condition {
		case fleet.Settled:
			settled++
		case fleet.Held:
			held++
		}
	}
	return settled, held
}

// part is how much of a server's way is behind it, between 0 and 1. The shares
// are those that the phases take on real servers: booting and writing take the
// most.
func part(s fleet.Status) float64 {
	if s.Condition == fleet.Settled {
		return 1
	}
	switch s.Phase {
	case fleet.Staged:
		return 0.05
	case fleet.Booted:
		if s.Total > 0 {
			return 0.35 + 0.4*float64(min(s.Done, s.Total))/float64(s.Total)
		}
		return 0.35
	case fleet.Installed, fleet.Joined, fleet.Ready:
		return 1
	}
	return 0
}

// whole is part of all servers together.
func (r *run) whole() float64 {
	if len(r.view.Servers) == 0 {
		return 0
	}
	sum := 0.0
	for _, s := range r.view.Servers {
		sum += part(s)
	}
	return sum / float64(len(r.view.Servers))
}

// pressRun is for the keys of the run screen.
func (a *App) pressRun(in Input) []Action {
	r := &a.run
	r.note = ""
	if by, ok := moves()[in.Key]; ok {
		a.scrollRun(in.Key, by)
		return nil
	}
	switch {
	case in.Key == "enter" || in.Key == "right" && r.page == pageList:
		if r.page == pageList {
			r.page, r.scroll = pageCard, 0
		} else {
			r.page = pageList
		}
	case in.Key == "esc" || in.Key == "left":
		if r.page == pageList && !a.options.Attach {
			a.hub.rail = true
		}
		r.page = pageList
	}
	switch in.Text {
	case "l":
		if r.page == pageLog {
			r.page = pageList
		} else {
			r.page, r.follow, r.scroll = pageLog, true, 0
		}
	case "r":
		s, ok := r.chosen()
		if !ok || s.Condition != fleet.Held {
			r.note = a.t("only a held server can be given another attempt")
			return nil
		}
		r.note = a.f("asking for another attempt with %s", name(s))
		return []Action{{Do: DoRetry, Server: s.Server}}
	case "e":
		if r.seen && !r.view.Engine && !r.view.Quiet {
			r.note = a.t("starting the engine")
			return []Action{{Do: DoEngine}}
		}
	case "h":
		a.nextHeld()
	case "d":
		return a.quit()
	case "q":
		a.popup = a.askQuit()
	}
	return nil
}

func moves() map[string]int {
	return map[string]int{"up": -1, "down": 1, "pgup": -10, "pgdown": 10, "home": -1 << 20, "end": 1 << 20, "tab": 1, "shift+tab": -1}
}

// scrollRun moves the cursor, or the text of a page.
func (a *App) scrollRun(key string, by int) {
	r := &a.run
	switch r.page {
	case pageList:
		r.move(by)
	case pageCard:
		if key == "tab" || key == "shift+tab" {
			r.move(by)
			r.scroll = 0
			return
		}
		r.scroll = max(r.scroll+by, 0)
	case pageLog:
		if by < 0 && r.follow {
			r.follow, r.scroll = false, max(len(r.events)-a.logRoom(), 0)
		}
		r.scroll = max(r.scroll+by, 0)
		if by > 0 && r.scroll >= len(r.events)-a.logRoom() {
			r.follow = true
		}
	}
}

// nextHeld moves to the next server that needs a person.
func (a *App) nextHeld() {
	r := &a.run
	n := len(r.view.Servers)
	for i := 1; i <= n; i++ {
		at := (r.cursor + i) % n
		if r.view.Servers[at].Condition == fleet.Held {
			r.move(at - r.cursor)
			return
		}
	}
	r.note = a.t("no server is held")
}

func name(s fleet.Status) string {
	if s.Hostname != "" {
		return s.Hostname
	}
	return string(s.Server)
}

// span writes a duration in at most six letters, coarser as it grows, so that
// a row on a slow line changes seldom.
func span(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

func sizeText(b int64) string {
	units := []string{"B", "kB", "MB", "GB", "TB", "PB"}
	v, i := float64(b), 0
	for v >= 1000 && i < len(units)-1 {
		v, i = v/1000, i+1
	}
	return strings.TrimSuffix(fmt.Sprintf("%.3g", v), ".0") + " " + units[i]
}
