package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"metalrise.dev/lab/machine"
)

// prepare makes the machine's own files where they are missing, and looks at
// the medium, whose absence QEMU would report less clearly.
func (m *Machine) prepare(from machine.BootSource) error {
	switch from.Kind {
	case machine.FromDisk, machine.FromNet:
	case machine.FromMedia:
		if from.ISO == "" {
			return errors.New("boot from media: no medium is inserted")
		}
	default:
		return fmt.Errorf("boot from %q: want %s or %s", from.Kind, machine.FromMedia, machine.FromDisk)
	}
	if from.ISO != "" {
		if _, err := os.Stat(from.ISO); err != nil {
			return fmt.Errorf("medium: %w", err)
		}
	}
	if err := os.MkdirAll(m.spec.Dir, 0o755); err != nil {
		return err
	}
	for _, d := range m.spec.Disks {
		if err := makeDisk(m.diskPath(d), d.SizeBytes); err != nil {
			return fmt.Errorf("disk %s: %w", d.Name, err)
		}
	}
	if m.spec.Firmware == "uefi" {
		if err := copyOnce(ovmfVars, m.varsPath()); err != nil {
			return fmt.Errorf("firmware variables: %w", err)
		}
	}
	return nil
}

// makeDisk creates a sparse file, or gives an existing one its size. It never
// makes a disk smaller: that would cut off data.
func makeDisk(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() > size {
		return fmt.Errorf("%s holds %d bytes, more than the disk's %d", path, info.Size(), size)
	}
	if info.Size() < size {
		if err := f.Truncate(size); err != nil {
			return err
		}
	}
	return f.Close()
}

// copyOnce copies a file unless the copy is there already.
func copyOnce(from, to string) error {
	if _, err := os.Stat(to); err == nil || !errors.Is(err, os.ErrNotExist) {
		return err
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	temp := to + ".new"
	if err := os.WriteFile(temp, data, 0o644); err != nil {
		return err
	}
	return os.Rename(temp, to)
}

// killAndWait kills a process that is not our child and waits until it holds
// our files no more; alive tells whether it does.
func killAndWait(ctx context.Context, pid int, alive func(int) bool) error {
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("kill process %d: %w", pid, err)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for alive(pid) {
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for process %d: %w", pid, ctx.Err())
		case <-tick.C:
		}
	}
	return nil
}

// endless swallows what its writer does not take: a console that nobody can
// read any more must not stop the machine.
type endless struct{ w io.Writer }

func (e endless) Write(p []byte) (int, error) {
	e.w.Write(p)
	return len(p), nil
}

// lastLines is the end of QEMU's complaint, without its notes on processor
// features that software emulation lacks.
func lastLines(text string) string {
	var kept []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && !strings.Contains(line, "TCG doesn't support requested feature") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept[max(0, len(kept)-5):], "; ")
}
