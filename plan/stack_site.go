package plan

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"metalrise.dev/fleet"
)

// checkVMNetworks holds VM networks against what else the site says and against
// the ports that were seen on the hypervisors.
func (m *maker) checkVMNetworks(hosts []*draft) {
	p := m.in.Site.Platform
	named := func(v fleet.VMNetwork) bool { return v.Name == p.MigrationNetwork }
	if p.MigrationNetwork != "" && !slices.ContainsFunc(p.Networks, named) {
		m.add(fleet.CodePlatformInvalid, fleet.Blocker, "", "platform.migrationNetwork", fmt.Sprintf("%q is not one of platform.networks", p.MigrationNetwork), "Name one of them, or leave it out.")
	}
	for i, v := range p.Networks {
		here := fmt.Sprintf("platform.networks[%d]", i)
		m.checkVMSubnet(v, here+".subnet")
		if named(v) {
			m.checkMigrationSubnet(v, here+".subnet", len(hosts))
		}
		if v.Port == "" {
			if named(v) && len(hosts) > 1 {
				m.add(fleet.CodePlatformInvalid, fleet.Blocker, "", here+".port", fmt.Sprintf("migrations cannot use network %s: its bridge has no port, so it does not lead from node to node", v.Name), "Name its port, or another migrationNetwork.")
			}
			continue
		}
		m.checkVMPort(v, here+".port", hosts)
	}
	if len(p.Networks) > 0 && !m.carries("cni/bridge") {
		m.add(fleet.CodeComponentMissing, fleet.Blocker, "", "platform.networks", "the nodes' software has no CNI plugin bridge, which VM networks need", "Point cluster.software at software that has the file cni/bridge.")
	}
}

// carries tells whether the nodes' software has a file of this name.
func (m *maker) carries(file string) bool {
	return slices.ContainsFunc(m.in.Payload.Files, func(f fleet.PayloadFile) bool { return f.Name == file })
}

// checkMigrationSubnet: each hypervisor gets an address of it.
func (m *maker) checkMigrationSubnet(v fleet.VMNetwork, path string, hosts int) {
	if v.Subnet == "" {
		m.add(fleet.CodePlatformInvalid, fleet.Blocker, "", path, fmt.Sprintf("live migrations over network %s need a subnet of which each node gets an address", v.Name), "Name it, or leave platform.migrationNetwork out.")
	}
	if _, _, n := v.MigrationRange(); v.Subnet != "" && n < hosts {
		m.add(fleet.CodePlatformInvalid, fleet.Blocker, "", path, fmt.Sprintf("%s has %d addresses for live migrations, and there are %d hypervisors", v.Subnet, n, hosts),
			"Name a larger subnet of IPv4. Its first two addresses and the last five are not taken.")
	}
}

// checkVMSubnet: the proofs take two addresses of it, so it must not be one
// whose addresses somebody has.
func (m *maker) checkVMSubnet(v fleet.VMNetwork, path string) {
	if v.Subnet == "" {
		return
	}
	p, err := netip.ParsePrefix(v.Subnet)
	if err != nil {
		m.add(fleet.CodePlatformInvalid, fleet.Blocker, "", path, fmt.Sprintf("%q is no network with a prefix length", v.Subnet), "Write it like 10.0.20.0/24.")
		return
	}
	for _, other := range []struct{ use, prefix string }{
		{"servers", m.subnet.prefix.String()}, {"pods", m.cluster.PodCIDR}, {"services", m.cluster.ServiceCIDR},
	} {
		if q, err := netip.ParsePrefix(other.prefix); err == nil && q.Overlaps(p) {
			m.add(fleet.CodePlatformInvalid, fleet.Blocker, "", path, fmt.Sprintf("%s overlaps %s for %s, and the proofs would take two addresses of it", p, q, other.use), "Name the VMs' own subnet; or leave it out, and link-local addresses are taken.")
		}
	}
}

// checkVMPort looks for the port on each hypervisor whose facts name ports as
// Linux does, which only those of the agent do.
func (m *maker) checkVMPort(v fleet.VMNetwork, path string, hosts []*draft) {
	var own, absent, without []string
	for _, d := range hosts {
		if d.kept && !slices.ContainsFunc(d.Bridges, func(b fleet.VMBridge) bool { return b.Name == v.Bridge && b.Port == v.Port }) {
			without = append(without, d.Node.Name)
		}
		if d.Network.Bond != nil && v.Port == ownBond {
			own = append(own, d.Node.Name)
			continue
		}
		if !d.hasFacts || d.facts.Source != fleet.SeenByAgent || d.facts.NICs == nil {
			continue
		}
		i := slices.IndexFunc(d.facts.NICs, func(n fleet.NIC) bool { return n.Name == v.Port })
		switch {
		case i < 0:
			absent = append(absent, d.Node.Name)
		case i >= 0 && d.Network.Has(d.facts.NICs[i].MAC):
			own = append(own, d.Node.Name)
		}
	}
	if len(own) > 0 {
		m.add(fleet.CodePlatformInvalid, fleet.Blocker, "", path, fmt.Sprintf("%s carries the own address of these nodes; as a port of bridge %s it would cut them off: %s", v.Port, v.Bridge, someOf(own)), "Name another port.")
	}
	if len(without) > 0 {
		m.add(fleet.CodePlatformInvalid, fleet.Warning, "", path, fmt.Sprintf("these nodes are installed already without %s as a port of bridge %s, and VMs of network %s do not leave them: %s", v.Port, v.Bridge, v.Name, someOf(without)),
			"Set it up on them, by NetworkManager or NMState; or replace them one by one with `metalrise node replace`.")
	}
	if len(absent) > 0 {
		m.add(fleet.CodePlatformInvalid, fleet.Warning, "", path, fmt.Sprintf("these nodes have no port called %s: %s", v.Port, someOf(absent)), "Compare with `metalrise inspect`; VMs of this network do not leave these nodes.")
	}
}

