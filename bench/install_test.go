package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"metalrise.dev/bench/report"
	"metalrise.dev/fleet"
	"metalrise.dev/provision"
	"metalrise.dev/provision/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestInstall takes three servers all the way.
func TestInstall(t *testing.T) {
	r := newRack(t, 3)
	h := newHouse(t, r)
	defer r.close(t)
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
	for _, s := range r.servers {
		if st := s.bmc.Status(); len(st.Media) > 0 || st.Sessions > 0 {
			t.Errorf("%s: media %v and %d sessions were left behind", s.spec.Name, st.Media, st.Sessions)
		}
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
	h := newHouse(t, r)
	defer r.close(t)
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
		if cut == cuts && err != nil {
			t.Error(err)
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
	return err
}

// BenchmarkInstall takes racks all the way and prints what it cost. BMCs,
// machines and metalrise are one process: their costs cannot be told apart here.
func BenchmarkInstall(b *testing.B) {
	var all []report.Install
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for range b.N {
				all = append(all, install(b, n))
			}
		})
	}
	if len(all) > 0 {
		fmt.Println()
		if err := report.WriteInstalls(os.Stdout, all); err != nil {
			b.Fatal(err)
		}
	}
}

func install(b *testing.B, n int) report.Install {
	b.StopTimer()
	r := newRack(b, n)
	defer r.close(b)
	h := newHouse(b, r)
	ctx := b.Context()
	stopCount := countCommits(h.store)
	b.StartTimer()
	cost := startCost(b)
	out := report.Install{Servers: n}
	began := time.Now()
	discovered, err := h.survey(ctx)
	if err != nil {
		b.Fatal(err)
	}
	inspected := time.Now()
	if err := h.decide(ctx); err != nil {
		b.Fatal(err)
	}
	planned := time.Now()
	if err := h.open(ctx, nil); err != nil {
		b.Fatal(err)
	}
	if err := h.engine.Apply(h.life, h.consent()); err != nil {
		b.Fatal(err)
	}
	if err := h.settle(ctx); err != nil {
		b.Fatal(err)
	}
	out.Discover, out.Inspect, out.Plan, out.Apply = discovered.Sub(began), inspected.Sub(discovered), planned.Sub(inspected), time.Since(planned)
	out.CPU, out.PeakRSS = cost.end(b)
	b.StopTimer()
	out.Commits = stopCount()
	if err := h.close(); err != nil {
		b.Error(err)
	}
	if out.Events, err = h.checkJournal(ctx); err != nil {
		b.Error(err)
	}
	if err := r.check(h.plan, h.image, true); err != nil {
		b.Error(err)
	}
	for _, s := range r.servers {
		st := s.bmc.Status()
		out.Requests += st.Requests
		out.Connections += st.Connections
	}
	out.Calls, out.Served = h.tally.calls.Load(), h.tally.bytes.Load()
	b.ReportMetric(out.Wall().Seconds(), "wall-s")
	b.ReportMetric(out.CPU.Seconds(), "cpu-s")
	b.ReportMetric(float64(out.PeakRSS)/(1<<20), "peak-MiB")
	b.ReportMetric(float64(out.Requests)/float64(n), "bmc-req/server")
	b.StartTimer()
	return out
}
