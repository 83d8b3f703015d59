package kube

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"metalrise.dev/fleet"
)

func TestServicesCheck(t *testing.T) {
	a := apiPlan().Assignments[0]
	probe := func(name, node string, ready bool) *corev1.Pod {
		p := systemPod(name, node, ready)
		p.Labels, p.Status.Phase = map[string]string{nameLabel: serviceProbe}, corev1.PodRunning
		return p
	}
	proxy := systemPod("kube-proxy-x1", "oslo-cp1", true)
	proxy.Labels = map[string]string{"k8s-app": "kube-proxy"}
	waiting := probe("metalrise-services-b", "oslo-cp1", false)
	waiting.Status.Phase = corev1.PodPending
	for name, c := range map[string]struct {
		pods []*corev1.Pod
		want string // in what is missing; "" is well
	}{
		"it answers":                     {[]*corev1.Pod{probe("metalrise-services-a", "oslo-cp1", true)}, ""},
		"it does not, and there is more": {[]*corev1.Pod{probe("metalrise-services-a", "oslo-cp1", false), proxy}, "kubectl -n kube-system delete pod kube-proxy-x1"},
		"it does not":                    {[]*corev1.Pod{probe("metalrise-services-a", "oslo-cp1", false)}, "addresses of Services do not answer from it"},
		"nobody asks yet":                {[]*corev1.Pod{waiting, proxy}, "no ready pod on it: it is not started yet"},
		"asked elsewhere only":           {[]*corev1.Pod{probe("metalrise-services-a", "oslo-cp2", true)}, "has no pod on it"},
	} {
		s := wellSight()
		s.pods = append(s.pods, c.pods...)
		got := checkOf(nodeChecks(a, fleet.Flannel, s), fleet.CheckServices)
		if got.Missing == "no such check" || got.OK != (c.want == "") || !strings.Contains(got.Missing, c.want) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if got := checkOf(nodeChecks(a, fleet.Flannel, wellSight()), fleet.CheckServices); got.Missing != "no such check" {
		t.Errorf("a cluster that was begun without the probe is judged: %+v", got)
	}
}

func TestAPIService(t *testing.T) {
	for in, want := range map[string]string{"10.96.0.0/12": "10.96.0.1", "10.96.0.9/16": "10.96.0.1", "fd00:96::/112": "fd00:96::1", "": "", "10.96.0.0": ""} {
		got, err := apiService(in)
		if (err == nil) != (want != "") || err == nil && got.String() != want {
			t.Errorf("%q: %v, %v", in, got, err)
		}
	}
}

func TestNodesSeenTellOfServices(t *testing.T) {
	f, c := newFakeAPI(t)
	f.put("/api/v1/nodes/w1", map[string]any{"status": map[string]any{"conditions": []any{map[string]any{"type": "Ready", "status": "True"}}}})
	f.put("/api/v1/nodes/w2", map[string]any{})
	seen, err := c.NodesSeen(t.Context())
	if err != nil || len(seen) != 2 || seen[0].Services != nil {
		t.Fatalf("without the probe: %+v, %v", seen, err)
	}
	f.put("/api/v1/namespaces/kube-system/pods/metalrise-services-a", map[string]any{
		"metadata": map[string]any{"namespace": "kube-system", "labels": map[string]any{nameLabel: serviceProbe}},
		"spec":     map[string]any{"nodeName": "w1"},
		"status":   map[string]any{"phase": "Running", "conditions": []any{map[string]any{"type": "Ready", "status": "True"}}},
	})
	seen, err = c.NodesSeen(t.Context())
	if err != nil || seen[0].Services == nil || !seen[0].Services.OK || seen[1].Services == nil || seen[1].Services.OK || !seen[0].Ready || seen[1].Ready {
		t.Fatalf("with a probe on the first: %+v, %v", seen, err)
	}
}

// TestHostsWithoutRouteAreNotAsked: such a host cannot reach the address of a
// Service, however well its kube-proxy works, and would never be ready.
func TestHostsWithoutRouteAreNotAsked(t *testing.T) {
	for gateway, want := range map[string]bool{"10.0.1.1": true, "": false} {
		p := testPlan(t, 3, fleet.VirtualIP)
		p.Assignments[2].Network.Gateway = gateway
		text, err := BaseManifests(p, testPayload())
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(string(text), serviceProbe); got != want {
			t.Errorf("with gateway %q the hosts are asked: %v", gateway, got)
		}
	}
}
