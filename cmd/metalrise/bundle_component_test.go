package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"metalrise.dev/fleet"
	"metalrise.dev/images"
)

const driverManifest = `apiVersion: storage.k8s.io/v1
kind: CSIDriver
metadata: {name: array.example.com}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: array, namespace: kube-system}
spec:
  template:
    spec:
      containers:
        - name: driver
          image: example.org/array:v2
        - name: registrar
          image: example.org/registrar:v1
`

// A storage maker's CSI driver gets into the software of nodes from its own
// files; a second time the first gives way.
func TestBundleComponent(t *testing.T) {
	d := newDepot(t)
	file := func(name, text string) string {
		path := filepath.Join(d.dir, name)
		d.put(path, []byte(text))
		return path
	}
	site := file("site.yaml", "apiVersion: metalrise.dev/v1alpha1\nkind: Site\nname: oslo\nbmcs:\n  addresses: [10.0.0.11]\n")
	driver, classes := file("driver.yaml", driverManifest), file("classes.yaml", "apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: {name: gold}\nprovisioner: array.example.com\n")
	one := file("one.tar", string(d.archive([]string{"example.org/array:v2"})))
	both := file("both.tar", string(d.archive([]string{"example.org/array:v2", "example.org/registrar:v1"})))
	args := func(more ...string) []string {
		return append([]string{"bundle", "component", "csi-driver", "--software", d.software, "--version", "v2"}, more...)
	}
	for want, bad := range map[string][]string{
		"is no component":         {"bundle", "component", "nothing", "--software", d.software, "--version", "v2", "--manifest", driver},
		"metalrise writes":        {"bundle", "component", "local-storage", "--software", d.software, "--version", "v2", "--manifest", driver},
		"at least one --manifest": args(),
	} {
		if out := d.here(exitUsage, bad...); !strings.Contains(out, want) {
			t.Errorf("%q: %s", want, out)
		}
	}
	for want, bad := range map[string][]string{
		"holds no objects":  args("--manifest", file("empty.yaml", "# nothing\n")),
		"neither index":     args("--manifest", driver, "--image", file("no.tar", strings.Repeat("\x00", 1024))),
		"is also":           args("--manifest", driver, "--image", one, "--image", both),
		"no such file":      args("--manifest", filepath.Join(d.dir, "away.yaml")),
		"not made of 1 to ": append(args("--manifest", driver), "--version", "v 2"),
	} {
		if out := d.here(exitFailed, bad...); !strings.Contains(out, want) {
			t.Errorf("%q: %s", want, out)
		}
	}
	var out, errs bytes.Buffer
	code := run(t.Context(), args("--manifest", driver, "--image", one, "--use", "-f", site), strings.NewReader(""), &out, &errs)
	if code != exitOK || !strings.Contains(errs.String(), "example.org/registrar:v1") || strings.Contains(errs.String(), "example.org/array") {
		t.Fatalf("exit %d: %s", code, errs.String())
	}
	p := d.softwareOf(site)
	if m := p.ManifestsOf(fleet.ComponentCSI); len(m) != 1 || m[0].Name != "driver" || m[0].Version != "v2" {
		t.Fatalf("%+v", m)
	}
	if i, ok := p.Image("csi-driver/1"); !ok || i.References[0] != "example.org/array:v2" || i.Component != fleet.ComponentCSI || len(p.Images) != 2 {
		t.Fatalf("%+v", p.Images)
	}
	if out := d.here(exitOK, "images", "list"); strings.Count(out, "kubeadm") != 1 { // what it began with is no entry
		t.Error(out)
	}
	first, _ := os.ReadFile(site)
	d.software = line(string(first), "software:")
	d.here(exitOK, args("--manifest", driver, "--manifest", classes, "--image", both, "--use", "-f", site)...)
	p = d.softwareOf(site)
	if m := p.ManifestsOf(fleet.ComponentCSI); len(m) != 2 || m[1].Name != "classes" || len(p.Images) != 2 || len(p.Images[1].References) != 2 {
		t.Fatalf("%+v %+v", m, p.Images)
	}
}

// softwareOf loads and verifies what a site file names.
func (d *depot) softwareOf(site string) fleet.Payload {
	d.t.Helper()
	text, err := os.ReadFile(site)
	if err != nil {
		d.t.Fatal(err)
	}
	p, err := images.LoadPayload(d.t.Context(), line(string(text), "software:"))
	if err != nil {
		d.t.Fatal(err)
	}
	if err := p.Verify(d.t.Context(), images.Verifier{Cache: d.t.TempDir()}, nil); err != nil {
		d.t.Fatal(err)
	}
	return p.Value()
}

// line gives what stands behind a key in a file of one value a line.
func line(text, key string) string {
	_, after, _ := strings.Cut(text, key)
	value, _, _ := strings.Cut(after, "\n")
	return strings.TrimSpace(value)
}
