package container

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// The kernel's numbers for groups of devices (devices.txt).
const (
	memoryMajor   = 1
	terminalMajor = 5
	miscMajor     = 10
	pseudoMajor   = 136 // pseudo terminals
)

// limitDevices closes the host's devices to a machine. It may use what every
// system has, the tunnels, and loop devices, among them its own disks. Which loop
// devices it will attach over its disks cannot be known before, so all are
// allowed; the host's own disks are not. Making nodes of anything is harmless.
//
// /dev/kvm is missing in a machine, which is how the systems in it know that
// there is no virtualization. Its number is not closed: KubeVirt looks at the
// kernel's list of devices, which is the host's, makes the node where that says
// KVM, and does not start on a node where it then cannot open it.
//
// All is allowed but what the host has besides, and not the other way round: in a
// group below one that denies by default, nothing can be allowed that is not
// listed, and the container runtime of a cluster's node writes "everything" for
// its privileged containers. Below a group that allows by default that succeeds,
// and what is denied here stays denied (devices cgroup, "Hierarchy").
func (g *group) limitDevices(h hierarchy) error {
	devices, err := os.ReadFile("/proc/devices")
	if err != nil {
		return fmt.Errorf("list the host's devices: %w", err)
	}
	misc, err := os.ReadFile("/proc/misc")
	if err != nil {
		return fmt.Errorf("list the host's devices: %w", err)
	}
	if err := g.set(h, "devices.allow", "a"); err == nil {
		for _, rule := range deniedDevices(string(devices), string(misc)) {
			if err := g.set(h, "devices.deny", rule); err != nil {
				return err
			}
		}
		return nil
	}
	// The host itself lives in a group that denies by default.
	if err := g.set(h, "devices.deny", "a"); err != nil {
		return err
	}
	for _, rule := range allowedDevices() {
		if err := g.set(h, "devices.allow", rule); err != nil {
			return err
		}
	}
	return nil
}

// deniedDevices are the rules for what the host has and a machine may not use,
// from the host's proc_devices(5) and proc_misc(5).
func deniedDevices(devices, misc string) []string {
	kept := map[uint32]bool{memoryMajor: true, terminalMajor: true, miscMajor: true, pseudoMajor: true}
	rules := []string{"c 1:1 rw", "c 1:2 rw", "c 1:4 rw", "c 1:11 rw"} // memory, kernel memory, ports, kernel log
	kind := ""
	for line := range strings.Lines(devices) {
		f := strings.Fields(line)
		switch {
		case strings.HasPrefix(line, "Character"):
			kind = "c"
		case strings.HasPrefix(line, "Block"):
			kind, kept = "b", map[uint32]bool{loopMajor: true}
		case len(f) >= 2:
			major, err := strconv.ParseUint(f[0], 10, 32)
			if rule := fmt.Sprintf("%s %d:* rw", kind, major); err == nil && !kept[uint32(major)] && !slices.Contains(rules, rule) {
				rules = append(rules, rule)
			}
		}
	}
	for line := range strings.Lines(misc) {
		number, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name == "kvm" {
			continue
		}
		minor, err := strconv.ParseUint(number, 10, 32)
		own := slices.ContainsFunc(standardNodes(), func(n node) bool { return n.major == miscMajor && n.minor == uint32(minor) })
		if err == nil && !own {
			rules = append(rules, fmt.Sprintf("c %d:%d rw", miscMajor, minor))
		}
	}
	return rules
}

// allowedDevices are the rules for what a machine may use where all else is
// denied. Privileged containers do not start in such a machine.
func allowedDevices() []string {
	rules := []string{"c *:* m", "b *:* m", fmt.Sprintf("b %d:* rwm", loopMajor), fmt.Sprintf("c %d:* rwm", pseudoMajor)}
	for _, n := range standardNodes() {
		rules = append(rules, fmt.Sprintf("c %d:%d rwm", n.major, n.minor))
	}
	return rules
}
