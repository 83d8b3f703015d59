package provision

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"metalrise.dev/fleet"
)

// sweepWidth bounds how many addresses are asked at once. Most are silent and
// cost nothing but waiting; whoever asks may allow fewer.
const sweepWidth = 512

// Marks remembers how far a sweep came, so that it can be taken up again.
type Marks interface {
	// KeepSweep remembers that the first asked addresses of a sweep were asked,
	// except those at the places of missing. 0 forgets the sweep.
	KeepSweep(ctx context.Context, sweep string, asked int, missing []int) error
	// Sweep reads what KeepSweep remembered; 0 when there is nothing.
	Sweep(ctx context.Context, sweep string) (asked int, missing []int, err error)
	// KeepOther stores what answers in a sweep and is no BMC that can be logged in
	// to, until the sweep is forgotten.
	KeepOther(ctx context.Context, sweep string, f fleet.Found) error
	// Others lists what KeepOther stored, by address.
	Others(ctx context.Context, sweep string) (map[string]fleet.Found, error)
}

// Discovery asks many addresses what answers there. It never logs in.
type Discovery struct {
	Surveyor Surveyor
	Keeper   Keeper
	// Marks is where the progress is kept; nil keeps none.
	Marks Marks
	// Resume goes on where an interrupted discovery of the same addresses ended.
	Resume bool
	// NewPins says that certificates which differ from the pinned ones are expected.
	NewPins bool
	// Skipped is told how many addresses were asked before, and what is kept of
	// those that are no BMC that can be logged in to; may be nil.
	Skipped func(addresses int, others map[string]fleet.Found)
}

// Discover is a Discovery that keeps no marks.
func Discover(ctx context.Context, s Surveyor, k Keeper, addresses []string, newPins bool, each func(fleet.Found)) ([]fleet.Finding, error) {
	return Discovery{Surveyor: s, Keeper: k, NewPins: newPins}.Run(ctx, addresses, each)
}

// Run probes addresses and keeps what answers. The certificate met first is the
// address's pin; another one later is a finding and changes nothing, unless
// NewPins. each is called for every address as it is done, one call at a time.
func (d Discovery) Run(ctx context.Context, addresses []string, each func(fleet.Found)) ([]fleet.Finding, error) {
	before, err := d.Keeper.Found(ctx)
	if err != nil {
		return nil, err
	}
	done := sweepMark{marks: d.Marks, name: sweepName(addresses), open: map[int]bool{}}
	todo := make([]int, 0, len(addresses)) // places in addresses
	if d.Resume && d.Marks != nil {
		if done.high, todo, err = d.Marks.Sweep(ctx, done.name); err != nil {
			return nil, err
		}
		done.high = min(done.high, len(addresses))
		todo = slices.DeleteFunc(todo, func(i int) bool { return i < 0 || i >= done.high })
		if d.Skipped != nil {
			others, err := d.Marks.Others(ctx, done.name)
			if err != nil {
				return nil, err
			}
			d.Skipped(done.high-len(todo), others)
		}
	}
	for _, i := range todo {
		done.open[i] = true
	}
	for i := done.high; i < len(addresses); i++ {
		todo = append(todo, i)
	}
	var mu sync.Mutex
	var findings []fleet.Finding
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(sweepWidth)
	for _, i := range todo {
		if gctx.Err() != nil {
			break
		}
		mu.Lock()
		done.begin(i)
		mu.Unlock()
		g.Go(func() error {
			f, changed, err := d.ask(gctx, addresses[i], before, done.name)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			if changed {
				findings = append(findings, pinChanged(f.Address, before[f.Address].Fingerprint, f.Fingerprint))
			}
			each(f)
			return done.end(gctx, i)
		})
	}
	err = g.Wait()
	if err == nil {
		err = ctx.Err()
	}
	slices.SortFunc(findings, func(a, b fleet.Finding) int { return strings.Compare(a.Path, b.Path) })
	return findings, errors.Join(err, done.close(err == nil))
}

// ask probes one address and keeps what is to be kept.
func (d Discovery) ask(ctx context.Context, address string, before map[string]fleet.Found, sweep string) (f fleet.Found, changed bool, err error) {
	f = d.Surveyor.Probe(ctx, address)
	if err := ctx.Err(); err != nil {
		return f, false, err
	}
	f.Address, f.At = address, time.Now()
	old, known := before[address]
	changed = known && old.Fingerprint != "" && f.Fingerprint != "" && f.Fingerprint != old.Fingerprint && !d.NewPins
	switch {
	case f.What == WhatNothing || changed:
	case f.What != WhatRedfish && d.Marks != nil:
		err = d.Marks.KeepOther(ctx, sweep, f)
	case f.What == WhatRedfish:
		f.Behind, f.Lockout, f.Username = old.Behind, old.Lockout, old.Username // learnt by logging in
		err = keepFound(ctx, d.Keeper, f)
	}
	return f, changed, err
}

// sweepName names a list of addresses.
func sweepName(addresses []string) string {
	h := sha256.New()
	for _, a := range addresses {
		h.Write([]byte(a + "\n"))
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// sweepMark knows which addresses were asked: all below high that are not open.
type sweepMark struct {
	marks Marks
	name  string
	high  int
	open  map[int]bool // being asked, or still to be: as many as are asked at a time
	since int          // done since the last mark
}

// markEvery says how many addresses may have to be asked again after a kill:
// as many take some seconds.
const markEvery = 1024

func (m *sweepMark) begin(i int) {
	m.open[i], m.high = true, max(m.high, i+1)
}

// end notes that one address is done.
func (m *sweepMark) end(ctx context.Context, i int) error {
	delete(m.open, i)
	if m.since++; m.marks == nil || m.since < markEvery {
		return nil
	}
	m.since = 0
	return m.keep(ctx)
}

func (m *sweepMark) keep(ctx context.Context) error {
	return m.marks.KeepSweep(ctx, m.name, m.high, slices.Sorted(maps.Keys(m.open)))
}

// close keeps the last mark of an interrupted sweep and forgets a finished one.
func (m *sweepMark) close(finished bool) error {
	if m.marks == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second) // the sweep's own is over
	defer cancel()
	if finished {
		return m.marks.KeepSweep(ctx, m.name, 0, nil)
	}
	return m.keep(ctx)
}

func keepFound(ctx context.Context, k Keeper, f fleet.Found) error {
	if err := k.KeepFound(ctx, f); err != nil {
		return err
	}
	_, err := k.Append(ctx, fleet.Event{At: f.At, Action: fleet.ActEnroll, Edge: fleet.Ended, Outcome: fleet.OK,
		Note: fmt.Sprintf("found %s at %s, certificate %.16s…", strings.TrimSpace(f.Vendor+" "+f.Product), f.Address, f.Fingerprint)})
	return err
}

func pinChanged(address, old, now string) fleet.Finding {
	page, _ := fleet.Page(fleet.CodeBMCPinChanged)
	return fleet.Finding{Code: fleet.CodeBMCPinChanged, Severity: fleet.Blocker, Path: "bmcs.pins[" + address + "]",
		Text: fmt.Sprintf("%s: pinned %.16s…, now %.16s…", page.Title, old, now), Remedy: page.Remedy}
}
