package kube

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"metalrise.dev/fleet"
	"metalrise.dev/lab/kubernetes"
)

// wire stands between us and the API, as the network does: it can refuse
// connections, or swallow what is sent, as after a virtual address moved.
type wire struct {
	listener net.Listener
	target   string

	mu     sync.Mutex
	refuse bool
	conns  map[*wired]bool
}

type wired struct {
	here, there net.Conn
	swallow     bool
}

func newWire(t *testing.T, target string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{listener: l, target: target, conns: map[*wired]bool{}}
	t.Cleanup(func() { l.Close(); w.cut() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			w.accept(conn)
		}
	}()
	return w
}

func (w *wire) accept(conn net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.refuse {
		conn.Close()
		return
	}
	there, err := net.Dial("tcp", w.target)
	if err != nil {
		conn.Close()
		return
	}
	one := &wired{here: conn, there: there}
	w.conns[one] = true
	for _, way := range [][2]net.Conn{{conn, there}, {there, conn}} {
		go func() {
			defer w.drop(one)
			b := make([]byte, 32<<10)
			for {
				n, err := way[0].Read(b)
				w.mu.Lock()
				swallow := one.swallow
				w.mu.Unlock()
				if !swallow {
					if _, err := way[1].Write(b[:n]); err != nil {
						return
					}
				}
				if err != nil {
					return
				}
			}
		}()
	}
}

func (w *wire) drop(one *wired) {
	w.mu.Lock()
	defer w.mu.Unlock()
	one.here.Close()
	one.there.Close()
	delete(w.conns, one)
}

// cut ends all connections and lets no new one in.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refuse = true
	for one := range w.conns {
		one.here.Close()
		one.there.Close()
	}
}

func (w *wire) mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refuse = false
}

// swallow lets open connections live and carry nothing; new ones work.
func (w *wire) swallow() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for one := range w.conns {
		one.swallow = true
	}
}

