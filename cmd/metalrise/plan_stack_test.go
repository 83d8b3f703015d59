package main

import (
	"strings"
	"testing"

	"metalrise.dev/fleet"
)

func TestPrintStack(t *testing.T) {
	var out strings.Builder
	printStack(&out, fleet.Plan{})
	if out.String() != "" {
		t.Errorf("no platform prints %q", out.String())
	}
	node := func(name string) fleet.Assignment {
		return fleet.Assignment{Node: &fleet.NodePlan{Name: name, Labels: map[string]string{"node-role.kubernetes.io/worker": ""}}}
	}
	p := fleet.Plan{Assignments: []fleet.Assignment{{Node: &fleet.NodePlan{Name: "cp1"}}, node("w1"), node("w2"), node("w3")}, Stack: &fleet.StackPlan{
		Migration:        map[string][]string{"w1": {"w2"}, "w2": {}},
		Components:       []fleet.ComponentPlan{{Name: fleet.ComponentMultus, Version: "v4.2.2", Unproven: "nobody tried", Size: &fleet.ComponentSize{Images: 1, Bytes: 60e6, Estimated: true}}, {Name: fleet.ComponentKubeVirt, Version: "v1.7.1", Size: &fleet.ComponentSize{Images: 6, Bytes: 900e6}}, {Name: fleet.ComponentInstanceTypes}},
		Networks:         []fleet.VMNetwork{{Name: "tenants", Bridge: "br-vm", Port: "eno2", VLAN: 20}, {Name: "inside", Bridge: "br-in"}},
		MigrationNetwork: "tenants", Storage: fleet.VMStorage{Class: "metalrise-local", Path: "/srv/vms"}, CPUModel: "EPYC-Rome", MemoryOvercommit: 150,
		Capacity: fleet.Capacity{VCPUs: 4, MemoryMiB: 16384, VMs: 6, WithoutOne: 3},
		Proofs: []fleet.ProofPlan{{Name: fleet.ProofStart}, {Name: fleet.ProofMigrate, Skip: "there is only one hypervisor"}, {Name: fleet.ProofVolume},
			{Name: fleet.ProofDrain, Skip: "there is only one hypervisor"}, {Name: fleet.ProofSnapshot, Skip: "no class"}},
	}}
	printStack(&out, p)
	const want = `VM platform, installed in this order once the nodes are ready:
  multus                 v4.2.2        1 image, about 60 MB       unproven: nobody tried
  kubevirt               v1.7.1        6 images, 900 MB
  instance-types         by metalrise  no images
  images        about 960 MB on each node, besides those of the cluster
  VM network    tenants on bridge br-vm, port eno2, VLAN 20, for live migrations
  VM network    inside on bridge br-in, which leads nowhere: VMs of one node only
  volumes       class metalrise-local in /srv/vms, each on one node
  CPU model     EPYC-Rome
  moves         w1 to w2
  moves         w2 to nobody
  moves         w3 to nobody knows whom: processors differ, and do not tell
  memory        150 % of it is promised to VMs
  room          for about 6 VMs of 4 vCPU/16 GiB, 3 with one node lost
  proofs        start, volume
  not proven    migrate, drain: there is only one hypervisor
  not proven    snapshot: no class
`
	if got := out.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	p.Stack.Migration = map[string][]string{"w1": {"w2", "w3"}, "w2": {"w3", "w1"}, "w3": {"w1", "w2"}}
	if got := moveTexts(p); len(got) != 1 || !strings.Contains(got[0], "between all") {
		t.Errorf("got %q", got)
	}
	if p.Assignments = p.Assignments[:2]; moveTexts(p) != nil {
		t.Error("VMs of the only hypervisor move")
	}
	if got := roomText(fleet.Capacity{VCPUs: 4, MemoryMiB: 16384}); got != "for no VM of 4 vCPU/16 GiB" {
		t.Error(got)
	}
	if got := storageText(fleet.VMStorage{Class: "ceph", Shared: true, Snapshots: "snap"}); got != "class ceph, snapshots by snap" {
		t.Error(got)
	}
	if got := storageText(fleet.VMStorage{}); !strings.Contains(got, "none") {
		t.Error(got)
	}
}
