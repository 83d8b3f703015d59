package bench

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"metalrise.dev/bench/report"
)

// BenchmarkInstall takes racks all the way and prints what it cost. BMCs and
// machines run in a process of their own, on the same processors.
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
	rack := newAway(b, n)
	h := newHouse(b, rack.Addresses)
	commits := countCommits(h.store)
	if err := resetPeak(); err != nil {
		b.Fatal(err)
	}
	before, err := ownCost()
	if err != nil {
		b.Fatal(err)
	}
	b.StartTimer()
	out := h.walk(b)
	b.StopTimer()
	now, err := ownCost()
	if err != nil {
		b.Fatal(err)
	}
	own := now.since(before)
	out.Servers, out.Processors, out.CPU, out.PeakRSS, out.Commits = n, runtime.NumCPU(), own.CPU, own.Peak, commits()
	if err := h.close(); err != nil {
		b.Error(err)
	}
	if out.Events, err = h.checkJournal(b.Context()); err != nil {
		b.Error(err)
	}
	v, err := rack.judge(h.plan, h.image)
	if err != nil {
		b.Error(err)
	}
	out.Requests, out.Connections, out.RackCPU, out.RackRSS = v.Requests, v.Connections, v.Cost.CPU, v.Cost.Peak
	out.Calls, out.Served = h.tally.calls.Load(), h.tally.bytes.Load()
	waits := h.ledger.waits.all
	slices.Sort(waits)
	out.WaitMedian, out.WaitMax = waits[len(waits)/2], waits[len(waits)-1]
	if err := h.store.Close(); err != nil {
		b.Error(err)
	}
	out.Status = h.spawn(b, "status", "--file", h.path("site.yaml"), "--state", h.path("state"))
	out.EngineReady, out.EngineRSS = h.idle(b)
	b.ReportMetric(out.Wall().Seconds(), "wall-s")
	b.ReportMetric(out.CPU.Seconds(), "cpu-s")
	b.ReportMetric(float64(out.PeakRSS)/(1<<20), "peak-MiB")
	b.ReportMetric(float64(out.Requests)/float64(n), "bmc-req/server")
	b.StartTimer()
	return out
}

// walk goes from unknown addresses to the last settled server.
func (h *house) walk(b *testing.B) report.Install {
	ctx := b.Context()
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
	return report.Install{Discover: discovered.Sub(began), Inspect: inspected.Sub(discovered), Plan: planned.Sub(inspected), Apply: time.Since(planned)}
}
