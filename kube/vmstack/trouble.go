package vmstack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"metalrise.dev/fleet"
	"metalrise.dev/kube"
)

const (
	logLines   = 40 // of a container that crashed
	logShown   = 4  // of them, the last
	maxLine    = 160
	maxTrouble = 2 // pods that are named; the others are like them
)

// stuck finds out why a component does not come up and makes it the fault's
// cause: a pod's own trouble, with the last lines of a container that ended and
// the newest warning, or the warning about what makes no pod.
func (i *Installer) stuck(ctx context.Context, t task, s sight, why string) error {
	cause := oneLine(s.lost, i.cause(ctx, s))
	if cause == "" {
		cause = waiting(s.checks)
	}
	kind := fleet.Transient // it is only late, as far as anybody knows; to install is to look again
	if s.lost != "" {
		kind = fleet.Conflict
	}
	return fleet.NewFault(fleet.CodeComponentStuck, kind, errors.New(cause), "component %s does not become ready: %s; %s", t.component, why, waiting(s.checks))
}

// cause is "" when neither a pod nor an event tells anything.
func (i *Installer) cause(ctx context.Context, s sight) string {
	var troubled []trouble
	events := map[string][]corev1.Event{}
	of := func(namespace string) []corev1.Event {
		if _, ok := events[namespace]; !ok {
			events[namespace], _ = i.cluster.Warnings(ctx, namespace) // without them the pods still tell
		}
		return events[namespace]
	}
	for n := range s.pods {
		p := &s.pods[n]
		if concerns(s.waits, p) {
			if one := troubleOf(p, of(p.Namespace)); one.text != "" {
				troubled = append(troubled, one)
			}
		}
	}
	slices.SortStableFunc(troubled, func(a, b trouble) int { return cmp.Compare(a.rank, b.rank) })
	var said []string
	for len(troubled) > 0 && len(said) < maxTrouble {
		one := troubled[0]
		like := 0 // pods of the same workload in the same trouble
		troubled = slices.DeleteFunc(troubled[1:], func(o trouble) bool {
			same := o.rank == one.rank && o.pod.GenerateName == one.pod.GenerateName && one.pod.GenerateName != ""
			if same {
				like++
			}
			return same
		})
		text := "pod " + one.pod.Namespace + "/" + one.pod.Name + onNode(one.pod) + ": "
		if one.crashed != "" { // the container's own message is what it wrote, too
			text += clip(kube.Words(one.text), maxLine) + i.lastWords(ctx, one)
		} else {
			text += kube.Words(one.text)
		}
		if like > 0 {
			text += fmt.Sprintf(" (%d more like it)", like)
		}
		said = append(said, text)
	}
	if len(said) == 0 {
		for _, o := range s.waits {
			if w := warningAbout(o, of(o.GetNamespace())); w != nil {
				said = append(said, kube.Words(w.InvolvedObject.Kind+" "+w.InvolvedObject.Name+": "+w.Reason+": "+w.Message))
			}
		}
	}
	return strings.Join(said, "; ")
}

func onNode(p *corev1.Pod) string {
	if p.Spec.NodeName == "" {
		return ""
	}
	return " on " + p.Spec.NodeName
}

// concerns tells whether a pod can be why one of the objects waits: it has the
// labels that a workload selects, or lies in the namespace of an operator's
// object, whose workloads the operator makes.
func concerns(waits []*unstructured.Unstructured, p *corev1.Pod) bool {
	for _, o := range waits {
		if o.GetNamespace() == "" {
			return true // only pods of its operator's namespace were read
		}
		if o.GetNamespace() != p.Namespace {
			continue
		}
		raw, ok, _ := unstructured.NestedMap(o.Object, "spec", "selector")
		if !ok || o.GroupVersionKind().Group != "apps" && o.GroupVersionKind().Group != "batch" {
			return true
		}
		labels, _, _ := unstructured.NestedStringMap(raw, "matchLabels")
		match, err := metav1.LabelSelectorAsSelector(&metav1.LabelSelector{MatchLabels: labels})
		if err == nil && match.Matches(labelSet(p.Labels)) {
			return true
		}
	}
	return false
}

