package provision

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"metalrise.dev/fleet"
)

// lent is the data of the power events of a server that is switched for a proof.
// They are no part of the server's own way.
type lent struct {
	Proof fleet.Proof `json:"proof"`
}

// foldLent takes in that a proof switched the server, and tells whether the
// event was of that kind.
func (t *Track) foldLent(e fleet.Event) bool {
	if e.Action != fleet.ActPowerOff && e.Action != fleet.ActPowerOn || len(e.Data) == 0 {
		return false
	}
	var l lent
	if json.Unmarshal(e.Data, &l) != nil || l.Proof == "" {
		return false
	}
	t.Since = e.At
	switch {
	case e.Action == fleet.ActPowerOff && e.Edge == fleet.Began:
		t.Lent = &Lent{Proof: l.Proof}
	case e.Action == fleet.ActPowerOn && e.Edge == fleet.Ended && t.Lent != nil:
		if e.Outcome == fleet.OK || e.Outcome == fleet.Adopted {
			t.Lent = nil
			return true
		}
		t.Lent.At, t.Lent.Cause = e.At, e.Cause
		t.Lent.Failures++
	}
	return true
}

// Lent is a server that a proof switched off and that is not on again, as far
// as the journal tells.
type Lent struct {
	Proof    fleet.Proof
	At       time.Time // of the last failed try to switch it on
	Failures int
	Cause    *fleet.Cause
}

// standing is what the VM platform must know of one server.
type standing struct {
	ready, held, stuck, gone bool
	unmet                    []string // of a ready one: what the API misses now
	dark                     *Dark
}

func (w *walker) standing(now time.Time) standing {
	w.mu.Lock()
	defer w.mu.Unlock()
	t, look := w.track, w.lookLocked()
	s := standing{gone: t.Node.Removed || t.Node.Left || t.Node.Removal != nil}
	s.ready = t.Node.Ready && !s.gone
	switch d := Next(t, look, now, w.engine.Limits).(type) {
	case Hold:
		s.held = true
	case Wait:
		s.stuck = d.Stuck
	}
	if s.ready {
		if s.unmet = unmet(look.Cluster.Checks); look.Cluster.Checks == nil {
			s.unmet = []string{"the API does not answer"}
		}
	}
	if l := t.Lent; l != nil {
		s.dark = &Dark{Server: w.plan.Server, Host: w.plan.Hostname, Proof: l.Proof, At: l.At, Failures: l.Failures, Cause: l.Cause}
	}
	return s
}

// lend switches a ready node for a proof, once, or on again after one. It has
// the server's BMC for itself as long as it takes: its walker waits.
func (w *walker) lend(ctx context.Context, to fleet.PowerState, proof fleet.Proof) error {
	w.hands <- struct{}{}
	defer func() { <-w.hands }()
	w.mu.Lock()
	n, was := w.track.Node, w.track.Lent
	w.mu.Unlock()
	switch {
	case w.plan.BMC.IsByHand():
		return fleet.NewFault(fleet.CodeNoBMC, fleet.Unsupported, nil, "server %s has no BMC: nobody can switch it for a proof", w.plan.Server)
	case n.Removal != nil:
		return fleet.NewFault(fleet.CodeFencingFailed, fleet.Conflict, nil, "server %s is being taken away", w.plan.Server)
	case to == fleet.PowerOff && !n.Ready:
		return fleet.NewFault(fleet.CodeFencingFailed, fleet.Conflict, nil, "server %s is not a ready node", w.plan.Server)
	case was != nil:
		proof = was.Proof
	}
	data, err := json.Marshal(lent{proof})
	if err != nil {
		return err
	}
	if !w.engine.seats.take(ctx, underWay) {
		return ctx.Err()
	}
	defer w.engine.seats.give()
	action, why := fleet.ActPowerOff, "for the proof "+string(proof)+"; it is switched on again"
	if to == fleet.PowerOn {
		action, why = fleet.ActPowerOn, "the proof "+string(proof)+" is over"
	}
	if !w.record(ctx, fleet.Event{Action: action, Edge: fleet.Began, Note: why, Data: data}) {
		return ctx.Err()
	}
	outcome, err := w.turn(ctx, to)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	e := fleet.Event{Action: action, Edge: fleet.Ended, Outcome: outcome, Data: data, Cause: fleet.CauseOf(err)}
	if !w.record(ctx, e) {
		return ctx.Err()
	}
	return err
}

