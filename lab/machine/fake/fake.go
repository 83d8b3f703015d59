// Package fake is a lab machine that boots nothing: a script plays the booted
// system, so that a thousand servers fit into one process of a benchmark.
//
// It never touches a disk, a process or a network device, and it never claims
// to be true hardware: what must be shown for real belongs to lab/machine/qemu
// or lab/machine/container.
package fake

import (
	"context"
	"fmt"
	"io"
	"sync"

	"metalrise.dev/lab/machine"
)

// Script plays one run of the booted system. It gets what the BMC chose to boot
// and a console, and returns why the system stopped. Its context ends when the
// power is cut and also when a shutdown is asked for; what it returns then is
// replaced by Killed or PoweredOff.
type Script func(ctx context.Context, from machine.BootSource, console io.Writer) (machine.Stop, error)

// Machine is a machine.Hardware played by a Script. Create it with New.
type Machine struct {
	spec   machine.Spec
	script Script

	mu       sync.Mutex
	shutdown context.CancelFunc // of the running script; nil while not booted
	asked    bool               // a shutdown was asked for in this run
}

var _ machine.Hardware = (*Machine)(nil)

// New returns a machine that plays script at every boot. A nil script is a
// system that runs until its power is cut or it is asked to shut down.
func New(spec machine.Spec, script Script) *Machine {
	if script == nil {
		script = idle
	}
	return &Machine{spec: spec, script: script}
}

func idle(ctx context.Context, _ machine.BootSource, _ io.Writer) (machine.Stop, error) {
	<-ctx.Done()
	return machine.Killed, nil
}

// Boot plays the script. A second Boot before the first returned is an error.
func (m *Machine) Boot(ctx context.Context, from machine.BootSource, console io.Writer) (machine.Stop, error) {
	running, stop := context.WithCancel(ctx)
	defer stop()
	m.mu.Lock()
	if m.shutdown != nil {
		m.mu.Unlock()
		return "", fmt.Errorf("boot fake machine %s: it is running already", m.spec.Name)
	}
	m.shutdown, m.asked = stop, false
	m.mu.Unlock()

	why, err := m.script(running, from, console)

	m.mu.Lock()
	asked := m.asked
	m.shutdown = nil
	m.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return machine.Killed, nil
	case asked:
		return machine.PoweredOff, nil
	case err != nil:
		return "", fmt.Errorf("boot fake machine %s: %w", m.spec.Name, err)
	}
	return why, nil
}

// Shutdown ends the running script as a system does that obeys the power button.
// It is an error when nothing runs.
func (m *Machine) Shutdown(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.shutdown == nil {
		return fmt.Errorf("shut down fake machine %s: nothing is running", m.spec.Name)
	}
	m.asked = true
	m.shutdown()
	return nil
}

// Clean has nothing to do: a fake machine leaves nothing behind.
func (m *Machine) Clean(context.Context) error { return nil }
