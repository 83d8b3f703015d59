package fleet

import (
	"maps"
	"slices"
	"strconv"
	"time"
)

// APIVersion is the version of the site file this code writes and reads.
const APIVersion = "metalrise.dev/v1alpha1"

// Site is what people want. It is the content of a site file; package
// fleet/site reads, defaults, checks and writes it.
type Site struct {
	APIVersion     string         `json:"apiVersion" yaml:"apiVersion"`
	Kind           string         `json:"kind" yaml:"kind"` // "Site"
	Name           string         `json:"name" yaml:"name"` // DNS label; names the state folder
	BMCs           BMCs           `json:"bmcs" yaml:"bmcs"`
	Cluster        Cluster        `json:"cluster,omitzero" yaml:"cluster,omitempty"`
	Network        SiteNetwork    `json:"network" yaml:"network"`
	Disks          DiskChoice     `json:"disks,omitzero" yaml:"disks,omitempty"`
	Virtualization Virtualization `json:"virtualization,omitzero" yaml:"virtualization,omitempty"`
	Platform       Platform       `json:"platform,omitzero" yaml:"platform,omitempty"`
	Image          string         `json:"image" yaml:"image"` // folder or stream file of the operating system release
	Access         Access         `json:"access,omitzero" yaml:"access,omitempty"`
	Serving        Serving        `json:"serving,omitzero" yaml:"serving,omitempty"`
	Servers        []Override     `json:"servers,omitempty" yaml:"servers,omitempty"`
	Rules          []Rule         `json:"rules,omitempty" yaml:"rules,omitempty"`
}

// BMCs says where to look for BMCs and how to log in.
type BMCs struct {
	Addresses []string  `json:"addresses" yaml:"addresses"` // "10.0.9.11", "10.0.9.11-15", "10.0.9.0/28", "[fd00::1]:8443"
	Port      int       `json:"port,omitempty" yaml:"port,omitempty"`
	Username  string    `json:"username" yaml:"username"`
	Password  SecretRef `json:"password" yaml:"password"`
	// Pins maps a BMC's address (host:port) to its certificate fingerprint.
	// An address without a pin is trusted on first use and its pin recorded.
	Pins map[string]string `json:"pins,omitempty" yaml:"pins,omitempty"`
	// Credentials are further logins, tried in this order after Username and
	// Password until a BMC takes one.
	Credentials []Credential `json:"credentials,omitempty" yaml:"credentials,omitempty"`
	// Import names a CSV file with more BMCs, each with a login of its own if it
	// has one.
	Import string `json:"import,omitempty" yaml:"import,omitempty"`
	// LegacyTLS names the BMCs that may speak outdated TLS, in the forms of
	// Addresses.
	LegacyTLS []string `json:"legacyTLS,omitempty" yaml:"legacyTLS,omitempty"`
	// SlowLinks names the BMCs to which a full medium would take too long, in the
	// forms of Addresses: their servers get the minimal one.
	SlowLinks []string `json:"slowLinks,omitempty" yaml:"slowLinks,omitempty"`
	// Listed is the content of the file that Import names. Its addresses are
	// among Addresses too.
	Listed []Listed `json:"-" yaml:"-"`
}

// Listed is one BMC of an imported list, with what its row says besides.
type Listed struct {
	Line     int         `json:"-"`                  // of the file
	Address  string      `json:"address"`            // host:port, or http://host:port
	Login    *Credential `json:"login,omitempty"`    // of this BMC, instead of the site's
	MAC      string      `json:"mac,omitempty"`      // of the server's port that carries its address
	Role     Role        `json:"role,omitempty"`     //
	Position string      `json:"position,omitempty"` // in the rack, as typed
}

// LoginsOf lists the logins to be tried on the BMC at address, in their order.
func (b BMCs) LoginsOf(address string) []Credential {
	for _, l := range b.Listed {
		if l.Address == address && l.Login != nil {
			return []Credential{*l.Login}
		}
	}
	return b.Logins()
}

// WithListed adds what the imported list says of servers, given by id, to the
// overrides. What
// an override says already stays. A MAC is used only where one server stands
// behind the BMC.
func (s Site) WithListed(enrolled map[string]Server) Site {
	behind := map[string][]Server{}
	for _, id := range slices.Sorted(maps.Keys(enrolled)) {
		v := enrolled[id]
		behind[v.BMC.Address] = append(behind[v.BMC.Address], v)
	}
	s.Servers = append([]Override(nil), s.Servers...)
	for _, l := range s.BMCs.Listed {
		servers := behind[l.Address]
		for _, v := range servers {
			if l.Role == "" && (l.MAC == "" || len(servers) > 1) {
				continue
			}
			o := s.overrideOf(v.Identity)
			if o.Role == "" {
				o.Role = l.Role
			}
			if o.MAC == "" && len(servers) == 1 {
				o.MAC = l.MAC
			}
		}
	}
	return s
}

