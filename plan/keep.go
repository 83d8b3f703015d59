package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"sort"
	"strings"

	"metalrise.dev/fleet"
)

// recall takes over what the previous plan did: a server that is done keeps its
// assignment as it is. The drafts are then in the order in which things are
// decided: kept servers, control planes and then workers that the previous plan
// had but that are not done, new ones; among each as before.
func (m *maker) recall() {
	old := m.in.Previous
	if old == nil || !slices.ContainsFunc(old.Assignments, func(a fleet.Assignment) bool { return m.in.Done[a.Server] && a.Role != fleet.Excluded }) {
		return
	}
	m.before = old
	for i := range old.Assignments {
		a := &old.Assignments[i]
		if a.Role == fleet.Excluded {
			continue
		}
		d := m.draftOf(*a)
		switch {
		case m.in.Done[a.Server]:
			m.keep(d, *a)
		case d != nil && !d.kept:
			d.planned = a
		}
	}
	rank := func(d *draft) int {
		switch {
		case d.kept:
			return 0
		case d.planned != nil && d.planned.Role != fleet.Worker:
			return 1
		case d.planned != nil:
			return 2
		}
		return 3
	}
	sort.SliceStable(m.drafts, func(i, j int) bool { return rank(m.drafts[i]) < rank(m.drafts[j]) })
}

// draftOf finds the enrolled server of an assignment: by its id, else by its
// identity, so that a machine whose serial was changed is not taken for a new one.
func (m *maker) draftOf(a fleet.Assignment) *draft {
	for _, d := range m.drafts {
		if d.Server == a.Server {
			return d
		}
	}
	for _, d := range m.drafts {
		// One that the previous plan knows by its own id is not this one.
		if _, known := m.before.Assignment(d.Server); !known && !d.kept && shares(a.Identity, d.Identity) {
			return d
		}
	}
	return nil
}

// shares tells whether two identities have a part in common.
func shares(a, b fleet.Identity) bool {
	return a.UUID != "" && a.UUID == b.UUID || a.Serial != "" && a.Serial == b.Serial
}

// keep fixes a server that is done. d is nil when it is not enrolled any more;
// it stays in the plan then, because it is still a host or node.
func (m *maker) keep(d *draft, a fleet.Assignment) {
	if a.Kept == "" {
		a.Kept = m.before.ID
	}
	if d == nil {
		d = &draft{Assignment: a, kept: true}
		d.facts, d.hasFacts = m.in.Facts[a.Server]
		m.drafts = append(m.drafts, d)
		m.add(fleet.CodeNodeShape, fleet.Warning, a.Server, "bmcs.addresses",
			fmt.Sprintf("%s is installed, but is not among the servers found now", a.Hostname),
			"It stays in the plan as it is. Give its BMC's address again and run discover; or remove it with `metalrise node remove` before its address is taken out.")
		return
	}
	if d.Server != a.Server || !a.Identity.Match(d.Identity) {
		m.add(fleet.CodeIdentityMismatch, fleet.Warning, a.Server, "servers",
			fmt.Sprintf("%s was installed as serial %q and UUID %q; behind its BMC %s now stands serial %q and UUID %q", a.Hostname, a.Identity.Serial, a.Identity.UUID, d.BMC.Address, d.Identity.Serial, d.Identity.UUID),
			"It stays in the plan as it is, and nothing is done to it. When its board was swapped, replace it with `metalrise node replace`.")
	}
	// The way to a server is not a decision about it: after a BMC's address,
	// certificate or login changed, the old ones would lead nowhere.
	a.BMC = d.BMC
	d.Assignment, d.kept = a, true
	d.facts, d.hasFacts = m.in.Facts[a.Server]
}

// keptControlPlanes counts the control planes that are done.
func (m *maker) keptControlPlanes() int {
	n := 0
	for _, d := range m.drafts {
		if d.kept && d.Role != fleet.Worker {
			n++
		}
	}
	return n
}

