package kube

import (
	"errors"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"metalrise.dev/fleet"
)

func at(minute int) time.Time { return time.Date(2026, 1, 2, 3, minute, 0, 0, time.UTC) }

func systemPod(name, node string, ready bool) *corev1.Pod {
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "kube-system", UID: types.UID(name)},
		Spec:       corev1.PodSpec{NodeName: node},
		Status:     corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: status, LastTransitionTime: metav1.NewTime(at(7))}}},
	}
}

// wellSight is a cluster in which the first control plane is as planned.
func wellSight() *sight {
	is := true
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "oslo-cp1", CreationTimestamp: metav1.NewTime(at(1))}}
	n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: "oslo-cp1"}, {Type: corev1.NodeInternalIP, Address: "10.0.1.21"}}
	n.Status.NodeInfo.SystemUUID = "44332211-6655-8877-99AA-BBCCDDEEFF00" // of the same machine, in the other byte order
	for i, c := range []corev1.NodeConditionType{corev1.NodeReady, corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure, corev1.NodeNetworkUnavailable} {
		status := corev1.ConditionFalse
		if c == corev1.NodeReady {
			status = corev1.ConditionTrue
		}
		n.Status.Conditions = append(n.Status.Conditions, corev1.NodeCondition{Type: c, Status: status, LastTransitionTime: metav1.NewTime(at(2 + i))})
	}
	network := systemPod("kube-flannel-ds-x", "oslo-cp1", true)
	network.Namespace = flannelNamespace
	network.OwnerReferences = []metav1.OwnerReference{{Kind: "DaemonSet", Name: "kube-flannel-ds", Controller: &is}}
	s := &sight{
		nodes:    map[string]*corev1.Node{"oslo-cp1": n},
		pods:     []*corev1.Pod{network},
		warnings: map[types.UID]*corev1.Event{},
		dns:      &appsv1.Deployment{Status: appsv1.DeploymentStatus{Conditions: []appsv1.DeploymentCondition{{Type: appsv1.DeploymentAvailable, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(at(9))}}}},
		base:     &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(at(8))}},
		members: fleet.Known([]Member{{ID: 1, Name: "oslo-cp1", Healthy: true, Peers: []string{"https://10.0.1.21:2380"}},
			{ID: 2, Name: "oslo-cp2", Healthy: true, Peers: []string{"https://10.0.1.22:2380"}}}),
		proven: map[string]time.Time{"oslo-cp1": at(6)},
		kvm:    func(fleet.ServerID) fleet.Check { return fleet.Check{OK: true, Since: at(5)} },
	}
	for _, one := range []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"} {
		s.pods = append(s.pods, systemPod(one+"-oslo-cp1", "oslo-cp1", true))
	}
	return s
}

func (s *sight) find(name string) *corev1.Pod {
	for _, p := range s.pods {
		if strings.HasPrefix(p.Name, name) {
			return p
		}
	}
	return nil
}

// wait makes a pod wait for a container.
func (s *sight) wait(name, container, reason, message string) *corev1.Pod {
	p := s.find(name)
	p.Status.Conditions[0].Status = corev1.ConditionFalse
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: container, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}}}
	return p
}

func setCondition(n *corev1.Node, t corev1.NodeConditionType, status corev1.ConditionStatus, reason, message string) {
	c := condition(n, t)
	c.Status, c.Reason, c.Message = status, reason, message
}

func TestNodeChecksAllTrue(t *testing.T) {
	checks := nodeChecks(apiPlan().Assignments[0], fleet.Flannel, wellSight())
	want := []string{fleet.CheckRegistered, fleet.CheckDressed, fleet.CheckServing, fleet.CheckNetwork, fleet.CheckKubelet, fleet.CheckPressure,
		fleet.CheckControl, fleet.CheckEtcd, fleet.CheckKVM, fleet.CheckSchedulable}
	if len(checks) != len(want) {
		t.Fatalf("%d checks, want %d", len(checks), len(want))
	}
	for i, c := range checks {
		if c.Name != want[i] || !c.OK || c.Missing != "" {
			t.Errorf("%d: %+v, want %s", i, c, want[i])
		}
	}
	if got := checkOf(checks, fleet.CheckPressure).Since; !got.Equal(at(5)) {
		t.Errorf("no pressure since %v, want the last of the three", got)
	}
	for _, c := range clusterChecks(apiPlan(), wellSight(), "") {
		if !c.OK {
			t.Errorf("%+v", c)
		}
	}
	worker := nodeChecks(apiPlan().Assignments[2], fleet.Flannel, wellSight())
	if len(worker) != len(want)-2 {
		t.Errorf("a worker has %d checks", len(worker))
	}
	for _, c := range worker {
		if c.OK != (c.Name == fleet.CheckKVM) {
			t.Errorf("a node that is not there: %+v", c)
		}
	}
}

