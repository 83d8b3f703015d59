package provision

import (
	"context"
	"errors"
	"fmt"

	"metalrise.dev/fleet"
)

// removing tells whether a removal is under way that can still be given up: the
// cluster has not forgotten the server yet, and nobody was told to erase its
// disk. A server that was forced out, or is no node, may be erased before it is
// forgotten; given up then, it would count as installed and have an empty disk.
func (t *Track) removing() bool {
	n := &t.Node
	_, erasing := t.Marks[fleet.ActErase]
	return n.Removal != nil && !n.Left && !n.Removed && !n.Erased && !erasing
}

// giveUpRemoval is what a consent that is taken back does to a removal. The
// server stays what it was before somebody asked for it.
func (t *Track) giveUpRemoval() {
	if !t.removing() {
		return
	}
	t.Node.Removal, t.Hold, t.Pending = nil, nil, nil
	t.Marks = map[fleet.Action]Mark{}
}

// leavesCordoned lists the nodes of a run that a removal cordoned, should it be
// given up now.
func (r *run) leavesCordoned() []fleet.Assignment {
	var out []fleet.Assignment
	for _, id := range r.order {
		w := r.servers[id]
		w.mu.Lock()
		t := w.track
		if t.removing() && !t.Node.Removal.Force && (t.Node.Joined || t.Node.Kept) && t.Node.Plan != nil {
			out = append(out, w.plan)
		}
		w.mu.Unlock()
	}
	return out
}

// undrain lets pods on the nodes again whose removal was given up with the
// consent.
func (e *Engine) undrain(ctx context.Context, r *run) error {
	nodes := r.leavesCordoned()
	if len(nodes) == 0 {
		return nil
	}
	ctx, done := context.WithTimeout(ctx, e.Limits.ActionTimeout)
	defer done()
	client, release, err := e.client(r)
	if err != nil {
		return err
	}
	defer r.cluster.reconnect()
	defer release()
	var failed error
	for _, a := range nodes {
		if err := client.Undrain(ctx, a); err != nil {
			failed = errors.Join(failed, fmt.Errorf("the consent was taken back, but node %s may still be cordoned: %w", a.Node.Name, err))
		}
	}
	return failed
}

// Cordoned lists, from a journal alone, the nodes that a removal under way
// keeps pods off. Whoever takes the consent back where no engine runs lets pods
// on them again.
func Cordoned(ctx context.Context, j Journal, a Archive) ([]fleet.Assignment, error) {
	events, err := allEvents(ctx, j)
	if err != nil {
		return nil, err
	}
	id := consented(events)
	if id == "" {
		return nil, nil
	}
	p, ok, err := a.Plan(ctx, id)
	if err != nil || !ok {
		return nil, err
	}
	e := &Engine{Config: Config{Limits: Limits{}.withDefaults()}}
	return e.newRun(p, events).leavesCordoned(), nil
}