// labelSet is a pod's labels as a selector reads them.
type labelSet map[string]string

func (l labelSet) Has(k string) bool              { _, ok := l[k]; return ok }
func (l labelSet) Get(k string) string            { return l[k] }
func (l labelSet) Lookup(k string) (string, bool) { v, ok := l[k]; return v, ok }

// trouble is what is wrong with one pod.
type trouble struct {
	pod      *corev1.Pod
	text     string
	rank     int // the lower, the more it explains
	crashed  string
	previous bool // the container was started again since
}

// Ranks: what no waiting mends comes first.
const (
	rankImage = iota
	rankCrash
	rankPlace
	rankStart
	rankSlow
)

func troubleOf(p *corev1.Pod, events []corev1.Event) trouble {
	t := trouble{pod: p, rank: rankSlow}
	if p.Status.Phase == corev1.PodSucceeded {
		return t
	}
	warning := newest(events, func(e *corev1.Event) bool { return e.InvolvedObject.Name == p.Name })
	if t.text = kube.PodTrouble(p, warning); t.text == "" {
		return t
	}
	for _, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		w := c.State.Waiting
		switch {
		case w != nil && (strings.HasPrefix(w.Reason, "ErrImage") || strings.Contains(w.Reason, "ImagePull") || w.Reason == "InvalidImageName"):
			t.rank = min(t.rank, rankImage)
			if c.Image != "" && !strings.Contains(t.text, c.Image) {
				t.text += " (image " + c.Image + ")"
			}
		case c.State.Terminated != nil && c.State.Terminated.ExitCode != 0:
			t.rank, t.crashed = min(t.rank, rankCrash), c.Name
		case c.RestartCount > 0 && !c.Ready:
			t.rank, t.crashed, t.previous = min(t.rank, rankCrash), c.Name, true
		case w != nil && strings.HasPrefix(w.Reason, "Create"), w != nil && strings.HasPrefix(w.Reason, "RunContainer"):
			t.rank = min(t.rank, rankStart)
		}
	}
	if p.Spec.NodeName == "" {
		t.rank = min(t.rank, rankPlace)
	} else if warning != nil {
		t.rank = min(t.rank, rankStart)
		if !strings.Contains(t.text, warning.Message) {
			t.text += " (last warning: " + warning.Reason + ": " + warning.Message + ")"
		}
	}
	return t
}

// lastWords are the last lines of a container that ended.
func (i *Installer) lastWords(ctx context.Context, t trouble) string {
	text, err := i.cluster.Log(ctx, t.pod.Namespace, t.pod.Name, t.crashed, logLines, t.previous)
	if err != nil || text == "" {
		return ""
	}
	lines := strings.Split(text, "\n")
	var last []string
	for _, l := range lines[max(0, len(lines)-logShown):] {
		if l = clip(kube.Words(l), maxLine); l != "" {
			last = append(last, l)
		}
	}
	return "; the last it wrote: " + strings.Join(last, " | ")
}

func clip(s string, n int) string {
	if len(s) > n {
		return strings.ToValidUTF8(s[:n], "") + " …"
	}
	return s
}

// newest finds the last warning that a pod or another object is meant by.
func newest(events []corev1.Event, about func(*corev1.Event) bool) *corev1.Event {
	for n := range slices.Backward(events) {
		if about(&events[n]) {
			return &events[n]
		}
	}
	return nil
}

// warningAbout finds the newest warning about an object or what it made, which
// bears its name and more: a ReplicaSet of a Deployment.
func warningAbout(o *unstructured.Unstructured, events []corev1.Event) *corev1.Event {
	return newest(events, func(e *corev1.Event) bool {
		return e.InvolvedObject.Name == o.GetName() || strings.HasPrefix(e.InvolvedObject.Name, o.GetName()+"-")
	})
}
