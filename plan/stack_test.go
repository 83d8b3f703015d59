package plan_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"metalrise.dev/fleet"
	"metalrise.dev/plan"
)

// softwareWith gives a payload manifests, two files for each component.
func softwareWith(kubevirt, kubernetes string, others ...fleet.Component) *fleet.Payload {
	p := &fleet.Payload{Flavour: fleet.Kubeadm, Version: kubernetes, Architecture: "x86_64"}
	p.Images = []fleet.PayloadImage{{Name: "metalrise-guest", References: []string{"metalrise-guest:1"}}}
	for _, c := range append([]fleet.Component{fleet.ComponentKubeVirt}, others...) {
		version := "v1.2.3"
		if c == fleet.ComponentKubeVirt {
			version = kubevirt
		}
		for _, name := range []string{"operator", "cr"} {
			p.Manifests = append(p.Manifests, fleet.PayloadManifest{Component: c, Name: name, Version: version, Digest: string(c) + "-" + name})
		}
	}
	return p
}

// randomPlatform wishes a platform of every quality, on software of every quality.
func randomPlatform(r *rand.Rand, in *plan.Input) {
	var others, all []fleet.Component
	for _, e := range fleet.Catalogue() {
		all = append(all, e.Name)
		if !e.Own && e.Name != fleet.ComponentKubeVirt && r.IntN(2) == 0 {
			others = append(others, e.Name)
		}
	}
	arch := in.Payload.Architecture
	in.Payload = softwareWith(pick(r, "v1.5.2", "v1.6.0", "v1.7.1", "v9.9.9"), pick(r, "v1.33.1", "v1.34.4", "v1.35.0"), others...)
	in.Payload.Architecture = arch
	if r.IntN(4) == 0 {
		in.Payload.Images = nil
	}
	p := &in.Site.Platform
	for range r.IntN(3) {
		p.Components = append(p.Components, pick(r, append(all, "nothing")...))
	}
	if r.IntN(3) == 0 {
		p.Without = []fleet.Component{pick(r, fleet.DefaultComponents()...)}
	}
	p.None = r.IntN(8) == 0
	p.SkipProofs = pick(r, nil, nil, []fleet.Proof{fleet.ProofFence}, []fleet.Proof{"nothing"})
	p.MemoryOvercommit = pick(r, 0, 0, 100, 150, 1, 5000)
	p.CPUModel = pick(r, "", "", "Haswell-noTSX", "host-model", "host-passthrough", "mine")
	p.Storage = pick(r, fleet.VMStorage{}, fleet.VMStorage{Class: "ceph", Shared: true, Snapshots: "ceph"}, fleet.VMStorage{Path: "/srv/vms"}, fleet.VMStorage{Class: "mine", Path: "/srv/vms"})
	if r.IntN(3) == 0 {
		p.Networks = []fleet.VMNetwork{{Name: "a", Bridge: "br-a", Port: pick(r, "", "eno1"), Subnet: pick(r, "", "10.0.9.0/24", "10.7.0.0/24", "x")}}
		p.MigrationNetwork = pick(r, "", "a", "b")
	}
	in.Site.Virtualization.Emulation = r.IntN(3) == 0
	for id, f := range in.Facts {
		f.MemoryMiB = pick(r, fleet.Maybe[int64]{}, fleet.Known(int64(1024)), fleet.Known(int64(65536)), fleet.Known(int64(1<<21)))
		f.CPU = fleet.CPU{Threads: pick(r, fleet.Maybe[int]{}, fleet.Known(2), fleet.Known(128)),
			Model: pick(r, fleet.Maybe[string]{}, fleet.Known("Intel(R) Xeon(R) Gold 6330"), fleet.Known("Intel(R) Xeon(R) CPU E5-2690 v3 @ 2.60GHz"), fleet.Known("AMD EPYC 7742 64-Core Processor")),
			Flags: pick(r, nil, nil, []string{"aes", "avx", "avx2", "vmx"}, []string{"svm"})}
		in.Facts[id] = f
	}
}

