package plan

import (
	"fmt"
	"strings"

	"metalrise.dev/fleet"
)

const (
	labelProfile      = "metalrise.dev/profile"
	labelControlPlane = "node-role.kubernetes.io/control-plane"
	labelWorker       = fleet.LabelWorker
	// maxNodeName: the name becomes the value of label kubernetes.io/hostname, and
	// values of labels have at most 63 characters.
	maxNodeName = 63
	// minControlPlaneMiB is where a control plane with a few nodes begins to have
	// room: API server, etcd, controllers and scheduler take some 1.5 GiB once
	// KubeVirt is there, the host and its pods the rest.
	minControlPlaneMiB = 4096
	// minControlPlaneCPUs is what kubeadm's preflight wants (NumCPU).
	minControlPlaneCPUs = 2
)

// Rule of what is kept free for the host where the site says nothing.
const (
	reservedMilliCPU       = 500  // at least
	reservedMilliPerCPU    = 10   // for each CPU the system sees
	reservedMiB            = 512  // at least, besides 2 % of memory
	reservedControlMiB     = 1024 // more on control planes, whose own pods ask for too little
	reservedStaticCPUs     = 1    // whole CPUs; the static CPU manager wants some
	reservedStaticCPUsMore = 2    // where API server and etcd share them
)

// chooseNodes decides what each server is in the cluster.
func (m *maker) chooseNodes() {
	if m.cluster == nil {
		return
	}
	workers := false
	for _, d := range m.active() {
		workers = workers || d.Role == fleet.Worker
	}
	for _, d := range m.fresh() {
		d.Node = m.nodePlan(d, workers)
	}
	m.chooseInitial()
}

func (m *maker) nodePlan(d *draft, workers bool) *fleet.NodePlan {
	n := &fleet.NodePlan{Name: strings.ToLower(d.Hostname), Labels: map[string]string{labelProfile: string(d.Hypervisor.Profile)}}
	if len(n.Name) > maxNodeName && len(n.Name) <= maxHostname { // longer ones were refused as host names
		m.add(fleet.CodeNodeShape, fleet.Blocker, d.Server, d.path("hostname"), fmt.Sprintf("%s has %d characters; a node's name has at most %d", n.Name, len(n.Name), maxNodeName),
			"Shorten name, cluster.domain or the host name.")
	}
	takesVMs := true
	if d.Role != fleet.Worker {
		n.Labels[labelControlPlane] = ""
		switch {
		case m.in.Site.Cluster.ControlPlaneWorkloads:
			d.because("runs virtual machines besides the control plane: cluster.controlPlaneWorkloads")
		case d.Role == fleet.SingleNode || !workers:
			d.because("runs virtual machines besides the control plane: there are no workers")
		default:
			takesVMs = false
			n.Taints = []fleet.Taint{{Key: labelControlPlane, Effect: "NoSchedule"}}
			d.because("runs the control plane alone: there are workers, and cluster.controlPlaneWorkloads is not set")
		}
		m.checkControlPlane(d)
	}
	if takesVMs {
		n.Labels[labelWorker] = ""
	}
	n.StaticCPUs = takesVMs && m.in.Site.Virtualization.DedicatedCPUs
	n.SystemReserved = m.reserveForHost(d, n.StaticCPUs)
	return n
}

// checkControlPlane remarks on servers that are small for a control plane.
func (m *maker) checkControlPlane(d *draft) {
	if mib, known := m.plainMemory(d); known && mib < minControlPlaneMiB {
		m.add(fleet.CodeMemoryTooSmall, fleet.Warning, d.Server, "facts.memoryMiB", fmt.Sprintf("%d MiB of memory beside huge pages is little for a control plane; %d MiB are enough for a few nodes", mib, minControlPlaneMiB),
			"Add memory, lower virtualization.hugepagesGiB or give it another role.")
	}
	if n, known := cpus(d.facts.CPU); known && n < minControlPlaneCPUs {
		m.add(fleet.CodeNodeShape, fleet.Warning, d.Server, "facts.cpu", fmt.Sprintf("%d CPU is less than the %d that a control plane wants", n, minControlPlaneCPUs), "Give it another role.")
	}
}

// plainMemory is the memory in MiB that is not set aside as huge pages.
func (m *maker) plainMemory(d *draft) (int64, bool) {
	mib, known := d.facts.MemoryMiB.Get()
	return max(mib-int64(d.Hypervisor.HugepagesGiB)*1024, 0), known && mib > 0
}

// cpus counts what the system sees as CPUs.
func cpus(c fleet.CPU) (int, bool) {
	if n, known := c.Threads.Get(); known && n > 0 {
		return n, true
	}
	n, known := c.Cores.Get()
	return n, known && n > 0
}

