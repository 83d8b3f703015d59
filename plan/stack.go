package plan

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"metalrise.dev/fleet"
)

// Names that metalrise itself gives.
const (
	localClass = "metalrise-local"            // StorageClass of local storage
	localPath  = "/var/lib/metalrise/volumes" // where its volumes lie on nodes
)

// guestImages are the names under which software carries the image with kernel
// and initial RAM file system of the proofs' guest.
func guestImages() []string { return []string{"metalrise-guest", "guest"} }

// snapshotGate is KubeVirt's feature gate of VirtualMachineSnapshot.
const snapshotGate = "Snapshot"

// chooseStack decides on the VM platform. There is one where the nodes' software
// has KubeVirt and the site does not forbid it.
func (m *maker) chooseStack() {
	p := m.in.Site.Platform
	wished := !reflect.ValueOf(p).IsZero()
	if m.cluster == nil || m.in.Payload == nil {
		m.checkStackStays(nil)
		return // it was said that there is no cluster, or no software
	}
	switch {
	case p.None:
	case len(m.in.Payload.ManifestsOf(fleet.ComponentKubeVirt)) > 0:
		m.stack = m.stackPlan(wished)
	case slices.Contains(p.Components, fleet.ComponentKubeVirt):
		m.lacks(fleet.ComponentKubeVirt)
	case wished:
		m.add(fleet.CodeComponentMissing, fleet.Info, "", "platform", "the nodes' software has no KubeVirt, so there is no VM platform, and what the site says of it has no effect",
			"Point cluster.software at software with KubeVirt; nothing to do if ready nodes are all you want.")
	}
	m.checkStackStays(m.stack)
}

func (m *maker) stackPlan(wished bool) *fleet.StackPlan {
	p := m.in.Site.Platform
	s := &fleet.StackPlan{Components: m.chooseComponents(), Emulation: m.cluster.Emulation, MemoryOvercommit: cmp.Or(p.MemoryOvercommit, 100),
		MigrationNetwork: p.MigrationNetwork, Networks: slices.Clone(p.Networks), FeatureGates: slices.Compact(slices.Sorted(slices.Values(p.FeatureGates)))}
	if !m.chooseGates(s.Components, wished) {
		return nil
	}
	if s.MemoryOvercommit < 10 || s.MemoryOvercommit > 1000 {
		m.add(fleet.CodePlatformInvalid, fleet.Blocker, "", "platform.memoryOvercommit", fmt.Sprintf("%d percent of memory cannot be promised", s.MemoryOvercommit), "Use 10 to 1000, or leave it out.")
		s.MemoryOvercommit = 100
	}
	for _, name := range guestImages() {
		if i, ok := m.in.Payload.Image(name); ok && len(i.References) > 0 {
			s.Guest = i.References[0]
			break
		}
	}
	hosts := m.hypervisors()
	m.checkVMNetworks(hosts)
	m.chooseBridges(hosts)
	m.chooseStorage(s, hosts)
	if s.Storage.Snapshots != "" && !slices.Contains(s.FeatureGates, snapshotGate) { // KubeVirt refuses snapshots of VMs without it
		s.FeatureGates = slices.Sorted(slices.Values(append(s.FeatureGates, snapshotGate)))
	}
	m.chooseCPU(s, hosts)
	m.chooseCapacity(s, hosts)
	m.chooseProofs(s)
	return s
}

// hypervisors are the nodes that run VMs, in the order in which people count.
func (m *maker) hypervisors() []*draft {
	var out []*draft
	for _, d := range m.active() {
		if d.Node == nil {
			continue
		}
		if _, ok := d.Node.Labels[labelWorker]; ok {
			out = append(out, d)
		}
	}
	slices.SortStableFunc(out, func(a, b *draft) int { return fleet.CompareNames(a.Node.Name, b.Node.Name) })
	return out
}

// lacks blocks for a component that was asked for and is not in the software.
func (m *maker) lacks(c fleet.Component) {
	m.add(fleet.CodeComponentMissing, fleet.Blocker, "", m.askedAt(c), fmt.Sprintf("the nodes' software has no manifests of %s, which the site asks for", c),
		"Point cluster.software at software that has it, or leave it out.")
}

// askedAt is the field that asks for a component.
func (m *maker) askedAt(c fleet.Component) string {
	p := m.in.Site.Platform
	if !slices.Contains(p.Components, c) && c == fleet.ComponentWhereabouts {
		return "platform.migrationNetwork"
	}
	if !slices.Contains(p.Components, c) && len(p.Networks) > 0 && slices.Contains(fleet.WithNeeds(fleet.Catalogue(), []fleet.Component{fleet.ComponentVMNetworks}), c) {
		return "platform.networks"
	}
	return "platform.components"
}

