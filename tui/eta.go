package tui

import (
	"slices"
	"time"

	"metalrise.dev/fleet"
)

// Leg is a stretch of a server's way whose time is learnt from earlier runs.
type Leg string

const (
	LegBoot  Leg = "boot"  // from staged until its live system calls
	LegWrite Leg = "write" // until the disk is written
	LegStart Leg = "start" // until the installed system reports itself
	LegJoin  Leg = "join"  // until the cluster shows it as the planned node
	LegReady Leg = "ready" // until every check of the node is true
)

// legs gives all stretches of a way, in order.
func legs(cluster bool) []Leg {
	out := []Leg{LegBoot, LegWrite, LegStart}
	if cluster {
		out = append(out, LegJoin, LegReady)
	}
	return out
}

// maxTimes bounds how many times are kept of one leg and model: the newest say
// most about the firmware that runs now.
const maxTimes = 50

// Pace is how long servers of each model took in earlier runs.
type Pace struct {
	// Models names the model of each server, as its facts tell.
	Models map[fleet.ServerID]string `json:"models,omitempty"`
	// Took holds the times of each leg by model, oldest first.
	Took map[string]map[Leg][]time.Duration `json:"took,omitempty"`
}

// Learn adds what a journal tells about the servers of Models. Events of the
// plan named by without are left out: the run screen has them already.
func (p *Pace) Learn(events []fleet.Event, without string) {
	s := newStopwatch()
	for _, e := range events {
		if e.Plan == "" || e.Plan == without {
			continue
		}
		if leg, took, ok := s.add(e); ok {
			p.note(p.Models[e.Server], leg, took)
		}
	}
}

func (p *Pace) note(model string, leg Leg, took time.Duration) {
	if model == "" || took < 0 {
		return
	}
	if p.Took == nil {
		p.Took = map[string]map[Leg][]time.Duration{}
	}
	if p.Took[model] == nil {
		p.Took[model] = map[Leg][]time.Duration{}
	}
	all := append(p.Took[model][leg], took)
	p.Took[model][leg] = all[max(len(all)-maxTimes, 0):]
}

// usual is the median of what a leg took; false when no server of the model went
// it before.
func (p *Pace) usual(model string, leg Leg) (time.Duration, bool) {
	all := slices.Clone(p.Took[model][leg])
	if len(all) == 0 {
		return 0, false
	}
	slices.Sort(all)
	return all[len(all)/2], true
}

// stopwatch follows servers along their legs.
type stopwatch struct{ open map[track]lap }

type track struct {
	server fleet.ServerID
	plan   string
}

type lap struct {
	leg   Leg
	since time.Time
}

func newStopwatch() *stopwatch { return &stopwatch{map[track]lap{}} }

// add takes an event and tells which leg ended with it. What was interrupted by
// a hold is not counted: it tells about people, not about servers.
func (s *stopwatch) add(e fleet.Event) (leg Leg, took time.Duration, ok bool) {
	key := track{e.Server, e.Plan}
	switch e.Action {
	case fleet.ActHold, fleet.ActRetry, fleet.ActWithdraw, fleet.ActFinish:
		delete(s.open, key)
		return "", 0, false
	}
	ends, next := Leg(""), Leg("")
	switch e.Action {
	case fleet.ActStage:
		next = LegBoot
	case fleet.ActHello:
		ends, next = LegBoot, LegWrite
	case fleet.ActWrite:
		ends, next = LegWrite, LegStart
	case fleet.ActArrive:
		ends, next = LegStart, LegJoin
	case fleet.ActAdmit:
		ends, next = LegJoin, LegReady
	case fleet.ActReady:
		ends = LegReady
	default:
		return "", 0, false
	}
	if e.Server == "" || e.Edge != fleet.Ended || e.Outcome != fleet.OK && e.Outcome != fleet.Adopted {
		return "", 0, false
	}
	was, running := s.open[key]
	delete(s.open, key)
	if next != "" {
		s.open[key] = lap{next, e.At}
	}
	if running && was.leg == ends {
		return ends, e.At.Sub(was.since), true
	}
	return "", 0, false
}

// left estimates how long a server still needs; false when no earlier run tells.
func (p *Pace) left(s fleet.Status, since time.Time, cluster bool, now time.Time) (time.Duration, bool) {
	if s.Condition == fleet.Settled {
		return 0, true
	}
	all := legs(cluster)
	at := min(legOf(s), len(all)-1)
	var sum time.Duration
	for i, leg := range all[at:] {
		usual, ok := p.usual(p.Models[s.Server], leg)
		if !ok {
			return 0, false
		}
		switch {
		case i > 0:
		case leg == LegWrite && s.Total > 0:
			usual = time.Duration(float64(usual) * (1 - float64(min(s.Done, s.Total))/float64(s.Total)))
		case !since.IsZero() && s.Phase != fleet.Planned:
			usual = max(usual-now.Sub(since), usual/10) // late: it may come any moment
		}
		sum += usual
	}
	return sum, true
}

// legOf tells on which leg a server is.
func legOf(s fleet.Status) int {
	switch s.Phase {
	case fleet.Booted:
		if s.Total > 0 && s.Done >= s.Total {
			return 2
		}
		return 1
	case fleet.Installed:
		return 3
	case fleet.Joined, fleet.Ready:
		return 4
	}
	return 0
}

// estimate is how long until no server moves any more: the slowest one counts,
// and held ones do not, since nobody knows when a person comes.
func (r *run) estimate(now time.Time) (time.Duration, bool) {
	var longest time.Duration
	moving := false
	for _, s := range r.view.Servers {
		if s.Condition == fleet.Settled || s.Condition == fleet.Held {
			continue
		}
		left, ok := r.pace.left(s, r.watch.open[track{s.Server, r.view.Plan}].since, r.view.Cluster != nil, now)
		if !ok {
			return 0, false
		}
		moving = true
		longest = max(longest, left)
	}
	return longest, moving
}
