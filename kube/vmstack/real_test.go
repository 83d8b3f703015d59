package vmstack

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"metalrise.dev/fleet"
	"metalrise.dev/kube"
)

// fullPlan is a plan that uses all that metalrise writes.
func fullPlan() fleet.Plan {
	p := testPlan()
	p.Stack.MigrationNetwork, p.Stack.Pause = "vms", "registry.k8s.io/pause:3.10.1"
	p.Stack.Components = []fleet.ComponentPlan{{Name: fleet.ComponentLocalStorage}, {Name: fleet.ComponentCDI}}
	p.Stack.Networks = append(p.Stack.Networks, fleet.VMNetwork{Name: "plain", Bridge: "br-plain"})
	p.Assignments[1].Node.Taints = []fleet.Taint{{Key: "vms", Value: "only", Effect: "NoSchedule"}}
	return p
}

// realNodes makes node objects, so that labels have somebody to be given to.
func realNodes(t *testing.T, c *kube.Cluster, p fleet.Plan) {
	t.Helper()
	for _, a := range p.Assignments {
		if _, _, err := c.ApplyAs(t.Context(), "lab", object("v1", "Node", "", a.Node.Name, map[string]any{})); err != nil {
			t.Fatal(err)
		}
	}
}

// warningsOf collects what the API says beside its answers.
func warningsOf(i *Installer) (*Installer, func() []string) {
	var said []string
	return i.OnWarning(func(object, text string) { said = append(said, object+": "+text) }), func() []string { return said }
}