// chooseComponents takes the default set and what the site asks for, in the
// order in which they are installed. Of the default set, what the software lacks
// is left out.
func (m *maker) chooseComponents() []fleet.ComponentPlan {
	asked := m.askedComponents()
	var missing []string
	plans := map[fleet.Component]fleet.ComponentPlan{}
	for _, e := range fleet.Catalogue() {
		wanted := slices.Contains(asked, e.Name)
		if !wanted && !(e.Default && m.inDefaultSet(e.Name)) {
			continue
		}
		c := fleet.ComponentPlan{Name: e.Name, Unproven: e.Unproven, Size: m.in.Payload.SizeOf(e)}
		files := m.in.Payload.ManifestsOf(e.Name)
		switch {
		case e.Own:
		case len(files) > 0:
			c.Version = files[0].Version
			for _, f := range files {
				c.Manifests = append(c.Manifests, f.Digest)
				if f.Version != c.Version {
					m.add(fleet.CodeVersionMismatch, fleet.Blocker, "", "cluster.software", fmt.Sprintf("the nodes' software has manifests of %s of the versions %s and %s", e.Name, c.Version, f.Version), "Use software with one version of it.")
				}
			}
		case wanted:
			m.lacks(e.Name)
			continue
		default:
			missing = append(missing, string(e.Name))
			continue
		}
		plans[e.Name] = c
	}
	if len(missing) > 0 {
		m.add(fleet.CodeComponentMissing, fleet.Info, "", "platform.components", "the nodes' software has no manifests of these components of the default set; they are left out: "+strings.Join(missing, ", "),
			"Nothing to do if you do not need them; else point cluster.software at software that has them.")
	}
	return m.inOrder(plans)
}

// askedComponents are those that the site names, or needs for what it says, with
// all that they need.
func (m *maker) askedComponents() []fleet.Component {
	p := m.in.Site.Platform
	var named []fleet.Component
	for i, c := range p.Components {
		if _, ok := fleet.CatalogueOf(c); !ok {
			m.add(fleet.CodePlatformInvalid, fleet.Blocker, "", fmt.Sprintf("platform.components[%d]", i), fmt.Sprintf("%q is no component", c), "Use one of those that docs/platform.md lists.")
			continue
		}
		named = append(named, c)
	}
	named = append(named, fleet.ComponentKubeVirt)
	if len(p.Networks) > 0 {
		named = append(named, fleet.ComponentVMNetworks)
	}
	if p.MigrationNetwork != "" { // KubeVirt's own pods get an address each on it
		named = append(named, fleet.ComponentWhereabouts)
	}
	if p.Storage.Path != "" {
		named = append(named, fleet.ComponentLocalStorage)
	}
	if m.bringsSnapshots() {
		named = append(named, fleet.ComponentSnapshots)
	}
	asked := fleet.WithNeeds(fleet.Catalogue(), named)
	for _, c := range asked {
		if slices.Contains(p.Without, c) {
			m.add(fleet.CodePlatformInvalid, fleet.Blocker, "", "platform.without", fmt.Sprintf("%s is left out here, and needed for something else that the site asks for", c), "Take it out of platform.without, or what needs it out of the site file.")
		}
	}
	if slices.Contains(asked, fleet.ComponentCalico) && m.cluster.CNI != fleet.OwnCNI {
		m.add(fleet.CodePlatformInvalid, fleet.Blocker, "", "platform.components", fmt.Sprintf("calico is a pod network, and the cluster has %s already", m.cluster.CNI), "Leave it out; a cluster with Calico needs cluster.cni: own from its beginning.")
	}
	return asked
}

// inDefaultSet tells whether a component of the default set is of use here.
func (m *maker) inDefaultSet(c fleet.Component) bool {
	p := m.in.Site.Platform
	switch {
	case slices.Contains(p.Without, c):
		return false
	case c == fleet.ComponentVMNetworks:
		return len(p.Networks) > 0
	case c == fleet.ComponentLocalStorage:
		return p.Storage.Class == "" || p.Storage.Path != ""
	}
	return true
}

