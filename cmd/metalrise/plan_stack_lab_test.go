package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"metalrise.dev/fleet"
	"metalrise.dev/lab"
	"metalrise.dev/lab/machine"
)

// platform gives the depot's software manifests of KubeVirt and a guest.
func (d *depot) platform() {
	d.t.Helper()
	path := filepath.Join(d.software, "payload.json")
	text, err := os.ReadFile(path)
	if err != nil {
		d.t.Fatal(err)
	}
	var p fleet.Payload
	if err := json.Unmarshal(text, &p); err != nil {
		d.t.Fatal(err)
	}
	operator := []byte("apiVersion: v1\nkind: Namespace\nmetadata: {name: kubevirt}\n")
	d.put(filepath.Join(d.software, fleet.Blob(hexDigest(operator))), operator)
	p.Manifests = []fleet.PayloadManifest{{Component: fleet.ComponentKubeVirt, Name: "operator", Version: "v1.6.0", Digest: hexDigest(operator), Bytes: int64(len(operator))}}
	guest := fleet.PayloadImage{Name: "guest", References: []string{"metalrise.dev/guest:v1"}}
	archive := d.archive(guest.References)
	guest.Digest, guest.Bytes = hexDigest(archive), int64(len(archive))
	d.put(filepath.Join(d.software, fleet.Blob(guest.Digest)), archive)
	p.Images = append(p.Images, guest)
	if text, err = json.Marshal(p); err != nil {
		d.t.Fatal(err)
	}
	d.put(path, text)
}

// TestPlanOfPlatform plans the VM platform of emulated servers, from software on
// disk to what a person reads.
func TestPlanOfPlatform(t *testing.T) {
	d := newDepot(t)
	d.platform()
	l, err := lab.Start(t.Context(), lab.Config{Name: "platform", Dir: filepath.Join(d.dir, "lab"), Servers: 3, Machine: machine.Fake, Firmware: "uefi",
		Disks: 1, Personality: "standard", ImageDir: d.image, Software: d.software}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- l.Serve(ctx) }()
	defer func() { stop(); <-served }()
	at := []string{"-f", l.SitePath(), "--state", filepath.Join(d.dir, "state")}
	do := func(want int, args ...string) string { return d.here(want, append(args, at...)...) }
	do(exitOK, "discover")
	do(exitOK, "inspect")
	out := do(exitOK, "plan")
	for _, want := range []string{"VM platform, installed in this order", "kubevirt               v1.6.0", "instance-types         by metalrise", "volumes       class metalrise-local",
		"room          for", "proofs        start, migrate, network, volume, drain, fence", "not proven    snapshot: there is no VolumeSnapshotClass"} {
		if !strings.Contains(out, want) {
			t.Errorf("the plan lacks %q:\n%s", want, out)
		}
	}
	var made planReport
	if err := json.Unmarshal([]byte(do(exitOK, "plan", "--output", "json")), &made); err != nil {
		t.Fatal(err)
	}
	s := made.Plan.Stack
	if s == nil || s.Guest != "metalrise.dev/guest:v1" || len(s.Components) != 3 || len(s.Components[0].Manifests) != 1 {
		t.Fatalf("got %+v", s)
	}
	if on, set := made.Plan.Cluster.Gates["PodObservedGenerationTracking"]; on || !set {
		t.Errorf("gates %v", made.Plan.Cluster.Gates)
	}
	text, err := os.ReadFile(l.SitePath())
	if err != nil {
		t.Fatal(err)
	}
	d.put(l.SitePath(), append(text, "platform: {components: [kubevrit], skipProofs: [fence]}\n"...))
	if out := do(exitFindings, "plan"); !strings.Contains(out, "Did you mean kubevirt?") {
		t.Error(out)
	}
	d.put(l.SitePath(), append(text, "platform: {none: true}\n"...))
	if out := do(exitOK, "plan"); strings.Contains(out, "VM platform, installed") || !strings.Contains(out, "changed: VM platform: gone from the plan") {
		t.Error(out)
	}
}