// TestStackProperties holds what is true of every VM platform.
func TestStackProperties(t *testing.T) {
	stacks := 0
	for seed := range uint64(800) {
		r := rand.New(rand.NewPCG(seed, 7))
		in := randomInput(r)
		if in.Payload == nil {
			continue
		}
		randomPlatform(r, &in)
		p := plan.Make(in)
		check := func(ok bool, format string, args ...any) {
			t.Helper()
			if !ok {
				t.Errorf("seed %d: %s\n%s", seed, fmt.Sprintf(format, args...), transcript(p))
			}
		}
		for _, f := range p.Findings {
			_, ok := fleet.Page(f.Code)
			check(ok && f.Text != "" && f.Path != "" && f.Remedy != "", "finding without page, text, path or remedy: %+v", f)
		}
		r.Shuffle(len(in.Servers), func(i, j int) { in.Servers[i], in.Servers[j] = in.Servers[j], in.Servers[i] })
		check(plan.Make(in).ID == p.ID, "another order of servers makes another plan")
		if p.Stack != nil {
			stacks++
			checkStack(in, p, check)
		}
		check(p.Stack == nil || !in.Site.Platform.None, "a platform that nobody wants")
		if t.Failed() {
			return
		}
	}
	if stacks < 150 {
		t.Errorf("only %d platforms were tried", stacks)
	}
}

func checkStack(in plan.Input, p fleet.Plan, check func(bool, string, ...any)) {
	s := p.Stack
	check(p.Stack.Storage.Snapshots == "" || slices.Contains(p.Stack.FeatureGates, "Snapshot"), "snapshots without KubeVirt's gate: %q", p.Stack.FeatureGates)
	before := map[fleet.Component]bool{}
	for _, c := range s.Components {
		e, known := fleet.CatalogueOf(c.Name)
		check(known && !before[c.Name], "%s is unknown or twice", c.Name)
		check(e.Own == (len(c.Manifests) == 0) && e.Own == (c.Version == ""), "%s %s has %d manifests", c.Name, c.Version, len(c.Manifests))
		check(c.Unproven == e.Unproven, "%s hides that it is unproven", c.Name)
		for _, need := range e.Needs {
			check(before[need], "%s comes before %s", c.Name, need)
		}
		before[c.Name] = true
	}
	check(before[fleet.ComponentKubeVirt], "no KubeVirt")
	check(len(s.Proofs) == len(fleet.Proofs()), "%d proofs", len(s.Proofs))
	hosts := map[string]bool{}
	for _, a := range p.Assignments {
		if a.Node != nil {
			if _, ok := a.Node.Labels["node-role.kubernetes.io/worker"]; ok {
				hosts[a.Node.Name] = true
			}
		}
	}
	for i, x := range s.Proofs {
		check(x.Name == fleet.Proofs()[i], "proof %d is %s", i, x.Name)
		single := slices.Contains([]fleet.Proof{fleet.ProofMigrate, fleet.ProofDrain, fleet.ProofFence}, x.Name) && len(hosts) < 2
		check(x.Skip != "" || s.Guest != "" && !single, "%s is run with guest %q on %d hypervisors", x.Name, s.Guest, len(hosts))
	}
	for from, to := range s.Migration {
		if p.Blocked() {
			break // names may be missing or twice
		}
		check(hosts[from], "%s is no hypervisor", from)
		for _, h := range to {
			check(hosts[h] && h != from, "%s hands VMs to %s", from, h)
		}
		check(!(in.Site.Platform.CPUModel == "" && s.CPUModel != "") || len(to) == min(len(hosts)-1, 16), "the common model %s is not common: %s gives to %v", s.CPUModel, from, to)
	}
	check(s.Capacity.WithoutOne <= s.Capacity.VMs && s.Capacity.VMs >= 0 && s.Capacity.VCPUs > 0, "capacity %+v", s.Capacity)
	check(s.MemoryOvercommit >= 10 && s.MemoryOvercommit <= 1000, "overcommit %d", s.MemoryOvercommit)
	gated := strings.HasPrefix(s.Components[slices.IndexFunc(s.Components, func(c fleet.ComponentPlan) bool { return c.Name == fleet.ComponentKubeVirt })].Version, "v1.6.") && strings.HasPrefix(p.Cluster.Version, "v1.34.")
	on, set := p.Cluster.Gates["PodObservedGenerationTracking"]
	check(set == gated && !on, "gates %v", p.Cluster.Gates)
}

