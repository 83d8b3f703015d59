package plan

import (
	"fmt"
	"strconv"
	"strings"

	"metalrise.dev/fleet"
)

// What KubeVirt and its companions take, as its makers publish it for planning
// ("Physical resource overhead requirements" of their guide). A VM takes 1.002
// times its memory (page tables), 218 MiB, 8 MiB for each vCPU and 16 MiB for
// each graphics device; a hypervisor 2 cores and 360 MiB; a node that carries
// the platform's own pods 4 cores and 150 MiB, and all of these together
// 2179 MiB.
const (
	vmThousandths = 1002
	vmMiB         = 218
	vmMiBPerCPU   = 8
	vmMiBGraphics = 16 // one device, which KubeVirt adds unless told otherwise

	hypervisorMilliCPU = 2000
	hypervisorMiB      = 360
	controlMilliCPU    = 4000
	controlMiB         = 150
	platformMiB        = 2179
)

const (
	// vCPUsPerCPU is KubeVirt's own default of how many vCPUs share one CPU
	// (cpuAllocationRatio).
	vCPUsPerCPU = 10
	// evictionMiB is what the kubelet keeps free by evicting pods; see package
	// kube, which sets it.
	evictionMiB = 200
	// podsOfVMs is what is left of the 110 pods of a node (the kubelet's default)
	// beside those of Kubernetes and the platform, of which there are up to 20.
	podsOfVMs = 110 - 20
)

// vmSize is a size of VMs.
type vmSize struct{ vCPUs, memoryMiB int }

// vmSizes are those that room is told for: the first that there is room for.
func vmSizes() []vmSize {
	return []vmSize{{4, 16 << 10}, {2, 4 << 10}, {1, 1 << 10}}
}

// needMiB is the memory that the pod of a VM asks for; overcommit is in percent
// of the VM's own memory, what runs beside it is never overcommitted.
func (v vmSize) needMiB(overcommit int) int64 {
	own := (int64(v.memoryMiB)*vmThousandths*100 + 1000*int64(overcommit) - 1) / (1000 * int64(overcommit))
	return own + vmMiB + int64(v.vCPUs)*vmMiBPerCPU + vmMiBGraphics
}

// hypervisor is what a node has for VMs; unknown values are negative.
type hypervisor struct {
	host     string
	memory   int64 // in MiB: free for VMs
	bare     int64 // the same without the platform's own needs, which are estimates
	milliCPU int64
}

// room counts the VMs of one size that fit. Memory decides; where the CPUs are
// unknown they are taken for enough.
func (h hypervisor) room(v vmSize, overcommit int) int {
	if h.memory < 0 {
		return 0
	}
	n := h.memory / v.needMiB(overcommit)
	if h.milliCPU >= 0 {
		n = min(n, h.milliCPU*vCPUsPerCPU/1000/int64(v.vCPUs))
	}
	return int(min(n, podsOfVMs))
}

// hypervisorOf takes from a node what the host, Kubernetes and the platform
// need. share is the node's part of what the platform's own pods take together.
func (m *maker) hypervisorOf(d *draft, share int64) hypervisor {
	h := hypervisor{host: d.Node.Name, memory: -1, milliCPU: -1}
	milli, mib := int64(hypervisorMilliCPU), int64(hypervisorMiB)
	if d.Role != fleet.Worker {
		milli, mib = milli+controlMilliCPU, mib+controlMiB+share
	}
	if have, known := m.plainMemory(d); known {
		h.bare = max(have-evictionMiB-quantity(d.Node.SystemReserved["memory"], map[string]int64{"Mi": 1, "Gi": 1024}), 0)
		h.memory = max(h.bare-mib, 0)
	}
	if n, known := cpus(d.facts.CPU); known {
		h.milliCPU = max(int64(n)*1000-milli-quantity(d.Node.SystemReserved["cpu"], map[string]int64{"m": 1, "": 1000}), 0)
	}
	return h
}

