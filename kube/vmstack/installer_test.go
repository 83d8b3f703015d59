package vmstack

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"metalrise.dev/fleet"
)

// testPlan is a control plane and two workers with a VM platform.
func testPlan() fleet.Plan {
	node := func(name string, role fleet.Role) fleet.Assignment {
		n := &fleet.NodePlan{Name: name}
		if role == fleet.ControlPlane {
			n.Taints = []fleet.Taint{{Key: "node-role.kubernetes.io/control-plane", Effect: "NoSchedule"}}
		}
		return fleet.Assignment{Server: fleet.ServerID(name), Role: role, Hostname: name, Node: n, InstallDisk: fleet.DiskRef{SizeBytes: 8 << 30}}
	}
	return fleet.Plan{
		ID: "plan-1", Site: "oslo", Cluster: &fleet.ClusterPlan{Version: "v1.34.4"},
		Stack: &fleet.StackPlan{
			MemoryOvercommit: 100, Emulation: true, CPUModel: "Nehalem", FeatureGates: []string{"Snapshot"},
			Networks: []fleet.VMNetwork{{Name: "vms", Bridge: "br-vm", VLAN: 20, Subnet: "10.0.20.0/24"}},
		},
		Assignments: []fleet.Assignment{node("cp1", fleet.ControlPlane), node("w1", fleet.Worker), node("w2", fleet.Worker)},
	}
}

var testPace = Pace{Look: time.Millisecond, Refuse: 300 * time.Millisecond, Still: 300 * time.Millisecond, Most: 20 * time.Second}

const operator = `
apiVersion: kubevirt.io/v1
kind: KubeVirt
metadata: {name: kubevirt, namespace: kubevirt}
spec: {imagePullPolicy: Always}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: virt-operator, namespace: kubevirt}
spec: {replicas: 2, selector: {matchLabels: {kubevirt.io: virt-operator}}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: kubevirt-operator, namespace: kubevirt}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: kubevirts.kubevirt.io}
spec: {group: kubevirt.io, names: {kind: KubeVirt}, versions: [{name: v1, storage: true}]}
---
apiVersion: v1
kind: Namespace
metadata: {name: kubevirt}
`

var kubevirtPlan = fleet.ComponentPlan{Name: fleet.ComponentKubeVirt, Version: "v1.6.0", Manifests: []string{"operator"}}

func contents(m map[string]string) func(string) ([]byte, error) {
	return func(digest string) ([]byte, error) {
		if text, ok := m[digest]; ok {
			return []byte(text), nil
		}
		return nil, errors.New("no such content")
	}
}

func newInstaller(t *testing.T, p fleet.Plan, software map[string]string) (*fakeAPI, *Installer) {
	t.Helper()
	f, c := newFakeAPI(t, p)
	return f, New(c, p, contents(software)).WithPace(testPace)
}

func (f *fakeAPI) nodes(labels string, names ...string) {
	for _, n := range names {
		f.set("/api/v1/nodes/"+n, `{"apiVersion":"v1","kind":"Node","metadata":{"labels":{`+labels+`}},"status":{"conditions":[{"type":"Ready","status":"True"}]}}`)
	}
}

func silent(string, []fleet.Check) {}

const (
	pathCR       = "/apis/kubevirt.io/v1/namespaces/kubevirt/kubevirts/kubevirt"
	pathOperator = "/apis/apps/v1/namespaces/kubevirt/deployments/virt-operator"
	pathList     = "/api/v1/namespaces/kube-system/configmaps/metalrise-component-kubevirt"
)

