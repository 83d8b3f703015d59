package bmctest

import (
	"context"
	"regexp"
	"slices"
	"testing"
	"time"

	"metalrise.dev/bmc"
	"metalrise.dev/fleet"
)

// Session is what package bmc's Session promises to those who drive servers.
type Session interface {
	// Systems lists everything behind the BMC; only servers may be driven.
	Systems(ctx context.Context) ([]bmc.SystemRef, error)
	// Inspect reads facts; what cannot be read is unknown, never zero.
	Inspect(ctx context.Context, systemURI string) (fleet.Facts, error)
	// Look reads what an act could have changed.
	Look(ctx context.Context, systemURI string) (bmc.Sight, error)
	// Power, Insert, Eject and BootOnce succeed when it is so already.
	Power(ctx context.Context, systemURI string, w bmc.Wish) error
	WaitPower(ctx context.Context, systemURI string, want fleet.PowerState) error
	BootOnce(ctx context.Context, systemURI string, t bmc.Target) error
	Insert(ctx context.Context, systemURI, imageURL string) error
	Eject(ctx context.Context, systemURI string) error
	// Close leaves no session behind.
	Close() error
}

var _ Session = (*bmc.Session)(nil)

// Extent says how far the suite may go with a target.
type Extent int

const (
	ReadsOnly Extent = iota // nothing is changed
	Drives                  // servers are switched on and off and given media
)

// Target is one BMC to try.
type Target struct {
	Name   string
	Extent Extent
	Open   func(t *testing.T) Session // a new session; the suite closes it
	Image  string                     // with Drives: address of an image that the BMC can load
	Wait   time.Duration              // for power to change; 0 is 10 seconds
}

// Run holds a target to the promises.
func Run(t *testing.T, target Target) {
	t.Helper()
	if target.Wait == 0 {
		target.Wait = 10 * time.Second
	}
	s := target.Open(t)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	systems, err := s.Systems(t.Context())
	if err != nil {
		t.Fatalf("systems: %v", err)
	}
	checkSystems(t, systems)
	for _, ref := range systems {
		if ref.Kind != bmc.IsServer {
			continue
		}
		t.Run("read", func(t *testing.T) { reads(t, s, ref) })
		if target.Extent == Drives {
			t.Run("drive", func(t *testing.T) { drives(t, s, ref.URI, target) })
		}
	}
	t.Run("refuse", func(t *testing.T) { refuses(t, s) })
}

func checkSystems(t *testing.T, systems []bmc.SystemRef) {
	t.Helper()
	known := map[string]bool{}
	for _, r := range systems {
		if r.URI == "" || known[r.URI] {
			t.Errorf("system %+v: no address, or one that another has", r)
		}
		known[r.URI] = true
		if r.Why == "" || r.Kind != bmc.IsServer && r.Kind != bmc.Accelerator && r.Kind != bmc.OtherSystem {
			t.Errorf("%s: kind %q because of %q", r.URI, r.Kind, r.Why)
		}
	}
}

var (
	macForm = regexp.MustCompile(`^([0-9a-f]{2}:){5}[0-9a-f]{2}$`)
	wwnForm = regexp.MustCompile(`^([0-9a-f]{16}|[0-9a-f]{32})?$`)
)

func reads(t *testing.T, s Session, ref bmc.SystemRef) {
	f, err := s.Inspect(t.Context(), ref.URI)
	if err != nil {
		t.Fatalf("inspect: %v", err)
	}
	if f.Source != fleet.SeenByBMC || f.At.IsZero() || f.SystemURI != ref.URI || f.Identity != ref.Identity {
		t.Errorf("facts of %s at %s by %q, identity %+v, listed as %+v", f.SystemURI, f.At, f.Source, f.Identity, ref.Identity)
	}
	checkPorts(t, f.NICs)
	checkDisks(t, f.Disks)
	for _, m := range f.VirtualMedia {
		if m.URI == "" || m.How == "" {
			t.Errorf("virtual drive %+v: no address, or no word on its use", m)
		}
	}
	if n, ok := f.MemoryMiB.Get(); ok && n <= 0 {
		t.Errorf("memory of %d MiB is told as known", n)
	}
	again, err := s.Inspect(t.Context(), ref.URI)
	if err != nil {
		t.Fatalf("inspect again: %v", err)
	}
	if len(again.NICs) != len(f.NICs) || len(again.Disks) != len(f.Disks) || again.Identity != f.Identity {
		t.Errorf("a second inspection tells another story: %+v", again)
	}
	sight, err := s.Look(t.Context(), ref.URI)
	if err != nil {
		t.Fatalf("look: %v", err)
	}
	if sight.Identity != f.Identity {
		t.Errorf("look sees %+v, inspect saw %+v", sight.Identity, f.Identity)
	}
}

