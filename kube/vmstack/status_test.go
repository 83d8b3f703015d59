package vmstack

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// Each rule, with an object that is ready, one that waits, and one whose status
// is of an older specification.
func TestJudge(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       string // what is missing; "" for ready
		lost       bool
	}{
		{"no status", `{apiVersion: apps/v1, kind: Deployment, metadata: {generation: 1}}`, "its controller has not seen it yet", false},
		{"old status", `{apiVersion: apps/v1, kind: Deployment, metadata: {generation: 2}, status: {observedGeneration: 1, updatedReplicas: 1, availableReplicas: 1, replicas: 1}}`, "has not seen its latest change", false},
		{"default replicas", `{apiVersion: apps/v1, kind: Deployment, metadata: {generation: 1}, status: {observedGeneration: 1, updatedReplicas: 1, availableReplicas: 1, replicas: 1}}`, "", false},
		{"none wanted", `{apiVersion: apps/v1, kind: Deployment, metadata: {generation: 1}, spec: {replicas: 0}, status: {observedGeneration: 1}}`, "", false},
		{"not updated", `{apiVersion: apps/v1, kind: Deployment, metadata: {generation: 1}, spec: {replicas: 2}, status: {observedGeneration: 1, updatedReplicas: 1, availableReplicas: 2, replicas: 2}}`, "1 of 2 pods are of the latest version", false},
		{"old left", `{apiVersion: apps/v1, kind: Deployment, metadata: {generation: 1}, spec: {replicas: 2}, status: {observedGeneration: 1, updatedReplicas: 2, availableReplicas: 2, replicas: 3}}`, "1 pods of an older version", false},
		{"not available", `{apiVersion: apps/v1, kind: Deployment, metadata: {generation: 1}, spec: {replicas: 2}, status: {observedGeneration: 1, updatedReplicas: 2, availableReplicas: 1, replicas: 2}}`, "1 of 2 pods are ready", false},
		{"no pods", `{apiVersion: apps/v1, kind: Deployment, metadata: {generation: 1}, status: {observedGeneration: 1, conditions: [{type: ReplicaFailure, status: "True", message: quota}]}}`, "its pods are not made: quota", false},
		{"daemons", `{apiVersion: apps/v1, kind: DaemonSet, metadata: {generation: 1}, status: {observedGeneration: 1, desiredNumberScheduled: 3, updatedNumberScheduled: 3, numberAvailable: 3}}`, "", false},
		{"daemons late", `{apiVersion: apps/v1, kind: DaemonSet, metadata: {generation: 1}, status: {observedGeneration: 1, desiredNumberScheduled: 3, updatedNumberScheduled: 3, numberAvailable: 2}}`, "ready on 2 of 3 nodes", false},
		{"daemons old", `{apiVersion: apps/v1, kind: DaemonSet, metadata: {generation: 1}, status: {observedGeneration: 1, desiredNumberScheduled: 3, updatedNumberScheduled: 1, numberAvailable: 3}}`, "on 1 of 3 nodes", false},
		{"set", `{apiVersion: apps/v1, kind: StatefulSet, metadata: {generation: 1}, spec: {replicas: 1}, status: {observedGeneration: 1, readyReplicas: 1, currentRevision: a, updateRevision: a}}`, "", false},
		{"set old", `{apiVersion: apps/v1, kind: StatefulSet, metadata: {generation: 1}, spec: {replicas: 2}, status: {observedGeneration: 1, readyReplicas: 2, updatedReplicas: 1, currentRevision: a, updateRevision: b}}`, "1 of 2 pods are of the latest version", false},
		{"job", `{apiVersion: batch/v1, kind: Job, status: {conditions: [{type: Complete, status: "True"}]}}`, "", false},
		{"job runs", `{apiVersion: batch/v1, kind: Job, status: {active: 1}}`, "it has not ended yet", false},
		{"job failed", `{apiVersion: batch/v1, kind: Job, status: {conditions: [{type: Failed, status: "True", reason: DeadlineExceeded}]}}`, "it failed: DeadlineExceeded", true},
		{"definition", `{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, status: {conditions: [{type: Established, status: "True"}]}}`, "", false},
		{"definition refused", `{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, status: {conditions: [{type: NamesAccepted, status: "False", message: taken}]}}`, "taken", true},
		{"service of the API", `{apiVersion: apiregistration.k8s.io/v1, kind: APIService, status: {conditions: [{type: Available, status: "False", reason: MissingEndpoints}]}}`, "Available is False: MissingEndpoints", false},
		{"kubevirt", `{apiVersion: kubevirt.io/v1, kind: KubeVirt, metadata: {generation: 3}, status: {phase: Deployed, observedGeneration: 3, conditions: [{type: Available, status: "True"}, {type: Progressing, status: "False"}, {type: Degraded, status: "False"}]}}`, "", false},
		{"kubevirt old", `{apiVersion: kubevirt.io/v1, kind: KubeVirt, metadata: {generation: 4}, status: {phase: Deployed, observedGeneration: 3, conditions: [{type: Available, status: "True"}]}}`, "has not seen its latest change", false},
		{"kubevirt new", `{apiVersion: kubevirt.io/v1, kind: KubeVirt, metadata: {generation: 1}}`, "its operator has not seen it yet", false},
		{"kubevirt starts", `{apiVersion: kubevirt.io/v1, kind: KubeVirt, status: {phase: Deploying}}`, "Available is not known yet", false},
		{"kubevirt comes up", `{apiVersion: kubevirt.io/v1, kind: KubeVirt, status: {phase: Deploying, conditions: [{type: Available, status: "True"}]}}`, "phase Deploying", false},
		{"kubevirt degraded", `{apiVersion: kubevirt.io/v1, kind: KubeVirt, status: {phase: Deployed, conditions: [{type: Available, status: "True"}, {type: Degraded, status: "True", reason: Rollout}]}}`, "Degraded is True: Rollout", false},
		{"importer", `{apiVersion: cdi.kubevirt.io/v1beta1, kind: CDI, status: {phase: Deployed, conditions: [{type: Available, status: "True"}, {type: Progressing, status: "True", message: busy}]}}`, "Progressing is True: busy", false},
		{"nmstate", `{apiVersion: nmstate.io/v1, kind: NMState, status: {conditions: [{type: Available, status: "False", reason: X}]}}`, "Available is False", false},
		{"nothing to wait for", `{apiVersion: k8s.cni.cncf.io/v1, kind: NetworkAttachmentDefinition}`, "", false},
		{"a usual condition", `{apiVersion: ceph.rook.io/v1, kind: CephCluster, status: {conditions: [{type: Ready, status: "False", message: no disks}]}}`, "Ready is False: no disks", false},
		{"stalled", `{apiVersion: example.com/v1, kind: Thing, status: {conditions: [{type: Stalled, status: "True", message: bad}]}}`, "Stalled: bad", false},
		{"being deleted", `{apiVersion: example.com/v1, kind: Thing, metadata: {deletionTimestamp: "2026-01-01T00:00:00Z"}}`, "it is being deleted", false},
		{"conditions that are none", `{apiVersion: example.com/v1, kind: Thing, status: {conditions: [1, {type: 2}, x]}}`, "", false},
		{"conditions of another form", `{apiVersion: example.com/v1, kind: Thing, status: {conditions: {a: b}}}`, "", false},
	} {
		text, err := yaml.YAMLToJSON([]byte(c.text))
		if err != nil {
			t.Fatal(c.name, err)
		}
		o := &unstructured.Unstructured{}
		if err := o.UnmarshalJSON(text); err != nil {
			t.Fatal(c.name, err)
		}
		got := judge(o)
		if got.Ready != (c.want == "") || !strings.Contains(got.Missing, c.want) || got.Lost != c.lost {
			t.Errorf("%s: %+v, want %q", c.name, got, c.want)
		}
	}
}

func TestWhatIsJudged(t *testing.T) {
	for text, want := range map[string]bool{
		"v1 ConfigMap": false, "v1 Pod": true, "v1 Namespace": false, "apps/v1 Deployment": true, "rbac.authorization.k8s.io/v1 ClusterRole": false,
		"storage.k8s.io/v1 StorageClass": false, "policy/v1 PodDisruptionBudget": false, "kubevirt.io/v1 KubeVirt": true, "example.com/v1 Thing": true,
		"apiextensions.k8s.io/v1 CustomResourceDefinition": true, "apiregistration.k8s.io/v1 APIService": true, "batch/v1 Job": true,
	} {
		version, kind, _ := strings.Cut(text, " ")
		if got := judged(object(version, kind, "", "x", nil)); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}
