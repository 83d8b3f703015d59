// Package qemu is the lab machine of highest fidelity: a full virtual machine
// with real firmware, disks, links and a serial console, emulated in software
// or, where someone asks for it, run by KVM.
//
// It never decides what to boot, and it never leaves a process or a network
// device behind when Boot has returned.
package qemu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"metalrise.dev/lab/machine"
)

const program = "qemu-system-x86_64"

// Machine is one virtual machine. It implements machine.Hardware.
type Machine struct {
	// KVM runs the machine with the host's /dev/kvm. It is off unless someone
	// asks: a /dev/kvm that opens and creates machines is no proof that a guest
	// runs on it (nested set-ups exist where it spins for ever), and software
	// emulation always works. Set it before Boot.
	KVM bool
	// Clock is how far the machine's clock is from the host's at each power-on, as
	// with an empty battery: a machine of this kind remembers no time. Set it before
	// Boot.
	Clock time.Duration

	spec machine.Spec

	mu      sync.Mutex
	monitor *monitor // nil while nothing runs
}

var _ machine.Hardware = (*Machine)(nil)

// New returns the machine of a checked spec. It touches nothing yet: the files
// in spec.Dir are made by the first Boot, disks sparse and empty, and kept.
func New(spec machine.Spec) (*Machine, error) {
	if err := spec.Check(); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(spec.Dir)
	if err != nil {
		return nil, fmt.Errorf("machine %s: directory: %w", spec.Name, err)
	}
	spec.Dir = dir
	return &Machine{spec: spec}, nil
}

// BootsFromNet implements machine.NetBooter.
func (m *Machine) BootsFromNet() {}

// Boot implements machine.Hardware. NotBooted is found by looking at the medium
// and the disks as the firmware would; a boot loader that is there and broken
// keeps the machine at its prompt until the context ends, and that is Killed.
func (m *Machine) Boot(ctx context.Context, from machine.BootSource, console io.Writer) (machine.Stop, error) {
	if ctx.Err() != nil {
		return machine.Killed, nil
	}
	stop, err := m.boot(ctx, from, console)
	if err != nil {
		return "", fmt.Errorf("machine %s: %w", m.spec.Name, err)
	}
	return stop, nil
}

func (m *Machine) boot(ctx context.Context, from machine.BootSource, console io.Writer) (machine.Stop, error) {
	if err := m.prepare(from); err != nil {
		return "", err
	}
	order, err := m.bootOrder()
	if err != nil {
		return "", fmt.Errorf("look for boot loaders: %w", err)
	}
	if nothing, err := m.nothingToBoot(from, order); err != nil || nothing {
		return machine.NotBooted, err
	}
	mon, theirs, err := newMonitor()
	if err != nil {
		return "", err
	}
	defer mon.conn.Close()
	taps, err := openTaps(m.spec)
	if err != nil {
		theirs.Close()
		return "", err
	}
	var complaint bytes.Buffer
	cmd := exec.Command(program)
	cmd.Stdout, cmd.Stderr = console, &complaint
	if console != nil {
		cmd.Stdout = endless{console}
	}
	// the first extra file is descriptor 3
	cmd.ExtraFiles = []*os.File{theirs}
	tapFDs := make([]int, len(taps))
	for i, f := range taps {
		tapFDs[i] = -1
		if f != nil {
			cmd.ExtraFiles = append(cmd.ExtraFiles, f)
			tapFDs[i] = 2 + len(cmd.ExtraFiles)
		}
	}
	cmd.Args = append(cmd.Args, m.arguments(from, order, 3, tapFDs)...)
	// if the lab is killed, its machines lose power
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}

	ended := make(chan error, 1)
	started := make(chan error)
	go func() {
		// the parent-death signal is tied to the thread that forked
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			ended <- cmd.Wait()
		}
	}()
	err = <-started
	theirs.Close()
	closeAll(taps)
	if err != nil {
		return "", fmt.Errorf("start %s: %w", program, err)
	}
	return m.attend(ctx, cmd.Process, mon, ended, &complaint)
}

// attend sees a started QEMU to its end and says why it ended.
func (m *Machine) attend(ctx context.Context, process *os.Process, mon *monitor, ended <-chan error, complaint *bytes.Buffer) (machine.Stop, error) {
	heard := make(chan struct{})
	go func() {
		mon.listen()
		close(heard)
	}()
	// kill may come too late; then there is nothing left to kill
	pidErr := os.WriteFile(m.pidPath(), []byte(strconv.Itoa(process.Pid)+"\n"), 0o644)
	released := make(chan error, 1)
	go func() { released <- m.release(mon) }()

	var exit error
	cut := false
	select {
	case <-ctx.Done():
		cut = true
		process.Kill()
		exit = <-ended
	case exit = <-ended:
	}
	m.setMonitor(nil)
	<-heard // up to the end of what QEMU sent: its last event says why it ended
	releaseErr := <-released
	os.Remove(m.pidPath())

	reason := <-mon.shutdown // "" from the closed channel: no such event
	switch {
	case reason == "guest-reset":
		return machine.Rebooted, nil
	case reason == "guest-shutdown":
		return machine.PoweredOff, nil
	case cut:
		return machine.Killed, nil
	case pidErr != nil:
		return "", pidErr
	case releaseErr != nil && !errors.Is(releaseErr, errMonitorGone):
		return "", releaseErr
	}
	return "", fmt.Errorf("%s ended (%v, reason %q): %s", program, exit, reason, lastLines(complaint.String()))
}

// release sets the links without a bridge down and lets the machine go.
func (m *Machine) release(mon *monitor) error {
	if err := mon.execute("qmp_capabilities", nil); err != nil {
		return err
	}
	for i, n := range m.spec.NICs {
		if n.Bridge == "" {
			if err := mon.execute("set_link", map[string]any{"name": nicID(i), "up": false}); err != nil {
				return err
			}
		}
	}
	m.setMonitor(mon)
	return mon.execute("cont", nil)
}

func (m *Machine) setMonitor(mon *monitor) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.monitor = mon
}

// Shutdown implements machine.Hardware with the ACPI power button.
func (m *Machine) Shutdown(ctx context.Context) error {
	m.mu.Lock()
	mon := m.monitor
	m.mu.Unlock()
	if mon == nil {
		return fmt.Errorf("machine %s: shutdown: it is not running", m.spec.Name)
	}
	done := make(chan error, 1)
	go func() { done <- mon.execute("system_powerdown", nil) }()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("machine %s: shutdown: %w", m.spec.Name, err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("machine %s: shutdown: %w", m.spec.Name, ctx.Err())
	}
}

// Clean implements machine.Hardware: it kills a QEMU that an earlier lab left
// running on this machine's files. Its taps go with it.
func (m *Machine) Clean(ctx context.Context) error {
	data, err := os.ReadFile(m.pidPath())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("machine %s: clean: %w", m.spec.Name, err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err == nil && pid > 1 && m.owns(pid) {
		if err := killAndWait(ctx, pid, m.owns); err != nil {
			return fmt.Errorf("machine %s: clean: %w", m.spec.Name, err)
		}
	}
	return os.Remove(m.pidPath())
}

// owns reports whether a process is a QEMU on this machine's files: numbers are
// given again to other processes.
func (m *Machine) owns(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return false
	}
	argv0, rest, _ := strings.Cut(string(data), "\x00")
	return filepath.Base(argv0) == program && strings.Contains(rest, m.spec.UUID) && strings.Contains(rest, strings.ReplaceAll(m.spec.Dir, ",", ",,"))
}
