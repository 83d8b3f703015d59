package fleet

import "time"

// Component names one part of the VM platform, as in the catalogue of package
// kube/vmstack.
type Component string

// The components of the default set. The catalogue has more.
const (
	ComponentKubeVirt      Component = "kubevirt"       // VMs as pods
	ComponentCDI           Component = "cdi"            // disks of VMs from images
	ComponentMultus        Component = "multus"         // further networks for pods and VMs
	ComponentVMNetworks    Component = "vm-networks"    // the site's bridges, as network attachments
	ComponentInstanceTypes Component = "instance-types" // sizes and preferences of VMs
	ComponentLocalStorage  Component = "local-storage"  // volumes on the nodes' own disks
)

// Proof names one step of the ring of proofs.
type Proof string

// The proofs in the order in which they run.
const (
	ProofStart    Proof = "start"    // one VM on each hypervisor, its guest reports life
	ProofMigrate  Proof = "migrate"  // each VM moves to the next hypervisor without a new boot
	ProofNetwork  Proof = "network"  // VM to VM over a secondary network, with latency
	ProofVolume   Proof = "volume"   // a volume is written, survives a restart of the VM
	ProofSnapshot Proof = "snapshot" // it is snapshot and restored
	ProofDrain    Proof = "drain"    // a node is drained, its VM goes on elsewhere
	ProofFence    Proof = "fence"    // a node is switched off through its BMC, its VM is restarted elsewhere
)

// Proofs lists all proofs in the order in which they run.
func Proofs() []Proof {
	return []Proof{ProofStart, ProofMigrate, ProofNetwork, ProofVolume, ProofSnapshot, ProofDrain, ProofFence}
}

// StackPlan is what is decided of the VM platform of a cluster. A plan without
// one ends with ready nodes.
type StackPlan struct {
	// Components are installed one after the other, in this order: what another
	// one needs comes before it.
	Components []ComponentPlan `json:"components"`
	// Proofs are run in this order once all components are ready.
	Proofs []ProofPlan `json:"proofs"`
	// Emulation has KubeVirt emulate VMs in software. Only because a person asked
	// for it.
	Emulation bool `json:"emulation,omitempty"`
	// CPUModel is the model that VMs get by default, one that every hypervisor
	// has, so that they can move; "" leaves it to KubeVirt.
	CPUModel string `json:"cpuModel,omitempty"`
	// MemoryOvercommit is the memory promised to VMs in percent of what they get:
	// 100 promises what is there.
	MemoryOvercommit int `json:"memoryOvercommit"`
	// MigrationNetwork is the VM network that live migrations use; "": that of the
	// pods.
	MigrationNetwork string      `json:"migrationNetwork,omitempty"`
	Networks         []VMNetwork `json:"networks,omitempty"`
	Storage          VMStorage   `json:"storage,omitzero"`
	// FeatureGates are switched on in KubeVirt, sorted.
	FeatureGates []string `json:"featureGates,omitempty"`
	// Guest is the reference of the container image with the proofs' guest: kernel
	// and initial RAM file system. "" when the software has none: no VM is started.
	Guest string `json:"guest,omitempty"`
	// Pause is the reference of the container image that does nothing, for pods that
	// are there for their volumes. "" when it is not known.
	Pause string `json:"pause,omitempty"`
	// Capacity is for how many VMs there is room.
	Capacity Capacity `json:"capacity"`
	// Migration lists which hypervisor can hand a VM to which others, by node
	// name, as far as their CPUs tell.
	Migration map[string][]string `json:"migration,omitempty"`
}

// ComponentPlan is one component with no choice left.
type ComponentPlan struct {
	Name      Component `json:"name"`
	Version   string    `json:"version"`            // "v1.6.0"; "" for what metalrise writes itself
	Manifests []string  `json:"manifests,omitzero"` // digests of contents of the payload, applied in this order
	// Unproven says why nothing of it was seen to work by the makers of metalrise;
	// "" for what their tests install.
	Unproven string `json:"unproven,omitempty"`
	// Size is that of its container images, which every node may come to hold; nil
	// where it has none.
	Size *ComponentSize `json:"size,omitempty"`
}

// ComponentSize is how much a component adds to the nodes' software.
type ComponentSize struct {
	Images int   `json:"images"`
	Bytes  int64 `json:"bytes"`
	// Estimated: the software does not tell which images are the component's, so
	// this is what the catalogue says about the published ones, compressed.
	Estimated bool `json:"estimated,omitempty"`
}

