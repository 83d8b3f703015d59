package plan_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"metalrise.dev/fleet"
	"metalrise.dev/plan"
)

// randomInput makes a site of up to 12 servers with facts of every quality.
func randomInput(r *rand.Rand) plan.Input {
	in := plan.Input{SiteDigest: "site", Facts: map[fleet.ServerID]fleet.Facts{}, Image: testImage(), Now: now}
	in.Site = fleet.Site{Name: "site", BMCs: fleet.BMCs{Addresses: []string{"10.0.9.64/26", "10.0.9.11-30"}},
		Network: fleet.SiteNetwork{FirstAddress: pick(r, "10.0.9.8/26", "10.0.1.250/24", "2001:db8::5/64", "10.0.1.1/29"), Gateway: pick(r, "", "10.0.1.251", "10.0.9.9"), Bond: pick(r, "", "", "active-backup")}}
	in.Site.Cluster.ControlPlanes = pick(r, 0, 0, 1, 3, 5)
	for i := range r.IntN(13) {
		id := fleet.ServerID(fmt.Sprintf("S%02d", i))
		in.Servers = append(in.Servers, fleet.Server{ID: id, Identity: fleet.Identity{Serial: string(id)},
			BMC: fleet.Endpoint{Address: fmt.Sprintf("10.0.9.%d:443", pick(r, 11, 70)+i)}})
		if r.IntN(20) > 0 {
			in.Facts[id] = randomFacts(r, id, i)
		}
		if r.IntN(3) == 0 {
			in.Site.Servers = append(in.Site.Servers, randomOverride(r, id))
		}
	}
	if r.IntN(2) == 0 {
		randomCluster(r, &in)
	}
	return in
}

// randomCluster wishes a cluster with settings of every quality.
func randomCluster(r *rand.Rand, in *plan.Input) {
	c := &in.Site.Cluster
	c.Software = "software"
	c.VIP = pick(r, "", "10.0.1.253", "10.0.9.12", "2001:db8::6", "10.0.1.3", "10.0.1.255", "x")
	c.LoadBalancer = pick(r, "", "", "", "10.0.1.4:6443", "api.example.org:443", "x:y:z")
	c.PodCIDR, c.ServiceCIDR = pick(r, "", "", "10.0.0.0/16", "fd00:1::/56", "z"), pick(r, "", "", "10.0.9.0/24", "10.244.0.0/20")
	c.CNI, c.ControlPlaneWorkloads = pick(r, "", fleet.Flannel, fleet.FlannelHostGW, fleet.OwnCNI), r.IntN(2) == 0
	in.Site.Virtualization = fleet.Virtualization{DedicatedCPUs: r.IntN(2) == 0, ReservedCPUs: pick(r, 0, 1, 300), ReservedMemoryMiB: pick(r, 0, 1024, 1<<20), HugepagesGiB: pick(r, 0, 4)}
	if r.IntN(5) > 0 {
		in.Payload = &fleet.Payload{Flavour: fleet.Kubeadm, Version: "v1.34.4", Architecture: pick(r, "x86_64", "x86_64", "aarch64")}
	}
	if c.CNI == fleet.OwnCNI {
		c.CNIManifests, in.Manifests = "cni.yaml", pick(r, "", "kind: DaemonSet")
	}
}

func randomFacts(r *rand.Rand, id fleet.ServerID, server int) fleet.Facts {
	f := fleet.Facts{Source: fleet.SeenByBMC, At: now, Identity: fleet.Identity{Serial: string(id)},
		VirtualMedia: []fleet.MediaSlot{{URI: "/cd", MediaTypes: []string{"CD"}, How: "action"}}}
	for i := range r.IntN(4) {
		n := fleet.NIC{MAC: fmt.Sprintf("52:54:00:00:%02x:%02x", server, i), Link: pick(r, fleet.Known(true), fleet.Known(false), fleet.Maybe[bool]{})}
		f.NICs = append(f.NICs, n)
	}
	for i := range r.IntN(5) {
		f.Disks = append(f.Disks, fleet.Disk{Serial: pick(r, "", "TWIN", fmt.Sprintf("%s-%d", id, i)), WWN: pick(r, "", fmt.Sprintf("5000%x%02x", i+1, server)),
			SizeBytes: pick(r, fleet.Maybe[int64]{}, fleet.Known(int64(4)<<30), fleet.Known(int64(480)<<30)), Media: pick(r, fleet.MediaHDD, fleet.MediaSSD, fleet.MediaUnknown),
			Removable: r.IntN(6) == 0, Protocol: pick(r, "SATA", "USB", ""), Source: fmt.Sprint(i)})
	}
	return f
}

