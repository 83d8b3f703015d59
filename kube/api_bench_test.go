package kube

import (
	"fmt"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"metalrise.dev/fleet"
)

// wideSight is a cluster of n workers behind one control plane, each with the
// pods that kubeadm and flannel put on it, and a request for a serving
// certificate that was not seen in use yet.
func wideSight(n int) (fleet.Plan, *sight) {
	p, s := apiPlan(), wellSight()
	p.Assignments = p.Assignments[:1]
	is := true
	for i := range n {
		name := fmt.Sprintf("oslo-w%d", i+1)
		p.Assignments = append(p.Assignments, fleet.Assignment{Server: fleet.ServerID(fmt.Sprintf("W%d", i+1)), Role: fleet.Worker, Hostname: name,
			Network: fleet.Network{Address: fmt.Sprintf("10.1.%d.%d/16", i/250, 1+i%250)}, Node: &fleet.NodePlan{Name: name}})
		node := s.nodes["oslo-cp1"].DeepCopy()
		node.Name, node.Status.NodeInfo = name, corev1.NodeSystemInfo{}
		node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: fmt.Sprintf("10.1.%d.%d", i/250, 1+i%250)}}
		s.nodes[name] = node
		flannel, proxy := systemPod("kube-flannel-ds-"+name, name, true), systemPod("kube-proxy-"+name, name, true)
		flannel.Namespace = flannelNamespace
		flannel.OwnerReferences = []metav1.OwnerReference{{Kind: "DaemonSet", Name: "kube-flannel-ds", Controller: &is}}
		proxy.OwnerReferences = []metav1.OwnerReference{{Kind: "DaemonSet", Name: "kube-proxy", Controller: &is}}
		s.pods = append(s.pods, proxy, flannel)
		s.requests = append(s.requests, &certificatesv1.CertificateSigningRequest{
			ObjectMeta: metav1.ObjectMeta{Name: "csr-" + name, UID: types.UID("csr-" + name)},
			Spec:       certificatesv1.CertificateSigningRequestSpec{SignerName: certificatesv1.KubeletServingSignerName, Username: nodeUserPrefix + name},
			Status: certificatesv1.CertificateSigningRequestStatus{Certificate: []byte("x"), Conditions: []certificatesv1.CertificateSigningRequestCondition{
				{Type: certificatesv1.CertificateApproved, LastUpdateTime: metav1.NewTime(at(6))}}},
		})
	}
	return p, s
}

// TestWideSight makes sure that the benchmark judges what it seems to, and that
// sorting once gives what sorting for each node gives.
func TestWideSight(t *testing.T) {
	p, s := wideSight(20)
	for _, a := range p.Assignments[1:] {
		for _, c := range nodeChecks(a, fleet.Flannel, s) {
			if !c.OK {
				t.Errorf("%s: %+v", a.Hostname, c)
			}
		}
	}
	flannel := s.find("kube-flannel-ds-oslo-w7")
	flannel.Status.Conditions[0].Status = corev1.ConditionFalse
	denied := s.requests[2].DeepCopy()
	denied.Name, denied.CreationTimestamp = "csr-later", metav1.NewTime(at(9))
	denied.Status = certificatesv1.CertificateSigningRequestStatus{}
	s.requests = append([]*certificatesv1.CertificateSigningRequest{denied}, s.requests...)
	s.sorted = s.lookup()
	for _, a := range p.Assignments[1:] {
		for _, c := range nodeChecks(a, fleet.Flannel, s) {
			wrong := a.Hostname == "oslo-w7" && c.Name == fleet.CheckNetwork || a.Hostname == "oslo-w3" && c.Name == fleet.CheckServing
			if c.OK == wrong {
				t.Errorf("%s: %+v", a.Hostname, c)
			}
		}
	}
}

// BenchmarkChecks judges every node once, as it is done up to four times a
// second while anything changes.
func BenchmarkChecks(b *testing.B) {
	for _, n := range []int{100, 1000} {
		p, s := wideSight(n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				s.sorted = nil
				s.sorted = s.lookup()
				for _, a := range p.Assignments {
					nodeChecks(a, fleet.Flannel, s)
				}
			}
		})
	}
}
