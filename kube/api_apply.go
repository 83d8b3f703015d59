package kube

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"metalrise.dev/fleet"
)

const (
	maxManifests = 8 << 20 // bytes; the largest real set known, KubeVirt's operator, has 0.5 MB
	maxObjects   = 1000
)

// baseMark is the config map in kube-system that says which base was applied.
const baseMark = "metalrise-base"

// autoApprove is kubeadm's rule by which any bootstrap token gets a client
// certificate for any node name (kubeadm, phase bootstrap-token).
const autoApprove = "kubeadm:node-autoapprove-bootstrap"

// Base applies what every cluster needs (multi-document YAML) and tightens the
// rules by which nodes come in: kubeadm's automatic approval of first
// certificates and every bootstrap token that is not ours are deleted. Renewals
// of client certificates stay automatic. It may be repeated at any time.
//
// Objects are applied by the server (field manager "metalrise", conflicts
// decided for us): namespaces first, then definitions, rules, configuration,
// workloads, and the rest in the given order.
func (c *Cluster) Base(ctx context.Context, manifests []byte) error {
	objects, err := readManifests(manifests)
	if err != nil {
		return fleet.NewFault(fleet.CodeAPIRefused, fleet.Invalid, err, "read the manifests of the cluster's base")
	}
	if err := c.tighten(ctx); err != nil {
		return fmt.Errorf("tighten the rules of admission: %w", err)
	}
	for _, o := range objects {
		if err := c.apply(ctx, o); err != nil {
			return fmt.Errorf("apply %s: %w", nameOf(o), err)
		}
	}
	digest, err := fleet.Digest(string(manifests))
	if err != nil {
		return err
	}
	mark := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap",
		"metadata": map[string]any{"name": baseMark, "namespace": metav1.NamespaceSystem, "labels": map[string]any{OwnerLabel: Manager}},
		"data":     map[string]any{"sha256": digest},
	}}
	if err := c.apply(ctx, mark); err != nil {
		return fmt.Errorf("mark the base as applied: %w", err)
	}
	return nil
}

// readManifests reads and orders the objects of YAML documents.
func readManifests(b []byte) ([]*unstructured.Unstructured, error) {
	if len(b) > maxManifests {
		return nil, fmt.Errorf("%d bytes are more than %d", len(b), maxManifests)
	}
	var out []*unstructured.Unstructured
	reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(b)))
	for i := 1; ; i++ {
		doc, err := reader.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("document %d: %w", i, err)
		}
		found, err := readDocument(doc)
		if err != nil {
			return nil, fmt.Errorf("document %d: %w", i, err)
		}
		if out = append(out, found...); len(out) > maxObjects {
			return nil, fmt.Errorf("more than %d objects", maxObjects)
		}
	}
	slices.SortStableFunc(out, func(a, b *unstructured.Unstructured) int { return rank(a) - rank(b) })
	return out, nil
}

// readDocument reads one object, the items of a list, or nothing.
func readDocument(doc []byte) ([]*unstructured.Unstructured, error) {
	text, err := yaml.YAMLToJSONStrict(doc)
	if err != nil {
		return nil, err
	}
	if string(text) == "null" {
		return nil, nil // only comments
	}
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(text); err != nil {
		return nil, err
	}
	found := []*unstructured.Unstructured{u}
	if u.IsList() {
		list, err := u.ToList()
		if err != nil {
			return nil, err
		}
		found = nil
		for i := range list.Items {
			found = append(found, &list.Items[i])
		}
	}
	for _, o := range found {
		if o.GetAPIVersion() == "" || o.GetKind() == "" || o.GetName() == "" {
			return nil, fmt.Errorf("%s lacks an apiVersion, a kind or a name", nameOf(o))
		}
	}
	return found, nil
}

// rank orders objects so that none needs a later one.
func rank(u *unstructured.Unstructured) int {
	kind := u.GroupVersionKind()
	switch {
	case kind.Kind == "Namespace":
		return 0
	case kind.Kind == "CustomResourceDefinition":
		return 1
	case kind.Kind == "ServiceAccount", kind.Group == "rbac.authorization.k8s.io", kind.Kind == "PriorityClass":
		return 2
	case kind.Kind == "ConfigMap", kind.Kind == "Secret":
		return 3
	case kind.Kind == "Service", kind.Group == "apps", kind.Group == "batch", kind.Kind == "Pod":
		return 4
	}
	return 5
}

func nameOf(u *unstructured.Unstructured) string {
	name := strings.TrimPrefix(u.GetNamespace()+"/"+u.GetName(), "/")
	return strings.TrimSpace(u.GetKind() + " " + name)
}

const (
	appearTimeout = 30 * time.Second // from a definition to the resource it defines: 1 to 3 s
	appearPace    = 250 * time.Millisecond
)

// apply sends one object. A kind that the API does not know yet is waited for,
// because the definition may have been applied a moment ago.
func (c *Cluster) apply(ctx context.Context, u *unstructured.Unstructured) error {
	kind := u.GroupVersionKind()
	until := time.Now().Add(appearTimeout)
	for {
		r, ok, err := c.find(ctx, kind)
		if err != nil {
			return err
		}
		if ok {
			return c.applyAs(ctx, r, u)
		}
		if time.Now().After(until) {
			return fleet.NewFault(fleet.CodeAPIRefused, fleet.Invalid, nil, "the API has no kind %s in %s", kind.Kind, kind.GroupVersion())
		}
		select { // there is nothing to watch: discovery has no events
		case <-ctx.Done():
			return c.fault(ctx.Err(), "wait for kind "+kind.String())
		case <-time.After(appearPace):
		}
	}
}

func (c *Cluster) applyAs(ctx context.Context, r metav1.APIResource, u *unstructured.Unstructured) error {
	kind := u.GroupVersionKind()
	namespace := ""
	if r.Namespaced {
		if namespace = u.GetNamespace(); namespace == "" {
			namespace = metav1.NamespaceDefault
		}
	}
	u = u.DeepCopy()
	u.SetManagedFields(nil) // the API refuses them in an apply
	u.SetResourceVersion("")
	u.SetNamespace(namespace)
	return c.call(ctx, "apply "+nameOf(u), func(ctx context.Context) error {
		to := c.dynamic.Resource(schema.GroupVersionResource{Group: kind.Group, Version: kind.Version, Resource: r.Name}).Namespace(namespace)
		_, err := to.Apply(ctx, u.GetName(), u, metav1.ApplyOptions{FieldManager: Manager, Force: true})
		return err
	})
}

// tighten leaves one way into the cluster: our tokens and our judgement.
func (c *Cluster) tighten(ctx context.Context) error {
	if err := c.remove(ctx, bindingsResource, "", autoApprove); err != nil {
		return err
	}
	tokens, err := c.tokens(ctx)
	if err != nil {
		return err
	}
	for _, t := range tokens {
		if t.Labels[OwnerLabel] == Manager {
			continue
		}
		if err := c.remove(ctx, secretsResource, t.Namespace, t.Name); err != nil {
			return err
		}
	}
	return nil
}
