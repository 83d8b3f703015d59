package provision

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"metalrise.dev/fleet"
)

// walker moves one server. Its goroutine is the only one that acts on the
// server, so at most one action is in flight; a proof that switches a ready node
// takes the walker's place for that moment (hands). The desk shares the track with it
// under mu.
type walker struct {
	engine *Engine
	run    *run
	plan   fleet.Assignment
	wake   chan struct{} // holds one token: something changed
	hands  chan struct{} // holds one token while somebody acts on the server
	meter  meter         // of the current attempt's medium
	flow   flow          // the same, as it concerns the BMC's link
	seat   bool          // this walker holds one of the engine's BMC seats
	bmc    BMC           // open session, or nil; used by the walk goroutine only

	mu       sync.Mutex
	track    *Track
	decision Decision // the last one, for status
	acting   bool     // decision is being carried out
	heard    time.Time
	done     int64 // bytes of the write
	total    int64
	told     time.Time     // when progress was journaled last
	stranger time.Time     // when a stranger was journaled last
	late     time.Time     // when a request for an ended address was journaled last
	changed  chan struct{} // closed and renewed at each change of the track, for the desk's long polls
	walking  bool          // its goroutine runs
	step     string        // what the node does, in its own words
}

func newWalker(e *Engine, r *run, a fleet.Assignment) *walker {
	t := NewTrack(a.Server, r.plan.ID)
	t.Route.Ladder, t.Route.Wish = ladderOf(a), a.Medium
	t.Node = NodeTrack{Plan: a.Node, Kept: a.Kept != "", Joined: a.Kept != "" && a.Node != nil, Emulation: r.plan.Cluster != nil && r.plan.Cluster.Emulation}
	return &walker{engine: e, run: r, plan: a, wake: make(chan struct{}, 1), hands: make(chan struct{}, 1), changed: make(chan struct{}), track: t, heard: e.started}
}

// recall folds an event of the past. What a server that is kept said under
// earlier plans still holds.
func (w *walker) recall(e fleet.Event) {
	if w.plan.Kept != "" && e.Server == w.plan.Server && e.Plan != w.run.plan.ID && w.track.foldLent(e) {
		return
	}
	if w.plan.Kept != "" && e.Server == w.plan.Server && e.Plan != w.run.plan.ID && e.Outcome == fleet.OK {
		n := &w.track.Node
		switch e.Action {
		case fleet.ActArrive:
			w.track.foldArrival(e)
		case fleet.ActBase:
			n.Based = true
		case fleet.ActAdmit:
			n.Admitted = true
		case fleet.ActReady:
			n.Ready = true
		case fleet.ActStage: // it was installed anew since
			n.Based, n.Admitted, n.Ready = false, false, false
		}
		return
	}
	w.recallSlow(e)
	if !w.recallProbe(e) {
		w.track.Fold(e)
	}
}

// setOff starts the walk unless it is under way.
func (w *walker) setOff() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.walking {
		w.rouse()
		return
	}
	w.walking = true
	w.engine.walkers.Go(func() { w.walk(w.run.ctx) })
}

// walk decides and acts until the server is done or ctx ends.
func (w *walker) walk(ctx context.Context) {
	w.hands <- struct{}{}
	defer func() { <-w.hands }()
	for ctx.Err() == nil {
		w.noteReading(ctx)
		w.noteTally(ctx)
		switch d := w.decide().(type) {
		case Done:
			w.hangUp() // before another walk may begin
			if w.arrived() {
				return
			}
		case Hold:
			w.hangUp()
			if !w.held() && !w.record(ctx, fleet.Event{Action: fleet.ActHold, Edge: fleet.Ended, Outcome: fleet.Failed, Cause: &d.Cause}) {
				continue
			}
			w.sleep(ctx, time.Time{})
		case Wait:
			if time.Until(d.Until) > 5*time.Second {
				w.hangUp() // sessions are scarce on BMCs: none is kept while waiting for a machine
			}
			w.sleep(ctx, d.Until)
		case Settle:
			if !w.seat {
				w.sit(ctx)
				continue
			}
			w.settle(ctx, d.Action)
		case Descend:
			w.hangUp()
			w.stage(ctx, d.Why, d.To, d.Missed)
		case Act:
			if usesBMC(d.Action) && !w.seat {
				w.sit(ctx)
				continue // what was decided may be outdated
			}
			w.act(ctx, d)
		}
	}
	w.hangUp()
}

