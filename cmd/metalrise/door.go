package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"metalrise.dev/bmc"
	"metalrise.dev/fleet"
	"metalrise.dev/fleet/site"
	"metalrise.dev/provision"
	"metalrise.dev/provision/store"
)

// door is the one way into BMCs of a process: it asks a person once for each
// secret, counts refused logins over all sessions, and writes down which
// sessions are open.
type door struct {
	secrets *site.Secrets
	ledger  *bmc.Ledger
	prober  *bmc.Prober
	book    book // nil: sessions are not written down
}

// book is where open sessions are written down, so that they can be closed
// after a crash: some BMCs have only four, and keep them for half an hour.
type book interface {
	KeepOpened(ctx context.Context, o store.Opened) error
	DropOpened(ctx context.Context, o store.Opened) error
	AllOpened(ctx context.Context) (map[string]store.Opened, error)
}

func newDoor(b book) *door {
	return &door{secrets: &site.Secrets{}, ledger: bmc.NewLedger(), prober: bmc.NewProber(512), book: b}
}

// visit is one open session.
type visit struct {
	*bmc.Session
	door *door

	mu     sync.Mutex
	opened []store.Opened
}

// bookTime bounds writing down a session, which happens whatever becomes of the
// context of the work.
const bookTime = 5 * time.Second

// dial logs in with the endpoint's own login.
func (d *door) dial(ctx context.Context, at fleet.Endpoint, newPins bool) (*visit, error) {
	password, err := d.secrets.Resolve(at.Password)
	if err != nil {
		return nil, err
	}
	v := &visit{door: d}
	o := bmc.Options{AcceptNewPin: newPins, Ledger: d.ledger}
	if d.book != nil {
		o.SessionOpened = func(location string) { v.note(at, location) }
	}
	v.Session, err = bmc.Dial(ctx, bmc.Login{Endpoint: at, Password: password, Options: o})
	if err != nil {
		v.drop() // a session that only a new password may use was closed again
		return nil, err
	}
	return v, nil
}

func (v *visit) note(at fleet.Endpoint, location string) {
	ctx, cancel := context.WithTimeout(context.Background(), bookTime)
	defer cancel()
	o := store.Opened{Endpoint: at, Location: location, At: time.Now()}
	// When it cannot be written down the session still works; at worst it stays
	// open after a crash.
	if err := v.door.book.KeepOpened(ctx, o); err == nil {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.opened = append(v.opened, o)
	}
}

func (v *visit) drop() {
	v.mu.Lock()
	defer v.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), bookTime)
	defer cancel()
	for _, o := range v.opened {
		_ = v.door.book.DropOpened(ctx, o) // at worst it is closed once more
	}
	v.opened = nil
}

// Close ends the session on the BMC. One that could not be closed stays in the
// book.
func (v *visit) Close() error {
	err := v.Session.Close()
	if err == nil {
		v.drop()
	}
	return err
}

// login tries an endpoint's logins in their order and tells which one worked.
// It goes on only after a plain refusal, and tries at most two passwords with
// the same user name, because the BMC counts refusals by name.
func (d *door) login(ctx context.Context, at fleet.Endpoint, newPins bool) (*visit, fleet.Endpoint, error) {
	all := append([]fleet.Credential{{Username: at.Username, Password: at.Password}}, at.Fallback...)
	tried := map[string]int{}
	var refused []error
	for _, c := range all {
		if tried[c.Username]++; tried[c.Username] > 2 {
			refused = append(refused, fleet.NewFault(fleet.CodeBMCLoginsSpent, fleet.Denied, nil,
				"user %q was refused with two passwords; a third one (%s) is not tried", c.Username, c.Password))
			continue
		}
		with := at
		with.Username, with.Password, with.Fallback = c.Username, c.Password, nil
		v, err := d.dial(ctx, with, newPins)
		switch fleet.CodeOf(err) {
		case fleet.CodeBMCLoginRefused, fleet.CodeBMCLoginsSpent:
			refused = append(refused, err)
			continue
		}
		if err != nil {
			return nil, at, err
		}
		return v, with, nil
	}
	if len(refused) == 1 {
		return nil, at, refused[0]
	}
	return nil, at, fmt.Errorf("all %d logins for bmc %s: %w", len(all), at.Address, errors.Join(refused...))
}

