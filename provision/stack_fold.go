package provision

import (
	"encoding/json"
	"slices"
	"time"

	"metalrise.dev/fleet"
)

// StepName names one step of the VM platform. Exactly one field is set.
type StepName struct {
	Component fleet.Component `json:"component,omitempty"`
	Proof     fleet.Proof     `json:"proof,omitempty"`
}

func (n StepName) String() string {
	if n.Component != "" {
		return string(n.Component)
	}
	return string(n.Proof)
}

func (n StepName) action() fleet.Action {
	if n.Component != "" {
		return fleet.ActComponent
	}
	return fleet.ActProve
}

// StepData is the data of the events component, prove and hand-over.
type StepData struct {
	StepName
	Cluster string             `json:"cluster"`           // id of the plan that began it
	Version string             `json:"version,omitempty"` // of the component
	Without []fleet.ServerID   `json:"without,omitempty"` // servers that a proof left out
	Skip    string             `json:"skip,omitempty"`    // why a proof turned out to be impossible; it counts as done
	Checks  []fleet.Check      `json:"checks,omitempty"`
	Result  *fleet.ProofResult `json:"result,omitempty"`
}

// retryData is the data of a retry of the VM platform.
type retryData struct {
	Cluster string `json:"cluster"`
	fleet.PlatformRetry
	Without []fleet.ServerID `json:"without,omitempty"` // held now; proofs go on without them
}

// StackTrack is all that the journal says of the VM platform of one cluster. It
// is made by folding events in order and is never stored.
type StackTrack struct {
	Plan    string
	Cluster string
	Steps   map[StepName]*StepTrack
	Open    *StepName // began and did not end; nothing of it runs while a decision is made
	Sweep   Mark      // of removing what it left
	Without map[fleet.ServerID]bool
	Handed  time.Time // when all was handed over under this plan
	Earlier bool      // it was handed over under an earlier plan
	Retried time.Time
	Since   time.Time // of the last change
}

// StepTrack is what the journal says of one step.
type StepTrack struct {
	Mark
	Began    time.Time
	Tries    int // since a person asked last
	Note     string
	Data     StepData // of the last end
	Waived   string   // by whom
	Plan     string   // under which it ended well
	Again    bool     // a person wants it although the platform was handed over before
	Interval time.Duration
}

// NewStackTrack is the track of a platform before its first event.
func NewStackTrack(p fleet.Plan) *StackTrack {
	t := &StackTrack{Plan: p.ID, Steps: map[StepName]*StepTrack{}, Without: map[fleet.ServerID]bool{}}
	if p.Cluster != nil {
		t.Cluster = clusterID(p)
	}
	return t
}

func (t *StackTrack) step(n StepName) *StepTrack {
	if t.Steps[n] == nil {
		t.Steps[n] = &StepTrack{}
	}
	return t.Steps[n]
}

// at is a step without a way to change it.
func (t *StackTrack) at(n StepName) StepTrack {
	if st := t.Steps[n]; st != nil {
		return *st
	}
	return StepTrack{}
}

// Fold adds one event. Events of servers and of other clusters are left out. Of
// earlier plans of this cluster only proofs and the hand-over count: components
// are applied anew under each plan, because its settings may be others.
func (t *StackTrack) Fold(e fleet.Event) {
	if e.Server != "" {
		return
	}
	switch e.Action {
	case fleet.ActComponent, fleet.ActProve:
		var d StepData
		if json.Unmarshal(e.Data, &d) == nil && d.Cluster == t.Cluster {
			t.foldStep(e, d)
		}
	case fleet.ActHandOver:
		var d StepData
		if json.Unmarshal(e.Data, &d) != nil || d.Cluster != t.Cluster {
			return
		}
		if e.Plan != t.Plan {
			t.Earlier = true
			return
		}
		t.Handed, t.Since = e.At, e.At
	case fleet.ActRetry:
		var d retryData
		if json.Unmarshal(e.Data, &d) == nil && d.Cluster == t.Cluster && e.Plan == t.Plan {
			t.foldRetry(e, d)
		}
	}
}

func (t *StackTrack) foldStep(e fleet.Event, d StepData) {
	mine := e.Plan == t.Plan
	st := t.step(d.StepName)
	switch e.Edge {
	case fleet.Began:
		t.Sweep, t.Since = Mark{}, e.At
		open := d.StepName
		t.Open = &open
		if mine {
			st.Began, st.Note, st.OK, st.Cause = e.At, "", false, nil
			st.Tries++
		}
	case fleet.Progressed:
		if e.Cause != nil { // what the step left could not be removed
			t.Sweep.At, t.Sweep.Cause = e.At, e.Cause
			t.Sweep.Failures++
			return
		}
		if mine {
			st.Note = e.Note
		}
	case fleet.Ended:
		t.Open, t.Sweep, t.Since = nil, Mark{}, e.At
		if mine {
			st.end(e, d)
			return
		}
		if e.Action == fleet.ActProve && e.Outcome == fleet.OK {
			st.end(e, d)
		}
	}
}

func (st *StepTrack) end(e fleet.Event, d StepData) {
	st.At, st.Cause, st.Data = e.At, e.Cause, d
	st.OK = e.Outcome == fleet.OK
	st.Note = ""
	if !st.Began.IsZero() {
		st.Interval = e.At.Sub(st.Began)
	}
	switch {
	case st.OK:
		st.Failures, st.Plan, st.Again = 0, e.Plan, false
	case e.Cause != nil && e.Cause.Code == fleet.CodeInterrupted:
		// Broken off because we were stopped: that says nothing about the cluster.
	default:
		st.Failures++
	}
}

func (t *StackTrack) foldRetry(e fleet.Event, d retryData) {
	t.Retried, t.Since, t.Sweep = e.At, e.At, Mark{}
	for _, st := range t.Steps {
		if !st.OK {
			st.Mark, st.Tries = Mark{}, 0
		}
	}
	t.Without = map[fleet.ServerID]bool{}
	for _, id := range d.Without {
		t.Without[id] = true
	}
	for _, name := range d.Waive {
		n := StepName{Component: fleet.Component(name)}
		if slices.Contains(fleet.Proofs(), fleet.Proof(name)) {
			n = StepName{Proof: fleet.Proof(name)}
		}
		t.step(n).Waived = d.By
	}
	for _, proof := range d.Prove {
		st := t.step(StepName{Proof: proof})
		st.Mark, st.Tries, st.Waived, st.Again = Mark{}, 0, "", true
		t.Handed = time.Time{}
	}
}
