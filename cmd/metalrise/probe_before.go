package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"metalrise.dev/fleet"
	"metalrise.dev/provision"
	"metalrise.dev/provision/api"
)

// probeBefore probes the BMCs that a plan will give media to, where that was not
// done for a day. What cannot be probed is left to the run itself. While an engine
// works on the site nothing is probed: it holds the journal and the port.
func (o *options) probeBefore(ctx context.Context, s fleet.Site, dir string, p fleet.Plan) error {
	if _, err := api.NewClient(dir).Overview(ctx); !errors.Is(err, api.ErrNoEngine) {
		return nil
	}
	st, err := o.writer(s.Name)
	if err != nil {
		return err
	}
	defer st.Close()
	fresh, err := provision.FreshProbes(ctx, st, time.Now().Add(-provision.ProbeLasts))
	if err != nil {
		return err
	}
	servers := probedFirst(p, fresh)
	if len(servers) == 0 {
		return nil
	}
	begin := time.Now()
	all, err := o.probeAll(ctx, s, st, &prober{hurry: true, seen: map[string]*routeProbe{}}, servers)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		fmt.Fprintf(o.errs, "the BMCs were not probed: %v\n", err)
		return nil
	}
	works := 0
	for _, r := range all {
		if r.works() {
			works++
			continue
		}
		for _, route := range r.Routes {
			fmt.Fprintf(o.errs, "probe: %s (%s), %s: %s %s\n", r.Server, r.BMC, route.Route, route.State, route.why())
		}
	}
	fmt.Fprintf(o.errs, "probe: %d of %d BMCs fetched a medium from here, %.1f s\n", works, len(all), time.Since(begin).Seconds())
	return nil
}

// probedFirst lists the servers of a plan that get a medium by their BMC first, and
// that were not probed yet.
func probedFirst(p fleet.Plan, fresh map[fleet.ServerID]bool) []fleet.Server {
	var out []fleet.Server
	for _, a := range p.Assignments {
		ladder := a.BootRoutes
		if len(ladder) == 0 {
			ladder = fleet.BootRoutes()
		}
		if a.Role == fleet.Excluded || a.Kept != "" || a.BMC.Address == "" || a.BMC.IsByHand() || fresh[a.Server] || !slices.Contains(ladder, fleet.VirtualMedia) {
			continue
		}
		out = append(out, fleet.Server{ID: a.Server, Identity: a.Identity, BMC: a.BMC})
	}
	return out
}

// works tells whether a medium was fetched by any route.
func (r serverProbe) works() bool {
	return slices.ContainsFunc(r.Routes, func(p routeProbe) bool { return p.State == probeWorks })
}

// event is what is written down of a server's probe.
func (r serverProbe) event(at time.Time) (fleet.Event, error) {
	var results []provision.Probed
	var words []string
	for _, p := range r.Routes {
		if p.Route != fleet.VirtualMedia && p.Route != fleet.VirtualMediaHTTP {
			continue
		}
		v := provision.Probed{Route: p.Route, Works: p.State == probeWorks}
		if p.State == probeFailed {
			v.Cause = p.Cause
		}
		results = append(results, v)
		words = append(words, fmt.Sprintf("%s %s", p.Route, p.State))
	}
	return provision.ProbeEvent(at, r.Server, results, "probe: "+strings.Join(words, ", "))
}

// probe is probeBefore for a person at the wizard, whose screen is not written
// over. The journal has what was learnt.
func (d *clerk) probe(ctx context.Context, s fleet.Site, dir, id string) error {
	p, _, err := findPlan(ctx, dir, id, time.Now())
	if err != nil {
		return err
	}
	silent := *d.o
	silent.errs = io.Discard
	return silent.probeBefore(ctx, s, dir, p)
}
