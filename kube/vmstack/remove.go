package vmstack

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"metalrise.dev/fleet"
	"metalrise.dev/kube"
)

// Remove takes a component away: what is on its list in the cluster, the last
// first, each object waited for before anything that it needs is touched. It may
// be repeated, also after it was cut off. A component that is not there is fine.
//
// It refuses (VM-005, a conflict) while somebody uses the component: VMs, their
// volumes, network attachments, objects of the kinds that it defines.
func (i *Installer) Remove(ctx context.Context, c fleet.Component, tell Teller) error {
	if err := i.remove(ctx, c, once(tell)); err != nil {
		return fmt.Errorf("remove %s: %w", c, err)
	}
	return nil
}

func (i *Installer) remove(ctx context.Context, c fleet.Component, tell Teller) error {
	list, err := i.inventory(ctx, c)
	if err != nil || list == nil {
		return err
	}
	if list.State != stateRemoving { // begun is begun: half a component is of no use to anybody
		if err := i.unused(ctx, *list); err != nil {
			return err
		}
		list.State = stateRemoving
		if err := i.note(ctx, *list); err != nil {
			return err
		}
	}
	if err := i.leave(ctx, *list, tell); err != nil {
		return err
	}
	for _, group := range backwards(list.Objects) {
		for _, r := range group {
			tell("deleting "+r.String(), nil)
			if err := i.takeAway(ctx, c, r); err != nil {
				return err
			}
		}
		if err := i.waitGone(ctx, c, group, tell); err != nil {
			return err
		}
	}
	return i.cluster.DeleteObject(ctx, kindConfigMap, metav1.NamespaceSystem, inventoryPrefix+string(c))
}

// multusCleans has Multus' pods take its configuration off the nodes when they
// end. Without, the nodes would go on to ask a plugin that may no longer ask the
// API, and no pod would start any more.
const multusCleans = "--cleanup-config-on-exit=true"

// leave prepares the nodes for the removal of a component that changed them.
func (i *Installer) leave(ctx context.Context, list inventory, tell Teller) error {
	if list.Component != fleet.ComponentMultus {
		return nil
	}
	for _, r := range list.Objects {
		if r.Kind != "DaemonSet" {
			continue
		}
		o, err := i.cluster.Object(ctx, r.kind(), r.Namespace, r.Name)
		if err != nil || o == nil {
			return err
		}
		containers, _, err := unstructured.NestedSlice(o.Object, "spec", "template", "spec", "containers")
		if err != nil || len(containers) != 1 {
			return fleet.NewFault(fleet.CodeComponentRefused, fleet.Invalid, err, "%s has %d containers, want one", r, len(containers))
		}
		container, _ := containers[0].(map[string]any)
		args, _, _ := unstructured.NestedStringSlice(container, "args")
		if slices.Contains(args, multusCleans) {
			continue
		}
		container["args"] = texts(append(args, multusCleans))
		spec, _, _ := unstructured.NestedMap(o.Object, "spec")
		next := object(r.APIVersion, r.Kind, r.Namespace, r.Name, map[string]any{"spec": spec})
		if err := unstructured.SetNestedSlice(next.Object, containers, "spec", "template", "spec", "containers"); err != nil {
			return err
		}
		next.SetLabels(o.GetLabels())
		tell("having "+r.String()+" take its configuration off the nodes", nil)
		if err := i.apply(ctx, list.Component, next, tell); err != nil {
			return err
		}
		if err := i.wait(ctx, task{component: list.Component, objects: []*unstructured.Unstructured{next}, since: time.Now()}, tell); err != nil {
			return err
		}
	}
	return nil
}

// backwards groups objects in the order of their removal: objects of custom
// kinds, whose operator must still run; then everything else; then definitions
// and namespaces.
func backwards(objects []ref) [][]ref {
	groups := make([][]ref, 3)
	for _, r := range slices.Backward(objects) {
		n := 1
		switch group := r.kind().Group; {
		case r.Kind == kindDefinition, r.Kind == "Namespace":
			n = 2
		case strings.Contains(group, ".") && !strings.HasSuffix(group, ".k8s.io"):
			n = 0
		}
		groups[n] = append(groups[n], r)
	}
	return groups
}

// takeAway deletes one object, or of a node only what we said about it.
func (i *Installer) takeAway(ctx context.Context, c fleet.Component, r ref) error {
	o, err := i.cluster.Object(ctx, r.kind(), r.Namespace, r.Name)
	if err != nil || o == nil {
		return err
	}
	if r.Kind == "Node" {
		// An apply without the labels of before gives them up. The uid keeps it from
		// making a node that left the cluster meanwhile.
		bare := object("v1", "Node", "", r.Name, nil)
		bare.SetUID(o.GetUID())
		_, _, err := i.cluster.ApplyAs(ctx, managerOf(c, r.Kind), bare)
		return err
	}
	switch of := o.GetLabels()[componentLabel]; {
	case of == string(c):
	case of == "" && r.Kind == kindDefinition: // operators write those of their own kinds anew, without our label
	default:
		return nil // somebody else took it over, such as an operator that keeps it
	}
	return i.cluster.DeleteObject(ctx, r.kind(), r.Namespace, r.Name)
}

