package container

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"metalrise.dev/lab/machine"
)

// cgroupRoot is where Debian and systemd mount the control group hierarchies.
const cgroupRoot = "/sys/fs/cgroup"

// maxProcesses is enough for a node of a cluster, too few to take the host down.
const maxProcesses = "16384"

// hierarchy is one control group tree of the host, version 1 or 2.
type hierarchy struct {
	mount   string // its folder on the host
	name    string // its folder name, the same inside a machine
	options string // mount options of version 1; "" for version 2
	self    string // the folder of the group this process is in
}

func (h hierarchy) has(controller string) bool {
	return slices.Contains(strings.Split(h.options, ","), controller)
}

// hierarchies lists the trees this process takes part in and that are mounted.
// The file is read as a whole first: moving a process changes it.
func hierarchies() ([]hierarchy, error) {
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, fmt.Errorf("find control groups: %w", err)
	}
	var all []hierarchy
	lines := bufio.NewScanner(strings.NewReader(string(b)))
	for lines.Scan() {
		f := strings.SplitN(lines.Text(), ":", 3)
		if len(f) != 3 {
			continue
		}
		h := hierarchy{name: f[1], options: f[1]}
		if named, ok := strings.CutPrefix(f[1], "name="); ok {
			h.name, h.options = named, "none,"+f[1]
		}
		if f[0] == "0" {
			h.name = "unified"
			if isCgroup2(cgroupRoot) {
				h.name = ""
			}
		}
		h.mount = filepath.Join(cgroupRoot, h.name)
		h.self = filepath.Join(h.mount, f[2])
		if h.name == "" {
			// In version 2 a group with processes has no limited groups below
			// it, but for the root (cgroups(7), "no internal processes").
			h.self = h.mount
		}
		if _, err := os.Stat(h.self); err == nil {
			all = append(all, h)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("find control groups: none of those in /proc/self/cgroup is mounted under %s", cgroupRoot)
	}
	return all, nil
}

func isCgroup2(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC
}

// group is a machine's control group in every hierarchy: an outer folder that
// carries the limits and an inner one that the machine sees as its root, so
// that root inside cannot lift them.
type group struct {
	name string
	in   []hierarchy
}

func newGroup(name string) (*group, error) {
	h, err := hierarchies()
	if err != nil {
		return nil, err
	}
	return &group{name: name, in: h}, nil
}

func (g *group) outer(h hierarchy) string { return filepath.Join(h.self, g.name) }
func (g *group) inner(h hierarchy) string { return filepath.Join(h.self, g.name, "machine") }

// create makes the groups, sets the limits of spec and puts process pid in.
func (g *group) create(spec machine.Spec, pid int) error {
	for _, h := range g.in {
		// Device rules can be replaced only while there is no inner group.
		if err := os.MkdirAll(g.outer(h), 0o755); err != nil {
			return fmt.Errorf("make control group: %w", err)
		}
		if err := g.limit(h, spec); err != nil {
			return err
		}
		if err := os.MkdirAll(g.inner(h), 0o755); err != nil {
			return fmt.Errorf("make control group: %w", err)
		}
		if err := fillCpuset(h, g.outer(h), g.inner(h)); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(g.inner(h), "cgroup.procs"), []byte(strconv.Itoa(pid)), 0); err != nil {
			return fmt.Errorf("put process %d into control group %s: %w", pid, g.inner(h), err)
		}
	}
	return nil
}

func (g *group) limit(h hierarchy, spec machine.Spec) error {
	set := func(file, value string) error { return g.set(h, file, value) }
	if h.options == "" {
		return g.limit2(h, spec)
	}
	switch {
	case h.has("memory"):
		return set("memory.limit_in_bytes", strconv.FormatInt(int64(spec.MemoryMiB)<<20, 10))
	case h.has("pids"):
		return set("pids.max", maxProcesses)
	case h.has("cpu"):
		if _, err := os.Stat(filepath.Join(g.outer(h), "cpu.cfs_quota_us")); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return set("cpu.cfs_quota_us", strconv.Itoa(spec.CPUs*100_000))
	case h.has("devices"):
		return g.limitDevices(h)
	}
	return nil
}

// set writes one setting of the outer group.
func (g *group) set(h hierarchy, file, value string) error {
	if err := os.WriteFile(filepath.Join(g.outer(h), file), []byte(value), 0); err != nil {
		return fmt.Errorf("set %s of control group %s: %w", file, g.outer(h), err)
	}
	return nil
}

// limit2 sets the limits in a version 2 tree, as far as it has the controllers:
// beside version 1 trees it has none. There is no list of devices in version 2.
func (g *group) limit2(h hierarchy, spec machine.Spec) error {
	for _, c := range []string{"cpu", "memory", "pids", "io"} {
		for _, dir := range []string{h.self, g.outer(h)} {
			_ = os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+c), 0)
		}
	}
	for file, value := range map[string]string{
		"memory.max": strconv.FormatInt(int64(spec.MemoryMiB)<<20, 10),
		"pids.max":   maxProcesses,
		"cpu.max":    strconv.Itoa(spec.CPUs*100_000) + " 100000",
	} {
		path := filepath.Join(g.outer(h), file)
		if !exists(path) {
			continue
		}
		if err := os.WriteFile(path, []byte(value), 0); err != nil {
			return fmt.Errorf("set %s: %w", path, err)
		}
	}
	return nil
}

// fillCpuset gives groups the processors of this process's own: a new cpuset
// holds none and takes no process until it does.
func fillCpuset(h hierarchy, dirs ...string) error {
	if !h.has("cpuset") {
		return nil
	}
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		v, err := os.ReadFile(filepath.Join(h.self, file))
		if err != nil {
			return fmt.Errorf("read %s: %w", file, err)
		}
		for _, dir := range dirs {
			if err := os.WriteFile(filepath.Join(dir, file), v, 0); err != nil {
				return fmt.Errorf("set %s of control group %s: %w", file, dir, err)
			}
		}
	}
	return nil
}

// peakMemory returns the most memory the machine used, in bytes; 0 when unknown.
func (g *group) peakMemory() int64 {
	for _, h := range g.in {
		for _, file := range []string{"memory.max_usage_in_bytes", "memory.peak"} {
			b, err := os.ReadFile(filepath.Join(g.outer(h), file))
			if err != nil {
				continue
			}
			n, _ := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
			return n
		}
	}
	return 0
}

// remove deletes the groups with everything the machine made in them. A group
// stays busy for a moment after its last process ended.
func (g *group) remove() error {
	deadline := time.Now().Add(10 * time.Second)
	for _, h := range g.in {
		for {
			err := removeTree(g.outer(h))
			if err == nil {
				break
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("remove control group: %w", err)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	return nil
}

// removeTree removes folders only, the deepest first: the files of a control
// group cannot be deleted.
func removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeTree(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	err = unix.Rmdir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