func randomOverride(r *rand.Rand, id fleet.ServerID) fleet.Override {
	return fleet.Override{Serial: string(id), Role: pick(r, "", "", fleet.ControlPlane, fleet.Worker, fleet.Excluded, fleet.SingleNode),
		Hostname: pick(r, "", "", "same", "site-cp2"), Address: pick(r, "", "", "10.0.1.252/24", "10.0.9.10/26")}
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

func TestProperties(t *testing.T) {
	for seed := range uint64(600) {
		r := rand.New(rand.NewPCG(seed, 1))
		in := randomInput(r)
		p := plan.Make(in)
		check := func(ok bool, format string, args ...any) {
			t.Helper()
			if !ok {
				t.Errorf("seed %d: %s\n%s", seed, fmt.Sprintf(format, args...), transcript(p))
			}
		}
		check(p.ID != "", "no id")
		check(len(p.Assignments) == len(in.Servers), "%d assignments for %d servers", len(p.Assignments), len(in.Servers))
		checkUnique(p, check)
		checkDisks(in, p, check)
		checkComplete(p, check)

		r.Shuffle(len(in.Servers), func(i, j int) { in.Servers[i], in.Servers[j] = in.Servers[j], in.Servers[i] })
		in.Facts["not enrolled"] = fleet.Facts{}
		check(plan.Make(in).ID == p.ID, "another order of servers makes another plan")
		in.Now = in.Now.Add(time.Hour)
		check(plan.Make(in).ID == p.ID, "an hour makes another plan")
		if t.Failed() {
			return
		}
	}
}

// checkUnique: no two servers share an address, a name or a port.
func checkUnique(p fleet.Plan, check func(bool, string, ...any)) {
	seen := map[string]fleet.ServerID{}
	for _, a := range p.Assignments {
		for _, v := range []string{a.Hostname, a.Network.Address, a.Network.MAC} {
			check(v == "" || seen[v] == "", "%s and %s share %s", seen[v], a.Server, v)
			seen[v] = a.Server
		}
	}
}

// checkDisks: the install disk names exactly one disk of the facts, which is
// not removable and holds the image, and no kept disk is the install disk.
func checkDisks(in plan.Input, p fleet.Plan, check func(bool, string, ...any)) {
	for _, a := range p.Assignments {
		if a.InstallDisk == (fleet.DiskRef{}) {
			continue
		}
		check(a.Role != fleet.Excluded, "excluded %s gets a disk", a.Server)
		matches := 0
		for _, d := range in.Facts[a.Server].Disks {
			if !a.InstallDisk.Match(d) {
				continue
			}
			matches++
			check(!d.Removable && d.Protocol != "USB", "%s: removable disk", a.Server)
			check(d.SizeBytes.Or(0) >= in.Image.DiskBytes, "%s: small disk", a.Server)
			for _, k := range a.KeepDisks {
				check(!k.Match(d), "%s: %s is kept and erased", a.Server, k)
			}
		}
		check(matches == 1, "%s: %s names %d disks", a.Server, a.InstallDisk, matches)
	}
}

// checkComplete: a plan that is not blocked lacks nothing.
func checkComplete(p fleet.Plan, check func(bool, string, ...any)) {
	if p.Blocked() {
		return
	}
	planes := 0
	for _, a := range p.Assignments {
		if a.Role == fleet.Excluded {
			continue
		}
		if a.Role != fleet.Worker {
			planes++
		}
		check(a.Hostname != "" && a.Network.Address != "" && a.Network.MAC != "" && a.InstallDisk != (fleet.DiskRef{}), "%s is incomplete in a plan without blockers", a.Server)
	}
	checkNodes(p, check)
	check(slices.Contains([]int{1, 3, 5}, planes), "%d control planes in a plan without blockers", planes)
}

// checkNodes: in a plan without blockers every server is a node exactly when
// there is a cluster, one begins it, and the API has an address of its own.
func checkNodes(p fleet.Plan, check func(bool, string, ...any)) {
	initial, planes := 0, 0
	for _, a := range p.Assignments {
		if a.Role == fleet.Excluded || p.Cluster == nil {
			check(a.Node == nil, "%s is a node of nothing", a.Server)
			continue
		}
		check(a.Node != nil && a.Node.Name == strings.ToLower(a.Hostname), "%s is no node", a.Server)
		if a.Role != fleet.Worker {
			planes++
		}
		if a.Node != nil && a.Node.Initial {
			initial++
			check(a.Role != fleet.Worker, "worker %s begins the cluster", a.Server)
		}
		ip, _, _ := strings.Cut(a.Network.Address, "/")
		if c := p.Cluster.Endpoint; c.Kind == fleet.NodeAddress {
			check(a.Role == fleet.Worker || ip == c.Address, "the API is not at %s", a.Server)
		} else {
			check(ip != c.Address, "%s has the API's address", a.Server)
		}
	}
	if p.Cluster == nil {
		return
	}
	c := p.Cluster
	check(initial == 1, "%d servers begin the cluster", initial)
	check(c.Version != "" && c.PayloadDigest != "" && c.PodCIDR != "" && c.ServiceCIDR != "" && c.Endpoint.Address != "" && c.Endpoint.Port > 0, "the cluster is incomplete: %+v", c)
	check(c.Endpoint.Kind != fleet.NodeAddress || planes == 1, "%d control planes behind the address of one", planes)
	check((c.Endpoint.Kind == fleet.VirtualIP) == (c.Endpoint.VRRP > 0), "virtual router id %d", c.Endpoint.VRRP)
}

func TestEveryFindingHelps(t *testing.T) {
	for seed := range uint64(300) {
		for _, f := range plan.Make(randomInput(rand.New(rand.NewPCG(seed, 2)))).Findings {
			if _, ok := fleet.Page(f.Code); !ok || f.Text == "" || f.Path == "" || f.Remedy == "" {
				t.Fatalf("seed %d: finding without page, text, path or remedy: %+v", seed, f)
			}
		}
	}
}

func TestFactsOrderDoesNotMatter(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 3))
		in := randomInput(r)
		p := plan.Make(in)
		for _, f := range in.Facts {
			r.Shuffle(len(f.Disks), func(i, j int) { f.Disks[i], f.Disks[j] = f.Disks[j], f.Disks[i] })
			r.Shuffle(len(f.NICs), func(i, j int) { f.NICs[i], f.NICs[j] = f.NICs[j], f.NICs[i] })
		}
		q := plan.Make(in)
		if diff := cmp.Diff(p.Assignments, q.Assignments); diff != "" {
			t.Fatalf("seed %d: the order of disks or ports decides:\n%s", seed, diff)
		}
	}
}

