package provision

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"metalrise.dev/fleet"
)

// platform moves the VM platform of one run. Its goroutine is the only one that
// installs components and runs proofs, so at most one step is in flight. It
// never asks a BMC by itself: servers are switched by their walkers' leave.
type platform struct {
	engine *Engine
	run    *run
	wake   chan struct{} // holds one token: something changed
	ended  chan struct{} // closed when its goroutine ended

	mu        sync.Mutex
	track     *StackTrack
	decision  Decision  // the last one
	running   *StepName // the step in flight
	note      string    // what it does, in its own words
	checks    []fleet.Check
	told      time.Time // when its progress was journaled last
	broke     *fleet.Cause
	stopping  bool
	interrupt context.CancelFunc // of the step in flight
}

func newPlatform(e *Engine, r *run) *platform {
	return &platform{engine: e, run: r, wake: make(chan struct{}, 1), ended: make(chan struct{}), track: NewStackTrack(r.plan)}
}

// walk decides and acts until ctx ends.
func (p *platform) walk(ctx context.Context) {
	defer close(p.ended)
	for ctx.Err() == nil {
		switch d := p.decide().(type) {
		case Install:
			p.step(ctx, StepName{Component: d.Name}, p.engine.Limits.ComponentTimeout)
		case Prove:
			p.step(ctx, StepName{Proof: d.Proof}, p.engine.Limits.ProofTimeout)
		case Sweep:
			p.sweep(ctx, d.Step)
		case Light:
			if w := p.run.servers[d.Server]; w != nil {
				_ = w.lend(ctx, fleet.PowerOn, "") // what became of it is in the journal
			}
		case HandOver:
			p.record(ctx, fleet.Event{Action: fleet.ActHandOver, Edge: fleet.Ended, Outcome: fleet.OK, Note: "the VM platform is there"}, StepData{})
		case Rest:
			return
		case Wait:
			p.sleep(ctx, d.Until)
		default:
			p.sleep(ctx, time.Time{})
		}
	}
}

func (p *platform) decide() Decision {
	look := p.look()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.decision = NextStack(*p.run.plan.Stack, p.track, look, time.Now(), p.engine.Limits)
	return p.decision
}

// present is the decision as it would be now, or the one in flight.
func (p *platform) present() Decision {
	look := p.look()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running != nil {
		return p.decision
	}
	return NextStack(*p.run.plan.Stack, p.track, look, time.Now(), p.engine.Limits)
}

// quiet tells whether nothing moves without a person.
func (p *platform) quiet() bool {
	switch d := p.present().(type) {
	case Done, Hold, Rest:
		return true
	case Wait:
		return d.Stuck
	}
	return false
}

func (p *platform) rouse() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *platform) sleep(ctx context.Context, until time.Time) {
	var at <-chan time.Time
	if !until.IsZero() {
		t := time.NewTimer(time.Until(until))
		defer t.Stop()
		at = t.C
	}
	select {
	case <-at:
	case <-p.wake:
	case <-ctx.Done():
	}
}

// look gathers what the servers and the API tell now.
func (p *platform) look() StackLook {
	p.mu.Lock()
	without, stopping := p.track.Without, p.stopping
	p.mu.Unlock()
	l := StackLook{Started: p.engine.started, Stopping: stopping}
	var planes, away []string // host names
	var ready, hypervisors int
	stuck := true
	now := time.Now()
	for _, id := range p.run.order {
		w := p.run.servers[id]
		s := w.standing(now)
		if s.dark != nil {
			l.Dark = append(l.Dark, *s.dark)
		}
		host := w.plan.Hostname
		switch {
		case w.plan.Node == nil || s.gone:
			continue
		case s.ready:
			ready++
			if hosts(w.plan) {
				hypervisors++
			}
			for _, missing := range s.unmet {
				l.Unmet = append(l.Unmet, host+": "+missing)
			}
			continue
		}
		if !s.held && !s.stuck {
			stuck = false
		}
		if w.plan.Role != fleet.Worker && !s.held {
			planes = append(planes, host)
		}
		if !without[id] {
			away = append(away, host)
		}
	}
	switch {
	case len(planes) > 0 || ready == 0:
		l.Base = "the control planes to be ready"
	case hypervisors == 0:
		l.Base = "a first hypervisor to be ready"
	}
	l.BaseStuck = stuck
	switch {
	case len(away) > 0:
		l.Nodes, l.NodesStuck, l.Unmet = "every node to be ready: "+strings.Join(away, ", "), stuck, nil
		if stuck {
			l.Nodes += "; metalrise retry --platform goes on without held ones"
		}
	case len(l.Unmet) > 0:
		l.Nodes = "nodes to be ready again: " + l.Unmet[0]
	}
	return l
}

