package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"metalrise.dev/fleet"
	"metalrise.dev/kube"
	"metalrise.dev/kube/vmstack"
	"metalrise.dev/provision"
	"metalrise.dev/provision/store"
)

// builtSite is a site file and the state of two servers that are ready, with a
// VM platform of which all but the fence is proven.
func builtSite(t *testing.T) (file, dir string) {
	t.Helper()
	folder := t.TempDir()
	file, dir = filepath.Join(folder, "site.yaml"), filepath.Join(folder, "state")
	site := `apiVersion: metalrise.dev/v1alpha1
kind: Site
name: osaka
bmcs: {addresses: [10.0.9.11], username: admin, password: {file: pw}}
network: {firstAddress: 10.0.1.21/24}
image: /srv/image
`
	for name, text := range map[string]string{"site.yaml": site, "pw": "hunter2-of-osaka\n"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	st, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	p := builtPlan(t)
	ctx := context.Background()
	if err := st.KeepPlan(ctx, p); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Secret("tokens"); err != nil {
		t.Fatal(err)
	}
	for i, a := range p.Assignments {
		f := fleet.Facts{Source: fleet.SeenByBMC, At: time.Now(), Identity: a.Identity, Manufacturer: fleet.Known("Acme|<b>"), Model: fleet.Known("R1"), BIOSVersion: fleet.Known("2.1"),
			BMCFirmware: fleet.Known("7.0"), NICs: []fleet.NIC{{MAC: a.Network.MAC, Name: "eno1"}}, Disks: []fleet.Disk{{Serial: a.InstallDisk.Serial}}}
		address := []string{"10.0.9.11:443", "10.0.9.12:443"}[i]
		if err := st.KeepServers(ctx, address, []fleet.Server{{Identity: a.Identity, ID: a.Server, BMC: a.BMC}}, []fleet.Facts{f}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := st.Append(ctx, builtEvents(t, p)...); err != nil {
		t.Fatal(err)
	}
	return file, dir
}

func builtPlan(t *testing.T) fleet.Plan {
	t.Helper()
	p := fleet.Plan{Site: "osaka", Image: fleet.ImageRef{Stream: "stable", Version: "42.1"},
		Cluster: &fleet.ClusterPlan{Flavour: fleet.Kubeadm, Version: "v1.34.4", Endpoint: fleet.APIEndpoint{Kind: fleet.VirtualIP, Address: "10.0.1.20", Port: 6443}},
		Stack: &fleet.StackPlan{Guest: "registry.example/guest:1", Components: []fleet.ComponentPlan{{Name: fleet.ComponentKubeVirt, Version: "v1.6.0"},
			{Name: fleet.ComponentInstanceTypes}, {Name: fleet.ComponentForklift, Version: "v2", Unproven: "nobody saw it work"}},
			Proofs:   []fleet.ProofPlan{{Name: fleet.ProofStart}, {Name: fleet.ProofSnapshot, Skip: "no snapshot class"}, {Name: fleet.ProofFence}},
			Capacity: fleet.Capacity{VCPUs: 4, MemoryMiB: 16384, VMs: 5, WithoutOne: 3}}}
	for i, host := range []string{"osaka-cp1", "osaka-w1"} {
		role := []fleet.Role{fleet.ControlPlane, fleet.Worker}[i]
		serial := []string{"SN1", "SN2"}[i]
		p.Assignments = append(p.Assignments, fleet.Assignment{Server: fleet.ServerID(serial), Identity: fleet.Identity{Serial: serial}, Role: role, Hostname: host,
			BMC: fleet.Endpoint{Address: "10.0.9.1" + serial[2:]}, Network: fleet.Network{MAC: "52:54:00:00:00:0" + serial[2:], Address: "10.0.1.2" + serial[2:] + "/24"},
			InstallDisk: fleet.DiskRef{Serial: "D" + serial, Model: "Disk"}, Node: &fleet.NodePlan{Name: host, Initial: i == 0}})
	}
	if err := p.Seal(); err != nil {
		t.Fatal(err)
	}
	return p
}

func builtEvents(t *testing.T, p fleet.Plan) []fleet.Event {
	t.Helper()
	at := time.Now().Add(-time.Hour).Truncate(time.Second)
	var out []fleet.Event
	add := func(e fleet.Event, data any) {
		at = at.Add(30 * time.Second)
		e.At, e.Plan = at, p.ID
		var err error
		if e.Data, err = json.Marshal(data); err != nil {
			t.Fatal(err)
		}
		out = append(out, e)
	}
	end := func(s fleet.ServerID, a fleet.Action, data any) {
		add(fleet.Event{Server: s, Action: a, Edge: fleet.Ended, Outcome: fleet.OK, Attempt: 1}, data)
	}
	end("", fleet.ActConsent, fleet.Consent{Plan: p.ID, EraseDisks: 2, By: "anna"})
	for i, a := range p.Assignments {
		end(a.Server, fleet.ActStage, struct{}{})
		end(a.Server, fleet.ActHello, provision.Bound{Key: "k"})
		end(a.Server, fleet.ActWrite, struct{}{})
		end(a.Server, fleet.ActArrive, fleet.KVM{Usable: true})
		end(a.Server, fleet.ActPrepare, struct{}{})
		end(a.Server, []fleet.Action{fleet.ActBegin, fleet.ActJoin}[i], struct{}{})
		end(a.Server, fleet.ActBase, struct{}{})
		end(a.Server, fleet.ActAdmit, struct{}{})
		end(a.Server, fleet.ActReady, struct{}{})
		end(a.Server, fleet.ActFinish, struct{}{})
	}
	step := func(name provision.StepName, action fleet.Action, r *fleet.ProofResult, version string) {
		d := provision.StepData{StepName: name, Cluster: p.ID, Version: version}
		add(fleet.Event{Action: action, Edge: fleet.Began}, d)
		d.Result = r
		add(fleet.Event{Action: action, Edge: fleet.Ended, Outcome: fleet.OK}, d)
	}
	for _, c := range p.Stack.Components {
		step(provision.StepName{Component: c.Name}, fleet.ActComponent, nil, c.Version)
	}
	step(provision.StepName{Proof: fleet.ProofStart}, fleet.ActProve, &fleet.ProofResult{Words: []string{"each guest spoke"}, Measured: map[string]float64{"startSeconds": 7},
		VMs: []fleet.VMSight{{Name: "start-1", Node: "osaka-w1", Guest: "alive"}}}, "")
	add(fleet.Event{Action: fleet.ActRetry, Edge: fleet.Ended, Outcome: fleet.OK}, map[string]any{"cluster": p.ID, "by": "anna", "waive": []string{"fence"}})
	add(fleet.Event{Action: fleet.ActHandOver, Edge: fleet.Ended, Outcome: fleet.OK}, provision.StepData{Cluster: p.ID})
	return out
}

// built runs a command as a person would.
func built(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(t.Context(), args, strings.NewReader(""), &o, &e)
	return code, o.String(), e.String()
}

func TestAsBuiltReport(t *testing.T) {
	file, _ := builtSite(t)
	dir := filepath.Join(filepath.Dir(file), "state")
	to := t.TempDir()
	code, out, errs := built(t, "report", "as-built", to, "-f", file, "--state", dir)
	if code != exitOK {
		t.Fatalf("exit %d: %s%s", code, out, errs)
	}
	for name, wants := range map[string][]string{
		builtJSON:     {`"erasedDisk"`, `"DSN1"`, "52:54:00:00:00:01", `"bios": "2.1"`, `"startSeconds": 7`, "waived by anna", `"to": "disk written"`, "nobody saw it work"},
		builtMarkdown: {"# As-built report of site osaka", "serial DSN2", "Acme\\|&lt;b>", "ERASED and written", "not run: waived by anna", "UNPROVEN", "each guest spoke"},
		builtHTML:     {"<h1>As-built report of site osaka</h1>", "Acme|&lt;b&gt; R1", "@media print", "SN2"},
	} {
		b, err := os.ReadFile(filepath.Join(to, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range wants {
			if !strings.Contains(string(b), want) {
				t.Errorf("%s lacks %q", name, want)
			}
		}
		for _, never := range []string{"hunter2", "http://", "<script", "src="} {
			if strings.Contains(string(b), never) {
				t.Errorf("%s has %q", name, never)
			}
		}
	}
	report := filepath.Join(to, builtJSON)
	if code, out, errs := built(t, "report", "verify", report, "-f", file, "--state", dir); code != exitOK || !strings.Contains(out, "SHA256:") {
		t.Errorf("exit %d: %s%s", code, out, errs)
	}
	b, _ := os.ReadFile(report)
	if err := os.WriteFile(report, bytes.Replace(b, []byte("DSN1"), []byte("DSN9"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := built(t, "report", "verify", report, "-f", file, "--state", dir); code != exitFailed || !strings.Contains(errs, "damaged or changed") {
		t.Errorf("a changed report passed: exit %d: %s", code, errs)
	}
}

func TestHandOffPage(t *testing.T) {
	file, dir := builtSite(t)
	code, out, errs := built(t, "handover", "-f", file, "--state", dir)
	if code != exitOK {
		t.Fatalf("exit %d: %s%s", code, out, errs)
	}
	for _, want := range []string{"HAND-OFF of site osaka", "https://10.0.1.20:6443", filepath.Join(dir, "kubeconfig"), "UNPROVEN: nobody saw it work", "start 7 s",
		"not proven: no snapshot class", "not proven: waived by anna", "osaka-w1 A 10.0.1.22", "kind: VirtualMachine", "u1.nano", filepath.Join(dir, builtJSON)} {
		if !strings.Contains(out, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if t.Failed() {
		t.Log(out)
	}
	code, out, _ = built(t, "status", "-f", file, "--state", dir)
	if code != exitOK || !strings.Contains(out, "VM platform: 4 of 6 steps done, 2 left out") || !strings.Contains(out, "waived by anna") {
		t.Errorf("status, exit %d:\n%s", code, out)
	}
}

func TestFirstVMManifest(t *testing.T) {
	p := *builtPlan(t).Stack
	for name, change := range map[string]func(){
		"as planned": func() {}, "no sizes": func() { p.Components = p.Components[:1] }, "no guest": func() { p.Guest = "" },
	} {
		change()
		var v struct {
			Kind string
			Spec struct {
				Instancetype *struct{ Name string }
				Template     struct {
					Spec struct {
						Domain struct {
							Memory   *struct{ Guest string }
							Firmware *struct {
								KernelBoot struct{ Container struct{ Image string } }
							}
							Devices struct{ Disks []any }
						}
						Volumes []any
					}
				}
			}
		}
		if err := yaml.Unmarshal([]byte(firstVMManifest(p)), &v); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, firstVMManifest(p))
		}
		d := v.Spec.Template.Spec.Domain
		if v.Kind != "VirtualMachine" || (v.Spec.Instancetype == nil) == (d.Memory == nil) || (d.Firmware == nil) != (len(d.Devices.Disks) == 1) || len(d.Devices.Disks) != len(v.Spec.Template.Spec.Volumes) {
			t.Errorf("%s: %+v", name, v)
		}
	}
}

// What is pasted ends by itself, with the guest's words, and leaves the VM running.
func TestFirstVMIsPasted(t *testing.T) {
	p := *builtPlan(t).Stack
	dir := t.TempDir()
	tool := filepath.Join(dir, "my tools", "kubectl")
	if err := os.MkdirAll(filepath.Dir(tool), 0o755); err != nil {
		t.Fatal(err)
	}
	// Its guest speaks at the third look, as one does that still boots when KubeVirt calls it Ready.
	script := "#!/bin/bash\necho \"$KUBECONFIG $1 $2 $3\" >> " + dir + "/calls\ncase $1 in apply) cat > " + dir + "/applied;; logs) [ $(grep -c logs " + dir + "/calls) -ge 2 ] && echo heard;; esac; true\n"
	if err := os.WriteFile(tool, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("bash", "-e", "-c", firstVM(p, dir+"/it's", tool)+firstVMRemoved(tool)).CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "heard" {
		t.Fatalf("%v\n%s", err, out)
	}
	applied, err := os.ReadFile(filepath.Join(dir, "applied"))
	if err != nil || string(applied) != firstVMManifest(p) {
		t.Errorf("%v, applied:\n%s", err, applied)
	}
	calls, err := os.ReadFile(filepath.Join(dir, "calls"))
	k := dir + "/it's "
	want := k + "apply -f -\n" + k + "wait --for=condition=Ready vm/first-vm\n" + strings.Repeat(k+"logs -l vm.kubevirt.io/name=first-vm\n", 2) + k + "delete vm first-vm\n"
	if err != nil || string(calls) != want {
		t.Errorf("%v, calls\n%s\nwant\n%s", err, calls, want)
	}
}

func TestDrift(t *testing.T) {
	_, dir := builtSite(t)
	st, err := store.OpenReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	ctx := context.Background()
	view, err := provision.Recall(ctx, st, st)
	if err != nil {
		t.Fatal(err)
	}
	b, err := build(ctx, st, view, time.Now())
	if err != nil || b.HandedOver.IsZero() {
		t.Fatalf("%v, handed over %v", err, b.HandedOver)
	}
	good := func() sighted {
		return sighted{NodesKnown: true, StackKnown: true,
			Nodes: []kube.NodeSeen{{Name: "osaka-cp1", Address: "10.0.1.21", Kubelet: "v1.34.4", Ready: true}, {Name: "osaka-w1", Address: "10.0.1.22", Kubelet: "v1.34.4", Ready: true}},
			Components: []vmstack.Installed{{Component: fleet.ComponentKubeVirt, Version: "v1.6.0", Observed: "v1.6.0", Ready: true},
				{Component: fleet.ComponentInstanceTypes, Ready: true}, {Component: fleet.ComponentForklift, Version: "v2", Ready: true}},
			Facts: map[fleet.ServerID]fleet.Facts{"SN1": {Source: fleet.SeenByBMC, BIOSVersion: fleet.Known("2.1"), NICs: []fleet.NIC{{MAC: "52:54:00:00:00:01"}}, Disks: []fleet.Disk{{Serial: "DSN1"}}}}}
	}
	if d := drift(b, good()); len(d) != 0 {
		t.Errorf("differences without a cause: %q", d)
	}
	for want, change := range map[string]func(*sighted){
		"node osaka-w1 is gone": func(s *sighted) { s.Nodes = s.Nodes[:1] },
		"osaka-w1 is not ready": func(s *sighted) { s.Nodes[1].Ready = false },
		"node osaka-w1: addresses of Services do not answer": func(s *sighted) {
			s.Nodes[1].Services = &fleet.Check{Name: fleet.CheckServices, Missing: "addresses of Services do not answer from it"}
		},
		"another kubelet: was v1.34.4":           func(s *sighted) { s.Nodes[0].Kubelet = "v1.35.0" },
		"another address":                        func(s *sighted) { s.Nodes[0].Address = "10.0.1.99" },
		"node x was not there":                   func(s *sighted) { s.Nodes = append(s.Nodes, kube.NodeSeen{Name: "x", Ready: true}) },
		"component kubevirt is gone":             func(s *sighted) { s.Components = s.Components[1:] },
		"runs another version: was v1.6.0":       func(s *sighted) { s.Components[0].Observed = "v1.7.0" },
		"kubevirt is not ready":                  func(s *sighted) { s.Components[0].Ready = false },
		"component cdi was not there":            func(s *sighted) { s.Components = append(s.Components, vmstack.Installed{Component: "cdi"}) },
		"another BIOS: was 2.1, was seen as 2.2": func(s *sighted) { f := s.Facts["SN1"]; f.BIOSVersion = fleet.Known("2.2"); s.Facts["SN1"] = f },
		"lacks its install disk":                 func(s *sighted) { f := s.Facts["SN1"]; f.Disks = []fleet.Disk{{Serial: "X"}}; s.Facts["SN1"] = f },
		"lacks the port 52:54:00:00:00:01": func(s *sighted) {
			f := s.Facts["SN1"]
			f.NICs = []fleet.NIC{{MAC: "02:00:00:00:00:09"}}
			s.Facts["SN1"] = f
		},
	} {
		now := good()
		change(&now)
		d := drift(b, now)
		if len(d) != 1 || !strings.Contains(d[0], want) {
			t.Errorf("want %q, got %q", want, d)
			continue
		}
		accepted := b
		accepted.Accepted = []builtAccepted{{Differences: d}}
		if left := drift(accepted, now); len(left) != 0 {
			t.Errorf("accepted, and still told: %q", left)
		}
	}
}

// TestVerifyTellsWhatItCannotSee: without an API nothing is claimed.
func TestVerifyTellsWhatItCannotSee(t *testing.T) {
	file, dir := builtSite(t)
	code, out, errs := built(t, "verify", "-f", file, "--state", dir)
	if code != exitFailed || strings.Contains(out, "nothing differs") {
		t.Errorf("exit %d: %s%s", code, out, errs)
	}
	if _, err := os.Stat(filepath.Join(dir, builtJSON)); err != nil {
		t.Error("no report was kept")
	}
	if err := os.WriteFile(filepath.Join(dir, builtJSON+".sig"), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := built(t, "verify", "-f", file, "--state", dir); code != exitFailed || !strings.Contains(errs, "signature") {
		t.Errorf("exit %d: %s", code, errs)
	}
}
