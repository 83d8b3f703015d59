package provision

import (
	"context"
	"slices"

	"metalrise.dev/fleet"
)

// RetryBy is Retry with an attempt that begins on a rung of the boot ladder that
// a person chose. Rungs above it are not tried; those below it are, if it does
// not carry. Faults: SITE-002 for an unknown server, RUN-003 when the server is
// not held or is not to be booted from a medium, PLAN-011 for a rung that is not
// on its ladder or that this engine cannot serve.
func (e *Engine) RetryBy(ctx context.Context, id fleet.ServerID, by string, route fleet.BootRoute) error {
	return e.retry(ctx, id, by, again{Route: route})
}

// takesLocked tells why a retry cannot begin on the rung that was chosen.
func (w *walker) takesLocked(a again) error {
	if a.Route == "" {
		return nil
	}
	if !w.track.bootable() && !a.Reinstall {
		return fleet.NewFault(fleet.CodePlanUnknown, fleet.Conflict, nil, "server %s boots from its own disk now, no route leads to a medium", w.plan.Server)
	}
	if !slices.Contains(w.track.Route.Ladder, a.Route) {
		return fleet.NewFault(fleet.CodeNoVirtualMedia, fleet.Invalid, nil, "%q is not a way to boot server %s", string(a.Route), w.plan.Server)
	}
	if why := w.lookLocked().unserved(a.Route); why != "" {
		return fleet.NewFault(fleet.CodeNoVirtualMedia, fleet.Unsupported, nil, "%s cannot be served: %s", string(a.Route), why)
	}
	return nil
}

// bootable tells whether the next attempt boots from a medium: later ones boot
// what was written.
func (t *Track) bootable() bool {
	return !t.Written && !t.Arrived && !t.Settled && !t.Node.Joined && !t.Node.Kept
}

// offers lists the whole ladder, with why a rung cannot be taken now.
func (t *RouteTrack) offers(look Look) []fleet.RouteOffer {
	var out []fleet.RouteOffer
	for _, r := range t.Ladder {
		out = append(out, fleet.RouteOffer{Route: r, Unserved: look.unserved(r)})
	}
	return out
}