// realAPI starts a control plane without nodes, and connects through a wire.
func realAPI(t *testing.T) (*Cluster, *wire, *kubernetes.ControlPlane) {
	t.Helper()
	dir, _ := realPayload(t)
	control, err := kubernetes.StartControlPlane(t.Context(), dir, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(control.Stop)
	w := newWire(t, strings.TrimPrefix(control.URL, "https://"))
	config := bytes.ReplaceAll(control.Kubeconfig, []byte(control.URL), []byte("https://"+w.listener.Addr().String()))
	c, err := Connect(config, apiPlan())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if err := c.Reachable(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c, w, control
}

// put creates or replaces an object.
func (c *Cluster) put(t *testing.T, text string) {
	t.Helper()
	objects, err := readManifests([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		r, ok, err := c.find(t.Context(), o.GroupVersionKind())
		if err != nil || !ok {
			t.Fatal(o.GroupVersionKind(), err)
		}
		to := c.dynamic.Resource(o.GroupVersionKind().GroupVersion().WithResource(r.Name)).Namespace(o.GetNamespace())
		if _, err := to.Apply(t.Context(), o.GetName(), o, metav1.ApplyOptions{FieldManager: "somebody", Force: true}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRealBase(t *testing.T) {
	c, _, _ := realAPI(t)
	ctx := t.Context()
	c.put(t, `
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: "kubeadm:node-autoapprove-bootstrap"}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:certificates.k8s.io:certificatesigningrequests:nodeclient"}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: "system:bootstrappers:kubeadm:default-node-token"}]
---
apiVersion: v1
kind: Secret
metadata: {name: bootstrap-token-abcdef, namespace: kube-system}
type: bootstrap.kubernetes.io/token
stringData: {token-id: abcdef, token-secret: 0123456789abcdef, usage-bootstrap-authentication: "true"}
`)
	if err := c.Invite(ctx, c.plan.Assignments[0], "ghijkl.0123456789abcdef", time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	// In a bad order, with a list, with an object of a kind that comes with it.
	manifests := []byte(`# only a comment
---
apiVersion: lab.metalrise.dev/v1
kind: Rack
metadata: {name: one, namespace: racks}
spec: {height: 42}
---
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: racks}, data: {k: v}}
- {apiVersion: v1, kind: ServiceAccount, metadata: {name: s, namespace: racks}}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: racks.lab.metalrise.dev}
spec:
  group: lab.metalrise.dev
  names: {kind: Rack, plural: racks, singular: rack, listKind: RackList}
  scope: Namespaced
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]
---
{apiVersion: v1, kind: Namespace, metadata: {name: racks}}
`)
	for range 2 {
		if err := c.Base(ctx, manifests); err != nil {
			t.Fatal(err)
		}
	}
	rack, err := c.dynamic.Resource(schema.GroupVersionResource{Group: "lab.metalrise.dev", Version: "v1", Resource: "racks"}).Namespace("racks").Get(ctx, "one", metav1.GetOptions{})
	if err != nil || rack.GetGeneration() != 1 {
		t.Errorf("rack %v: %v", rack, err)
	}
	if binding, err := get[rbacv1.ClusterRoleBinding](ctx, c, bindingsResource, "", autoApprove); binding != nil || err != nil {
		t.Errorf("the rule is still there: %v %v", binding, err)
	}
	tokens, err := c.tokens(ctx)
	if err != nil || len(tokens) != 1 || tokens[0].Name != "bootstrap-token-ghijkl" {
		t.Errorf("tokens %v, %v", tokens, err)
	}
	err = c.Base(ctx, []byte("{apiVersion: nowhere/v1, kind: Ghost, metadata: {name: x}, spec: {}}\n---\n{apiVersion: v1, kind: Pod}"))
	if fleet.CodeOf(err) != fleet.CodeAPIRefused || !strings.Contains(err.Error(), "document 2") {
		t.Errorf("nameless object: %v", err)
	}
	err = c.Base(ctx, []byte("{apiVersion: v1, kind: ConfigMap, metadata: {name: UPPER, namespace: default}}"))
	if fleet.CodeOf(err) != fleet.CodeAPIRefused || fleet.KindOf(err) != fleet.Invalid || !strings.Contains(err.Error(), "UPPER") {
		t.Errorf("bad name: %v", err)
	}
}

// bearer talks to the API as whoever shows a token.
func (c *Cluster) bearer(t *testing.T, token string) dynamic.Interface {
	t.Helper()
	d, err := dynamic.NewForConfig(&rest.Config{Host: c.config.Host, BearerToken: token, TLSClientConfig: rest.TLSClientConfig{CAData: c.login.ca}})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// askFor makes a request for a certificate as a kubelet does.
func askFor(t *testing.T, d dynamic.Interface, name string, r *certificatesv1.CertificateSigningRequest) {
	t.Helper()
	r = r.DeepCopy()
	r.TypeMeta = metav1.TypeMeta{APIVersion: "certificates.k8s.io/v1", Kind: "CertificateSigningRequest"}
	r.Name = name
	r.Spec.Username, r.Spec.Groups = "", nil
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Resource(requestsResource).Create(t.Context(), &unstructured.Unstructured{Object: object}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// bootstrappers may ask, as kubeadm sets it up.
const bootstrappers = `
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: "kubeadm:kubelet-bootstrap"}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:node-bootstrapper"}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: "system:bootstrappers:kubeadm:default-node-token"}]
`

// A kubelet's whole way in: token, client certificate, node, serving certificate.
func TestRealAdmission(t *testing.T) {
	c, _, _ := realAPI(t)
	ctx := t.Context()
	c.put(t, bootstrappers)
	a, b := c.plan.Assignments[0], c.plan.Assignments[1]
	const token, other = "aaaaaa.0123456789abcdef", "bbbbbb.0123456789abcdef"
	for range 2 {
		if err := c.Invite(ctx, a, token, time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Invite(ctx, b, other, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	key, request := apiRequest(t, &x509.CertificateRequest{Subject: apiSubject(a.Node.Name)})
	_, stolen := apiRequest(t, &x509.CertificateRequest{Subject: apiSubject(b.Node.Name)})
	client := &certificatesv1.CertificateSigningRequest{Spec: certificatesv1.CertificateSigningRequestSpec{
		Request: request, SignerName: certificatesv1.KubeAPIServerClientKubeletSignerName,
		Usages: []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageClientAuth}}}
	askFor(t, c.bearer(t, token), "honest", client)
	client.Spec.Request = stolen
	askFor(t, c.bearer(t, token), "stolen", client)

	judged := make(chan Admission, 10)
	follow, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- c.Follow(follow, Follower{Judged: func(a Admission) { judged <- a }}) }()
	got := map[string]Admission{}
	for range 2 {
		one := <-judged
		got[one.Request] = one
	}
	if one := got["honest"]; !one.OK || one.Server != a.Server || one.Cause != nil {
		t.Errorf("honest: %+v", one)
	}
	if one := got["stolen"]; one.OK || one.Cause == nil || one.Cause.Code != fleet.CodeCSRRefused || one.For != ForClient {
		t.Errorf("stolen: %+v", one)
	}
	issued := waitFor(t, func() []byte {
		r, err := get[certificatesv1.CertificateSigningRequest](ctx, c, requestsResource, "", "honest")
		if err != nil || r == nil {
			t.Fatal(r, err)
		}
		return r.Status.Certificate
	})
	refused, err := get[certificatesv1.CertificateSigningRequest](ctx, c, requestsResource, "", "stolen")
	if err != nil || len(refused.Status.Certificate) > 0 || !strings.Contains(refused.Status.Conditions[0].Message, b.Node.Name) {
		t.Errorf("stolen: %+v, %v", refused, err)
	}

	// The same one again after a new invitation: the old refusal is out of the way.
	if err := c.Invite(ctx, a, token, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if r, _ := get[certificatesv1.CertificateSigningRequest](ctx, c, requestsResource, "", "stolen"); r != nil {
		t.Error("the refused request is still there")
	}

	if err := c.Revoke(ctx, token); err != nil {
		t.Fatal(err)
	}
	if err := c.Revoke(ctx, token); err != nil {
		t.Errorf("again: %v", err)
	}
	revoked := func() bool {
		_, err := c.bearer(t, token).Resource(requestsResource).Get(ctx, "honest", metav1.GetOptions{})
		return err != nil && strings.Contains(err.Error(), "Unauthorized")
	}
	waitFor(t, func() []byte {
		if revoked() {
			return []byte("yes")
		}
		return nil
	})

	// As the node it became, it asks for its serving certificate.
	node, err := dynamic.NewForConfig(&rest.Config{Host: c.config.Host, TLSClientConfig: rest.TLSClientConfig{CAData: c.login.ca, CertData: issued, KeyData: key}})
	if err != nil {
		t.Fatal(err)
	}
	serve := &certificatesv1.CertificateSigningRequest{Spec: certificatesv1.CertificateSigningRequestSpec{
		SignerName: certificatesv1.KubeletServingSignerName,
		Usages:     []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageServerAuth}}}
	_, serve.Spec.Request = apiRequest(t, &x509.CertificateRequest{Subject: apiSubject(a.Node.Name), DNSNames: []string{a.Node.Name}, IPAddresses: []net.IP{net.ParseIP("10.0.1.21")}})
	askFor(t, node, "serving", serve)
	_, serve.Spec.Request = apiRequest(t, &x509.CertificateRequest{Subject: apiSubject(a.Node.Name), DNSNames: []string{a.Node.Name}, IPAddresses: []net.IP{net.ParseIP("10.0.1.22")}})
	askFor(t, node, "greedy", serve)
	for range 2 {
		one := <-judged
		if one.OK != (one.Request == "serving") || one.For != ForServing {
			t.Errorf("%+v", one)
		}
	}
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}

	// What waits while nobody follows is judged in one go, by the cluster's own tokens.
	_, client.Spec.Request = apiRequest(t, &x509.CertificateRequest{Subject: apiSubject(b.Node.Name)})
	askFor(t, c.bearer(t, other), "later", client)
	done, err := c.ApprovePending(ctx, nil)
	if err != nil || len(done) != 1 || !done[0].OK || done[0].Node != b.Node.Name {
		t.Errorf("one go: %+v, %v", done, err)
	}
	if err := c.Delete(ctx, b); err != nil {
		t.Fatal(err)
	}
	if tokens, err := c.tokens(ctx); err != nil || len(tokens) != 0 {
		t.Errorf("tokens after: %v, %v", tokens, err)
	}
	if r, _ := get[certificatesv1.CertificateSigningRequest](ctx, c, requestsResource, "", "later"); r != nil {
		t.Error("its request is still there")
	}
}

// waitFor asks until there is an answer, for at most 30 s.
func waitFor(t *testing.T, ask func() []byte) []byte {
	t.Helper()
	until := time.Now().Add(30 * time.Second)
	for {
		if b := ask(); len(b) > 0 {
			return b
		}
		if time.Now().After(until) {
			t.Fatal("it did not come about within 30 s")
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// viewer keeps the newest view and wakes who waits for one.
type viewer struct{ views chan View }

func (v viewer) until(t *testing.T, what string, ok func(View) bool) View {
	t.Helper()
	late := time.After(60 * time.Second)
	var last View
	for {
		select {
		case last = <-v.views:
			if ok(last) {
				return last
			}
		case <-late:
			t.Fatalf("%s did not come about within a minute; last: %+v", what, last)
		}
	}
}

func checkOf(checks []fleet.Check, name string) fleet.Check {
	i := slices.IndexFunc(checks, func(c fleet.Check) bool { return c.Name == name })
	if i < 0 {
		return fleet.Check{Name: name, Missing: "no such check"}
	}
	return checks[i]
}

func (c *Cluster) putStatus(t *testing.T, r schema.GroupVersionResource, namespace, name string, status map[string]any) {
	t.Helper()
	waitFor(t, func() []byte { // controllers may change it meanwhile
		u, err := c.dynamic.Resource(r).Namespace(namespace).Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		u.Object["status"] = status
		if _, err = c.dynamic.Resource(r).Namespace(namespace).UpdateStatus(t.Context(), u, metav1.UpdateOptions{}); err == nil {
			return []byte("done")
		}
		if !apierrors.IsConflict(err) {
			t.Fatal(err)
		}
		return nil
	})
}

func readyNode(address string) map[string]any {
	now := time.Now().UTC().Format(time.RFC3339)
	conditions := []any{}
	for name, status := range map[string]string{"Ready": "True", "MemoryPressure": "False", "DiskPressure": "False", "PIDPressure": "False"} {
		conditions = append(conditions, map[string]any{"type": name, "status": status, "lastTransitionTime": now, "lastHeartbeatTime": now, "reason": "Lab", "message": "as the lab says"})
	}
	return map[string]any{"addresses": []any{map[string]any{"type": "InternalIP", "address": address}}, "conditions": conditions}
}

func TestRealFollow(t *testing.T) {
	c, wire, _ := realAPI(t)
	ctx, stop := context.WithCancel(t.Context())
	a := c.plan.Assignments[2] // a worker
	v := viewer{make(chan View, 1000)}
	ended := make(chan error, 1)
	go func() {
		ended <- c.Follow(ctx, Follower{See: func(one View) { v.views <- one }, KVM: func(fleet.ServerID) fleet.Check { return fleet.Check{OK: true} }})
	}()
	v.until(t, "the first view", func(w View) bool {
		return w.Reachable && checkOf(w.Nodes[a.Server], fleet.CheckRegistered).Missing == "the API has no node "+a.Node.Name
	})
	if err := c.Dress(ctx, a); fleet.CodeOf(err) != fleet.CodeNodeNotAdmitted {
		t.Errorf("dress a node that is not there: %v", err)
	}
	c.put(t, "{apiVersion: v1, kind: Node, metadata: {name: "+a.Node.Name+", labels: {theirs: stays}}}")
	v.until(t, "a node without address", func(w View) bool {
		return strings.Contains(checkOf(w.Nodes[a.Server], fleet.CheckRegistered).Missing, "address yet")
	})
	c.putStatus(t, nodesResource, "", a.Node.Name, readyNode("10.0.1.24"))
	v.until(t, "a ready kubelet", func(w View) bool {
		n := w.Nodes[a.Server]
		return checkOf(n, fleet.CheckRegistered).OK && checkOf(n, fleet.CheckKubelet).OK && checkOf(n, fleet.CheckKVM).OK && !checkOf(n, fleet.CheckDressed).OK
	})

	wire.cut()
	v.until(t, "an unreachable API", func(w View) bool {
		return !w.Reachable && !checkOf(w.Cluster, ClusterAPI).OK && w.Nodes[a.Server] != nil
	})
	if err := c.Reachable(ctx); fleet.CodeOf(err) != fleet.CodeAPIUnreachable || fleet.KindOf(err) != fleet.Transient {
		t.Errorf("reachable: %v", err)
	}
	wire.mend()
	v.until(t, "the API's return", func(w View) bool { return w.Reachable })

	for range 2 {
		if err := c.Dress(ctx, a); err != nil {
			t.Fatal(err)
		}
	}
	v.until(t, "a dressed node", func(w View) bool { return checkOf(w.Nodes[a.Server], fleet.CheckDressed).OK })
	plain := a
	plain.Node = &fleet.NodePlan{Name: a.Node.Name}
	if err := c.Dress(ctx, plain); err != nil {
		t.Fatal(err)
	}
	n, err := get[corev1.Node](ctx, c, nodesResource, "", a.Node.Name)
	if err != nil || n.Labels["zone"] != "" || n.Labels["theirs"] != "stays" || slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == "vms" }) {
		t.Errorf("undressed: %+v %v, %v", n.Labels, n.Spec.Taints, err)
	}
	if _, ok := n.Annotations[taintsAnnotation]; ok {
		t.Error("the list of our taints is still there")
	}

	// The address moves: open connections lead nowhere, new ones work.
	wire.swallow()
	if err := c.Dress(ctx, a); err != nil && fleet.CodeOf(err) != fleet.CodeAPIUnreachable {
		t.Errorf("dress over a dead connection: %v", err)
	}
	v.until(t, "the loss", func(w View) bool { return !w.Reachable })
	v.until(t, "the return", func(w View) bool { return w.Reachable })
	if err := c.Cordon(ctx, a.Node.Name); err != nil {
		t.Fatal(err)
	}
	v.until(t, "a cordoned node", func(w View) bool { return !checkOf(w.Nodes[a.Server], fleet.CheckSchedulable).OK })
	if err := c.Uncordon(ctx, a.Node.Name); err != nil {
		t.Fatal(err)
	}
	v.until(t, "an open node", func(w View) bool { return checkOf(w.Nodes[a.Server], fleet.CheckSchedulable).OK })
	if err := c.Delete(ctx, a); err != nil {
		t.Fatal(err)
	}
	if err := c.Delete(ctx, a); err != nil {
		t.Fatalf("again: %v", err)
	}
	v.until(t, "the end of the node", func(w View) bool { return !checkOf(w.Nodes[a.Server], fleet.CheckRegistered).OK })
	stop()
	<-ended
}

func TestRealDrain(t *testing.T) {
	c, _, _ := realAPI(t)
	ctx := t.Context()
	const node = "drained"
	c.put(t, "{apiVersion: v1, kind: Node, metadata: {name: drained}}")
	pod := func(name, extra string) {
		c.put(t, "{apiVersion: v1, kind: Pod, metadata: {name: "+name+", namespace: default, "+extra+"}, spec: {nodeName: drained, terminationGracePeriodSeconds: 0, containers: [{name: c, image: i}]}}")
		c.putStatus(t, podsResource, "default", name, map[string]any{"phase": "Running", "conditions": []any{map[string]any{"type": "Ready", "status": "True"}}})
	}
	// As KubeVirt's pods are owned; no controller here takes them for its own.
	const owned = "ownerReferences: [{apiVersion: kubevirt.io/v1, kind: VirtualMachineInstance, name: db, uid: 11111111-1111-1111-1111-111111111111, controller: true}]"
	c.put(t, "{apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {name: keep, namespace: default}, spec: {minAvailable: 1, selector: {matchLabels: {app: kept}}}}")
	c.putStatus(t, nodesResource, "", node, readyNode("10.0.1.99"))
	pod("moves", owned)
	pod("kept", "labels: {app: kept}, "+owned)
	waitFor(t, func() []byte { // the controller has counted
		u, err := c.dynamic.Resource(schema.GroupVersionResource{Group: "policy", Version: "v1", Resource: "poddisruptionbudgets"}).Namespace("default").Get(ctx, "keep", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if n, _, _ := unstructured.NestedInt64(u.Object, "status", "expectedPods"); n != 1 {
			return nil
		}
		return []byte("counted")
	})
	var said []string
	err := c.Drain(ctx, node, Draining{Timeout: 8 * time.Second}, func(s string) { said = append(said, s) })
	if fleet.CodeOf(err) != fleet.CodeDrainBlocked || !strings.Contains(err.Error(), "default/kept (VM db)") || !strings.Contains(err.Error(), "budget keep") || strings.Contains(err.Error(), "moves") {
		t.Errorf("blocked by a budget: %v", err)
	}
	if len(said) == 0 {
		t.Error("nothing was said")
	}
	pod("bare", "labels: {app: bare}")
	err = c.Drain(ctx, node, Draining{Timeout: 3 * time.Second, Unmoved: KeepUnmoved}, nil)
	if fleet.CodeOf(err) != fleet.CodeDrainBlocked || !strings.Contains(err.Error(), "default/bare: nothing would start it") {
		t.Errorf("blocked by a bare pod: %v", err)
	}
	if err := c.Drain(ctx, node, Draining{Timeout: 6 * time.Second, Unmoved: EndUnmoved}, nil); err != nil {
		t.Errorf("by force: %v", err)
	}
	if err := c.Drain(ctx, "nobody", Draining{}, nil); err != nil {
		t.Errorf("a node that is not there: %v", err)
	}
	n, err := get[corev1.Node](ctx, c, nodesResource, "", node)
	if err != nil || !n.Spec.Unschedulable {
		t.Errorf("not cordoned: %v", err)
	}
}

// apiSubject is a kubelet's.
func apiSubject(node string) pkix.Name {
	return pkix.Name{CommonName: "system:node:" + node, Organization: []string{"system:nodes"}}
}

// apiRequest makes a key and a request, both PEM.
func apiRequest(t testing.TB, template *x509.CertificateRequest) (key, request []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, k)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

// apiPlan has two control planes and a worker.
func apiPlan() fleet.Plan {
	node := func(id fleet.ServerID, role fleet.Role, name, address, uuid string) fleet.Assignment {
		return fleet.Assignment{Server: id, Role: role, Hostname: name, Identity: fleet.Identity{UUID: uuid, Serial: string(id)},
			Network: fleet.Network{Address: address}, Node: &fleet.NodePlan{Name: name}}
	}
	worker := node("SER3", fleet.Worker, "oslo-w1", "10.0.1.24/24", "")
	worker.Node.Labels = map[string]string{"zone": "north", "node-role.kubernetes.io/worker": ""}
	worker.Node.Taints = []fleet.Taint{{Key: "vms", Value: "only", Effect: "NoSchedule"}}
	return fleet.Plan{Cluster: &fleet.ClusterPlan{CNI: fleet.Flannel}, Assignments: []fleet.Assignment{
		node("SER1", fleet.ControlPlane, "oslo-cp1", "10.0.1.21/24", "11223344-5566-7788-99aa-bbccddeeff00"),
		node("SER2", fleet.ControlPlane, "oslo-cp2", "10.0.1.22/24", ""),
		worker,
	}}
}
