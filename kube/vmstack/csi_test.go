package vmstack

import (
	"strings"
	"testing"

	"metalrise.dev/fleet"
)

const driverManifests = `
apiVersion: storage.k8s.io/v1
kind: CSIDriver
metadata: {name: array.example.com}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: array, namespace: array}
spec: {}
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: gold}
provisioner: array.example.com
---
apiVersion: snapshot.storage.k8s.io/v1
kind: VolumeSnapshotClass
metadata: {name: gold}
driver: array.example.com
deletionPolicy: Delete
`

// The site's own CSI driver is ready when its classes are there and each kubelet
// of a hypervisor has it; it does not go while there are volumes of it.
func TestOwnDriver(t *testing.T) {
	const nodes = "/apis/storage.k8s.io/v1/csinodes/"
	p := testPlan()
	p.Stack.Storage = fleet.VMStorage{Class: "gold", Snapshots: "gold"}
	f, i := newInstaller(t, p, map[string]string{"driver": driverManifests})
	f.control = allWell
	driver := fleet.ComponentPlan{Name: fleet.ComponentCSI, Version: "v1", Manifests: []string{"driver"}}
	f.set(nodes+"cp1", `{"apiVersion":"storage.k8s.io/v1","kind":"CSINode","spec":{"drivers":null}}`) // takes no VMs
	f.set(nodes+"w1", `{"apiVersion":"storage.k8s.io/v1","kind":"CSINode","spec":{"drivers":[{"name":"array.example.com","nodeID":"w1"}]}}`)
	f.set(nodes+"w2", `{"apiVersion":"storage.k8s.io/v1","kind":"CSINode","spec":{"drivers":[{"name":"other.example.com","nodeID":"w2"}]}}`)
	err := i.Install(t.Context(), driver, silent)
	if fleet.CodeOf(err) != fleet.CodeComponentStuck || !strings.Contains(err.Error(), "volumes on w2: its kubelet does not have the driver array.example.com") {
		t.Fatal(err)
	}
	f.set(nodes+"w2", `{"spec":{"drivers":[{"name":"array.example.com","nodeID":"w2"}]}}`)
	if err := i.Install(t.Context(), driver, silent); err != nil {
		t.Fatal(err)
	}
	const profile = "/apis/cdi.kubevirt.io/v1beta1/storageprofiles/gold"
	if f.get(profile) != nil {
		t.Error("there is a profile for a CDI that is not there")
	}
	i.plan.Stack.Components = []fleet.ComponentPlan{{Name: fleet.ComponentCDI}, driver}
	if err := i.Install(t.Context(), driver, silent); err != nil {
		t.Fatal(err)
	}
	if o := f.get(profile); o == nil || o["spec"].(map[string]any)["snapshotClass"] != "gold" {
		t.Errorf("profile %v", o)
	}
	for name, c := range map[string]struct {
		storage fleet.VMStorage
		want    string // "" for ready
	}{
		"not for VMs":             {fleet.VMStorage{Class: "mine", Path: "/srv/vms", Snapshots: "silver"}, ""},
		"no class named":          {fleet.VMStorage{}, ""},
		"no snapshots":            {fleet.VMStorage{Class: "gold"}, ""},
		"another class":           {fleet.VMStorage{Class: "silver"}, "storage class silver: it is not there"},
		"another snapshot class":  {fleet.VMStorage{Class: "gold", Snapshots: "silver"}, "volume snapshot class silver: it is not there"},
		"of another driver":       {fleet.VMStorage{Class: "gold", Snapshots: "strange"}, "volume snapshot class strange: it is of driver strange.example.com, and the storage class of array.example.com"},
		"class of another driver": {fleet.VMStorage{Class: "strange"}, "volumes on w1: its kubelet does not have the driver strange.example.com"},
	} {
		t.Run(name, func(t *testing.T) {
			f.set("/apis/snapshot.storage.k8s.io/v1/volumesnapshotclasses/strange", `{"apiVersion":"snapshot.storage.k8s.io/v1","kind":"VolumeSnapshotClass","driver":"strange.example.com"}`)
			f.set("/apis/storage.k8s.io/v1/storageclasses/strange", `{"apiVersion":"storage.k8s.io/v1","kind":"StorageClass","provisioner":"strange.example.com"}`)
			i.plan.Stack.Storage = c.storage
			seen, err := i.Look(t.Context())
			if err != nil || len(seen) != 1 {
				t.Fatal(seen, err)
			}
			if got := waiting(seen[0].Checks); seen[0].Ready != (c.want == "") || !strings.Contains(got, c.want) {
				t.Errorf("%+v: %q, want %q", seen[0], got, c.want)
			}
		})
	}
	f.set("/api/v1/persistentvolumes/pvc-1", `{"apiVersion":"v1","kind":"PersistentVolume","spec":{"csi":{"driver":"array.example.com"}},"status":{"phase":"Released"}}`)
	err = i.Remove(t.Context(), driver.Name, silent)
	if fleet.KindOf(err) != fleet.Conflict || !strings.Contains(err.Error(), "volume pvc-1 is of the driver array.example.com") {
		t.Fatal(err)
	}
	f.set("/api/v1/persistentvolumes/pvc-1", `{"spec":{"csi":{"driver":"other.example.com"}}}`)
	if err := i.Remove(t.Context(), driver.Name, silent); err != nil || f.get(profile) != nil {
		t.Fatal(err, f.get(profile))
	}
}