func TestInstallKubeVirt(t *testing.T) {
	f, i := newInstaller(t, testPlan(), map[string]string{"operator": operator})
	f.control = allWell
	f.nodes(`"kubevirt.io/schedulable":"true"`, "w1", "w2")
	var notes []string
	var last []fleet.Check
	tell := func(note string, checks []fleet.Check) {
		if checks != nil {
			last = checks
		}
		notes = append(notes, note)
	}
	if err := i.Install(t.Context(), kubevirtPlan, tell); err != nil {
		t.Fatal(err)
	}
	want := []string{pathList, "/api/v1/namespaces/kubevirt", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/kubevirts.kubevirt.io",
		"/api/v1/namespaces/kubevirt/serviceaccounts/kubevirt-operator", pathOperator, pathCR}
	if !slices.Equal(f.applied, want) {
		t.Errorf("applied\n%s\nwant\n%s", strings.Join(f.applied, "\n"), strings.Join(want, "\n"))
	}
	spec := f.get(pathCR)["spec"].(map[string]any)
	if spec["imagePullPolicy"] != "IfNotPresent" {
		t.Errorf("the makers' object was applied, not ours: %v", spec)
	}
	if label := f.get(pathOperator)["metadata"].(map[string]any)["labels"].(map[string]any)[componentLabel]; label != "kubevirt" {
		t.Errorf("label %v", label)
	}
	var names []string
	for _, c := range last {
		names = append(names, fmt.Sprint(c.Name, " ", c.OK))
	}
	wantChecks := []string{"CustomResourceDefinition kubevirts.kubevirt.io true", "Deployment kubevirt/virt-operator true", "KubeVirt kubevirt/kubevirt true", "version true", "VMs on w1 true", "VMs on w2 true"}
	if !slices.Equal(names, wantChecks) || notes[len(notes)-1] != "ready" {
		t.Errorf("%q, %q", names, notes)
	}
	// Once more: nothing changes.
	generation := fmt.Sprint(f.get(pathCR)["metadata"].(map[string]any)["generation"])
	if err := i.Install(t.Context(), kubevirtPlan, silent); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(f.get(pathCR)["metadata"].(map[string]any)["generation"]); got != generation {
		t.Errorf("generation %s, was %s", got, generation)
	}
	seen, err := i.Look(t.Context())
	if err != nil || len(seen) != 1 || !seen[0].Ready || seen[0].Observed != "v1.6.0" || seen[0].Version != "v1.6.0" || seen[0].State != "ready" {
		t.Errorf("%+v, %v", seen, err)
	}
	// An operator that changed its mind shows.
	f.set(pathCR, `{"status":{"conditions":[{"type":"Available","status":"True"},{"type":"Degraded","status":"True","message":"virt-handler is gone"}]}}`)
	seen, err = i.Look(t.Context())
	if err != nil || seen[0].Ready || !strings.Contains(waiting(seen[0].Checks), "virt-handler is gone") {
		t.Errorf("%+v, %v", seen, err)
	}
}

func TestInstallWaitsForNodes(t *testing.T) {
	p := testPlan()
	p.Stack.Emulation = false
	f, i := newInstaller(t, p, map[string]string{"operator": operator})
	f.control = allWell
	f.nodes(`"kubevirt.io/schedulable":"true"`, "w1")
	err := i.Install(t.Context(), kubevirtPlan, silent)
	if fleet.CodeOf(err) != fleet.CodeComponentStuck || !strings.Contains(err.Error(), "VMs on w1: the node offers no devices.kubevirt.io/kvm") {
		t.Errorf("%v", err)
	}
	f.set("/api/v1/nodes/w1", `{"status":{"allocatable":{"devices.kubevirt.io/kvm":"1k"}}}`)
	if err := i.Install(t.Context(), kubevirtPlan, silent); err != nil {
		t.Error(err)
	}
}

