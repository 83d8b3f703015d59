package fleet

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"strings"
)

// Plan is every decision of one site. It is immutable: change the site or the
// facts and make another one. ID is the digest of all other fields.
type Plan struct {
	APIVersion  string       `json:"apiVersion"`
	ID          string       `json:"id"`
	Site        string       `json:"site"`       // name
	SiteDigest  string       `json:"siteDigest"` // of the site it was made from
	FactsDigest string       `json:"factsDigest"`
	Image       ImageRef     `json:"image"`
	Cluster     *ClusterPlan `json:"cluster,omitempty"` // nil: hosts are installed and that is all
	Stack       *StackPlan   `json:"stack,omitempty"`   // nil: it ends with ready nodes
	Assignments []Assignment `json:"assignments"`       // sorted by wave, then host name as of CompareNames
	Findings    []Finding    `json:"findings"`
	// FromScratch names the plan that a person wants forgotten, with the time of
	// that wish: everything is installed anew. "" keeps what is installed.
	FromScratch string `json:"fromScratch,omitempty"`
}

// ImageRef is an operating system release by digest.
type ImageRef struct {
	Stream     string `json:"stream"`
	Version    string `json:"version"`
	ISOSHA256  string `json:"isoSHA256"`
	DiskSHA256 string `json:"diskSHA256"` // of the uncompressed disk image
	DiskBytes  int64  `json:"diskBytes"`  // uncompressed size; 0 when the release does not say
}

// Assignment is what happens to one server, with no choice left.
type Assignment struct {
	Server      ServerID   `json:"server"`
	Identity    Identity   `json:"identity"`
	BMC         Endpoint   `json:"bmc"`
	Role        Role       `json:"role"`
	Wave        int        `json:"wave"` // servers of wave n+1 are independent of it; order of start
	Hostname    string     `json:"hostname"`
	Network     Network    `json:"network"`
	InstallDisk DiskRef    `json:"installDisk"`
	KeepDisks   []DiskRef  `json:"keepDisks,omitempty"` // the others, never written
	BootRoute   BootRoute  `json:"bootRoute"`           // the first of the ladder
	Hypervisor  Hypervisor `json:"hypervisor"`
	Access      Access     `json:"access"`
	Reasons     []string   `json:"reasons"`           // why each choice was made, for people
	Ignition    string     `json:"ignition"`          // digest of the installed system's config, without the run's own addresses and tokens
	Foreign     string     `json:"foreign,omitempty"` // serial of the foreign disk a person allowed to erase
	Node        *NodePlan  `json:"node,omitempty"`    // nil exactly where Plan.Cluster is
	Bridges     []VMBridge `json:"bridges,omitempty"` // by which VMs leave the node, sorted by name
	// BootRoutes is the boot ladder of this server in the order in which it is
	// tried; empty means BootRoutes(), all there are.
	BootRoutes []BootRoute `json:"bootRoutes,omitempty"`
	// Medium is what the BMC is given; "" is AutoMedium.
	Medium Medium `json:"medium,omitempty"`
	// Kept is the id of the plan under which this server was installed. It is
	// neither erased nor restarted; all else here stays as that plan said.
	Kept string `json:"kept,omitempty"`
}

// Network is the final network of one server.
type Network struct {
	MAC     string   `json:"mac"`            // the port that carries the address, or the bond's first
	Bond    *Bond    `json:"bond,omitempty"` // nil: no bond
	VLAN    int      `json:"vlan,omitempty"` // 0: untagged
	MTU     int      `json:"mtu,omitempty"`  // 0: the kernel's own
	Address string   `json:"address"`        // "10.0.1.21/24"
	Gateway string   `json:"gateway,omitempty"`
	DNS     []string `json:"dns,omitempty"`
	NTP     []string `json:"ntp,omitempty"`
}

// Has tells whether a MAC address is one of the network's ports.
func (n Network) Has(mac string) bool {
	if strings.EqualFold(n.MAC, mac) {
		return true
	}
	return n.Bond != nil && slices.ContainsFunc(n.Bond.MACs, func(m string) bool { return strings.EqualFold(m, mac) })
}

// Bond joins several ports.
type Bond struct {
	Mode string   `json:"mode"` // "active-backup" or "802.3ad"
	MACs []string `json:"macs"` // of its ports, sorted
}

// Hypervisor is how KVM is set up on one server.
type Hypervisor struct {
	// Vendor is "intel" or "amd", which decides the kernel module; "" when the
	// facts did not tell: both are then listed and the one that fits loads.
	Vendor       string  `json:"vendor,omitempty"`
	Profile      Profile `json:"profile"`
	Nested       bool    `json:"nested,omitempty"`
	HugepagesGiB int     `json:"hugepagesGiB,omitempty"`
}

