package redfish

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"

	"metalrise.dev/lab/machine"
)

func TestRefitShowsTheNewDiskAndBootsTheNewMachine(t *testing.T) {
	synctest.Test(t, testRefit)
}

func testRefit(t *testing.T) {
	r := newRig(t, nil)
	spec, next := testSpec(), &board{}
	spec.Disks = slices.Clone(spec.Disks)
	spec.Disks[0].Serial, spec.Disks[0].WWN = "ANOTHER", "5000000000abcdef"
	drive := r.bmc.systemPath() + "/Storage/Storage1/Drives/Disk0"
	fit := func() error {
		return r.bmc.Refit(func() (machine.Spec, machine.Hardware, error) { return spec, next, nil })
	}
	serial := func() any { return r.want(200, "GET", drive, nil).path("SerialNumber") }
	was := serial()
	broken := errors.New("broken")
	if err := r.bmc.Refit(func() (machine.Spec, machine.Hardware, error) { return spec, next, broken }); !errors.Is(err, broken) {
		t.Errorf("a change that failed: %v", err)
	}
	if got := serial(); got != was {
		t.Errorf("after a change that failed the drive is %v", got)
	}
	if err := fit(); err != nil {
		t.Fatal(err)
	}
	if got := serial(); got != "ANOTHER" {
		t.Errorf("the drive is %v", got)
	}
	if err := r.bmc.PressPower(); err != nil {
		t.Fatal(err)
	}
	if err := fit(); !errors.Is(err, ErrNotOff) {
		t.Errorf("with power: %v", err)
	}
	synctest.Wait()
	if len(next.seen()) != 1 || len(r.board.seen()) > 0 {
		t.Errorf("the new machine booted %d times, the one that was taken away %d times", len(next.seen()), len(r.board.seen()))
	}
}
