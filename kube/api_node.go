package kube

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"metalrise.dev/fleet"
)

// taintsAnnotation lists the taints of a node that are ours, "key:Effect" with
// commas between, so that only those are ever taken away.
const taintsAnnotation = "metalrise.dev/taints"

// Dress gives a node its planned labels and taints. Of those it has, it takes
// away only what an earlier Dress gave. A node that is not there yet is a
// transient CodeNodeNotAdmitted.
func (c *Cluster) Dress(ctx context.Context, a fleet.Assignment) error {
	if a.Node == nil {
		return fleet.NewFault(fleet.CodeAPIRefused, fleet.Invalid, nil, "dress %s: it is no node of a cluster", a.Server)
	}
	n, err := get[corev1.Node](ctx, c, nodesResource, "", a.Node.Name)
	if err != nil {
		return err
	}
	if n == nil {
		return fleet.NewFault(fleet.CodeNodeNotAdmitted, fleet.Transient, nil, "dress node %s: the API has no such node", a.Node.Name)
	}
	labels := map[string]any{}
	for k, v := range a.Node.Labels {
		labels[k] = v
	}
	// The uid keeps an apply from making a node that was deleted meanwhile.
	object := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Node",
		"metadata": map[string]any{"name": n.Name, "uid": string(n.UID), "labels": labels},
	}}
	err = c.call(ctx, "label node "+n.Name, func(ctx context.Context) error {
		_, err := c.dynamic.Resource(nodesResource).Apply(ctx, n.Name, object, metav1.ApplyOptions{FieldManager: Manager, Force: true})
		return err
	})
	if err != nil {
		return err
	}
	return c.changeNode(ctx, a.Node.Name, func(n *corev1.Node) map[string]any {
		taints, ours := dressTaints(n.Spec.Taints, n.Annotations[taintsAnnotation], a.Node.Taints)
		if taints == nil && ours == n.Annotations[taintsAnnotation] {
			return nil
		}
		patch := map[string]any{"metadata": map[string]any{"annotations": map[string]any{taintsAnnotation: nilIfEmpty(ours)}}}
		if taints != nil {
			patch["spec"] = map[string]any{"taints": taints}
		}
		return patch
	})
}

func nilIfEmpty(s string) any {
	if s == "" {
		return nil // a merge patch removes it
	}
	return s
}

// dressTaints returns the whole new list, nil when it is as it should be, and
// the new list of those that are ours. A taint is identified by key and effect,
// as everywhere in Kubernetes. A planned taint that was there before us (from
// kubeadm) becomes ours, because the plan decides over it from now on.
func dressTaints(have []corev1.Taint, ours string, planned []fleet.Taint) (taints []corev1.Taint, nowOurs string) {
	id := func(key, effect string) string { return key + ":" + effect }
	before := strings.Split(ours, ",")
	want := map[string]fleet.Taint{}
	var ids []string
	for _, t := range planned {
		want[id(t.Key, t.Effect)] = t
		ids = append(ids, id(t.Key, t.Effect))
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	changed := false
	out := []corev1.Taint{} // not nil: an empty list empties it
	for _, t := range have {
		key := id(t.Key, string(t.Effect))
		p, planned := want[key]
		switch {
		case planned:
			changed = changed || t.Value != p.Value
			t.Value = p.Value
			out = append(out, t)
			delete(want, key)
		case slices.Contains(before, key):
			changed = true
		default:
			out = append(out, t)
		}
	}
	for _, key := range ids {
		if t, ok := want[key]; ok {
			changed = true
			out = append(out, corev1.Taint{Key: t.Key, Value: t.Value, Effect: corev1.TaintEffect(t.Effect)})
		}
	}
	if !changed {
		out = nil
	}
	return out, strings.Join(ids, ",")
}

const changeTries = 8

// changeNode patches a node by what decide makes of its present state (nil:
// nothing). The kubelet and controllers change nodes all the time, so a change
// in between starts it over.
func (c *Cluster) changeNode(ctx context.Context, name string, decide func(*corev1.Node) map[string]any) error {
	var err error
	for range changeTries {
		var n *corev1.Node
		if n, err = get[corev1.Node](ctx, c, nodesResource, "", name); err != nil {
			return err
		}
		if n == nil {
			return fleet.NewFault(fleet.CodeNodeNotAdmitted, fleet.Transient, nil, "change node %s: the API has no such node", name)
		}
		patch := decide(n)
		if patch == nil {
			return nil
		}
		meta, _ := patch["metadata"].(map[string]any)
		if meta == nil {
			meta = map[string]any{}
			patch["metadata"] = meta
		}
		meta["resourceVersion"] = n.ResourceVersion
		var b []byte
		if b, err = json.Marshal(patch); err != nil {
			return err
		}
		err = c.call(ctx, "change node "+name, func(ctx context.Context) error {
			_, err := c.dynamic.Resource(nodesResource).Patch(ctx, name, types.MergePatchType, b, metav1.PatchOptions{FieldManager: Manager})
			return err
		})
		if fleet.KindOf(err) != fleet.Conflict {
			return err
		}
	}
	return err
}

// Cordon keeps new pods off a node. A node that is gone is fine.
func (c *Cluster) Cordon(ctx context.Context, node string) error { return c.cordon(ctx, node, true) }

// Uncordon lets pods on it again.
func (c *Cluster) Uncordon(ctx context.Context, node string) error {
	return c.cordon(ctx, node, false)
}

func (c *Cluster) cordon(ctx context.Context, node string, want bool) error {
	err := c.changeNode(ctx, node, func(n *corev1.Node) map[string]any {
		if n.Spec.Unschedulable == want {
			return nil
		}
		return map[string]any{"spec": map[string]any{"unschedulable": want}}
	})
	if want && fleet.CodeOf(err) == fleet.CodeNodeNotAdmitted {
		return nil
	}
	return err
}

// Delete removes what the API keeps of a node: the Node object, its lease, its
// certificate requests and its tokens. It neither drains nor touches etcd. What
// is gone is fine.
func (c *Cluster) Delete(ctx context.Context, a fleet.Assignment) error {
	if a.Node == nil {
		return fleet.NewFault(fleet.CodeAPIRefused, fleet.Invalid, nil, "delete %s: it is no node of a cluster", a.Server)
	}
	name := a.Node.Name
	// Tokens first: a kubelet that still runs must not come back with one.
	tokens, err := c.tokens(ctx)
	if err != nil {
		return err
	}
	mine := map[string]bool{nodeUserPrefix + name: true}
	for _, t := range tokens {
		if t.Labels[OwnerLabel] == Manager && (t.Annotations[serverAnnotation] == string(a.Server) || t.Annotations[nodeAnnotation] == name) {
			mine[tokenUserPrefix+string(t.Data["token-id"])] = true
			if err := c.remove(ctx, secretsResource, t.Namespace, t.Name); err != nil {
				return err
			}
		}
	}
	if err := c.remove(ctx, nodesResource, "", name); err != nil {
		return err
	}
	if err := c.remove(ctx, leasesResource, corev1.NamespaceNodeLease, name); err != nil {
		return err
	}
	return c.forget(ctx, func(r *certificatesv1.CertificateSigningRequest) bool { return mine[r.Spec.Username] })
}