// quantity reads what reserveForHost writes. Another form counts as nothing.
func quantity(text string, units map[string]int64) int64 {
	number := strings.TrimRight(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
	n, err := strconv.ParseInt(number, 10, 32)
	if err != nil {
		return 0
	}
	return n * units[text[len(number):]]
}

// capacityOf adds up. The VMs of a lost hypervisor go on only where others have
// room, so the largest is left out for WithoutOne.
func capacityOf(all []hypervisor, v vmSize, overcommit int) fleet.Capacity {
	c := fleet.Capacity{VCPUs: v.vCPUs, MemoryMiB: v.memoryMiB}
	largest := 0
	for _, h := range all {
		n := h.room(v, overcommit)
		c.VMs += n
		largest = max(largest, n)
	}
	c.WithoutOne = c.VMs - largest
	return c
}

// chooseCapacity says for how many VMs there is room.
func (m *maker) chooseCapacity(s *fleet.StackPlan, hosts []*draft) {
	share := int64(platformMiB)
	if n := int64(len(m.controlPlanes())); n > 0 {
		share = (platformMiB + n - 1) / n
	}
	var all []hypervisor
	var unknown []string
	for _, d := range hosts {
		h := m.hypervisorOf(d, share)
		all = append(all, h)
		if h.memory < 0 {
			unknown = append(unknown, h.host)
		}
	}
	for i, v := range vmSizes() {
		c := capacityOf(all, v, s.MemoryOvercommit)
		if i == 0 || c.VMs > 0 {
			s.Capacity = c
		}
		if c.VMs > 0 {
			break
		}
	}
	m.tellRoom(s, all, unknown)
}

// tellRoom remarks on little room, and on what is not known.
func (m *maker) tellRoom(s *fleet.StackPlan, all []hypervisor, unknown []string) {
	const path = "facts.memoryMiB"
	standard := vmSizes()[0]
	switch {
	case len(unknown) > 0:
		m.add(fleet.CodeNoRoom, fleet.Info, "", path, fmt.Sprintf("the memory of these is unknown, so room for VMs is not counted on them: %s", someOf(unknown)), "Compare with the server's papers.")
	case len(all) == 0:
	case s.Capacity.VMs == 0:
		severity, text := m.noRoom(s, all)
		m.add(fleet.CodeNoRoom, severity, "", path, text, "Use larger servers, fewer huge pages or a smaller reserve; or set platform.none: true.")
	case s.Capacity.MemoryMiB != standard.memoryMiB:
		m.add(fleet.CodeNoRoom, fleet.Info, "", path, fmt.Sprintf("there is no room for a VM of %d vCPU and %d GiB; there is for %d of %d vCPU and %d GiB", standard.vCPUs, standard.memoryMiB>>10, s.Capacity.VMs, s.Capacity.VCPUs, s.Capacity.MemoryMiB>>10),
			"Nothing to do if VMs are small.")
	}
}

// noRoom says what is short. Without memory for the smallest VM, and be it that
// the platform took none itself, no VM starts. Else they may, with less memory, or
// slowly. Where VMs are emulated nobody counts on them.
func (m *maker) noRoom(s *fleet.StackPlan, all []hypervisor) (fleet.Severity, string) {
	sizes := vmSizes()
	least, tiny := sizes[len(sizes)-1], vmSize{1, 256}
	var memory, bare int64
	for _, h := range all {
		memory, bare = max(memory, h.memory), max(bare, h.bare)
	}
	need := least.needMiB(s.MemoryOvercommit)
	if memory >= need {
		return fleet.Warning, fmt.Sprintf("what the host, Kubernetes and the platform need leaves no hypervisor CPUs for a VM of %d vCPU and %d GiB; VMs will be slow", least.vCPUs, least.memoryMiB>>10)
	}
	severity := fleet.Warning
	if bare < tiny.needMiB(s.MemoryOvercommit) && !s.Emulation {
		severity = fleet.Blocker
	}
	return severity, fmt.Sprintf("what the host, Kubernetes and the platform need leaves no hypervisor more than %d MiB of memory for VMs; one of %d vCPU and %d GiB takes %d MiB", memory, least.vCPUs, least.memoryMiB>>10, need)
}
