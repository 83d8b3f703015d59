package agent

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"metalrise.dev/fleet"
)

// LookNode implements NodeHost: what the kubelet and VMs need of the system.
func (m *Machine) LookNode(f *fleet.Facts) {
	problem := func(path, text string) { f.Problems = append(f.Problems, fleet.Problem{Path: path, Text: text}) }
	if k, ok := f.KVM.Get(); ok {
		k.VhostNet = m.opens("dev/vhost-net", problem)
		k.Tun = m.opens("dev/net/tun", problem)
		k.Flag = m.lookFlag()
		f.KVM = fleet.Known(k)
	}
	f.Runtime = fleet.Known(m.lookRuntime())
}

// opens tells whether a device can be opened, and why not.
func (m *Machine) opens(path string, problem func(path, text string)) fleet.Maybe[bool] {
	d, err := os.OpenFile(m.path(path), os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		problem("/"+path, "open: "+cause(err))
		return fleet.Known(false)
	}
	info, err := d.Stat()
	_ = d.Close()
	if err != nil || (m.own() == nil && info.Mode()&os.ModeCharDevice == 0) {
		problem("/"+path, "it is no character device")
		return fleet.Known(false)
	}
	return fleet.Known(true)
}

// lookFlag is the processor's own name for what KVM needs.
func (m *Machine) lookFlag() string {
	found := ""
	m.lines("proc/cpuinfo", func(line string) {
		key, value, _ := strings.Cut(line, ":")
		if strings.TrimSpace(key) != "flags" || found != "" {
			return
		}
		for _, f := range strings.Fields(value) {
			if f == "vmx" || f == "svm" {
				found = f
			}
		}
	})
	return found
}

func (m *Machine) lookRuntime() fleet.NodeRuntime {
	r := fleet.NodeRuntime{CgroupVersion: 1, Kernel: bounded(m.read("proc/sys/kernel/osrelease")), Container: bounded(m.lookContainer())}
	// Only at the root of the unified hierarchy (Documentation/admin-guide/cgroup-v2.rst);
	// a hybrid one has it deeper and works as version 1.
	if m.exists("sys/fs/cgroup/cgroup.controllers") {
		r.CgroupVersion = 2
	}
	r.MayLowerOOM = m.mayLowerOOM()
	header := true
	m.lines("proc/swaps", func(line string) {
		r.Swap = r.Swap || (!header && strings.TrimSpace(line) != "")
		header = false
	})
	return r
}

// mayLowerOOM looks for CAP_SYS_RESOURCE, which lowering oom_score_adj needs
// (proc_pid_oom_score_adj(5)), among what this process has and what its children
// may get.
func (m *Machine) mayLowerOOM() bool {
	has := map[string]bool{}
	m.lines("proc/self/status", func(line string) {
		key, value, _ := strings.Cut(line, ":")
		if set, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64); err == nil && (key == "CapEff" || key == "CapBnd") {
			has[key] = set&(1<<unix.CAP_SYS_RESOURCE) != 0
		}
	})
	return has["CapEff"] && has["CapBnd"]
}

// lookContainer is the kind of system container we are in, by systemd's own
// convention (systemd's CONTAINER_INTERFACE); "" outside of one.
func (m *Machine) lookContainer() string {
	if kind := m.read("run/systemd/container"); kind != "" {
		return kind
	}
	env, err := m.readAll("proc/1/environ")
	if err == nil {
		for v := range strings.SplitSeq(string(env), "\x00") {
			if kind, ok := strings.CutPrefix(v, "container="); ok {
				return kind
			}
		}
	}
	if m.own() == nil {
		return os.Getenv("container")
	}
	return ""
}

func bounded(s string) string { return printable(s[:min(len(s), 100)]) }
