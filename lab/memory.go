package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// memoryUsed sums the memory of a machine's processes in bytes, shared pages in
// proportion; 0 for a machine that is off. Files in a container machine's
// memory (the live system's root) are the host's and not in it.
//
// A machine's processes descend from one child of this process, which either is
// in a control group of the machine's name or has the name as an argument.
func memoryUsed(name string) int64 {
	children, err := descendants()
	if err != nil {
		return 0
	}
	for _, first := range children[os.Getpid()] {
		if !isMachine(first, name) {
			continue
		}
		var sum int64
		for todo := []int{first}; len(todo) > 0; {
			pid := todo[0]
			todo = append(todo[1:], children[pid]...)
			sum += proportional(pid)
		}
		return sum
	}
	return 0
}

// descendants lists the children of every process.
func descendants() (map[int][]int, error) {
	found, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	children := map[int][]int{}
	for _, path := range found {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // it ended
		}
		// "PID (COMMAND) STATE PPID ...", proc(5); the command may hold anything.
		fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
		if len(fields) < 2 {
			continue
		}
		parent, err := strconv.Atoi(fields[1])
		if err != nil {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			continue
		}
		children[parent] = append(children[parent], pid)
	}
	return children, nil
}

func isMachine(pid int, name string) bool {
	groups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err == nil && strings.Contains(string(groups), "/metalrise-"+name+"-") {
		return true
	}
	args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && strings.Contains(string(args), "\x00-name\x00"+name+"\x00")
}

// proportional is the proportional set size of one process.
func proportional(pid int) int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == "Pss:" {
			kib, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				return 0
			}
			return kib << 10
		}
	}
	return 0
}
