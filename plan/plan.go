package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"sort"
	"strings"
	"time"

	"metalrise.dev/fleet"
)

// Input is all that a plan depends on.
type Input struct {
	Site       fleet.Site
	SiteDigest string // of the site as its file says it
	Servers    []fleet.Server
	Facts      map[fleet.ServerID]fleet.Facts // of servers that were inspected
	Image      fleet.ImageRef
	// ImageProblem says why Image is empty, when it is.
	ImageProblem string
	Now          time.Time // decides only whether facts are old
	// IgnitionDigest gives the digest of the installed system's config for one
	// complete assignment. Nil leaves the digests empty.
	IgnitionDigest func(fleet.Assignment) (string, error)

	// Payload is the software under cluster.software, nil when there is none;
	// PayloadProblem says why it is nil although the site names one.
	Payload        *fleet.Payload
	PayloadProblem string
	// Manifests is the content of the file under cluster.cniManifests;
	// ManifestsProblem says why it is empty although the site names one.
	Manifests        string
	ManifestsProblem string
	// Previous is the plan that was applied last, and Done its servers that were
	// installed and not removed since. It binds nothing before one server is done.
	Previous *fleet.Plan
	Done     map[fleet.ServerID]bool
	// Unbegun says that nobody began the cluster of Previous yet, so that its
	// settings may still follow the site.
	Unbegun bool
	// FromScratch goes into the plan as it is; with it Previous is nil.
	FromScratch string
}

// Waves in which servers are listed and later joined.
const (
	waveControl  = 0
	waveWorker   = 1
	waveExcluded = 2
)

// draft is one server's assignment in the making.
type draft struct {
	fleet.Assignment
	pos        position
	facts      fleet.Facts
	hasFacts   bool
	override   fleet.Override    // zero when nobody insists on anything
	overrideAt string            // "servers[2]", "" without an override
	kept       bool              // done under the previous plan; nothing of it is decided
	planned    *fleet.Assignment // of the previous plan, when it was not done
}

func (d *draft) because(format string, args ...any) {
	d.Reasons = append(d.Reasons, fmt.Sprintf(format, args...))
}

// path names a field of the server's entry in the site file, or the place
// where such an entry would stand.
func (d *draft) path(field string) string {
	if d.overrideAt == "" {
		return "servers[]." + field
	}
	return d.overrideAt + "." + field
}

// maker gathers drafts and findings of one plan.
type maker struct {
	in       Input
	drafts   []*draft // in the order of servers, without duplicates
	findings []fleet.Finding
	before   *fleet.Plan        // the previous plan, nil when nothing of it is done
	cluster  *fleet.ClusterPlan // nil: none is wished
	stack    *fleet.StackPlan   // nil: it ends with ready nodes
	// continued says that the cluster was begun under the plan before.
	continued bool
	subnet    subnet // of the servers; its prefix is zero when it cannot be read
}

// Make decides everything. The result always has an id and may be shown to
// people; whether it may be applied says Plan.Blocked. Findings stand with
// blockers first, then in the order of servers.
func Make(in Input) fleet.Plan {
	m := &maker{in: in}
	m.checkImage()
	m.checkVirtualization()
	m.gatherServers()
	m.recall()
	m.matchOverrides()
	m.chooseRoles()
	m.chooseNames()
	m.chooseCluster()
	m.chooseAddresses()
	m.finishCluster()
	for _, d := range m.fresh() {
		m.checkFacts(d)
		if !d.hasFacts {
			continue
		}
		m.chooseNIC(d)
		m.chooseDisk(d)
		m.chooseHypervisor(d)
	}
	m.checkSharedMACs()
	m.checkSharedDisks()
	m.chooseNodes()
	m.chooseStack()
	m.checkKept()
	m.digestConfigs()
	return m.seal()
}

