package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"metalrise.dev/fleet"
)

// TestRealRegistry brings up a single node, takes an image of its software away
// from containerd, and wants a pod to get it back from the engine: there is no
// other registry in that network.
func TestRealRegistry(t *testing.T) {
	r := newRack(t, "registry", 1, "--kubernetes")
	r.planned(1)
	r.must("apply", "--erase-disks", "1")
	host := r.overview().Servers[0].Hostname
	t.Logf("%s is ready", host)
	r.try("stop")
	log, err := os.Create(filepath.Join(t.TempDir(), "engine.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	engine := exec.Command(r.bin, "engine", "--stay", "-f", r.site, "--state", r.state)
	engine.Stderr = log
	if err := engine.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { r.try("stop"); _ = engine.Wait() }()
	r.await(time.Minute, "the engine runs", func(v fleet.Overview) bool { return v.Engine && allSettled(v) })

	const image = "metalrise.dev/echo:1"
	pulling := strings.ReplaceAll(workload, "imagePullPolicy: Never", "imagePullPolicy: IfNotPresent")
	if out := r.inside(host, "cat", "/etc/containerd/certs.d/metalrise.dev/hosts.toml"); !strings.Contains(out, `capabilities = ["pull", "resolve"]`) {
		t.Fatalf("hosts.toml: %s", out)
	}
	digest := ""
	for line := range strings.Lines(r.inside(host, "ctr", "-n", "k8s.io", "images", "ls", "name=="+image)) {
		if f := strings.Fields(line); len(f) > 2 && f[0] == image {
			digest = f[2]
		}
	}
	if digest == "" {
		t.Fatalf("%s is not there", image)
	}
	var names []string
	for line := range strings.Lines(r.inside(host, "ctr", "-n", "k8s.io", "images", "ls")) {
		if f := strings.Fields(line); len(f) > 2 && f[2] == digest {
			names = append(names, f[0])
		}
	}
	r.inside(host, append([]string{"ctr", "-n", "k8s.io", "images", "rm", "--sync"}, names...)...)
	if out := r.inside(host, "ctr", "-n", "k8s.io", "images", "ls", "-q"); strings.Contains(out, "echo") {
		t.Fatalf("still there: %s", out)
	}
	begin := time.Now()
	r.eventually(time.Minute, "apply the workload", func() error {
		out, err := r.kubectl(pulling, "apply", "-f", "-")
		return annotate(err, out)
	})
	r.eventually(2*time.Minute, "roll out the workload", func() error {
		out, err := r.kubectl("", "rollout", "status", "deployment/echo", "--timeout=5s")
		return annotate(err, out)
	})
	pulled := ""
	r.eventually(time.Minute, "the kubelet says that it pulled", func() error {
		out, err := r.kubectl("", "get", "events", "--field-selector", "reason=Pulled", "-o", "custom-columns=M:.message", "--no-headers")
		for line := range strings.Lines(out) {
			if strings.Contains(line, "Successfully pulled image") {
				pulled = strings.TrimSpace(line)
			}
		}
		if pulled == "" {
			return annotate(fmt.Errorf("no such event: %w", err), out)
		}
		return nil
	})
	t.Logf("running again after %s: %s", time.Since(begin).Round(time.Second), pulled)
	b, err := os.ReadFile(log.Name())
	if err != nil || !strings.Contains(string(b), "/v2/echo/manifests/1") {
		t.Errorf("the engine was not asked (%v):\n%s", err, b)
	}
	t.Logf("the engine was asked %d times", strings.Count(string(b), "image asked for"))
}

// inside runs a program in a container machine that is a node, found by its host
// name, with containerd's own folder in the search path.
func (r *rack) inside(hostname string, argv ...string) string {
	r.t.Helper()
	found, err := filepath.Glob("/proc/[0-9]*/root/etc/containerd/config.toml")
	if err != nil {
		r.t.Fatal(err)
	}
	for _, path := range found {
		pid := strings.Split(path, "/")[2]
		name, err := os.ReadFile("/proc/" + pid + "/root/etc/hostname")
		if err != nil || strings.TrimSpace(string(name)) != hostname {
			continue
		}
		if comm, err := os.ReadFile("/proc/" + pid + "/comm"); err != nil || strings.TrimSpace(string(comm)) != "containerd" {
			continue
		}
		args := append([]string{"-t", pid, "-m", "-n", "-p", "--", "/usr/bin/env", "PATH=/opt/metalrise/bin:/opt/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"}, argv...)
		out, err := exec.Command("nsenter", args...).CombinedOutput()
		if err != nil {
			r.t.Fatalf("%s in %s: %v\n%s", strings.Join(argv, " "), hostname, err, out)
		}
		return string(out)
	}
	r.t.Fatalf("no containerd runs in %s", hostname)
	return ""
}
