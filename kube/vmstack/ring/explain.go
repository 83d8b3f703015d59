package ring

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"metalrise.dev/fleet"
	"metalrise.dev/kube"
)

func late(err error) bool {
	var l *errLate
	return errors.As(err, &l)
}

// kindOf keeps the kind of an API's fault; a wait that was too long may go well
// another time, but only after somebody looked.
func kindOf(err error) fleet.Kind {
	if late(err) {
		return fleet.Conflict
	}
	return fleet.KindOf(err)
}

// explainWithin bounds the look for a cause, also when the proof's own time is over.
const explainWithin = 20 * time.Second

// maxWarnings of the namespace are quoted.
const maxWarnings = 3

// explain collects why a VM is not as it should be: the words of the VM, its
// instance, its pods and the newest warnings about them.
func (v *vm) explain(ctx context.Context, s sight) string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), explainWithin)
	defer cancel()
	var said []string
	add := func(format string, args ...any) {
		if text := kube.Words(fmt.Sprintf(format, args...)); !slices.Contains(said, text) {
			said = append(said, text)
		}
	}
	if u, err := v.cluster.Object(ctx, vmKind, Namespace, v.name); err == nil && u != nil {
		status, _, _ := unstructured.NestedString(u.Object, "status", "printableStatus")
		add("the VM is %s", nonEmpty(status, "without a status"))
		for _, c := range conditions(u) {
			if c.kind == "Failure" && c.status == "True" {
				add("%s", c.words())
			}
		}
	}
	if s.instance != nil {
		for _, c := range conditions(s.instance) {
			if c.status == "False" && c.message != "" && c.kind != "LiveMigratable" && c.kind != "StorageLiveMigratable" {
				add("%s: %s", c.kind, c.words())
			}
		}
	}
	for i := range s.pods {
		p := &s.pods[i]
		if text := kube.PodTrouble(p, nil); text != "" && p.Status.Phase != corev1.PodSucceeded {
			add("pod %s: %s", p.Name, text)
		}
	}
	if s.deaf != nil {
		add("%v", s.deaf)
	}
	for _, text := range v.warnings(ctx) {
		add("%s", text)
	}
	for i := range s.pods {
		p := &s.pods[i]
		if log, err := v.cluster.Log(ctx, Namespace, p.Name, launcherContainer, launcherLines, false); err == nil {
			if text := lastError(log); text != "" {
				add("virt-launcher on %s says: %s", p.Spec.NodeName, text)
			}
		}
	}
	if len(said) == 0 {
		return "nothing in the cluster says why"
	}
	return strings.Join(said, "; ")
}

// warnings are the newest ones of this run about a VM and what belongs to it.
func (v *vm) warnings(ctx context.Context) []string {
	all, err := v.cluster.Warnings(ctx, Namespace)
	if err != nil {
		return []string{"the cluster's events could not be read: " + err.Error()}
	}
	var out []string
	for i := len(all) - 1; i >= 0 && len(out) < maxWarnings; i-- {
		e := &all[i]
		about := e.InvolvedObject
		if !strings.Contains(about.Name, v.name) || e.CreationTimestamp.Time.Before(v.begun.Add(-time.Minute)) {
			continue
		}
		text := kube.Words(fmt.Sprintf("%s %s: %s: %s", about.Kind, about.Name, e.Reason, e.Message))
		if !slices.Contains(out, text) {
			out = append(out, text)
		}
	}
	return out
}

func nonEmpty(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// unplaced is the fault of a VM for which no node has had room for a while. What
// proofs made before is gone when the next one begins, so only others could make
// room, and a person should hear of it before the wait is over.
func (v *vm) unplaced(s sight) error {
	for i := range s.pods {
		for _, c := range s.pods[i].Status.Conditions {
			if c.Type != corev1.PodScheduled || c.Status != corev1.ConditionFalse || c.Reason != corev1.PodReasonUnschedulable {
				continue
			}
			if waited := time.Since(c.LastTransitionTime.Time); waited > v.limits.place {
				return fleet.NewFault(fleet.CodeVMNotStarted, fleet.Conflict, nil, "VM %s finds no room on %s since %s: %s",
					v.name, listed(v.nodes), waited.Round(time.Second), kube.Words(c.Message))
			}
		}
	}
	return nil
}

// launcherContainer of a VM's pod runs QEMU.
const (
	launcherContainer = "compute"
	launcherLines     = 100
)

// lastError finds the last error in a log of virt-launcher, which writes one
// JSON object in each line.
func lastError(log string) string {
	out := ""
	for line := range strings.Lines(log) {
		var l struct {
			Level  string `json:"level"`
			Msg    string `json:"msg"`
			Reason string `json:"reason"`
		}
		if json.Unmarshal([]byte(line), &l) == nil && l.Level == "error" {
			out = kube.Words(strings.Trim(l.Msg+": "+l.Reason, ": "))
		}
	}
	return out
}
