package vmstack

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"metalrise.dev/fleet"
	"metalrise.dev/kube"
)

// ref names one object.
type ref struct {
	APIVersion string `json:"v"`
	Kind       string `json:"k"`
	Namespace  string `json:"ns,omitempty"`
	Name       string `json:"n"`
}

func (r ref) kind() schema.GroupVersionKind {
	return schema.FromAPIVersionAndKind(r.APIVersion, r.Kind)
}

func (r ref) String() string {
	return r.Kind + " " + strings.TrimPrefix(r.Namespace+"/"+r.Name, "/")
}

// same tells whether two name one object; versions of an API are views of it.
func (r ref) same(o ref) bool {
	return r.kind().GroupKind() == o.kind().GroupKind() && r.Namespace == o.Namespace && r.Name == o.Name
}

func refOf(o *unstructured.Unstructured) ref {
	return ref{o.GetAPIVersion(), o.GetKind(), o.GetNamespace(), o.GetName()}
}

func refsOf(objects []*unstructured.Unstructured) []ref {
	out := make([]ref, 0, len(objects))
	for _, o := range objects {
		out = append(out, refOf(o))
	}
	return out
}

// union is a and what b has besides.
func union(a, b []ref) []ref {
	out := slices.Clone(a)
	for _, r := range b {
		if !slices.ContainsFunc(out, r.same) {
			out = append(out, r)
		}
	}
	return out
}

// State of a component as noted in the cluster.
const (
	stateApplying = "applying"
	stateReady    = "ready"
	stateRemoving = "removing"
)

// inventory is what belongs to one component. It is kept in the cluster, in a
// config map of kube-system, from before the first object is applied until the
// last one is gone.
type inventory struct {
	Component fleet.Component
	Version   string
	State     string
	Objects   []ref
}

var kindConfigMap = schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}

const inventoryPrefix = "metalrise-component-"

func (i *Installer) note(ctx context.Context, v inventory) error {
	objects, err := json.Marshal(v.Objects)
	if err != nil {
		return err
	}
	_, _, err = i.cluster.Apply(ctx, &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap",
		"metadata": map[string]any{
			"name": inventoryPrefix + string(v.Component), "namespace": metav1.NamespaceSystem,
			"labels": map[string]any{kube.OwnerLabel: kube.Manager, componentLabel: string(v.Component)},
		},
		"data": map[string]any{"version": v.Version, "state": v.State, "plan": i.plan.ID, "objects": string(objects)},
	}})
	if err != nil {
		return fmt.Errorf("note what belongs to the component: %w", err)
	}
	return nil
}

// inventory is nil for a component that was never applied.
func (i *Installer) inventory(ctx context.Context, c fleet.Component) (*inventory, error) {
	o, err := i.cluster.Object(ctx, kindConfigMap, metav1.NamespaceSystem, inventoryPrefix+string(c))
	if err != nil || o == nil {
		return nil, err
	}
	return readInventory(o)
}

func readInventory(o *unstructured.Unstructured) (*inventory, error) {
	data, _, err := unstructured.NestedStringMap(o.Object, "data")
	if err != nil {
		return nil, fleet.NewFault(fleet.CodeComponentRefused, fleet.Invalid, err, "read %s", kube.NameOf(o))
	}
	v := &inventory{Component: fleet.Component(strings.TrimPrefix(o.GetName(), inventoryPrefix)), Version: data["version"], State: data["state"]}
	if err := json.Unmarshal([]byte(data["objects"]), &v.Objects); err != nil {
		return nil, fleet.NewFault(fleet.CodeComponentRefused, fleet.Invalid, err, "read the list of objects in %s", kube.NameOf(o))
	}
	return v, nil
}

// prune deletes what an earlier version brought and the present one does not.
func (i *Installer) prune(ctx context.Context, before, now []ref, tell Teller) error {
	for _, r := range slices.Backward(before) {
		if slices.ContainsFunc(now, r.same) || lasting(r) {
			continue
		}
		tell("deleting "+r.String()+", which this version does not have", nil)
		if err := i.cluster.DeleteObject(ctx, r.kind(), r.Namespace, r.Name); err != nil {
			return fmt.Errorf("delete %s: %w", r, err)
		}
	}
	return nil
}

// lasting objects hold others of people, or data: they go only when the whole
// component is removed, and nodes and volumes never do.
func lasting(r ref) bool {
	switch r.Kind {
	case "Namespace", kindDefinition, "Node", "PersistentVolume", "PersistentVolumeClaim":
		return true
	}
	return false
}
