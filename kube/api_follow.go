package kube

import (
	"context"
	"maps"
	"reflect"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"metalrise.dev/fleet"
)

// Follower is told what is seen. Functions that are nil are left out. See and
// Judged are called from different goroutines, each one call after the other.
type Follower struct {
	See    func(View)                       // first as soon as something is known, then on each change, at most 4 a second
	Judged func(Admission)                  // each certificate request that was approved or denied
	Guest  Guest                            // whose token; nil: the tokens in the cluster tell
	KVM    func(fleet.ServerID) fleet.Check // what is known of KVM; asked whenever something is looked at
}

// View is how the cluster stands.
type View struct {
	At        time.Time
	Reachable bool
	Missing   string        // why it is not reachable
	Cluster   []fleet.Check // ClusterAPI, ClusterBase, ClusterEtcd, ClusterDNS
	// Nodes holds the checks of every planned node, as last seen where the API
	// does not answer. It is nil until the API has told everything once.
	Nodes map[fleet.ServerID][]fleet.Check
}

const (
	viewPace  = 250 * time.Millisecond
	pulseFast = time.Second     // between two looks at an API that does not answer
	pulseSlow = 5 * time.Second // and at one that does; a lost peer tells nothing by itself
	askPace   = 20 * time.Second
	askSoon   = 2 * time.Second
)

// following is one call of Follow.
type following struct {
	c *Cluster
	f Follower

	nodes    shelf[corev1.Node]
	requests shelf[certificatesv1.CertificateSigningRequest]
	pods     []*shelf[corev1.Pod]
	warnings []*shelf[corev1.Event]
	dns      shelf[appsv1.Deployment]
	base     shelf[corev1.ConfigMap]

	changed signal // something to show
	asked   signal // certificate requests to judge
	look    signal // etcd or kubelets to ask
	pulse   signal // a connection was lost

	mu      sync.Mutex
	missing string // why the API does not answer; "" when it does
	known   bool   // missing was found out
	members fleet.Maybe[[]Member]
	// noMembers is why etcd did not tell its members when it was asked last.
	noMembers error
	proven    map[string]time.Time
	unproven  map[string]string
}

// signal wakes one waiting goroutine; several signals are one.
type signal chan struct{}

func newSignal() signal { return make(chan struct{}, 1) }

func (s signal) set() {
	select {
	case s <- struct{}{}:
	default:
	}
}

// Follow watches nodes, the system's pods and certificate requests, judges the
// requests, and tells the follower how everything stands, until ctx ends. It
// survives any loss of the API: it says so, and goes on when the API is back.
func (c *Cluster) Follow(ctx context.Context, f Follower) error {
	w := c.newFollowing(f)
	return w.run(ctx, w.judgeAll)
}

// Watch is Follow without a say: no request is judged.
func (c *Cluster) Watch(ctx context.Context, see func(View)) error {
	return c.newFollowing(Follower{See: see}).run(ctx)
}

func (c *Cluster) newFollowing(f Follower) *following {
	w := &following{c: c, f: f, changed: newSignal(), asked: newSignal(), look: newSignal(), pulse: newSignal(), proven: map[string]time.Time{}}
	w.nodes.selection = selection{resource: nodesResource}
	w.requests.selection = selection{resource: requestsResource}
	w.dns.selection = selection{deploymentsResource, metav1.NamespaceSystem, "metadata.name=coredns"}
	w.base.selection = selection{configsResource, metav1.NamespaceSystem, "metadata.name=" + baseMark}
	for _, namespace := range []string{metav1.NamespaceSystem, flannelNamespace} {
		w.pods = append(w.pods, &shelf[corev1.Pod]{selection: selection{podsResource, namespace, ""}})
		w.warnings = append(w.warnings, &shelf[corev1.Event]{selection: selection{eventsResource, namespace, "type=" + corev1.EventTypeWarning}})
	}
	return w
}

