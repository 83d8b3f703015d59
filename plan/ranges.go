package plan

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"metalrise.dev/fleet"
)

// Sizes of the cluster's own networks. Each node takes a /24 of the pods' range,
// or a /64, which is what the controller manager hands out by default
// (--node-cidr-mask-size); the range may be larger by 16 bits at most (the
// controller manager's CIDR allocator). kubeadm takes ranges of services with up
// to 20 host bits; 8 of them leave room for a cluster's own services.
const (
	nodeBits4, nodeBits6           = 24, 64
	maxNodeBits                    = 16
	minServiceBits, maxServiceBits = 8, 20
)

// chooseRanges takes the ranges of pods and services. The defaults are those
// that most clusters have; that of services is smaller than kubeadm's /12, which
// would take a sixteenth of all private addresses for nothing.
func (m *maker) chooseRanges(c fleet.Cluster) {
	pods, services := "10.244.0.0/16", "10.96.0.0/16"
	if p, err := netip.ParsePrefix(m.in.Site.Network.FirstAddress); err == nil && p.Addr().Is6() {
		pods, services = "fd00:10:244::/48", "fd00:10:96::/112"
	}
	m.cluster.PodCIDR, m.cluster.ServiceCIDR = cmp.Or(c.PodCIDR, pods), cmp.Or(c.ServiceCIDR, services)
}

// space is a range of addresses with its use.
type space struct {
	path, use string
	prefix    netip.Prefix
}

// checkRanges checks sizes, and that nothing overlaps. Both ranges are judged
// even where one cannot be read.
func (m *maker) checkRanges() {
	var spaces []space
	if s, ok := m.readRange("cluster.podCIDR", "pods", m.cluster.PodCIDR); ok {
		spaces = append(spaces, s)
		m.checkPodRange(s)
	}
	if s, ok := m.readRange("cluster.serviceCIDR", "services", m.cluster.ServiceCIDR); ok {
		spaces = append(spaces, s)
		if bits := s.prefix.Addr().BitLen() - s.prefix.Bits(); bits < minServiceBits || bits > maxServiceBits {
			length := s.prefix.Addr().BitLen()
			m.badRange(s.path, fmt.Sprintf("%s is too small or too large for services", s.prefix), fmt.Sprintf("Use a prefix length from %d to %d.", length-maxServiceBits, length-minServiceBits))
		}
	}
	servers := space{"network.firstAddress", "servers", m.subnet.prefix}
	for i, s := range spaces {
		if i > 0 && s.prefix.Overlaps(spaces[0].prefix) {
			m.badRange(s.path, fmt.Sprintf("%s for %s overlaps %s for %s", s.prefix, s.use, spaces[0].prefix, spaces[0].use), "Choose ranges that have nothing in common.")
		}
		if servers.prefix.IsValid() && s.prefix.Addr().Is4() != servers.prefix.Addr().Is4() {
			m.badRange(s.path, fmt.Sprintf("%s for %s and %s for servers are not of one family", s.prefix, s.use, servers.prefix), "Use IPv4 for all or IPv6 for all.")
		}
		if servers.prefix.IsValid() && s.prefix.Overlaps(servers.prefix) {
			m.badRange(s.path, fmt.Sprintf("%s for %s overlaps the servers' network %s", s.prefix, s.use, servers.prefix), "Choose a range that is in use nowhere.")
		}
		m.checkInside(s)
	}
}

func (m *maker) badRange(path, text, remedy string) {
	m.add(fleet.CodeClusterNetwork, fleet.Blocker, "", path, text, remedy)
}

func (m *maker) readRange(path, use, text string) (space, bool) {
	p, err := netip.ParsePrefix(text)
	if err != nil || p.Addr().Is4In6() || p != p.Masked() {
		m.badRange(path, fmt.Sprintf("%q is no network with a prefix length", text), "Write it like 10.244.0.0/16.")
		return space{}, false
	}
	return space{path, use, p}, true
}

// checkPodRange wants room for every node.
func (m *maker) checkPodRange(s space) {
	each := nodeBits4
	if s.prefix.Addr().Is6() {
		each = nodeBits6
	}
	nodes, spare := len(m.active()), each-s.prefix.Bits()
	switch {
	case spare > maxNodeBits:
		m.badRange(s.path, fmt.Sprintf("%s is larger than the controller manager takes", s.prefix), fmt.Sprintf("Use a prefix length from %d on.", each-maxNodeBits))
	case spare < 0 || 1<<spare < nodes:
		m.badRange(s.path, fmt.Sprintf("%s has no /%d for each of %d nodes", s.prefix, each, nodes), "Use a larger range (a smaller prefix length).")
	}
}

// checkInside looks for addresses of others in a range: from pods they would
// not be reached. Those in the servers' network are spoken of as a network.
func (m *maker) checkInside(s space) {
	known := subnet{taken: map[netip.Addr]string{}}
	m.reserve(&known)
	if a, err := netip.ParseAddr(m.in.Site.Network.Gateway); err == nil {
		known.taken[a] = "is the gateway"
	}
	if a, err := netip.ParseAddr(m.cluster.Endpoint.Address); err == nil && m.cluster.Endpoint.Kind != fleet.NodeAddress {
		known.taken[a] = "is the API's address"
	}
	var inside []netip.Addr
	for a := range known.taken {
		if s.prefix.Contains(a) && !(m.subnet.prefix.IsValid() && m.subnet.prefix.Contains(a)) {
			inside = append(inside, a)
		}
	}
	if len(inside) == 0 {
		return
	}
	slices.SortFunc(inside, netip.Addr.Compare)
	var list []string
	for i, a := range inside {
		if i == 12 {
			list = append(list, fmt.Sprintf("and %d more", len(inside)-i))
			break
		}
		list = append(list, a.String()+" "+known.taken[a])
	}
	m.badRange(s.path, fmt.Sprintf("%s for %s has addresses in it that others have: %s", s.prefix, s.use, strings.Join(list, ", ")), "Choose a range that is in use nowhere.")
}
