package provision

import (
	"strings"
	"time"

	"metalrise.dev/fleet"
)

// Install: apply a component and wait until it is ready.
type Install struct{ fleet.ComponentPlan }

// Prove: run one step of the ring of proofs.
type Prove struct{ Proof fleet.Proof }

// Sweep: a step was broken off; remove what it left.
type Sweep struct{ Step StepName }

// Light: a proof switched a server off and was broken off; switch it on again.
type Light struct{ Server fleet.ServerID }

// HandOver: all is there, and proven or waived.
type HandOver struct{}

// Rest: the engine ends, and nothing of ours is left in the cluster.
type Rest struct{}

func (Install) decision()  {}
func (Prove) decision()    {}
func (Sweep) decision()    {}
func (Light) decision()    {}
func (HandOver) decision() {}
func (Rest) decision()     {}

// StackLook is what is known now of the servers and their cluster, for the
// decision about the VM platform.
type StackLook struct {
	// Base is what components still wait for; "" when they can be applied.
	Base      string
	BaseStuck bool // only a person can end that
	// Nodes is what proofs still wait for; "" when every node can take part.
	Nodes      string
	NodesStuck bool
	Unmet      []string // checks of nodes that were ready before and are not now
	Dark       []Dark
	Started    time.Time // of this engine
	Stopping   bool
}

// Dark is a server that a proof switched off and that is not on again.
type Dark struct {
	Server   fleet.ServerID
	Host     string
	Proof    fleet.Proof
	At       time.Time // of the last try to switch it on
	Failures int
	Cause    *fleet.Cause
}

// NextStack decides what happens next with the VM platform. It is pure. What a
// broken-off step left goes first; then come the components, one after the
// other; then the proofs.
//
// A component that fails for good holds all that follows: the plan gives an
// order and not who needs whom. A proof that fails for good holds none of the
// others, because each has VMs of its own and a person wants to see at once all
// that does not work; only without the first, a VM that starts, none can
// succeed.
func NextStack(p fleet.StackPlan, t *StackTrack, look StackLook, now time.Time, l Limits) Decision {
	if len(look.Dark) > 0 { // at most one: Off refuses a second
		return nextLight(t, look.Dark[0], now, l)
	}
	if t.Open != nil {
		return retrying(t.Sweep, Sweep{*t.Open}, "clearing away after "+t.Open.String(), l.ActionTries, l.Backoff, now)
	}
	if look.Stopping {
		return Rest{}
	}
	for _, c := range p.Components {
		st := t.at(StepName{Component: c.Name})
		switch {
		case st.OK, st.Waived != "":
			continue
		case look.Base != "":
			return Wait{Until: now.Add(time.Minute), For: look.Base, Stuck: look.BaseStuck}
		}
		return retrying(st.Mark, Install{c}, "the next try of "+string(c.Name), l.StackTries, l.StackBackoff, now)
	}
	if d := nextProof(p, t, look, now, l); d != nil {
		return d
	}
	if !t.Handed.IsZero() {
		return Done{}
	}
	if d := nodesReady(t, look, now, l); d != nil { // also after the last proof
		return d
	}
	return HandOver{}
}

func nextLight(t *StackTrack, dark Dark, now time.Time, l Limits) Decision {
	m := Mark{At: dark.At, Failures: dark.Failures, Cause: dark.Cause}
	if m.At.Before(t.Retried) {
		m = Mark{}
	}
	d := retrying(m, Light{dark.Server}, "switching on "+dark.Host, l.ActionTries, l.Backoff, now)
	if h, held := d.(Hold); held {
		chain := append([]string{dark.Host + " was switched off for the proof " + string(dark.Proof) + " and is still off"}, h.Cause.Chain...)
		return Hold{fleet.Cause{Code: fleet.CodeFencingFailed, Kind: h.Cause.Kind, Chain: chain}}
	}
	return d
}

// nextProof is nil when every proof ended well or is left out.
func nextProof(p fleet.StackPlan, t *StackTrack, look StackLook, now time.Time, l Limits) Decision {
	var failed *Hold
	for _, proof := range p.Proofs {
		st := t.at(StepName{Proof: proof.Name})
		if st.OK || t.leavesOut(proof) != "" {
			continue
		}
		d := retrying(st.Mark, Prove{proof.Name}, "the next try of proof "+string(proof.Name), l.StackTries, l.StackBackoff, now)
		if h, ok := d.(Hold); ok {
			if failed == nil {
				failed = &h
			}
			if proof.Name == fleet.ProofStart {
				return h
			}
			continue
		}
		if w := nodesReady(t, look, now, l); w != nil {
			return w
		}
		return d
	}
	if failed != nil {
		return *failed
	}
	return nil
}

// leavesOut says why a proof is not run, "" when it is. In a cluster that was
// handed over VMs of others may run: nothing is proven there unless a person
// asks for it.
func (t *StackTrack) leavesOut(p fleet.ProofPlan) string {
	st := t.at(StepName{Proof: p.Name})
	switch {
	case st.Waived != "":
		return "waived by " + st.Waived
	case p.Skip != "":
		return p.Skip
	case t.Earlier && !st.Again && !st.OK:
		return "the cluster was handed over before, and VMs may run in it: metalrise verify --proof " + string(p.Name) + " runs it"
	}
	return ""
}

// nodesReady is nil when every node can take part in a proof.
func nodesReady(t *StackTrack, look StackLook, now time.Time, l Limits) Decision {
	if look.Nodes == "" {
		return nil
	}
	if len(look.Unmet) > 0 { // after a fence they boot; a cluster that was left alone shows its nodes at once
		deadline := later(later(t.Since, look.Started), t.Retried).Add(l.ReadyTimeout)
		if !now.Before(deadline) {
			return Hold{fleet.Cause{Code: fleet.CodeNodeNotReady, Kind: fleet.Transient, Chain: look.Unmet}}
		}
		return Wait{Until: deadline, For: look.Nodes, Overdue: fleet.CodeNodeNotReady}
	}
	return Wait{Until: now.Add(time.Minute), For: look.Nodes, Stuck: look.NodesStuck}
}

// retrying lets d happen unless it failed in a way or number that forbids it, or
// the time for the next try has not come.
func retrying(m Mark, d Decision, what string, tries int, pause time.Duration, now time.Time) Decision {
	if m.Failures == 0 || m.Cause == nil {
		return d
	}
	if m.Cause.Kind != fleet.Transient && m.Cause.Kind != fleet.UnsureKind || m.Failures >= tries {
		c := *m.Cause
		if m.Failures > 1 {
			c.Chain = append([]string{"failed " + times(m.Failures)}, c.Chain...)
		}
		return Hold{c}
	}
	if at := m.At.Add(backoff(pause, m.Failures)); now.Before(at) {
		return Wait{Until: at, For: what + " after: " + strings.Join(m.Cause.Chain, ": ")}
	}
	return d
}
