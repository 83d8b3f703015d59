package bench

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"metalrise.dev/fleet"
	"metalrise.dev/provision"
	"metalrise.dev/provision/store"
)

// TestInstall takes three servers all the way.
func TestInstall(t *testing.T) {
	r := newRack(t, 3)
	h := newHouse(t, r.addresses())
	ctx := t.Context()
	if _, err := h.survey(ctx); err != nil {
		t.Fatal(err)
	}
	if err := h.decide(ctx); err != nil {
		t.Fatal(err)
	}
	if err := h.open(ctx, nil); err != nil {
		t.Fatal(err)
	}
	if err := h.engine.Apply(h.life, h.consent()); err != nil {
		t.Fatal(err)
	}
	if err := h.settle(ctx); err != nil {
		t.Fatal(err)
	}
	if err := h.close(); err != nil {
		t.Error(err)
	}
	if _, err := h.checkJournal(ctx); err != nil {
		t.Error(err)
	}
	if err := r.check(h.plan, h.image, true); err != nil {
		t.Error(err)
	}
}

// fuse is a journal whose engine dies after a number of events.
type fuse struct {
	*store.Store
	mu   sync.Mutex
	left int
	blow context.CancelFunc
}

func (f *fuse) Append(ctx context.Context, events ...fleet.Event) ([]fleet.Event, error) {
	out, err := f.Store.Append(ctx, events...)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.left -= len(events); f.left <= 0 {
		f.blow()
	}
	return out, err
}

// TestCutEngine ends the engine at five instants nobody chose. Each time a new
// one goes on from the journal, on the same port, and the machines never notice
// more than a broken connection.
func TestCutEngine(t *testing.T) {
	const cuts = 5
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	r := newRack(t, 3)
	h := newHouse(t, r.addresses())
	h.limits = provision.Limits{Backoff: 50 * time.Millisecond}
	ctx := t.Context()
	if _, err := h.survey(ctx); err != nil {
		t.Fatal(err)
	}
	if err := h.decide(ctx); err != nil {
		t.Fatal(err)
	}
	for cut := range cuts + 1 {
		var journal provision.Journal
		// Some 20 events take a server all the way; the cuts lie within that.
		f := &fuse{Store: h.store, left: 1 + random.IntN(12), blow: func() { h.end() }}
		if cut < cuts {
			journal = f
		}
		if err := h.open(ctx, journal); err != nil {
			t.Fatal(err)
		}
		if cut == 0 {
			_ = h.engine.Apply(h.life, h.consent()) // the cut may come while consent is given
		}
		err := h.settle(ctx)
		if cut < cuts && h.life.Err() == nil && err == nil {
			t.Errorf("the rack was settled before cut %d", cut+1)
		}
		if cut == cuts {
			if err != nil {
				t.Error(err)
			}
			r.waitArrived()
		}
		if err := h.reopen(cut < cuts); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := h.checkJournal(ctx); err != nil {
		t.Error(err)
	}
	if err := r.check(h.plan, h.image, false); err != nil {
		t.Error(err)
	}
}

// reopen ends the engine and, if it is to go on, reads the state anew.
func (h *house) reopen(again bool) error {
	if err := h.close(); err != nil || !again {
		return err
	}
	if err := h.store.Close(); err != nil {
		return err
	}
	var err error
	h.store, err = store.Open(h.path("state"))
	h.ledger.Store = h.store
	return err
}

// TestSlowBMCs has more servers than BMC seats, and BMCs that are slow: to wait
// for a seat is nobody's fault and takes as long as it takes.
func TestSlowBMCs(t *testing.T) {
	// Two at a time, some 20 answers of 20 ms each: the last of 24 servers
	// waits for its seat far longer than one action may take.
	r := newSlowRack(t, 24, 20*time.Millisecond)
	h := newHouse(t, r.addresses())
	h.limits = provision.Limits{BMCSessions: 2, ActionTimeout: 2 * time.Second}
	ctx := t.Context()
	if _, err := h.survey(ctx); err != nil {
		t.Fatal(err)
	}
	if err := h.decide(ctx); err != nil {
		t.Fatal(err)
	}
	if err := h.open(ctx, nil); err != nil {
		t.Fatal(err)
	}
	if err := h.engine.Apply(h.life, h.consent()); err != nil {
		t.Fatal(err)
	}
	if err := h.settle(ctx); err != nil {
		t.Error(err)
	}
	if err := h.close(); err != nil {
		t.Error(err)
	}
	events, err := h.store.Events(ctx, 0, 10_000)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if e.Cause != nil {
			t.Errorf("%s %s: %v", e.Server, e.Action, e.Cause.Chain)
		}
	}
}
