package bench

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"metalrise.dev/fleet"
	"metalrise.dev/provision/store"
)

// cost is what a process has used.
type cost struct {
	CPU  time.Duration // user and system
	Peak int64         // of the resident set, bytes
}

// resetPeak lets the peak of memory begin anew.
func resetPeak() error {
	debug.FreeOSMemory()
	return os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) // proc(5)
}

func ownCost() (cost, error) {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return cost{}, err
	}
	peak, err := memory(os.Getpid(), "VmHWM")
	return cost{time.Duration(u.Utime.Nano() + u.Stime.Nano()), peak}, err
}

// since is the cost of what happened after earlier.
func (c cost) since(earlier cost) cost { return cost{c.CPU - earlier.CPU, c.Peak} }

// memory reads a line of a process's status, in bytes.
func memory(pid int, field string) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := bytes.Cut(b, []byte(field+":"))
	var kib int64
	if _, err := fmt.Sscan(string(rest), &kib); err != nil {
		return 0, fmt.Errorf("%s of process %d: %w", field, pid, err)
	}
	return kib << 10, nil
}

// ledger is a store with a clock: how long its callers wait until what they
// write is durable.
type ledger struct {
	*store.Store
	waits *latency
}

type latency struct {
	mu  sync.Mutex
	all []time.Duration
}

func (l *latency) add(began time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, time.Since(began))
}

// Append and the next methods are those of the store.
func (l ledger) Append(ctx context.Context, events ...fleet.Event) ([]fleet.Event, error) {
	defer l.waits.add(time.Now())
	return l.Store.Append(ctx, events...)
}

func (l ledger) KeepFound(ctx context.Context, f fleet.Found) error {
	defer l.waits.add(time.Now())
	return l.Store.KeepFound(ctx, f)
}

func (l ledger) KeepServers(ctx context.Context, address string, s []fleet.Server, f []fleet.Facts) error {
	defer l.waits.add(time.Now())
	return l.Store.KeepServers(ctx, address, s, f)
}

func (l ledger) KeepFacts(ctx context.Context, id fleet.ServerID, f fleet.Facts) error {
	defer l.waits.add(time.Now())
	return l.Store.KeepFacts(ctx, id, f)
}

// countCommits watches a store until the returned function is called.
func countCommits(s *store.Store) (stop func() int64) {
	var n atomic.Int64
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			changed := s.Changed()
			select {
			case <-changed:
				n.Add(1)
			case <-end:
				return
			}
		}
	}()
	return func() int64 {
		close(end)
		<-ended
		return n.Load()
	}
}
