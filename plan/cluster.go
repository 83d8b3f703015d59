package plan

import (
	"cmp"
	"fmt"
	"net/netip"
	"reflect"
	"strconv"
	"strings"

	"metalrise.dev/fleet"
)

const (
	// apiPort is where API servers of kubeadm clusters answer.
	apiPort = 6443
	// serviceDomain is what kubeadm calls the DNS domain of services by default;
	// manifests in the world rely on it.
	serviceDomain = "cluster.local"
	// releaseArchitecture is the only one that package images takes releases of.
	releaseArchitecture = "x86_64"
	maxManifests        = 1 << 20
)

// chooseCluster decides what concerns the cluster as a whole, as far as it does
// not depend on addresses of servers.
func (m *maker) chooseCluster() {
	c := m.in.Site.Cluster
	if m.before != nil && m.before.Cluster != nil && (!m.in.Unbegun || c.Software == "") {
		m.continueCluster(*m.before.Cluster)
		return
	}
	if c.Software == "" {
		m.checkIdle(c)
		return
	}
	if m.before != nil && m.before.Cluster == nil {
		m.add(fleet.CodeNodeShape, fleet.Blocker, "", "cluster.software",
			"the servers that are installed were installed without a cluster, and lack what makes a node",
			"Leave cluster.software out; or remove those servers, so that they are installed anew.")
	}
	m.cluster = &fleet.ClusterPlan{Flavour: cmp.Or(c.Flavour, fleet.Kubeadm), Domain: serviceDomain,
		CNI: cmp.Or(c.CNI, fleet.Flannel), Emulation: m.in.Site.Virtualization.Emulation}
	if m.cluster.Flavour != fleet.Kubeadm {
		m.add(fleet.CodeFlavourUnknown, fleet.Blocker, "", "cluster.flavour", fmt.Sprintf("%q cannot be brought up by this metalrise", c.Flavour), "Use kubeadm, or leave it out.")
	}
	m.choosePayload()
	m.chooseRanges(c)
	m.chooseCNI(c)
	m.chooseEndpoint(c)
}

// checkIdle speaks of fields that mean nothing without a cluster.
func (m *maker) checkIdle(c fleet.Cluster) {
	v := m.in.Site.Virtualization
	var idle []string
	for _, f := range []struct {
		path string
		set  bool
	}{
		{"cluster.flavour", c.Flavour != ""}, {"cluster.vip", c.VIP != ""}, {"cluster.loadBalancer", c.LoadBalancer != ""}, {"cluster.vrrp", c.VRRP != 0},
		{"cluster.podCIDR", c.PodCIDR != ""}, {"cluster.serviceCIDR", c.ServiceCIDR != ""}, {"cluster.cni", c.CNI != ""},
		{"cluster.controlPlaneWorkloads", c.ControlPlaneWorkloads}, {"virtualization.emulation", v.Emulation}, {"virtualization.dedicatedCPUs", v.DedicatedCPUs},
		{"virtualization.reservedCPUs", v.ReservedCPUs != 0}, {"virtualization.reservedMemoryMiB", v.ReservedMemoryMiB != 0},
		{"platform", !m.in.Site.Platform.None && !reflect.ValueOf(m.in.Site.Platform).IsZero()},
	} {
		if f.set {
			idle = append(idle, f.path)
		}
	}
	if len(idle) > 0 {
		m.add(fleet.CodePayloadInvalid, fleet.Info, "", "cluster.software", "without it there is no cluster, and this has no effect: "+strings.Join(idle, ", "),
			"Set cluster.software to make a cluster; nothing to do if hosts are all you want.")
	}
}

