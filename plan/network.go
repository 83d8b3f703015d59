package plan

import (
	"fmt"
	"net/netip"
	"strings"

	"metalrise.dev/fleet"
)

// maxHostname is the longest host name Linux takes (HOST_NAME_MAX, 64), domain
// included.
const maxHostname = 64

// chooseNames names the servers, given names first.
func (m *maker) chooseNames() {
	domain := strings.ToLower(strings.Trim(m.in.Site.Cluster.Domain, "."))
	if domain != "" && !fleet.ValidHostname(domain) {
		m.add(fleet.CodeSiteInvalid, fleet.Blocker, "", "cluster.domain", fmt.Sprintf("%q is no DNS domain", domain), "Use labels of letters, digits and hyphens joined by dots, or leave it out.")
		domain = ""
	}
	if !fleet.ValidLabel(m.in.Site.Name) {
		m.add(fleet.CodeSiteInvalid, fleet.Blocker, "", "name", fmt.Sprintf("%q cannot be part of host names", m.in.Site.Name), "Use 1 to 63 letters, digits or hyphens.")
	}
	owner := m.keptNames()
	for _, d := range m.fresh() {
		if d.override.Hostname != "" {
			m.takeName(d, withDomain(strings.ToLower(d.override.Hostname), domain), owner)
		}
	}
	m.takePlannedNames(domain, owner)
	count := map[string]int{}
	planned := m.plannedNames()
	for _, d := range m.fresh() {
		if d.override.Hostname != "" || d.Hostname != "" {
			continue
		}
		name := ""
		for name == "" || owner[name] != nil || planned[name] {
			stem := m.stem(d)
			count[stem]++
			name = withDomain(fmt.Sprintf("%s%d", stem, count[stem]), domain)
		}
		owner[name] = d
		d.Hostname = name
		d.because("host name %s: the next free one of its role", name)
		m.checkNameLength(d, "name")
	}
}

// stem is what counted host names of a server's role begin with.
func (m *maker) stem(d *draft) string {
	if d.Role == fleet.Worker {
		return strings.ToLower(m.in.Site.Name + "-w")
	}
	return strings.ToLower(m.in.Site.Name + "-cp")
}

// takeName gives a server the name a person chose for it.
func (m *maker) takeName(d *draft, name string, owner map[string]*draft) {
	if !fleet.ValidHostname(name) {
		m.add(fleet.CodeSiteInvalid, fleet.Blocker, d.Server, d.path("hostname"), fmt.Sprintf("%q is no host name", name), "Use letters, digits and hyphens; dots only before a domain.")
		return
	}
	if other := owner[name]; other != nil {
		m.add(fleet.CodeAddressConflict, fleet.Blocker, d.Server, d.path("hostname"), fmt.Sprintf("%s is already the name of server %s", name, other.Server), "Give each server its own name.")
		return
	}
	owner[name] = d
	d.Hostname = name
	d.because("host name %s: named under %s", name, d.overrideAt)
	m.checkNameLength(d, d.path("hostname"))
}

func (m *maker) checkNameLength(d *draft, path string) {
	if len(d.Hostname) > maxHostname {
		m.add(fleet.CodeSiteInvalid, fleet.Blocker, d.Server, path, fmt.Sprintf("%s has %d characters; Linux takes %d", d.Hostname, len(d.Hostname), maxHostname),
			"Shorten name, cluster.domain or the host name.")
	}
}

func withDomain(name, domain string) string {
	if domain == "" || strings.Contains(name, ".") {
		return name
	}
	return name + "." + domain
}

// subnet is what network.firstAddress says, read.
type subnet struct {
	first  netip.Addr
	prefix netip.Prefix // masked
	taken  map[netip.Addr]string
}

// usable tells whether a host may have this address, or why not.
func (s subnet) usable(a netip.Addr) (why string) {
	switch {
	case !s.prefix.Contains(a):
		return "is outside of " + s.prefix.String()
	case a.BitLen()-s.prefix.Bits() <= 1:
		return "" // a /31 or /127 has two hosts and nothing else (RFC 3021, RFC 6164)
	case a == s.prefix.Addr():
		return "is the address of the network itself"
	case a.Is4() && !s.prefix.Contains(a.Next()):
		return "is the broadcast address"
	}
	return ""
}

// chooseAddresses checks the site's network and counts addresses out.
func (m *maker) chooseAddresses() {
	n := m.in.Site.Network
	m.checkNetworkNumbers(n)
	s, ok := m.readSubnet(n)
	m.checkServices(n)
	for _, d := range m.fresh() {
		d.Network = fleet.Network{VLAN: n.VLAN, MTU: n.MTU, Gateway: n.Gateway, DNS: n.DNS, NTP: n.NTP}
	}
	if !ok {
		return
	}
	m.reserve(&s)
	owner := m.keptAddresses()
	m.reserveEndpoint(&s, owner)
	m.subnet = s
	for _, d := range m.fresh() {
		if d.override.Address != "" {
			m.takeAddress(d, s, owner)
		}
	}
	m.takePlannedAddresses(s, owner)
	m.countAddresses(s, owner)
}

