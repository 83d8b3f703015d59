package vmstack

import (
	"context"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"metalrise.dev/fleet"
)

var (
	kindClaim = schema.GroupVersionKind{Version: "v1", Kind: "PersistentVolumeClaim"}
	kindPod   = schema.GroupVersionKind{Version: "v1", Kind: "Pod"}
)

// valuables are definitions that a component's operator brings itself, so that
// they are on no list of ours, and whose objects people would miss: the operator
// takes the definitions away with itself, and all objects with them. A snapshot
// outlives the VM that it was made of, so looking for VMs is not enough.
func valuables(c fleet.Component) []string {
	switch c {
	case fleet.ComponentKubeVirt:
		return []string{
			"virtualmachinesnapshots.snapshot.kubevirt.io", "virtualmachineexports.export.kubevirt.io",
			"virtualmachinepools.pool.kubevirt.io", "virtualmachineinstancereplicasets.kubevirt.io",
		}
	case fleet.ComponentCDI:
		return []string{"dataimportcrons.cdi.kubevirt.io", "datasources.cdi.kubevirt.io"}
	}
	return nil
}

// valued lists what these define in this cluster.
func (i *Installer) valued(ctx context.Context, c fleet.Component) ([]schema.GroupVersionKind, error) {
	var out []schema.GroupVersionKind
	for _, name := range valuables(c) {
		defined, err := i.defined(ctx, ref{APIVersion: "apiextensions.k8s.io/v1", Kind: kindDefinition, Name: name})
		if err != nil {
			return nil, err
		}
		out = append(out, defined...)
	}
	return out, nil
}

// inhabited refuses to remove a namespace with which something of others would
// go: claims of volumes, and, in a namespace that is there for others to fill,
// pods.
func (i *Installer) inhabited(ctx context.Context, c fleet.Component, namespace string) error {
	kinds := []schema.GroupVersionKind{kindClaim}
	if c == fleet.ComponentOpenStackHelm {
		kinds = append(kinds, kindPod)
	}
	for _, kind := range kinds {
		there, err := i.cluster.Objects(ctx, kind, namespace, "")
		if err != nil {
			return err
		}
		for _, o := range there {
			if o.GetLabels()[componentLabel] != string(c) {
				return inUse("there is %s %s in namespace %s, which goes with it", kind.Kind, o.GetName(), namespace)
			}
		}
	}
	return nil
}