// TestServingIsNotOlderThanItsNode: signers date certificates back by some
// minutes.
func TestServingIsNotOlderThanItsNode(t *testing.T) {
	s := wellSight()
	a := fleet.Assignment{Node: &fleet.NodePlan{Name: "oslo-cp1"}}
	s.proven["oslo-cp1"] = at(0)
	if c := serving(a, s); !c.OK || !c.Since.Equal(at(1)) {
		t.Errorf("%+v, want it since the node is there", c)
	}
}

func TestNodeChecks(t *testing.T) {
	for _, one := range []struct {
		name, check string
		change      func(*sight, *corev1.Node, *fleet.Assignment)
		missing     string // parts with | between; "" is OK
		cni         fleet.CNI
	}{
		{"another address", fleet.CheckRegistered, func(_ *sight, n *corev1.Node, _ *fleet.Assignment) {
			n.Status.Addresses[1].Address = "10.0.1.77"
		}, "10.0.1.77|planned one is 10.0.1.21", ""},
		{"another machine", fleet.CheckRegistered, func(_ *sight, n *corev1.Node, _ *fleet.Assignment) {
			n.Status.NodeInfo.SystemUUID = "ffeeddcc-5566-7788-99aa-bbccddeeff00"
		}, "ffeeddcc|11223344", ""},
		{"a machine without UUID shows its machine id", fleet.CheckRegistered, func(_ *sight, n *corev1.Node, _ *fleet.Assignment) {
			n.Status.NodeInfo.SystemUUID, n.Status.NodeInfo.MachineID = "0123456789abcdef0123456789abcdef", "0123456789abcdef0123456789abcdef"
		}, "", ""},
		{"no UUID planned", fleet.CheckRegistered, func(_ *sight, n *corev1.Node, a *fleet.Assignment) {
			a.Identity.UUID, n.Status.NodeInfo.SystemUUID = "", "ffeeddcc-5566-7788-99aa-bbccddeeff00"
		}, "", ""},
		{"no address yet", fleet.CheckRegistered, func(_ *sight, n *corev1.Node, _ *fleet.Assignment) { n.Status.Addresses = nil }, "address yet", ""},
		{"label and taint", fleet.CheckDressed, func(_ *sight, n *corev1.Node, a *fleet.Assignment) {
			n.Labels = map[string]string{"b": "old"}
			a.Node.Labels = map[string]string{"b": "new", "a": ""}
			a.Node.Taints = []fleet.Taint{{Key: "k", Effect: "NoSchedule"}}
		}, "label a=, label b=new, taint k:NoSchedule", ""},
		{"no serving certificate asked for", fleet.CheckServing, func(s *sight, _ *corev1.Node, _ *fleet.Assignment) { s.proven = nil }, "has not asked", ""},
		{"serving certificate waits", fleet.CheckServing, func(s *sight, _ *corev1.Node, _ *fleet.Assignment) {
			s.proven, s.requests = nil, []*certificatesv1.CertificateSigningRequest{servingRequest("csr-1", "", "")}
		}, "csr-1 waits", ""},
		{"serving certificate refused", fleet.CheckServing, func(s *sight, _ *corev1.Node, _ *fleet.Assignment) {
			s.proven, s.requests = nil, []*certificatesv1.CertificateSigningRequest{servingRequest("csr-1", certificatesv1.CertificateDenied, "wrong name")}
		}, "csr-1 was refused: wrong name", ""},
		{"serving certificate not signed", fleet.CheckServing, func(s *sight, _ *corev1.Node, _ *fleet.Assignment) {
			s.proven, s.requests = nil, []*certificatesv1.CertificateSigningRequest{servingRequest("csr-1", certificatesv1.CertificateApproved, "")}
		}, "not signed yet", ""},
		{"serving certificate issued", fleet.CheckServing, func(s *sight, _ *corev1.Node, _ *fleet.Assignment) {
			r := servingRequest("csr-1", certificatesv1.CertificateApproved, "")
			r.Status.Certificate = []byte("x")
			s.proven, s.requests = nil, []*certificatesv1.CertificateSigningRequest{r}
		}, "", ""},
		{"no network pod", fleet.CheckNetwork, func(s *sight, _ *corev1.Node, _ *fleet.Assignment) { s.find("kube-flannel").Spec.NodeName = "other" },
			"DaemonSet kube-flannel has no ready pod on it", ""},
		{"network pod crashes", fleet.CheckNetwork, func(s *sight, _ *corev1.Node, _ *fleet.Assignment) {
			p := s.wait("kube-flannel", "flannel", "CrashLoopBackOff", "back-off 10s")
			p.Status.ContainerStatuses[0].LastTerminationState.Terminated = &corev1.ContainerStateTerminated{ExitCode: 1, Reason: "Error", Message: "no iptables"}
		}, "DaemonSet kube-flannel-ds has no ready pod on it: container flannel waits: CrashLoopBackOff: back-off 10s; it ended with code 1: no iptables", ""},
		{"network unavailable", fleet.CheckNetwork, func(_ *sight, n *corev1.Node, _ *fleet.Assignment) {
			setCondition(n, corev1.NodeNetworkUnavailable, corev1.ConditionTrue, "NoRoute", "no route created")
		}, "NoRoute: no route created", ""},
		{"own network, node not ready", fleet.CheckNetwork, func(_ *sight, n *corev1.Node, _ *fleet.Assignment) {
			setCondition(n, corev1.NodeReady, corev1.ConditionFalse, "KubeletNotReady", "cni plugin not initialized")
		}, "cni plugin not initialized", fleet.OwnCNI},
		{"own network, ready", fleet.CheckNetwork, func(s *sight, _ *corev1.Node, _ *fleet.Assignment) { s.pods = nil }, "", fleet.OwnCNI},
		{"kubelet not ready", fleet.CheckKubelet, func(_ *sight, n *corev1.Node, _ *fleet.Assignment) {
			setCondition(n, corev1.NodeReady, corev1.ConditionFalse, "KubeletNotReady", "runtime is down")
		}, "KubeletNotReady: runtime is down", ""},
		{"kubelet silent", fleet.CheckKubelet, func(_ *sight, n *corev1.Node, _ *fleet.Assignment) {
			setCondition(n, corev1.NodeReady, corev1.ConditionUnknown, "NodeStatusUnknown", "Kubelet stopped posting node status.")
			condition(n, corev1.NodeReady).LastHeartbeatTime = metav1.NewTime(at(4))
		}, "last heard from at 2026-01-02T03:04:00Z", ""},
		{"kubelet says nothing", fleet.CheckKubelet, func(_ *sight, n *corev1.Node, _ *fleet.Assignment) { n.Status.Conditions = nil }, "has not said yet", ""},
		{"disk full", fleet.CheckPressure, func(_ *sight, n *corev1.Node, _ *fleet.Assignment) {
			setCondition(n, corev1.NodeDiskPressure, corev1.ConditionTrue, "x", "disk is 90% full")
		}, "DiskPressure: disk is 90% full", ""},
		{"scheduler missing, API server pulls", fleet.CheckControl, func(s *sight, _ *corev1.Node, _ *fleet.Assignment) {
			s.wait("kube-apiserver", "kube-apiserver", "ErrImageNeverPull", "image is not there")
			s.find("kube-scheduler").Name = "other"
		}, "kube-apiserver: container kube-apiserver waits: ErrImageNeverPull: image is not there; kube-scheduler has no pod", ""},
		{"sandbox cannot be made", fleet.CheckControl, func(s *sight, _ *corev1.Node, _ *fleet.Assignment) {
			p := s.wait("kube-scheduler", "kube-scheduler", "ContainerCreating", "")
			s.warnings[p.UID] = &corev1.Event{Reason: "FailedCreatePodSandBox", Message: "no pause image"}
		}, "container kube-scheduler waits: ContainerCreating (last warning: FailedCreatePodSandBox: no pause image)", ""},
		{"etcd learns", fleet.CheckEtcd, func(s *sight, _ *corev1.Node, _ *fleet.Assignment) {
			s.members = fleet.Known([]Member{{Name: "oslo-cp1", Learner: true, Healthy: true}})
		}, "still learns", ""},
		{"etcd without it", fleet.CheckEtcd, func(s *sight, _ *corev1.Node, _ *fleet.Assignment) {
			s.members = fleet.Known([]Member{{Name: "oslo-cp2", Healthy: true}})
		}, "no member of this node", ""},
		{"etcd ill", fleet.CheckEtcd, func(s *sight, _ *corev1.Node, _ *fleet.Assignment) {
			s.members = fleet.Known([]Member{{Name: "oslo-cp1", Trouble: "context deadline exceeded"}})
		}, "context deadline exceeded", ""},
		{"etcd not asked", fleet.CheckEtcd, func(s *sight, _ *corev1.Node, _ *fleet.Assignment) { s.members = fleet.Maybe[[]Member]{} }, "", ""},
		{"KVM", fleet.CheckKVM, func(s *sight, _ *corev1.Node, _ *fleet.Assignment) {
			s.kvm = func(id fleet.ServerID) fleet.Check { return fleet.Check{Missing: "off on " + string(id)} }
		}, "off on SER1", ""},
		{"cordoned", fleet.CheckSchedulable, func(_ *sight, n *corev1.Node, _ *fleet.Assignment) { n.Spec.Unschedulable = true }, "cordoned", ""},
	} {
		t.Run(one.name, func(t *testing.T) {
			s, a := wellSight(), apiPlan().Assignments[0]
			one.change(s, s.nodes["oslo-cp1"], &a)
			cni := one.cni
			if cni == "" {
				cni = fleet.Flannel
			}
			c := checkOf(nodeChecks(a, cni, s), one.check)
			if c.OK != (one.missing == "") || c.OK != (c.Missing == "") {
				t.Errorf("%+v", c)
			}
			for part := range strings.SplitSeq(one.missing, "|") {
				if !strings.Contains(c.Missing, part) {
					t.Errorf("missing %q, want %q in it", c.Missing, part)
				}
			}
		})
	}
}

