package vmstack

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"metalrise.dev/fleet"
)

func TestStuckNamesTheCause(t *testing.T) {
	pod := func(name, spec, status string) string {
		return fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"namespace":"kubevirt","generateName":%q,"labels":{"kubevirt.io":"virt-operator"}},"spec":{%s},"status":{%s}}`, name+"-", spec, status)
	}
	event := func(about, kind, reason, message string) string {
		return fmt.Sprintf(`{"apiVersion":"v1","kind":"Event","metadata":{"namespace":"kubevirt"},"type":"Warning","involvedObject":{"kind":%q,"name":%q},"reason":%q,"message":%q}`, kind, about, reason, message)
	}
	const pods, events = "/api/v1/namespaces/kubevirt/pods/", "/api/v1/namespaces/kubevirt/events/"
	for name, c := range map[string]struct {
		objects map[string]string
		logs    map[string]string
		want    []string
	}{
		"image": {
			objects: map[string]string{
				pods + "virt-operator-1": pod("virt-operator", `"nodeName":"w1"`, `"phase":"Pending","containerStatuses":[{"name":"virt-operator","image":"quay.io/kubevirt/virt-operator:v1.6.0","state":{"waiting":{"reason":"ImagePullBackOff","message":"Back-off pulling image"}}}]`),
				pods + "virt-operator-2": pod("virt-operator", ``, `"phase":"Pending","conditions":[{"type":"PodScheduled","status":"False","reason":"Unschedulable","message":"0/3 nodes"}]`),
			},
			want: []string{"pod kubevirt/virt-operator-1 on w1", "ImagePullBackOff", "quay.io/kubevirt/virt-operator:v1.6.0", "0/3 nodes"},
		},
		"crash": {
			objects: map[string]string{
				pods + "virt-operator-1": pod("virt-operator", `"nodeName":"w1"`, `"phase":"Running","containerStatuses":[{"name":"virt-operator","restartCount":3,"state":{"waiting":{"reason":"CrashLoopBackOff","message":"back-off"}},"lastState":{"terminated":{"exitCode":2,"reason":"Error"}}}]`),
			},
			logs: map[string]string{"virt-operator-1": "starting\npanic: cannot read the certificate\n"},
			want: []string{"CrashLoopBackOff", "it ended with code 2", "the last it wrote: starting | panic: cannot read the certificate"},
		},
		"many crashes": {
			objects: map[string]string{
				pods + "virt-operator-1": pod("virt-operator", `"nodeName":"w1"`, `"phase":"Running","containerStatuses":[{"name":"c","restartCount":3,"state":{"waiting":{"reason":"CrashLoopBackOff","message":"`+strings.Repeat("long ", 100)+`"}}}]`),
				pods + "virt-operator-2": pod("virt-operator", `"nodeName":"w2"`, `"phase":"Running","containerStatuses":[{"name":"c","restartCount":2,"state":{"waiting":{"reason":"CrashLoopBackOff"}}}]`),
			},
			logs: map[string]string{"virt-operator-1": "the last line"},
			want: []string{" …; the last it wrote: the last line (1 more like it)"},
		},
		"place": {
			objects: map[string]string{
				pods + "virt-operator-1": pod("virt-operator", ``, `"phase":"Pending","conditions":[{"type":"PodScheduled","status":"False","reason":"Unschedulable","message":"0/3 nodes are available: 3 Insufficient memory"}]`),
			},
			want: []string{"no node takes it", "3 Insufficient memory"},
		},
		"mount": {
			objects: map[string]string{
				pods + "virt-operator-1": pod("virt-operator", `"nodeName":"w2"`, `"phase":"Pending","containerStatuses":[{"name":"virt-operator","state":{"waiting":{"reason":"ContainerCreating"}}}]`),
				events + "e1":            event("virt-operator-1", "Pod", "FailedMount", `secret "kubevirt-operator-certs" not found`),
			},
			want: []string{"FailedMount", "kubevirt-operator-certs"},
		},
		"no pod": {
			objects: map[string]string{
				events + "e1": event("virt-operator-7d9", "ReplicaSet", "FailedCreate", "exceeded quota: small"),
			},
			want: []string{"ReplicaSet virt-operator-7d9: FailedCreate: exceeded quota: small"},
		},
		"a pod of somebody else": {
			objects: map[string]string{
				pods + "other": `{"apiVersion":"v1","kind":"Pod","metadata":{"namespace":"kubevirt"},"status":{"phase":"Pending","containerStatuses":[{"name":"x","state":{"waiting":{"reason":"ErrImagePull"}}}]}}`,
			},
			want: []string{"Deployment kubevirt/virt-operator: its controller has not seen it yet"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			f, i := newInstaller(t, testPlan(), map[string]string{"operator": operator})
			f.control = func(f *fakeAPI, path string, o map[string]any) {
				if o["kind"] != "Deployment" {
					allWell(f, path, o)
				}
			}
			for path, o := range c.objects {
				f.set(path, o)
			}
			f.logs = c.logs
			err := i.Install(t.Context(), kubevirtPlan, silent)
			if fleet.CodeOf(err) != fleet.CodeComponentStuck || fleet.KindOf(err) != fleet.Transient {
				t.Fatalf("%v", err)
			}
			for _, want := range append(c.want, "install kubevirt", "nothing changed for") {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v\nlacks %q", err, want)
				}
			}
			if name == "a pod of somebody else" && strings.Contains(err.Error(), "ErrImagePull") {
				t.Error(err)
			}
		})
	}
}

func TestOperatorsPodsAreCounted(t *testing.T) {
	f, i := newInstaller(t, testPlan(), map[string]string{"operator": operator})
	f.control = func(f *fakeAPI, path string, o map[string]any) {
		if o["kind"] != "KubeVirt" {
			allWell(f, path, o)
		}
	}
	f.set("/api/v1/namespaces/kubevirt/pods/a", `{"kind":"Pod","metadata":{"namespace":"kubevirt"},"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}}`)
	f.set("/api/v1/namespaces/kubevirt/pods/b", `{"kind":"Pod","metadata":{"namespace":"kubevirt"},"status":{"phase":"Pending"}}`)
	err := i.Install(t.Context(), kubevirtPlan, silent)
	if fleet.CodeOf(err) != fleet.CodeComponentStuck || !strings.Contains(err.Error(), "its operator has not seen it yet; 1 of 2 pods are ready: pod kubevirt/b: it is not started yet") {
		t.Error(err)
	}
}