// wantAsBefore decides the number of control planes of a cluster that changes
// and of which the site says none: as many as before, or as many as people named.
func (m *maker) wantAsBefore(given int) (int, string) {
	planned := 0
	for _, a := range m.before.Assignments {
		if a.Role == fleet.ControlPlane || a.Role == fleet.SingleNode {
			planned++
		}
	}
	if named := given + m.keptControlPlanes(); named > planned {
		return named, "those that are there and those named under servers"
	}
	return planned, "as many as before"
}

// checkGrownPlanes judges the number of control planes of a cluster that
// changes. It never blocks: what is done can only be changed node by node.
func (m *maker) checkGrownPlanes(planes, want int, why string) {
	if planes != want {
		m.add(fleet.CodeTooFewServers, fleet.Warning, "", "cluster.controlPlanes",
			fmt.Sprintf("%d control planes are wanted (%s), but there will be %d", want, why, planes),
			"Add servers, or remove control planes with `metalrise node remove`; roles of installed servers never change.")
	}
	if planes%2 == 0 {
		m.add(fleet.CodeTooFewServers, fleet.Warning, "", "cluster.controlPlanes",
			fmt.Sprintf("%d control planes bear no more failures than %d would, and there is one more that can fail", planes, max(planes-1, 1)),
			"Have an odd number: add or remove one.")
	}
}

// keptNames lists whose names are taken for good.
func (m *maker) keptNames() map[string]*draft {
	out := map[string]*draft{}
	for _, d := range m.drafts {
		if d.kept {
			out[d.Hostname] = d
		}
	}
	return out
}

// plannedNames are the names of the previous plan. Its servers that left may
// still be remembered under them, so nobody new gets one.
func (m *maker) plannedNames() map[string]bool {
	out := map[string]bool{}
	if m.before != nil {
		for _, a := range m.before.Assignments {
			out[a.Hostname] = true
		}
	}
	return out
}

// takePlannedNames lets servers that the previous plan had, but that are not
// done, keep the name that was counted out for them.
func (m *maker) takePlannedNames(domain string, owner map[string]*draft) {
	for _, d := range m.fresh() {
		if d.planned == nil || d.override.Hostname != "" {
			continue
		}
		name := d.planned.Hostname
		label, _, _ := strings.Cut(name, ".")
		number, counted := strings.CutPrefix(label, m.stem(d))
		if !counted || number == "" || strings.Trim(number, "0123456789") != "" || withDomain(label, domain) != name || owner[name] != nil {
			continue // another role, another domain, or a name that a person gave
		}
		owner[name] = d
		d.Hostname = name
		d.because("host name %s: as in the plan before", name)
		m.checkNameLength(d, "name")
	}
}

// keptAddresses lists whose addresses are taken for good.
func (m *maker) keptAddresses() map[netip.Addr]*draft {
	out := map[netip.Addr]*draft{}
	for _, d := range m.drafts {
		if p, err := netip.ParsePrefix(d.Network.Address); err == nil && d.kept {
			out[p.Addr()] = d
		}
	}
	return out
}

// plannedAddresses are those of the previous plan: a server that left may still
// be switched on and have it.
func (m *maker) plannedAddresses() map[netip.Addr]fleet.ServerID {
	out := map[netip.Addr]fleet.ServerID{}
	if m.before != nil {
		for _, a := range m.before.Assignments {
			if p, err := netip.ParsePrefix(a.Network.Address); err == nil {
				out[p.Addr()] = a.Server
			}
		}
	}
	return out
}

// takePlannedAddresses does for addresses what takePlannedNames does for names.
func (m *maker) takePlannedAddresses(s subnet, owner map[netip.Addr]*draft) {
	for _, d := range m.fresh() {
		if d.planned == nil || d.override.Address != "" {
			continue
		}
		p, err := netip.ParsePrefix(d.planned.Network.Address)
		if err != nil || p.Masked() != s.prefix || s.usable(p.Addr()) != "" || s.taken[p.Addr()] != "" || owner[p.Addr()] != nil {
			continue
		}
		owner[p.Addr()] = d
		d.Network.Address = p.String()
		d.because("address %s: as in the plan before", p)
	}
}

// difference gathers, by field of the site file, the kept servers it would change.
type difference struct {
	path  string
	hosts []string
}