func (m *maker) add(code fleet.Code, severity fleet.Severity, server fleet.ServerID, path, text, remedy string) {
	m.findings = append(m.findings, fleet.Finding{
		Code: code, Severity: severity, Server: server, Path: path, Text: text, Remedy: remedy,
	})
}

// active lists the drafts of servers that are installed or to be installed.
func (m *maker) active() []*draft {
	var out []*draft
	for _, d := range m.drafts {
		if d.Role != fleet.Excluded {
			out = append(out, d)
		}
	}
	return out
}

// fresh lists those of active that are yet to be installed.
func (m *maker) fresh() []*draft {
	return slices.DeleteFunc(m.active(), func(d *draft) bool { return d.kept })
}

func (m *maker) checkImage() {
	i := m.in.Image
	if i.ISOSHA256 == "" || i.DiskSHA256 == "" {
		why := m.in.ImageProblem
		if why == "" {
			why = "the operating system release does not name its ISO and disk image by digest"
		}
		m.add(fleet.CodeImageMissing, fleet.Blocker, "", "image", why,
			"Point image at the folder or stream file of a complete release.")
	}
}

// gatherServers orders the servers and leaves out those that cannot be told apart.
func (m *maker) gatherServers() {
	order := newOrder(m.in.Site.BMCs)
	all := make([]*draft, 0, len(m.in.Servers))
	for _, s := range m.in.Servers {
		if s.ID == "" {
			s.ID = s.Identity.ID()
		}
		d := &draft{pos: order.of(s)}
		d.Server, d.Identity, d.BMC = s.ID, s.Identity, s.BMC
		d.BootRoute, d.Access = fleet.VirtualMedia, m.in.Site.Access
		all = append(all, d)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].pos.less(all[j].pos) })
	for _, d := range all {
		if d.Server == "" || d.Identity.ID() == "" {
			m.add(fleet.CodeNoIdentity, fleet.Blocker, d.Server, "bmcs.addresses",
				fmt.Sprintf("the server behind %s shows neither a usable serial nor a system UUID", d.BMC.Address),
				"Set its serial number in the firmware, or take its address out of bmcs.addresses.")
			continue
		}
		if twin := m.twin(d); twin != nil {
			m.add(fleet.CodeDuplicateIdentity, fleet.Blocker, twin.Server, "bmcs.addresses",
				fmt.Sprintf("%s and %s both show the server with serial %q and UUID %q", twin.BMC.Address, d.BMC.Address, twin.Identity.Serial, twin.Identity.UUID),
				"Leave one of the addresses out, or correct the placeholder serial or UUID in the firmware.")
			continue
		}
		d.facts, d.hasFacts = m.in.Facts[d.Server]
		m.drafts = append(m.drafts, d)
	}
}

// twin finds an earlier server that shows the same serial or UUID.
func (m *maker) twin(d *draft) *draft {
	for _, e := range m.drafts {
		if e.Server == d.Server ||
			e.Identity.Serial != "" && e.Identity.Serial == d.Identity.Serial ||
			e.Identity.UUID != "" && e.Identity.UUID == d.Identity.UUID {
			return e
		}
	}
	return nil
}

// position is a server's place in the order of servers.
type position struct {
	entry   int // in bmcs.addresses
	host    string
	address netip.Addr
	port    string
	server  string // id, UUID and path, to order what shares an address
}

func (p position) less(q position) bool {
	switch {
	case p.entry != q.entry:
		return p.entry < q.entry
	case p.address != q.address:
		return p.address.Less(q.address)
	case p.host != q.host:
		return p.host < q.host
	case p.port != q.port:
		return p.port < q.port
	}
	return p.server < q.server
}

// order knows the entries of bmcs.addresses.
type order struct{ entries []fleet.AddressRange }

func newOrder(b fleet.BMCs) order {
	var o order
	for _, s := range b.Addresses {
		r, err := fleet.ParseAddressRange(s)
		if err != nil {
			r = fleet.AddressRange{} // contains nothing; package fleet/site reports it
		}
		o.entries = append(o.entries, r)
	}
	return o
}

