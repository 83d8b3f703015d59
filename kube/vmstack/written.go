package vmstack

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"metalrise.dev/fleet"
)

// written is what metalrise itself writes for a component, in order. It reads
// the cluster only where that decides what is left to write.
func (i *Installer) written(ctx context.Context, c fleet.Component) ([]*unstructured.Unstructured, error) {
	s := i.plan.Stack
	if s == nil {
		return nil, fleet.NewFault(fleet.CodePlatformInvalid, fleet.Invalid, nil, "the plan has no VM platform")
	}
	switch c {
	case fleet.ComponentKubeVirt:
		return []*unstructured.Unstructured{KubeVirt(i.plan)}, nil
	case fleet.ComponentCDI:
		return []*unstructured.Unstructured{CDI(i.plan)}, nil
	case fleet.ComponentVMNetworks:
		if s.MigrationNetwork != "" { // KubeVirt's operator comes later and finds its namespace there
			if _, _, err := i.cluster.Apply(ctx, object("v1", "Namespace", "", kubevirtNamespace, nil)); err != nil {
				return nil, fmt.Errorf("make the namespace of the migration network: %w", err)
			}
		}
		return Networks(*s), nil
	case fleet.ComponentInstanceTypes:
		return i.unkept(ctx, slices.Concat(InstanceTypes(), Preferences()))
	case fleet.ComponentLocalStorage:
		there, err := i.cluster.Objects(ctx, kindVolume, "", volumeSelector)
		if err != nil {
			return nil, err
		}
		return LocalStorage(i.plan, there), nil
	case fleet.ComponentOpenStackHelm:
		return OpenStackHelm(i.plan), nil
	}
	return nil, nil
}

// late is what metalrise writes once a component is ready: objects of kinds that
// its operator defines when it is told to begin.
func (i *Installer) late(c fleet.Component) []*unstructured.Unstructured {
	s := i.plan.Stack
	has := func(name fleet.Component) bool {
		return slices.ContainsFunc(s.Components, func(c fleet.ComponentPlan) bool { return c.Name == name })
	}
	switch {
	case c == fleet.ComponentCDI && has(fleet.ComponentLocalStorage):
		return []*unstructured.Unstructured{storageProfile(cmp.Or(s.Storage.Class, defaultClass))}
	case c == fleet.ComponentCSI && has(fleet.ComponentCDI) && ownClass(s.Storage) && s.Storage.Snapshots != "":
		return []*unstructured.Unstructured{snapshotProfile(s.Storage)}
	}
	return nil
}

// object makes one object; fields are those beside its metadata.
func object(apiVersion, kind, namespace, name string, fields map[string]any) *unstructured.Unstructured {
	meta := map[string]any{"name": name}
	if namespace != "" {
		meta["namespace"] = namespace
	}
	o := map[string]any{"apiVersion": apiVersion, "kind": kind, "metadata": meta}
	for k, v := range fields {
		o[k] = v
	}
	return &unstructured.Unstructured{Object: o}
}

// unkept drops the objects that KubeVirt's operator keeps itself: releases since
// 1.1 bring instance types and preferences of the same names.
func (i *Installer) unkept(ctx context.Context, objects []*unstructured.Unstructured) ([]*unstructured.Unstructured, error) {
	var out []*unstructured.Unstructured
	for _, o := range objects {
		there, err := i.cluster.Object(ctx, o.GroupVersionKind(), "", o.GetName())
		if err != nil {
			return nil, err
		}
		if there == nil || there.GetLabels()["app.kubernetes.io/managed-by"] != "virt-operator" {
			out = append(out, o)
		}
	}
	return out, nil
}

var (
	kindNode   = schema.GroupVersionKind{Version: "v1", Kind: "Node"}
	kindVolume = schema.GroupVersionKind{Version: "v1", Kind: "PersistentVolume"}
)

// hypervisors are the planned nodes that take VMs: those without a taint that
// keeps pods off, and all that are there for VMs.
func hypervisors(p fleet.Plan) []fleet.Assignment {
	var out []fleet.Assignment
	for _, a := range p.Assignments {
		if a.Node == nil || a.Role == fleet.Excluded {
			continue
		}
		kept := slices.ContainsFunc(a.Node.Taints, func(t fleet.Taint) bool { return t.Effect != "PreferNoSchedule" })
		if !kept || a.Role != fleet.ControlPlane {
			out = append(out, a)
		}
	}
	return out
}

func controlPlanes(p fleet.Plan) (n int) {
	for _, a := range p.Assignments {
		if a.Node != nil && (a.Role == fleet.ControlPlane || a.Role == fleet.SingleNode) {
			n++
		}
	}
	return n
}

// tolerations are for the taints that hypervisors have, sorted.
func tolerations(p fleet.Plan) []any {
	var all []fleet.Taint
	for _, a := range hypervisors(p) {
		for _, t := range a.Node.Taints {
			if !slices.Contains(all, t) {
				all = append(all, t)
			}
		}
	}
	slices.SortFunc(all, func(a, b fleet.Taint) int {
		return slices.Compare([]string{a.Key, a.Value, a.Effect}, []string{b.Key, b.Value, b.Effect})
	})
	var out []any
	for _, t := range all {
		one := map[string]any{"key": t.Key, "effect": t.Effect, "operator": "Exists"}
		if t.Value != "" {
			one["operator"], one["value"] = "Equal", t.Value
		}
		out = append(out, one)
	}
	return out
}
