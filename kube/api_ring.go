package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"metalrise.dev/fleet"
)

// NodeState is how a node stands, as far as VMs on it are concerned.
type NodeState struct {
	Name        string
	Ready       bool // its kubelet says so, and is heard
	Cordoned    bool
	Fenced      bool // the taint that Fence sets is there
	Labels      map[string]string
	Annotations map[string]string
}

// NodeStates lists all nodes, in the order of their names.
func (c *Cluster) NodeStates(ctx context.Context) ([]NodeState, error) {
	nodes, err := list[corev1.Node](ctx, c, nodesResource, "", metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	var out []NodeState
	for i := range nodes {
		n := &nodes[i]
		out = append(out, NodeState{
			Name: n.Name, Ready: kubelet(n).OK, Cordoned: n.Spec.Unschedulable, Labels: n.Labels, Annotations: n.Annotations,
			Fenced: slices.ContainsFunc(n.Spec.Taints, isOutOfService),
		})
	}
	slices.SortFunc(out, func(a, b NodeState) int { return fleet.CompareNames(a.Name, b.Name) })
	return out, nil
}

// KubeletHeard is when a node's kubelet last renewed its lease, by the node's own clock;
// zero when there is no lease. Unlike the condition Ready it does not stay for
// 40 s after the kubelet died.
func (c *Cluster) KubeletHeard(ctx context.Context, node string) (time.Time, error) {
	l, err := get[coordinationv1.Lease](ctx, c, leasesResource, corev1.NamespaceNodeLease, node)
	if err != nil || l == nil || l.Spec.RenewTime == nil {
		return time.Time{}, err
	}
	return l.Spec.RenewTime.Time, nil
}

// AnnotateNode sets an annotation of a node; "" removes it.
func (c *Cluster) AnnotateNode(ctx context.Context, node, key, value string) error {
	return c.changeNode(ctx, node, func(n *corev1.Node) map[string]any {
		if n.Annotations[key] == value {
			return nil
		}
		return map[string]any{"metadata": map[string]any{"annotations": map[string]any{key: nilIfEmpty(value)}}}
	})
}

// outOfService is the taint by which an administrator promises that a node is
// off: its pods are then removed and their volumes detached without asking its
// kubelet. Source: Kubernetes documentation, "Non-graceful node shutdown".
const outOfService = "node.kubernetes.io/out-of-service"

func isOutOfService(t corev1.Taint) bool { return t.Key == outOfService }

// Fence marks a node as switched off. It must be: what ran there may be started
// again elsewhere at once. It is cordoned too.
func (c *Cluster) Fence(ctx context.Context, node string) error {
	return c.changeNode(ctx, node, func(n *corev1.Node) map[string]any {
		if slices.ContainsFunc(n.Spec.Taints, isOutOfService) && n.Spec.Unschedulable {
			return nil
		}
		taints := slices.DeleteFunc(slices.Clone(n.Spec.Taints), isOutOfService)
		taints = append(taints, corev1.Taint{Key: outOfService, Value: "nodeshutdown", Effect: corev1.TaintEffectNoExecute})
		return map[string]any{"spec": map[string]any{"taints": taints, "unschedulable": true}}
	})
}

// Unfence takes that mark away and lets pods on the node again.
func (c *Cluster) Unfence(ctx context.Context, node string) error {
	return c.changeNode(ctx, node, func(n *corev1.Node) map[string]any {
		if !slices.ContainsFunc(n.Spec.Taints, isOutOfService) && !n.Spec.Unschedulable {
			return nil
		}
		left := []corev1.Taint{} // not nil: an empty list empties it
		for _, t := range n.Spec.Taints {
			if !isOutOfService(t) {
				left = append(left, t)
			}
		}
		return map[string]any{"spec": map[string]any{"taints": left, "unschedulable": false}}
	})
}

// EndPod deletes a pod without waiting for its kubelet, which must be dead: two
// copies of it could run otherwise. Gone is fine.
func (c *Cluster) EndPod(ctx context.Context, namespace, pod string) error {
	return c.call(ctx, "end pod "+pod, func(ctx context.Context) error {
		var now int64
		err := c.dynamic.Resource(podsResource).Namespace(namespace).Delete(ctx, pod, metav1.DeleteOptions{GracePeriodSeconds: &now})
		if isGone(err) {
			return nil
		}
		return err
	})
}

// maxConsole bounds one reading of a console.
const maxConsole = 1 << 20

// Console reads what a container wrote since a moment (zero: since it started),
// each line after the time at which its node heard it ("2026-11-22T03:04:05.123Z …"),
// at most 1 MiB. The API counts whole seconds, so some lines come twice. A
// container that has not started, or is gone, wrote nothing.
func (c *Cluster) Console(ctx context.Context, namespace, pod, container string, since time.Time) ([]byte, error) {
	query := url.Values{"container": {container}, "timestamps": {"true"}, "limitBytes": {strconv.Itoa(maxConsole)}}
	if !since.IsZero() {
		query.Set("sinceTime", since.UTC().Format(time.RFC3339))
	}
	at := c.server.JoinPath("api/v1/namespaces", namespace, "pods", pod, "log")
	at.RawQuery = query.Encode()
	var out []byte
	err := c.call(ctx, "read the console of pod "+pod, func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
		if err != nil {
			return err
		}
		answer, err := c.http.Do(request)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(io.LimitReader(answer.Body, maxConsole))
		switch {
		case answer.StatusCode == http.StatusOK:
			out = body // as far as it came
			return nil
		case err != nil:
			return err
		case answer.StatusCode == http.StatusNotFound || answer.StatusCode == http.StatusBadRequest:
			return nil // no such pod; a container that waits to start
		}
		return fmt.Errorf("status %d: %s", answer.StatusCode, words(string(body)))
	})
	return out, err
}

// Merge changes fields of an object by a JSON merge patch (RFC 7386), whoever
// set them.
func (c *Cluster) Merge(ctx context.Context, kind schema.GroupVersionKind, namespace, name string, patch map[string]any) error {
	to, ok, err := c.resourceOf(ctx, kind, namespace)
	if err != nil {
		return err
	}
	if !ok {
		return fleet.NewFault(fleet.CodeAPIRefused, fleet.Invalid, nil, "the API has no kind %s in %s", kind.Kind, kind.GroupVersion())
	}
	b, err := json.Marshal(patch)
	if err != nil {
		return err
	}
	return c.call(ctx, "change "+kind.Kind+" "+name, func(ctx context.Context) error {
		_, err := to.Patch(ctx, name, types.MergePatchType, b, metav1.PatchOptions{FieldManager: Manager})
		return err
	})
}