func checkPorts(t *testing.T, nics []fleet.NIC) {
	t.Helper()
	known := map[string]bool{}
	for _, n := range nics {
		if !macForm.MatchString(n.MAC) || known[n.MAC] || n.Source == "" {
			t.Errorf("port %+v: its address is malformed or told twice, or it has no source", n)
		}
		known[n.MAC] = true
	}
}

func checkDisks(t *testing.T, disks []fleet.Disk) {
	t.Helper()
	known := map[string]bool{}
	for _, d := range disks {
		if size, ok := d.SizeBytes.Get(); ok && size < 1<<30 {
			t.Errorf("disk %+v: a size no disk has is told as known", d)
		}
		if !wwnForm.MatchString(d.WWN) || d.WWN != "" && known[d.WWN] || d.Source == "" {
			t.Errorf("disk %+v: its WWN is malformed or told twice, or it has no source", d)
		}
		known[d.WWN] = true
	}
}

// drives goes through what an installation needs, and leaves the server off
// with empty drives.
func drives(t *testing.T, s Session, uri string, target Target) {
	ctx := t.Context()
	must := func(doing string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", doing, err)
		}
	}
	wait := func(want fleet.PowerState) {
		t.Helper()
		ctx, cancel := context.WithTimeout(ctx, target.Wait)
		defer cancel()
		must("wait until "+string(want), s.WaitPower(ctx, uri, want))
	}
	must("power off", s.Power(ctx, uri, bmc.ForceOff))
	wait(fleet.PowerOff)
	must("eject", s.Eject(ctx, uri))
	must("eject again", s.Eject(ctx, uri))
	must("insert", s.Insert(ctx, uri, target.Image))
	must("insert again", s.Insert(ctx, uri, target.Image))
	must("boot once", s.BootOnce(ctx, uri, bmc.Cd))
	must("boot once again", s.BootOnce(ctx, uri, bmc.Cd))
	sight, err := s.Look(ctx, uri)
	must("look", err)
	if !holds(sight) {
		t.Errorf("after insert no drive holds a medium: %+v", sight.Media)
	}
	must("power on", s.Power(ctx, uri, bmc.On))
	wait(fleet.PowerOn)
	must("power on again", s.Power(ctx, uri, bmc.On))
	must("eject", s.Eject(ctx, uri))
	must("restart", s.Power(ctx, uri, bmc.Restart))
	wait(fleet.PowerOn)
	must("power off", s.Power(ctx, uri, bmc.ForceOff))
	wait(fleet.PowerOff)
	must("power off again", s.Power(ctx, uri, bmc.ForceOff))
	sight, err = s.Look(ctx, uri)
	must("look", err)
	if holds(sight) || sight.Power.Or("") != fleet.PowerOff {
		t.Errorf("in the end: %+v", sight)
	}
}

func holds(s bmc.Sight) bool {
	return slices.ContainsFunc(s.Media, func(m bmc.MediaState) bool { return m.Inserted })
}

// refuses asks for what cannot be.
func refuses(t *testing.T, s Session) {
	const nowhere = "/redfish/v1/Systems/no-such-system"
	if _, err := s.Look(t.Context(), nowhere); err == nil {
		t.Error("a system that does not exist was looked at")
	}
	if err := s.Power(t.Context(), nowhere, bmc.On); err == nil || fleet.KindOf(err) == fleet.UnsureKind {
		t.Errorf("a system that does not exist was switched on, or may have been: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Inspect(ended, ""); err == nil {
		t.Error("an inspection whose context had ended gave facts")
	}
}
