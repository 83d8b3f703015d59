package kube

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"metalrise.dev/fleet"
)

// watched starts to follow, and waits for the first whole view.
func watched(t *testing.T, c *Cluster, f Follower) viewer {
	t.Helper()
	v := viewer{make(chan View, 1000)}
	f.See = func(one View) { v.views <- one }
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Follow(ctx, f) }()
	t.Cleanup(func() { stop(); <-ended })
	v.until(t, "the first view", func(w View) bool { return w.Reachable && w.Nodes != nil })
	return v
}

func (f *fakeAPI) node(name, address string) {
	o := map[string]any{"apiVersion": "v1", "kind": "Node", "metadata": map[string]any{}, "status": readyNode(address)}
	f.put("/api/v1/nodes/"+name, o)
}

func TestFollow(t *testing.T) {
	f, c := newFakeAPI(t)
	var removed []string
	f.command = etcdFake(&removed, "oslo-cp1", "oslo-cp2?")
	var kvm atomic.Bool
	v := watched(t, c, Follower{KVM: func(fleet.ServerID) fleet.Check { return fleet.Check{OK: kvm.Load()} }})
	f.node("oslo-cp1", "10.0.1.21")
	w := v.until(t, "the node", func(w View) bool { return checkOf(w.Nodes["SER1"], fleet.CheckKubelet).OK })
	if checkOf(w.Nodes["SER1"], fleet.CheckKVM).OK || checkOf(w.Nodes["SER2"], fleet.CheckKubelet).OK {
		t.Errorf("%+v", w)
	}
	f.etcdPods("oslo-cp1", "oslo-cp2")
	v.until(t, "etcd's members", func(w View) bool { return checkOf(w.Nodes["SER1"], fleet.CheckEtcd).OK })
	v.until(t, "the one that learns", func(w View) bool {
		return checkOf(w.Cluster, ClusterEtcd).Missing == "not voting and healthy: oslo-cp2"
	})
	kvm.Store(true)
	v.until(t, "KVM, of which no watch tells", func(w View) bool { return checkOf(w.Nodes["SER1"], fleet.CheckKVM).OK })

	// Watches end in every way there is; what changes meanwhile is seen.
	for _, end := range []struct {
		kind   string
		object map[string]any
	}{
		{"CLOSE", nil},
		{"ERROR", map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": 410, "message": "too old"}},
		{"ERROR", map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "InternalError", "code": 500, "message": "etcd"}},
		{"BOOKMARK", map[string]any{"kind": "Node", "apiVersion": "v1", "metadata": map[string]any{"resourceVersion": "1"}}},
	} {
		if n := f.everyWatch(end.kind, end.object); n == 0 {
			t.Fatal("nobody watches")
		}
		f.node("oslo-w1", "10.0.1.99")
		v.until(t, "the worker after "+end.kind, func(w View) bool {
			return strings.Contains(checkOf(w.Nodes["SER3"], fleet.CheckRegistered).Missing, "10.0.1.99")
		})
		f.node("oslo-w1", "10.0.1.24")
		v.until(t, "its address after "+end.kind, func(w View) bool { return checkOf(w.Nodes["SER3"], fleet.CheckRegistered).OK })
	}

	f.mu.Lock()
	f.broken = func(*http.Request) (int, string) { return 503, "starting" }
	f.mu.Unlock()
	f.CloseClientConnections()
	w = v.until(t, "the loss", func(w View) bool { return !w.Reachable })
	if !checkOf(w.Nodes["SER1"], fleet.CheckKubelet).OK || checkOf(w.Cluster, ClusterAPI).OK || w.Missing == "" {
		t.Errorf("what was last seen: %+v", w)
	}
	f.mu.Lock()
	f.broken = nil
	f.mu.Unlock()
	f.node("oslo-cp2", "10.0.1.22")
	v.until(t, "the return", func(w View) bool { return w.Reachable && checkOf(w.Nodes["SER2"], fleet.CheckRegistered).OK })
}

// What does not change is told once.
func TestFollowTellsChangesOnly(t *testing.T) {
	f, c := newFakeAPI(t)
	v := watched(t, c, Follower{})
	for range 50 { // a kubelet's heartbeat changes the object and none of its checks
		f.put("/api/v1/nodes/somebody", map[string]any{"apiVersion": "v1", "kind": "Node", "metadata": map[string]any{}})
	}
	f.node("oslo-cp1", "10.0.1.21")
	v.until(t, "the node", func(w View) bool { return checkOf(w.Nodes["SER1"], fleet.CheckKubelet).OK })
	time.Sleep(2 * viewPace)
	if n := len(v.views); n > 2 {
		t.Errorf("%d more views without news", n)
	}
}

