package plan_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"metalrise.dev/fleet"
	"metalrise.dev/plan"
)

// goodServer adds a server without fault behind BMC 10.0.9.<n>.
func goodServer(in *plan.Input, n int) fleet.ServerID {
	id := fleet.ServerID(fmt.Sprintf("G%03d", n))
	in.Servers = append(in.Servers, fleet.Server{ID: id, Identity: fleet.Identity{Serial: string(id)}, BMC: fleet.Endpoint{Address: fmt.Sprintf("10.0.9.%d:443", n)}})
	in.Facts[id] = fleet.Facts{Source: fleet.SeenByBMC, At: now, Identity: fleet.Identity{Serial: string(id)}, MemoryMiB: fleet.Known(int64(65536)),
		CPU: fleet.CPU{Threads: fleet.Known(32)}, NICs: []fleet.NIC{{MAC: fmt.Sprintf("52:54:00:00:00:%02x", n), Link: fleet.Known(true)}},
		Disks:        []fleet.Disk{{Serial: "D" + string(id), SizeBytes: fleet.Known(int64(480) << 30), Media: fleet.MediaSSD}},
		VirtualMedia: []fleet.MediaSlot{{URI: "/cd", MediaTypes: []string{"CD"}, How: "action"}}}
	return id
}

// goodInput is a site of 3 to 9 servers at random BMC addresses whose plan has
// no blocker. One in four makes no cluster.
func goodInput(r *rand.Rand) plan.Input {
	in := plan.Input{SiteDigest: "site", Facts: map[fleet.ServerID]fleet.Facts{}, Image: testImage(), Now: now,
		IgnitionDigest: func(a fleet.Assignment) (string, error) { return "config-of-" + a.Hostname, nil },
		Site:           fleet.Site{Name: "site", BMCs: fleet.BMCs{Addresses: []string{"10.0.9.1-250"}}, Network: fleet.SiteNetwork{FirstAddress: "10.0.1.20/24", Gateway: "10.0.1.1"}}}
	for _, n := range r.Perm(200)[:3+r.IntN(7)] {
		goodServer(&in, n+1)
	}
	if r.IntN(4) > 0 {
		in.Site.Cluster.Software, in.Site.Cluster.VIP = "software", fmt.Sprintf("10.0.1.%d", pick(r, 2, 20, 22, 25, 250))
		in.Payload = &fleet.Payload{Flavour: fleet.Kubeadm, Version: "v1.34.4", Architecture: "x86_64"}
	}
	return in
}

// grow changes a site as people do: servers come and go at any place of the
// list, words of the site change.
func grow(r *rand.Rand, in plan.Input, before fleet.Plan) plan.Input {
	text, _ := json.Marshal(in.Site)
	site := fleet.Site{}
	_ = json.Unmarshal(text, &site) // it was just written
	next := in
	next.Site, next.Previous, next.Done = site, &before, map[fleet.ServerID]bool{}
	next.Servers = slices.Clone(in.Servers)
	next.Facts = map[fleet.ServerID]fleet.Facts{}
	for id, f := range in.Facts {
		next.Facts[id] = f
	}
	for _, a := range before.Assignments {
		next.Done[a.Server] = r.IntN(4) > 0
	}
	if r.IntN(2) == 0 {
		next.Servers = slices.Delete(next.Servers, 0, 1)
	}
	for _, n := range r.Perm(50)[:r.IntN(4)] {
		if n += 201; !slices.ContainsFunc(next.Servers, func(s fleet.Server) bool { return s.ID == fleet.ServerID(fmt.Sprintf("G%03d", n)) }) {
			goodServer(&next, n)
		}
	}
	if r.IntN(2) == 0 { // the new ones first
		next.Site.BMCs.Addresses = []string{"10.0.9.201-250", "10.0.9.1-200"}
	}
	next.Site.Network.DNS = pick(r, nil, []string{"10.0.1.2"}, []string{"10.0.1.40"})
	next.Site.Network.FirstAddress = pick(r, "10.0.1.20/24", "10.0.1.10/24", "10.0.1.24/24")
	next.Site.Virtualization.DedicatedCPUs = r.IntN(2) == 0
	next.Unbegun = r.IntN(4) == 0
	return next
}