func (o order) of(s fleet.Server) position {
	host, port := fleet.SplitAddress(s.BMC.Address)
	p := position{entry: len(o.entries), host: host, port: fmt.Sprintf("%6s", port)}
	p.server = strings.Join([]string{string(s.ID), s.Identity.UUID, s.Identity.Serial, s.BMC.SystemURI, s.BMC.Username, s.BMC.Fingerprint}, "\x00")
	if a, err := netip.ParseAddr(host); err == nil {
		p.address = a.Unmap()
	}
	for i, e := range o.entries {
		// An entry with a port of its own covers only BMCs on that port.
		if e.Contains(host) && (e.Port == 0 || fmt.Sprint(e.Port) == port) {
			p.entry = i
			break
		}
	}
	return p
}

// digestConfigs asks for the digest of every complete assignment's config.
func (m *maker) digestConfigs() {
	if m.in.IgnitionDigest == nil {
		return
	}
	for _, d := range m.fresh() {
		if d.Hostname == "" || d.Network.Address == "" || d.Network.MAC == "" || d.InstallDisk == (fleet.DiskRef{}) {
			continue // a blocker says why; there is no config to digest
		}
		digest, err := m.in.IgnitionDigest(d.Assignment)
		if err != nil {
			code := fleet.CodeOf(err)
			remedy := "Read the cause; correct the site file or the facts it names."
			if page, ok := fleet.Page(code); ok && code != fleet.CodeUnexpected {
				remedy = page.Remedy
			}
			m.add(code, fleet.Blocker, d.Server, "servers", fmt.Sprintf("no configuration can be made for %s: %v", d.Hostname, err), remedy)
			continue
		}
		d.Ignition = digest
	}
}

func (m *maker) seal() fleet.Plan {
	p := fleet.Plan{
		APIVersion: fleet.APIVersion, FromScratch: m.in.FromScratch,
		Site:       m.in.Site.Name,
		SiteDigest: m.in.SiteDigest,
		Image:      m.in.Image,
		Cluster:    m.cluster,
		Stack:      m.stack,
	}
	used := map[fleet.ServerID]fleet.Facts{}
	for _, d := range m.drafts {
		p.Assignments = append(p.Assignments, d.Assignment)
		if d.hasFacts {
			used[d.Server] = d.facts
		}
	}
	digest, err := fleet.Digest(used)
	if err != nil { // a time no calendar has; everything else has a JSON form
		m.add(fleet.CodeFactsMissing, fleet.Blocker, "", "facts", "the facts have no digest: "+err.Error(), "Run inspect again.")
	}
	p.FactsDigest = digest
	p.Findings = m.sortedFindings()
	if err := p.Seal(); err != nil {
		// Only a type without a JSON form could cause it, and a plan has none. A
		// plan without an id must not be applied, so it is blocked all the same.
		p.ID = ""
		p.Findings = append(p.Findings, fleet.Finding{Code: fleet.CodeUnexpected, Severity: fleet.Blocker, Path: "plan", Text: err.Error(), Remedy: "Report this."})
	}
	return p
}

// sortedFindings puts blockers first; inside a severity the whole site comes
// before single servers, and these in their order.
func (m *maker) sortedFindings() []fleet.Finding {
	place := map[fleet.ServerID]int{}
	for i, d := range m.drafts {
		place[d.Server] = i + 1
	}
	rank := func(s fleet.Severity) int {
		switch s {
		case fleet.Blocker:
			return 0
		case fleet.Warning:
			return 1
		}
		return 2
	}
	out := append([]fleet.Finding{}, m.findings...)
	sort.SliceStable(out, func(i, j int) bool {
		a, b := out[i], out[j]
		if rank(a.Severity) != rank(b.Severity) {
			return rank(a.Severity) < rank(b.Severity)
		}
		return place[a.Server] < place[b.Server]
	})
	return out
}