// turn switches the planned server and no other one. Where the answer was lost
// it looks what became of it.
func (w *walker) turn(ctx context.Context, to fleet.PowerState) (fleet.Outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, w.engine.Limits.ActionTimeout)
	defer cancel()
	look := func() (BMC, Sight, error) {
		bmc, err := w.engine.BMCs.Open(ctx, w.plan.BMC)
		if err != nil {
			return nil, Sight{}, fleet.NewFault(fleet.CodeOf(err), uncertainToTransient(err), err, "log in to BMC %s", w.plan.BMC.Address)
		}
		s, err := bmc.Look(ctx)
		if err == nil && !w.plan.Identity.Match(s.Identity) {
			err = mismatch(w.plan.Identity, s.Identity)
		}
		return bmc, s, err
	}
	bmc, s, err := look()
	if bmc != nil {
		defer bmc.Close()
	}
	switch {
	case err != nil:
		return fleet.Failed, err
	case s.Power == to:
		return fleet.Adopted, nil
	}
	if err = bmc.Power(ctx, to); err == nil {
		return fleet.OK, nil
	}
	if fleet.KindOf(err) != fleet.UnsureKind {
		return fleet.Failed, err
	}
	again, s, lookErr := look()
	if again != nil {
		defer again.Close()
	}
	if lookErr == nil && s.Power == to {
		return fleet.Adopted, nil
	}
	return fleet.Uncertain, err
}

// SwitchedOff lists, from a journal alone, the hosts that a proof switched off
// and that are not on again: only an engine that runs does that.
func SwitchedOff(ctx context.Context, j Journal, a Archive) ([]string, error) {
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
	var out []string
	r := e.newRun(p, events)
	for _, id := range r.order {
		if w := r.servers[id]; w.track.Lent != nil {
			out = append(out, w.plan.Hostname)
		}
	}
	return out, nil
}

// uncertainToTransient is for a call that cannot have done anything.
func uncertainToTransient(err error) fleet.Kind {
	if k := fleet.KindOf(err); k != fleet.UnsureKind {
		return k
	}
	return fleet.Transient
}

// fencer lets a proof switch nodes.
type fencer struct {
	p     *platform
	proof fleet.Proof
}

func (f fencer) Off(ctx context.Context, node string) error {
	w, err := f.server(node)
	if err != nil {
		return err
	}
	if err := f.survives(w); err != nil {
		return err
	}
	return f.try(ctx, w, fleet.PowerOff)
}

func (f fencer) On(ctx context.Context, node string) error {
	w, err := f.server(node)
	if err != nil {
		return err
	}
	return f.try(ctx, w, fleet.PowerOn)
}

func (f fencer) server(node string) (*walker, error) {
	for _, w := range f.p.run.servers {
		if w.plan.Node != nil && w.plan.Node.Name == node {
			return w, nil
		}
	}
	return nil, fleet.NewFault(fleet.CodeFencingFailed, fleet.Invalid, nil, "no server of the plan is node %q", node)
}

// survives refuses to switch off what the cluster needs: a second node while
// one is off, or a control plane that the majority depends on.
func (f fencer) survives(w *walker) error {
	planes := 0
	now := time.Now()
	for _, id := range f.p.run.order {
		other := f.p.run.servers[id]
		s := other.standing(now)
		if s.dark != nil && other != w {
			return fleet.NewFault(fleet.CodeFencingFailed, fleet.Conflict, nil, "%s is off already", other.plan.Hostname)
		}
		if other.plan.Role != fleet.Worker && s.ready && len(s.unmet) == 0 {
			planes++
		}
	}
	if w.plan.Role != fleet.Worker && planes < 3 {
		return fleet.NewFault(fleet.CodeQuorumAtRisk, fleet.Conflict, nil, "%s is one of %d control planes: the cluster would not survive its loss", w.plan.Hostname, planes)
	}
	return nil
}

func (f fencer) try(ctx context.Context, w *walker, to fleet.PowerState) error {
	l := f.p.engine.Limits
	for try := 1; ; try++ {
		err := w.lend(ctx, to, f.proof)
		if err == nil || try >= l.ActionTries || !slices.Contains([]fleet.Kind{fleet.Transient, fleet.UnsureKind}, fleet.KindOf(err)) {
			return err
		}
		select {
		case <-time.After(backoff(l.Backoff, try)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