// run watches until ctx ends; with more that is to be done meanwhile.
func (w *following) run(ctx context.Context, more ...func(context.Context)) error {
	c := w.c
	var all sync.WaitGroup
	for _, work := range more {
		all.Go(func() { work(ctx) })
	}
	lost := func(error) { w.pulse.set() }
	all.Go(func() { w.nodes.follow(ctx, c, func() { w.changed.set(); w.look.set() }, lost) })
	all.Go(func() { w.requests.follow(ctx, c, func() { w.changed.set(); w.asked.set() }, lost) })
	all.Go(func() { w.dns.follow(ctx, c, w.changed.set, lost) })
	all.Go(func() { w.base.follow(ctx, c, w.changed.set, lost) })
	for _, s := range w.pods {
		all.Go(func() { s.follow(ctx, c, func() { w.changed.set(); w.look.set() }, lost) })
	}
	for _, s := range w.warnings {
		all.Go(func() { s.follow(ctx, c, w.changed.set, lost) })
	}
	all.Go(func() { w.feelPulse(ctx) })
	all.Go(func() { w.lookAround(ctx) })
	all.Go(func() { w.show(ctx) })
	all.Wait()
	return ctx.Err()
}

// feelPulse asks whether the API answers. A virtual address that moved leaves
// connections to nowhere that no watch ever notices: they are closed then.
func (w *following) feelPulse(ctx context.Context) {
	for {
		within, cancel := context.WithTimeout(ctx, pulseSlow)
		err := w.c.ready(within)
		cancel()
		if ctx.Err() != nil {
			return
		}
		pace, missing := pulseSlow, ""
		if err != nil {
			pace, missing = pulseFast, words(err.Error())
			if within.Err() != nil && !refused(err) {
				w.c.dialer.CloseAll()
			}
		}
		w.mu.Lock()
		news := !w.known || (w.missing == "") != (missing == "")
		w.missing, w.known = missing, true
		w.mu.Unlock()
		if news {
			w.changed.set()
		}
		select {
		case <-ctx.Done():
			return
		case <-w.pulse:
			// Not at once again and again while everything is down.
			pause(ctx, minBackoff)
		case <-time.After(pace):
		}
		w.changed.set() // what comes from outside of the cluster (KVM) is looked at too
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// judgeAll settles every pending request, and comes back to those that the API
// did not let it settle.
func (w *following) judgeAll(ctx context.Context) {
	settled := map[types.UID]string{} // resource version at which it was
	for {
		again := time.Duration(0)
		requests, _ := w.requests.all()
		guest, err := w.guestFor(ctx, requests)
		if err != nil {
			again = time.Second
			requests = nil
		}
		for _, r := range requests {
			if settled[r.UID] == r.ResourceVersion {
				continue
			}
			v := judge(w.c.plan, guest, r)
			if v.act == leave {
				continue // a token of its own may become known later
			}
			done, err := w.c.settle(ctx, r, v)
			if err != nil {
				again = time.Second
				continue
			}
			settled[r.UID] = r.ResourceVersion
			if done != nil && w.f.Judged != nil {
				w.f.Judged(*done)
			}
		}
		if requests != nil && len(settled) > 0 {
			there := map[types.UID]bool{}
			for _, r := range requests {
				there[r.UID] = true
			}
			maps.DeleteFunc(settled, func(id types.UID, _ string) bool { return !there[id] })
		}
		var retry <-chan time.Time
		if again > 0 {
			retry = time.After(again)
		}
		select {
		case <-ctx.Done():
			return
		case <-w.asked:
		case <-retry:
		}
	}
}

// guestFor asks the API for tokens only when something waits.
func (w *following) guestFor(ctx context.Context, requests []*certificatesv1.CertificateSigningRequest) (Guest, error) {
	for _, r := range requests {
		if len(r.Status.Conditions) == 0 && r.Spec.SignerName == certificatesv1.KubeAPIServerClientKubeletSignerName {
			return w.c.guests(ctx, w.f.Guest)
		}
	}
	return func(string) (fleet.Assignment, bool) { return fleet.Assignment{}, false }, nil
}

// show hands views on.
func (w *following) show(ctx context.Context) {
	since := map[string]fleet.Check{}
	var last View
	first := true
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.changed:
		}
		v, ok := w.view(last)
		if ok {
			v.remember(since)
			same := !first && equalViews(v, last)
			if !same && w.f.See != nil {
				w.f.See(v)
			}
			first, last = false, v
		}
		pause(ctx, viewPace)
	}
}