// forget closes the sessions that an earlier process left open. One that cannot
// be closed now is kept for the next time, for a day at most: no BMC keeps it
// longer.
func (d *door) forget(ctx context.Context, left map[string]store.Opened, each func(store.Opened, error)) {
	const wide, long, stale = 8, 2 * time.Minute, 24 * time.Hour
	slots := make(chan struct{}, wide)
	var group sync.WaitGroup
	for _, o := range left {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(ctx, long)
			defer cancel()
			err := d.forgetOne(ctx, o)
			if err == nil || time.Since(o.At) > stale {
				err = errors.Join(err, d.book.DropOpened(ctx, o))
			}
			each(o, err)
		})
	}
	group.Wait()
}

func (d *door) forgetOne(ctx context.Context, o store.Opened) error {
	password, err := d.secrets.Resolve(o.Endpoint.Password)
	if err != nil {
		return err
	}
	return bmc.Forget(ctx, bmc.Login{Endpoint: o.Endpoint, Password: password, Options: bmc.Options{Ledger: d.ledger, AcceptNewPin: o.Endpoint.Fingerprint == ""}}, o.Location)
}

// surveyor is provision's way to package bmc. Without a door it has one of its
// own for each call.
type surveyor struct {
	door    *door
	newPins bool
}

func (s surveyor) Probe(ctx context.Context, address string) fleet.Found {
	probe := bmc.Probe
	if s.door != nil {
		probe = s.door.prober.Probe
	}
	f, err := probe(ctx, address)
	out := fleet.Found{Address: address, Fingerprint: f.Fingerprint, Vendor: f.Vendor, Product: f.Product, Redfish: f.RedfishVersion,
		UUID: f.UUID, What: string(f.What), Why: f.Why, Outdated: f.Outdated}
	if err != nil {
		out.Why += ": " + firstLine(err.Error())
	}
	return out
}

func (s surveyor) Inspect(ctx context.Context, at fleet.Endpoint) (provision.Behind, error) {
	if s.door == nil {
		s.door = newDoor(nil)
	}
	if _, ok := bmc.IPMIAddress(at.Address); ok {
		return s.door.inspectIPMI(ctx, at)
	}
	session, with, err := s.door.login(ctx, at, s.newPins)
	if err != nil {
		return provision.Behind{}, err
	}
	defer session.Close()
	b := provision.Behind{Fingerprint: session.Fingerprint(), Username: with.Username, Password: with.Password}
	if b.Lockout, err = session.Lockout(ctx); err != nil {
		b.Lockout = fleet.Maybe[int]{} // an account may read servers and not this
	}
	systems, err := session.Systems(ctx)
	if err != nil {
		return b, err
	}
	for _, sys := range systems {
		if sys.Kind != bmc.IsServer {
			b.Others = append(b.Others, provision.Other{Address: at.Address, URI: sys.URI, Kind: string(sys.Kind), Why: sys.Why})
			continue
		}
		facts, err := session.Inspect(ctx, sys.URI)
		if err != nil {
			return b, err
		}
		b.Servers = append(b.Servers, facts)
	}
	b.What, b.Why = behind(b)
	b.Requests = int(session.Stats().Requests)
	return b, nil
}

// behind says in a phrase what stands behind a BMC, from its list of systems.
func behind(b provision.Behind) (what, why string) {
	switch {
	case len(b.Servers) == 1:
		return "server", "one of its systems is a server"
	case len(b.Servers) > 1:
		return "multi-server enclosure", fmt.Sprintf("%d of its systems are servers", len(b.Servers))
	case len(b.Others) > 0:
		return b.Others[0].Kind, b.Others[0].Why
	}
	return "no server", "it lists no systems"
}

// dial logs in for one command, without a book, with the first of the
// endpoint's logins that works.
func dial(ctx context.Context, at fleet.Endpoint, newPins bool) (*bmc.Session, error) {
	v, _, err := newDoor(nil).login(ctx, at, newPins)
	if err != nil {
		return nil, err
	}
	return v.Session, nil
}
