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
	mine   map[fleet.ServerID][]fleet.Event // of the plan's events, those of each server
	names  map[fleet.ServerID]string
	after  int64
	began  time.Time // of the plan's consent
	last   time.Time // of the plan's last event
	pace   Pace
	watch  *stopwatch
	cursor int
	server fleet.ServerID // where the cursor is, also when rows move
	shown  fleet.ServerID // whose steps are drawn: the cursor's, once it rests
	moved  time.Time      // when the cursor last went to another server
	page   runPage
	scroll int
	note   string
	log    journalPage
	fix    *fix
	engine bool // it was seen running at least once
	gone   int  // how often it was then seen to be gone
}

// runPage is what the run screen shows.
type runPage int

const (
	pageList runPage = iota // rows above, the chosen one's steps below
	pageCard                // the chosen server alone
	pageLog                 // the journal, or the engine's log
)

// maxEvents bounds what is remembered: a server's whole way takes about 30.
const maxEvents = 40000

func newRun() run {
	return run{log: journalPage{follow: true}, mine: map[fleet.ServerID][]fleet.Event{}, names: map[fleet.ServerID]string{}, watch: newStopwatch()}
}

// reset forgets all but that a look may be under way.
func (r *run) reset() {
	asked := r.asked
	*r = newRun()
	r.asked = asked
}

// take adds what one look gave.
func (r *run) take(w Watched) {
	r.lost = w.Err
	if w.Err != nil {
		return
	}
	other := r.view.Plan != w.Overview.Plan
	if r.engine && !w.Overview.Engine && r.view.Engine {
		r.gone++
	}
	r.engine = r.engine || w.Overview.Engine
	r.view, r.seen = w.Overview, true
	known := len(r.events)
	for _, e := range w.Events {
		if e.Seq > r.after {
			r.after = e.Seq
			r.events = append(r.events, e)
		}
	}
	fresh := r.events[known:]
	if over := len(r.events) - maxEvents; over > 0 {
		r.events = append([]fleet.Event(nil), r.events[over:]...)
		other = true
	}
	if other { // another plan, or events were forgotten: all is counted anew
		r.began, r.last, r.watch = time.Time{}, time.Time{}, newStopwatch()
		clear(r.mine)
		fresh = r.events
	}
	for _, e := range fresh {
		r.sort(e)
	}
	clear(r.names)
	for _, s := range r.view.Servers {
		r.names[s.Server] = name(s)
	}
	r.find()
}

// sort sorts one event in.
func (r *run) sort(e fleet.Event) {
	if e.Plan == "" || e.Plan != r.view.Plan {
		return
	}
	r.clock(e)
	if e.Server == "" {
		return
	}
	if e.Edge != fleet.Progressed {
		r.mine[e.Server] = append(r.mine[e.Server], e)
	}
	if leg, took, ok := r.watch.add(e); ok {
		r.pace.note(r.pace.Models[e.Server], leg, took)
	}
}

// clock finds when the run of this plan began, and when something last happened.
func (r *run) clock(e fleet.Event) {
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
	r.shown = r.server
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
func part(s fleet.Status, cluster bool) float64 {
	if s.Condition == fleet.Settled {
		return 1
	}
	whole := 1.0
	if cluster {
		whole = 0.7 // the rest is for becoming a node
	}
	switch s.Phase {
	case fleet.Staged:
		return 0.05 * whole
	case fleet.Booted:
		if s.Total > 0 {
			return whole * (0.35 + 0.4*float64(min(s.Done, s.Total))/float64(s.Total))
		}
		return 0.35 * whole
	case fleet.Installed:
		return whole
	case fleet.Joined:
		return 0.9 + 0.1*partOf(s.Checks)
	case fleet.Ready:
		return 1
	}
	return 0
}

// partOf is the share of checks that are true.
func partOf(checks []fleet.Check) float64 {
	if len(checks) == 0 {
		return 0
	}
	n := 0
	for _, c := range checks {
		if c.OK {
			n++
		}
	}
	return float64(n) / float64(len(checks))
}

// whole is part of all servers together.
func (r *run) whole() float64 {
	if len(r.view.Servers) == 0 {
		return 0
	}
	sum := 0.0
	for _, s := range r.view.Servers {
		sum += part(s, r.view.Cluster != nil)
	}
	return sum / float64(len(r.view.Servers))
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
