package kube

import (
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metalrise.dev/fleet"
)

// Every node is asked all the time whether addresses of Services answer from it.
// A kube-proxy whose rules are gone calls itself healthy, and its node is Ready;
// what then fails are webhooks, operators and VMs, each with words of its own.
//
// The asking is done by the kubelets: a pod on each node does nothing, and its
// readiness probe connects to the address of the API's own Service, through the
// rules of that node. It costs a pause container and a connection each ten seconds.

// serviceProbe is the name of the DaemonSet, and of its pods' label.
const serviceProbe = "metalrise-services"

const nameLabel = "app.kubernetes.io/name"

// Pace of the probe. Three failures in a row are needed, because an API server
// that restarts takes the address away for some seconds.
const (
	probeEvery    = 10
	probeTimeout  = 5
	probeFailures = 3
)

// apiService is the address of the API's own Service: the first of the range
// (kubeadm, ClusterConfiguration.networking.serviceSubnet).
func apiService(serviceCIDR string) (netip.Addr, error) {
	p, err := netip.ParsePrefix(serviceCIDR)
	if err != nil {
		return netip.Addr{}, fleet.NewFault(fleet.CodeClusterNetwork, fleet.Invalid, err, "service range %q is none", serviceCIDR)
	}
	return p.Masked().Addr().Next(), nil
}

// serviceProbeManifest is the DaemonSet. It needs no pod network: the kubelet
// connects by itself.
func serviceProbeManifest(c fleet.ClusterPlan, pause image) (map[string]any, error) {
	address, err := apiService(c.ServiceCIDR)
	if err != nil {
		return nil, err
	}
	labels := map[string]string{nameLabel: serviceProbe}
	return map[string]any{"apiVersion": "apps/v1", "kind": "DaemonSet",
		"metadata": map[string]any{"name": serviceProbe, "namespace": metav1.NamespaceSystem, "labels": labels},
		"spec": map[string]any{
			"selector":       map[string]any{"matchLabels": labels},
			"updateStrategy": map[string]any{"type": "RollingUpdate", "rollingUpdate": map[string]any{"maxUnavailable": "20%"}},
			"template": map[string]any{"metadata": map[string]any{"labels": labels}, "spec": map[string]any{
				"hostNetwork":                   true,
				"automountServiceAccountToken":  false,
				"enableServiceLinks":            false,
				"priorityClassName":             "system-node-critical",
				"tolerations":                   []map[string]string{{"operator": "Exists"}},
				"nodeSelector":                  map[string]string{"kubernetes.io/os": "linux"},
				"terminationGracePeriodSeconds": 1,
				"securityContext":               map[string]any{"runAsNonRoot": true, "runAsUser": 65534, "seccompProfile": map[string]string{"type": "RuntimeDefault"}},
				"containers": []map[string]any{{
					"name": "probe", "image": pause.String(), "imagePullPolicy": "IfNotPresent",
					"readinessProbe": map[string]any{
						"tcpSocket":     map[string]any{"host": address.String(), "port": 443},
						"periodSeconds": probeEvery, "timeoutSeconds": probeTimeout, "failureThreshold": probeFailures,
					},
					"resources": map[string]any{"requests": map[string]string{"cpu": "1m", "memory": "4Mi"}},
					"securityContext": map[string]any{"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
						"capabilities": map[string]any{"drop": []string{"ALL"}}},
				}},
			}},
		}}, nil
}

// services judges what the probe on a node sees. In a cluster that was begun
// without the probe it is not asked: nothing is known there.
func services(n *corev1.Node, s *sight) fleet.Check {
	var probe, proxy *corev1.Pod
	for _, pod := range s.lookup().on[n.Name] {
		switch {
		case pod.Labels[nameLabel] == serviceProbe:
			probe = pod
		case pod.Namespace == metav1.NamespaceSystem && pod.Labels["k8s-app"] == "kube-proxy":
			proxy = pod
		}
	}
	if probe == nil {
		return not(fleet.CheckServices, "DaemonSet %s has no pod on it", serviceProbe)
	}
	ok, since := podReady(probe)
	switch {
	case ok:
		return yes(fleet.CheckServices, since)
	case probe.Status.Phase != corev1.PodRunning:
		return not(fleet.CheckServices, "DaemonSet %s has no ready pod on it: %s", serviceProbe, podTrouble(probe, s.warnings[probe.UID]))
	}
	out := not(fleet.CheckServices, "addresses of Services do not answer from it%s", warned(s.warnings[probe.UID]))
	if proxy != nil {
		out = not(fleet.CheckServices, "addresses of Services do not answer from it; if that stays so, have its kube-proxy write its rules anew: kubectl -n kube-system delete pod %s%s",
			proxy.Name, warned(s.warnings[probe.UID]))
	}
	out.Since = since
	return out
}

// routed tells whether the hosts can be asked: where one has no default route, its
// kernel refuses the address of a Service before kube-proxy's rules are looked at.
// Pods are not touched by that; the pod network gives them a route of their own.
func routed(p fleet.Plan) bool {
	for _, a := range p.Assignments {
		if isNode(a) && a.Network.Gateway == "" {
			return false
		}
	}
	return true
}

// withServiceProbe is the probe as YAML.
func withServiceProbe(c fleet.ClusterPlan, payload fleet.Payload) ([]byte, error) {
	pause, _, ok := reference(payload, "pause")
	if !ok {
		return nil, fleet.NewFault(fleet.CodePayloadInvalid, fleet.Invalid, nil, `make the base manifests: image "pause" is missing in the payload`)
	}
	d, err := serviceProbeManifest(c, pause)
	if err != nil {
		return nil, fmt.Errorf("make the base manifests: %w", err)
	}
	return documents(d)
}