func (w *walker) decide() Decision {
	w.mu.Lock()
	defer w.mu.Unlock()
	d := Next(w.track, w.lookLocked(), time.Now(), w.engine.Limits)
	w.decision = d
	switch d.(type) {
	case Act, Settle, Descend:
		w.acting = true
	default:
		w.acting = false
	}
	return d
}

// lookLocked gathers what is known now and not from the journal.
func (w *walker) lookLocked() Look {
	l := Look{Heard: w.heard, Started: w.engine.started, Roads: w.engine.roads(), Unattended: w.engine.Unattended, ByHand: w.plan.BMC.IsByHand(), Flow: w.flowLocked(), Unmade: w.engine.unmade()}
	if w.run.cluster != nil {
		l.Cluster = w.run.cluster.look(w.track)
	}
	return l
}

// arrived ends the walk for good, unless something came in the meantime.
func (w *walker) arrived() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, done := w.decision.(Done)
	if done {
		w.walking = false
	}
	return done
}

// stuck tells whether the server waits for another one that is held.
func (w *walker) stuck() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	d, ok := w.decision.(Wait)
	return ok && d.Stuck
}

func (w *walker) held() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.track.Hold != nil
}

// sleep returns at until, at a wake, or when ctx ends. A zero until is never.
// Meanwhile somebody else may act on the server.
func (w *walker) sleep(ctx context.Context, until time.Time) {
	<-w.hands
	defer func() { w.hands <- struct{}{} }()
	var at <-chan time.Time
	if !until.IsZero() {
		t := time.NewTimer(time.Until(until))
		defer t.Stop()
		at = t.C
	}
	select {
	case <-at:
	case <-w.wake:
	case <-ctx.Done():
	}
}

func (w *walker) rouse() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// act carries out one action. Grants and bookkeeping are a single event; what
// changes the world is journaled before and after.
func (w *walker) act(ctx context.Context, d Act) {
	switch d.Action {
	case fleet.ActStage:
		w.mu.Lock()
		route, missed := w.track.Route.Now, []fleet.RouteFault(nil)
		if !w.track.Staged {
			route, missed = w.track.Route.start(w.lookLocked())
		}
		w.mu.Unlock()
		if len(missed) > 0 {
			d.Why = why(missed) + "; next is " + string(route)
		}
		w.stage(ctx, d.Why, route, missed)
		return
	case fleet.ActRestart:
		w.record(ctx, fleet.Event{Action: fleet.ActRestart, Edge: fleet.Began, Note: d.Why})
		return
	case fleet.ActFinish:
		if w.record(ctx, fleet.Event{Action: fleet.ActFinish, Edge: fleet.Ended, Outcome: fleet.OK, Note: d.Why}) {
			w.authorise()
		}
		return
	case fleet.ActReady, fleet.ActRemove:
		w.record(ctx, fleet.Event{Action: d.Action, Edge: fleet.Ended, Outcome: fleet.OK, Note: d.Why})
		return
	case fleet.ActPrepare, fleet.ActBegin, fleet.ActJoin, fleet.ActReset:
		w.giveTask(ctx, d)
		return
	}
	if !w.record(ctx, fleet.Event{Action: d.Action, Edge: fleet.Began, Note: d.Why}) {
		return
	}
	if usesCluster(d.Action) {
		w.end(ctx, d.Action, fleet.OK, nil, w.performCluster(ctx, d.Action))
		return
	}
	data, err := w.perform(ctx, d.Action)
	w.end(ctx, d.Action, fleet.OK, data, err)
}

// stage starts an attempt: from its event on, the attempt's token and media
// address are valid, those of the attempt before are not.
func (w *walker) stage(ctx context.Context, why string, route fleet.BootRoute, missed []fleet.RouteFault) {
	w.mu.Lock()
	attempt := w.track.Attempt + 1
	w.mu.Unlock()
	e := fleet.Event{Action: fleet.ActStage, Edge: fleet.Ended, Outcome: fleet.OK, Attempt: attempt, Note: why}
	var err error
	if e.Data, err = w.stageOn(route, missed); err != nil {
		e.Outcome, e.Cause = fleet.Failed, fleet.CauseOf(err)
	}
	if w.record(ctx, e) {
		w.authorise()
	}
}

// end journals how an action ended. good is the outcome when err is nil.
func (w *walker) end(ctx context.Context, a fleet.Action, good fleet.Outcome, data any, err error) {
	e := fleet.Event{Action: a, Edge: fleet.Ended, Outcome: good}
	if err != nil {
		w.hangUp()
		e.Cause = fleet.CauseOf(fmt.Errorf("%s %s: %w", a, w.plan.Server, err))
		e.Outcome = fleet.Failed
		if e.Cause.Kind == fleet.UnsureKind {
			e.Outcome = fleet.Uncertain
		}
	} else if data != nil {
		if e.Data, err = json.Marshal(data); err != nil {
			e.Outcome, e.Cause = fleet.Failed, fleet.CauseOf(err)
		}
	}
	w.record(ctx, e)
}