func TestFollowJudges(t *testing.T) {
	f, c := newFakeAPI(t)
	judged := make(chan Admission, 10)
	var conflicts atomic.Int32
	f.broken = func(r *http.Request) (int, string) {
		if strings.HasSuffix(r.URL.Path, "/approval") && conflicts.Add(1) == 1 {
			return 503, "just a moment"
		}
		return 0, ""
	}
	watched(t, c, Follower{Guest: apiGuest, Judged: func(a Admission) { judged <- a }})
	for name, a := range map[string]ask{"honest": honestClient(), "serving": honestServer()} {
		f.putRequest(t, name, a)
		one := <-judged
		if one.Request != name || !one.OK {
			t.Errorf("%+v", one)
		}
	}
	bad := honestClient()
	bad.user = "system:bootstrap:bbbbbb"
	f.putRequest(t, "bad", bad)
	if one := <-judged; one.OK || one.Server != "SER2" || one.Cause == nil || one.Cause.Code != fleet.CodeCSRRefused {
		t.Errorf("%+v", one)
	}
	foreign := honestClient()
	foreign.user, foreign.template.Subject.CommonName = "system:bootstrap:zzzzzz", "system:node:extra"
	f.putRequest(t, "foreign", foreign)
	f.putRequest(t, "serving2", honestServer())
	if one := <-judged; one.Request != "serving2" {
		t.Errorf("%+v", one)
	}
	if o := f.get("/apis/certificates.k8s.io/v1/certificatesigningrequests/foreign"); o["status"].(map[string]any)["conditions"] != nil {
		t.Errorf("judged: %v", o["status"])
	}
}

func (f *fakeAPI) putRequest(t *testing.T, name string, a ask) {
	t.Helper()
	r := a.request(t)
	usages := []any{}
	for _, u := range r.Spec.Usages {
		usages = append(usages, string(u))
	}
	groups := []any{}
	for _, g := range r.Spec.Groups {
		groups = append(groups, g)
	}
	f.put("/apis/certificates.k8s.io/v1/certificatesigningrequests/"+name, map[string]any{
		"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": map[string]any{}, "status": map[string]any{},
		"spec": map[string]any{"request": b64(r.Spec.Request), "signerName": r.Spec.SignerName, "username": r.Spec.Username, "groups": groups, "usages": usages}})
}

func TestDrainEverydayWays(t *testing.T) {
	f, c := newFakeAPI(t)
	pod := func(name string, meta, status map[string]any) {
		o := map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": merged(map[string]any{"namespace": "default"}, meta), "spec": map[string]any{"nodeName": "n"}, "status": status}
		f.put("/api/v1/pods/"+name, o) // where the watch over all namespaces sees it
	}
	owner := func(kind string) map[string]any {
		return map[string]any{"ownerReferences": []any{map[string]any{"apiVersion": "x/v1", "kind": kind, "name": "o", "uid": "u", "controller": true}}}
	}
	f.node("n", "10.0.1.30")
	pod("daemon", owner("DaemonSet"), nil)
	pod("static", map[string]any{"annotations": map[string]any{"kubernetes.io/config.mirror": "x"}}, nil)
	pod("done", nil, map[string]any{"phase": "Succeeded"})
	pod("moves", owner("ReplicaSet"), nil)
	var asked atomic.Int32
	drained := make(chan struct{})
	f.broken = func(r *http.Request) (int, string) {
		if strings.HasSuffix(r.URL.Path, "/eviction") {
			asked.Add(1)
			moves := f.get("/api/v1/pods/moves")
			go func() { // the watch may open only after this answer, and the fake forgets what went before
				for {
					f.everyWatch("DELETED", moves)
					select {
					case <-drained:
						return
					case <-time.After(20 * time.Millisecond):
					}
				}
			}()
			return 404, "gone"
		}
		return 0, ""
	}
	var said []string
	if err := c.Drain(t.Context(), "n", Draining{Timeout: time.Minute}, func(s string) { said = append(said, s) }); err != nil {
		t.Fatal(err)
	}
	close(drained)
	if asked.Load() != 1 || len(said) == 0 || f.get("/api/v1/nodes/n")["spec"].(map[string]any)["unschedulable"] != true {
		t.Errorf("asked %d times, said %q", asked.Load(), said)
	}

	// Nobody is there to end the pods of a silent node: an accepted eviction is enough.
	f.broken = nil // the fake accepts, and the pod stays
	f.put("/api/v1/nodes/n", map[string]any{"apiVersion": "v1", "kind": "Node", "metadata": map[string]any{}})
	pod("moves", owner("ReplicaSet"), nil)
	if err := c.Drain(t.Context(), "n", Draining{Timeout: time.Minute}, nil); err != nil {
		t.Errorf("a silent node: %v", err)
	}
	stopped, stop := context.WithCancel(t.Context())
	stop()
	if err := c.Drain(stopped, "n", Draining{}, nil); fleet.CodeOf(err) != fleet.CodeInterrupted {
		t.Errorf("interrupted: %v", err)
	}
}