func servingRequest(name string, condition certificatesv1.RequestConditionType, message string) *certificatesv1.CertificateSigningRequest {
	r := &certificatesv1.CertificateSigningRequest{ObjectMeta: metav1.ObjectMeta{Name: name}}
	r.Spec.SignerName, r.Spec.Username = certificatesv1.KubeletServingSignerName, "system:node:oslo-cp1"
	if condition != "" {
		r.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{{Type: condition, Message: message}}
	}
	return r
}

func TestClusterChecks(t *testing.T) {
	s := wellSight()
	s.base, s.dns = nil, nil
	s.members = fleet.Known([]Member{{ID: 1, Name: "oslo-cp1", Healthy: true}, {ID: 9, Name: "gone-cp9"}, {ID: 3, Peers: []string{"https://10.0.1.22:2380"}}})
	checks := clusterChecks(apiPlan(), s, "nobody answers")
	for name, want := range map[string]string{
		ClusterAPI: "nobody answers", ClusterBase: "not applied yet", ClusterDNS: "no Deployment coredns",
		ClusterEtcd: "not voting and healthy: oslo-cp2; members that are in no plan: gone-cp9",
	} {
		if c := checkOf(checks, name); c.OK || !strings.Contains(c.Missing, want) {
			t.Errorf("%+v, want %q", c, want)
		}
	}
	s.members = fleet.Maybe[[]Member]{}
	for _, want := range []string{"has not been asked", "does not tell its members: list etcd's members: no time left"} {
		if c := checkOf(clusterChecks(apiPlan(), s, ""), ClusterEtcd); c.OK || !strings.Contains(c.Missing, want) {
			t.Errorf("%+v, want %q", c, want)
		}
		s.noMembers = errors.New("list etcd's members: no time left")
	}
	s = wellSight()
	s.dns.Status.Conditions[0].Status = corev1.ConditionFalse
	dns := systemPod("coredns-1", "", false)
	dns.Labels = map[string]string{"k8s-app": "kube-dns"}
	dns.Status.Conditions = append(dns.Status.Conditions, corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable", Message: "0/1 nodes are available"})
	s.pods = append(s.pods, dns)
	if c := checkOf(clusterChecks(apiPlan(), s, ""), ClusterDNS); c.Missing != "pod coredns-1: no node takes it: Unschedulable: 0/1 nodes are available" {
		t.Errorf("%+v", c)
	}
}

func TestRememberSince(t *testing.T) {
	since := map[string]fleet.Check{}
	one := func(minute int, c fleet.Check) fleet.Check {
		v := View{At: at(minute), Nodes: map[fleet.ServerID][]fleet.Check{"S": {c}}}
		v.remember(since)
		return v.Nodes["S"][0]
	}
	for i, step := range []struct {
		ok   bool
		told int // minute that the object tells; 0: none
		want int
	}{{false, 0, 10}, {false, 0, 10}, {true, 0, 12}, {true, 0, 12}, {true, 4, 4}, {false, 0, 15}} {
		c := fleet.Check{Name: "x", OK: step.ok}
		if step.told > 0 {
			c.Since = at(step.told)
		}
		if got := one(10+i, c).Since; !got.Equal(at(step.want)) {
			t.Errorf("step %d: since %v, want %v", i, got, at(step.want))
		}
	}
}

func TestWordsAreOneBoundedLine(t *testing.T) {
	got := words("a\x1b[31m\nb\tc\u009b" + strings.Repeat("é", 1000))
	if strings.ContainsAny(got, "\x1b\n\t\u009b") || len(got) > maxWords+10 || !strings.HasPrefix(got, "a [31m b c") {
		t.Errorf("%q", got)
	}
}
