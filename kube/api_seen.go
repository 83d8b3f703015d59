package kube

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metalrise.dev/fleet"
)

// NodeSeen is what a node says of itself, and how it stands.
type NodeSeen struct {
	Name    string
	UUID    string // of the system, lower case
	Address string // internal
	Kubelet string // "v1.34.4"
	Runtime string // "containerd://2.1.4"
	OS      string
	Kernel  string
	Ready   bool
	// Services tells whether addresses of Services answer from it; nil where nobody
	// asks that.
	Services *fleet.Check
}

// NodesSeen lists all nodes, in the order of their names.
func (c *Cluster) NodesSeen(ctx context.Context) ([]NodeSeen, error) {
	nodes, err := list[corev1.Node](ctx, c, nodesResource, "", metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	pods, err := list[corev1.Pod](ctx, c, podsResource, metav1.NamespaceSystem, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	now := &sight{}
	for i := range pods {
		now.pods = append(now.pods, &pods[i])
	}
	now.sorted = now.lookup()
	var out []NodeSeen
	for i := range nodes {
		n := &nodes[i]
		info := n.Status.NodeInfo
		seen := NodeSeen{Name: n.Name, UUID: fleet.NewIdentity(info.SystemUUID, "").UUID, Kubelet: info.KubeletVersion, Runtime: info.ContainerRuntimeVersion,
			OS: info.OSImage, Kernel: info.KernelVersion, Ready: kubelet(n).OK}
		for _, a := range n.Status.Addresses {
			if a.Type == corev1.NodeInternalIP && seen.Address == "" {
				seen.Address = a.Address
			}
		}
		if now.sorted.probed {
			check := services(n, now)
			seen.Services = &check
		}
		out = append(out, seen)
	}
	slices.SortFunc(out, func(a, b NodeSeen) int { return fleet.CompareNames(a.Name, b.Name) })
	return out, nil
}
