package tui

import (
	"strings"
	"testing"

	"metalrise.dev/fleet"
)

// samplePlatform is a VM platform with something of everything.
func samplePlatform() *fleet.StackPlan {
	s := &fleet.StackPlan{CPUModel: "Icelake-Server-noTSX", MemoryOvercommit: 100, MigrationNetwork: "moves",
		Networks:  []fleet.VMNetwork{{Name: "tenants", Bridge: "br-vm", Port: "eno2", VLAN: 20}, {Name: "moves", Bridge: "br-vm", Port: "eno2", VLAN: 21}, {Name: "inside", Bridge: "br-in"}},
		Storage:   fleet.VMStorage{Class: "metalrise-local", Path: "/var/lib/metalrise/volumes"},
		Capacity:  fleet.Capacity{VCPUs: 4, MemoryMiB: 16384, VMs: 30, WithoutOne: 15},
		Migration: map[string][]string{"osaka-w1": {"osaka-w2"}, "osaka-w2": {"osaka-w1"}}}
	for _, c := range fleet.DefaultComponents() {
		e, _ := fleet.CatalogueOf(c)
		p := fleet.ComponentPlan{Name: c}
		if c == fleet.ComponentCDI {
			p.Unproven = "nobody tried"
		}
		if !e.Own {
			p.Version, p.Size = "v1.2.3", &fleet.ComponentSize{Images: e.Images, Bytes: e.Bytes, Estimated: c == fleet.ComponentCDI}
		}
		s.Components = append(s.Components, p)
	}
	why := map[fleet.Proof]string{fleet.ProofSnapshot: "there is no VolumeSnapshotClass (platform.storage.snapshots)", fleet.ProofFence: "skipped because the site file says so"}
	for _, p := range fleet.Proofs() {
		s.Proofs = append(s.Proofs, fleet.ProofPlan{Name: p, Skip: why[p]})
	}
	return s
}

func platformScene(l Language, w, h int, on step) *App {
	s := sampleSheet(5)
	s.Plan.Stack = samplePlatform()
	for i := range s.Plan.Assignments {
		n := &fleet.NodePlan{Name: s.Plan.Assignments[i].Hostname, Labels: map[string]string{}}
		if s.Plan.Assignments[i].Role == fleet.Worker {
			n.Labels["node-role.kubernetes.io/worker"] = ""
		}
		s.Plan.Assignments[i].Node = n
	}
	a := sized(Options{Language: l, Sheet: &s}, w, h)
	press(a, "esc")
	a.hub.go_(on)
	press(a, "enter")
	return a
}

// TestPlatformIsTold reads the same lines out that are drawn, in both languages.
func TestPlatformIsTold(t *testing.T) {
	for _, l := range Languages() {
		a := platformScene(l, 100, 60, stepSoftware)
		text := a.View().Text()
		for _, want := range []string{"kubevirt v1.2.3", "instance-types", "kubevirt 944 MB", "524 MB", "tenants", "eno2", "VLAN 20", "br-in", "metalrise-local", "start, migrate, network, volume, drain", "snapshot: ", "fence: "} {
			if !strings.Contains(text, want) {
				t.Errorf("%s: %q is not on the screen:\n%s", l, want, text)
			}
		}
		for _, f := range append(a.platformFacts(), a.roomFacts()...) {
			if f.label == "" || f.text == "" || l == Japanese && !japaneseLetters(f.label+f.text) {
				t.Errorf("%s: %+v", l, f)
			}
		}
	}
	a := platformScene(English, 100, 60, stepVirt)
	s := a.hub.sheet.Plan.Stack
	for _, c := range []struct {
		want   string
		change func()
	}{
		{"for about 30 VMs of 4 vCPU/16 GiB, 15 with one node lost", func() {}},
		{"Icelake-Server-noTSX", func() {}},
		{"VMs can move between all hypervisors", func() {}},
		{"for no VM of 4 vCPU/16 GiB", func() { s.Capacity.VMs = 0 }},
		{"the host's own", func() { s.CPUModel = "" }},
		{"emulated: for rehearsal only", func() { s.Emulation = true }},
		{"VMs of some hypervisors cannot move", func() { s.Migration["osaka-w1"] = nil }},
		{"is not known", func() { s.Migration = nil }},
		{"but not between all", func() {
			a.hub.sheet.Plan.Assignments[0].Node.Labels["node-role.kubernetes.io/worker"] = ""
			s.Migration = map[string][]string{"osaka-w1": {"osaka-w2"}, "osaka-w2": {"osaka-w1"}, "osaka-cp1": {"osaka-w1", "osaka-w2"}}
		}},
	} {
		c.change()
		if text := a.View().Text(); !strings.Contains(text, c.want) {
			t.Errorf("%q is not on the screen:\n%s", c.want, text)
		}
	}
	for i := range a.hub.sheet.Plan.Assignments[1:] {
		a.hub.sheet.Plan.Assignments[i+1].Role, a.hub.sheet.Plan.Assignments[i+1].Node = fleet.Excluded, nil
	}
	if strings.Contains(a.View().Text(), "moves ") {
		t.Error("VMs of the only hypervisor move")
	}
	a.hub.sheet.Plan.Stack = nil
	if len(a.platformFacts())+len(a.roomFacts()) > 0 {
		t.Error("a plan without a platform tells of one")
	}
}

// TestPlatformValues: every field of the platform shows what the site says.
func TestPlatformValues(t *testing.T) {
	site := fleet.Site{Platform: fleet.Platform{CPUModel: "EPYC", MemoryOvercommit: 120, None: true, Components: []fleet.Component{"velero", "kata"}, Without: []fleet.Component{"cdi"},
		SkipProofs: []fleet.Proof{fleet.ProofFence}, Storage: fleet.VMStorage{Class: "ceph", Shared: true}}}
	for _, f := range append(virtFieldsOfVMs(), softwareFieldsOfVMs()...) {
		if ValueAt(site, f.path) == "" || ValueAt(fleet.Site{}, f.path) != "" {
			t.Errorf("%s: %q, and %q of an empty site", f.path, ValueAt(site, f.path), ValueAt(fleet.Site{}, f.path))
		}
	}
	if got := ValueAt(site, "platform.components"); got != "velero, kata" {
		t.Error(got)
	}
	if s := stepOf(fleet.Finding{Path: "platform.networks[0].port"}); s != stepSoftware {
		t.Errorf("networks are solved on step %d", s)
	}
	if s := stepOf(fleet.Finding{Path: "platform.cpuModel"}); s != stepVirt {
		t.Errorf("the CPU model is solved on step %d", s)
	}
}
