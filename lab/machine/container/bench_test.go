package container

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"metalrise.dev/lab/machine"
	"metalrise.dev/lab/machine/machinetest"
)

// BenchmarkBoot boots the live medium on as many machines at once and reports
// the seconds until the last one's own unit ran, from power on, and the most
// memory one used.
func BenchmarkBoot(b *testing.B) {
	l := newLab(b)
	from := l.live(b, `rss=0; for f in /proc/[0-9]*/status; do n=$(sed -n 's/^VmRSS:\s*\([0-9]*\).*/\1/p' $f 2>/dev/null); rss=$((rss + ${n:-0})); done; say rss $rss`)
	for _, n := range []int{1, 5} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				l.together(b, n, from)
			}
		})
	}
}

func (l lab) together(b *testing.B, n int, from machine.BootSource) {
	b.Helper()
	var all sync.WaitGroup
	var mu sync.Mutex
	var slowest time.Duration
	var peak int64
	begin := time.Now()
	for i := range n {
		m := l.machine(b, fmt.Sprintf("b%d", i))
		all.Go(func() {
			ctx, cut := context.WithTimeout(b.Context(), 2*time.Minute)
			defer cut()
			con := machinetest.NewConsole()
			go func() {
				select {
				case <-con.Done:
					mu.Lock()
					slowest = max(slowest, time.Since(begin))
					mu.Unlock()
				case <-ctx.Done():
				}
				cut()
			}()
			if stop, err := m.Boot(ctx, from, con); err != nil || stop != machine.Killed || con.Report()["done"] != "yes" {
				b.Errorf("boot: %q, %v\n%s", stop, err, con.Tail(1000))
			}
			mu.Lock()
			peak = max(peak, m.PeakMemory())
			mu.Unlock()
		})
	}
	all.Wait()
	b.ReportMetric(slowest.Seconds(), "s-to-unit")
	b.ReportMetric(float64(peak>>20), "MiB-peak")
}