// TestCommonModel holds names of processors against the models that they have.
func TestCommonModel(t *testing.T) {
	for _, c := range []struct {
		one, other string
		want       string
	}{
		{"Intel(R) Xeon(R) CPU X5570 @ 2.93GHz", "Intel(R) Xeon(R) CPU X5670 @ 2.93GHz", "Nehalem"},
		{"Intel(R) Xeon(R) CPU E5-2670 0 @ 2.60GHz", "Intel(R) Xeon(R) CPU E5-2680 v2 @ 2.80GHz", "SandyBridge"},
		{"Intel(R) Xeon(R) CPU E5-2690 v3 @ 2.60GHz", "Intel(R) Xeon(R) CPU E7-8890 v4 @ 2.20GHz", "Haswell-noTSX"},
		{"Intel(R) Xeon(R) D-2146NT CPU @ 2.30GHz", "Intel(R) Xeon(R) Silver 4114 CPU @ 2.20GHz", "Skylake-Server-noTSX-IBRS"},
		{"Intel(R) Xeon(R) Gold 6248R CPU @ 3.00GHz", "Intel(R) Xeon(R) Gold 6338 CPU @ 2.00GHz", "Cascadelake-Server-noTSX"},
		{"Intel(R) Xeon(R) Gold 6328HL CPU @ 2.80GHz", "Intel(R) Xeon(R) Platinum 8592+", "Cascadelake-Server-noTSX"},
		{"Intel(R) Xeon(R) Platinum 8480+", "Intel(R) Xeon(R) Platinum 8592+", "Icelake-Server-noTSX"},
		{"AMD Opteron(tm) Processor 6172", "AMD Opteron(tm) Processor 6376", "Opteron_G3"},
		{"AMD Opteron(tm) Processor 6376", "AMD EPYC 7551 32-Core Processor", "Opteron_G3"},
		{"AMD EPYC 7551P 32-Core Processor", "AMD EPYC 7742 64-Core Processor", "EPYC"},
		{"AMD EPYC 7F52 16-Core Processor", "AMD EPYC 7763 64-Core Processor", "EPYC-Rome"},
		{"AMD EPYC 9654 96-Core Processor", "AMD EPYC 9755 128-Core Processor", "EPYC-Genoa"},
		{"AMD EPYC 7763 64-Core Processor", "AMD EPYC 9654 96-Core Processor", "EPYC-Milan"},
		// names that do not tell, or of another maker
		{"Intel(R) Xeon(R) Processor @ 2.60GHz", "Intel(R) Xeon(R) Processor @ 2.60GHz", ""},
		{"QEMU Virtual CPU version 2.5+", "Intel(R) Xeon(R) Gold 6338 CPU @ 2.00GHz", ""},
		{"AMD EPYC-Rome Processor", "AMD EPYC 7742 64-Core Processor", ""},
		{"AMD EPYC 4344P 8-Core Processor", "AMD EPYC 9654 96-Core Processor", ""},
		{"Intel(R) Xeon(R) 6780E", "Intel(R) Xeon(R) Platinum 8480+", ""},
		{"Intel(R) Xeon(R) Gold 6338 CPU @ 2.00GHz", "AMD EPYC 7742 64-Core Processor", ""},
	} {
		p := plan.Make(twoWorkers(t, fleet.CPU{Model: fleet.Known(c.one)}, fleet.CPU{Model: fleet.Known(c.other)}))
		if p.Stack == nil || p.Stack.CPUModel != c.want {
			t.Errorf("%s and %s: got %+v, want %q", c.one, c.other, p.Stack, c.want)
		}
	}
}

// twoWorkers is a site of three control planes and two workers with these CPUs.
func twoWorkers(t *testing.T, one, other fleet.CPU) plan.Input {
	t.Helper()
	in := readScenario(t, "testdata/stack-default/input.yaml")
	for id, c := range map[fleet.ServerID]fleet.CPU{"SN04": one, "SN05": other} {
		f := in.Facts[id]
		c.Threads = fleet.Known(64)
		f.CPU = c
		in.Facts[id] = f
	}
	return in
}

