package lab

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestSwappedDiskIsAnotherForGood(t *testing.T) {
	l := startFake(t)
	c, ctx := NewClient(l.Config()), t.Context()
	served := make(chan error, 1)
	go func() { served <- l.Serve(ctx) }()
	until(t, "the socket answers", func() bool { _, err := c.View(ctx); return err == nil })
	see := func() ServerView {
		t.Helper()
		v, err := c.View(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return v.Servers[1]
	}
	before := l.Servers()[1].Spec
	old := diskPath(before, before.Disks[0])
	if err := os.WriteFile(old, []byte("a system"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.Power(ctx, "n2", On); err != nil {
		t.Fatal(err)
	}
	if err := c.SwapDisk(ctx, "n2"); !errors.Is(err, ErrPoweredOn) {
		t.Fatalf("a server that is on: %v", err)
	}
	if _, err := os.Stat(old); err != nil || see().Swaps != 0 {
		t.Fatalf("refused, and yet: %v, %+v", err, see())
	}
	if err := c.Power(ctx, "n2", Off); err != nil {
		t.Fatal(err)
	}
	if err := c.SwapDisk(ctx, "n2"); err != nil {
		t.Fatal(err)
	}
	after := l.Servers()[1].Spec
	if now, was := after.Disks[0], before.Disks[0]; now.Serial == was.Serial || now.WWN == was.WWN || now.Name == was.Name || now.SizeBytes != was.SizeBytes {
		t.Errorf("swapped %+v for %+v", was, now)
	}
	if err := after.Check(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(old); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the old disk is still there: %v", err)
	}
	if s := see(); s.Swaps != 1 || s.InstallDisk != after.Disks[0].Serial || s.Touched != "" {
		t.Errorf("%+v", s)
	}
	closed := make(chan error, 1)
	go func() { closed <- errors.Join(<-served, l.Close()) }()
	if err := errors.Join(c.Stop(ctx), <-closed); err != nil {
		t.Fatal(err)
	}
	back, err := ReadConfig(l.Config().Dir)
	if err != nil {
		t.Fatal(err)
	}
	if again := back.spec(2); again.Disks[0] != after.Disks[0] || back.spec(1).Disks[0].Serial != "LAB0001-D1" {
		t.Errorf("the lab came back with %+v", again.Disks)
	}
	// What a lab leaves behind that was killed between two steps of a swap.
	left := filepath.Join(after.Dir, before.Disks[0].Name+".raw")
	if err := os.WriteFile(left, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := removeSwapped(back.spec(2)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); err == nil {
		t.Error("a disk that is in no server was kept")
	}
}
