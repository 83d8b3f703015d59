package provision

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"metalrise.dev/fleet"
)

// ConsentLasts is how long a person's word to erase disks is good for what was
// not begun, or came to a halt: after a day nobody can be sure that the disks
// still hold what they held.
const ConsentLasts = 24 * time.Hour

// consent writes a person's word down and gives when that was.
func (e *Engine) consent(ctx context.Context, c fleet.Consent) (time.Time, error) {
	data, err := json.Marshal(c)
	if err != nil {
		return time.Time{}, fmt.Errorf("encode consent: %w", err)
	}
	at := time.Now()
	_, err = e.Journal.Append(ctx, fleet.Event{At: at, Plan: c.Plan, Action: fleet.ActConsent, Edge: fleet.Ended, Outcome: fleet.OK,
		Note: fmt.Sprintf("%s allowed to erase %d disks", c.By, c.EraseDisks), Data: data})
	return at, err
}

// renew takes a consent to the plan that runs already. Who applies it while the
// consent lasts was not asked anew, and only goes on: so it counts by the same
// clock reading by which the asker decided.
func (e *Engine) renew(ctx context.Context, r *run, c fleet.Consent) error {
	if c.At.Sub(r.allowed) < ConsentLasts {
		return nil
	}
	at, err := e.consent(ctx, c)
	if err != nil {
		return err
	}
	r.allowed = at
	return nil
}

// consentedLocked refuses another attempt that would erase a disk which nobody
// allows to erase now. Reinstalling was allowed by the server's name just now.
func (w *walker) consentedLocked(a again, now time.Time) error {
	t := w.track
	if a.Reinstall || !t.bootable() || t.Node.Removal != nil {
		return nil
	}
	at := w.run.allowed
	if t.Allowed.After(at) {
		at = t.Allowed
	}
	if now.Sub(at) < ConsentLasts {
		return nil
	}
	return fleet.NewFault(fleet.CodeConsentMissing, fleet.Denied, nil,
		"server %s is not written yet, and the consent to erase its disk is of %s, older than a day; give it again with metalrise apply %.12s, then retry",
		w.plan.Server, at.Local().Format(time.DateTime), w.run.plan.ID)
}
