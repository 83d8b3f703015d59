package ring

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metalrise.dev/fleet"
)

// A VM without room is told of before the whole wait is over, and not at the
// first look: what was there before may just be going.
func TestUnplaced(t *testing.T) {
	pod := func(status corev1.ConditionStatus, reason string, ago time.Duration) sight {
		return sight{pods: []corev1.Pod{{Status: corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodScheduled, Status: status, Reason: reason,
			Message: "0/1 nodes are available: 1 Insufficient memory.", LastTransitionTime: metav1.NewTime(time.Now().Add(-ago))}}}}}}
	}
	v := &vm{run: &run{limits: usual()}, machine: machine{name: "net-a", nodes: []string{"w1"}}}
	long := v.limits.place + time.Minute
	for name, c := range map[string]struct {
		sight sight
		want  bool
	}{
		"long without room": {pod(corev1.ConditionFalse, corev1.PodReasonUnschedulable, long), true},
		"a moment ago":      {pod(corev1.ConditionFalse, corev1.PodReasonUnschedulable, time.Second), false},
		"held back":         {pod(corev1.ConditionFalse, corev1.PodReasonSchedulingGated, long), false},
		"placed":            {pod(corev1.ConditionTrue, "", long), false},
		"no pod":            {sight{}, false},
	} {
		err := v.unplaced(c.sight)
		if (err != nil) != c.want {
			t.Errorf("%s: %v", name, err)
		}
		if c.want && (fleet.CodeOf(err) != fleet.CodeVMNotStarted || !strings.Contains(err.Error(), "Insufficient memory")) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if usual().place >= usual().start {
		t.Error("it is never told before the wait is over")
	}
}
