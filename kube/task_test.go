package kube

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing them")

// shape is one kind of cluster under test.
type shape struct {
	name          string
	controlPlanes int
	endpoint      fleet.EndpointKind
	runtime       fleet.NodeRuntime
}

// shapes are all that the plan allows: several control planes need an address
// that is none of theirs.
func shapes() []shape {
	var out []shape
	for _, count := range []int{1, 3, 5} {
		for _, kind := range []fleet.EndpointKind{fleet.VirtualIP, fleet.LoadBalancer, fleet.NodeAddress} {
			if count > 1 && kind == fleet.NodeAddress {
				continue
			}
			for _, r := range []fleet.NodeRuntime{hardware(), container()} {
				out = append(out, shape{fmt.Sprintf("%d-%s-cgroup%d", count, kind, r.CgroupVersion), count, kind, r})
			}
		}
	}
	return out
}

// tasks are all tasks of the nodes that differ: the first control plane, another
// one and a worker.
func (s shape) tasks(t testing.TB) map[string]callhome.Task {
	t.Helper()
	p := testPlan(t, s.controlPlanes, s.endpoint)
	a := testAuthority(t, p)
	out := map[string]callhome.Task{}
	made := func(name string) func(callhome.Task, error) {
		return func(task callhome.Task, err error) {
			if err != nil {
				t.Fatalf("%s of %s: %v", name, s.name, err)
			}
			out[name] = task
		}
	}
	for i, host := range []string{"oslo-cp1", "oslo-cp2", "oslo-w1"} {
		if s.controlPlanes == 1 && i > 0 {
			break
		}
		n := testNode(t, p, host, s.runtime)
		made(fmt.Sprintf("%d-1-prepare %s", i, host))(Prepare(n))
		if i == 0 {
			made(fmt.Sprintf("%d-2-begin %s", i, host))(Begin(n, a))
		} else {
			made(fmt.Sprintf("%d-2-join %s", i, host))(Join(n, a, testToken))
		}
		made(fmt.Sprintf("%d-3-reset %s", i, host))(Reset(n))
	}
	return out
}

// write gives a task as text: files with their content, but for the authority's.
func write(b *strings.Builder, name string, t callhome.Task) {
	fmt.Fprintf(b, "######## %s: %s, %q\n", name, t.ID, t.Name)
	for _, s := range t.Steps {
		fmt.Fprintf(b, "== %s: ", s.Name)
		switch {
		case s.Fetch != nil:
			fmt.Fprintf(b, "fetch %.20s… (%d) to %s, mode %o\n", s.Fetch.Path, s.Fetch.Bytes, s.Fetch.To, s.Fetch.Mode)
		case s.File != nil && s.File.Target != "":
			fmt.Fprintf(b, "link %s to %s\n", s.File.To, s.File.Target)
		case s.File != nil:
			fmt.Fprintf(b, "file %s, mode %o\n", s.File.To, s.File.Mode)
			if strings.HasPrefix(s.File.To, pkiDir) {
				b.WriteString(strings.SplitN(string(s.File.Data), "\n", 2)[0] + "\n")
			} else {
				b.Write(s.File.Data)
			}
		case s.Image != nil:
			fmt.Fprintf(b, "image %s\n", strings.Join(s.Image.References, " "))
		case s.Unit != nil:
			fmt.Fprintf(b, "unit %s %s\n", s.Unit.Verb, s.Unit.Name)
		case s.Run != nil:
			fmt.Fprintf(b, "run %s (%s) unless %q\n", strings.Join(s.Run.Argv, " "), s.Run.Timeout, s.Run.Unless)
		case s.Claim != nil:
			fmt.Fprintf(b, "claim %s on %s\n", s.Claim.Address, s.Claim.MAC)
		case s.Gone != nil:
			fmt.Fprintf(b, "gone %s\n", s.Gone.Path)
		}
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(got, want) {
		return
	}
	g, w := strings.Split(string(got), "\n"), strings.Split(string(want), "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			t.Fatalf("%s, line %d (if that is meant: go test ./kube -update)\nwant: %s\ngot:  %s", path, i+1, w[i], g[i])
		}
	}
	t.Fatalf("%s: %d lines, want %d", path, len(g), len(w))
}

func TestGoldenTasks(t *testing.T) {
	for _, s := range shapes() {
		t.Run(s.name, func(t *testing.T) {
			var b strings.Builder
			all := s.tasks(t)
			for _, name := range sorted(all) {
				write(&b, name, all[name])
			}
			golden(t, s.name+".txt", []byte(b.String()))
		})
	}
}