func (m *maker) countAddresses(s subnet, owner map[netip.Addr]*draft) {
	next, left := s.first, 0
	planned := m.plannedAddresses()
	for _, d := range m.fresh() {
		if d.override.Address != "" || d.Network.Address != "" {
			continue
		}
		var passed []string
		installed := 0
		for next.IsValid() && s.prefix.Contains(next) {
			why := s.usable(next)
			if why == "" {
				why = s.taken[next]
			}
			if why == "" && owner[next] != nil {
				why = "is given to server " + string(owner[next].Server)
			}
			if why == "" && planned[next] != "" {
				why = "was planned for server " + string(planned[next])
			}
			if why == "" {
				break
			}
			if o := owner[next]; o != nil && o.kept {
				installed++ // there may be hundreds
			} else {
				passed = append(passed, next.String()+" "+why)
			}
			next = next.Next()
		}
		if !next.IsValid() || !s.prefix.Contains(next) {
			left++
			continue
		}
		d.Network.Address = netip.PrefixFrom(next, s.prefix.Bits()).String()
		why := "address " + d.Network.Address + ": counted up from network.firstAddress"
		if installed > 0 {
			passed = append(passed, fmt.Sprintf("%d addresses of installed servers", installed))
		}
		if len(passed) > 0 {
			why += "; passed over: " + strings.Join(passed, ", ")
		}
		d.because("%s", why)
		next = next.Next()
	}
	if left > 0 {
		m.add(fleet.CodeAddressConflict, fleet.Blocker, "", "network.firstAddress",
			fmt.Sprintf("%s has no address left for %d servers, counting from %s", s.prefix, left, s.first), "Begin lower, use a larger prefix or give addresses under servers.")
	}
}

// readSubnet reads firstAddress and gateway.
func (m *maker) readSubnet(n fleet.SiteNetwork) (subnet, bool) {
	s, ok := m.readFirst(n)
	if n.Gateway == "" {
		return s, ok
	}
	bad := func(text, remedy string) {
		m.add(fleet.CodeNetworkInvalid, fleet.Blocker, "", "network.gateway", text, remedy)
	}
	g, err := netip.ParseAddr(n.Gateway)
	switch {
	case err != nil:
		bad(fmt.Sprintf("%q is no IP address", n.Gateway), "Write it like 10.0.1.1, or leave it out.")
	case !ok:
		// Without a network nobody knows whether the gateway is in it.
	case g.Is6() && g.IsLinkLocalUnicast() && s.first.Is6() && g.Zone() == "":
		// Routers of IPv6 are often known by their link-local address.
	case s.usable(g) != "":
		bad(fmt.Sprintf("%s %s", g, s.usable(g)), "Correct network.gateway or network.firstAddress so that the gateway is a host of the same network.")
	default:
		s.taken[g] = "is the gateway"
	}
	return s, ok
}

// readFirst reads the network that firstAddress lies in.
func (m *maker) readFirst(n fleet.SiteNetwork) (subnet, bool) {
	bad := func(path, text, remedy string) {
		m.add(fleet.CodeNetworkInvalid, fleet.Blocker, "", path, text, remedy)
	}
	p, err := netip.ParsePrefix(n.FirstAddress)
	if err != nil {
		bad("network.firstAddress", fmt.Sprintf("%q is no address with a prefix length", n.FirstAddress), "Write it like 10.0.1.21/24.")
		return subnet{}, false
	}
	if p.Addr().Is4In6() {
		bad("network.firstAddress", fmt.Sprintf("%s is an IPv4 address in IPv6 form", p), "Write it like 10.0.1.21/24.")
		return subnet{}, false
	}
	s := subnet{first: p.Addr(), prefix: p.Masked(), taken: map[netip.Addr]string{}}
	if why := unfit(s.first); why != "" {
		bad("network.firstAddress", fmt.Sprintf("%s %s", s.first, why), "Use the address of a host in the servers' network.")
		return subnet{}, false
	}
	if why := s.usable(s.first); why != "" {
		bad("network.firstAddress", fmt.Sprintf("%s %s", s.first, why), "Write the address that the first server shall have, not that of the network.")
		return subnet{}, false
	}
	return s, true
}