// reserveForHost applies the rule, or takes what the site says, and refuses
// what would leave nothing for pods.
func (m *maker) reserveForHost(d *draft, static bool) map[string]string {
	v := m.in.Site.Virtualization
	milli, whyCPU := m.reservedCPU(d, static)
	mib, whyMemory := m.reservedMemory(d)
	if n, known := cpus(d.facts.CPU); known && milli >= int64(n)*1000 {
		m.add(fleet.CodeNodeShape, fleet.Blocker, d.Server, "virtualization.reservedCPUs", fmt.Sprintf("%s of %d CPUs kept free for the host leave none for pods", cpuText(milli), n),
			"Lower virtualization.reservedCPUs, take virtualization.dedicatedCPUs out, or exclude the server.")
	}
	if have, known := m.plainMemory(d); known && v.ReservedMemoryMiB > 0 && mib >= have {
		m.add(fleet.CodeNodeShape, fleet.Blocker, d.Server, "virtualization.reservedMemoryMiB", fmt.Sprintf("%d MiB kept free for the host leave nothing of %d MiB of memory beside huge pages", mib, have),
			"Lower virtualization.reservedMemoryMiB or virtualization.hugepagesGiB, or exclude the server.")
	}
	if static && d.Role != fleet.Worker && v.ReservedCPUs == 0 {
		m.add(fleet.CodeNodeShape, fleet.Warning, d.Server, "virtualization.dedicatedCPUs",
			fmt.Sprintf("virtual machines may take every core of this control plane but %s; API server and etcd then share those", cpuText(milli)),
			"Set virtualization.reservedCPUs to more, or let workers run the virtual machines.")
	}
	d.because("kept free for the host: %s CPU (%s), %d MiB of memory (%s)", cpuText(milli), whyCPU, mib, whyMemory)
	return map[string]string{"cpu": cpuText(milli), "memory": fmt.Sprintf("%dMi", mib)}
}

// reservedCPU gives thousandths of a CPU. Under the static CPU manager they are
// whole ones: it sets aside as many as are reserved, rounded up, and refuses to
// start with none.
func (m *maker) reservedCPU(d *draft, static bool) (int64, string) {
	if n := m.in.Site.Virtualization.ReservedCPUs; n > 0 {
		return int64(n) * 1000, "virtualization.reservedCPUs"
	}
	n, known := cpus(d.facts.CPU)
	milli := int64(reservedMilliCPU + reservedMilliPerCPU*min(n, 1<<16))
	if known {
		milli = min(milli, int64(n)*500) // never more than half
	}
	why := fmt.Sprintf("%dm and %dm for each CPU", reservedMilliCPU, reservedMilliPerCPU)
	if !static {
		return milli, why
	}
	least := int64(reservedStaticCPUs)
	if d.Role != fleet.Worker {
		least = reservedStaticCPUsMore
	}
	return max((milli+999)/1000, least) * 1000, why + ", in whole ones because of virtualization.dedicatedCPUs"
}

func (m *maker) reservedMemory(d *draft) (int64, string) {
	if n := m.in.Site.Virtualization.ReservedMemoryMiB; n > 0 {
		return int64(n), "virtualization.reservedMemoryMiB"
	}
	least, why := int64(reservedMiB), fmt.Sprintf("%d MiB and 2 %% of memory", reservedMiB)
	if d.Role != fleet.Worker {
		least += reservedControlMiB
		why = fmt.Sprintf("%d MiB on a control plane and 2 %% of memory", least)
	}
	have, known := m.plainMemory(d)
	if !known {
		return least, why + ", which is unknown"
	}
	if mib := least + have/50; mib <= have/4 {
		return mib, why
	}
	return have / 4, "a quarter of memory, because " + why + " would be more"
}

func cpuText(milli int64) string {
	if milli%1000 == 0 {
		return fmt.Sprint(milli / 1000)
	}
	return fmt.Sprintf("%dm", milli)
}

// chooseInitial marks the control plane that begins the cluster. While there
// are control planes that are installed, it is one of these: a new one that
// began would make a second cluster.
func (m *maker) chooseInitial() {
	var first *draft
	for _, d := range m.controlPlanes() {
		if d.Node == nil {
			continue
		}
		if d.kept && d.Node.Initial {
			return
		}
		// Kept ones come first among the drafts.
		if first == nil || d.kept == first.kept && fleet.CompareNames(d.Hostname, first.Hostname) < 0 {
			first = d
		}
	}
	if first == nil {
		return
	}
	if m.before != nil && m.before.Cluster != nil && !m.in.Unbegun && !first.kept {
		m.add(fleet.CodeQuorumAtRisk, fleet.Blocker, first.Server, "servers",
			"no control plane of the cluster is left among the servers installed; a new one would begin another cluster",
			"Bring a control plane back and plan again; or give the cluster up and install all servers anew.")
	}
	n := *first.Node
	n.Initial = true
	first.Node = &n
	if first.kept {
		return // its reasons stay as they were
	}
	e := m.cluster.Endpoint
	first.because("begins the cluster: the first control plane of the plan; the API is at %s", describeEndpoint(e))
}

// nodeDifferences lists what the site says otherwise of a kept node.
func (m *maker) nodeDifferences(d *draft) []string {
	if d.Node == nil {
		return nil
	}
	var out []string
	v, n := m.in.Site.Virtualization, d.Node
	if m.in.Site.Cluster.ControlPlaneWorkloads && len(n.Taints) > 0 {
		out = append(out, "cluster.controlPlaneWorkloads")
	}
	if v.DedicatedCPUs != n.StaticCPUs && (n.StaticCPUs || len(n.Taints) == 0) {
		out = append(out, "virtualization.dedicatedCPUs")
	}
	if v.ReservedCPUs > 0 && n.SystemReserved["cpu"] != fmt.Sprint(v.ReservedCPUs) {
		out = append(out, "virtualization.reservedCPUs")
	}
	if v.ReservedMemoryMiB > 0 && n.SystemReserved["memory"] != fmt.Sprintf("%dMi", v.ReservedMemoryMiB) {
		out = append(out, "virtualization.reservedMemoryMiB")
	}
	return out
}