// checkKept tells which words of the site are not applied to kept servers.
func (m *maker) checkKept() {
	var all []difference
	for _, d := range m.drafts {
		if !d.kept {
			continue
		}
		for _, path := range m.differences(d) {
			i := slices.IndexFunc(all, func(x difference) bool { return x.path == path })
			if i < 0 {
				i, all = len(all), append(all, difference{path: path})
			}
			all[i].hosts = append(all[i].hosts, d.Hostname)
		}
		if d.override.Role == fleet.Excluded {
			m.add(fleet.CodeNodeShape, fleet.Warning, d.Server, d.path("role"),
				fmt.Sprintf("%s is installed; excluding it here does not take it away", d.Hostname), "Use `metalrise node remove` first.")
		}
	}
	for _, x := range all {
		shown := x.hosts[:min(len(x.hosts), 12)]
		text := strings.Join(shown, ", ")
		if more := len(x.hosts) - len(shown); more > 0 {
			text += fmt.Sprintf(" and %d more", more)
		}
		m.add(fleet.CodeNodeShape, fleet.Warning, "", x.path, fmt.Sprintf("%s is not applied to what is installed already: %s", x.path, text),
			"Servers to be installed follow it. To apply it to an installed one, replace that with `metalrise node replace`.")
	}
}

// differences lists the fields of the site that say something else than a kept
// server's assignment.
func (m *maker) differences(d *draft) []string {
	var out []string
	note := func(path string, differs bool) {
		if differs {
			out = append(out, path)
		}
	}
	o, n, net, v := d.override, m.in.Site.Network, d.Network, m.in.Site.Virtualization
	domain := strings.ToLower(strings.Trim(m.in.Site.Cluster.Domain, "."))
	label, _, _ := strings.Cut(d.Hostname, ".")
	note(d.path("role"), o.Role != "" && o.Role != fleet.Excluded && o.Role != d.Role)
	note(d.path("hostname"), o.Hostname != "" && withDomain(strings.ToLower(o.Hostname), domain) != d.Hostname)
	note("cluster.domain", o.Hostname == "" && withDomain(label, domain) != d.Hostname)
	note(d.path("address"), o.Address != "" && !samePrefix(o.Address, net.Address))
	note(d.path("mac"), o.MAC != "" && fleet.CleanMAC(o.MAC) != net.MAC)
	wwn, serial := fleet.CleanWWN(o.Disk.WWN), strings.TrimSpace(o.Disk.Serial)
	note(d.path("disk"), wwn != "" && wwn != d.InstallDisk.WWN || serial != "" && serial != d.InstallDisk.Serial)
	note("network.firstAddress", m.subnet.prefix.IsValid() && !inNetwork(net.Address, m.subnet.prefix))
	note("network.gateway", n.Gateway != net.Gateway)
	note("network.dns", !slices.Equal(n.DNS, net.DNS))
	note("network.ntp", !slices.Equal(n.NTP, net.NTP))
	note("network.vlan", n.VLAN != net.VLAN)
	note("network.mtu", n.MTU != net.MTU)
	note("network.bond", n.Bond != bondMode(net))
	profile := v.Profile
	if !knownProfile(profile) {
		profile = fleet.ProfileGeneral
	}
	note("virtualization.profile", profile != d.Hypervisor.Profile)
	note("virtualization.nested", v.Nested != d.Hypervisor.Nested)
	note("virtualization.hugepagesGiB", v.HugepagesGiB != d.Hypervisor.HugepagesGiB)
	note("access.sshKeys", !slices.Equal(m.in.Site.Access.SSHKeys, d.Access.SSHKeys))
	note("access.caCertificates", !slices.Equal(m.in.Site.Access.CACertificates, d.Access.CACertificates))
	return append(out, m.nodeDifferences(d)...)
}

func bondMode(n fleet.Network) string {
	if n.Bond == nil {
		return ""
	}
	return n.Bond.Mode
}

func samePrefix(a, b string) bool {
	p, err := netip.ParsePrefix(a)
	q, err2 := netip.ParsePrefix(b)
	return err == nil && err2 == nil && p == q
}

func inNetwork(address string, network netip.Prefix) bool {
	p, err := netip.ParsePrefix(address)
	return err == nil && p.Masked() == network
}
