package provision

import (
	"net/netip"
	"time"

	"metalrise.dev/fleet"
)

// status is where the server is now.
func (w *walker) status(now time.Time) fleet.Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.track
	d := w.decision
	if d == nil {
		d = Next(t, w.lookLocked(), now, w.engine.Limits)
	}
	s := fleet.Status{
		Server: w.plan.Server, Hostname: w.plan.Hostname, Role: w.plan.Role, BMC: w.plan.BMC.Address,
		Phase: t.Phase(), Attempt: t.Attempt, Step: describe(d), Since: t.Since, KVM: t.KVM,
	}
	s.Route, s.Missed = t.Route.Now, t.Route.Missed
	t.served(&s, w.flowLocked())
	if t.bootable() {
		s.Routes = t.Route.offers(w.lookLocked())
	}
	if t.Granted && !t.Written {
		s.Done, s.Total = w.done, w.total
	}
	if c := w.run.cluster; c != nil {
		s.Checks = c.checks(t)
	}
	if t.Node.Task != nil {
		s.Done, s.Total = w.done, w.total
		if w.step != "" && !mute(d) { // what it said last is not what it does
			s.Step = t.Node.Task.ID + ": " + w.step
		}
	}
	switch d := d.(type) {
	case Done:
		s.Condition, s.Step = fleet.Settled, t.result()
		if t.Lent != nil {
			s.Step = "switched off for the proof " + string(t.Lent.Proof)
		}
	case Hold:
		s.Condition, s.Cause = fleet.Held, &d.Cause
	case Wait:
		s.Condition, s.Deadline = fleet.Waiting, d.Until
		if t.Granted && !t.Written && w.total > 0 || t.Node.Task != nil && !mute(d) {
			s.Condition = fleet.Moving
		}
	default:
		s.Condition = fleet.Moving
	}
	if len(t.Route.Missed) > 0 && t.Live.Key == "" && !t.Written && !t.Arrived {
		s.Step += "; by " + string(t.Route.Now) + ", because " + brief(t.Route.Missed)
	}
	return s
}

// describe says a decision in a few words.
func describe(d Decision) string {
	switch d := d.(type) {
	case Act:
		return string(d.Action)
	case Descend:
		return "go on to " + string(d.To)
	case Settle:
		return "look whether " + string(d.Action) + " was done"
	case Wait:
		return "wait for " + d.For
	case Hold:
		if page, ok := fleet.Page(d.Cause.Code); ok {
			return string(d.Cause.Code) + " " + page.Title
		}
		return string(d.Cause.Code)
	case Done:
		return "done"
	}
	return ""
}

// result says how a server ended.
func (t *Track) result() string {
	switch {
	case t.Node.Removed:
		return "removed"
	case t.Node.Kept:
		return "kept as it is"
	case t.Node.Ready:
		return "ready"
	}
	return "installed"
}

// hostOf takes the host out of a BMC's address, "address/prefix" or a bare
// address.
func hostOf(s string) string {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Addr().String()
	}
	host, _ := fleet.SplitAddress(s)
	return host
}

// mute tells that a node is waited for that says nothing any more.
func mute(d Decision) bool {
	w, ok := d.(Wait)
	return ok && w.Overdue == fleet.CodeNodeSilent
}
