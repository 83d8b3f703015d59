// Package container is a lab machine of native speed: Linux namespaces that
// really boot what they are given.
//
// The host plays firmware, boot loader and initramfs: it reads the inserted
// medium or the disks as those would (kernel arguments, root file system,
// Ignition config), makes the machine's devices, runs the real Ignition program
// on the root and hands over to the system's own init as process 1. From there
// on nothing is played. A reset ends the namespaces and is reported; booting
// again starts over from what is on the disks.
//
// It never boots a kernel: the machine runs on the host's, without KVM, without
// loading modules and without setting the clock, and it is no security boundary
// against what runs inside: on hosts with control groups of version 1 it cannot
// open the host's disks, on others it merely does not see them. It needs root on
// Linux.
package container

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"metalrise.dev/lab/machine"
)

// Machine is one machine made of namespaces. It implements machine.Hardware.
type Machine struct {
	spec     machine.Spec
	ignition string
	// tag tells machines of one name in different labs of a host apart.
	tag string

	mu   sync.Mutex
	pid  int   // of process 1, seen from the host; 0 while not running
	peak int64 // most memory of the last run, in bytes
}

// New describes the machine of spec without starting anything. ignition is the
// path of a real Ignition program that runs on this host. Disk files that are
// missing are made, empty; those that are there are kept.
func New(spec machine.Spec, ignition string) (*Machine, error) {
	if err := spec.Check(); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(spec.Dir)
	if err != nil {
		return nil, fmt.Errorf("machine %s: dir: %w", spec.Name, err)
	}
	spec.Dir = dir
	if ignition, err = filepath.Abs(ignition); err != nil {
		return nil, fmt.Errorf("machine %s: ignition program: %w", spec.Name, err)
	}
	if len(spec.Disks) > 26 {
		return nil, fmt.Errorf("machine %s: %d disks, at most 26 (sda to sdz) are possible", spec.Name, len(spec.Disks))
	}
	if len(spec.NICs) > 10 {
		return nil, fmt.Errorf("machine %s: %d network cards, at most 10 are possible", spec.Name, len(spec.NICs))
	}
	sum := sha256.Sum256([]byte(spec.Name + "\x00" + dir))
	m := &Machine{spec: spec, ignition: ignition, tag: hex.EncodeToString(sum[:])}
	for _, d := range spec.Disks {
		if err := makeDisk(m.diskFile(d), d.SizeBytes); err != nil {
			return nil, fmt.Errorf("machine %s: disk %s: %w", spec.Name, d.Serial, err)
		}
	}
	return m, nil
}

func makeDisk(path string, size int64) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if st.Size() > size {
		return fmt.Errorf("%s has %d bytes, more than the disk's %d", path, st.Size(), size)
	}
	return f.Truncate(size)
}

func (m *Machine) diskFile(d machine.Disk) string {
	return filepath.Join(m.spec.Dir, d.Name+".raw")
}

// groupName is the machine's control group.
func (m *Machine) groupName() string { return "metalrise-" + m.spec.Name + "-" + m.tag[:8] }

// Boot implements machine.Hardware.
func (m *Machine) Boot(ctx context.Context, from machine.BootSource, w io.Writer) (machine.Stop, error) {
	stop, err := m.boot(ctx, from, &lineOut{w: w})
	if err != nil {
		return "", fmt.Errorf("machine %s: boot from %s: %w", m.spec.Name, from.Kind, err)
	}
	return stop, nil
}

func (m *Machine) boot(ctx context.Context, from machine.BootSource, out *lineOut) (stop machine.Stop, err error) {
	r := &run{m: m, out: out, devs: map[uint64]bool{}}
	defer func() {
		if e := r.end(); e != nil {
			err = errors.Join(err, e)
		}
	}()
	p, err := r.firmware(ctx, from)
	if nb := new(notBootable); errors.As(err, &nb) {
		out.say("No bootable device: %s", nb.why)
		return machine.NotBooted, nil
	}
	if err != nil {
		return "", err
	}
	return r.start(ctx, p)
}

// Shutdown implements machine.Hardware: it is the power button's signal to
// process 1 (systemd(1), SIGRTMIN+4). Before the system is up nobody listens.
func (m *Machine) Shutdown(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.pid == 0 {
		return fmt.Errorf("machine %s: press the power button: the machine is off", m.spec.Name)
	}
	const sigPoweroff = syscall.Signal(34 + 4)
	if err := syscall.Kill(m.pid, sigPoweroff); err != nil {
		return fmt.Errorf("machine %s: press the power button: %w", m.spec.Name, err)
	}
	return nil
}

// PeakMemory returns the most memory, in bytes, that the last run used: its
// processes, what it wrote to memory file systems and its share of the page
// cache. It is 0 before the first run ended and where the host does not count.
func (m *Machine) PeakMemory() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.peak
}

func (m *Machine) setPID(pid int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pid = pid
}

// Clean implements machine.Hardware. Processes and mounts die with the lab by
// themselves; what can be left are loop devices the machine attached over its
// disks, control groups, and network devices for a moment.
func (m *Machine) Clean(context.Context) error {
	g, err := newGroup(m.groupName())
	if err != nil {
		return fmt.Errorf("machine %s: clean: %w", m.spec.Name, err)
	}
	err = errors.Join(m.unplug(), m.detachOwn(nil, nil), g.remove(), m.removeStages())
	if err != nil {
		return fmt.Errorf("machine %s: clean: %w", m.spec.Name, err)
	}
	return nil
}

// stagePattern names the empty folders over which a run's mounts begin.
const stagePattern = ".boot-*"

func (m *Machine) removeStages() error {
	left, err := filepath.Glob(filepath.Join(m.spec.Dir, stagePattern))
	for _, dir := range left {
		err = errors.Join(err, os.Remove(dir))
	}
	return err
}

// detachOwn detaches what is attached over the machine's disk files, over loop
// devices that are, and over files on the file systems in devs; it waits for
// the loop devices in held, which their owner has let go of, to vanish.
func (m *Machine) detachOwn(held []*loop, devs map[uint64]bool) error {
	inDir := func(l loopInfo) bool {
		return strings.HasPrefix(l.backing, m.spec.Dir+string(filepath.Separator)) ||
			slices.ContainsFunc(held, func(h *loop) bool { return h.Minor == l.minor && h.path == l.backing })
	}
	all, err := attachedLoops()
	if err != nil {
		return fmt.Errorf("list loop devices: %w", err)
	}
	over := map[uint64]bool{}
	own := func(l loopInfo) bool { return inDir(l) || over[l.ofDev] || devs[l.fileDev] }
	// Loop devices can stand on each other; each round finds the next storey.
	for range 4 {
		for _, l := range all {
			if own(l) {
				over[unix.Mkdev(loopMajor, uint32(l.minor))] = true
			}
		}
	}
	return detachAll(own)
}
