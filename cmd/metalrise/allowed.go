package main

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"time"

	"metalrise.dev/fleet"
	"metalrise.dev/provision"
	"metalrise.dev/provision/store"
)

// allowed refuses to start an engine that would erase what nobody allows now. An
// engine goes on with the plan that was consented to last, whatever it was
// started for. That must be the plan that a person just allowed, or one whose
// consent is no older than apply takes it for good.
func allowed(ctx context.Context, dir, plan string, now time.Time) error {
	st, err := store.OpenReader(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer st.Close()
	view, err := provision.Recall(ctx, st, st)
	if err != nil {
		return nil // the engine meets the same fault, and says more
	}
	hosts := toErase(view)
	if len(hosts) == 0 || view.Plan == plan {
		return nil
	}
	_, at, err := st.LastConsent(ctx)
	if err != nil {
		return err
	}
	what := strings.Join(hosts[:min(len(hosts), 12)], ", ")
	if len(hosts) > 12 {
		what += ", …"
	}
	switch {
	case plan != "":
		return fleet.NewFault(fleet.CodeConsentMissing, fleet.Denied, nil,
			"plan %.12s was allowed before and is not done: an engine would go on with it and erase the disk of %s. Take that consent back with metalrise stop --cancel, or go on with metalrise apply %.12s",
			view.Plan, what, view.Plan)
	case now.Sub(at) >= provision.ConsentLasts:
		return fleet.NewFault(fleet.CodeConsentMissing, fleet.Denied, nil,
			"plan %.12s was allowed on %s and is not done: an engine would go on with it and erase the disk of %s. metalrise apply %.12s asks for it again, metalrise stop --cancel takes the consent back",
			view.Plan, at.Local().Format(time.DateTime), what, view.Plan)
	}
	return nil
}

// toErase are the hosts whose disks an engine would have written by itself:
// neither written nor held.
func toErase(view fleet.Overview) []string {
	var out []string
	for _, s := range view.Servers {
		switch s.Phase {
		case fleet.Planned, fleet.Staged, fleet.Booted:
			if s.Condition != fleet.Held && s.Condition != fleet.Settled {
				out = append(out, s.Hostname)
			}
		}
	}
	return out
}
