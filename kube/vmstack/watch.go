package vmstack

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"metalrise.dev/fleet"
	"metalrise.dev/kube"
)

// task is what is waited for.
type task struct {
	component fleet.Component
	objects   []*unstructured.Unstructured
	// extra looks at what no single object tells; nil for nothing.
	extra func(context.Context) ([]fleet.Check, error)
	since time.Time // begin of the whole component
}

// sight is one look at a task.
type sight struct {
	checks []fleet.Check
	waits  []*unstructured.Unstructured // objects that are not ready, as they are now
	lost   string                       // why it will not become ready any more
	pods   []corev1.Pod                 // of the namespaces of waits
}

// wait returns when all of a task is ready. A state that was not seen before is
// progress; pods that crash and are started again show the same states over and
// over, which is none.
func (i *Installer) wait(ctx context.Context, t task, tell Teller) error {
	seen := map[string]bool{}
	moved := time.Now()
	since := map[string]fleet.Check{}
	var last sight
	away := ""
	for {
		s, err := i.look(ctx, t)
		switch {
		case err != nil && fleet.KindOf(err) != fleet.Transient:
			return err
		case err != nil:
			if ctx.Err() != nil {
				return err
			}
			away = reason(err)
			tell("waiting for the API: "+away, nil)
		default:
			away = ""
			last = s
			remember(since, s.checks)
			if note := waiting(s.checks); note != "" {
				tell(note, s.checks)
			} else {
				if len(s.checks) > 0 {
					tell("ready", s.checks)
				}
				return nil
			}
			if print := fingerprint(s); !seen[print] {
				seen[print], moved = true, time.Now()
			}
		}
		if last.lost != "" {
			return i.stuck(ctx, t, last, "it will not become ready by itself")
		}
		if still := time.Since(moved); still > i.pace.Still {
			return i.stuckOrAway(ctx, t, last, away, fmt.Sprintf("nothing changed for %s", still.Round(time.Second)))
		}
		if all := time.Since(t.since); all > i.pace.Most {
			return i.stuckOrAway(ctx, t, last, away, fmt.Sprintf("it is not ready after %s", all.Round(time.Second)))
		}
		if err := pause(ctx, i.pace.Look); err != nil {
			return err
		}
	}
}

// stuckOrAway blames the API where that is why nothing is seen.
func (i *Installer) stuckOrAway(ctx context.Context, t task, s sight, away, why string) error {
	if away != "" {
		return fleet.NewFault(fleet.CodeAPIUnreachable, fleet.Transient, errors.New(away), "watch component %s", t.component)
	}
	return i.stuck(ctx, t, s, why)
}

// look reads every object of a task anew.
func (i *Installer) look(ctx context.Context, t task) (sight, error) {
	var s sight
	spaces := map[string]bool{}
	for _, o := range t.objects {
		if !judged(o) {
			continue
		}
		r := refOf(o)
		now, err := i.cluster.Object(ctx, r.kind(), r.Namespace, r.Name)
		if err != nil {
			return s, err
		}
		check := fleet.Check{Name: r.String()}
		if now == nil {
			check.Missing = "it is not there"
			s.checks = append(s.checks, check)
			continue
		}
		h := judge(now)
		check.OK, check.Missing = h.Ready, kube.Words(h.Missing)
		s.checks = append(s.checks, check)
		if !h.Ready {
			s.waits = append(s.waits, now)
			for _, space := range spacesOf(now, t.objects) {
				spaces[space] = true
			}
			if h.Lost {
				s.lost = r.String() + ": " + h.Missing
			}
		}
	}
	if t.extra != nil && waiting(s.checks) == "" {
		more, err := t.extra(ctx)
		if err != nil {
			return s, err
		}
		s.checks = append(s.checks, more...)
	}
	for _, space := range slices.Sorted(maps.Keys(spaces)) {
		pods, err := i.cluster.Pods(ctx, space, "")
		if err != nil {
			return s, err
		}
		s.pods = append(s.pods, pods...)
	}
	s.countPods()
	return s, nil
}

