package report

import (
	"strings"
	"testing"
	"time"
)

func TestWriteInstalls(t *testing.T) {
	var b strings.Builder
	err := WriteInstalls(&b, []Install{
		{Servers: 100, Apply: 70 * time.Second},
		{Servers: 10, Discover: time.Second, Apply: 2 * time.Second, Processors: 2, CPU: 2 * time.Second, RackCPU: time.Second, Events: 35, PeakRSS: 10 << 20},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| servers | 10 | each | 100 | each |",
		"| **wall time** | 3.00 s | 300.0 ms | 70.00 s | 700.0 ms |",
		"| journal events | 35 | 3.5 | 0 | 0.0 |",
		"| peak memory of metalrise | 10 MiB | 1024 KiB |",
		"| both, of all processors | 50 % |",
		"| met |  | **missed** |  |",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in:\n%s", want, b.String())
		}
	}
}

func TestSpread(t *testing.T) {
	got := SpreadOf([]time.Duration{5 * time.Millisecond, time.Millisecond, 3 * time.Millisecond}).String()
	if want := "3.0 ms (1.0 ms to 5.0 ms)"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestWriteStart(t *testing.T) {
	var b strings.Builder
	if err := WriteStart(&b, Start{Bytes: 3 << 19, EngineReady: 1500 * time.Microsecond}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| program file | 1.5 MiB |", "| engine until it answers | 1.5 ms |"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in:\n%s", want, b.String())
		}
	}
}
