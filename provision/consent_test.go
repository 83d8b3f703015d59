package provision

import (
	"testing"
	"testing/synctest"
	"time"

	"metalrise.dev/fleet"
)

// TestStaleConsentErasesNothing holds a server whose disk was not written and
// one whose disk was, and retries both when the consent is older than a day.
func TestStaleConsentErasesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(2)
		blank, written := w.servers["SN001"], w.servers["SN002"]
		blank.agentGivesUp, written.noReport = true, true
		e, err := w.boot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		time.Sleep(25 * time.Hour)
		for _, s := range e.Overview().Servers {
			if s.Condition != fleet.Held {
				t.Fatalf("not held: %+v", s)
			}
		}
		for _, r := range []*rig{blank, written} {
			r.mu.Lock()
			r.agentGivesUp, r.noReport = false, false
			r.mu.Unlock()
		}
		refused := func(when string) {
			t.Helper()
			n := len(w.journal())
			if err := e.Retry(t.Context(), "SN001", "test"); fleet.CodeOf(err) != fleet.CodeConsentMissing || fleet.KindOf(err) != fleet.Denied {
				t.Errorf("%s: %v, want %s", when, err, fleet.CodeConsentMissing)
			}
			if err := e.RetryBy(t.Context(), "SN001", "test", fleet.VirtualMedia); fleet.CodeOf(err) != fleet.CodeConsentMissing {
				t.Errorf("%s, by a route: %v, want %s", when, err, fleet.CodeConsentMissing)
			}
			if len(w.journal()) != n {
				t.Errorf("%s: %d events of a refused retry", when, len(w.journal())-n)
			}
		}
		refused("a day later")
		if err := e.Retry(t.Context(), "SN002", "test"); err != nil {
			t.Errorf("a disk that is written: %v", err)
		}
		apply := func(at time.Time) {
			t.Helper()
			if err := e.Apply(t.Context(), fleet.Consent{Plan: w.plan.ID, EraseDisks: 2, By: "test", At: at}); err != nil {
				t.Fatal(err)
			}
		}
		apply(begun.Add(time.Hour)) // who applied then was not asked
		refused("the plan was only continued")
		if err := e.Apply(t.Context(), fleet.Consent{Plan: w.plan.ID, EraseDisks: 1, By: "test", At: time.Now()}); fleet.CodeOf(err) != fleet.CodeConsentMismatch {
			t.Errorf("one disk of two: %v", err)
		}
		refused("another number of disks was typed")
		apply(time.Now())
		apply(time.Now())
		consents := 0
		for _, ev := range w.journal() {
			if ev.Action == fleet.ActConsent {
				consents++
			}
		}
		if consents != 2 {
			t.Errorf("%d consents in the journal, want the first and one more", consents)
		}
		time.Sleep(2 * time.Hour)
		w.kill()
		e.Wait()
		if e, err = w.boot(t.Context()); err != nil { // an engine that begins later knows of it
			t.Fatal(err)
		}
		if err := e.Retry(t.Context(), "SN001", "test"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour)
		for _, s := range e.Overview().Servers {
			if s.Condition != fleet.Settled {
				t.Errorf("%+v, want settled", s)
			}
		}
		if written.written() != 1 {
			t.Errorf("the disk that was written is written %d times", written.written())
		}
		w.kill()
		e.Wait()
		w.unplug()
	})
}

// TestReinstallIsAllowedByName reinstalls a server long after the consent: the
// word for this one server lasts as long as one for a plan.
func TestReinstallIsAllowedByName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(1)
		r := w.servers["SN001"]
		r.agentGivesUp = true
		e, err := w.boot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(25 * time.Hour)
		if err := e.Reinstall(t.Context(), "SN001", "test"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Hour)
		if err := e.Retry(t.Context(), "SN001", "test"); err != nil {
			t.Errorf("hours after it was allowed by name: %v", err)
		}
		time.Sleep(25 * time.Hour)
		if err := e.Retry(t.Context(), "SN001", "test"); fleet.CodeOf(err) != fleet.CodeConsentMissing {
			t.Errorf("a day after it was allowed by name: %v", err)
		}
		w.kill()
		e.Wait()
		w.unplug()
	})
}
