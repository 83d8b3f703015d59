package plan

import (
	"fmt"
	"strings"

	"metalrise.dev/fleet"
)

// matchOverrides finds the server of each entry under servers.
func (m *maker) matchOverrides() {
	for i, o := range m.in.Site.Servers {
		at := fmt.Sprintf("servers[%d]", i)
		want := fleet.Identity{Serial: strings.TrimSpace(o.Serial)}
		if o.UUID != "" {
			want.UUID = fleet.NewIdentity(o.UUID, "").UUID
			if want.UUID == "" {
				m.add(fleet.CodeSiteInvalid, fleet.Blocker, "", at+".uuid", fmt.Sprintf("%q is no UUID", o.UUID),
					"Write it as 8-4-4-4-12 hexadecimal digits, as `metalrise inspect` shows it.")
				continue
			}
		}
		d := m.find(want)
		if d == nil {
			m.unknownServer(at, want)
			continue
		}
		if d.overrideAt != "" {
			m.add(fleet.CodeSiteInvalid, fleet.Blocker, d.Server, at,
				fmt.Sprintf("%s and %s both speak of server %s", d.overrideAt, at, d.Server), "Join the two entries into one.")
			continue
		}
		d.override, d.overrideAt = o, at
	}
}

// find gives the server that has every part of want.
func (m *maker) find(want fleet.Identity) *draft {
	if want.ID() == "" {
		return nil
	}
	for _, d := range m.drafts {
		if (want.Serial == "" || want.Serial == d.Identity.Serial) && (want.UUID == "" || want.UUID == d.Identity.UUID) {
			return d
		}
	}
	return nil
}

// unknownServer reports an entry that fits no server. It blocks even when the
// entry only excludes: with a mistyped serial the wrong server would be erased.
func (m *maker) unknownServer(at string, want fleet.Identity) {
	text := fmt.Sprintf("no enrolled server has serial %q", want.Serial)
	switch {
	case want.ID() == "":
		text = "the entry names no server"
	case want.Serial == "":
		text = fmt.Sprintf("no enrolled server has UUID %q", want.UUID)
	case want.UUID != "":
		text = fmt.Sprintf("no enrolled server has both serial %q and UUID %q", want.Serial, want.UUID)
	}
	remedy := "Correct it, or run discover and inspect again when the server was added later."
	for _, d := range m.drafts {
		if want.Serial != "" && strings.EqualFold(want.Serial, d.Identity.Serial) && want.Serial != d.Identity.Serial {
			remedy = fmt.Sprintf("Did you mean %q? Serials are compared with upper and lower case.", d.Identity.Serial)
		}
	}
	m.add(fleet.CodeSiteUnknownServer, fleet.Blocker, "", at, text, remedy)
}

// chooseRoles takes the roles people gave and fills up the rest.
func (m *maker) chooseRoles() {
	var free []*draft
	given := map[fleet.Role]int{}
	for _, d := range m.drafts {
		if d.kept {
			continue
		}
		switch r := d.override.Role; r {
		case "":
			free = append(free, d)
			continue
		case fleet.ControlPlane, fleet.Worker, fleet.SingleNode, fleet.Excluded:
			d.setRole(r, "role %s: named under %s", r, d.overrideAt)
			given[r]++
		default:
			m.add(fleet.CodeSiteInvalid, fleet.Blocker, d.Server, d.path("role"), fmt.Sprintf("%q is no role", r),
				"Use control-plane, worker, single-node or excluded.")
			free = append(free, d)
		}
	}
	n := len(m.drafts) - given[fleet.Excluded]
	if n == 0 {
		where, remedy := "bmcs.addresses", "Run discover and inspect and read their findings, or exclude fewer servers."
		if len(m.in.Site.BMCs.Addresses) == 0 && len(m.in.Site.Rules) > 0 {
			where, remedy = "rules", "Run metalrise serve and switch the servers on: machines that match a rule are enrolled. Or exclude fewer servers."
		}
		m.add(fleet.CodeNoServers, fleet.Blocker, "", where, fmt.Sprintf("none of %d enrolled servers is left to install", len(m.in.Servers)), remedy)
		return
	}
	if given[fleet.SingleNode] > 0 && n > 1 {
		m.add(fleet.CodeTooFewServers, fleet.Blocker, "", "servers", fmt.Sprintf("a single node stands alone, but %d servers are to be installed", n),
			"Exclude the others, or give it the role control-plane.")
	}
	if n == 1 && len(free) == 1 && m.in.Site.Cluster.ControlPlanes <= 1 {
		free[0].setRole(fleet.SingleNode, "role single-node: the only server")
		return
	}
	m.fillRoles(free, n, given)
}

func (m *maker) fillRoles(free []*draft, n int, given map[fleet.Role]int) {
	want, why := m.wantControlPlanes(n, given[fleet.ControlPlane], len(free))
	planes := given[fleet.ControlPlane] + given[fleet.SingleNode] + m.keptControlPlanes()
	for _, d := range free {
		if planes < want {
			planes++
			d.setRole(fleet.ControlPlane, "role control-plane: number %d of %d (%s), in the order of BMC addresses", planes, want, why)
		} else {
			d.setRole(fleet.Worker, "role worker: the %d control planes (%s) come earlier in the order of BMC addresses or are named under servers", want, why)
		}
	}
	if given[fleet.SingleNode] > 0 {
		return // judged by chooseRoles
	}
	if m.before != nil {
		m.checkGrownPlanes(planes, want, why)
		return
	}
	if planes != want {
		m.add(fleet.CodeTooFewServers, fleet.Blocker, "", "cluster.controlPlanes",
			fmt.Sprintf("%d control planes are wanted (%s), but %d servers can be or were made such", want, why, planes),
			"Add servers, change the roles under servers, or set cluster.controlPlanes to 1, 3 or 5 as it fits.")
	}
}

// wantControlPlanes decides how many control planes there should be, and why.
func (m *maker) wantControlPlanes(n, given, free int) (int, string) {
	switch c := m.in.Site.Cluster.ControlPlanes; c {
	case 0:
	case 1, 3, 5:
		return c, "cluster.controlPlanes"
	default:
		m.add(fleet.CodeSiteInvalid, fleet.Blocker, "", "cluster.controlPlanes", fmt.Sprintf("%d control planes cannot hold a majority well", c),
			"Use 1, 3 or 5, or leave it out.")
	}
	if m.before != nil {
		return m.wantAsBefore(given)
	}
	if n == 1 {
		return 1, "one server"
	}
	if n == 2 {
		if free > 0 {
			m.add(fleet.CodeTooFewServers, fleet.Blocker, "", "cluster.controlPlanes",
				"two servers can be one control plane and one worker, which stops when the first fails; a person has to want that",
				"Set cluster.controlPlanes to 1, exclude one server, or add a third.")
		}
		return 1, "two servers"
	}
	switch {
	case given > 3:
		return 5, "five because more than three are named under servers"
	case free == 0 && given == 1:
		return 1, "all roles are named under servers"
	}
	return 3, "the default from three servers on"
}

func (d *draft) setRole(r fleet.Role, why string, args ...any) {
	d.Role = r
	switch r {
	case fleet.Worker:
		d.Wave = waveWorker
	case fleet.Excluded:
		d.Wave = waveExcluded
	default:
		d.Wave = waveControl
	}
	d.because(why, args...)
}
