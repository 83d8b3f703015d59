package provision

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"metalrise.dev/fleet"
)

// Standing is what earlier runs left in place: the plan that was applied last,
// also if the consent was taken back since, and which of its servers are
// installed or part of the cluster.
type Standing struct {
	Plan  fleet.Plan
	Done  map[fleet.ServerID]bool
	Begun bool // its cluster was begun
}

// StandingOf reads that from a journal; false when no plan was ever applied.
func StandingOf(ctx context.Context, j Journal, a Archive) (Standing, bool, error) {
	s := Standing{Done: map[fleet.ServerID]bool{}}
	events, err := allEvents(ctx, j)
	if err != nil {
		return s, false, err
	}
	id := ""
	for _, ev := range events {
		if ev.Action == fleet.ActConsent {
			id = ev.Plan
		}
	}
	if id == "" {
		return s, false, nil
	}
	p, ok, err := a.Plan(ctx, id)
	if err != nil || !ok {
		return s, false, fmt.Errorf("plan %s of the journal: %w", id, errors.Join(err, errors.New("not stored")))
	}
	s.Plan = p
	e := &Engine{Config: Config{Limits: Limits{}.withDefaults()}, started: time.Now()}
	for id, w := range e.newRun(p, events).servers {
		n := &w.track.Node
		s.Done[id] = !n.Removed && !n.Left && (n.Kept || n.Joined || w.track.Settled)
		s.Begun = s.Begun || n.Kept || n.Begun[fleet.ActBegin] > 0
	}
	return s, true, nil
}

// Scratch is what fleet.Plan.FromScratch must be to have all of this forgotten.
func (s Standing) Scratch(at time.Time) string {
	return s.Plan.ID + "@" + at.UTC().Format(time.RFC3339Nano)
}

// fits makes sure that a plan knows what is installed now: since it was made
// another one may have been applied, or a server taken away.
func (s Standing) fits(p fleet.Plan) error {
	if p.ID == s.Plan.ID { // it is only continued
		return nil
	}
	stale := func(id fleet.ServerID, what string) error {
		return fleet.NewFault(fleet.CodePlanStale, fleet.Conflict, nil, "plan %.12s: server %s %s since it was made", p.ID, id, what)
	}
	forgets := p.FromScratch != "" && strings.HasPrefix(p.FromScratch, s.Plan.ID+"@")
	for _, id := range slices.Sorted(maps.Keys(s.Done)) {
		a, known := p.Assignment(id)
		switch keeps := known && a.Kept != ""; {
		case s.Done[id] && !keeps && !forgets:
			return stale(id, "was installed")
		case !s.Done[id] && keeps:
			return stale(id, "was taken away")
		}
	}
	for _, a := range p.Assignments {
		if _, known := s.Done[a.Server]; a.Kept != "" && !known {
			return stale(a.Server, "was taken away")
		}
	}
	return nil
}