// ProofPlan is one step of the ring.
type ProofPlan struct {
	Name Proof  `json:"name"`
	Skip string `json:"skip,omitempty"` // why it is not run, for people; "" runs it
}

// VMNetwork is a network of VMs besides the pods' own: a bridge on each
// hypervisor.
type VMNetwork struct {
	Name   string `json:"name" yaml:"name"`                         // of the network attachment, a DNS label
	Bridge string `json:"bridge" yaml:"bridge"`                     // Linux bridge on the nodes: "br-vm"
	Port   string `json:"port,omitempty" yaml:"port,omitempty"`     // of the node, a port of the bridge; "": none, VMs of one node only
	VLAN   int    `json:"vlan,omitempty" yaml:"vlan,omitempty"`     // 0: untagged
	Subnet string `json:"subnet,omitempty" yaml:"subnet,omitempty"` // "10.0.20.0/24", where the proofs take two addresses; "": link-local ones
}

// VMBridge is a bridge of the installed system with one port of the node in it.
type VMBridge struct {
	Name  string `json:"name"`            // "br-vm"
	Port  string `json:"port"`            // as the kernel names it: "eno2"
	VLANs []int  `json:"vlans,omitempty"` // tagged on the port, sorted; none: the bridge knows no VLANs
}

// VMStorage is where disks of VMs lie.
type VMStorage struct {
	Class string `json:"class,omitempty" yaml:"class,omitempty"` // name of the default StorageClass; "": there is none
	// Shared tells whether several nodes can attach a volume at a time, without
	// which a VM with a disk cannot move.
	Shared bool `json:"shared,omitempty" yaml:"shared,omitempty"`
	// Snapshots names the VolumeSnapshotClass; "": no snapshots.
	Snapshots string `json:"snapshots,omitempty" yaml:"snapshots,omitempty"`
	Path      string `json:"path,omitempty" yaml:"path,omitempty"` // of local storage on the nodes
}

// Capacity is for how many VMs of one size there is room beside the host's and
// Kubernetes' own needs.
type Capacity struct {
	VCPUs      int `json:"vcpus"` // of the size: 4
	MemoryMiB  int `json:"memoryMiB"`
	VMs        int `json:"vms"`
	WithoutOne int `json:"withoutOne"` // with the largest hypervisor lost
}

// PayloadManifest is one file of Kubernetes manifests of a component, as its
// makers publish it.
type PayloadManifest struct {
	Component Component `json:"component"`
	Name      string    `json:"name"`    // "operator"
	Version   string    `json:"version"` // "v1.6.0"
	Digest    string    `json:"sha256"`
	Bytes     int64     `json:"bytes"`
}

// StepState is how far a step of the VM platform is.
type StepState string

const (
	StepPending StepState = "pending"
	StepRunning StepState = "running"
	StepOK      StepState = "ok"
	StepFailed  StepState = "failed"
	StepSkipped StepState = "skipped"
)

// StackStatus is how far the VM platform is, for people and programs.
type StackStatus struct {
	Steps []StackStep `json:"steps"` // components, then proofs, in their order
	Held  bool        `json:"held"`  // a step failed for good: a person must act
	Done  bool        `json:"done"`  // every step ended well or was skipped
}

// StackStep is one component or proof. Exactly one of Component and Proof is
// set.
type StackStep struct {
	Component Component    `json:"component,omitempty"`
	Proof     Proof        `json:"proof,omitempty"`
	Version   string       `json:"version,omitempty"`
	State     StepState    `json:"state"`
	Note      string       `json:"note,omitempty"` // what is happening, waited for, or why it is skipped
	Checks    []Check      `json:"checks,omitempty"`
	Since     time.Time    `json:"since,omitzero"` // of the present state
	Took      float64      `json:"seconds,omitempty"`
	Tries     int          `json:"tries,omitempty"`
	Cause     *Cause       `json:"cause,omitempty"` // of a failure
	Result    *ProofResult `json:"result,omitempty"`
}

// ProofResult is what a proof saw.
type ProofResult struct {
	VMs []VMSight `json:"vms,omitempty"`
	// Measured are figures with their unit in the name: "pingMilliseconds",
	// "downtimeMilliseconds", "restartSeconds".
	Measured map[string]float64 `json:"measured,omitempty"`
	Words    []string           `json:"words,omitempty"` // what was seen, one sentence each
}

// VMSight is one VM of a proof.
type VMSight struct {
	Name  string `json:"name"`
	Node  string `json:"node"`            // where it ran last
	From  string `json:"from,omitempty"`  // where it ran before
	Guest string `json:"guest,omitempty"` // its last words
}
