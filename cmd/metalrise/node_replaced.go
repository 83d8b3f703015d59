package main

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"time"

	"metalrise.dev/bmc"
	"metalrise.dev/fleet"
	"metalrise.dev/provision/store"
)

// alreadyReplaced tells whether an earlier call of node replace came to its end,
// and says so. A node that came back and is not ready now is refused: the same
// words do not tell whether it is to be erased a second time.
func (o *options) alreadyReplaced(ctx context.Context, name, with string) (bool, error) {
	dir, err := o.siteDir()
	if err != nil {
		return false, err
	}
	view, err := overview(ctx, dir)
	if err != nil {
		return false, err
	}
	s, known, err := o.replacement(ctx, view, name, with)
	if err != nil || !known {
		return false, err
	}
	st, err := store.OpenReader(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	events, err := allOf(ctx, st)
	if err := errors.Join(err, st.Close()); err != nil {
		return false, err
	}
	at, done := cameBack(events, s.Server, with != "")
	if !done {
		return false, nil
	}
	o.lookAtCluster(ctx, &view)
	if missing := notReady(view, s.Server); missing != "" {
		if with != "" { // the old server is gone already: the plan goes on with the new one
			return false, nil
		}
		return false, fleet.NewFault(fleet.CodeConsentMissing, fleet.Denied, nil,
			"%s (%s) was replaced before, it was ready again on %s, and is not ready now: %s; with --again it is erased and installed once more",
			s.Hostname, s.Server, at.Local().Format(time.DateTime), missing)
	}
	by := ""
	if with != "" {
		by = " by " + s.Hostname
	}
	o.printf("%s was already replaced%s on %s, the node is ready; nothing was done. To erase and install it once more give --again\n",
		name, by, at.Local().Format(time.DateTime))
	return true, nil
}

// replacement finds the server that takes the place of a node: the same one, or
// the one behind the BMC at with once the plan has the old one no more.
func (o *options) replacement(ctx context.Context, view fleet.Overview, name, with string) (fleet.Status, bool, error) {
	address := ""
	if with != "" {
		if there, err := o.replaced(ctx, name, with); err != nil || !there {
			return fleet.Status{}, false, err
		}
		f, _, err := o.siteFile()
		if err != nil {
			return fleet.Status{}, false, err
		}
		wanted, err := bmc.Expand([]string{with}, orPort(f.Typed().BMCs.Port))
		if err != nil {
			return fleet.Status{}, false, err
		}
		address = wanted[0]
	}
	for _, s := range view.Servers {
		if with == "" && (name == s.Hostname || name == string(s.Server)) || with != "" && s.BMC == address {
			return s, true, nil
		}
	}
	return fleet.Status{}, false, nil
}

// cameBack gives when a server was ready for the first time after it was taken
// away to be replaced; a fresh one need not have been taken away.
func cameBack(events []fleet.Event, server fleet.ServerID, fresh bool) (time.Time, bool) {
	const (
		stays = iota
		leaves
		gone
		back
	)
	state, plan, at := stays, "", time.Time{}
	if fresh {
		state = gone
	}
	for _, e := range events {
		if e.Server != server {
			continue
		}
		ok := e.Edge == fleet.Ended && (e.Outcome == fleet.OK || e.Outcome == fleet.Adopted)
		switch {
		case e.Action == fleet.ActRemove && e.Edge == fleet.Began:
			var r fleet.Removal
			_ = json.Unmarshal(e.Data, &r) // older journals say less
			if state, plan = stays, e.Plan; r.Replace {
				state = leaves
			}
		case e.Action == fleet.ActRemove && ok && state == leaves:
			state = gone
		case (e.Action == fleet.ActReady || e.Action == fleet.ActFinish) && ok && state == gone && e.Plan != plan:
			state, at = back, e.At
		}
	}
	return at, state == back
}

// notReady says what a server lacks that was ready once; "" when nothing.
func notReady(view fleet.Overview, server fleet.ServerID) string {
	for _, s := range view.Servers {
		if s.Server != server {
			continue
		}
		for _, k := range s.Checks {
			if !k.OK {
				return k.Name + " is not true: " + k.Missing
			}
		}
		switch {
		case s.Condition != fleet.Settled:
			return "it is " + string(s.Condition) + ", " + s.Step
		case view.Cluster == nil && s.Phase == fleet.Installed:
			return ""
		case s.Phase != fleet.Ready:
			return "it is " + string(s.Phase)
		case view.Cluster != nil && (!view.Cluster.Reachable || len(s.Checks) == 0):
			return "its cluster does not answer"
		}
		return ""
	}
	return "it is not part of the plan"
}
