package bench

import (
	"bytes"
	"fmt"
	"os"
	"runtime/debug"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"metalrise.dev/provision/store"
)

// cost is what the process has used from a moment on.
type cost struct{ cpu time.Duration }

func startCost(t testing.TB) cost {
	t.Helper()
	debug.FreeOSMemory()
	// "5" resets the peak of the resident set (proc(5), clear_refs).
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		t.Logf("the peak of memory is that of the whole process: %v", err)
	}
	return cost{cpuTime(t)}
}

func (c cost) end(t testing.TB) (cpu time.Duration, peak int64) {
	t.Helper()
	return cpuTime(t) - c.cpu, memory(t, os.Getpid(), "VmHWM")
}

func cpuTime(t testing.TB) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// memory reads a line of a process's status, in bytes.
func memory(t testing.TB, pid int, field string) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := bytes.Cut(b, []byte(field+":"))
	var kib int64
	if _, err := fmt.Sscan(string(rest), &kib); err != nil {
		t.Fatalf("%s of process %d: %v", field, pid, err)
	}
	return kib << 10
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