// choosePayload takes version and digest of the nodes' software.
func (m *maker) choosePayload() {
	p, ok := m.payload()
	if !ok {
		return
	}
	m.cluster.Version = p.Version
	digest, err := fleet.Digest(p)
	if err != nil { // no value of the type is without a JSON form
		m.add(fleet.CodePayloadInvalid, fleet.Blocker, "", "cluster.software", "the nodes' software has no digest: "+err.Error(), "Report this.")
		return
	}
	m.cluster.PayloadDigest = digest
	if p.Flavour != m.cluster.Flavour {
		m.add(fleet.CodePayloadInvalid, fleet.Blocker, "", "cluster.software", fmt.Sprintf("the nodes' software is for %s, the cluster is to be %s", p.Flavour, m.cluster.Flavour),
			"Name a folder for this flavour, or correct cluster.flavour.")
	}
	if p.Architecture != releaseArchitecture {
		m.add(fleet.CodePayloadInvalid, fleet.Blocker, "", "cluster.software", fmt.Sprintf("the nodes' software is for %s, the operating system is for %s", p.Architecture, releaseArchitecture),
			"Name a folder with software for "+releaseArchitecture+".")
	}
}

// payload is the nodes' software, or a blocker that says why there is none.
func (m *maker) payload() (fleet.Payload, bool) {
	if m.in.Payload != nil {
		return *m.in.Payload, true
	}
	m.add(fleet.CodePayloadInvalid, fleet.Blocker, "", "cluster.software", cmp.Or(m.in.PayloadProblem, "the folder of the nodes' software was not read"),
		"Point cluster.software at a folder with payload.json and its contents; or leave it out to install hosts without a cluster.")
	return fleet.Payload{}, false
}

func (m *maker) chooseCNI(c fleet.Cluster) {
	switch m.cluster.CNI {
	case fleet.Flannel, fleet.FlannelHostGW:
		return
	case fleet.OwnCNI:
	default:
		m.add(fleet.CodeSiteInvalid, fleet.Blocker, "", "cluster.cni", fmt.Sprintf("%q is no pod network", c.CNI), "Use flannel, flannel-host-gw or own.")
		return
	}
	m.cluster.Manifests = m.in.Manifests
	switch {
	case c.CNIManifests == "":
		m.add(fleet.CodeSiteInvalid, fleet.Blocker, "", "cluster.cniManifests", "cni: own needs manifests", "Name their file.")
	case strings.TrimSpace(m.in.Manifests) == "":
		m.add(fleet.CodeSiteInvalid, fleet.Blocker, "", "cluster.cniManifests", cmp.Or(m.in.ManifestsProblem, c.CNIManifests+" is empty"), "Name a file with the manifests of a pod network.")
	case len(m.in.Manifests) > maxManifests:
		m.add(fleet.CodeSiteInvalid, fleet.Blocker, "", "cluster.cniManifests", fmt.Sprintf("%s has more than %d bytes", c.CNIManifests, maxManifests), "Take out what is not the pod network.")
		m.cluster.Manifests = ""
	}
}

// controlPlanes lists the active control planes.
func (m *maker) controlPlanes() []*draft {
	var out []*draft
	for _, d := range m.active() {
		if d.Role == fleet.ControlPlane || d.Role == fleet.SingleNode {
			out = append(out, d)
		}
	}
	return out
}

