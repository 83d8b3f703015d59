package redfish

import (
	"errors"
	"fmt"

	"metalrise.dev/lab/machine"
)

// ErrNotOff refuses to change the parts of a machine that has power.
var ErrNotOff = errors.New("the machine is not off")

// Refit changes the parts of a machine that is off: disks of another identity, as
// many as before. change gives the machine as it is from now on; the machine is
// kept off while it runs, and stays as it was when it fails. It answers ErrNotOff
// while there is power.
func (b *BMC) Refit(change func() (machine.Spec, machine.Hardware, error)) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.power != PowerOff || b.run != nil {
		return fmt.Errorf("bmc of %s: %w: it is %s", b.cfg.Spec.Name, ErrNotOff, b.power)
	}
	spec, hardware, err := change()
	if err != nil {
		return err
	}
	if have, want := len(spec.Disks), len(b.cfg.Spec.Disks); have != want {
		return fmt.Errorf("bmc of %s: %d disks, there are bays for %d", b.cfg.Spec.Name, have, want)
	}
	b.cfg.Spec.Disks, b.cfg.Hardware = spec.Disks, hardware
	return nil
}