// countPods says beside an operator's object how many pods are up: the operator
// itself says nothing for minutes while it exchanges them.
func (s *sight) countPods() {
	up := 0
	for n := range s.pods {
		if p := &s.pods[n]; p.Status.Phase == corev1.PodSucceeded || kube.PodTrouble(p, nil) == "" {
			up++
		}
	}
	for _, o := range s.waits {
		if group := o.GroupVersionKind().Group; group == "apps" || group == "batch" || len(s.pods) == 0 {
			continue
		}
		name := refOf(o).String()
		if n := slices.IndexFunc(s.checks, func(c fleet.Check) bool { return c.Name == name }); n >= 0 {
			s.checks[n].Missing += fmt.Sprintf("; %d of %d pods are ready", up, len(s.pods))
		}
	}
}

// spacesOf are the namespaces in which pods can tell why an object waits: its
// own, and for one without a namespace those of the component's workloads.
func spacesOf(o *unstructured.Unstructured, all []*unstructured.Unstructured) []string {
	if o.GetNamespace() != "" {
		return []string{o.GetNamespace()}
	}
	var out []string
	for _, other := range all {
		if other.GroupVersionKind().Group == "apps" && other.GetNamespace() != "" {
			out = append(out, other.GetNamespace())
		}
	}
	return out
}

// once drops what was told already.
func once(tell Teller) Teller {
	var lastNote string
	var lastChecks []fleet.Check
	return func(note string, checks []fleet.Check) {
		same := note == lastNote && slices.EqualFunc(checks, lastChecks, func(a, b fleet.Check) bool {
			return a.Name == b.Name && a.OK == b.OK && a.Missing == b.Missing
		})
		if same {
			return
		}
		lastNote, lastChecks = note, slices.Clone(checks)
		tell(note, checks)
	}
}

// waiting says in one sentence what is waited for; "" for nothing.
func waiting(checks []fleet.Check) string {
	n, first := 0, fleet.Check{}
	for _, c := range checks {
		if c.OK {
			continue
		}
		if n++; n == 1 {
			first = c
		}
	}
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("waiting for %d of %d: %s: %s", n, len(checks), first.Name, first.Missing)
}

// remember says since when each check is as it is.
func remember(before map[string]fleet.Check, checks []fleet.Check) {
	for n := range checks {
		c := &checks[n]
		if was, ok := before[c.Name]; ok && was.OK == c.OK {
			c.Since = was.Since
		} else {
			c.Since = time.Now()
		}
		before[c.Name] = *c
	}
}

// fingerprint is equal for two looks between which nothing came closer. Times,
// counts of restarts and random names of pods are left out of it.
func fingerprint(s sight) string {
	var b strings.Builder
	for _, c := range s.checks {
		fmt.Fprintf(&b, "%s %v\n", c.Name, c.OK)
	}
	for _, o := range s.waits {
		fmt.Fprintf(&b, "%s %d %s %v\n", refOf(o), o.GetGeneration(), phaseOf(o), figures(o))
	}
	var pods []string
	for n := range s.pods {
		pods = append(pods, podState(&s.pods[n]))
	}
	slices.Sort(pods)
	return b.String() + strings.Join(pods, "\n")
}

func phaseOf(o *unstructured.Unstructured) string {
	phase, _, _ := unstructured.NestedString(o.Object, "status", "phase")
	return phase
}

// figures are the numbers of a workload that grow as it comes up.
func figures(o *unstructured.Unstructured) [4]int64 {
	return [4]int64{
		count(o, "status", "updatedReplicas") + count(o, "status", "updatedNumberScheduled"),
		count(o, "status", "readyReplicas") + count(o, "status", "numberReady"),
		count(o, "status", "availableReplicas") + count(o, "status", "numberAvailable"),
		count(o, "status", "succeeded"),
	}
}

func podState(p *corev1.Pod) string {
	owner := p.GenerateName
	if owner == "" {
		owner = p.Name
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s/%s %s %s", p.Namespace, owner, p.Spec.NodeName, p.Status.Phase)
	for _, group := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses} {
		for _, c := range group {
			state := "running"
			switch {
			case c.State.Waiting != nil:
				state = c.State.Waiting.Reason
			case c.State.Terminated != nil:
				state = c.State.Terminated.Reason
			}
			fmt.Fprintf(&b, " %s:%s:%v", c.Name, state, c.Ready)
		}
	}
	return b.String()
}
