package fleet

import (
	"slices"
	"strings"
)

// Rule recognises machines that nobody named, by what they show of themselves. A
// machine that matches is enrolled; it is installed only when a plan names it and a
// person consented to that.
type Rule struct {
	Name  string `json:"name" yaml:"name"`
	Role  Role   `json:"role" yaml:"role"` // control-plane or worker
	Match Match  `json:"match" yaml:"match"`
}

// Match is what a machine must show: all of what is given. What is not known of a
// machine does not match.
type Match struct {
	Manufacturer string `json:"manufacturer,omitempty" yaml:"manufacturer,omitempty"` // equal; case ignored
	Model        string `json:"model,omitempty" yaml:"model,omitempty"`               // equal; case ignored
	MACPrefix    string `json:"macPrefix,omitempty" yaml:"macPrefix,omitempty"`       // of at least one port: "b4:45:06"
	MemoryGiB    int    `json:"memoryGiB,omitempty" yaml:"memoryGiB,omitempty"`       // at least
	Cores        int    `json:"cores,omitempty" yaml:"cores,omitempty"`               // at least, all sockets
	Disks        int    `json:"disks,omitempty" yaml:"disks,omitempty"`               // at least; removable ones do not count
}

// Names tells whether the match names a kind of machine and not only a least
// size, which any machine may have.
func (m Match) Names() bool { return m.Manufacturer != "" || m.Model != "" || m.MACPrefix != "" }

// Fits tells whether a machine shows all that is asked for.
func (m Match) Fits(f Facts) bool {
	same := func(want string, got Maybe[string]) bool {
		v, ok := got.Get()
		return want == "" || ok && strings.EqualFold(strings.TrimSpace(v), strings.TrimSpace(want))
	}
	disks := 0
	for _, d := range f.Disks {
		if !d.Removable {
			disks++
		}
	}
	prefix := strings.ToLower(m.MACPrefix)
	return m.Names() && same(m.Manufacturer, f.Manufacturer) && same(m.Model, f.Model) &&
		(prefix == "" || slices.ContainsFunc(f.NICs, func(n NIC) bool { return strings.HasPrefix(strings.ToLower(n.MAC), prefix) })) &&
		f.MemoryMiB.Or(0) >= int64(m.MemoryGiB)<<10*memoryTolerance/100 && f.CPU.Cores.Or(0) >= m.Cores && disks >= m.Disks
}

// memoryTolerance is the part, in percent, of the memory as sold that a system sees at
// least: firmware keeps some for itself.
const memoryTolerance = 95

// RulesFor lists the site's rules that a machine matches, in their order. Only one
// that stands alone counts.
func (s Site) RulesFor(f Facts) []Rule {
	var out []Rule
	for _, r := range s.Rules {
		if r.Match.Fits(f) {
			out = append(out, r)
		}
	}
	return out
}

// byHand is what the address of a server begins with that has no BMC of ours: it
// is started by somebody.
const byHand = "by-hand/"

// ByHand is the endpoint of a server that has no BMC.
func ByHand(s ServerID) Endpoint {
	return Endpoint{Address: byHand + string(s), Product: "started by hand"}
}

// IsByHand tells whether there is no BMC behind the endpoint.
func (e Endpoint) IsByHand() bool { return strings.HasPrefix(e.Address, byHand) }
