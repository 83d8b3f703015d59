package provision

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"metalrise.dev/fleet"
)

// Surveyor looks at BMCs while there is no plan yet.
type Surveyor interface {
	// Probe tells what answers at an address (host:port) without logging in.
	// That nothing answers is a result, not an error.
	Probe(ctx context.Context, address string) fleet.Found
	// Inspect logs in to one BMC, pinned to its certificate, and reads every
	// server behind it.
	Inspect(ctx context.Context, at fleet.Endpoint) (Behind, error)
}

// Behind is what stands behind one BMC.
type Behind struct {
	Fingerprint string        // of the certificate that was met
	Servers     []fleet.Facts // one for each server, with its SystemURI
	Others      []Other       // things that are no servers
	Requests    int           // that it took
	Username    string        // of the login that worked, and where its password is
	Password    fleet.SecretRef
	What        string           // kinds of things behind the BMC in one phrase: "server", "multi-server enclosure", …
	Why         string           // how that was known
	Lockout     fleet.Maybe[int] // refused logins after which an account is locked; 0: never
}

// Other is something behind a BMC, or at an address, that is no server.
type Other struct {
	Address string `json:"address"`
	URI     string `json:"uri,omitempty"`
	Kind    string `json:"kind"`
	Why     string `json:"why"`
}

// Keeper stores what a survey finds.
type Keeper interface {
	Journal
	// KeepFound stores what answers at an address.
	KeepFound(ctx context.Context, f fleet.Found) error
	// Found lists what answered before, by address.
	Found(ctx context.Context) (map[string]fleet.Found, error)
	// KeepServers stores the servers behind one BMC, each with its facts, in place
	// of those stored for its address before.
	KeepServers(ctx context.Context, address string, servers []fleet.Server, facts []fleet.Facts) error
}

// surveyWidth bounds how many BMCs are logged in to at once: each costs a TLS
// handshake, some 2 ms of processor time here and up to a second on a BMC.
const surveyWidth = 64

// WhatRedfish is fleet.Found.What of a BMC that can be inspected.
const WhatRedfish = "redfish"

// WhatNothing is fleet.Found.What of an address where nothing answers.
const WhatNothing = "no answer"

// Inspected is what a survey learnt of one address.
type Inspected struct {
	Endpoint fleet.Endpoint
	Behind   Behind
	Err      error // of this BMC only
}

// Inspect logs in to BMCs and keeps their servers and facts. One BMC's fault
// costs only that BMC and stands in its result. each is called as each is done,
// one call at a time. A nil keeper keeps nothing.
func Inspect(ctx context.Context, s Surveyor, k Keeper, at []fleet.Endpoint, each func(Inspected)) ([]Inspected, error) {
	out := make([]Inspected, len(at))
	var before map[string]fleet.Found
	if k != nil {
		var err error
		if before, err = k.Found(ctx); err != nil {
			return nil, err
		}
	}
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(surveyWidth)
	for i, e := range at {
		g.Go(func() error {
			r := Inspected{Endpoint: e}
			r.Behind, r.Err = s.Inspect(ctx, e)
			if err := ctx.Err(); err != nil {
				return err
			}
			if r.Endpoint.Fingerprint == "" {
				r.Endpoint.Fingerprint = r.Behind.Fingerprint
			}
			if r.Behind.Username != "" {
				r.Endpoint.Username, r.Endpoint.Password = r.Behind.Username, r.Behind.Password
			}
			if k != nil {
				if err := keepInspected(ctx, k, r, before); err != nil {
					return err
				}
			}
			mu.Lock()
			defer mu.Unlock()
			out[i] = r
			each(r)
			return nil
		})
	}
	return out, g.Wait()
}

func keepInspected(ctx context.Context, k Keeper, r Inspected, before map[string]fleet.Found) error {
	if r.Err != nil {
		_, err := k.Append(ctx, fleet.Event{At: time.Now(), Action: fleet.ActInspect, Edge: fleet.Ended, Outcome: fleet.Failed,
			Cause: fleet.CauseOf(r.Err), Note: "inspect " + r.Endpoint.Address})
		return err
	}
	if err := keepBehind(ctx, k, r, before); err != nil {
		return err
	}
	var servers []fleet.Server
	var facts []fleet.Facts
	var events []fleet.Event
	for _, f := range r.Behind.Servers {
		s := Enroll(r.Endpoint, f)
		if s.ID == "" {
			continue // said by NoIdentity; such a machine cannot be kept apart, so it is not kept
		}
		servers, facts = append(servers, s), append(facts, f)
		events = append(events, fleet.Event{At: time.Now(), Server: s.ID, Action: fleet.ActInspect, Edge: fleet.Ended, Outcome: fleet.OK,
			Note: fmt.Sprintf("%s %s behind %s, %d disks, %d ports, %d requests", f.Manufacturer, f.Model, r.Endpoint.Address, len(f.Disks), len(f.NICs), r.Behind.Requests)})
	}
	if err := k.KeepServers(ctx, r.Endpoint.Address, servers, facts); err != nil || len(events) == 0 {
		return err
	}
	_, err := k.Append(ctx, events...)
	return err
}

// keepBehind adds what a login told to what was found without one.
func keepBehind(ctx context.Context, k Keeper, r Inspected, before map[string]fleet.Found) error {
	f, ok := before[r.Endpoint.Address]
	if !ok || r.Behind.What == "" {
		return nil
	}
	f.Behind, f.Lockout, f.Username = r.Behind.What, r.Behind.Lockout, r.Endpoint.Username
	return k.KeepFound(ctx, f)
}

// Enroll makes the server that facts describe.
func Enroll(at fleet.Endpoint, f fleet.Facts) fleet.Server {
	at.SystemURI, at.Fallback = f.SystemURI, nil
	return fleet.Server{ID: f.Identity.ID(), Identity: f.Identity, BMC: at}
}

// NoIdentity lists servers that nothing tells apart from others.
func NoIdentity(all []Inspected) []fleet.Finding {
	page, _ := fleet.Page(fleet.CodeNoIdentity)
	var out []fleet.Finding
	for _, r := range all {
		for _, f := range r.Behind.Servers {
			if f.Identity.ID() == "" {
				out = append(out, fleet.Finding{Code: page.Code, Severity: fleet.Warning, Path: r.Endpoint.Address + f.SystemURI,
					Text: page.Title + ": neither serial nor UUID is usable", Remedy: page.Remedy})
			}
		}
	}
	return out
}

// Failures turns the faults of a survey into findings.
func Failures(all []Inspected) []fleet.Finding {
	var out []fleet.Finding
	for _, r := range all {
		if r.Err == nil {
			continue
		}
		code := fleet.CodeOf(r.Err)
		page, _ := fleet.Page(code)
		text := r.Err.Error()
		if errors.Is(r.Err, context.DeadlineExceeded) {
			text = "no answer in time: " + text
		}
		out = append(out, fleet.Finding{Code: code, Severity: fleet.Warning, Path: r.Endpoint.Address, Text: text, Remedy: page.Remedy})
	}
	return out
}