func TestDiff(t *testing.T) {
	in := readScenario(t, "testdata/five/input.yaml")
	before := plan.Make(in)
	if d := plan.Diff(before, before); len(d) != 0 {
		t.Errorf("equal plans differ: %q", d)
	}
	in.Servers = in.Servers[1:]
	in.Image.Version = "2"
	after := plan.Make(in)
	got := strings.Join(plan.Diff(before, after), "\n")
	for _, want := range []string{"image: lab 1 → lab 2", "SN02: host name oslo-cp2 → oslo-cp1", "SN04: role worker → control-plane", "SN01: gone, was control-plane oslo-cp1"} {
		if !strings.Contains(got, want) {
			t.Errorf("Diff lacks %q:\n%s", want, got)
		}
	}
	if got := strings.Join(plan.Diff(after, before), "\n"); !strings.Contains(got, "SN01: new, control-plane oslo-cp1") {
		t.Errorf("Diff lacks the new server:\n%s", got)
	}
}

func TestConfigErrors(t *testing.T) {
	in := readScenario(t, "testdata/one/input.yaml")
	in.IgnitionDigest = func(fleet.Assignment) (string, error) {
		return "", fmt.Errorf("config: %w", fleet.NewFault(fleet.CodeIgnitionTooLarge, fleet.Invalid, errors.New("300 KiB"), "too large"))
	}
	p := plan.Make(in)
	if !p.Blocked() || p.Findings[0].Code != fleet.CodeIgnitionTooLarge || !strings.Contains(p.Findings[0].Text, "300 KiB") {
		t.Errorf("got %+v", p.Findings)
	}
}

