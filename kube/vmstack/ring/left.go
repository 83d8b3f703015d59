package ring

import (
	"context"
	"fmt"
	"strings"

	"metalrise.dev/fleet"
	"metalrise.dev/kube"
)

// mostLeft things are named.
const mostLeft = 8

// left is the fault of what could not be removed. A fault with a code of its own,
// such as a node that does not come on again, says more and is kept. Removing is
// tried again by whoever runs a proof next, so that it took too long may pass.
func (r *Ring) left(ctx context.Context, err error, what string) error {
	if code := fleet.CodeOf(err); code != fleet.CodeUnexpected {
		return fmt.Errorf("%s: %w", what, err)
	}
	kind := fleet.KindOf(err)
	if late(err) {
		kind = fleet.Transient
	}
	return fleet.NewFault(fleet.CodeProofLeft, kind, err, "%s; still there: %s", what, r.remains(ctx))
}

// remains names what of proofs is still in the cluster, also when the proof's own
// time is over.
func (r *Ring) remains(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), explainWithin)
	defer cancel()
	var all []string
	for _, kind := range ours() {
		found, err := r.cluster.Objects(ctx, kind, Namespace, "")
		if err != nil {
			return "that could not be looked up: " + err.Error()
		}
		for _, u := range found {
			text := kube.NameOf(u)
			if f := u.GetFinalizers(); len(f) > 0 && u.GetDeletionTimestamp() != nil {
				text += " (waits for " + strings.Join(f, ", ") + ")"
			}
			all = append(all, text)
		}
	}
	nodes, err := r.cluster.NodeStates(ctx)
	if err != nil {
		return "that could not be looked up: " + err.Error()
	}
	for _, n := range nodes {
		if n.Annotations[drainedMark] != "" || n.Annotations[fencedMark] != "" {
			all = append(all, "a mark of a proof on node "+n.Name)
		}
	}
	switch {
	case len(all) == 0:
		return "the namespace " + Namespace
	case len(all) > mostLeft:
		return fmt.Sprintf("%s and %d more", strings.Join(all[:mostLeft], ", "), len(all)-mostLeft)
	}
	return strings.Join(all, ", ")
}