func TestInstallRefusals(t *testing.T) {
	plan := kubevirtPlan
	t.Run("nothing known", func(t *testing.T) {
		_, i := newInstaller(t, testPlan(), nil)
		for _, c := range []fleet.ComponentPlan{{Name: "nothing"}, {Name: fleet.ComponentKubeVirt}, plan} {
			if err := i.Install(t.Context(), c, silent); fleet.CodeOf(err) != fleet.CodeComponentMissing {
				t.Errorf("%+v: %v", c, err)
			}
		}
	})
	t.Run("no manifests", func(t *testing.T) {
		_, i := newInstaller(t, testPlan(), map[string]string{"operator": "a: [}"})
		if err := i.Install(t.Context(), plan, silent); fleet.CodeOf(err) != fleet.CodeComponentRefused || fleet.KindOf(err) != fleet.Invalid {
			t.Error(err)
		}
	})
	t.Run("for good", func(t *testing.T) {
		f, i := newInstaller(t, testPlan(), map[string]string{"operator": operator})
		f.control = allWell
		f.refuse = func(r *http.Request) (int, string) {
			if r.Method == http.MethodPatch && strings.HasSuffix(r.URL.Path, "/virt-operator") {
				return 422, "spec.template is required"
			}
			return 0, ""
		}
		begin := time.Now()
		err := i.Install(t.Context(), plan, silent)
		if fleet.CodeOf(err) != fleet.CodeComponentRefused || fleet.KindOf(err) != fleet.Invalid ||
			!strings.Contains(err.Error(), "apply Deployment kubevirt/virt-operator") || !strings.Contains(err.Error(), "spec.template is required") {
			t.Error(err)
		}
		if time.Since(begin) > 10*time.Second {
			t.Error("it was tried again and again")
		}
	})
	t.Run("a webhook that starts", func(t *testing.T) {
		f, i := newInstaller(t, testPlan(), map[string]string{"operator": operator})
		f.control = allWell
		f.nodes(`"kubevirt.io/schedulable":"true"`, "w1")
		n := 0
		f.refuse = func(r *http.Request) (int, string) {
			if r.Method == http.MethodPatch && strings.HasSuffix(r.URL.Path, "/kubevirts/kubevirt") {
				if n++; n < 4 {
					return 500, "failed calling webhook: connection refused"
				}
			}
			return 0, ""
		}
		var notes []string
		if err := i.Install(t.Context(), plan, func(note string, _ []fleet.Check) { notes = append(notes, note) }); err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(notes, func(s string) bool {
			return strings.Contains(s, "waiting until the API takes KubeVirt kubevirt/kubevirt: failed calling webhook")
		}) {
			t.Errorf("%q", notes)
		}
	})
	t.Run("a webhook that never starts", func(t *testing.T) {
		f, i := newInstaller(t, testPlan(), map[string]string{"operator": operator})
		f.control = allWell
		f.refuse = func(r *http.Request) (int, string) {
			if r.Method == http.MethodPatch && strings.HasSuffix(r.URL.Path, "/kubevirts/kubevirt") {
				return 500, "failed calling webhook: connection refused"
			}
			return 0, ""
		}
		if err := i.Install(t.Context(), plan, silent); fleet.CodeOf(err) != fleet.CodeComponentRefused || fleet.KindOf(err) != fleet.Transient {
			t.Error(err)
		}
	})
	t.Run("broken off", func(t *testing.T) {
		f, i := newInstaller(t, testPlan(), map[string]string{"operator": operator})
		f.nodes("", "w1")
		ctx, cancel := context.WithCancel(t.Context())
		i = i.WithPace(Pace{Look: time.Millisecond, Refuse: time.Hour, Still: time.Hour, Most: time.Hour})
		err := i.Install(ctx, plan, func(note string, _ []fleet.Check) {
			if strings.HasPrefix(note, "waiting") {
				cancel()
			}
		})
		if fleet.CodeOf(err) != fleet.CodeInterrupted {
			t.Error(err)
		}
		f.mu.Lock()
		f.control = allWell
		f.mu.Unlock()
		f.nodes(`"kubevirt.io/schedulable":"true"`, "w1")
		f.set("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/kubevirts.kubevirt.io", `{"status":{"conditions":[{"type":"Established","status":"True"}]}}`)
		if err := i.Install(t.Context(), plan, silent); err != nil {
			t.Error(err)
		}
	})
}

func TestNewVersionDeletesWhatItLost(t *testing.T) {
	old := operator + "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: old, namespace: kubevirt}\n"
	f, i := newInstaller(t, testPlan(), map[string]string{"operator": operator, "old": old})
	f.control = allWell
	f.nodes(`"kubevirt.io/schedulable":"true"`, "w1")
	before := fleet.ComponentPlan{Name: fleet.ComponentKubeVirt, Version: "v1.6.0", Manifests: []string{"old"}}
	if err := i.Install(t.Context(), before, silent); err != nil {
		t.Fatal(err)
	}
	// The operator is exchanged, and KubeVirt itself is not yet.
	after := fleet.ComponentPlan{Name: fleet.ComponentKubeVirt, Version: "v1.7.0", Manifests: []string{"operator"}}
	if err := i.Install(t.Context(), after, silent); fleet.CodeOf(err) != fleet.CodeComponentStuck || !strings.Contains(err.Error(), "version: KubeVirt is of version v1.6.0, v1.7.0 is wanted") {
		t.Fatal(err)
	}
	if len(f.deleted) > 0 {
		t.Errorf("deleted %q before the new version was there", f.deleted)
	}
	f.set(pathCR, `{"status":{"observedKubeVirtVersion":"v1.7.0"}}`)
	f.control = nil
	if err := i.Install(t.Context(), after, silent); err != nil {
		t.Fatal(err)
	}
	if want := []string{"/api/v1/namespaces/kubevirt/configmaps/old"}; !slices.Equal(f.deleted, want) {
		t.Errorf("deleted %q", f.deleted)
	}
	list := f.get(pathList)["data"].(map[string]any)
	if list["version"] != "v1.7.0" || list["state"] != "ready" || strings.Contains(list["objects"].(string), `"old"`) {
		t.Errorf("%v", list)
	}
}

