package provision

import (
	"encoding/json"
	"time"

	"metalrise.dev/fleet"
)

// Track is all that the journal says of one server under one plan. It is made
// by folding events in order and is never stored.
type Track struct {
	Server  fleet.ServerID
	Plan    string
	Attempt int

	Staged  bool
	Reached Reached                // our addresses, as this attempt uses them
	Sight   Sight                  // from the last identify of this attempt
	Marks   map[fleet.Action]Mark  // actions of this attempt
	Pending *fleet.Event           // the action that began and did not end; never a machine's own
	Written bool                   // the planned disk holds the planned system; survives attempts
	Granted bool                   // a write was granted in this attempt
	Live    Bound                  // the live system that redeemed this attempt's token
	Arrived bool                   // the installed system reported itself
	KVM     fleet.Maybe[fleet.KVM] // as it reported
	Hold    *fleet.Cause           // why a person must act
	Settled bool                   // finished: nothing more will be done under this plan
	Since   time.Time              // of the last change
	Retried time.Time              // when a person asked for another attempt last
	Allowed time.Time              // when a person allowed, by its name, that its disk is written anew
	Last    fleet.Event            // the last event

	Lent  *Lent      // nil unless a proof switched the server off
	Route RouteTrack // the boot ladder
	Node  NodeTrack  // what follows the installed system
}

// Mark is how one action of the current attempt stands.
type Mark struct {
	OK       bool
	At       time.Time // of its last end
	Failures int       // ends that were not OK, in a row
	Cause    *fleet.Cause
}

// Bound is the machine that owns a token.
type Bound struct {
	Key      string    `json:"key"`      // hash of its client key
	Instance string    `json:"instance"` // of its boot
	At       time.Time `json:"at"`
}

// Reached is how we are reached in one attempt: base URLs without a path.
type Reached struct {
	ByBMC     string `json:"byBMC"`
	ByMachine string `json:"byMachine"`
	Plain     string `json:"plain,omitempty"` // by the machine's firmware, without TLS
}

// writeResult is the data of an ended write.
type writeResult struct {
	SHA256  string  `json:"sha256"`
	Bytes   int64   `json:"bytes"`
	Seconds float64 `json:"seconds"`
}

// NewTrack is the track of a server before the plan's first event.
func NewTrack(server fleet.ServerID, plan string) *Track {
	return &Track{Server: server, Plan: plan, Marks: map[fleet.Action]Mark{}, Route: RouteTrack{Ladder: fleet.BootRoutes()}}
}

// Fold adds one event. Events of other servers and plans are none of its
// business and are left out.
func (t *Track) Fold(e fleet.Event) {
	if e.Server != t.Server || e.Plan != t.Plan {
		return
	}
	t.Last = e
	t.signed(e)
	if e.Edge == fleet.Progressed {
		return
	}
	if e.Action == fleet.ActFetch {
		if !t.foldTally(e) {
			t.foldFetch(e)
		}
		return
	}
	if t.foldLent(e) {
		return
	}
	t.Since = e.At
	switch e.Action {
	case fleet.ActStage:
		if e.Outcome == fleet.OK {
			t.startAttempt(e)
		}
		t.mark(e)
	case fleet.ActHold:
		t.Hold, t.Pending = e.Cause, nil
	case fleet.ActRetry:
		t.foldRetry(e)
	case fleet.ActFinish:
		// A removal that was asked for meanwhile is not over.
		t.Settled = t.Node.Removal == nil || t.Node.Removed
	case fleet.ActHello:
		if e.Outcome == fleet.OK {
			_ = json.Unmarshal(e.Data, &t.Live)
			t.Live.At = e.At
			if t.Route.Good = t.Route.Now; t.Hold != nil && t.Route.Now == fleet.USB {
				t.Hold = nil // a person booted it, as asked
			}
			t.Pending = nil // the machine runs: whatever was asked of the BMC is proved or moot
		}
		t.mark(e)
	case fleet.ActWrite:
		t.foldWrite(e)
	case fleet.ActRestart:
		if e.Edge == fleet.Began { // granted: what follows is the machine's, seen when it arrives
			t.Marks[e.Action] = Mark{OK: true, At: e.At}
		}
	case fleet.ActArrive:
		if e.Outcome == fleet.OK {
			if !t.Arrived || t.Hold != nil && t.Hold.Code == fleet.CodeNodeSilent {
				t.Hold = nil // late is better than held
			}
			t.Arrived = true
			t.foldArrival(e)
		}
		t.mark(e)
	default:
		if !t.foldNode(e) {
			t.foldAct(e)
		}
	}
}

func (t *Track) startAttempt(e fleet.Event) {
	t.Attempt, t.Staged = e.Attempt, true
	t.Marks, t.Pending = map[fleet.Action]Mark{}, nil
	t.Granted, t.Live, t.Sight = false, Bound{}, Sight{}
	var s staged
	_ = json.Unmarshal(e.Data, &s)
	t.Reached = s.Reached
	t.Route.begin(s)
}

func (t *Track) foldWrite(e fleet.Event) {
	if e.Edge == fleet.Began {
		t.Granted = true
		t.Marks[e.Action] = Mark{At: e.At}
		return
	}
	t.mark(e)
	if e.Outcome == fleet.OK || e.Outcome == fleet.Adopted {
		t.Written = true
		delete(t.Marks, fleet.ActEject) // the medium must leave once more
	}
}

// foldAct is for the actions that the walker does through the BMC.
func (t *Track) foldAct(e fleet.Event) {
	if e.Edge == fleet.Began {
		began := e
		t.Pending = &began
		return
	}
	t.Pending = nil
	if e.Action == fleet.ActIdentify && e.Outcome == fleet.OK {
		t.Sight = Sight{}
		_ = json.Unmarshal(e.Data, &t.Sight)
		// What was done before this look may be undone by now.
		for _, a := range []fleet.Action{fleet.ActPowerOff, fleet.ActInsert, fleet.ActBootOnce, fleet.ActEject} {
			delete(t.Marks, a)
		}
	}
	if e.Outcome == fleet.Uncertain && t.Live.Key == "" { // still open: look before anything else
		open := e
		t.Pending = &open
	}
	t.mark(e)
}

func (t *Track) mark(e fleet.Event) {
	if e.Edge != fleet.Ended {
		return
	}
	m := t.Marks[e.Action]
	m.At, m.Cause = e.At, e.Cause
	m.OK = e.Outcome == fleet.OK || e.Outcome == fleet.Adopted
	switch {
	case m.OK:
		m.Failures = 0
	case e.Cause != nil && e.Cause.Code == fleet.CodeInterrupted:
		// Not done because we were stopped: that says nothing about the BMC.
	default:
		m.Failures++
	}
	t.Marks[e.Action] = m
}

// Phase is the last milestone the server passed.
func (t *Track) Phase() fleet.Phase {
	switch {
	case t.Arrived || t.Node.Kept || t.Node.Removed:
		return t.Node.phase()
	case t.Live.Key != "" || t.Written:
		return fleet.Booted
	case t.Staged:
		return fleet.Staged
	}
	return fleet.Planned
}
