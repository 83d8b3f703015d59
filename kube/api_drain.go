package kube

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"metalrise.dev/fleet"
)

// Unmoved says what becomes of pods that cannot move or do not want to.
type Unmoved int

const (
	// KeepUnmoved leaves them and ends with CodeDrainBlocked: pods that nothing
	// would start again elsewhere, and those whose eviction is forbidden to the end.
	KeepUnmoved Unmoved = iota
	// EndUnmoved ends the first at once, and the others when the time is over.
	EndUnmoved
)

// Draining says how a node is drained.
type Draining struct {
	Timeout time.Duration // until pods must have left; 0: DrainTimeout
	Unmoved Unmoved
}

// DrainTimeout is enough for VMs that migrate with much memory.
const DrainTimeout = 30 * time.Minute

const (
	evictAgain = 5 * time.Second  // a forbidden eviction is asked again; budgets have no event for us
	endWithin  = time.Minute      // for pods that are ended instead of evicted; the usual grace is 30 s
	reportPace = 30 * time.Second // progress is repeated
)

// Drain cordons a node and moves its pods away by eviction, which respects
// disruption budgets and by which KubeVirt migrates VMs whose strategy says so.
// Pods of DaemonSets and static pods stay. Local data of pods (emptyDir) is
// lost, as always when a pod ends.
//
// progress is told in words what is waited for; it may be nil. A node that is
// gone is drained. On one whose kubelet is silent, an accepted eviction is
// enough: nobody is there to end the pod.
func (c *Cluster) Drain(ctx context.Context, node string, o Draining, progress func(string)) error {
	if o.Timeout <= 0 {
		o.Timeout = DrainTimeout
	}
	if progress == nil {
		progress = func(string) {}
	}
	if err := c.Cordon(ctx, node); err != nil {
		return fmt.Errorf("drain %s: %w", node, err)
	}
	n, err := get[corev1.Node](ctx, c, nodesResource, "", node)
	if err != nil {
		return fmt.Errorf("drain %s: %w", node, err)
	}
	if n == nil {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	d := &drain{c: c, o: o, node: node, silent: !kubelet(n).OK, progress: progress,
		asked: map[types.UID]time.Time{}, accepted: map[types.UID]bool{}, why: map[types.UID]string{}}
	d.pods.selection = selection{podsResource, "", "spec.nodeName=" + node}
	changed := newSignal()
	var watching sync.WaitGroup
	watching.Go(func() { d.pods.follow(ctx, c, changed.set, func(err error) { d.lost(err); changed.set() }) })
	defer watching.Wait()
	defer cancel()
	return d.run(ctx, changed)
}

// drain is one call of Drain.
type drain struct {
	c        *Cluster
	o        Draining
	node     string
	silent   bool
	progress func(string)
	pods     shelf[corev1.Pod]

	asked    map[types.UID]time.Time // last eviction
	accepted map[types.UID]bool
	why      map[types.UID]string // why a pod is not gone
	said     string
	saidAt   time.Time

	mu      sync.Mutex
	trouble error // of the watch
}

func (d *drain) lost(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.trouble = err
}

func (d *drain) run(ctx context.Context, changed signal) error {
	deadline := time.NewTimer(d.o.Timeout)
	defer deadline.Stop()
	ending := false
	for {
		left, listed := d.left()
		if listed && len(left) == 0 {
			d.progress("every pod that moves has left " + d.node)
			return nil
		}
		for _, pod := range left {
			d.step(ctx, pod, ending)
		}
		if listed && d.hopeless(left) {
			return d.blocked(left)
		}
		d.say(left)
		select {
		case <-ctx.Done():
			return d.c.fault(ctx.Err(), "drain "+d.node)
		case <-changed:
		case <-time.After(evictAgain):
		case <-deadline.C:
			left, _ := d.left()
			if d.o.Unmoved == KeepUnmoved || ending {
				return d.blocked(left)
			}
			ending = true
			clear(d.accepted)
			d.progress(fmt.Sprintf("the time is over: %d pods are ended without their consent", len(left)))
			deadline.Reset(endWithin)
		}
	}
}

// left lists the pods that are still to go.
func (d *drain) left() ([]*corev1.Pod, bool) {
	pods, listed := d.pods.all()
	pods = slices.DeleteFunc(pods, func(p *corev1.Pod) bool {
		return stays(p) || d.silent && (d.accepted[p.UID] || p.DeletionTimestamp != nil)
	})
	slices.SortFunc(pods, func(a, b *corev1.Pod) int { return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name) })
	return pods, listed
}

