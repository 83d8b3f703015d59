package ring

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"strings"

	"metalrise.dev/fleet"
)

// isControl tells whether a node is a control plane of the plan.
func isControl(p fleet.Plan, name string) bool {
	return slices.ContainsFunc(p.Assignments, func(a fleet.Assignment) bool {
		return a.Node != nil && a.Node.Name == name && a.Role != fleet.Worker
	})
}

// whyNot says why a proof cannot be run for a plan, in words for people; "" when
// it can. A plan that is missing servers since it was made says other things than
// it did then.
func whyNot(p fleet.Plan, proof fleet.Proof) string {
	if p.Stack == nil {
		return "the plan has no VM platform"
	}
	return fleet.GroundOf(p).WhyNot(proof)
}

// Move is one step round the ring.
type Move struct{ From, To string }

// Moves lists where each node's VM moves: to the next node in the list that can
// take it, round the ring. may lists for each node those that can; a node that is
// not in it is not known to be limited. A node without any target has no move.
func Moves(nodes []string, may map[string][]string) []Move {
	var moves []Move
	for i, from := range nodes {
		for step := 1; step < len(nodes); step++ {
			to := nodes[(i+step)%len(nodes)]
			if can, known := may[from]; !known || slices.Contains(can, to) {
				moves = append(moves, Move{from, to})
				break
			}
		}
	}
	return moves
}

// node is a hypervisor as a choice for a proof that takes it away from others.
type node struct {
	name      string
	control   bool // it is a control plane as well
	strangers int  // VMs on it that are not ours
}

// victim chooses the node to take away, and the others that its VM may go to.
// VMs of other people are not moved for a proof, so a node with some is not
// chosen; of the rest a worker before a control plane, and then the last in the
// list. all are the nodes that its VM may go to. why says that there is none.
func victim(nodes []node, may map[string][]string, all []string) (name string, others []string, why string) {
	free := slices.DeleteFunc(slices.Clone(nodes), func(n node) bool { return n.strangers > 0 })
	slices.SortStableFunc(free, func(a, b node) int {
		return cmp.Compare(rank(a), rank(b))
	})
	slices.Reverse(free)
	for _, n := range free {
		for _, other := range all {
			if can, known := may[n.name]; other != n.name && (!known || slices.Contains(can, other)) {
				others = append(others, other)
			}
		}
		if len(others) > 0 {
			return n.name, others, ""
		}
	}
	switch {
	case len(all) < 2:
		return "", nil, fmt.Sprintf("%d hypervisors are ready for VMs, two are needed", len(all))
	case len(nodes) == 0:
		return "", nil, "every hypervisor is a control plane that the cluster cannot be without"
	case len(free) == 0:
		return "", nil, "each hypervisor runs VMs of others, which a proof does not touch"
	}
	return "", nil, "no two hypervisors have processors between which VMs can move"
}

// rank is higher for what is taken away rather.
func rank(n node) int {
	if n.control {
		return 0
	}
	return 1
}

// pair gives the two addresses that the proof takes in a VM network: near the
// end of the subnet, where neither gateways nor pools of DHCP servers usually
// are; without a subnet link-local ones (RFC 3927) that only this network has.
func pair(n fleet.VMNetwork) ([2]netip.Prefix, error) {
	if n.Subnet == "" {
		hash := fnv.New32a()
		hash.Write([]byte(n.Name))
		third := byte(1 + hash.Sum32()%254) // 169.254.0 and .255 are reserved
		return [2]netip.Prefix{
			netip.PrefixFrom(netip.AddrFrom4([4]byte{169, 254, third, 11}), 16),
			netip.PrefixFrom(netip.AddrFrom4([4]byte{169, 254, third, 12}), 16),
		}, nil
	}
	p, err := netip.ParsePrefix(n.Subnet)
	if err != nil || !p.Addr().Is4() || p.Bits() > 29 {
		return [2]netip.Prefix{}, fmt.Errorf("VM network %s: subnet %q is no IPv4 subnet of /29 or larger", n.Name, n.Subnet)
	}
	last := p.Masked().Addr().As4()
	for i := range last {
		bits := min(max(p.Bits()-8*i, 0), 8)
		last[i] |= byte(0xff >> bits)
	}
	a, b := last, last
	a[3] -= 4 // broadcast, and two that are gateways' favourites, stay free
	b[3] -= 3
	return [2]netip.Prefix{netip.PrefixFrom(netip.AddrFrom4(a), p.Bits()), netip.PrefixFrom(netip.AddrFrom4(b), p.Bits())}, nil
}

// listed joins names for people.
func listed(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// pairs joins each node with another one, so that each is in at least one pair.
func pairs(nodes []string) []Move {
	if len(nodes) == 1 {
		return []Move{{nodes[0], nodes[0]}}
	}
	var out []Move
	for i := 0; i+1 < len(nodes); i += 2 {
		out = append(out, Move{nodes[i], nodes[i+1]})
	}
	if len(nodes)%2 == 1 {
		out = append(out, Move{nodes[len(nodes)-1], nodes[0]})
	}
	return out
}

// attachment is the name of a VM network's NetworkAttachmentDefinition.
func attachment(n fleet.VMNetwork) string { return "default/" + n.Name }
