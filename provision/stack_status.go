package provision

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"metalrise.dev/fleet"
)

// status is how far the VM platform is, for people and programs.
func (p *platform) status() *fleet.StackStatus {
	d := p.present()
	p.mu.Lock()
	defer p.mu.Unlock()
	out := &fleet.StackStatus{Steps: []fleet.StackStep{}}
	switch d.(type) {
	case Hold:
		out.Held = true
	case Done:
		out.Done = true
	}
	plan := p.run.plan.Stack
	told := false
	add := func(name StepName, version, left string) {
		s := p.stepLocked(name, version, left)
		if s.State == fleet.StepPending && !told { // what all the others wait for too
			told = true
			s.Note = firstOf(s.Note, waitsFor(d))
		}
		out.Steps = append(out.Steps, s)
	}
	for _, c := range plan.Components {
		add(StepName{Component: c.Name}, c.Version, waived(p.track.at(StepName{Component: c.Name})))
	}
	for _, proof := range plan.Proofs {
		add(StepName{Proof: proof.Name}, "", p.track.leavesOut(proof))
	}
	return out
}

func waived(st StepTrack) string {
	if st.Waived == "" {
		return ""
	}
	return "waived by " + st.Waived
}

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// waitsFor says why the first step that did not begin does not.
func waitsFor(d Decision) string {
	switch d := d.(type) {
	case Wait:
		return "waits for " + d.For
	case Hold:
		return describe(d)
	case Light:
		return "switches a node on again"
	case Sweep:
		return "clears away after " + d.Step.String()
	}
	return ""
}

func (p *platform) stepLocked(name StepName, version, left string) fleet.StackStep {
	st := p.track.at(name)
	s := fleet.StackStep{Component: name.Component, Proof: name.Proof, Version: version, State: fleet.StepPending, Tries: st.Tries, Since: st.At,
		Took: st.Interval.Seconds(), Cause: st.Cause, Result: st.Data.Result, Checks: st.Data.Checks}
	l := p.engine.Limits
	_, final := retrying(st.Mark, nil, "", l.StackTries, l.StackBackoff, time.Now()).(Hold)
	switch {
	case p.running != nil && *p.running == name:
		s.State, s.Since, s.Note, s.Checks = fleet.StepRunning, st.Began, p.note, p.checks
		s.Took, s.Cause, s.Result = 0, nil, nil
	case st.OK && st.Data.Skip != "":
		s.State, s.Note = fleet.StepSkipped, st.Data.Skip
	case st.OK:
		s.State = fleet.StepOK
		if st.Plan != p.track.Plan {
			s.Note = "under plan " + st.Plan[:min(12, len(st.Plan))]
		}
		if n := len(st.Data.Without); n > 0 {
			s.Note = fmt.Sprintf("without %d held nodes", n)
		}
	case left != "":
		s.State, s.Note = fleet.StepSkipped, left
	case final:
		s.State = fleet.StepFailed
	case p.track.Open != nil && *p.track.Open == name:
		s.Since, s.Note = st.Began, "broken off; it is done again"
	}
	return s
}

// RetryPlatform has failed steps of the VM platform tried again, or what else
// the person says.
func (e *Engine) RetryPlatform(ctx context.Context, q fleet.PlatformRetry) error {
	select {
	case e.applying <- struct{}{}:
		defer func() { <-e.applying }()
	case <-ctx.Done():
		return ctx.Err()
	}
	r := e.current()
	if r == nil {
		return fleet.NewFault(fleet.CodePlanUnknown, fleet.Invalid, nil, "no plan is being applied")
	}
	p := r.platform
	if p == nil {
		return fleet.NewFault(fleet.CodePlanUnknown, fleet.Invalid, nil, "the plan has no VM platform")
	}
	if err := fitsPlan(*r.plan.Stack, q); err != nil {
		return err
	}
	d := p.present()
	w, waits := d.(Wait)
	_, held := d.(Hold)
	_, done := d.(Done)
	switch {
	case len(q.Prove) > 0 && !held && !done:
		return fleet.NewFault(fleet.CodePlanUnknown, fleet.Conflict, nil, "the VM platform is not done yet: %s", describeStack(d))
	case len(q.Prove)+len(q.Waive) == 0 && !held && !(waits && w.Stuck):
		return fleet.NewFault(fleet.CodePlanUnknown, fleet.Conflict, nil, "the VM platform is not held: %s", describeStack(d))
	}
	data := retryData{Cluster: p.track.Cluster, PlatformRetry: q}
	for _, id := range r.order {
		if s := r.servers[id].standing(time.Now()); !s.ready && !s.gone && (s.held || s.stuck) {
			data.Without = append(data.Without, id)
		}
	}
	b, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("encode retry: %w", err)
	}
	ev := fleet.Event{At: time.Now(), Plan: r.plan.ID, Action: fleet.ActRetry, Edge: fleet.Ended, Outcome: fleet.OK, Note: "VM platform, asked for by " + q.By, Data: b}
	if err := p.append(ctx, ev); err != nil {
		return err
	}
	p.rouse()
	return nil
}

// fitsPlan refuses names that the plan does not have.
func fitsPlan(p fleet.StackPlan, q fleet.PlatformRetry) error {
	for _, name := range q.Waive {
		known := slices.ContainsFunc(p.Components, func(c fleet.ComponentPlan) bool { return string(c.Name) == name }) ||
			slices.ContainsFunc(p.Proofs, func(x fleet.ProofPlan) bool { return string(x.Name) == name })
		if !known {
			return fleet.NewFault(fleet.CodePlatformInvalid, fleet.Invalid, nil, "the plan has no component or proof %q", name)
		}
	}
	for _, name := range q.Prove {
		i := slices.IndexFunc(p.Proofs, func(x fleet.ProofPlan) bool { return x.Name == name })
		switch {
		case i < 0:
			return fleet.NewFault(fleet.CodePlatformInvalid, fleet.Invalid, nil, "the plan has no proof %q", name)
		case p.Proofs[i].Skip != "":
			return fleet.NewFault(fleet.CodePlatformInvalid, fleet.Unsupported, nil, "proof %s cannot be run here: %s", name, p.Proofs[i].Skip)
		}
	}
	return nil
}

// describeStack says a decision about the platform in a few words.
func describeStack(d Decision) string {
	switch d := d.(type) {
	case Install:
		return "installs " + string(d.Name)
	case Prove:
		return "proves " + string(d.Proof)
	case Light, Sweep:
		return waitsFor(d)
	case HandOver:
		return "hands over"
	}
	return describe(d)
}