func TestInputIsNotChanged(t *testing.T) {
	in := readScenario(t, "testdata/overrides/input.yaml")
	before, _ := json.Marshal([]any{in.Site, in.Servers, in.Facts})
	plan.Make(in)
	after, _ := json.Marshal([]any{in.Site, in.Servers, in.Facts})
	if string(before) != string(after) {
		t.Error("Make changed its input")
	}
}

// TestPure holds the promise of the package comment: nothing here can reach a
// network, a disk or a clock.
func TestPure(t *testing.T) {
	allowed := map[string]string{
		"cmp": "comparing", "errors": "kinds of faults", "maps": "lists", "regexp": "names of processors", "fmt": "texts", "net/netip": "addresses as values", "reflect": "comparing plans", "slices": "lists",
		"sort": "lists", "strconv": "numbers as texts", "strings": "texts", "time": "values only, see below", "metalrise.dev/fleet": "the nouns",
	}
	files, _ := filepath.Glob("*.go")
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		set := token.NewFileSet()
		tree, err := parser.ParseFile(set, file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, imp := range tree.Imports {
			if path := strings.Trim(imp.Path.Value, `"`); allowed[path] == "" {
				t.Errorf("%s imports %s", file, path)
			}
		}
		checkClock(t, set, tree, file)
	}
}

func FuzzFacts(f *testing.F) {
	good, _ := json.Marshal(randomFacts(rand.New(rand.NewPCG(1, 1)), "A", 1))
	f.Add(good)
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"at":"9999-12-31T23:59:59Z","nics":[{"mac":"ff"}],"disks":[{"sizeBytes":-9223372036854775808,"wwn":"naa.","serial":" "}],"memoryMiB":-1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var facts fleet.Facts
		if json.Unmarshal(b, &facts) != nil {
			return
		}
		in := randomInput(rand.New(rand.NewPCG(uint64(len(b)), 4)))
		if in.Payload != nil {
			randomPlatform(rand.New(rand.NewPCG(uint64(len(b)), 6)), &in)
		}
		for _, s := range in.Servers {
			in.Facts[s.ID] = facts
		}
		p := plan.Make(in)
		if p.ID == "" && !p.Blocked() {
			t.Error("a plan without id is not blocked")
		}
		checkComplete(p, func(ok bool, format string, args ...any) {
			if !ok {
				t.Errorf(format, args...)
			}
		})
	})
}

// BenchmarkMake plans a thousand servers whose BMCs are listed one by one.
func BenchmarkMake(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 5))
	in := plan.Input{Facts: map[fleet.ServerID]fleet.Facts{}, Image: testImage(), Now: now,
		Site: fleet.Site{Name: "site", Network: fleet.SiteNetwork{FirstAddress: "10.1.0.1/16"}}}
	for i := range 1000 {
		id := fleet.ServerID(fmt.Sprintf("S%04d", i))
		host := fmt.Sprintf("10.0.%d.%d", i/250, i%250+1)
		in.Site.BMCs.Addresses = append(in.Site.BMCs.Addresses, host)
		in.Servers = append(in.Servers, fleet.Server{ID: id, Identity: fleet.Identity{Serial: string(id)}, BMC: fleet.Endpoint{Address: host + ":443"}})
		in.Facts[id] = randomFacts(r, id, i%256)
	}
	for b.Loop() {
		plan.Make(in)
	}
}
