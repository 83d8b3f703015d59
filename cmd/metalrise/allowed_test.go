package main

import (
	"strings"
	"testing"
	"time"

	"metalrise.dev/fleet"
	"metalrise.dev/provision/store"
)

// TestEngineErasesNothingUnasked stops an engine in the middle of a plan, and
// starts one later for something else: another plan, which leaves a server out
// whose disk is in use by now, or a command that has nothing to do with it.
func TestEngineErasesNothingUnasked(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	st, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	keep := func(p fleet.Plan) fleet.Plan {
		t.Helper()
		if err := p.Seal(); err != nil {
			t.Fatal(err)
		}
		if err := st.KeepPlan(ctx, p); err != nil {
			t.Fatal(err)
		}
		return p
	}
	one, two := fleet.Assignment{Server: "SN1", Hostname: "oslo-w1", Role: fleet.Worker}, fleet.Assignment{Server: "SN2", Hostname: "oslo-w2", Role: fleet.Worker}
	first := keep(fleet.Plan{Site: "oslo", Assignments: []fleet.Assignment{one, two}})
	second := keep(fleet.Plan{Site: "oslo", Assignments: []fleet.Assignment{one}})
	monday := time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)
	tell := func(e fleet.Event) {
		t.Helper()
		e.At, e.Plan = monday, first.ID
		if e.Edge == "" {
			e.Edge, e.Outcome = fleet.Ended, fleet.OK
		}
		if _, err := st.Append(ctx, e); err != nil {
			t.Fatal(err)
		}
	}
	soon, later := monday.Add(time.Hour), monday.Add(25*time.Hour)
	want := func(when, plan string, at time.Time, host string) {
		t.Helper()
		err := allowed(ctx, dir, plan, at)
		if host == "" {
			if err != nil {
				t.Errorf("%s: %v", when, err)
			}
			return
		}
		if fleet.CodeOf(err) != fleet.CodeConsentMissing || !strings.Contains(err.Error(), "erase the disk of "+host) {
			t.Errorf("%s: %v, want a refusal for %s", when, err, host)
		}
	}
	want("nothing was allowed", second.ID, soon, "")
	tell(fleet.Event{Action: fleet.ActConsent})
	want("the same plan, allowed anew", first.ID, later, "")
	want("another command, soon", "", soon, "")
	want("another command, a day later", "", later, "oslo-w1, oslo-w2")
	want("another plan", second.ID, soon, "oslo-w1, oslo-w2")
	for _, a := range []fleet.Action{fleet.ActStage, fleet.ActHello, fleet.ActWrite, fleet.ActArrive, fleet.ActFinish} {
		tell(fleet.Event{Server: "SN1", Attempt: 1, Action: a, Data: []byte(`{}`)})
	}
	want("one is installed", second.ID, soon, "oslo-w2")
	tell(fleet.Event{Server: "SN2", Action: fleet.ActHold, Edge: fleet.Ended, Outcome: fleet.Failed, Cause: &fleet.Cause{Code: fleet.CodeBMCUnreachable}})
	want("the other is held: it waits for a person", second.ID, later, "")
	want("the other is held, another command", "", later, "")
	tell(fleet.Event{Server: "SN2", Action: fleet.ActRetry})
	want("it was given another attempt", second.ID, later, "oslo-w2")
	tell(fleet.Event{Action: fleet.ActWithdraw})
	want("the consent was taken back", second.ID, later, "")
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	if err := allowed(ctx, t.TempDir(), first.ID, later); err != nil {
		t.Errorf("no state: %v", err)
	}
}
