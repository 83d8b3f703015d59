package qemu

import (
	"slices"
	"testing"
	"time"

	"metalrise.dev/lab/machine"
)

func TestClockOfAMachine(t *testing.T) {
	now := time.Date(2026, 3, 1, 1, 30, 0, 0, time.FixedZone("", 3600))
	for off, want := range map[time.Duration]string{0: "utc", -2 * time.Hour: "2026-02-28T22:30:00", 24 * time.Hour: "2026-03-02T00:30:00"} {
		m, err := New(spec(t, "bios"))
		if err != nil {
			t.Fatal(err)
		}
		m.Clock = off
		if got := m.clock(now); got != want {
			t.Errorf("%s off: %q, want %q", off, got, want)
		}
		args := m.arguments(machine.BootSource{Kind: machine.FromDisk}, nil, 3, []int{-1})
		if i := slices.Index(args, "-rtc"); i < 0 || (args[i+1] == "base=utc") != (off == 0) {
			t.Errorf("%s off: %q", off, args)
		}
	}
}