// hosts tells whether VMs may run on a node of the plan.
func hosts(a fleet.Assignment) bool {
	return !slices.ContainsFunc(a.Node.Taints, func(t fleet.Taint) bool { return t.Effect != "PreferNoSchedule" })
}

// step carries out one component or proof.
func (p *platform) step(ctx context.Context, name StepName, limit time.Duration) {
	data := p.data(name)
	if !p.record(ctx, fleet.Event{Action: name.action(), Edge: fleet.Began}, data) {
		return
	}
	sctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	p.mu.Lock()
	p.running, p.note, p.checks, p.interrupt = &name, "", nil, cancel
	stopping := p.stopping
	p.mu.Unlock()
	if stopping {
		cancel()
	}
	err := p.perform(sctx, name, &data)
	p.mu.Lock()
	p.running, p.interrupt = nil, nil
	if data.Checks = p.checks; err == nil {
		data.Checks = nil
	}
	last := p.note
	stopping = p.stopping
	p.mu.Unlock()
	switch {
	case ctx.Err() != nil || stopping && err != nil:
		return // whoever decides next sees a step that began and did not end
	case sctx.Err() != nil && err != nil: // what it left must go first
		p.mu.Lock()
		p.broke = fleet.CauseOf(fleet.NewFault(overdueCode(name), fleet.Transient, err, "%s did not end within %s; last: %s", name, limit, last))
		p.mu.Unlock()
		return
	}
	p.end(ctx, name, data, err)
}

// perform is the only place from which the platform is changed.
func (p *platform) perform(ctx context.Context, name StepName, data *StepData) error {
	stack, err := p.open()
	if err != nil {
		return err
	}
	defer stack.Close()
	if name.Component != "" {
		i := slices.IndexFunc(p.run.plan.Stack.Components, func(c fleet.ComponentPlan) bool { return c.Name == name.Component })
		return stack.Install(ctx, p.run.plan.Stack.Components[i], func(note string, checks []fleet.Check) { p.tell(ctx, name, note, checks) })
	}
	if name.Proof == fleet.ProofFence && p.engine.Unattended {
		data.Skip = "this engine drives no BMC"
		return nil
	}
	result, err := stack.Prove(ctx, name.Proof, fencer{p, name.Proof}, func(note string) { p.tell(ctx, name, note, nil) })
	data.Result = &result // also of a failed one: what was seen until then
	var skipped *Skipped
	if errors.As(err, &skipped) {
		data.Skip, data.Result = skipped.Why, nil
		return nil
	}
	return err
}

// open gives the way to the platform on the nodes that take part now.
func (p *platform) open() (Stack, error) {
	c := p.engine.Clusters
	if c == nil || c.Stacks == nil {
		return nil, fleet.NewFault(fleet.CodeComponentMissing, fleet.Conflict, nil, "this engine has no VM platform")
	}
	keys, err := p.engine.secrets(p.run)
	if err != nil {
		return nil, err
	}
	plan := p.run.cluster.present()
	left := p.absent()
	plan.Assignments = slices.DeleteFunc(plan.Assignments, func(a fleet.Assignment) bool { return slices.Contains(left, a.Server) })
	return c.Stacks(plan, keys.kubeconfig)
}

// absent are the servers that a person let be left out and that are still not
// ready.
func (p *platform) absent() []fleet.ServerID {
	p.mu.Lock()
	without := p.track.Without
	p.mu.Unlock()
	var out []fleet.ServerID
	for _, id := range p.run.order {
		if without[id] && !p.run.servers[id].standing(time.Now()).ready {
			out = append(out, id)
		}
	}
	return out
}

func (p *platform) data(name StepName) StepData {
	d := StepData{StepName: name}
	for _, c := range p.run.plan.Stack.Components {
		if c.Name == name.Component {
			d.Version = c.Version
		}
	}
	if name.Proof != "" {
		d.Without = p.absent()
	}
	return d
}