// TestModelByFlags: a whole list of flags decides alone, a part of one takes
// models away.
func TestModelByFlags(t *testing.T) {
	haswell := strings.Fields("vmx sse2 ssse3 sse4_1 sse4_2 popcnt cx16 lahf_lm aes pclmulqdq avx xsave x2apic rdtscp tsc_deadline_timer f16c rdrand fsgsbase smep erms avx2 fma bmi1 bmi2 movbe pcid invpcid abm")
	named := func(flags ...string) fleet.CPU {
		return fleet.CPU{Model: fleet.Known("Intel(R) Xeon(R) Gold 6338 CPU @ 2.00GHz"), Flags: flags}
	}
	for name, c := range map[string]struct {
		cpu  fleet.CPU
		want string
	}{
		"whole list":               {fleet.CPU{Model: fleet.Known("Common KVM processor"), Flags: haswell}, "Haswell-noTSX"},
		"whole list beats a name":  {named(haswell...), "Haswell-noTSX"},
		"one flag less":            {named(slices.DeleteFunc(slices.Clone(haswell), func(f string) bool { return f == "movbe" })...), "IvyBridge"},
		"no AVX-512 in the BIOS":   {named("aes", "avx", "avx2", "la57", "pdpe1gb", "vmx", "x2apic"), "Broadwell-noTSX"},
		"all that is looked for":   {named("aes", "avx", "avx2", "avx512f", "la57", "pdpe1gb", "vmx", "x2apic"), "Icelake-Server-noTSX"},
		"no flags were looked for": {named(), "Icelake-Server-noTSX"},
	} {
		p := plan.Make(twoWorkers(t, c.cpu, fleet.CPU{Model: fleet.Known("Intel(R) Xeon(R) Platinum 8592+")}))
		if p.Stack.CPUModel != c.want {
			t.Errorf("%s: %q, want %q", name, p.Stack.CPUModel, c.want)
		}
	}
}

// TestRoomByHand counts what the published formula says to the last MiB: one VM
// of 4 vCPU and 16 GiB takes 16417 + 218 + 32 + 16 = 16683 MiB, a worker 360 for
// the platform and 200 that the kubelet keeps free.
func TestRoomByHand(t *testing.T) {
	const each, kept = 16683, 4096 + 360 + 200
	room := func(memory int64, change func(*plan.Input)) fleet.Capacity {
		in := readScenario(t, "testdata/stack-default/input.yaml")
		in.Site.Virtualization.ReservedMemoryMiB = 4096
		f := in.Facts["SN04"]
		f.MemoryMiB = fleet.Known(memory)
		in.Facts["SN04"] = f
		f.MemoryMiB = fleet.Known(int64(kept + each))
		in.Facts["SN05"] = f
		if change != nil {
			change(&in)
		}
		return plan.Make(in).Stack.Capacity
	}
	want := func(name string, got fleet.Capacity, vms, without int) {
		t.Helper()
		if got.VCPUs != 4 || got.MemoryMiB != 16384 || got.VMs != vms || got.WithoutOne != without {
			t.Errorf("%s: %+v, want %d and %d", name, got, vms, without)
		}
	}
	want("exactly seven", room(kept+7*each, nil), 7+1, 1)
	want("one MiB less", room(kept+7*each-1, nil), 6+1, 1)
	want("huge pages are none of it", room(kept+2*each+16*1024, func(in *plan.Input) { in.Site.Virtualization.HugepagesGiB = 16 }), 2, 0)
	// Promised twice over, a VM's own memory counts half: 8209 + 266.
	want("overcommit", room(kept+4*8475, func(in *plan.Input) { in.Site.Platform.MemoryOvercommit = 200 }), 4+1, 1)
	// 8 CPUs less 2 for KubeVirt and 4 kept free leave 2: 20 vCPUs.
	want("CPUs", room(kept+90*each, func(in *plan.Input) {
		in.Site.Virtualization.ReservedCPUs = 4
		f := in.Facts["SN04"]
		f.CPU.Threads = fleet.Known(8)
		in.Facts["SN04"] = f
	}), 5+1, 1)
	want("pods", room(kept+200*each, func(in *plan.Input) {
		f := in.Facts["SN04"]
		f.CPU.Threads = fleet.Known(512)
		in.Facts["SN04"] = f
	}), 90+1, 1)
	// A control plane that runs VMs gives 150 MiB, a third of 2179 and 4 CPUs more.
	want("control planes too", room(kept+each, func(in *plan.Input) {
		in.Site.Cluster.ControlPlaneWorkloads = true
		for _, id := range []fleet.ServerID{"SN01", "SN02", "SN03"} {
			f := in.Facts[id]
			f.MemoryMiB = fleet.Known(int64(kept + 150 + 727 + 2*each))
			in.Facts[id] = f
		}
	}), 3*2+2, 2*2+2)
}