// stays tells whether a pod belongs to its node (static, or of a DaemonSet) or
// has ended already.
func stays(p *corev1.Pod) bool {
	if _, static := p.Annotations[corev1.MirrorPodAnnotationKey]; static {
		return true
	}
	if by := metav1.GetControllerOf(p); by != nil && by.Kind == "DaemonSet" {
		return true
	}
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

// unowned tells whether nothing would start the pod again elsewhere.
func unowned(p *corev1.Pod) bool { return metav1.GetControllerOf(p) == nil }

// step asks a pod to go, unless it was asked a moment ago or is going.
func (d *drain) step(ctx context.Context, p *corev1.Pod, ending bool) {
	switch {
	case p.DeletionTimestamp != nil:
		d.why[p.UID] = "it is being ended"
		return
	case d.accepted[p.UID], time.Since(d.asked[p.UID]) < evictAgain:
		return
	case unowned(p) && d.o.Unmoved == KeepUnmoved:
		d.why[p.UID] = "nothing would start it again elsewhere"
		return
	}
	d.asked[p.UID] = time.Now()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	pods := d.c.dynamic.Resource(podsResource).Namespace(p.Namespace)
	var err error
	if ending {
		err = pods.Delete(ctx, p.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &p.UID}})
	} else {
		_, err = pods.Create(ctx, eviction(p), metav1.CreateOptions{}, "eviction")
	}
	var terminating bool
	if err != nil {
		terminating = apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause)
	}
	switch {
	case err == nil, isGone(err), terminating: // a namespace that ends takes its pods with it
		d.accepted[p.UID] = true
		d.why[p.UID] = "its eviction was accepted, it has not ended yet"
	case apierrors.IsTooManyRequests(err):
		d.why[p.UID] = "a disruption budget or a migration holds it: " + refusal(err)
	default:
		d.why[p.UID] = refusal(err)
	}
}

func eviction(p *corev1.Pod) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "policy/v1", "kind": "Eviction",
		"metadata":      map[string]any{"name": p.Name, "namespace": p.Namespace},
		"deleteOptions": map[string]any{"preconditions": map[string]any{"uid": string(p.UID)}}, // not a later pod of the same name
	}}
}

// refusal gives the API's words, with the causes that name the budget.
func refusal(err error) string {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return words(err.Error())
	}
	s := status.Status()
	text := s.Message
	if s.Details != nil {
		for _, cause := range s.Details.Causes {
			text += " " + cause.Message
		}
	}
	if s.Code >= http.StatusInternalServerError {
		text = fmt.Sprintf("status %d: %s", s.Code, text)
	}
	return words(text)
}

// hopeless: only pods are left that are never asked to go.
func (d *drain) hopeless(left []*corev1.Pod) bool {
	return d.o.Unmoved == KeepUnmoved && !slices.ContainsFunc(left, func(p *corev1.Pod) bool {
		return !unowned(p) || p.DeletionTimestamp != nil
	})
}

const maxNamed = 8

// named lists pods with their reasons.
func (d *drain) named(left []*corev1.Pod) string {
	var parts []string
	for i, p := range left {
		if i == maxNamed {
			parts = append(parts, fmt.Sprintf("and %d more", len(left)-maxNamed))
			break
		}
		text := p.Namespace + "/" + p.Name
		if by := metav1.GetControllerOf(p); by != nil && by.Kind == "VirtualMachineInstance" {
			text += " (VM " + by.Name + ")"
		}
		if why := d.why[p.UID]; why != "" {
			text += ": " + why
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, "; ")
}

func (d *drain) blocked(left []*corev1.Pod) error {
	d.mu.Lock()
	trouble := d.trouble
	d.mu.Unlock()
	if _, listed := d.pods.all(); !listed && trouble != nil {
		return fmt.Errorf("drain %s: %w", d.node, trouble)
	}
	return fleet.NewFault(fleet.CodeDrainBlocked, fleet.Conflict, nil, "%d pods do not leave %s: %s", len(left), d.node, d.named(left))
}

// say reports what is waited for, when it changed or after a while.
func (d *drain) say(left []*corev1.Pod) {
	text := fmt.Sprintf("%d pods still to leave: %s", len(left), d.named(left))
	if len(left) == 0 {
		text = "waiting for the list of pods"
	}
	if text == d.said && time.Since(d.saidAt) < reportPace {
		return
	}
	d.said, d.saidAt = text, time.Now()
	d.progress(text)
}
