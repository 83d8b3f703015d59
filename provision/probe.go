package provision

import (
	"context"
	"encoding/json"
	"time"

	"metalrise.dev/fleet"
)

// ProbeLasts is for how long the result of a probe is believed: firewalls and
// firmware are not changed every day.
const ProbeLasts = 24 * time.Hour

// Probed is how one rung of the boot ladder stood the probe: the BMC was asked to
// fetch a tiny medium on it.
type Probed struct {
	Route fleet.BootRoute `json:"route"`
	Works bool            `json:"works"`           // it was fetched
	Cause *fleet.Cause    `json:"cause,omitempty"` // of a failure; without one nothing was learnt
}

// probeData is the data of a probe event.
type probeData struct {
	Routes []Probed `json:"routes"`
}

// ProbeEvent is what is written down of one server's probe.
func ProbeEvent(at time.Time, s fleet.ServerID, results []Probed, note string) (fleet.Event, error) {
	e := fleet.Event{At: at, Server: s, Action: fleet.ActProbe, Edge: fleet.Ended, Outcome: fleet.OK, Note: note}
	works := false
	for _, r := range results {
		works = works || r.Works
	}
	for _, r := range results {
		if !works && r.Cause != nil {
			e.Outcome, e.Cause = fleet.Failed, r.Cause
			break
		}
	}
	var err error
	e.Data, err = json.Marshal(probeData{results})
	return e, err
}

// FreshProbes tells which servers were probed at or after since.
func FreshProbes(ctx context.Context, j Journal, since time.Time) (map[fleet.ServerID]bool, error) {
	events, err := allEvents(ctx, j)
	if err != nil {
		return nil, err
	}
	out := map[fleet.ServerID]bool{}
	for _, e := range events {
		if e.Action == fleet.ActProbe && !e.At.Before(since) {
			out[e.Server] = true
		}
	}
	return out, nil
}

// foldProbe notes which rungs did not stand the probe in a way that another one
// can do without. What a probe could not tell changes nothing.
func (r *RouteTrack) foldProbe(e fleet.Event) {
	var d probeData
	if json.Unmarshal(e.Data, &d) != nil {
		return
	}
	r.Failed = map[fleet.BootRoute]fleet.Cause{}
	for _, p := range d.Routes {
		if !p.Works && p.Cause != nil && curable(fleet.ActInsert, *p.Cause) {
			r.Failed[p.Route] = *p.Cause
		}
	}
}

// recallProbe takes the event of a probe, under whatever plan it was: it is about
// the BMC. An old one counts as none.
func (w *walker) recallProbe(e fleet.Event) bool {
	if e.Action != fleet.ActProbe {
		return false
	}
	if e.Server == w.plan.Server && w.engine.started.Sub(e.At) < ProbeLasts {
		w.track.Route.foldProbe(e)
	}
	return true
}

// barred says why a rung is not taken: the engine cannot serve it, or it did not
// stand the probe.
func (r *RouteTrack) barred(route fleet.BootRoute, look Look) (fleet.RouteFault, bool) {
	if why := look.unserved(route); why != "" {
		return fleet.RouteFault{Route: route, Cause: fleet.Cause{Code: fleet.CodeNoVirtualMedia, Kind: fleet.Unsupported, Chain: []string{"not tried: " + why}}}, true
	}
	if route.ByBMC() && r.Wish == fleet.MinimalMedium && look.Unmade != "" {
		return fleet.RouteFault{Route: route, Cause: fleet.Cause{Code: fleet.CodeNoVirtualMedia, Kind: fleet.Unsupported, Chain: []string{"not tried: no minimal medium can be made: " + look.Unmade}}}, true
	}
	if c, failed := r.Failed[route]; failed {
		chain := append([]string{"not tried: the probe did not arrive by it"}, c.Chain...)
		return fleet.RouteFault{Route: route, Cause: fleet.Cause{Code: c.Code, Kind: c.Kind, Chain: chain}}, true
	}
	return fleet.RouteFault{}, false
}