// TestRoomGrows: more memory, more CPUs, more hypervisors or a larger promise
// never leave less room.
func TestRoomGrows(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 9))
		in := readScenario(t, "testdata/stack-default/input.yaml")
		in.Site.Virtualization.Emulation = true
		var total int64
		for id, f := range in.Facts {
			f.MemoryMiB, f.CPU.Threads = fleet.Known(r.Int64N(1<<18)+2048), fleet.Known(r.IntN(64)+1)
			total += f.MemoryMiB.Or(0)
			in.Facts[id] = f
		}
		in.Site.Cluster.ControlPlaneWorkloads = r.IntN(2) == 0
		count := func() (int64, fleet.Capacity) {
			c := plan.Make(in).Stack.Capacity
			return int64(c.VMs) * int64(c.MemoryMiB), c
		}
		before, small := count()
		if before > total {
			t.Fatalf("seed %d: %+v in %d MiB", seed, small, total)
		}
		grow := pick(r, "memory", "CPUs", "promise")
		switch grow {
		case "promise":
			in.Site.Platform.MemoryOvercommit = 100 + r.IntN(900)
		default:
			f := in.Facts["SN04"]
			if grow == "memory" {
				f.MemoryMiB = fleet.Known(f.MemoryMiB.Or(0) + r.Int64N(1<<17))
			} else {
				f.CPU.Threads = fleet.Known(f.CPU.Threads.Or(0) + r.IntN(64))
			}
			in.Facts["SN04"] = f
		}
		if _, after := count(); after.MemoryMiB == small.MemoryMiB && after.VMs < small.VMs || after.MemoryMiB < small.MemoryMiB {
			t.Fatalf("seed %d: more %s, and room went from %+v to %+v", seed, grow, small, after)
		}
	}
}

// TestManyHypervisors: a thousand hosts do not make a million names.
func TestManyHypervisors(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 5))
	in := plan.Input{Facts: map[fleet.ServerID]fleet.Facts{}, Image: testImage(), Now: now, Payload: softwareWith("v1.7.1", "v1.34.4"),
		Site: fleet.Site{Name: "site", Network: fleet.SiteNetwork{FirstAddress: "10.1.0.1/16"}, Cluster: fleet.Cluster{Software: "software", VIP: "10.1.200.1"}}}
	for i := range 1000 {
		id := fleet.ServerID(fmt.Sprintf("S%04d", i))
		host := fmt.Sprintf("10.0.%d.%d", i/250, i%250+1)
		in.Site.BMCs.Addresses = append(in.Site.BMCs.Addresses, host)
		in.Servers = append(in.Servers, fleet.Server{ID: id, Identity: fleet.Identity{Serial: string(id)}, BMC: fleet.Endpoint{Address: host + ":443"}})
		f := randomFacts(r, id, i%256)
		f.CPU.Model = fleet.Known(fmt.Sprintf("AMD EPYC %s 64-Core Processor", pick(r, "7742", "7763", "9654")))
		in.Facts[id] = f
	}
	s := plan.Make(in).Stack
	if s == nil || s.CPUModel != "EPYC-Rome" || len(s.Migration) != 997 {
		t.Fatalf("got %v, %d hosts", s != nil, len(s.Migration))
	}
	for from, to := range s.Migration {
		if len(to) != 16 {
			t.Fatalf("%s hands to %d hosts", from, len(to))
		}
	}
}

func TestDiffOfPlatforms(t *testing.T) {
	in := readScenario(t, "testdata/stack-default/input.yaml")
	none := in
	none.Site.Platform.None = true
	more := in
	more.Site.Platform.Networks = []fleet.VMNetwork{{Name: "tenants", Bridge: "br-vm"}}
	more.Site.Platform.MemoryOvercommit = 120
	without, with, changed := plan.Make(none), plan.Make(in), plan.Make(more)
	for _, c := range []struct {
		before, after fleet.Plan
		want          []string
	}{
		{with, with, nil},
		{without, with, []string{"VM platform: new, 5 components"}},
		{with, without, []string{"VM platform: gone from the plan"}},
		{with, changed, []string{"VM platform: components [", "VM platform: memory promised in percent 100 → 120", "VM platform: networks"}},
	} {
		got := plan.Diff(c.before, c.after)
		if len(got) != len(c.want) {
			t.Errorf("got %q, want %q", got, c.want)
			continue
		}
		for i, line := range got {
			if !strings.HasPrefix(line, c.want[i]) {
				t.Errorf("got %q, want %q", line, c.want[i])
			}
		}
	}
}