// TestGrowing: whatever comes and goes, what is installed stays as it was.
func TestGrowing(t *testing.T) {
	for seed := range uint64(150) {
		r := rand.New(rand.NewPCG(seed, 6))
		in := goodInput(r)
		p := plan.Make(in)
		if p.Blocked() {
			t.Fatalf("seed %d: the first plan is blocked\n%s", seed, transcript(p))
		}
		for range 3 {
			next := grow(r, in, p)
			q := plan.Make(next)
			check := func(ok bool, format string, args ...any) {
				t.Helper()
				if !ok {
					t.Errorf("seed %d: %s\nbefore:\n%s\nafter:\n%s", seed, fmt.Sprintf(format, args...), transcript(p), transcript(q))
				}
			}
			checkGrown(next, p, q, check)
			checkUnique(q, check)
			if !q.Blocked() {
				checkNodes(q, check)
			}
			r.Shuffle(len(next.Servers), func(i, j int) { next.Servers[i], next.Servers[j] = next.Servers[j], next.Servers[i] })
			check(plan.Make(next).ID == q.ID, "another order of servers makes another plan")
			if t.Failed() {
				return
			}
			in, p = next, q
		}
	}
}

// checkGrown holds a plan against the one before.
func checkGrown(in plan.Input, before, after fleet.Plan, check func(bool, string, ...any)) {
	keptPlanes, initialKept, anyDone := 0, false, false
	for _, a := range before.Assignments {
		if in.Done[a.Server] {
			anyDone = true
			keptPlanes += map[bool]int{true: 1}[a.Role != fleet.Worker]
			initialKept = initialKept || a.Node != nil && a.Node.Initial
		}
	}
	if before.Cluster != nil && after.Cluster != nil && anyDone && !in.Unbegun {
		since := before.Cluster.Since
		if since == "" {
			since = before.ID
		}
		check(after.Cluster.Since == since, "the cluster since plan %q is called since %q", since, after.Cluster.Since)
	}
	for _, old := range before.Assignments {
		now, there := after.Assignment(old.Server)
		if !in.Done[old.Server] {
			check(now.Kept == "", "%s is kept though it is not done", old.Server)
			continue
		}
		check(there, "%s was lost", old.Server)
		want := old
		if want.Kept == "" {
			want.Kept = before.ID
		}
		if want.Node != nil && now.Node != nil && !initialKept {
			n := *want.Node
			n.Initial = now.Node.Initial // it moves when the one that began is gone
			want.Node = &n
		}
		diff := cmp.Diff(want, now)
		check(diff == "", "%s changed: %s", old.Server, diff)
	}
	for _, a := range after.Assignments {
		if a.Kept == "" && a.Node != nil && a.Node.Initial {
			check(keptPlanes == 0, "%s would begin a second cluster", a.Server)
		}
		old, had := before.Assignment(a.Server)
		if !anyDone || a.Kept != "" || a.Role == fleet.Excluded {
			continue
		}
		for _, b := range before.Assignments {
			check(b.Server == a.Server || b.Hostname != a.Hostname, "%s got the name of %s", a.Server, b.Server)
			check(b.Server == a.Server || b.Network.Address != a.Network.Address, "%s got the address of %s", a.Server, b.Server)
		}
		check(!had || old.Role != a.Role || old.Hostname == a.Hostname, "%s was planned as %s before", a.Server, old.Hostname)
	}
	check(len(after.ErasedDisks()) == len(after.Assignments)-len(keptOf(after)), "%d disks are erased", len(after.ErasedDisks()))
}

func keptOf(p fleet.Plan) []fleet.Assignment {
	return slices.DeleteFunc(slices.Clone(p.Assignments), func(a fleet.Assignment) bool { return a.Kept == "" && a.Role != fleet.Excluded })
}

// TestNothingDone: a plan under which nothing was done binds nothing.
func TestNothingDone(t *testing.T) {
	in := readScenario(t, "testdata/cluster-five/input.yaml")
	p := plan.Make(in)
	in.Previous, in.Done = &p, map[fleet.ServerID]bool{"SN01": false, "somebody": true}
	if q := plan.Make(in); q.ID != p.ID {
		t.Errorf("it changed to\n%s", transcript(q))
	}
}

