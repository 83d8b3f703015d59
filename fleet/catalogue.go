package fleet

import (
	"fmt"
	"slices"
	"strings"
)

// The opt-in components of the catalogue.
const (
	ComponentWhereabouts    Component = "whereabouts"           // addresses for pods on further networks
	ComponentSnapshots      Component = "snapshot-controller"   // VolumeSnapshots for any CSI driver that makes them
	ComponentCSI            Component = "csi-driver"            // the site's own CSI driver, whatever it is
	ComponentNFS            Component = "nfs-csi"               // shared volumes on an NFS server
	ComponentRookCeph       Component = "rook-ceph"             // shared volumes on the nodes' own disks
	ComponentNMState        Component = "nmstate"               // host networks by Kubernetes objects
	ComponentSelfRemedy     Component = "self-node-remediation" // a lost node restarts itself
	ComponentFenceAgents    Component = "fence-agents"          // a lost node is switched off through its BMC
	ComponentNodeHealth     Component = "node-health-check"     // sees that a node is lost, and has it fenced
	ComponentDescheduler    Component = "descheduler"           // moves VMs off crowded nodes
	ComponentForklift       Component = "forklift"              // brings VMs in from other platforms
	ComponentVelero         Component = "velero"                // backups to S3
	ComponentCalico         Component = "calico"                // pod network with policies
	ComponentNGINX          Component = "ingress-nginx"         // HTTP from outside
	ComponentF5             Component = "f5-cis"                // an F5 BIG-IP as load balancer
	ComponentKata           Component = "kata"                  // pods in small VMs
	ComponentOpenStackCloud Component = "openstack-cloud"       // load balancers and node data of an OpenStack
	ComponentCinder         Component = "cinder-csi"            // volumes of an OpenStack
	ComponentOpenStackHelm  Component = "openstack-helm"        // what an OpenStack on this cluster asks of it
)

// CatalogueEntry is what is known of one component of the VM platform. Which
// bytes are applied is not its matter: Payload.Manifests says that, by digest.
type CatalogueEntry struct {
	Name  Component
	Title string // as its makers write it
	About string // what it is for, one sentence
	// Versions are those that this catalogue was written for, oldest first. Others
	// may fit; FitOf tells what is known. None: it has no version of its own, or
	// nothing was tried with any.
	Versions []string
	// Needs are components that must be there before it.
	Needs []Component
	Gives []string // what VMs and people get from it
	// Default puts it into the set that a site gets without asking.
	Default bool
	// Own has metalrise write all its objects: the software needs no manifests and
	// no images of it.
	Own bool
	// Images and Bytes are an estimate of the container images that the software
	// grows by: their number and their compressed size. Where the software holds
	// them, it tells the true figure.
	Images int
	Bytes  int64
	Asks   string // what it asks of the site besides other components; "" for nothing
	Ready  string // how its readiness is seen
	Proof  string // how it is proven to work
	Remove string // how it is removed, and what stays
	// Unproven says why nobody should call it tested; "" for what the tests of
	// metalrise install.
	Unproven string
}

// Catalogue lists every component, in an order in which they can be installed.
func Catalogue() []CatalogueEntry {
	return slices.Concat(defaultEntries(), storageEntries(), guardEntries(), furtherEntries())
}

// CatalogueOf finds the entry of a component.
func CatalogueOf(c Component) (CatalogueEntry, bool) {
	all := Catalogue()
	i := slices.IndexFunc(all, func(e CatalogueEntry) bool { return e.Name == c })
	if i < 0 {
		return CatalogueEntry{}, false
	}
	return all[i], true
}

// DefaultComponents are those that a site gets without asking, in order.
func DefaultComponents() []Component {
	var out []Component
	for _, e := range Catalogue() {
		if e.Default {
			out = append(out, e.Name)
		}
	}
	return out
}

// ComponentOrderError says why a set of components has no order. Exactly one of
// its ways is meant: Cycle is set, or Need is, or Component is in no entry.
type ComponentOrderError struct {
	Component Component
	Need      Component   // what Component needs and the set lacks
	Cycle     []Component // each needs the next, the last needs the first
}

func (e *ComponentOrderError) Error() string {
	switch {
	case len(e.Cycle) > 0:
		var names []string
		for _, c := range e.Cycle {
			names = append(names, string(c))
		}
		return "components need each other in a circle: " + strings.Join(append(names, names[0]), " needs ")
	case e.Need != "":
		return fmt.Sprintf("component %s needs %s, which is not among the components", e.Component, e.Need)
	}
	return fmt.Sprintf("component %q is not in the catalogue", e.Component)
}

// OrderComponents puts components into the order in which they are installed:
// what one needs comes before it, and else the order of entries counts. Doubles
// are dropped. Nothing is added: a need that is not among wanted is an error,
// always a *ComponentOrderError.
func OrderComponents(entries []CatalogueEntry, wanted []Component) ([]Component, error) {
	o := ordering{entries: entries, wanted: wanted}
	for _, c := range wanted {
		if _, ok := o.entry(c); !ok {
			return nil, &ComponentOrderError{Component: c}
		}
	}
	for _, e := range entries {
		if slices.Contains(wanted, e.Name) {
			if err := o.visit(e, nil); err != nil {
				return nil, err
			}
		}
	}
	return o.out, nil
}

// WithNeeds adds what the wanted components need, however far down, behind
// them. Unknown names stay as they are; OrderComponents tells of them.
func WithNeeds(entries []CatalogueEntry, wanted []Component) []Component {
	o := ordering{entries: entries}
	out := slices.Clone(wanted)
	for i := 0; i < len(out); i++ {
		e, _ := o.entry(out[i])
		for _, need := range e.Needs {
			if !slices.Contains(out, need) {
				out = append(out, need)
			}
		}
	}
	return out
}

type ordering struct {
	entries []CatalogueEntry
	wanted  []Component
	out     []Component
}

func (o *ordering) entry(c Component) (CatalogueEntry, bool) {
	i := slices.IndexFunc(o.entries, func(e CatalogueEntry) bool { return e.Name == c })
	if i < 0 {
		return CatalogueEntry{}, false
	}
	return o.entries[i], true
}

// visit puts an entry behind all it needs; path leads to it.
func (o *ordering) visit(e CatalogueEntry, path []Component) error {
	if slices.Contains(o.out, e.Name) {
		return nil
	}
	if i := slices.Index(path, e.Name); i >= 0 {
		return &ComponentOrderError{Component: e.Name, Cycle: slices.Clone(path[i:])}
	}
	path = append(path, e.Name)
	for _, need := range e.Needs {
		below, ok := o.entry(need)
		if !ok || !slices.Contains(o.wanted, need) {
			return &ComponentOrderError{Component: e.Name, Need: need}
		}
		if err := o.visit(below, path); err != nil {
			return err
		}
	}
	o.out = append(o.out, e.Name)
	return nil
}