// unfit tells why no host can have an address, wherever it is.
func unfit(a netip.Addr) string {
	switch {
	case a.IsUnspecified():
		return "is no address of a host"
	case a.IsLoopback():
		return "is a loopback address"
	case a.IsMulticast():
		return "is a multicast address"
	case a.IsLinkLocalUnicast():
		return "is a link-local address"
	case a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "is the broadcast address"
	}
	return ""
}

// reserve marks addresses that others have. The first reason stays.
func (m *maker) reserve(s *subnet) {
	mark := func(text, why string) {
		if a, err := netip.ParseAddr(text); err == nil {
			if _, ok := s.taken[a.Unmap()]; !ok {
				s.taken[a.Unmap()] = why
			}
		}
	}
	for _, t := range m.in.Site.Network.DNS {
		mark(t, "is a name server")
	}
	for _, t := range m.in.Site.Network.NTP {
		mark(t, "is a time server")
	}
	mark(m.in.Site.Serving.Address, "is serving.address")
	for _, d := range m.drafts {
		host, _ := fleet.SplitAddress(d.BMC.Address)
		mark(host, "is a BMC")
	}
}

// takeAddress gives a server the address a person chose for it.
func (m *maker) takeAddress(d *draft, s subnet, owner map[netip.Addr]*draft) {
	bad := func(text, remedy string) {
		m.add(fleet.CodeAddressConflict, fleet.Blocker, d.Server, d.path("address"), text, remedy)
	}
	p, err := netip.ParsePrefix(d.override.Address)
	if err != nil {
		bad(fmt.Sprintf("%q is no address with a prefix length", d.override.Address), fmt.Sprintf("Write it like %s.", netip.PrefixFrom(s.first, s.prefix.Bits())))
		return
	}
	a := p.Addr()
	switch {
	case p.Masked() != s.prefix:
		bad(fmt.Sprintf("%s leaves the network %s", p, s.prefix), "All servers share one network and gateway: choose an address inside of it, with its prefix length.")
	case s.usable(a) != "":
		bad(fmt.Sprintf("%s %s", a, s.usable(a)), "Choose the address of a host.")
	case s.taken[a] != "":
		bad(fmt.Sprintf("%s %s", a, s.taken[a]), "Choose an address that nobody has.")
	case owner[a] != nil:
		bad(fmt.Sprintf("%s is also given to server %s", a, owner[a].Server), "Give each server its own address.")
	default:
		owner[a] = d
		d.Network.Address = p.String()
		d.because("address %s: given under %s", p, d.overrideAt)
	}
}

func (m *maker) checkNetworkNumbers(n fleet.SiteNetwork) {
	if n.VLAN < 0 || n.VLAN > 4094 {
		m.add(fleet.CodeNetworkInvalid, fleet.Blocker, "", "network.vlan", fmt.Sprintf("%d is no VLAN", n.VLAN), "Use 1 to 4094, or leave it out for untagged.")
	}
	// 1280 is the least IPv6 lives with (RFC 8200, section 5); below it nothing here works well.
	if n.MTU != 0 && (n.MTU < 1280 || n.MTU > 9216) {
		m.add(fleet.CodeNetworkInvalid, fleet.Blocker, "", "network.mtu", fmt.Sprintf("an MTU of %d is not between 1280 and 9216", n.MTU), "Use 1500, or 9000 where all switches carry it.")
	}
	if n.Bond != "" && n.Bond != "active-backup" && n.Bond != "802.3ad" {
		m.add(fleet.CodeNetworkInvalid, fleet.Blocker, "", "network.bond", fmt.Sprintf("%q is no bond mode", n.Bond), "Use active-backup or 802.3ad, or leave it out.")
	}
}

// checkServices checks name and time servers. Time servers may be named, but
// then somebody has to resolve the name.
func (m *maker) checkServices(n fleet.SiteNetwork) {
	for i, t := range n.DNS {
		if _, err := netip.ParseAddr(t); err != nil {
			m.add(fleet.CodeNetworkInvalid, fleet.Blocker, "", fmt.Sprintf("network.dns[%d]", i), fmt.Sprintf("%q is no IP address", t), "Name servers are given by address.")
		}
	}
	for i, t := range n.NTP {
		path := fmt.Sprintf("network.ntp[%d]", i)
		if _, err := netip.ParseAddr(t); err == nil {
			continue
		}
		switch {
		case !fleet.ValidHostname(t):
			m.add(fleet.CodeNetworkInvalid, fleet.Blocker, "", path, fmt.Sprintf("%q is neither an IP address nor a host name", t), "Correct it or leave it out.")
		case len(n.DNS) == 0:
			m.add(fleet.CodeNetworkInvalid, fleet.Warning, "", path, fmt.Sprintf("%s is a name, but network.dns lists no name server", t), "Give its address, or add network.dns.")
		}
	}
}