// inOrder puts what another one needs before it. What lacks something it needs
// is left out: that something was spoken of already, or is not in the software.
func (m *maker) inOrder(plans map[fleet.Component]fleet.ComponentPlan) []fleet.ComponentPlan {
	for {
		order, err := fleet.OrderComponents(fleet.Catalogue(), slices.Sorted(maps.Keys(plans)))
		var bad *fleet.ComponentOrderError
		if errors.As(err, &bad) && plans[bad.Component].Name != "" {
			m.add(fleet.CodeComponentMissing, fleet.Info, "", "platform.components", fmt.Sprintf("%s is left out, because %s is", bad.Component, cmp.Or(bad.Need, bad.Component)), "Nothing to do if you do not need it.")
			delete(plans, bad.Component)
			continue
		}
		out := []fleet.ComponentPlan{}
		for _, c := range order {
			out = append(out, plans[c])
		}
		return out
	}
}

// chooseGates holds the components' versions against that of Kubernetes, and
// takes the feature gates that they need into the cluster's plan. A cluster that
// was begun keeps its gates. False: VMs could not run, and nobody insisted on
// them, so the cluster goes on without the platform.
func (m *maker) chooseGates(components []fleet.ComponentPlan, wished bool) bool {
	for _, c := range components {
		what := fmt.Sprintf("%s %s with Kubernetes %s", c.Name, c.Version, m.cluster.Version)
		switch f := fleet.FitOf(c.Name, c.Version, m.cluster.Version); f.Verdict {
		case fleet.FitNo:
			m.add(fleet.CodeVersionMismatch, fleet.Blocker, "", "cluster.software", fmt.Sprintf("%s is known not to fit: %v", what, f.Text), "Use versions that docs/platform.md lists as fitting; or set platform.none: true.")
		case fleet.FitGated:
			if !m.takeGates(f, what, wished) {
				return false
			}
		case fleet.FitUnknown:
			if c.Name == fleet.ComponentKubeVirt {
				m.add(fleet.CodeVersionMismatch, fleet.Info, "", "cluster.software", fmt.Sprintf("nothing is known of %s; the proofs will show", what), "Nothing to do now.")
			}
		}
	}
	return true
}

func (m *maker) takeGates(f fleet.Fit, what string, wished bool) bool {
	var all, lacking []string
	for _, gate := range slices.Sorted(maps.Keys(f.Gates)) {
		text := fmt.Sprintf("%s=%t", gate, f.Gates[gate])
		all = append(all, text)
		if on, set := m.cluster.Gates[gate]; !set || on != f.Gates[gate] {
			lacking = append(lacking, text)
		}
	}
	if m.continued && len(lacking) > 0 {
		text := fmt.Sprintf("%s needs the feature gate %s, without which the cluster was begun: %v", what, strings.Join(lacking, ", "), f.Text)
		const remedy = "Use software with a KubeVirt that fits the cluster's Kubernetes as it is, set platform.none: true, or begin the cluster anew."
		if wished || m.before.Stack != nil {
			m.add(fleet.CodeVersionMismatch, fleet.Blocker, "", "cluster.software", text, remedy)
			return true
		}
		m.add(fleet.CodeVersionMismatch, fleet.Warning, "", "cluster.software", text, "The cluster goes on without a VM platform. "+remedy)
		return false
	}
	if !m.continued {
		if m.cluster.Gates == nil {
			m.cluster.Gates = map[string]bool{}
		}
		maps.Copy(m.cluster.Gates, f.Gates)
		m.add(fleet.CodeVersionMismatch, fleet.Info, "", "cluster.software", fmt.Sprintf("%s needs the feature gate %s, with which the cluster is begun: %v", what, strings.Join(all, ", "), f.Text), "Nothing to do; a newer KubeVirt does without.")
	}
	return true
}

// checkStackStays tells what the plan before had of the platform and this one
// has not: it is not taken away from the cluster.
func (m *maker) checkStackStays(now *fleet.StackPlan) {
	if m.before == nil || m.before.Stack == nil {
		return
	}
	var gone []string
	for _, c := range m.before.Stack.Components {
		if now == nil || !slices.ContainsFunc(now.Components, func(v fleet.ComponentPlan) bool { return v.Name == c.Name }) {
			gone = append(gone, string(c.Name))
		}
	}
	if len(gone) > 0 {
		m.add(fleet.CodePlatformInvalid, fleet.Warning, "", "platform.components", "the plan before had these components, and this one has not; what is installed of them stays as it is, and is not looked after: "+strings.Join(gone, ", "),
			"Nothing to do if this is meant; taking a component away is a person's work.")
	}
}