// TestMovedBMC: the way to a kept server follows the enrolment, and a machine
// whose serial was changed is not taken for a new one.
func TestMovedBMC(t *testing.T) {
	in := goodInput(rand.New(rand.NewPCG(1, 7)))
	for i := range in.Servers {
		in.Servers[i].Identity.UUID = fmt.Sprintf("00000000-0000-4000-8000-%012d", i+1)
	}
	p := plan.Make(in)
	in.Previous, in.Done = &p, map[fleet.ServerID]bool{}
	for _, a := range p.Assignments {
		in.Done[a.Server] = true
	}
	moved, renamed := in.Servers[0].ID, in.Servers[1].ID
	in.Servers = slices.Clone(in.Servers)
	in.Servers[0].BMC.Address, in.Servers[0].BMC.Fingerprint = "10.0.9.249:443", "new"
	in.Servers[1].ID, in.Servers[1].Identity.Serial = "OTHER", "OTHER"
	q := plan.Make(in)
	if len(q.Assignments) != len(p.Assignments) || len(q.ErasedDisks()) != 0 {
		t.Fatalf("a machine was taken for a new one:\n%s", transcript(q))
	}
	a, _ := q.Assignment(moved)
	if a.BMC.Address != "10.0.9.249:443" || a.BMC.Fingerprint != "new" {
		t.Errorf("the BMC is still looked for at %+v", a.BMC)
	}
	if !slices.ContainsFunc(q.Findings, func(f fleet.Finding) bool { return f.Code == fleet.CodeIdentityMismatch && f.Server == renamed }) {
		t.Errorf("nothing is said about the changed serial:\n%s", transcript(q))
	}
}

// TestSharedUUID: two kept servers stay two, also when one of them is gone and
// the other now shows its UUID, as after a board was moved.
func TestSharedUUID(t *testing.T) {
	in := goodInput(rand.New(rand.NewPCG(2, 7)))
	for i := range in.Servers {
		in.Servers[i].Identity.UUID = fmt.Sprintf("00000000-0000-4000-8000-%012d", i+1)
	}
	p := plan.Make(in)
	in.Previous, in.Done = &p, map[fleet.ServerID]bool{}
	for _, a := range p.Assignments {
		in.Done[a.Server] = true
	}
	in.Servers = slices.Clone(in.Servers[1:])
	in.Servers[0].Identity.UUID = "00000000-0000-4000-8000-000000000001"
	q := plan.Make(in)
	if len(keptOf(q)) != len(p.Assignments) || len(q.ErasedDisks()) != 0 {
		t.Errorf("%d servers were kept of %d:\n%s", len(keptOf(q)), len(p.Assignments), transcript(q))
	}
}

// TestKeptDisk: the disk of a kept server is never erased under another one,
// even when nobody looked at the kept server again.
func TestKeptDisk(t *testing.T) {
	in := readScenario(t, "testdata/cluster-three/input.yaml")
	p := plan.Make(in)
	in.Previous, in.Done = &p, map[fleet.ServerID]bool{"SN01": true, "SN02": true, "SN03": true}
	id := goodServer(&in, 19)
	f := in.Facts[id]
	f.Disks[0].WWN = in.Facts["SN02"].Disks[0].WWN
	delete(in.Facts, "SN02")
	q := plan.Make(in)
	if !slices.ContainsFunc(q.Findings, func(f fleet.Finding) bool {
		return f.Severity == fleet.Blocker && f.Server == id && strings.Contains(f.Text, "SN02")
	}) {
		t.Errorf("the shared disk was not noticed:\n%s", transcript(q))
	}
}

func TestDiffCluster(t *testing.T) {
	in := readScenario(t, "testdata/cluster-five/input.yaml")
	p := plan.Make(in)
	in.Site.Cluster.VIP, in.Site.Cluster.PodCIDR, in.Site.Cluster.ControlPlaneWorkloads = "10.0.1.60", "10.10.0.0/16", true
	got := strings.Join(plan.Diff(p, plan.Make(in)), "\n")
	for _, want := range []string{"cluster: API 10.0.1.20:6443 → 10.0.1.60:6443", "cluster: pods 10.244.0.0/16 → 10.10.0.0/16", "SN01: taints"} {
		if !strings.Contains(got, want) {
			t.Errorf("Diff lacks %q:\n%s", want, got)
		}
	}
	in.Site.Cluster.Software = ""
	if got := plan.Diff(p, plan.Make(in)); len(got) == 0 || got[0] != "cluster: gone, was kubeadm v1.34.4" {
		t.Errorf("got %q", got)
	}
}