// sweep removes what a step left that was broken off, and ends it.
func (p *platform) sweep(ctx context.Context, name StepName) {
	if name.Proof != "" {
		err := func() error {
			ctx, cancel := context.WithTimeout(ctx, p.engine.Limits.ProofTimeout)
			defer cancel()
			stack, err := p.open()
			if err != nil {
				return err
			}
			defer stack.Close()
			return stack.Clean(ctx, fencer{p, name.Proof})
		}()
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			p.record(ctx, fleet.Event{Action: name.action(), Edge: fleet.Progressed, Cause: fleet.CauseOf(fmt.Errorf("clear away after %s: %w", name, err))}, p.data(name))
			return
		}
	}
	p.mu.Lock()
	cause := p.broke
	p.broke = nil
	p.mu.Unlock()
	if cause == nil {
		cause = fleet.CauseOf(fleet.NewFault(fleet.CodeInterrupted, fleet.Transient, nil, "%s was broken off", name))
	}
	p.record(ctx, fleet.Event{Action: name.action(), Edge: fleet.Ended, Outcome: fleet.Failed, Cause: cause}, p.data(name))
}

// end journals how a step ended.
func (p *platform) end(ctx context.Context, name StepName, data StepData, err error) {
	e := fleet.Event{Action: name.action(), Edge: fleet.Ended, Outcome: fleet.OK}
	if err != nil {
		e.Outcome, e.Cause = fleet.Failed, fleet.CauseOf(fmt.Errorf("%s: %w", name, err))
		if e.Cause.Code == fleet.CodeUnexpected {
			e.Cause.Code = overdueCode(name)
		}
	}
	p.record(ctx, e, data)
}

// overdueCode is the fault of a step that tells no better one.
func overdueCode(name StepName) fleet.Code {
	switch name.Proof {
	case fleet.ProofStart:
		return fleet.CodeVMNotStarted
	case fleet.ProofMigrate:
		return fleet.CodeMigrationFailed
	case fleet.ProofNetwork:
		return fleet.CodeVMNetworkFailed
	case fleet.ProofVolume, fleet.ProofSnapshot:
		return fleet.CodeVolumeFailed
	case fleet.ProofDrain:
		return fleet.CodeEvacuationFailed
	case fleet.ProofFence:
		return fleet.CodeFencingFailed
	}
	return fleet.CodeComponentStuck
}

// tellEvery thins out the progress of a step in the journal.
const tellEvery = 5 * time.Second

// tell takes in what a step is doing.
func (p *platform) tell(ctx context.Context, name StepName, note string, checks []fleet.Check) {
	note = clip(note)
	now := time.Now()
	p.mu.Lock()
	news := note != p.note && now.Sub(p.told) >= tellEvery
	if news {
		p.told = now
	}
	p.note = note
	if checks != nil {
		p.checks = checks
	}
	p.mu.Unlock()
	if !news || ctx.Err() != nil {
		return
	}
	e, err := p.event(fleet.Event{Action: name.action(), Edge: fleet.Progressed, Note: note}, StepData{StepName: name})
	if err == nil {
		_, err = p.engine.Journal.Append(ctx, e)
	}
	if err != nil {
		p.engine.Log.Warn("journal", "step", name.String(), "error", err)
	}
}

func (p *platform) event(e fleet.Event, data StepData) (fleet.Event, error) {
	data.Cluster = p.track.Cluster
	e.At, e.Plan = time.Now(), p.run.plan.ID
	var err error
	e.Data, err = json.Marshal(data)
	return e, err
}

// append makes an event durable and folds it, or fails and changes nothing.
func (p *platform) append(ctx context.Context, e fleet.Event) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	stored, err := p.engine.Journal.Append(ctx, e)
	if err == nil {
		p.track.Fold(stored[0])
	}
	return err
}

// record makes an event durable and folds it. It does not give up while ctx
// lives. False means that ctx ended.
func (p *platform) record(ctx context.Context, e fleet.Event, data StepData) bool {
	for try := 1; ; try++ {
		e, err := p.event(e, data)
		if err == nil {
			if err = p.append(ctx, e); err == nil {
				return true
			}
		}
		p.engine.Log.Error("journal", "action", e.Action, "error", err)
		select {
		case <-ctx.Done():
			return false
		case <-time.After(backoff(time.Second, try)):
		}
	}
}

// halt breaks the step in flight off, removes what it left and ends the
// goroutine, within the time of one step through a BMC and the API.
func (p *platform) halt(ctx context.Context) {
	p.mu.Lock()
	p.stopping = true
	if p.interrupt != nil {
		p.interrupt()
	}
	p.mu.Unlock()
	p.rouse()
	select {
	case <-p.ended:
	case <-ctx.Done():
	case <-time.After(p.engine.Limits.ActionTimeout):
	}
}