func sorted[V any](m map[string]V) []string {
	var names []string
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// each calls f with every task of every shape.
func each(t *testing.T, f func(t *testing.T, s shape, name string, task callhome.Task)) {
	for _, s := range shapes() {
		for name, task := range s.tasks(t) {
			t.Run(s.name+"/"+name, func(t *testing.T) { f(t, s, name, task) })
		}
	}
}

func TestStepsAreWellFormed(t *testing.T) {
	each(t, func(t *testing.T, _ shape, _ string, task callhome.Task) {
		if task.ID == "" || len(task.ID) > 100 || strings.Trim(task.ID, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || task.Name == "" {
			t.Errorf("ID %q, name %q", task.ID, task.Name)
		}
		for _, s := range task.Steps {
			kinds := 0
			for _, set := range []bool{s.Fetch != nil, s.File != nil, s.Image != nil, s.Unit != nil, s.Run != nil, s.Claim != nil, s.Gone != nil} {
				if set {
					kinds++
				}
			}
			if kinds != 1 || s.Name == "" {
				t.Errorf("step %q has %d kinds", s.Name, kinds)
			}
			if s.Run != nil && (s.Run.Timeout <= 0 || !filepath.IsAbs(s.Run.Argv[0])) {
				t.Errorf("step %q: %+v", s.Name, s.Run)
			}
			if s.File != nil && (!filepath.IsAbs(s.File.To) || s.File.Target == "" && s.File.Mode == 0) {
				t.Errorf("step %q: to %q, mode %o", s.Name, s.File.To, s.File.Mode)
			}
		}
	})
}

// Everything that a step runs, starts or points to was put there before, by this
// task or by prepare, or belongs to the system.
func TestNothingIsUsedBeforeItIsThere(t *testing.T) {
	for _, s := range shapes() {
		all := s.tasks(t)
		there := map[string]bool{shell: true}
		for _, name := range sorted(all) {
			if strings.Contains(name, "prepare") {
				there = map[string]bool{shell: true}
			}
			for _, step := range all[name].Steps {
				switch {
				case step.Fetch != nil:
					there[step.Fetch.To] = true
				case step.File != nil:
					if target := step.File.Target; target != "" && !there[target] {
						t.Errorf("%s: %q points to nothing", name, step.Name)
					}
					there[step.File.To] = true
				case step.Run != nil:
					for _, a := range step.Run.Argv {
						if strings.HasPrefix(a, ownDir+"/") && a != step.Run.Unless && !there[a] {
							t.Errorf("%s: %q needs %s, which is not there", name, step.Name, a)
						}
					}
				case step.Unit != nil && step.Unit.Name != "":
					if !there["/etc/systemd/system/"+step.Unit.Name] {
						t.Errorf("%s: %q before the unit is there", name, step.Name)
					}
				}
			}
		}
	}
}

func TestSecretsAreForRootAlone(t *testing.T) {
	each(t, func(t *testing.T, _ shape, name string, task callhome.Task) {
		for _, s := range task.Steps {
			if s.Run != nil && strings.Contains(strings.Join(s.Run.Argv, " "), "0123456789abcdef") {
				t.Errorf("the token is an argument of %q", s.Name)
			}
			if strings.Contains(s.Name, "0123456789abcdef") {
				t.Errorf("the token is in the name %q", s.Name)
			}
			if s.File == nil {
				continue
			}
			secret := bytes.Contains(s.File.Data, []byte("PRIVATE KEY")) || bytes.Contains(s.File.Data, []byte("0123456789abcdef"))
			if secret && s.File.Mode != 0o600 {
				t.Errorf("%s has mode %o", s.File.To, s.File.Mode)
			}
			if secret && strings.Contains(name, "prepare") {
				t.Errorf("a secret in %s", s.File.To)
			}
		}
		// Workers never see the authority's keys.
		if strings.Contains(name, "oslo-w") {
			for _, s := range task.Steps {
				if s.File != nil && strings.HasPrefix(s.File.To, pkiDir) {
					t.Errorf("a worker is given %s", s.File.To)
				}
			}
		}
	})
}

func TestTheTokenGoesAway(t *testing.T) {
	p := testPlan(t, 3, fleet.VirtualIP)
	task, err := Join(testNode(t, p, "oslo-w1", hardware()), testAuthority(t, p), testToken)
	if err != nil {
		t.Fatal(err)
	}
	last := task.Steps[len(task.Steps)-1]
	if last.Gone == nil || last.Gone.Path != joinConfig {
		t.Errorf("the last step is %+v", last)
	}
}

func TestSameInputSameTasks(t *testing.T) {
	for _, s := range shapes() {
		first, second := s.tasks(t), s.tasks(t)
		for name := range first {
			a, _ := fleet.Digest(first[name])
			if b, _ := fleet.Digest(second[name]); a != b {
				t.Errorf("%s of %s differs between two makes", name, s.name)
			}
		}
	}
}

func TestOnlyImagesOfTheRole(t *testing.T) {
	p := testPlan(t, 3, fleet.VirtualIP)
	has := func(host string) bool {
		task, err := Prepare(testNode(t, p, host, hardware()))
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(task.Steps, func(s callhome.Step) bool {
			return s.Image != nil && strings.Contains(strings.Join(s.Image.References, " "), "keepalived")
		})
	}
	if !has("oslo-cp1") || has("oslo-w1") {
		t.Errorf("keepalived on a control plane: %t, on a worker: %t", has("oslo-cp1"), has("oslo-w1"))
	}
}

// The address is probed before anything else of Begin, and only where it is ours.
func TestClaimComesFirst(t *testing.T) {
	for _, s := range shapes() {
		p := testPlan(t, s.controlPlanes, s.endpoint)
		n := testNode(t, p, "oslo-cp1", s.runtime)
		task, err := Begin(n, testAuthority(t, p))
		if err != nil {
			t.Fatal(err)
		}
		claims := task.Steps[0].Claim != nil && task.Steps[0].Claim.Address == "10.0.1.20"
		if claims != (s.endpoint == fleet.VirtualIP) {
			t.Errorf("%s: first step %+v", s.name, task.Steps[0])
		}
	}
}

func TestKubeletSettings(t *testing.T) {
	p := testPlan(t, 3, fleet.VirtualIP)
	for _, c := range []struct {
		host    string
		runtime fleet.NodeRuntime
		want    map[string]string
	}{
		{"oslo-cp1", hardware(), map[string]string{"failSwapOn": "true", "failCgroupV1": "<nil>", "oomScoreAdj": "<nil>", "cpuManagerPolicy": "<nil>"}},
		{"oslo-cp1", container(), map[string]string{"failSwapOn": "false", "failCgroupV1": "false", "oomScoreAdj": "0"}},
		{"oslo-w1", hardware(), map[string]string{"cpuManagerPolicy": "static", "systemReserved": "map[cpu:500m memory:1Gi]"}},
		{"oslo-w1", fleet.NodeRuntime{CgroupVersion: 1, MayLowerOOM: true}, map[string]string{"failCgroupV1": "false", "oomScoreAdj": "<nil>"}},
	} {
		got := testNode(t, p, c.host, c.runtime).kubeletPatch()
		for key, want := range c.want {
			if fmt.Sprint(got[key]) != want {
				t.Errorf("%s on %+v: %s is %v, want %s", c.host, c.runtime, key, got[key], want)
			}
		}
	}
}

// The static CPU manager does not start without something that is reserved, and
// the plan's own map is not changed.
func TestStaticCPUsReserveSomething(t *testing.T) {
	p := testPlan(t, 3, fleet.VirtualIP)
	n := testNode(t, p, "oslo-w1", hardware())
	n.Assignment.Node.SystemReserved = nil
	if got := fmt.Sprint(n.kubeletPatch()["systemReserved"]); got != "map[cpu:500m]" {
		t.Errorf("systemReserved %s", got)
	}
	n.Assignment.Node.SystemReserved = map[string]string{"memory": "2Gi"}
	n.kubeletPatch()
	if len(n.Assignment.Node.SystemReserved) != 1 {
		t.Errorf("the plan was changed: %v", n.Assignment.Node.SystemReserved)
	}
}

func TestFeatureGatesReachAllParts(t *testing.T) {
	p := testPlan(t, 3, fleet.VirtualIP)
	n := testNode(t, p, "oslo-cp1", hardware())
	n.Gates = map[string]bool{"PodObservedGenerationTracking": false, "A": true}
	config, err := n.initDocuments()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(string(config), "A=true,PodObservedGenerationTracking=false"); got != 3 {
		t.Errorf("%d of API server, controllers and scheduler have them", got)
	}
	if got := strings.Count(string(config), "PodObservedGenerationTracking: false"); got != 2 {
		t.Errorf("%d of kubelet and kube-proxy have them", got)
	}
}

// Taints are written also where there are none, or kubeadm would add its own.
func TestNoTaintsIsSaid(t *testing.T) {
	p := testPlan(t, 1, fleet.NodeAddress)
	config, err := testNode(t, p, "oslo-cp1", hardware()).initDocuments()
	if err != nil || !strings.Contains(string(config), "taints: []") {
		t.Errorf("%v\n%s", err, config)
	}
}

func TestDocumentsAreYAML(t *testing.T) {
	each(t, func(t *testing.T, _ shape, _ string, task callhome.Task) {
		for _, s := range task.Steps {
			if s.File == nil || !strings.HasSuffix(s.File.To, ".yaml") {
				continue
			}
			for doc := range strings.SplitSeq(string(s.File.Data), "---\n") {
				var v map[string]any
				if err := yaml.UnmarshalStrict([]byte(doc), &v); err != nil || len(v) == 0 {
					t.Errorf("%s: %v", s.File.To, err)
				}
			}
		}
	})
}