// overrideOf finds the entry about a server, or adds one.
func (s *Site) overrideOf(id Identity) *Override {
	for i := range s.Servers {
		o := &s.Servers[i]
		if o.Serial != "" && o.Serial == id.Serial || o.Serial == "" && o.UUID != "" && o.UUID == id.UUID {
			return o
		}
	}
	o := Override{Serial: id.Serial}
	if id.Serial == "" {
		o.UUID = id.UUID
	}
	s.Servers = append(s.Servers, o)
	return &s.Servers[len(s.Servers)-1]
}

// Logins lists the site's logins in the order in which they are tried.
func (b BMCs) Logins() []Credential {
	var out []Credential
	if b.Username != "" {
		out = append(out, Credential{Username: b.Username, Password: b.Password})
	}
	return append(out, b.Credentials...)
}

// AllowsLegacyTLS tells whether the BMC at address (host:port) is among
// LegacyTLS.
func (b BMCs) AllowsLegacyTLS(address string) bool { return covers(b.LegacyTLS, address) }

// covers tells whether address (host:port) lies in one of the ranges. A range
// without a port covers every port.
func covers(ranges []string, address string) bool {
	host, port := SplitAddress(address)
	for _, s := range ranges {
		r, err := ParseAddressRange(s)
		if err == nil && r.Contains(host) && (r.Port == 0 || strconv.Itoa(r.Port) == port) {
			return true
		}
	}
	return false
}

// Cluster is the shape of the cluster.
type Cluster struct {
	ControlPlanes int    `json:"controlPlanes,omitempty" yaml:"controlPlanes,omitempty"` // 1, 3 or 5; default by number of servers
	Domain        string `json:"domain,omitempty" yaml:"domain,omitempty"`               // appended to host names

	// Software is the folder of the nodes' software, a Payload. Without it there
	// is no cluster: hosts are installed and that is all.
	Software string  `json:"software,omitempty" yaml:"software,omitempty"`
	Flavour  Flavour `json:"flavour,omitempty" yaml:"flavour,omitempty"`
	// VIP is an address for the API that the control planes hold by themselves,
	// LoadBalancer ("api.oslo.example.org:6443") one that somebody else holds. A
	// single control plane needs neither.
	VIP          string `json:"vip,omitempty" yaml:"vip,omitempty"`
	LoadBalancer string `json:"loadBalancer,omitempty" yaml:"loadBalancer,omitempty"`
	VRRP         int    `json:"vrrp,omitempty" yaml:"vrrp,omitempty"` // virtual router id; default: the last octet of VIP
	PodCIDR      string `json:"podCIDR,omitempty" yaml:"podCIDR,omitempty"`
	ServiceCIDR  string `json:"serviceCIDR,omitempty" yaml:"serviceCIDR,omitempty"`
	CNI          CNI    `json:"cni,omitempty" yaml:"cni,omitempty"`
	// CNIManifests is the file that OwnCNI applies.
	CNIManifests string `json:"cniManifests,omitempty" yaml:"cniManifests,omitempty"`
	// ControlPlaneWorkloads lets control planes run VMs and other pods. Without
	// workers they do in any case.
	ControlPlaneWorkloads bool `json:"controlPlaneWorkloads,omitempty" yaml:"controlPlaneWorkloads,omitempty"`
}

// Platform is the VM platform on the cluster.
type Platform struct {
	// Components are those beyond the default set, by their names in the
	// catalogue; Without are those of the default set that are left out.
	Components []Component `json:"components,omitempty" yaml:"components,omitempty"`
	Without    []Component `json:"without,omitempty" yaml:"without,omitempty"`
	// None ends with ready nodes: no VM platform.
	None bool `json:"none,omitempty" yaml:"none,omitempty"`
	// SkipProofs names the proofs that are not run.
	SkipProofs []Proof `json:"skipProofs,omitempty" yaml:"skipProofs,omitempty"`
	// Networks are those of VMs, besides the pods' own.
	Networks []VMNetwork `json:"networks,omitempty" yaml:"networks,omitempty"`
	// MigrationNetwork is one of Networks; "" uses that of the pods.
	MigrationNetwork string `json:"migrationNetwork,omitempty" yaml:"migrationNetwork,omitempty"`
	// MemoryOvercommit is in percent; 0 means 100.
	MemoryOvercommit int       `json:"memoryOvercommit,omitempty" yaml:"memoryOvercommit,omitempty"`
	CPUModel         string    `json:"cpuModel,omitempty" yaml:"cpuModel,omitempty"` // default: by the hypervisors' CPUs
	FeatureGates     []string  `json:"featureGates,omitempty" yaml:"featureGates,omitempty"`
	Storage          VMStorage `json:"storage,omitzero" yaml:"storage,omitempty"`
}

// SiteNetwork is the network that servers get in the installed system.
type SiteNetwork struct {
	FirstAddress string   `json:"firstAddress" yaml:"firstAddress"` // "10.0.1.21/24": the first server's; the others count up
	Gateway      string   `json:"gateway,omitempty" yaml:"gateway,omitempty"`
	DNS          []string `json:"dns,omitempty" yaml:"dns,omitempty"`
	NTP          []string `json:"ntp,omitempty" yaml:"ntp,omitempty"`
	VLAN         int      `json:"vlan,omitempty" yaml:"vlan,omitempty"` // 0: untagged
	MTU          int      `json:"mtu,omitempty" yaml:"mtu,omitempty"`   // 0: the kernel's own
	Bond         string   `json:"bond,omitempty" yaml:"bond,omitempty"` // "", "active-backup" or "802.3ad": over all ports with link
}

