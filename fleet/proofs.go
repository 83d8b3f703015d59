package fleet

import "slices"

// LabelWorker is the label by which a plan says that a node takes work, and so
// runs VMs. Its value is empty.
const LabelWorker = "node-role.kubernetes.io/worker"

// RunsVMs tells whether an assignment's server becomes a node that runs VMs.
func (a Assignment) RunsVMs() bool {
	if a.Node == nil || a.Role == Excluded {
		return false
	}
	_, works := a.Node.Labels[LabelWorker]
	return works
}

// ProofGround is what decides which proofs can be given at all.
type ProofGround struct {
	Guest       string              // StackPlan.Guest
	Storage     VMStorage           // StackPlan.Storage
	Migration   map[string][]string // StackPlan.Migration
	Hypervisors []string            // names of the nodes that run VMs
	// Expendable is how many of them may be switched off for a while: workers, and
	// control planes that leave a majority.
	Expendable int
}

// GroundOf is the ground of a plan with a VM platform.
func GroundOf(p Plan) ProofGround {
	g := ProofGround{Guest: p.Stack.Guest, Storage: p.Stack.Storage, Migration: p.Stack.Migration}
	planes := 0
	for _, a := range p.Assignments {
		if a.Role == ControlPlane || a.Role == SingleNode {
			planes++
		}
	}
	for _, a := range p.Assignments {
		if a.RunsVMs() {
			g.Hypervisors = append(g.Hypervisors, a.Node.Name)
			if a.Role == Worker || planes >= 3 {
				g.Expendable++
			}
		}
	}
	slices.SortFunc(g.Hypervisors, CompareNames)
	return g
}

// WhyNot says why a proof cannot be given, in words for people; "" when it can,
// as far as a plan tells.
func (g ProofGround) WhyNot(p Proof) string {
	switch {
	case g.Guest == "":
		return "the nodes' software has no guest for proofs (a container image named guest), so no VM is started"
	case len(g.Hypervisors) == 0:
		return "the plan has no hypervisor"
	}
	switch p {
	case ProofMigrate, ProofDrain:
		switch {
		case len(g.Hypervisors) < 2:
			return "there is only one hypervisor"
		case !g.movable():
			return "no two hypervisors have processors between which VMs can move"
		}
	case ProofFence:
		switch {
		case len(g.Hypervisors) < 2:
			return "there is only one hypervisor"
		case g.Expendable == 0:
			return "every hypervisor is a control plane that the cluster cannot be without"
		}
	case ProofVolume:
		if g.Storage.Class == "" {
			return "there is no storage class (platform.storage)"
		}
	case ProofSnapshot:
		if g.Storage.Snapshots == "" {
			return "there is no VolumeSnapshotClass (platform.storage.snapshots)"
		}
	case ProofStart, ProofNetwork: // without VM networks, that of the pods is tried
	}
	return ""
}

// movable tells whether some VM can move, as far as is known: a hypervisor that
// the map leaves out is not known to be limited.
func (g ProofGround) movable() bool {
	for _, from := range g.Hypervisors {
		to, known := g.Migration[from]
		if !known || slices.ContainsFunc(to, func(name string) bool { return name != from && slices.Contains(g.Hypervisors, name) }) {
			return true
		}
	}
	return false
}
