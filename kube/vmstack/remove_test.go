package vmstack

import (
	"strings"
	"testing"

	"metalrise.dev/fleet"
)

// wantRefusal removes a component and expects that nothing happens, because of
// what the text names.
func wantRefusal(t *testing.T, f *fakeAPI, i *Installer, c fleet.Component, because string) {
	t.Helper()
	err := i.Remove(t.Context(), c, silent)
	if fleet.CodeOf(err) != fleet.CodeComponentRefused || fleet.KindOf(err) != fleet.Conflict || !strings.Contains(err.Error(), because) {
		t.Errorf("remove %s: %v, want a refusal because of %s", c, err, because)
	}
	if len(f.deleted) > 0 {
		t.Fatalf("deleted %q", f.deleted)
	}
}

func (f *fakeAPI) drop(path string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.objects, path)
}

// TestRemoveKeepsAnOpenStack: the namespace is made for others to fill, and
// would take all that they put into it along.
func TestRemoveKeepsAnOpenStack(t *testing.T) {
	f, i := newInstaller(t, testPlan(), nil)
	f.control = allWell
	c := fleet.ComponentPlan{Name: fleet.ComponentOpenStackHelm}
	for _, n := range []string{"cp1", "w1", "w2"} {
		f.set("/api/v1/nodes/"+n, `{"apiVersion":"v1","kind":"Node","metadata":{"uid":"u-`+n+`"}}`)
	}
	if err := i.Install(t.Context(), c, silent); err != nil {
		t.Fatal(err)
	}
	claim, pod := "/api/v1/namespaces/openstack/persistentvolumeclaims/mysql-data-mariadb-server-0", "/api/v1/namespaces/openstack/pods/keystone"
	f.set(claim, `{"apiVersion":"v1","kind":"PersistentVolumeClaim","metadata":{"namespace":"openstack"}}`)
	wantRefusal(t, f, i, c.Name, "PersistentVolumeClaim mysql-data-mariadb-server-0 in namespace openstack")
	f.drop(claim)
	f.set(pod, `{"apiVersion":"v1","kind":"Pod","metadata":{"namespace":"openstack"}}`)
	wantRefusal(t, f, i, c.Name, "Pod keystone in namespace openstack")
	f.drop(pod)
	f.drop("/api/v1/nodes/w2") // it left the cluster meanwhile
	if err := i.Remove(t.Context(), c.Name, silent); err != nil {
		t.Fatal(err)
	}
	if f.get("/api/v1/nodes/w2") != nil {
		t.Error("a node that left is in the API again")
	}
	if f.get("/api/v1/namespaces/openstack") != nil || f.get("/api/v1/nodes/w1") == nil {
		t.Error("the namespace is still there, or a node is not")
	}
}

// TestRemoveKeepsSnapshots: a snapshot of a VM that was deleted is perhaps all
// that is left of it, and goes with KubeVirt's definitions.
func TestRemoveKeepsSnapshots(t *testing.T) {
	f, i := newInstaller(t, testPlan(), map[string]string{"operator": operator})
	f.control = allWell
	f.nodes(`"kubevirt.io/schedulable":"true"`, "w1")
	if err := i.Install(t.Context(), kubevirtPlan, silent); err != nil {
		t.Fatal(err)
	}
	f.set("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/virtualmachinesnapshots.snapshot.kubevirt.io", `{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{},
		"spec":{"group":"snapshot.kubevirt.io","names":{"kind":"VirtualMachineSnapshot"},"versions":[{"name":"v1alpha1","storage":false},{"name":"v1beta1","storage":true}]}}`)
	snapshot := "/apis/snapshot.kubevirt.io/v1beta1/namespaces/shop/virtualmachinesnapshots/before-upgrade"
	f.set(snapshot, `{"apiVersion":"snapshot.kubevirt.io/v1beta1","kind":"VirtualMachineSnapshot","metadata":{"namespace":"shop"}}`)
	wantRefusal(t, f, i, fleet.ComponentKubeVirt, "VirtualMachineSnapshot shop/before-upgrade")
	f.drop(snapshot)
	if err := i.Remove(t.Context(), fleet.ComponentKubeVirt, silent); err != nil {
		t.Fatal(err)
	}
}

// TestRemoveLeavesDefinitionsOfOthers: a definition that another component
// brings too is that component's after it was applied last.
func TestRemoveLeavesDefinitionsOfOthers(t *testing.T) {
	f, i := newInstaller(t, testPlan(), map[string]string{"operator": operator})
	f.control = allWell
	f.nodes(`"kubevirt.io/schedulable":"true"`, "w1")
	if err := i.Install(t.Context(), kubevirtPlan, silent); err != nil {
		t.Fatal(err)
	}
	const definition = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/kubevirts.kubevirt.io"
	f.set(definition, `{"metadata":{"labels":{"metalrise.dev/component":"forklift"}}}`)
	if err := i.Remove(t.Context(), fleet.ComponentKubeVirt, silent); err != nil {
		t.Fatal(err)
	}
	if f.get(definition) == nil {
		t.Error("another component's definition was deleted")
	}
}

// TestRemoveKeepsAddresses: the record of who has which address of the migration
// network goes only when nobody has one.
func TestRemoveKeepsAddresses(t *testing.T) {
	f, i := newInstaller(t, testPlan(), map[string]string{"w": `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: ippools.whereabouts.cni.cncf.io}
spec: {group: whereabouts.cni.cncf.io, names: {kind: IPPool}, versions: [{name: v1alpha1, storage: true}]}
`})
	f.control = allWell
	if err := i.Install(t.Context(), fleet.ComponentPlan{Name: fleet.ComponentWhereabouts, Manifests: []string{"w"}}, silent); err != nil {
		t.Fatal(err)
	}
	const pool = "/apis/whereabouts.cni.cncf.io/v1alpha1/namespaces/kube-system/ippools/10.0.20.0-24"
	f.set(pool, `{"apiVersion":"whereabouts.cni.cncf.io/v1alpha1","kind":"IPPool","metadata":{"namespace":"kube-system"},"spec":{"range":"10.0.20.0/24","allocations":{"2":{"podref":"kubevirt/virt-handler-x"}}}}`)
	wantRefusal(t, f, i, fleet.ComponentWhereabouts, "IPPool kube-system/10.0.20.0-24")
	f.drop(pool)
	f.set(pool, `{"apiVersion":"whereabouts.cni.cncf.io/v1alpha1","kind":"IPPool","metadata":{"namespace":"kube-system"},"spec":{"range":"10.0.20.0/24","allocations":{}}}`)
	if err := i.Remove(t.Context(), fleet.ComponentWhereabouts, silent); err != nil {
		t.Fatal(err)
	}
}
