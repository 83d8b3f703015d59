package vmstack

import (
	"context"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"metalrise.dev/fleet"
	"metalrise.dev/kube"
)

var (
	kindStorageClass  = schema.GroupVersionKind{Group: "storage.k8s.io", Version: "v1", Kind: "StorageClass"}
	kindCSINode       = schema.GroupVersionKind{Group: "storage.k8s.io", Version: "v1", Kind: "CSINode"}
	kindSnapshotClass = schema.GroupVersionKind{Group: "snapshot.storage.k8s.io", Version: "v1", Kind: "VolumeSnapshotClass"}
)

// kindDriver tells a driver's name; volumes of that name need it.
const kindDriver = "CSIDriver"

// ownClass tells whether disks of VMs lie in a class that metalrise does not make.
func ownClass(s fleet.VMStorage) bool { return s.Class != "" && s.Path == "" }

// snapshotProfile has CDI and KubeVirt take snapshots by the class that the site
// names: where a driver has several they would choose by themselves.
func snapshotProfile(s fleet.VMStorage) *unstructured.Unstructured {
	return object("cdi.kubevirt.io/v1beta1", "StorageProfile", "", s.Class, map[string]any{"spec": map[string]any{"snapshotClass": s.Snapshots}})
}

// classes looks whether the site's own CSI driver brought the classes that the
// plan names, and whether each hypervisor that is in the cluster has the driver:
// a DaemonSet that runs says nothing about a kubelet that does not take it.
func (i *Installer) classes(ctx context.Context) ([]fleet.Check, error) {
	want := i.plan.Stack.Storage
	if !ownClass(want) { // the driver is not for disks of VMs
		return nil, nil
	}
	class, err := i.cluster.Object(ctx, kindStorageClass, "", want.Class)
	if err != nil {
		return nil, err
	}
	check := fleet.Check{Name: "storage class " + want.Class, OK: class != nil}
	if class == nil {
		check.Missing = "it is not there: the driver's manifests bring no class of this name"
		return []fleet.Check{check}, nil
	}
	out := []fleet.Check{check}
	driver, _, _ := unstructured.NestedString(class.Object, "provisioner")
	if want.Snapshots != "" {
		check, err := i.snapshotClass(ctx, want.Snapshots, driver)
		if err != nil {
			return nil, err
		}
		out = append(out, check)
	}
	nodes, err := i.registered(ctx, driver)
	return append(out, nodes...), err
}

// snapshotClass looks whether a class of snapshots is there, for this driver.
func (i *Installer) snapshotClass(ctx context.Context, name, driver string) (fleet.Check, error) {
	check := fleet.Check{Name: "volume snapshot class " + name}
	class, err := i.cluster.Object(ctx, kindSnapshotClass, "", name)
	if err != nil {
		return check, err
	}
	if class == nil {
		check.Missing = "it is not there: the driver's manifests bring no class of this name"
		return check, nil
	}
	of, _, _ := unstructured.NestedString(class.Object, "driver")
	if check.OK = of == driver; !check.OK {
		check.Missing = fmt.Sprintf("it is of driver %s, and the storage class of %s", kube.Words(of), kube.Words(driver))
	}
	return check, nil
}

// registered looks whether the kubelets of the hypervisors that are in the
// cluster know a driver.
func (i *Installer) registered(ctx context.Context, driver string) ([]fleet.Check, error) {
	all, err := i.cluster.Objects(ctx, kindCSINode, "", "")
	if err != nil {
		return nil, err
	}
	var out []fleet.Check
	for _, a := range hypervisors(i.plan) {
		n := slices.IndexFunc(all, func(o *unstructured.Unstructured) bool { return o.GetName() == a.Node.Name })
		if n < 0 {
			continue // not in the cluster, or its kubelet has not spoken yet: the cluster's matter
		}
		drivers, _, _ := unstructured.NestedSlice(all[n].Object, "spec", "drivers")
		check := fleet.Check{Name: "volumes on " + a.Node.Name, OK: slices.ContainsFunc(drivers, func(d any) bool {
			m, _ := d.(map[string]any)
			return m["name"] == driver
		})}
		if !check.OK {
			check.Missing = "its kubelet does not have the driver " + kube.Words(driver)
		}
		out = append(out, check)
	}
	return out, nil
}

// unattached refuses where there are volumes of a driver that is to go: nobody
// could attach or delete them any more.
func (i *Installer) unattached(ctx context.Context, driver string) error {
	volumes, err := i.cluster.Objects(ctx, kindVolume, "", "")
	if err != nil {
		return err
	}
	for _, v := range volumes {
		if of, _, _ := unstructured.NestedString(v.Object, "spec", "csi", "driver"); of == driver {
			return inUse("volume %s is of the driver %s", v.GetName(), driver)
		}
	}
	return nil
}