// ownBond is what package ignition calls the bond over a server's ports.
const ownBond = "bond0"

// chooseBridges gives the hypervisors that are to be installed the bridges of
// VM networks that have a port: one for all VLANs of the same bridge. A bridge
// without a port is made by the pod plugin when a VM needs it.
func (m *maker) chooseBridges(hosts []*draft) {
	var bridges []fleet.VMBridge
	for _, v := range m.in.Site.Platform.Networks {
		if v.Port == "" {
			continue
		}
		i := slices.IndexFunc(bridges, func(b fleet.VMBridge) bool { return b.Name == v.Bridge })
		if i < 0 {
			i, bridges = len(bridges), append(bridges, fleet.VMBridge{Name: v.Bridge, Port: v.Port})
		}
		if v.VLAN != 0 {
			bridges[i].VLANs = append(bridges[i].VLANs, v.VLAN)
		}
	}
	for _, b := range bridges {
		slices.Sort(b.VLANs)
	}
	slices.SortFunc(bridges, func(a, b fleet.VMBridge) int { return strings.Compare(a.Name, b.Name) })
	for _, d := range hosts {
		if !d.kept {
			d.Bridges = bridges
		}
	}
}

// chooseStorage decides where disks of VMs lie: in a class of the site's own, or
// in local storage.
func (m *maker) chooseStorage(s *fleet.StackPlan, hosts []*draft) {
	w := m.in.Site.Platform.Storage
	local := slices.ContainsFunc(s.Components, func(c fleet.ComponentPlan) bool { return c.Name == fleet.ComponentLocalStorage })
	own := w.Class != "" && w.Path == ""
	switch {
	case own:
		s.Storage = fleet.VMStorage{Class: w.Class, Shared: w.Shared, Snapshots: w.Snapshots}
		if local { // asked for by name
			m.add(fleet.CodePlatformInvalid, fleet.Blocker, "", "platform.storage.class", fmt.Sprintf("class %s is yours, and local storage, which platform.components asks for, would make a class of that name", w.Class),
				"Leave local-storage out; or set platform.storage.path if the class is to be that of local storage.")
		}
	case local:
		s.Storage = fleet.VMStorage{Class: cmp.Or(w.Class, localClass), Path: cmp.Or(w.Path, localPath)}
		if i, ok := m.in.Payload.Image("pause"); ok && len(i.References) > 0 { // has folders of volumes made
			s.Pause = i.References[0]
		}
	}
	m.checkOwnDriver(s)
	const path = "platform.storage"
	const remedy = "Nothing to do if that is what you want; else bring shared storage and name its class under platform.storage."
	switch {
	case s.Storage.Class == "":
		m.add(fleet.CodeStorageLimits, fleet.Info, "", path, "there is no storage class: VMs have only disks that come with their image and are gone when they stop", remedy)
	case !s.Storage.Shared && len(hosts) > 1:
		m.add(fleet.CodeStorageLimits, fleet.Info, "", path, fmt.Sprintf("a volume of class %s is attached to one node only: VMs with disks do not move, and do not start elsewhere when their node is lost", s.Storage.Class), remedy)
	}
}

// bringsSnapshots tells whether the site's own CSI driver needs the snapshot
// controller beside it. A maker's manifests may hold it already; the software then
// has none.
func (m *maker) bringsSnapshots() bool {
	p := m.in.Site.Platform
	return slices.Contains(p.Components, fleet.ComponentCSI) && p.Storage.Snapshots != "" && len(m.in.Payload.ManifestsOf(fleet.ComponentSnapshots)) > 0
}

// checkOwnDriver speaks of a CSI driver of the site's own whose class no disk
// would lie in.
func (m *maker) checkOwnDriver(s *fleet.StackPlan) {
	w := m.in.Site.Platform.Storage
	if (w.Class == "" || w.Path != "") && slices.ContainsFunc(s.Components, func(c fleet.ComponentPlan) bool { return c.Name == fleet.ComponentCSI }) {
		m.add(fleet.CodeStorageLimits, fleet.Warning, "", "platform.storage.class", "the site's own CSI driver is installed, and no class of it is named, so disks of VMs do not lie there and no proof uses it",
			"Name the class that its manifests bring; nothing to do if the driver is not for disks of VMs.")
	}
}

// chooseProofs decides which proofs are run, and says of the others why not.
func (m *maker) chooseProofs(s *fleet.StackPlan) {
	for _, p := range fleet.Proofs() {
		s.Proofs = append(s.Proofs, fleet.ProofPlan{Name: p, Skip: m.whySkip(p, s)})
	}
	for i, p := range m.in.Site.Platform.SkipProofs {
		if !slices.Contains(fleet.Proofs(), p) {
			m.add(fleet.CodePlatformInvalid, fleet.Blocker, "", fmt.Sprintf("platform.skipProofs[%d]", i), fmt.Sprintf("%q is no proof", p), "Use one of those that docs/platform.md lists.")
		}
	}
}

// whySkip says why a proof is not run; "" runs it.
func (m *maker) whySkip(p fleet.Proof, s *fleet.StackPlan) string {
	if slices.Contains(m.in.Site.Platform.SkipProofs, p) {
		return "skipped because the site file says so"
	}
	return m.ground(s).WhyNot(p)
}

// ground is what of the plan decides which proofs can be given.
func (m *maker) ground(s *fleet.StackPlan) fleet.ProofGround {
	p := fleet.Plan{Stack: s}
	for _, d := range m.active() {
		p.Assignments = append(p.Assignments, d.Assignment)
	}
	return fleet.GroundOf(p)
}