// BootRoute is how the live system gets onto a machine.
type BootRoute string

const (
	VirtualMedia     BootRoute = "virtual-media"      // an ISO in the BMC's virtual drive, over HTTPS
	VirtualMediaHTTP BootRoute = "virtual-media-http" // the same over HTTP, for BMCs that cannot do our TLS
	UEFIHTTP         BootRoute = "uefi-http"          // the firmware loads a boot program over HTTP
	PXE              BootRoute = "pxe"                // DHCP and TFTP, then HTTP
	USB              BootRoute = "usb"                // a person writes the medium to a USB drive
)

// BootRoutes is the boot ladder of a server of which nothing special is known,
// the best route first.
func BootRoutes() []BootRoute {
	return []BootRoute{VirtualMedia, VirtualMediaHTTP, UEFIHTTP, PXE, USB}
}

// RouteFault is a route that did not carry, or was not tried, and why.
type RouteFault struct {
	Route  BootRoute `json:"route"`
	Medium Medium    `json:"medium,omitempty"` // the one that did not carry, where the same route goes on with another
	Cause  Cause     `json:"cause"`
}

// RouteOffer is one rung of a server's boot ladder.
type RouteOffer struct {
	Route    BootRoute `json:"route"`
	Unserved string    `json:"unserved,omitempty"` // why the engine cannot serve it now
}

// Severity orders findings.
type Severity string

const (
	Info    Severity = "info"
	Warning Severity = "warning"
	Blocker Severity = "blocker" // apply refuses the plan
)

// Finding is one remark about a plan. A planner reports all of them at once.
type Finding struct {
	Code     Code     `json:"code"`
	Severity Severity `json:"severity"`
	Server   ServerID `json:"server,omitempty"`
	Path     string   `json:"path"` // field of the site file or of the facts: "network.firstAddress", "servers[2].disk"
	Text     string   `json:"text"`
	Remedy   string   `json:"remedy"`
}

// ErasedDisks lists the disks that the plan erases, by server in plan order.
func (p Plan) ErasedDisks() []DiskRef {
	var out []DiskRef
	for _, a := range p.Assignments {
		if a.Role != Excluded && a.Kept == "" {
			out = append(out, a.InstallDisk)
		}
	}
	return out
}

// Blocked tells whether a finding forbids to apply the plan.
func (p Plan) Blocked() bool {
	for _, f := range p.Findings {
		if f.Severity == Blocker {
			return true
		}
	}
	return false
}

// Assignment finds the part for one server.
func (p Plan) Assignment(id ServerID) (Assignment, bool) {
	for _, a := range p.Assignments {
		if a.Server == id {
			return a, true
		}
	}
	return Assignment{}, false
}

// Seal sorts the plan and sets its ID.
func (p *Plan) Seal() error {
	sort.SliceStable(p.Assignments, func(i, j int) bool {
		a, b := p.Assignments[i], p.Assignments[j]
		if a.Wave != b.Wave {
			return a.Wave < b.Wave
		}
		if c := CompareNames(a.Hostname, b.Hostname); c != 0 {
			return c < 0
		}
		return a.Server < b.Server
	})
	p.ID = ""
	id, err := Digest(p)
	if err != nil {
		return fmt.Errorf("digest of plan: %w", err)
	}
	p.ID = id
	return nil
}

// CompareNames orders host names as people count: w2 before w10. Runs of digits
// are compared by their value, all else byte by byte; names that differ only in
// leading zeros come in the order of their bytes. It gives -1, 0 or 1.
func CompareNames(a, b string) int {
	digits := func(s string) int {
		n := 0
		for n < len(s) && s[n] >= '0' && s[n] <= '9' {
			n++
		}
		return n
	}
	x, y := a, b
	for x != "" && y != "" {
		n, k := digits(x), digits(y)
		if n == 0 || k == 0 {
			if x[0] != y[0] {
				return cmp.Compare(x[0], y[0])
			}
			x, y = x[1:], y[1:]
			continue
		}
		p, q := strings.TrimLeft(x[:n], "0"), strings.TrimLeft(y[:k], "0")
		if c := cmp.Or(cmp.Compare(len(p), len(q)), strings.Compare(p, q)); c != 0 {
			return c
		}
		x, y = x[n:], y[k:]
	}
	// The rest of the longer one comes later; nothing is left of both when only zeros differ.
	return cmp.Or(cmp.Compare(len(x), len(y)), strings.Compare(a, b))
}

// Digest is the SHA-256 of a value's JSON form, lower-case hexadecimal. Struct
// fields and map keys have a fixed order, so equal values have equal digests.
func Digest(v any) (string, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), nil
}
