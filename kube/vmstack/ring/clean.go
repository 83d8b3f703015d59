package ring

import (
	"context"
	"errors"
	"fmt"
	"time"

	"metalrise.dev/fleet"
	"metalrise.dev/kube"
)

// Annotations of a node that a proof took away from others. They are written
// before the act, so that a later run knows what to give back.
const (
	drainedMark = "metalrise.dev/proof-drained" // it was cordoned by us
	fencedMark  = "metalrise.dev/proof-fenced"  // it was switched off by us
)

// rest is what of the proofs' namespace stays.
type rest int

const (
	leaveNothing rest = iota // the namespace is gone at the end
	dropSpace                // it is being removed at the end
)

// Clean removes all that proofs made, also those of a process that was killed:
// VMs and their disks, marks on nodes; a node that a proof switched off is
// switched on again through fencer, which may be nil when none was. What is gone
// is fine. It may be called at any time when no proof runs.
func (r *Ring) Clean(ctx context.Context, fencer Fencer) error {
	return r.clean(ctx, fencer, func(string) {})
}

func (r *Ring) clean(ctx context.Context, fencer Fencer, say func(string)) error {
	return errors.Join(
		r.giveBack(ctx, fencedMark, func(ctx context.Context, node string) error { return r.revive(ctx, fencer, node, say) }),
		r.giveBack(ctx, drainedMark, r.undrain),
		r.sweep(ctx, leaveNothing),
	)
}

// giveBack undoes what proofs did to the nodes that have a mark.
func (r *Ring) giveBack(ctx context.Context, mark string, undo func(ctx context.Context, node string) error) error {
	nodes, err := r.cluster.NodeStates(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, n := range nodes {
		if n.Annotations[mark] != "" {
			errs = append(errs, undo(ctx, n.Name))
		}
	}
	return errors.Join(errs...)
}

func (r *Ring) undrain(ctx context.Context, node string) error {
	return r.unmark(ctx, node, drainedMark)
}

// unmark lets pods on a node again and then forgets that it was ours.
func (r *Ring) unmark(ctx context.Context, node, mark string) error {
	if err := r.cluster.Unfence(ctx, node); err != nil {
		return err
	}
	return r.cluster.AnnotateNode(ctx, node, mark, "")
}

// revive switches a node on, waits until it is ready, and lets pods on it.
func (r *Ring) revive(ctx context.Context, fencer Fencer, node string, say func(string)) error {
	if fencer == nil {
		return fleet.NewFault(fleet.CodeFencingFailed, fleet.Conflict, nil, "node %s was switched off by a proof, and nobody is here to switch it on", node)
	}
	// The API calls a node Ready for up to 40 s after its kubelet died, so a sign
	// of the new kubelet is waited for too.
	before, err := r.cluster.KubeletHeard(ctx, node)
	if err != nil {
		return err
	}
	say("switch on " + node)
	if err := fencer.On(ctx, node); err != nil {
		return fleet.NewFault(fleet.CodeFencingFailed, fleet.KindOf(err), err, "switch %s on again", node)
	}
	err = poll(ctx, r.limits.back, r.limits.pace, "wait until "+node+" is ready again", func(ctx context.Context) (bool, error) {
		now, err := r.cluster.KubeletHeard(ctx, node)
		if err != nil || now.Equal(before) {
			return false, err
		}
		nodes, err := r.cluster.NodeStates(ctx)
		for _, n := range nodes {
			if n.Name == node {
				return n.Ready, err
			}
		}
		return false, err
	})
	if err != nil {
		return fleet.NewFault(fleet.CodeFencingFailed, kindOf(err), err, "%s was switched on again after the proof", node)
	}
	say(node + " is ready again")
	return r.unmark(ctx, node, fencedMark)
}

// sweep removes the namespace and all in it. One of that name that is not ours
// is left alone.
func (r *Ring) sweep(ctx context.Context, rest rest) error {
	found, err := r.cluster.Object(ctx, spaceKind, "", Namespace)
	if err != nil || found == nil {
		return err
	}
	if found.GetLabels()[kube.OwnerLabel] != kube.Manager {
		return fleet.NewFault(fleet.CodeVMNotStarted, fleet.Conflict, nil,
			"the namespace %s is not ours: it lacks the label %s=%s; remove it if it is no longer needed", Namespace, kube.OwnerLabel, kube.Manager)
	}
	looks := 0
	if err := poll(ctx, r.limits.clean, r.limits.pace, "wait until the proof's VMs are gone", func(ctx context.Context) (bool, error) {
		looks++
		return r.empty(ctx, looks%wakeEach == 0)
	}); err != nil {
		return err
	}
	if err := r.cluster.DeleteObject(ctx, spaceKind, "", Namespace); err != nil || rest == dropSpace {
		return err
	}
	return poll(ctx, r.limits.clean, r.limits.pace, "wait until the namespace "+Namespace+" is gone", func(ctx context.Context) (bool, error) {
		left, err := r.cluster.Object(ctx, spaceKind, "", Namespace)
		return left == nil, err
	})
}

// wakeEach counts the looks after which objects that do not go are touched.
// After a node was lost KubeVirt's controllers may be refused by their own
// webhook once, and then try again only after up to 16 minutes, or at a change.
const wakeEach = 20

const wokenMark = "metalrise.dev/woken"

// empty deletes what is left in the namespace and tells whether there was
// nothing. VMs go before the namespace: their controllers need it to finish.
func (r *Ring) empty(ctx context.Context, wake bool) (bool, error) {
	left := 0
	for _, kind := range ours() {
		all, err := r.cluster.Objects(ctx, kind, Namespace, "")
		if err != nil {
			return false, err
		}
		for _, u := range all {
			left++
			if u.GetDeletionTimestamp() != nil {
				if wake { // refused or gone: the next look tells
					_ = r.cluster.Merge(ctx, kind, Namespace, u.GetName(), object{"metadata": object{"annotations": object{wokenMark: time.Now().UTC().Format(time.RFC3339)}}})
				}
				continue
			}
			if err := r.cluster.DeleteObject(ctx, kind, Namespace, u.GetName()); err != nil {
				return false, fmt.Errorf("remove %s: %w", kube.NameOf(u), err)
			}
		}
	}
	return left == 0, r.endLost(ctx)
}

// endLost ends pods that wait for the kubelet of a node which is switched off.
func (r *Ring) endLost(ctx context.Context) error {
	nodes, err := r.cluster.NodeStates(ctx)
	if err != nil {
		return err
	}
	pods, err := r.cluster.Pods(ctx, Namespace, "")
	if err != nil {
		return err
	}
	for _, p := range pods {
		for _, n := range nodes {
			if n.Name == p.Spec.NodeName && n.Fenced && p.DeletionTimestamp != nil && time.Since(p.DeletionTimestamp.Time) > 0 {
				if err := r.cluster.EndPod(ctx, Namespace, p.Name); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