// DiskChoice says which disk may hold the operating system (root device hints).
type DiskChoice struct {
	MinSizeGiB int       `json:"minSizeGiB,omitempty" yaml:"minSizeGiB,omitempty"`
	Media      MediaKind `json:"media,omitempty" yaml:"media,omitempty"`
	Model      string    `json:"model,omitempty" yaml:"model,omitempty"` // substring, case ignored
}

// Virtualization is how the hypervisors are tuned.
type Virtualization struct {
	Profile Profile `json:"profile,omitempty" yaml:"profile,omitempty"`
	// Nested lets guests be hypervisors themselves.
	Nested bool `json:"nested,omitempty" yaml:"nested,omitempty"`
	// HugepagesGiB is memory set aside as 1 GiB pages on each hypervisor.
	HugepagesGiB int `json:"hugepagesGiB,omitempty" yaml:"hugepagesGiB,omitempty"`
	// Emulation lets nodes without KVM become Ready; their VMs are emulated.
	Emulation bool `json:"emulation,omitempty" yaml:"emulation,omitempty"`
	// DedicatedCPUs lets VMs own whole cores (the kubelet's static CPU manager).
	DedicatedCPUs bool `json:"dedicatedCPUs,omitempty" yaml:"dedicatedCPUs,omitempty"`
	// ReservedCPUs and ReservedMemoryMiB are kept free for the host; 0 lets the
	// plan decide by the size of the server.
	ReservedCPUs      int `json:"reservedCPUs,omitempty" yaml:"reservedCPUs,omitempty"`
	ReservedMemoryMiB int `json:"reservedMemoryMiB,omitempty" yaml:"reservedMemoryMiB,omitempty"`
}

// Profile is a named set of kernel settings for hypervisors.
type Profile string

const (
	ProfileGeneral     Profile = "general"     // no kernel argument beyond the image's own
	ProfilePassthrough Profile = "passthrough" // IOMMU on, for device assignment
)

// Access is who may log in to the installed servers.
type Access struct {
	SSHKeys        []string `json:"sshKeys,omitempty" yaml:"sshKeys,omitempty"`               // authorized_keys lines of user core
	CACertificates []string `json:"caCertificates,omitempty" yaml:"caCertificates,omitempty"` // PEM, trusted by the installed system
}

// Serving is where metalrise itself answers. Empty fields are found by the
// route towards each BMC and each server.
type Serving struct {
	Address string `json:"address,omitempty" yaml:"address,omitempty"` // IP for machines and BMCs alike
	Port    int    `json:"port,omitempty" yaml:"port,omitempty"`       // 0: any free one
	// Netboot is the network interface on which servers may boot from the network;
	// "" serves none.
	Netboot string `json:"netboot,omitempty" yaml:"netboot,omitempty"`
	// Medium is what BMCs are given; "" is AutoMedium.
	Medium Medium `json:"medium,omitempty" yaml:"medium,omitempty"`
}

// Override is what a person insists on for one server, named by serial or UUID.
type Override struct {
	Serial   string  `json:"serial,omitempty" yaml:"serial,omitempty"`
	UUID     string  `json:"uuid,omitempty" yaml:"uuid,omitempty"`
	Role     Role    `json:"role,omitempty" yaml:"role,omitempty"` // also "excluded"
	Hostname string  `json:"hostname,omitempty" yaml:"hostname,omitempty"`
	Address  string  `json:"address,omitempty" yaml:"address,omitempty"` // "10.0.1.30/24"
	MAC      string  `json:"mac,omitempty" yaml:"mac,omitempty"`         // the port that carries Address
	Disk     DiskRef `json:"disk,omitzero" yaml:"disk,omitempty"`
	// EraseForeign is the serial of a disk that carries another owner's data and
	// may be erased all the same.
	EraseForeign string `json:"eraseForeign,omitempty" yaml:"eraseForeign,omitempty"`
	// Medium is what this server's BMC is given; "" leaves it to the site.
	Medium Medium `json:"medium,omitempty" yaml:"medium,omitempty"`
}

// Role is what a server becomes.
type Role string

const (
	ControlPlane Role = "control-plane"
	Worker       Role = "worker"
	SingleNode   Role = "single-node"
	Excluded     Role = "excluded" // enrolled, never touched
)

// Consent is a person's word that the disks of one plan may be erased. Who
// gives it has been shown the disks by serial.
type Consent struct {
	Plan       string    `json:"plan"`
	EraseDisks int       `json:"eraseDisks"` // must equal the number of disks the plan erases
	By         string    `json:"by"`         // login name and terminal, or "unattended"
	At         time.Time `json:"at"`
}