// multus is the manifest as its makers publish it.
func multus(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(module(t, "gopkg.in/k8snetworkplumbingwg/multus-cni.v4", "v4.2.2"), "deployments/multus-daemonset.yml"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A real API with KubeVirt's real schemas takes every object that metalrise
// writes, without a warning, and once more without a change.
func TestRealAPITakesAllThatIsWritten(t *testing.T) {
	p := fullPlan()
	c, _ := realAPI(t, p)
	ctx := t.Context()
	realNodes(t, c, p)
	i, said := warningsOf(New(c, p, contents(map[string]string{"multus": multus(t)})).WithPace(Pace{Look: 200 * time.Millisecond, Refuse: 20 * time.Second, Still: 20 * time.Second, Most: time.Minute}))
	// What operators bring: definitions and namespaces.
	if err := i.applyAll(ctx, "test", append([]*unstructured.Unstructured{object("v1", "Namespace", "", kubevirtNamespace, nil)}, append(kubevirtDefinitions(t), cdiDefinitions(t)...)...), silent); err != nil {
		t.Fatal(err)
	}
	brought, err := i.brought(fleet.ComponentPlan{Name: fleet.ComponentMultus, Manifests: []string{"multus"}}, fleet.CatalogueEntry{})
	if err != nil {
		t.Fatal(err)
	}
	if err := i.applyAll(ctx, fleet.ComponentMultus, brought, silent); err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{}
	for _, component := range []fleet.Component{fleet.ComponentVMNetworks, fleet.ComponentKubeVirt, fleet.ComponentCDI, fleet.ComponentInstanceTypes, fleet.ComponentLocalStorage, fleet.ComponentOpenStackHelm} {
		var before []string
		for round := range 2 {
			objects, err := i.written(ctx, component)
			if err != nil {
				t.Fatal(err)
			}
			if objects = append(objects, i.late(component)...); len(objects) == 0 {
				t.Fatalf("%s: nothing is written", component)
			}
			if err := i.applyAll(ctx, component, objects, silent); err != nil {
				t.Fatal(err)
			}
			var versions []string
			for _, o := range objects {
				now, err := c.Object(ctx, o.GroupVersionKind(), o.GetNamespace(), o.GetName())
				if err != nil || now == nil {
					t.Fatalf("%s: %v", kube.NameOf(o), err)
				}
				if o.GetKind() == "Node" || o.GetKind() == "PersistentVolume" { // controllers write there too
					versions = append(versions, o.GetName())
				} else {
					versions = append(versions, now.GetName()+" "+now.GetResourceVersion())
				}
				if lack := lacking(o.Object["spec"], now.Object["spec"]); lack != "" {
					t.Errorf("%s lost %s", kube.NameOf(o), lack)
				}
				kinds[o.GetKind()]++
			}
			if round == 1 && !slices.Equal(before, versions) {
				t.Errorf("%s: applied again\n%q, was\n%q", component, versions, before)
			}
			before = versions
		}
	}
	for _, w := range said() {
		t.Errorf("the API warns: %s", w)
	}
	t.Logf("%v", kinds)
}

// lacking says what of want is not in have.
func lacking(want, have any) string {
	w, ok := want.(map[string]any)
	if !ok {
		return ""
	}
	h, _ := have.(map[string]any)
	for k, v := range w {
		if _, ok := h[k]; !ok {
			return k
		}
		if below := lacking(v, h[k]); below != "" {
			return k + "." + below
		}
	}
	return ""
}

// The real controllers make pods that no kubelet starts: the cause is theirs.
// The component's own labels of nodes come and go without those of others.
func TestRealStuckAndRemoved(t *testing.T) {
	p := fullPlan()
	c, dir := realAPI(t, p)
	ctx := t.Context()
	realNodes(t, c, p)
	i, said := warningsOf(New(c, p, software(t, dir)).WithPace(Pace{Look: 200 * time.Millisecond, Refuse: 20 * time.Second, Still: 5 * time.Second, Most: time.Minute}))
	plan, ok := platformOf(t, dir, fleet.ComponentKubeVirt)
	if !ok {
		plan = kubevirtPlan
		text := smallOperator
		i.content = func(string) ([]byte, error) { return []byte(text), nil }
	}
	var notes []string
	err := i.Install(ctx, plan, func(note string, _ []fleet.Check) { notes = append(notes, note) })
	if fleet.CodeOf(err) != fleet.CodeComponentStuck || !strings.Contains(err.Error(), "Deployment kubevirt/virt-operator: 0 of 2 pods are ready") || !strings.Contains(err.Error(), "pod kubevirt/virt-operator-") {
		t.Fatalf("%v\n%q", err, notes)
	}
	t.Log(err)
	for _, w := range said() {
		t.Errorf("the API warns: %s", w)
	}
	seen, err := i.Look(ctx)
	if err != nil || len(seen) != 1 || seen[0].Ready || seen[0].State != stateApplying {
		t.Errorf("%+v %v", seen, err)
	}
	i.pace.Still = time.Minute // a namespace takes a few rounds of its controller
	if err := i.Remove(ctx, fleet.ComponentKubeVirt, silent); err != nil {
		t.Fatal(err)
	}
	for _, r := range []ref{{"apps/v1", "Deployment", "kubevirt", "virt-operator"}, {"apiextensions.k8s.io/v1", kindDefinition, "", "kubevirts.kubevirt.io"}, {"v1", "Namespace", "", "kubevirt"}} {
		if o, err := c.Object(ctx, r.kind(), r.Namespace, r.Name); err != nil || o != nil {
			t.Errorf("%s is still there (%v)", r, err)
		}
	}
	for _, a := range p.Assignments { // as the one who dresses nodes
		if _, _, err := c.Apply(ctx, labelled(a.Node.Name, "site", "oslo")); err != nil {
			t.Fatal(err)
		}
	}
	helm := fleet.ComponentPlan{Name: fleet.ComponentOpenStackHelm}
	if err := i.Install(ctx, helm, silent); err != nil {
		t.Fatal(err)
	}
	if got := nodeLabels(t, c, "w1"); got["openstack-compute-node"] != "enabled" || got["site"] != "oslo" {
		t.Errorf("%v", got)
	}
	if err := i.Remove(ctx, helm.Name, silent); err != nil {
		t.Fatal(err)
	}
	if got := nodeLabels(t, c, "w1"); got["openstack-compute-node"] != "" || got["site"] != "oslo" {
		t.Errorf("%v", got)
	}
}

const smallOperator = `
apiVersion: v1
kind: Namespace
metadata: {name: kubevirt}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: kubevirts.kubevirt.io}
spec:
  group: kubevirt.io
  scope: Namespaced
  names: {kind: KubeVirt, plural: kubevirts, singular: kubevirt}
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: virt-operator, namespace: kubevirt}
spec:
  replicas: 2
  selector: {matchLabels: {kubevirt.io: virt-operator}}
  template:
    metadata: {labels: {kubevirt.io: virt-operator}}
    spec: {containers: [{name: virt-operator, image: "quay.io/kubevirt/virt-operator:v1.6.0"}]}
`

func labelled(node, key, value string) *unstructured.Unstructured {
	o := object("v1", "Node", "", node, nil)
	o.SetLabels(map[string]string{key: value})
	return o
}

func nodeLabels(t *testing.T, c *kube.Cluster, name string) map[string]string {
	t.Helper()
	o, err := c.Object(t.Context(), kindNode, "", name)
	if err != nil || o == nil {
		t.Fatal(err)
	}
	return o.GetLabels()
}

// platformOf reads a component out of a payload.
func platformOf(t *testing.T, dir string, c fleet.Component) (fleet.ComponentPlan, bool) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "payload.json"))
	if err != nil {
		t.Fatal(err)
	}
	var payload fleet.Payload
	if err := json.Unmarshal(text, &payload); err != nil {
		t.Fatal(err)
	}
	plan := fleet.ComponentPlan{Name: c}
	for _, m := range payload.ManifestsOf(c) {
		plan.Version, plan.Manifests = m.Version, append(plan.Manifests, m.Digest)
	}
	return plan, len(plan.Manifests) > 0
}

func software(t *testing.T, dir string) func(string) ([]byte, error) {
	t.Helper()
	return func(digest string) ([]byte, error) { return os.ReadFile(filepath.Join(dir, fleet.Blob(digest))) }
}
