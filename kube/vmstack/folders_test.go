package vmstack

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"metalrise.dev/fleet"
)

// Where an image that does nothing is known, volumes are local ones, whose
// folders a DaemonSet of the hypervisors mounts. A volume that is there already
// stays of its kind, and one of a later round gets a folder too.
func TestLocalVolumesHaveTheirFoldersMade(t *testing.T) {
	p := testPlan()
	p.Stack.Pause = "registry.k8s.io/pause:3.10.1"
	f, i := newInstaller(t, p, nil)
	f.control = allWell
	c := fleet.ComponentPlan{Name: fleet.ComponentLocalStorage}
	if err := i.Install(t.Context(), c, silent); err != nil {
		t.Fatal(err)
	}
	const at = "/api/v1/persistentvolumes/local-w1-"
	spec := f.get(at + "0")["spec"].(map[string]any)
	if path, _, _ := unstructured.NestedString(spec, "local", "path"); path != "/var/lib/metalrise/volumes/0-0" || spec["hostPath"] != nil {
		t.Errorf("%v", spec)
	}
	set := "/apis/apps/v1/namespaces/kube-system/daemonsets/" + foldersName
	if got := folderPaths(t, f.get(set)); len(got) != volumesPerNode || got[0] != "/var/lib/metalrise/volumes/0-0 DirectoryOrCreate" {
		t.Errorf("folders %q", got)
	}
	if made, first := slices.Index(f.applied, set), slices.IndexFunc(f.applied, func(p string) bool { return strings.HasPrefix(p, at) }); made < 0 || made > first {
		t.Errorf("the folders come at %d, the first volume at %d", made, first)
	}
	hosts := fmt.Sprint(f.get(set)["spec"].(map[string]any)["template"].(map[string]any)["spec"].(map[string]any)["affinity"])
	if !strings.Contains(hosts, "w1 w2") || strings.Contains(hosts, "cp1") {
		t.Errorf("on %s", hosts)
	}
	f.set(at+"0", `{"status":{"phase":"Released"}}`)
	if err := i.Install(t.Context(), c, silent); err != nil {
		t.Fatal(err)
	}
	if got := folderPaths(t, f.get(set)); !slices.Contains(got, "/var/lib/metalrise/volumes/0-1 DirectoryOrCreate") || len(got) != volumesPerNode+1 {
		t.Errorf("folders after a round %q", got)
	}
	if err := i.Remove(t.Context(), c.Name, silent); err != nil {
		t.Fatal(err)
	}
	if f.get(set) != nil {
		t.Error("the DaemonSet stayed")
	}
}

// A volume of an older metalrise needs nobody who makes its folder.
func TestOldVolumesStay(t *testing.T) {
	old := testPlan()
	was := LocalStorage(old, nil)
	now := testPlan()
	now.Stack.Pause = "registry.k8s.io/pause:3.10.1"
	var there []*unstructured.Unstructured
	for _, o := range was {
		if o.GetKind() == "PersistentVolume" {
			there = append(there, o)
		}
	}
	for _, o := range LocalStorage(now, there) {
		if o.GetKind() == "DaemonSet" {
			t.Error("folders are made that nobody needs")
		}
		if spec, _, _ := unstructured.NestedMap(o.Object, "spec"); o.GetKind() == "PersistentVolume" && (spec["hostPath"] == nil || spec["local"] != nil) {
			t.Errorf("%s became another kind: %v", o.GetName(), spec)
		}
	}
}

func folderPaths(t *testing.T, set map[string]any) []string {
	t.Helper()
	volumes, _, err := unstructured.NestedSlice(set, "spec", "template", "spec", "volumes")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, v := range volumes {
		from := v.(map[string]any)["hostPath"].(map[string]any)
		out = append(out, fmt.Sprint(from["path"], " ", from["type"]))
	}
	return out
}

// CDI is told of local storage once it runs: before that its API does not know
// the kind, and it deletes what is said about a class that is not there.
func TestStorageProfileComesLast(t *testing.T) {
	p := testPlan()
	p.Stack.Components = []fleet.ComponentPlan{{Name: fleet.ComponentLocalStorage}, {Name: fleet.ComponentCDI, Version: "v1.65.0"}}
	manifest := "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: cdi-operator, namespace: cdi}\nspec: {replicas: 2}\n"
	f, i := newInstaller(t, p, map[string]string{"d1": manifest})
	f.control = allWell
	c := fleet.ComponentPlan{Name: fleet.ComponentCDI, Version: "v1.65.0", Manifests: []string{"d1"}}
	if err := i.Install(t.Context(), c, silent); err != nil {
		t.Fatal(err)
	}
	const group = "/apis/cdi.kubevirt.io/v1beta1/"
	if last := f.applied[len(f.applied)-1]; last != group+"storageprofiles/"+defaultClass {
		t.Errorf("applied %q", f.applied)
	}
	sets, _, _ := unstructured.NestedSlice(f.get(group+"storageprofiles/"+defaultClass), "spec", "claimPropertySets")
	if len(sets) != 1 || fmt.Sprint(sets[0]) != "map[accessModes:[ReadWriteOnce] volumeMode:Filesystem]" {
		t.Errorf("%v", sets)
	}
	if err := i.Remove(t.Context(), c.Name, silent); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{group + "storageprofiles/" + defaultClass, group + "cdis/cdi"} {
		if f.get(path) != nil {
			t.Errorf("%s stayed", path)
		}
	}
	p.Stack.Components = nil
	if got := New(nil, p, nil).late(fleet.ComponentCDI); got != nil {
		t.Errorf("without local storage: %v", got)
	}
}
