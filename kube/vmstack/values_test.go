package vmstack

import (
	"encoding/json"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"metalrise.dev/fleet"
)

func asJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// KubeVirt is configured for what the plan knows of the hardware.
func TestKubeVirtFitsThePlan(t *testing.T) {
	three := testPlan()
	three.Assignments[0].Node.Taints = nil // a control plane that takes VMs too
	three.Stack.Emulation, three.Stack.MigrationNetwork, three.Stack.MemoryOvercommit = false, "vms", 150
	three.Stack.FeatureGates = []string{"Snapshot", "HotplugVolumes"}
	three.Assignments[1].Node.Taints = []fleet.Taint{{Key: "vms", Value: "only", Effect: "NoSchedule"}, {Key: "slow", Effect: "PreferNoSchedule"}}
	three.Assignments = append(three.Assignments, fleet.Assignment{Role: fleet.ControlPlane, Node: &fleet.NodePlan{Name: "cp2"}}, fleet.Assignment{Role: fleet.Excluded})
	one := fleet.Plan{Stack: &fleet.StackPlan{Emulation: true, MemoryOvercommit: 100}, Assignments: []fleet.Assignment{{Role: fleet.SingleNode, Node: &fleet.NodePlan{Name: "edge"}}}}
	for name, c := range map[string]struct {
		plan fleet.Plan
		want string
	}{
		"workers": {testPlan(), `{"configuration":{"cpuModel":"Nehalem","developerConfiguration":{"featureGates":["Snapshot"],"memoryOvercommit":100,"useEmulation":true},` +
			`"evictionStrategy":"LiveMigrateIfPossible","migrations":{"bandwidthPerMigration":"128Mi"}},"imagePullPolicy":"IfNotPresent","infra":{"replicas":1},` +
			`"uninstallStrategy":"BlockUninstallIfWorkloadsExist","workloadUpdateStrategy":{"workloadUpdateMethods":["LiveMigrate"]}}`},
		"all take VMs": {three, `{"configuration":{"cpuModel":"Nehalem","developerConfiguration":{"featureGates":["Snapshot","HotplugVolumes"],"memoryOvercommit":150},` +
			`"evictionStrategy":"LiveMigrateIfPossible","migrations":{"network":"vms"}},"imagePullPolicy":"IfNotPresent","uninstallStrategy":"BlockUninstallIfWorkloadsExist",` +
			`"workloadUpdateStrategy":{"workloadUpdateMethods":["LiveMigrate"]},"workloads":{"nodePlacement":{"tolerations":[` +
			`{"effect":"PreferNoSchedule","key":"slow","operator":"Exists"},{"effect":"NoSchedule","key":"vms","operator":"Equal","value":"only"}]}}}`},
		"single node": {one, `{"configuration":{"developerConfiguration":{"memoryOvercommit":100,"useEmulation":true},"migrations":{"bandwidthPerMigration":"128Mi"}},` +
			`"imagePullPolicy":"IfNotPresent","infra":{"replicas":1},"uninstallStrategy":"BlockUninstallIfWorkloadsExist"}`},
	} {
		if got := asJSON(t, KubeVirt(c.plan).Object["spec"]); got != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", name, got, c.want)
		}
	}
}

func TestNetworks(t *testing.T) {
	s := *testPlan().Stack
	s.Networks = append(s.Networks, fleet.VMNetwork{Name: "plain", Bridge: "br-plain"})
	s.MigrationNetwork = "vms"
	var got []string
	for _, o := range Networks(s) {
		config, _ := o.Object["spec"].(map[string]any)["config"].(string)
		got = append(got, o.GetNamespace()+"/"+o.GetName()+" "+config)
	}
	want := []string{
		`default/vms {"cniVersion":"0.4.0","name":"vms","type":"bridge","bridge":"br-vm","vlan":20,"ipam":{}}`,
		`kubevirt/vms {"cniVersion":"0.4.0","name":"vms","type":"bridge","bridge":"br-vm","vlan":20,"ipam":{"range":"10.0.20.0/24","range_end":"10.0.20.250","range_start":"10.0.20.2","type":"whereabouts"}}`,
		`default/plain {"cniVersion":"0.4.0","name":"plain","type":"bridge","bridge":"br-plain","ipam":{}}`,
	}
	if asJSON(t, got) != asJSON(t, want) {
		t.Errorf("%q", got)
	}
}

func TestVolumeSizes(t *testing.T) {
	for disk, want := range map[int64]int64{0: 4 << 30, -1: 4 << 30, 1 << 30: 128 << 20, 8 << 30: 512 << 20, 8<<30 + 12345: 512 << 20, 480103981056: 28608 << 20} {
		a := fleet.Assignment{InstallDisk: fleet.DiskRef{SizeBytes: disk}}
		if got := volumeBytes(a); got != want {
			t.Errorf("disk of %d: %d, want %d", disk, got, want)
		}
	}
}

// A patch that names another container than the Deployment has would add one.
func TestCDIAsksForLittle(t *testing.T) {
	patches, _, err := unstructured.NestedSlice(CDI(testPlan()).Object, "spec", "customizeComponents", "patches")
	if err != nil || len(patches) != 3 {
		t.Fatalf("%v, %v", patches, err)
	}
	for _, p := range patches {
		m := p.(map[string]any)
		var change struct {
			Spec struct{ Template struct{ Spec corev1.PodSpec } }
		}
		if err := json.Unmarshal([]byte(m["patch"].(string)), &change); err != nil {
			t.Fatal(err)
		}
		c := change.Spec.Template.Spec.Containers
		if m["resourceType"] != "Deployment" || m["type"] != "strategic" || len(c) != 1 || c[0].Name != m["resourceName"] || c[0].Resources.Requests.Cpu().String() != "10m" {
			t.Errorf("%v", m)
		}
	}
}
