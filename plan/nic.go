package plan

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	"metalrise.dev/fleet"
)

// port is a network port with its MAC in one form.
type port struct {
	fleet.NIC
	link string // "up", "down" or "unknown"
}

// chooseNIC decides which port, or bond of ports, carries the address.
func (m *maker) chooseNIC(d *draft) {
	ports := portsOf(d.facts.NICs)
	given := fleet.CleanMAC(d.override.MAC)
	if d.override.MAC != "" {
		i := slices.IndexFunc(ports, func(p port) bool { return p.MAC == given })
		if given == "" || i < 0 {
			m.add(fleet.CodeNoNIC, fleet.Blocker, d.Server, d.path("mac"), fmt.Sprintf("the server has no port with MAC %q; it has %s", d.override.MAC, listPorts(ports)),
				"Compare with `metalrise inspect`.")
			return
		}
		if ports[i].link == "down" {
			m.add(fleet.CodeNoNIC, fleet.Warning, d.Server, d.path("mac"), fmt.Sprintf("the port %s shows no link", given), "Check its cable; a powered-off server may show its ports so.")
		}
	}
	if len(ports) == 0 {
		m.add(fleet.CodeNoNIC, fleet.Blocker, d.Server, "facts.nics", "the facts show no network port with a usable MAC address",
			"Check `metalrise inspect`; some BMCs list ports only after the server was switched on once.")
		return
	}
	if m.in.Site.Network.Bond != "" {
		m.chooseBond(d, ports, given)
		return
	}
	if given != "" {
		d.Network.MAC = given
		d.because("network port %s: named under %s", given, d.overrideAt)
		return
	}
	m.choosePort(d, ports)
}

// choosePort applies the rule for one port.
func (m *maker) choosePort(d *draft, ports []port) {
	if len(ports) == 1 {
		d.Network.MAC = ports[0].MAC
		d.because("network port %s: the only one (link %s)", ports[0].MAC, ports[0].link)
		return
	}
	for _, link := range []string{"up", "unknown", "down"} {
		same := withLink(ports, link)
		if len(same) == 0 {
			continue
		}
		d.Network.MAC = same[0].MAC
		if link == "up" && len(same) == 1 {
			d.because("network port %s: the only one with link", same[0].MAC)
			return
		}
		d.because("network port %s: the lowest MAC of %d ports with link %s", same[0].MAC, len(same), link)
		m.add(fleet.CodeAmbiguousNIC, fleet.Warning, d.Server, d.path("mac"),
			fmt.Sprintf("%s was taken as the lowest MAC of %d ports with link %s: %s", same[0].MAC, len(same), link, listPorts(ports)),
			"Check the choice; name the MAC under servers if another port is meant, or set network.bond.")
		return
	}
}

// chooseBond joins all ports with link. A port a person named is in it even
// when its link is not known.
func (m *maker) chooseBond(d *draft, ports []port, given string) {
	var macs []string
	for _, p := range ports {
		if p.link == "up" || p.MAC == given {
			macs = append(macs, p.MAC)
		}
	}
	if len(withLink(ports, "up")) == 0 {
		m.add(fleet.CodeNoNIC, fleet.Blocker, d.Server, "network.bond",
			"no port is known to have link, so nobody knows which ports the bond joins: "+listPorts(ports),
			"Switch the server on so that its ports get link and inspect again, or leave network.bond out.")
		return
	}
	d.Network.Bond = &fleet.Bond{Mode: m.in.Site.Network.Bond, MACs: macs} // ports are sorted by MAC
	d.Network.MAC = macs[0]
	if given != "" {
		d.Network.MAC = given
	}
	d.because("bond %s over all ports with link: %s", m.in.Site.Network.Bond, strings.Join(macs, ", "))
	if len(macs) == 1 {
		m.add(fleet.CodeAmbiguousNIC, fleet.Warning, d.Server, "network.bond", "the bond has one port only: "+listPorts(ports), "Check the other cables and inspect again.")
	}
}

// checkSharedMACs refuses one MAC on two servers: their switch could not tell
// them apart, and neither could we.
func (m *maker) checkSharedMACs() {
	owner := map[string]*draft{}
	for _, d := range m.active() {
		macs := []string{d.Network.MAC}
		if d.Network.Bond != nil {
			macs = d.Network.Bond.MACs
		}
		for _, mac := range macs {
			if mac == "" {
				continue
			}
			if other := owner[mac]; other != nil {
				m.add(fleet.CodeAddressConflict, fleet.Blocker, d.Server, d.path("mac"), fmt.Sprintf("MAC %s was chosen here and on server %s", mac, other.Server),
					"Name another port under servers, or find out which facts are wrong.")
				continue
			}
			owner[mac] = d
		}
	}
}

// portsOf lists the usable ports by MAC. A MAC that appears twice (BMCs list
// partitions and functions so) is one port; it has link if one of them has.
func portsOf(nics []fleet.NIC) []port {
	byMAC := map[string]port{}
	for _, n := range nics {
		n.MAC = fleet.CleanMAC(n.MAC)
		if n.MAC == "" || toBMC(n) {
			continue
		}
		p := port{NIC: n, link: "unknown"}
		if up, known := n.Link.Get(); known {
			p.link = map[bool]string{true: "up", false: "down"}[up]
		}
		if old, ok := byMAC[n.MAC]; ok && rankLink(old.link) <= rankLink(p.link) {
			continue
		}
		byMAC[n.MAC] = p
	}
	out := make([]port, 0, len(byMAC))
	for _, p := range byMAC {
		out = append(out, p)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].MAC < out[j].MAC })
	return out
}

func rankLink(link string) int { return slices.Index([]string{"up", "unknown", "down"}, link) }

// toBMC tells whether a port is the inner USB network between server and BMC.
func toBMC(n fleet.NIC) bool {
	switch n.Driver {
	case "cdc_ether", "cdc_ncm", "cdc_eem", "rndis_host":
		return true
	}
	return false
}

func withLink(ports []port, link string) []port {
	var out []port
	for _, p := range ports {
		if p.link == link {
			out = append(out, p)
		}
	}
	return out
}

// listPorts is for people: at most 12 ports.
func listPorts(ports []port) string {
	if len(ports) == 0 {
		return "none"
	}
	var out []string
	for i, p := range ports {
		if i == 12 {
			out = append(out, fmt.Sprintf("and %d more", len(ports)-i))
			break
		}
		out = append(out, fmt.Sprintf("%s (link %s)", p.MAC, p.link))
	}
	return strings.Join(out, ", ")
}
