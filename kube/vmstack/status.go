package vmstack

import (
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

const kindDefinition = "CustomResourceDefinition"

// health is what an object's own status tells.
type health struct {
	Ready   bool
	Missing string // what is missing; "" when Ready
	// Lost says that it will not become ready by itself any more.
	Lost bool
}

func ready() health { return health{Ready: true} }

func missing(format string, args ...any) health {
	return health{Missing: fmt.Sprintf(format, args...)}
}

func lost(format string, args ...any) health {
	return health{Missing: fmt.Sprintf(format, args...), Lost: true}
}

// judged tells whether objects of a kind have a status that counts. All others
// are ready once they are there.
func judged(o *unstructured.Unstructured) bool {
	kind := o.GroupVersionKind()
	switch kind.Group {
	case "apps", "batch", "apiextensions.k8s.io", "apiregistration.k8s.io":
		return true
	case "":
		return kind.Kind == "Pod"
	}
	// Groups of Kubernetes itself have no dot, or end with k8s.io.
	return strings.Contains(kind.Group, ".") && !strings.HasSuffix(kind.Group, ".k8s.io")
}

// judge tells whether an object is ready, by the rules of its kind. A status
// that was written for an older specification tells nothing.
//
// The rules follow the conventions of the API
// (community/contributors/devel/sig-architecture/api-conventions.md) and, for
// workloads, what `kubectl rollout status` asks.
func judge(o *unstructured.Unstructured) health {
	if o.GetDeletionTimestamp() != nil {
		return missing("it is being deleted")
	}
	generation := o.GetGeneration()
	if seen, ok := integer(o, "status", "observedGeneration"); ok && seen < generation {
		return missing("its controller has not seen its latest change")
	}
	switch kind := o.GroupVersionKind(); kind.Group + "/" + kind.Kind {
	case "apps/Deployment":
		return judgeDeployment(o)
	case "apps/DaemonSet":
		return judgeDaemonSet(o)
	case "apps/StatefulSet":
		return judgeStatefulSet(o)
	case "batch/Job":
		return judgeJob(o)
	case "/Pod":
		return needs(o, "Ready")
	case "apiextensions.k8s.io/" + kindDefinition:
		if c, ok := conditionOf(o, "NamesAccepted"); ok && c.Status == metav1.ConditionFalse {
			return lost("its names are taken by another definition: %s", c.Message)
		}
		return needs(o, "Established")
	case "apiregistration.k8s.io/APIService":
		return needs(o, "Available")
	case "kubevirt.io/KubeVirt", "cdi.kubevirt.io/CDI":
		return judgeOperator(o)
	case "networkaddonsoperator.network.kubevirt.io/NetworkAddonsConfig", "nmstate.io/NMState":
		return needs(o, "Available")
	}
	return judgeOther(o)
}

// integer reads a number of a status; ok is false when there is none.
func integer(o *unstructured.Unstructured, path ...string) (int64, bool) {
	n, ok, err := unstructured.NestedInt64(o.Object, path...)
	return n, ok && err == nil
}

func count(o *unstructured.Unstructured, path ...string) int64 {
	n, _ := integer(o, path...)
	return n
}

// replicas is how many a workload wants; the API's default is one.
func replicas(o *unstructured.Unstructured) int64 {
	if n, ok := integer(o, "spec", "replicas"); ok {
		return n
	}
	return 1
}

// unseen tells that no controller looked at a workload yet.
func unseen(o *unstructured.Unstructured) bool {
	_, ok := integer(o, "status", "observedGeneration")
	return !ok
}

func judgeDeployment(o *unstructured.Unstructured) health {
	want := replicas(o)
	if unseen(o) {
		return missing("its controller has not seen it yet")
	}
	if c, ok := conditionOf(o, "ReplicaFailure"); ok && c.Status == metav1.ConditionTrue {
		return missing("its pods are not made: %s", c.Message)
	}
	updated, available, all := count(o, "status", "updatedReplicas"), count(o, "status", "availableReplicas"), count(o, "status", "replicas")
	switch {
	case updated < want:
		return missing("%d of %d pods are of the latest version", updated, want)
	case all > updated:
		return missing("%d pods of an older version are still there", all-updated)
	case available < want:
		return missing("%d of %d pods are ready", available, want)
	}
	return ready()
}

func judgeDaemonSet(o *unstructured.Unstructured) health {
	if unseen(o) {
		return missing("its controller has not seen it yet")
	}
	want, updated, available := count(o, "status", "desiredNumberScheduled"), count(o, "status", "updatedNumberScheduled"), count(o, "status", "numberAvailable")
	switch {
	case updated < want:
		return missing("pods of the latest version are on %d of %d nodes", updated, want)
	case available < want:
		return missing("its pods are ready on %d of %d nodes", available, want)
	}
	return ready()
}

func judgeStatefulSet(o *unstructured.Unstructured) health {
	want := replicas(o)
	if unseen(o) {
		return missing("its controller has not seen it yet")
	}
	current, _, _ := unstructured.NestedString(o.Object, "status", "currentRevision")
	update, _, _ := unstructured.NestedString(o.Object, "status", "updateRevision")
	up := count(o, "status", "readyReplicas")
	switch {
	case up < want:
		return missing("%d of %d pods are ready", up, want)
	case current != update && count(o, "status", "updatedReplicas") < want:
		return missing("%d of %d pods are of the latest version", count(o, "status", "updatedReplicas"), want)
	}
	return ready()
}

func judgeJob(o *unstructured.Unstructured) health {
	if c, ok := conditionOf(o, "Failed"); ok && c.Status == metav1.ConditionTrue {
		return lost("it failed: %s", oneLine(c.Reason, c.Message))
	}
	if c, ok := conditionOf(o, "Complete"); ok && c.Status == metav1.ConditionTrue {
		return ready()
	}
	return missing("it has not ended yet")
}

// judgeOperator is for objects that an operator of KubeVirt's family keeps: the
// three conditions of operators, and the phase.
func judgeOperator(o *unstructured.Unstructured) health {
	phase, _, _ := unstructured.NestedString(o.Object, "status", "phase")
	if phase == "" {
		return missing("its operator has not seen it yet")
	}
	for _, want := range []struct {
		condition string
		status    metav1.ConditionStatus
	}{{"Degraded", metav1.ConditionFalse}, {"Progressing", metav1.ConditionFalse}, {"Available", metav1.ConditionTrue}} {
		c, ok := conditionOf(o, want.condition)
		switch {
		case !ok && want.condition == "Available":
			return missing("phase %s: %s is not known yet", phase, want.condition)
		case ok && c.Status != want.status:
			return missing("phase %s, %s is %s: %s", phase, want.condition, c.Status, oneLine(c.Reason, c.Message))
		}
	}
	if phase != "Deployed" {
		return missing("phase %s", phase)
	}
	return ready()
}

// judgeOther reads the usual conditions of an object of which no rule is known.
// None of them means that it has nothing to wait for.
func judgeOther(o *unstructured.Unstructured) health {
	for _, bad := range []string{"Stalled", "Degraded", "Failure"} {
		if c, ok := conditionOf(o, bad); ok && c.Status == metav1.ConditionTrue {
			return missing("%s: %s", bad, oneLine(c.Reason, c.Message))
		}
	}
	for _, good := range []string{"Ready", "Available"} {
		if c, ok := conditionOf(o, good); ok && c.Status != metav1.ConditionTrue {
			return missing("%s is %s: %s", good, c.Status, oneLine(c.Reason, c.Message))
		}
	}
	return ready()
}

// needs asks for one condition.
func needs(o *unstructured.Unstructured, condition string) health {
	c, ok := conditionOf(o, condition)
	switch {
	case !ok:
		return missing("%s is not known yet", condition)
	case c.Status != metav1.ConditionTrue:
		return missing("%s is %s: %s", condition, c.Status, oneLine(c.Reason, c.Message))
	case c.ObservedGeneration > 0 && c.ObservedGeneration < o.GetGeneration():
		return missing("%s was told of an older version", condition)
	}
	return ready()
}

// conditionOf finds a condition by its type.
func conditionOf(o *unstructured.Unstructured, name string) (metav1.Condition, bool) {
	all, _, err := unstructured.NestedSlice(o.Object, "status", "conditions")
	if err != nil {
		return metav1.Condition{}, false
	}
	i := slices.IndexFunc(all, func(v any) bool {
		m, ok := v.(map[string]any)
		return ok && m["type"] == name
	})
	if i < 0 {
		return metav1.Condition{}, false
	}
	m := all[i].(map[string]any)
	text := func(key string) string { s, _ := m[key].(string); return s }
	generation, _ := m["observedGeneration"].(int64)
	return metav1.Condition{
		Type: name, Status: metav1.ConditionStatus(text("status")), Reason: text("reason"), Message: text("message"), ObservedGeneration: generation,
	}, true
}