func TestRemove(t *testing.T) {
	f, i := newInstaller(t, testPlan(), map[string]string{"operator": operator})
	f.control = allWell
	f.nodes(`"kubevirt.io/schedulable":"true"`, "w1")
	if err := i.Install(t.Context(), kubevirtPlan, silent); err != nil {
		t.Fatal(err)
	}
	vm := "/apis/kubevirt.io/v1/namespaces/default/virtualmachines/mine"
	f.set(vm, `{"apiVersion":"kubevirt.io/v1","kind":"VirtualMachine","metadata":{"namespace":"default"}}`)
	err := i.Remove(t.Context(), fleet.ComponentKubeVirt, silent)
	if fleet.CodeOf(err) != fleet.CodeComponentRefused || fleet.KindOf(err) != fleet.Conflict || !strings.Contains(err.Error(), "VirtualMachine default/mine") {
		t.Fatal(err)
	}
	if len(f.deleted) > 0 {
		t.Fatalf("deleted %q", f.deleted)
	}
	f.mu.Lock()
	delete(f.objects, vm)
	f.mu.Unlock()
	if err := i.Remove(t.Context(), fleet.ComponentKubeVirt, silent); err != nil {
		t.Fatal(err)
	}
	want := []string{pathCR, pathOperator, "/api/v1/namespaces/kubevirt/serviceaccounts/kubevirt-operator",
		"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/kubevirts.kubevirt.io", "/api/v1/namespaces/kubevirt", pathList}
	if !slices.Equal(f.deleted, want) {
		t.Errorf("deleted\n%s", strings.Join(f.deleted, "\n"))
	}
	if err := i.Remove(t.Context(), fleet.ComponentKubeVirt, silent); err != nil {
		t.Error("once more:", err)
	}
	if seen, err := i.Look(t.Context()); err != nil || len(seen) != 0 {
		t.Errorf("%+v %v", seen, err)
	}
}

func TestMultusLeavesTheNodesClean(t *testing.T) {
	f, i := newInstaller(t, testPlan(), map[string]string{"m": `
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: multus, namespace: kube-system, labels: {app: multus}}
spec: {template: {spec: {containers: [{name: c, args: ["--multus-conf-file=auto"]}]}}}
`})
	specs := []string{}
	f.control = func(f *fakeAPI, path string, o map[string]any) {
		allWell(f, path, o)
		if o["kind"] == "DaemonSet" {
			specs = append(specs, fmt.Sprint(o["spec"], o["metadata"].(map[string]any)["labels"]))
		}
	}
	if err := i.Install(t.Context(), fleet.ComponentPlan{Name: fleet.ComponentMultus, Manifests: []string{"m"}}, silent); err != nil {
		t.Fatal(err)
	}
	if err := i.Remove(t.Context(), fleet.ComponentMultus, silent); err != nil {
		t.Fatal(err)
	}
	if len(specs) != 2 || strings.Contains(specs[0], multusCleans) || !strings.Contains(specs[1], "[--multus-conf-file=auto "+multusCleans+"]") || !strings.Contains(specs[1], "app:multus") {
		t.Errorf("%q", specs)
	}
	if len(f.deleted) != 2 {
		t.Errorf("deleted %q", f.deleted)
	}
}

func TestInstanceTypesLeaveTheOperatorsAlone(t *testing.T) {
	f, i := newInstaller(t, testPlan(), nil)
	kept := "/apis/instancetype.kubevirt.io/v1beta1/virtualmachineclusterinstancetypes/u1.nano"
	f.set(kept, `{"apiVersion":"instancetype.kubevirt.io/v1beta1","kind":"VirtualMachineClusterInstancetype","metadata":{"labels":{"app.kubernetes.io/managed-by":"virt-operator"}},"spec":{"cpu":{"guest":7}}}`)
	c := fleet.ComponentPlan{Name: fleet.ComponentInstanceTypes}
	if err := i.Install(t.Context(), c, silent); err != nil {
		t.Fatal(err)
	}
	if slices.Contains(f.applied, kept) || len(f.applied) != 1+len(InstanceTypes())+len(Preferences())-1 {
		t.Errorf("applied %q", f.applied)
	}
	if err := i.Remove(t.Context(), c.Name, silent); err != nil {
		t.Fatal(err)
	}
	if f.get(kept) == nil {
		t.Error("the operator's own was deleted")
	}
}