func TestCrashesAreNoProgress(t *testing.T) {
	f, i := newInstaller(t, testPlan(), map[string]string{"operator": operator})
	restarts := 0
	f.control = func(f *fakeAPI, path string, o map[string]any) {
		if o["kind"] != "Deployment" {
			allWell(f, path, o)
		}
	}
	f.refuse = func(r *http.Request) (int, string) {
		if !strings.HasSuffix(r.URL.Path, "/pods") {
			return 0, ""
		}
		// Each look sees a new pod of the same crash, once waiting, once running.
		restarts++
		state := `"waiting":{"reason":"CrashLoopBackOff"}`
		if restarts%2 == 0 {
			state = `"running":{}`
		}
		for path := range f.objects {
			if strings.Contains(path, "/pods/") {
				delete(f.objects, path)
			}
		}
		f.setLocked(fmt.Sprintf("/api/v1/namespaces/kubevirt/pods/virt-operator-%d", restarts), fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"namespace":"kubevirt","generateName":"virt-operator-","labels":{"kubevirt.io":"virt-operator"}},`+
			`"spec":{"nodeName":"w1"},"status":{"phase":"Running","containerStatuses":[{"name":"c","restartCount":%d,"state":{%s}}]}}`, restarts, state))
		return 0, ""
	}
	err := i.Install(t.Context(), kubevirtPlan, silent)
	if fleet.CodeOf(err) != fleet.CodeComponentStuck || !strings.Contains(err.Error(), "nothing changed for") {
		t.Error(err)
	}
	if restarts < 3 {
		t.Errorf("only %d looks", restarts)
	}
}

func TestFailedJobIsNotWaitedFor(t *testing.T) {
	job := `
apiVersion: batch/v1
kind: Job
metadata: {name: setup, namespace: nginx}
`
	f, i := newInstaller(t, testPlan(), map[string]string{"m": job})
	f.control = func(f *fakeAPI, path string, o map[string]any) {
		if o["kind"] == "Job" {
			f.setLocked(path, `{"status":{"conditions":[{"type":"Failed","status":"True","reason":"BackoffLimitExceeded","message":"too often"}]}}`)
		}
	}
	i = i.WithPace(Pace{Look: time.Millisecond, Refuse: time.Hour, Still: time.Hour, Most: time.Hour})
	err := i.Install(t.Context(), fleet.ComponentPlan{Name: fleet.ComponentNGINX, Manifests: []string{"m"}}, silent)
	if fleet.CodeOf(err) != fleet.CodeComponentStuck || fleet.KindOf(err) != fleet.Conflict || !strings.Contains(err.Error(), "BackoffLimitExceeded") {
		t.Error(err)
	}
}

func TestAPIAwayIsNotTheComponentsFault(t *testing.T) {
	f, i := newInstaller(t, testPlan(), map[string]string{"operator": operator})
	f.control = func(f *fakeAPI, path string, o map[string]any) {
		if o["kind"] != "Deployment" {
			allWell(f, path, o)
			return
		}
		f.refuse = func(*http.Request) (int, string) { return 503, "etcd has no leader" }
	}
	err := i.Install(t.Context(), kubevirtPlan, silent)
	if fleet.CodeOf(err) != fleet.CodeAPIUnreachable || fleet.KindOf(err) != fleet.Transient || !strings.Contains(err.Error(), "etcd has no leader") {
		t.Error(err)
	}
}