// TestPlatformWithoutCluster: hosts alone have no VM platform, and the plan says
// that what the site says of one has no effect.
func TestPlatformWithoutCluster(t *testing.T) {
	in := readScenario(t, "testdata/five/input.yaml")
	in.Site.Platform.MemoryOvercommit = 120
	p := plan.Make(in)
	if p.Stack != nil || !slices.ContainsFunc(p.Findings, func(f fleet.Finding) bool {
		return f.Severity == fleet.Info && f.Path == "cluster.software" && strings.Contains(f.Text, "platform")
	}) {
		t.Errorf("got\n%s", transcript(p))
	}
	in.Site.Platform = fleet.Platform{None: true}
	if p := plan.Make(in); len(p.Findings) > 0 && strings.Contains(p.Findings[0].Text, "platform") {
		t.Errorf("got\n%s", transcript(p))
	}
}

// TestOwnDriver: the snapshot controller comes with a site's own driver where
// snapshots are wanted and the software has it, and a class decides on the proofs.
func TestOwnDriver(t *testing.T) {
	for name, c := range map[string]struct {
		storage  fleet.VMStorage
		software []fleet.Component
		want     []fleet.Component // in this order, of those that could be there
		proven   bool              // snapshots are
		finding  string
	}{
		"with snapshots":      {fleet.VMStorage{Class: "gold", Snapshots: "gold"}, []fleet.Component{fleet.ComponentCSI, fleet.ComponentSnapshots}, []fleet.Component{fleet.ComponentSnapshots, fleet.ComponentCSI}, true, ""},
		"the maker's own":     {fleet.VMStorage{Class: "gold", Snapshots: "gold"}, []fleet.Component{fleet.ComponentCSI}, []fleet.Component{fleet.ComponentCSI}, true, ""},
		"without snapshots":   {fleet.VMStorage{Class: "gold"}, []fleet.Component{fleet.ComponentCSI, fleet.ComponentSnapshots}, []fleet.Component{fleet.ComponentCSI}, false, ""},
		"for something else":  {fleet.VMStorage{}, []fleet.Component{fleet.ComponentCSI}, []fleet.Component{fleet.ComponentLocalStorage, fleet.ComponentCSI}, false, "no class of it is named"},
		"not in the software": {fleet.VMStorage{Class: "gold"}, nil, nil, false, "no manifests of csi-driver"},
	} {
		t.Run(name, func(t *testing.T) {
			in := readScenario(t, "testdata/stack-default/input.yaml")
			in.Payload = softwareWith("v1.6.0", "v1.34.4", c.software...)
			in.Site.Platform.Components, in.Site.Platform.Storage = []fleet.Component{fleet.ComponentCSI}, c.storage
			p := plan.Make(in)
			var got []fleet.Component
			for _, one := range p.Stack.Components {
				if slices.Contains([]fleet.Component{fleet.ComponentSnapshots, fleet.ComponentCSI, fleet.ComponentLocalStorage}, one.Name) {
					got = append(got, one.Name)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("components %v, want %v", got, c.want)
			}
			i := slices.IndexFunc(p.Stack.Proofs, func(p fleet.ProofPlan) bool { return p.Name == fleet.ProofSnapshot })
			if skip := p.Stack.Proofs[i].Skip; (skip == "") != c.proven {
				t.Errorf("the proof of snapshots: %q", skip)
			}
			if got := slices.Contains(p.Stack.FeatureGates, "Snapshot"); got != c.proven {
				t.Errorf("gates %v", p.Stack.FeatureGates)
			}
			if c.finding != "" && !slices.ContainsFunc(p.Findings, func(f fleet.Finding) bool { return strings.Contains(f.Text, c.finding) }) {
				t.Errorf("no finding says %q", c.finding)
			}
		})
	}
}
