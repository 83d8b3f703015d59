package agent

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"metalrise.dev/agent/node"
	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

// Machine is the machine the program runs on. All its files are looked for
// below one root, so that tests can describe a machine by a folder.
type Machine struct {
	root string
}

var _ Host = (*Machine)(nil)

// NewHost gives the machine whose files begin at root.
func NewHost(root string) *Machine { return &Machine{root: root} }

const (
	maxFile = 1 << 20 // of /proc and /sys; the longest is /proc/cpuinfo of a large server, which is cut
	// runDir is forgotten when the machine restarts, stateDir is not.
	runDir   = "run/metalrise/agent"
	stateDir = "var/lib/metalrise/agent"
)

func (m *Machine) path(p string) string { return filepath.Join(m.root, p) }

// read gives a file's content without blanks around it, "" when there is none.
func (m *Machine) read(path string) string {
	b, err := m.readAll(path)
	if err != nil {
		return ""
	}
	return strings.Trim(string(b), " \t\r\n\x00")
}

func (m *Machine) readAll(path string) ([]byte, error) {
	f, err := os.Open(m.path(path))
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	b := make([]byte, 0, 4096)
	for len(b) < maxFile {
		b = slices.Grow(b, 4096)
		n, err := f.Read(b[len(b):min(cap(b), maxFile)])
		b = b[:len(b)+n]
		if err != nil || n == 0 {
			break // files of the kernel end, or fail in the middle; what came counts
		}
	}
	return b, nil
}

func (m *Machine) exists(path string) bool {
	_, err := os.Lstat(m.path(path))
	return err == nil
}

// names lists a folder, sorted; none when it cannot be read.
func (m *Machine) names(path string) []string {
	entries, err := os.ReadDir(m.path(path))
	if err != nil {
		return nil
	}
	out := make([]string, 0, len(entries))
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// lines calls f with each line of a file.
func (m *Machine) lines(path string, f func(string)) {
	b, err := m.readAll(path)
	if err != nil {
		return
	}
	s := bufio.NewScanner(strings.NewReader(string(b)))
	s.Buffer(nil, maxFile)
	for s.Scan() {
		f(s.Text())
	}
}

// Keep implements Host in a folder that lies in memory on every systemd machine.
func (m *Machine) Keep(name string, value []byte) error { return m.store(runDir, name, value) }

// Recall implements Host.
func (m *Machine) Recall(name string) ([]byte, error) { return m.stored(runDir, name) }

// Save implements NodeHost.
func (m *Machine) Save(name string, value []byte) error { return m.store(stateDir, name, value) }

// Load implements NodeHost.
func (m *Machine) Load(name string) ([]byte, error) { return m.stored(stateDir, name) }

// store writes a file that only root may read, whole or not at all.
func (m *Machine) store(folder, name string, value []byte) error {
	dir := m.path(folder)
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	f, err := os.CreateTemp(dir, ".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone after the rename
	_, err = f.Write(value)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), filepath.Join(dir, name)); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (m *Machine) stored(folder, name string) ([]byte, error) {
	b, err := m.readAll(filepath.Join(folder, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fs.ErrNotExist
	}
	return b, err
}

// Do implements NodeHost.
func (m *Machine) Do(ctx context.Context, from node.Source, step callhome.Step, moved func(int64)) error {
	return node.System{Root: m.root}.Do(ctx, from, step, moved)
}

// own says whether this is the real machine, not a folder that describes one.
func (m *Machine) own() error {
	if filepath.Clean(m.root) != "/" {
		return fmt.Errorf("%s is a folder, not the machine's own root", m.root)
	}
	return nil
}

// SetClock implements Host.
func (m *Machine) SetClock(now time.Time) error {
	if err := m.own(); err != nil {
		return err
	}
	ts := unix.NsecToTimespec(now.UnixNano())
	return unix.ClockSettime(unix.CLOCK_REALTIME, &ts)
}

// Reboot implements Host: through systemd, which stops services and unmounts,
// or by the kernel when systemd cannot be asked.
func (m *Machine) Reboot(ctx context.Context) error {
	if err := m.own(); err != nil {
		return err
	}
	unix.Sync()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := exec.CommandContext(ctx, "systemctl", "reboot").Run(); err == nil {
		return nil
	}
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART); err != nil {
		return fleet.NewFault(fleet.CodeAgentFailed, fleet.Transient, err, "neither systemctl nor the kernel restarted the machine")
	}
	return nil
}
