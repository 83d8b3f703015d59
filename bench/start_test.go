package bench

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"metalrise.dev/bench/report"
	"metalrise.dev/provision/api"
)

// binaryVariable names the program to measure; without it one is built.
const binaryVariable = "METALRISE_BINARY"

// binary gives the program, building it beside the site when none is named.
func (h *house) binary(t testing.TB) string {
	t.Helper()
	if path := os.Getenv(binaryVariable); path != "" {
		return path
	}
	path := h.path("metalrise")
	if _, err := os.Stat(path); err == nil {
		return path
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", path, "metalrise.dev/cmd/metalrise")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build metalrise: %v\n%s", err, out)
	}
	return path
}

// spawn runs the program ten times and gives how long that took each time.
func (h *house) spawn(t testing.TB, args ...string) report.Spread {
	t.Helper()
	path := h.binary(t)
	var all []time.Duration
	for range 10 {
		began := time.Now()
		out, err := exec.Command(path, args...).CombinedOutput()
		all = append(all, time.Since(began))
		if err != nil {
			t.Fatalf("metalrise %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	return report.SpreadOf(all)
}

// idle starts the engine of a site that has nothing to do and gives its memory,
// and how long it took until it answered.
func (h *house) idle(t testing.TB) (ready time.Duration, resident int64) {
	t.Helper()
	path := h.binary(t)
	log, err := os.Create(h.path("engine.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	engine := exec.CommandContext(t.Context(), path, "engine", "--file", h.path("site.yaml"), "--state", h.path("state"))
	engine.Stdout, engine.Stderr = log, log
	began := time.Now()
	if err := engine.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = engine.Process.Kill(); _ = engine.Wait() }()
	client := api.NewClient(h.path("state"))
	for {
		if _, err = client.Overview(t.Context()); err == nil {
			break
		}
		if time.Since(began) > 20*time.Second {
			text, _ := os.ReadFile(h.path("engine.log"))
			t.Fatalf("the engine does not answer: %v\n%s", err, text)
		}
		time.Sleep(2 * time.Millisecond)
	}
	ready = time.Since(began)
	if resident, err = memory(engine.Process.Pid, "VmRSS"); err != nil {
		t.Fatal(err)
	}
	return ready, resident
}

// BenchmarkStart measures the program as a process: how soon it is there, how
// large it is, and what an engine needs that has nothing to do.
func BenchmarkStart(b *testing.B) {
	h := newHouse(b, "127.0.0.1")
	if err := h.store.Close(); err != nil {
		b.Fatal(err)
	}
	info, err := os.Stat(h.binary(b))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		s := report.Start{Bytes: info.Size(), Version: h.spawn(b, "--version"),
			Status: h.spawn(b, "status", "--file", h.path("site.yaml"), "--state", h.path("state"))}
		s.EngineReady, s.EngineRSS = h.idle(b)
		fmt.Println()
		if err := report.WriteStart(os.Stdout, s); err != nil {
			b.Fatal(err)
		}
	}
}