func (i *Installer) waitGone(ctx context.Context, c fleet.Component, group []ref, tell Teller) error {
	until := time.Now().Add(i.pace.Still)
	for {
		var left *unstructured.Unstructured
		for _, r := range group {
			if r.Kind == "Node" {
				continue
			}
			o, err := i.cluster.Object(ctx, r.kind(), r.Namespace, r.Name)
			if err != nil && fleet.KindOf(err) != fleet.Transient {
				return err
			}
			if o != nil && (o.GetLabels()[componentLabel] == string(c) || o.GetDeletionTimestamp() != nil) {
				left = o
			}
		}
		if left == nil {
			return nil
		}
		tell("waiting until "+kube.NameOf(left)+" is gone", nil)
		if time.Now().After(until) {
			return fleet.NewFault(fleet.CodeComponentStuck, fleet.Transient, nil, "%s is not gone after %s; it is held by %s",
				kube.NameOf(left), i.pace.Still, kube.Words(oneLine(strings.Join(left.GetFinalizers(), ", "), holds(left))))
		}
		if err := pause(ctx, i.pace.Look); err != nil {
			return err
		}
	}
}

// holds says what an object tells about why it does not go. A namespace has a
// condition for each reason.
func holds(o *unstructured.Unstructured) string {
	if o.GetKind() != "Namespace" {
		return judgeOther(o).Missing
	}
	var said []string
	for _, name := range []string{"NamespaceContentRemaining", "NamespaceFinalizersRemaining", "NamespaceDeletionContentFailure", "NamespaceDeletionDiscoveryFailure"} {
		if c, ok := conditionOf(o, name); ok && c.Status == metav1.ConditionTrue {
			said = append(said, c.Message)
		}
	}
	return oneLine(said...)
}

// users are the kinds whose objects mean that a component is in use, beside the
// kinds that it defines itself.
func users(c fleet.Component) []schema.GroupVersionKind {
	switch c {
	case fleet.ComponentKubeVirt:
		return []schema.GroupVersionKind{
			{Group: "kubevirt.io", Version: "v1", Kind: "VirtualMachine"},
			{Group: "kubevirt.io", Version: "v1", Kind: "VirtualMachineInstance"},
		}
	case fleet.ComponentCDI:
		return []schema.GroupVersionKind{{Group: "cdi.kubevirt.io", Version: "v1beta1", Kind: "DataVolume"}}
	}
	return nil
}

// unused refuses where somebody would lose something.
func (i *Installer) unused(ctx context.Context, list inventory) error {
	if list.Component == fleet.ComponentCalico {
		return inUse("pods have no network without it")
	}
	kinds, err := i.valued(ctx, list.Component)
	if err != nil {
		return err
	}
	kinds = append(kinds, users(list.Component)...)
	for _, r := range list.Objects {
		switch r.Kind {
		case "Namespace":
			if err := i.inhabited(ctx, list.Component, r.Name); err != nil {
				return err
			}
		case kindDefinition:
			defined, err := i.defined(ctx, r)
			if err != nil {
				return err
			}
			kinds = append(kinds, defined...)
		case "PersistentVolume":
			v, err := i.cluster.Object(ctx, r.kind(), "", r.Name)
			if err != nil {
				return err
			}
			if v != nil && phaseOf(v) == "Bound" {
				return inUse("volume %s is in use", r.Name)
			}
		case kindDriver:
			if err := i.unattached(ctx, r.Name); err != nil {
				return err
			}
		}
	}
	for _, kind := range kinds {
		there, err := i.cluster.Objects(ctx, kind, "", "")
		if err != nil {
			return err
		}
		for _, o := range there {
			if !vacant(o) && !slices.ContainsFunc(list.Objects, refOf(o).same) {
				return inUse("there is %s", kube.NameOf(o))
			}
		}
	}
	return nil
}

// vacant tells whether an object is a list of addresses of Whereabouts on which
// nobody is. It keeps such lists.
func vacant(o *unstructured.Unstructured) bool {
	addresses, _, _ := unstructured.NestedMap(o.Object, "spec", "allocations")
	return o.GetKind() == "IPPool" && len(addresses) == 0
}

func inUse(format string, args ...any) error {
	return fleet.NewFault(fleet.CodeComponentRefused, fleet.Conflict, nil, "it is still used: "+format, args...)
}

// defined lists what a definition defines, by its stored version.
func (i *Installer) defined(ctx context.Context, r ref) ([]schema.GroupVersionKind, error) {
	o, err := i.cluster.Object(ctx, r.kind(), "", r.Name)
	if err != nil || o == nil {
		return nil, err
	}
	group, _, _ := unstructured.NestedString(o.Object, "spec", "group")
	kind, _, _ := unstructured.NestedString(o.Object, "spec", "names", "kind")
	versions, _, _ := unstructured.NestedSlice(o.Object, "spec", "versions")
	for _, v := range versions {
		m, _ := v.(map[string]any)
		if stored, _ := m["storage"].(bool); stored {
			name, _ := m["name"].(string)
			return []schema.GroupVersionKind{{Group: group, Version: name, Kind: kind}}, nil
		}
	}
	return nil, nil
}
