package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"metalrise.dev/fleet"
)

// The tests in this file bring up real Kubernetes on container machines: real
// kubeadm, kubelet, containerd, etcd. The first run builds them from source.

// workload runs two pods that answer with their own name, on different nodes
// where there are several, behind a Service.
const workload = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: echo}
spec:
  replicas: 2
  selector: {matchLabels: {app: echo}}
  template:
    metadata: {labels: {app: echo}}
    spec:
      topologySpreadConstraints:
        - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {app: echo}}}
      containers:
        - {name: echo, image: "metalrise.dev/echo:1", imagePullPolicy: Never, command: [/echo, serve, ":8080"]}
---
apiVersion: v1
kind: Service
metadata: {name: echo}
spec: {selector: {app: echo}, ports: [{port: 80, targetPort: 8080}]}
`

// kubectl runs the cluster's own kubectl and gives its output.
func (r *rack) kubectl(stdin string, args ...string) (string, error) {
	cmd := exec.Command(r.bin, append([]string{"cluster", "kubectl", "-f", r.site, "--state", r.state}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// eventually repeats what a cluster does in its own time.
func (r *rack) eventually(limit time.Duration, what string, try func() error) time.Duration {
	r.t.Helper()
	begin := time.Now()
	for {
		err := try()
		if err == nil {
			return time.Since(begin)
		}
		if time.Since(begin) > limit {
			r.t.Fatalf("%s: not within %s: %v", what, limit, err)
		}
		time.Sleep(time.Second)
	}
}

// servesWorkload wants the workload to answer under the Service's DNS name, from
// every pod of it.
func (r *rack) servesWorkload(pods int) {
	r.t.Helper()
	r.eventually(time.Minute, "apply the workload", func() error {
		out, err := r.kubectl(workload, "apply", "-f", "-")
		return annotate(err, out)
	})
	r.eventually(3*time.Minute, "roll out the workload", func() error {
		out, err := r.kubectl("", "rollout", "status", "deployment/echo", "--timeout=10s")
		return annotate(err, out)
	})
	answers := map[string]bool{}
	r.eventually(2*time.Minute, "an answer of each pod under the name of the Service", func() error {
		out, err := r.kubectl("", "exec", "deployment/echo", "--", "/echo", "get", "http://echo.default.svc.cluster.local/")
		if err == nil {
			answers[strings.TrimSpace(out)] = true
		}
		if len(answers) < pods {
			return annotate(fmt.Errorf("%d different answers: %w", len(answers), err), out)
		}
		return nil
	})
}

func annotate(err error, out string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %.600s", err, out)
}

// ready wants exactly these nodes, all ready, in the API's own words.
func (r *rack) ready(want int) {
	r.t.Helper()
	r.eventually(2*time.Minute, "every node is ready", func() error {
		out, err := r.kubectl("", "get", "nodes", "--no-headers")
		if err != nil {
			return annotate(err, out)
		}
		lines := strings.Split(strings.TrimSpace(out), "\n")
		for _, line := range lines {
			if f := strings.Fields(line); len(f) < 2 || f[1] != "Ready" {
				return fmt.Errorf("%s", line)
			}
		}
		if len(lines) != want {
			return fmt.Errorf("%d nodes, want %d", len(lines), want)
		}
		return nil
	})
}

func allReady(v fleet.Overview) bool {
	for _, s := range v.Servers {
		if s.Phase != fleet.Ready || s.Condition != fleet.Settled {
			return false
		}
	}
	return len(v.Servers) > 0
}

// seen tells whether the journal holds such an event of a host.
func (r *rack) seen(server fleet.ServerID, a fleet.Action, edge fleet.Edge) bool {
	for _, e := range r.events() {
		if e.Server == server && e.Action == a && e.Edge == edge {
			return true
		}
	}
	return false
}

// memory sums up what the lab's machines use, in MiB.
func (r *rack) memory() int64 {
	r.t.Helper()
	var v struct {
		Servers []struct {
			MemoryBytes int64 `json:"memoryBytes"`
		} `json:"servers"`
	}
	if err := json.Unmarshal([]byte(r.must("lab", "status", "--name", r.lab, "--output", "json")), &v); err != nil {
		r.t.Fatal(err)
	}
	var sum int64
	for _, s := range v.Servers {
		sum += s.MemoryBytes
	}
	return sum >> 20
}

// TestRealCluster takes three control planes and two workers from powered off to
// ready nodes, killing the engine on the way and cutting a control plane's power
// in the middle of its join. Then the cluster works, loses a control plane,
// grows by a server and gives one away.
func TestRealCluster(t *testing.T) {
	r := newRack(t, "cluster", 6, "--kubernetes")
	text, err := os.ReadFile(r.site)
	if err != nil {
		t.Fatal(err)
	}
	five := strings.Replace(string(text), ".11-16", ".11-15", 1)
	if five == string(text) {
		t.Fatalf("the site file names its BMCs otherwise:\n%s", text)
	}
	if err := os.WriteFile(r.site, []byte(five), 0o644); err != nil {
		t.Fatal(err)
	}
	r.planned(5)
	begin := time.Now()
	r.must("apply", "--erase-disks", "5", "--detach")
	cut := false
	kills := []fleet.Action{fleet.ActPrepare, fleet.ActBegin, fleet.ActBase, fleet.ActInvite, fleet.ActJoin, fleet.ActAdmit}
	r.await(15*time.Minute, "five ready nodes", func(v fleet.Overview) bool {
		if len(kills) > 0 && r.anyBegan(kills[0]) {
			if pid := r.engine(); pid != 0 {
				t.Logf("%s: the engine is killed after %s began", time.Since(begin).Round(time.Second), kills[0])
				_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended by itself
			}
			kills = kills[1:]
			r.must("apply", "--detach")
		}
		if !cut && r.seen("LAB0003", fleet.ActJoin, fleet.Progressed) {
			cut = true
			t.Logf("%s: the power of the third control plane is cut while it joins", time.Since(begin).Round(time.Second))
			r.must("lab", "power", "--name", r.lab, "n3", "off")
		}
		return allReady(v)
	})
	t.Logf("three control planes and two workers: ready after %s with a power cut and %d kills, %d MiB", time.Since(begin).Round(time.Second), 6-len(kills), r.memory())
	if !cut {
		t.Error("no power was cut: the third control plane joined unseen")
	}
	r.ready(5)
	r.servesWorkload(2)
	r.losesControlPlane()
	r.grows()
	r.shrinks()
	for _, s := range r.labView().Servers {
		if s.Touched != "" {
			t.Errorf("%s: a disk that was not planned was written: %s", s.Name, s.Touched)
		}
	}
}

func (r *rack) anyBegan(a fleet.Action) bool {
	for _, e := range r.events() {
		if e.Action == a && e.Edge == fleet.Began {
			return true
		}
	}
	return false
}

// losesControlPlane cuts the power of the control plane that holds the API's
// address, through its BMC: the API must be reachable under that address again,
// answered by another one.
func (r *rack) losesControlPlane() {
	r.t.Helper()
	holder := r.holder()
	r.must("bmc", "power", r.bmcOf(holder), "off", "--meanwhile")
	after := r.eventually(2*time.Minute, "the API without the control plane that held its address", func() error {
		out, err := r.kubectl("", "get", "--raw", "/readyz", "--request-timeout=2s")
		return annotate(err, out)
	})
	next := r.holder()
	r.t.Logf("the API answered %s after %s, which held its address, was off; %s holds it now", after.Round(100*time.Millisecond), holder, next)
	if next == holder {
		r.t.Errorf("a server that is off holds the API's address: %s", holder)
	}
	r.must("bmc", "power", r.bmcOf(holder), "on", "--meanwhile")
	r.ready(5)
}

// holder finds the control plane that holds the API's address: by the network
// port that this computer just sent to.
func (r *rack) holder() fleet.ServerID {
	r.t.Helper()
	if out, err := r.kubectl("", "get", "--raw", "/readyz", "--request-timeout=5s"); err != nil {
		r.t.Fatal(annotate(err, out))
	}
	v := r.overview()
	u, err := url.Parse(v.Cluster.Endpoint)
	if err != nil {
		r.t.Fatal(err)
	}
	table, err := os.ReadFile("/proc/net/arp")
	if err != nil {
		r.t.Fatal(err)
	}
	var lab struct {
		Servers []struct{ Serial, MAC string }
	}
	if err := json.Unmarshal([]byte(r.must("lab", "status", "--name", r.lab, "--output", "json")), &lab); err != nil {
		r.t.Fatal(err)
	}
	for line := range strings.Lines(string(table)) {
		f := strings.Fields(line)
		for _, s := range lab.Servers {
			if len(f) > 3 && f[0] == u.Hostname() && strings.EqualFold(f[3], s.MAC) {
				return fleet.ServerID(s.Serial)
			}
		}
	}
	r.t.Fatalf("nobody is seen to hold %s:\n%s", u.Hostname(), table)
	return ""
}

func (r *rack) bmcOf(id fleet.ServerID) string {
	r.t.Helper()
	for _, s := range r.overview().Servers {
		if s.Server == id {
			return s.BMC
		}
	}
	r.t.Fatalf("no server %s", id)
	return ""
}

// grows adds the sixth server.
func (r *rack) grows() {
	r.t.Helper()
	begin := time.Now()
	fifth := r.bmcOf("LAB0005")
	sixth := strings.Replace(fifth, ".15:", ".16:", 1)
	r.must("node", "add", sixth, "--erase-disks", "1")
	r.ready(6)
	r.t.Logf("a sixth server was a ready node after %s", time.Since(begin).Round(time.Second))
	for _, s := range r.overview().Servers {
		if s.Server != "LAB0006" && s.Step != "kept as it is" {
			r.t.Errorf("%s was not kept: %s", s.Server, s.Step)
		}
	}
}

// shrinks takes a worker away, with its disk erased.
func (r *rack) shrinks() {
	r.t.Helper()
	begin := time.Now()
	host := ""
	for _, s := range r.overview().Servers {
		if s.Server == "LAB0004" {
			host = s.Hostname
		}
	}
	if _, code := r.try("node", "remove", host, "--confirm", "somebody-else"); code != exitDenied {
		r.t.Fatalf("removal confirmed with another name: exit %d", code)
	}
	r.must("node", "remove", host, "--erase", "--confirm", host)
	r.ready(5)
	r.t.Logf("a worker was taken away and erased after %s", time.Since(begin).Round(time.Second))
	if !r.seen("LAB0004", fleet.ActErase, fleet.Ended) {
		r.t.Error("the journal does not say what was erased")
	}
	r.servesWorkload(2)
}

// TestRealSingleNode brings up a cluster of one server.
func TestRealSingleNode(t *testing.T) {
	r := newRack(t, "single", 1, "--kubernetes")
	r.planned(1)
	begin := time.Now()
	r.must("apply", "--erase-disks", "1")
	t.Logf("a single node: ready after %s, %d MiB", time.Since(begin).Round(time.Second), r.memory())
	if !allReady(r.overview()) {
		t.Fatalf("%+v", r.overview())
	}
	r.ready(1)
	r.servesWorkload(2)
}