func equalViews(a, b View) bool {
	a.At = b.At
	return reflect.DeepEqual(a, b)
}

// view looks at everything. ok is false while nothing is known.
func (w *following) view(last View) (v View, ok bool) {
	s, complete := w.sight()
	w.mu.Lock()
	missing, known := w.missing, w.known
	w.mu.Unlock()
	if !known || missing == "" && !complete {
		return View{}, false
	}
	v = View{At: time.Now().UTC(), Reachable: missing == "", Missing: missing, Cluster: clusterChecks(w.c.plan, s, missing)}
	if !complete {
		v.Cluster, v.Nodes = v.Cluster[:1], last.Nodes
		return v, true
	}
	v.Nodes = map[fleet.ServerID][]fleet.Check{}
	var cni fleet.CNI
	if w.c.plan.Cluster != nil {
		cni = w.c.plan.Cluster.CNI
	}
	for _, a := range w.c.plan.Assignments {
		if isNode(a) {
			v.Nodes[a.Server] = nodeChecks(a, cni, s)
		}
	}
	return v, true
}

// remember fills in since when a check is as it is, where the objects did not
// tell: since it was first seen so.
func (v *View) remember(since map[string]fleet.Check) {
	fill := func(of string, checks []fleet.Check) {
		for i := range checks {
			c := &checks[i]
			before, seen := since[of+"/"+c.Name]
			if c.Since.IsZero() {
				c.Since = v.At
				if seen && before.OK == c.OK {
					c.Since = before.Since
				}
			}
			since[of+"/"+c.Name] = *c
		}
	}
	fill("", v.Cluster)
	for id, checks := range v.Nodes {
		fill(string(id), checks)
	}
}

// sight collects the shelves. complete is false until each was listed once.
func (w *following) sight() (s *sight, complete bool) {
	s = &sight{nodes: map[string]*corev1.Node{}, warnings: map[types.UID]*corev1.Event{}, kvm: w.f.KVM}
	complete = true
	nodes, listed := w.nodes.all()
	complete = complete && listed
	for _, n := range nodes {
		s.nodes[n.Name] = n
	}
	s.requests, listed = w.requests.all()
	complete = complete && listed
	for _, one := range w.pods {
		pods, listed := one.all()
		complete = complete && listed
		s.pods = append(s.pods, pods...)
	}
	for _, one := range w.warnings { // nice to have: not waited for
		events, _ := one.all()
		for _, e := range events {
			if have := s.warnings[e.InvolvedObject.UID]; have == nil || eventTime(have).Before(eventTime(e)) {
				s.warnings[e.InvolvedObject.UID] = e
			}
		}
	}
	if deployments, listed := w.dns.all(); !listed {
		complete = false
	} else if len(deployments) > 0 {
		s.dns = deployments[0]
	}
	if marks, listed := w.base.all(); !listed {
		complete = false
	} else if len(marks) > 0 {
		s.base = marks[0]
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	s.members, s.noMembers, s.proven, s.unproven = w.members, w.noMembers, maps.Clone(w.proven), maps.Clone(w.unproven)
	s.sorted = s.lookup()
	return s, complete
}

func eventTime(e *corev1.Event) time.Time {
	for _, t := range []time.Time{e.LastTimestamp.Time, e.EventTime.Time} {
		if !t.IsZero() {
			return t
		}
	}
	return e.CreationTimestamp.Time
}