func TestLocalStorageRounds(t *testing.T) {
	f, i := newInstaller(t, testPlan(), nil)
	c := fleet.ComponentPlan{Name: fleet.ComponentLocalStorage}
	if err := i.Install(t.Context(), c, silent); err != nil {
		t.Fatal(err)
	}
	if want := 2 + 2*volumesPerNode; len(f.applied) != want { // the list, the class, the volumes; none on the control plane
		t.Fatalf("%d objects, want %d: %q", len(f.applied), want, f.applied)
	}
	const at = "/api/v1/persistentvolumes/local-w1-"
	spec := f.get(at + "0")["spec"].(map[string]any)
	if spec["capacity"].(map[string]any)["storage"] != "512Mi" || spec["hostPath"].(map[string]any)["path"] != "/var/lib/metalrise/volumes/0-0" {
		t.Errorf("%v", spec)
	}
	f.set(at+"0", `{"status":{"phase":"Released"}}`)
	f.set(at+"1", `{"status":{"phase":"Bound"}}`)
	if seen, err := i.Look(t.Context()); err != nil || !seen[0].Ready {
		t.Errorf("one volume was given back: %+v %v", seen, err)
	}
	f.mu.Lock()
	kept := f.objects[at+"7"]
	delete(f.objects, at+"7")
	f.mu.Unlock()
	if seen, err := i.Look(t.Context()); err != nil || seen[0].Ready || !strings.Contains(waiting(seen[0].Checks), "local-w1-7") {
		t.Errorf("one volume is gone: %+v %v", seen, err)
	}
	f.mu.Lock()
	f.objects[at+"7"] = kept
	f.mu.Unlock()
	// The site file moved the folder meanwhile: volumes that are there stay where they are.
	p := testPlan()
	p.Stack.Storage.Path = "/srv/vms"
	i.plan = p
	for range 2 {
		if err := i.Install(t.Context(), c, silent); err != nil {
			t.Fatal(err)
		}
	}
	if got := f.get(at + "0-1")["spec"].(map[string]any)["hostPath"].(map[string]any)["path"]; got != "/srv/vms/0-1" {
		t.Errorf("new round at %v", got)
	}
	if got := f.get(at + "1")["spec"].(map[string]any)["hostPath"].(map[string]any)["path"]; got != "/var/lib/metalrise/volumes/1-0" {
		t.Errorf("used volume moved to %v", got)
	}
	if f.get(at+"0-2") != nil || f.get(at+"0") == nil {
		t.Error("rounds")
	}
	err := i.Remove(t.Context(), c.Name, silent)
	if fleet.KindOf(err) != fleet.Conflict || !strings.Contains(err.Error(), "volume local-w1-1 is in use") {
		t.Error(err)
	}
}

// TestLabelsMakeNoNodes: a worker that has not joined is not made by its labels,
// and gets them when the component is installed again.
func TestLabelsMakeNoNodes(t *testing.T) {
	f, i := newInstaller(t, testPlan(), nil)
	f.control = allWell
	c := fleet.ComponentPlan{Name: fleet.ComponentOpenStackHelm}
	node := func(n string) string { return `{"apiVersion":"v1","kind":"Node","metadata":{"uid":"u-` + n + `"}}` }
	f.set("/api/v1/nodes/cp1", node("cp1"))
	f.set("/api/v1/nodes/w1", node("w1"))
	noted := false
	err := i.Install(t.Context(), c, func(note string, _ []fleet.Check) { noted = noted || strings.Contains(note, "not joined yet: w2") })
	if err != nil {
		t.Fatal(err)
	}
	if f.get("/api/v1/nodes/w2") != nil || !noted {
		t.Errorf("w2 was made, or nobody was told (%v): %v", noted, f.get("/api/v1/nodes/w2"))
	}
	f.set("/api/v1/nodes/w2", node("w2"))
	if err := i.Install(t.Context(), c, silent); err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{"w1", "w2"} {
		metadata := f.get("/api/v1/nodes/" + n)["metadata"].(map[string]any)
		if labels, _ := metadata["labels"].(map[string]any); labels["openstack-compute-node"] != "enabled" {
			t.Errorf("%s has %v", n, labels)
		}
	}
}