// chooseEndpoint decides where the API is reached. The address of a single
// control plane is filled in once it has one.
func (m *maker) chooseEndpoint(c fleet.Cluster) {
	planes := len(m.controlPlanes())
	bad := func(code fleet.Code, path, text, remedy string) { m.add(code, fleet.Blocker, "", path, text, remedy) }
	if c.VIP != "" && c.LoadBalancer != "" {
		bad(fleet.CodeSiteInvalid, "cluster.loadBalancer", "the API is reached either at cluster.vip or at cluster.loadBalancer, not at both", "Remove one of the two.")
	}
	if c.VRRP < 0 || c.VRRP > 255 {
		bad(fleet.CodeSiteInvalid, "cluster.vrrp", fmt.Sprintf("%d is no virtual router id", c.VRRP), "Use 1 to 255, or leave it out.")
	}
	e := &m.cluster.Endpoint
	switch {
	case c.VIP != "":
		*e = fleet.APIEndpoint{Kind: fleet.VirtualIP, Port: apiPort, VRRP: c.VRRP}
		a, err := netip.ParseAddr(c.VIP)
		if err != nil || a.Zone() != "" || a.Is4In6() || unfit(a) != "" {
			bad(fleet.CodeClusterAddress, "cluster.vip", fmt.Sprintf("%q is no address that a host may have", c.VIP), "Write a free address of the servers' network, like 10.0.1.20.")
			return
		}
		e.Address = a.String()
		if e.VRRP == 0 {
			bytes := a.AsSlice()
			e.VRRP = max(int(bytes[len(bytes)-1]), 1)
		}
	case c.LoadBalancer != "":
		host, port := fleet.SplitAddress(strings.ToLower(c.LoadBalancer))
		n, err := strconv.Atoi(port)
		a, notIP := netip.ParseAddr(host)
		if err != nil || n < 1 || n > 65535 || notIP != nil && !fleet.ValidHostname(host) || notIP == nil && unfit(a) != "" {
			bad(fleet.CodeClusterAddress, "cluster.loadBalancer", fmt.Sprintf("%q is no host with a port", c.LoadBalancer), "Write it like api.example.org:6443.")
			host, n = "", 0
		}
		*e = fleet.APIEndpoint{Kind: fleet.LoadBalancer, Address: host, Port: n}
	default:
		*e = fleet.APIEndpoint{Kind: fleet.NodeAddress, Port: apiPort}
		if planes > 1 {
			bad(fleet.CodeClusterAddress, "cluster.vip", fmt.Sprintf("%d control planes need one address for the API that outlives each of them", planes),
				"Set cluster.vip to a free address of the servers' network, or cluster.loadBalancer to one of yours.")
		}
	}
}

// reserveEndpoint checks the API's address against all others, and keeps it
// from being counted out to a server.
func (m *maker) reserveEndpoint(s *subnet, owner map[netip.Addr]*draft) {
	if m.cluster == nil {
		return
	}
	e := m.cluster.Endpoint
	a, err := netip.ParseAddr(e.Address)
	if err != nil {
		return // a name, or none; whatever is wrong was said
	}
	bad := func(text, remedy string) {
		m.add(fleet.CodeClusterAddress, fleet.Blocker, "", "cluster.vip", text, remedy)
	}
	switch {
	case e.Kind == fleet.LoadBalancer:
		if s.taken[a] == "" {
			s.taken[a] = "is cluster.loadBalancer"
		}
	case e.Kind != fleet.VirtualIP:
	case s.usable(a) != "":
		bad(fmt.Sprintf("%s %s", a, s.usable(a)), "Choose the address of a host in the servers' network.")
	case s.taken[a] != "":
		bad(fmt.Sprintf("%s %s", a, s.taken[a]), "Choose an address that nobody has.")
	case owner[a] != nil:
		bad(fmt.Sprintf("%s is the address of %s, which is installed", a, owner[a].Hostname), "Choose an address that nobody has.")
	default:
		s.taken[a] = "is cluster.vip"
	}
}

// finishCluster decides what depends on addresses.
func (m *maker) finishCluster() {
	if m.cluster == nil {
		return
	}
	m.checkRanges()
	e := &m.cluster.Endpoint
	planes := m.controlPlanes()
	if e.Kind != fleet.NodeAddress || e.Address != "" || len(planes) != 1 {
		return
	}
	if p, err := netip.ParsePrefix(planes[0].Network.Address); err == nil {
		e.Address = p.Addr().String()
	}
}

// describeAddress is host:port; IPv6 in brackets.
func describeAddress(e fleet.APIEndpoint) string {
	if strings.Contains(e.Address, ":") {
		return fmt.Sprintf("[%s]:%d", e.Address, e.Port)
	}
	return fmt.Sprintf("%s:%d", e.Address, e.Port)
}

// describeEndpoint is for people.
func describeEndpoint(e fleet.APIEndpoint) string {
	at := describeAddress(e)
	switch e.Kind {
	case fleet.VirtualIP:
		return fmt.Sprintf("%s, held by the control planes in turn (virtual router id %d)", at, e.VRRP)
	case fleet.LoadBalancer:
		return at + ", a load balancer"
	}
	return at + ", its own address, because it is the only control plane and cluster.vip is not set"
}
