// Package report writes what benchmarks measured as tables for people, in the
// form of docs/performance.md. It never measures.
package report

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Install is one rack taken from unknown addresses to installed hosts.
type Install struct {
	Servers  int
	Discover time.Duration
	Inspect  time.Duration
	Plan     time.Duration
	Apply    time.Duration // consent to last server settled
	CPU      time.Duration // user and system time of metalrise
	PeakRSS  int64         // bytes of metalrise
	RackCPU  time.Duration // of BMCs and machines, which are another process
	RackRSS  int64
	// Processors is how many the machine has.
	Processors int

	// Afterwards, over this journal: `metalrise status` without an engine, and an
	// engine that starts and finds nothing to do.
	Status      Spread
	EngineReady time.Duration
	EngineRSS   int64

	WaitMedian, WaitMax time.Duration // until something written was durable

	Events      int   // in the journal
	Commits     int64 // durable writes, as seen by a watcher: at least as many
	Requests    int64 // to BMCs
	Connections int64 // to BMCs, each with a TLS handshake
	Calls       int64 // of agents
	Served      int64 // bytes to BMCs and machines
}

// Wall is the whole way.
func (i Install) Wall() time.Duration { return i.Discover + i.Inspect + i.Plan + i.Apply }

// Goal is what a rack of this size may take: a minute for a thousand servers
// and for anything smaller.
const Goal = time.Minute

// WriteInstalls writes one column for each rack, smallest first, with the cost
// for each server beside it: what grows linearly has a constant cost.
func WriteInstalls(w io.Writer, all []Install) error {
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b Install) int { return a.Servers - b.Servers })
	head, line := "| servers |", "|---|"
	for _, i := range all {
		head += fmt.Sprintf(" %d | each |", i.Servers)
		line += "---:|---:|"
	}
	var b strings.Builder
	b.WriteString(head + "\n" + line + "\n")
	row := func(name string, cell func(Install) (whole, each string)) {
		b.WriteString("| " + name + " |")
		for _, i := range all {
			whole, each := cell(i)
			b.WriteString(" " + whole + " | " + each + " |")
		}
		b.WriteString("\n")
	}
	span := func(get func(Install) time.Duration) func(Install) (string, string) {
		return func(i Install) (string, string) {
			d := get(i)
			return seconds(d), milliseconds(d / time.Duration(i.Servers))
		}
	}
	count := func(get func(Install) int64) func(Install) (string, string) {
		return func(i Install) (string, string) {
			n := get(i)
			return fmt.Sprint(n), fmt.Sprintf("%.1f", float64(n)/float64(i.Servers))
		}
	}
	size := func(get func(Install) int64) func(Install) (string, string) {
		return func(i Install) (string, string) {
			n := float64(get(i))
			return fmt.Sprintf("%.0f MiB", n/(1<<20)), fmt.Sprintf("%.0f KiB", n/1024/float64(i.Servers))
		}
	}
	row("**wall time**", span(Install.Wall))
	row("discover", span(func(i Install) time.Duration { return i.Discover }))
	row("inspect", span(func(i Install) time.Duration { return i.Inspect }))
	row("plan", span(func(i Install) time.Duration { return i.Plan }))
	row("apply", span(func(i Install) time.Duration { return i.Apply }))
	row("CPU time of metalrise", span(func(i Install) time.Duration { return i.CPU }))
	row("CPU time of the emulation", span(func(i Install) time.Duration { return i.RackCPU }))
	// A machine that has other work makes the wall time longer, not this.
	row("both, of all processors", func(i Install) (string, string) {
		return fmt.Sprintf("%.0f %%", 100*float64(i.CPU+i.RackCPU)/float64(i.Wall())/float64(max(i.Processors, 1))), ""
	})
	row("peak memory of metalrise", size(func(i Install) int64 { return i.PeakRSS }))
	row("peak memory of the emulation", size(func(i Install) int64 { return i.RackRSS }))
	row("journal events", count(func(i Install) int64 { return int64(i.Events) }))
	row("commits", count(func(i Install) int64 { return i.Commits }))
	row("wait for a commit: median, longest", func(i Install) (string, string) {
		return milliseconds(i.WaitMedian), seconds(i.WaitMax)
	})
	row("BMC requests", count(func(i Install) int64 { return i.Requests }))
	row("BMC connections", count(func(i Install) int64 { return i.Connections }))
	row("agent calls", count(func(i Install) int64 { return i.Calls }))
	row("bytes served", size(func(i Install) int64 { return i.Served }))
	row("status afterwards, median", func(i Install) (string, string) { return milliseconds(i.Status.Median), "" })
	row("engine started anew: answers after", func(i Install) (string, string) { return milliseconds(i.EngineReady), "" })
	row("engine started anew: memory", size(func(i Install) int64 { return i.EngineRSS }))
	row("goal: under "+seconds(Goal), func(i Install) (string, string) {
		if i.Wall() < Goal {
			return "met", ""
		}
		return "**missed**", ""
	})
	_, err := io.WriteString(w, b.String())
	return err
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
}

// Start is the program as a process, on a site where nothing was done yet.
type Start struct {
	Bytes       int64 // of the program file
	Version     Spread
	Status      Spread
	EngineReady time.Duration // until it answers on its socket
	EngineRSS   int64         // bytes, then
}

// WriteStart writes a table of two columns.
func WriteStart(w io.Writer, s Start) error {
	_, err := fmt.Fprintf(w, "| start-up | |\n|---|---:|\n| program file | %.1f MiB |\n| `metalrise --version` | %s |\n| `metalrise status` | %s |\n"+
		"| engine until it answers | %s |\n| memory of an engine with nothing to do | %.0f MiB |\n",
		float64(s.Bytes)/(1<<20), s.Version, s.Status, milliseconds(s.EngineReady), float64(s.EngineRSS)/(1<<20))
	return err
}

// Spread is the least, middle and greatest of some times.
type Spread struct{ Min, Median, Max time.Duration }

// SpreadOf sorts times; there must be at least one.
func SpreadOf(times []time.Duration) Spread {
	s := slices.Sorted(slices.Values(times))
	return Spread{s[0], s[len(s)/2], s[len(s)-1]}
}

// String is "12.3 ms (11.9 to 14.0)".
func (s Spread) String() string {
	return fmt.Sprintf("%s (%s to %s)", milliseconds(s.Median), milliseconds(s.Min), milliseconds(s.Max))
}