// record makes events durable and folds them. It does not give up while ctx
// lives: a full disk stops the work, not the memory of it. False means that ctx
// ended; the events may or may not be in the journal.
func (w *walker) record(ctx context.Context, events ...fleet.Event) bool {
	for try := 1; ; try++ {
		w.mu.Lock()
		err := w.recordLocked(ctx, events...)
		w.mu.Unlock()
		if err == nil {
			return true
		}
		w.engine.Log.Error("journal", "server", w.plan.Server, "error", err)
		select {
		case <-ctx.Done():
			return false
		case <-time.After(backoff(time.Second, try)):
		}
	}
}

// recordLocked makes events durable and folds them, or fails and changes
// nothing.
func (w *walker) recordLocked(ctx context.Context, events ...fleet.Event) error {
	for i := range events {
		e := &events[i]
		e.At, e.Server, e.Plan = time.Now(), w.plan.Server, w.run.plan.ID
		if e.Attempt == 0 {
			e.Attempt = w.track.Attempt
		}
	}
	stored, err := w.engine.Journal.Append(ctx, events...)
	if err != nil {
		return err
	}
	for _, e := range stored {
		w.track.Fold(e)
		if isSign(e) {
			w.run.shelf.signed(e.At)
		}
	}
	if c := w.run.cluster; c != nil && c.note(w.track) {
		for _, other := range w.run.servers {
			other.rouse()
		}
	}
	if p := w.run.platform; p != nil {
		p.rouse()
	}
	close(w.changed)
	w.changed = make(chan struct{})
	w.rouse()
	return nil
}

// retry gives the server another attempt on a person's word.
func (w *walker) retry(ctx context.Context, by string, a again) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.track.Node.Removal != nil && a.Reinstall || w.track.Node.Joined && a.Reinstall {
		return fleet.NewFault(fleet.CodePlanUnknown, fleet.Conflict, nil, "server %s is part of the cluster: use metalrise node replace", w.plan.Server)
	}
	data, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("encode retry: %w", err)
	}
	if w.track.Hold == nil {
		return fleet.NewFault(fleet.CodePlanUnknown, fleet.Conflict, nil, "server %s is not held: %s", w.plan.Server, describe(w.decision))
	}
	if err := w.takesLocked(a); err != nil {
		return err
	}
	if err := w.consentedLocked(a, time.Now()); err != nil {
		return err
	}
	w.decision = nil // it is not held any more, whatever the walker decided last
	note := "asked for by " + by
	if a.Reinstall {
		note += "; the disk is written anew"
	}
	if a.Route != "" {
		note += "; by " + string(a.Route)
	}
	return w.recordLocked(ctx, fleet.Event{Action: fleet.ActRetry, Edge: fleet.Ended, Outcome: fleet.OK, Note: note, Data: data})
}

// authorise puts into force what the track says is in force, and nothing else.
func (w *walker) authorise() {
	w.mu.Lock()
	defer w.mu.Unlock()
	keys, id, n := w.run.keys, w.plan.Server, w.track.Attempt
	keys.allow(installedGrant(id))
	for _, attempt := range []int{n - 1, n} {
		grants := []grant{liveGrant(id, attempt), mediumGrant(id, attempt)}
		for _, name := range netArtefacts() {
			grants = append(grants, netGrant(id, attempt, name))
		}
		for _, g := range grants {
			if g.kind == string(NetArtefact) && !w.track.Route.uses(g.name) {
				keys.revoke(g)
				continue
			}
			if attempt == n && w.track.Staged && (!w.track.Arrived || w.erasesLocked()) {
				keys.allow(g)
			} else {
				keys.revoke(g)
			}
		}
	}
	if w.track.Node.Task != nil { // a node goes on fetching from a restarted engine: rendering puts the keys into force
		if _, err := w.taskLocked(); err != nil {
			w.engine.Log.Error("render task", "server", id, "error", err)
		}
	}
}

func (w *walker) mediaURL() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.track.Reached.ByBMC + mediaPath(w.run.keys.derive(mediumGrant(w.plan.Server, w.track.Attempt)), "boot.iso")
}

func mediaPath(key, name string) string { return "/m/" + key + "/" + name }
