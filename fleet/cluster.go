package fleet

import "time"

// Flavour decides how a cluster is brought up on installed servers.
type Flavour string

// Kubeadm brings up upstream Kubernetes with kubeadm. Other flavours (OKD) have
// their place here; docs/decisions says how they will fill it.
const Kubeadm Flavour = "kubeadm"

// CNI is the pod network.
type CNI string

const (
	// Flannel tunnels pods over VXLAN: works on any network between the nodes.
	Flannel CNI = "flannel"
	// FlannelHostGW routes pods without a tunnel: all nodes in one subnet.
	FlannelHostGW CNI = "flannel-host-gw"
	// OwnCNI applies the manifests of the site file and nothing else.
	OwnCNI CNI = "own"
)

// ClusterPlan is what is decided of a cluster as a whole. A plan without one
// ends with installed hosts.
type ClusterPlan struct {
	Flavour       Flavour `json:"flavour"`
	Version       string  `json:"version"`       // "v1.34.4"
	PayloadDigest string  `json:"payloadDigest"` // Digest of the Payload value
	Domain        string  `json:"domain"`        // DNS domain of services: "cluster.local"
	PodCIDR       string  `json:"podCIDR"`
	ServiceCIDR   string  `json:"serviceCIDR"`
	CNI           CNI     `json:"cni"`
	// Manifests is applied when CNI is OwnCNI: YAML documents, as read when the
	// plan was made.
	Manifests string      `json:"manifests,omitempty"`
	Endpoint  APIEndpoint `json:"endpoint"`
	// Emulation lets nodes without a usable KVM become Ready; VMs are then
	// emulated. Only because a person asked for it.
	Emulation bool `json:"emulation,omitempty"`
	// Gates are feature gates that API server, controllers and kubelets are begun
	// with, because a component of the VM platform needs them so.
	Gates map[string]bool `json:"gates,omitempty"`
	// Since is the id of the plan under which the cluster was begun, which names
	// it, and its authority, for as long as it lives; "" in that plan itself.
	Since string `json:"since,omitempty"`
}

// APIEndpoint is where the cluster's API is reached.
type APIEndpoint struct {
	Kind    EndpointKind `json:"kind"`
	Address string       `json:"address"` // IP or DNS name, without a port
	Port    int          `json:"port"`
	// VRRP is the virtual router id of a VirtualIP, 1 to 255: unlike that of any
	// other VRRP speaker in the same segment.
	VRRP int `json:"vrrp,omitempty"`
}

// EndpointKind is how the API's address comes to be.
type EndpointKind string

const (
	VirtualIP    EndpointKind = "virtual-ip"    // held by the control planes themselves
	LoadBalancer EndpointKind = "load-balancer" // somebody else's
	NodeAddress  EndpointKind = "node-address"  // of the only control plane
)

// NodePlan is what is decided of one server as a node of the cluster.
type NodePlan struct {
	Name   string            `json:"name"` // of the Node object: the host name, lower case
	Labels map[string]string `json:"labels,omitempty"`
	Taints []Taint           `json:"taints,omitempty"`
	// Initial marks the one control plane that begins the cluster.
	Initial bool `json:"initial,omitempty"`
	// SystemReserved is kept free for the host: "cpu" → "500m", "memory" → "1Gi".
	SystemReserved map[string]string `json:"systemReserved,omitempty"`
	// StaticCPUs switches the kubelet's static CPU manager on, so that VMs can
	// own whole cores.
	StaticCPUs bool `json:"staticCPUs,omitempty"`
}

// Taint keeps pods off a node.
type Taint struct {
	Key    string `json:"key"`
	Value  string `json:"value,omitempty"`
	Effect string `json:"effect"` // "NoSchedule", "PreferNoSchedule", "NoExecute"
}

// Check is one thing that must be true of a node or a cluster, as it is now.
type Check struct {
	Name    string    `json:"name"` // CheckRegistered, …
	OK      bool      `json:"ok"`
	Since   time.Time `json:"since,omitzero"`    // of the present state, as far as known
	Missing string    `json:"missing,omitempty"` // what is missing, in words for people; "" when OK
}

// Names of the checks of a node, in the order in which they usually come true.
const (
	CheckRegistered  = "registered"   // the Node object is there, with the planned name, address and system UUID
	CheckDressed     = "dressed"      // it has the planned labels and taints
	CheckServing     = "serving-cert" // the kubelet serves with a certificate that we approved
	CheckNetwork     = "network"      // the pod network is up on it
	CheckServices    = "services"     // addresses of Services answer from it
	CheckKubelet     = "kubelet"      // condition Ready of the Node
	CheckPressure    = "pressure"     // no memory, disk or PID pressure
	CheckControl     = "control"      // control planes: API server, controllers and scheduler run
	CheckEtcd        = "etcd"         // control planes: a voting, healthy member
	CheckKVM         = "kvm"          // KVM proven, or emulation asked for
	CheckSchedulable = "schedulable"  // not cordoned
)

// ClusterStatus is how the cluster of a run stands, for people and programs.
type ClusterStatus struct {
	Flavour    Flavour `json:"flavour"`
	Version    string  `json:"version"`
	Endpoint   string  `json:"endpoint"` // "https://10.0.1.20:6443"
	Reachable  bool    `json:"reachable"`
	Begun      bool    `json:"begun"`                // the first control plane was let initialize
	Up         bool    `json:"up"`                   // it did
	Kubeconfig string  `json:"kubeconfig,omitempty"` // path in the state folder, once there is one
	Checks     []Check `json:"checks,omitempty"`     // of the cluster as a whole
}

// NodeRuntime is what the kubelet and the container runtime must know of the
// system they run on. The agent looks.
type NodeRuntime struct {
	CgroupVersion int `json:"cgroupVersion"` // 1 or 2
	// MayLowerOOM tells whether processes may make themselves less likely to be
	// killed when memory is short; system containers may not.
	MayLowerOOM bool   `json:"mayLowerOOM"`
	Swap        bool   `json:"swap"` // some is active
	Kernel      string `json:"kernel"`
	Container   string `json:"container,omitempty"` // kind of system container it runs in; "" on hardware and VMs
}

// Certificate is one certificate of a cluster and until when it is valid.
type Certificate struct {
	Name    string    `json:"name"` // "cluster authority", "administrator", "API server of oslo-cp1"
	Subject string    `json:"subject"`
	From    time.Time `json:"from"`
	Until   time.Time `json:"until"`
}

// Removal is a person's wish to take a server away from the cluster.
type Removal struct {
	// Erase has the install disk erased as well.
	Erase bool `json:"erase,omitempty"`
	// Force says that the server is dead or gone: it is neither drained nor
	// switched off, and the majority of the control plane is not asked for.
	Force bool `json:"force,omitempty"`
	// Replace says that it is to be installed anew. Once its node is ready again,
	// it was replaced.
	Replace bool   `json:"replace,omitempty"`
	By      string `json:"by"`
}
