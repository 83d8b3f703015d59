package platform

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"metalrise.dev/images"
)

// Names of one image start different programs of the same layers, and the image
// of each name says which.
func TestOneImageStartsManyPrograms(t *testing.T) {
	i := sample(t)
	i.starts = map[string][]string{"example.org/y:1": {"/usr/bin/other", "-v"}}
	i.references = append(i.references, "example.org/z:1")
	var archive bytes.Buffer
	references, err := i.write(&archive, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if len(references) != 4 { // one by its digest
		t.Errorf("references %q", references)
	}
	all := members(t, &archive)
	names, err := images.ParseIndex(all["index.json"].content)
	if err != nil {
		t.Fatal(err)
	}
	type manifest struct {
		Config descriptor
		Layers []descriptor
	}
	read := func(name string) (m manifest, start []string) {
		t.Helper()
		var c struct{ Config struct{ Entrypoint []string } }
		if err := json.Unmarshal(all[blob(names[name].Digest.String())].content, &m); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := json.Unmarshal(all[blob(m.Config.Digest)].content, &c); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return m, c.Config.Entrypoint
	}
	x, startX := read("example.org/x:1")
	y, startY := read("example.org/y:1")
	z, _ := read("example.org/z:1")
	if !reflect.DeepEqual(startX, []string{"/usr/bin/p"}) || !reflect.DeepEqual(startY, []string{"/usr/bin/other", "-v"}) {
		t.Errorf("they start %q and %q", startX, startY)
	}
	if !reflect.DeepEqual(x.Layers, y.Layers) || !reflect.DeepEqual(x, z) || x.Config.Digest == y.Config.Digest {
		t.Errorf("x %+v, y %+v, z %+v", x, y, z)
	}
}

// The image of CDI has a name and an entrypoint for each program, and the
// generator is told the same names.
func TestImagesOfCDI(t *testing.T) {
	i := cdiIn("programs", "tree")
	flags := strings.Join(cdiImages(), " ")
	for _, name := range []string{"operator", "controller", "apiserver", "uploadproxy", "importer", "uploadserver", "cloner"} {
		reference := "quay.io/kubevirt/cdi-" + name + ":" + CDIVersion
		if !strings.Contains(flags, "-"+name+"-image="+reference) || len(i.starts[reference]) == 0 {
			t.Errorf("%s: flags %s, starts %q", name, flags, i.starts[reference])
		}
	}
	if len(i.references) != 7 || i.user != "1001" {
		t.Errorf("%q as %s", i.references, i.user)
	}
}

// What reads VMware's disks is replaced by the file without it, or nothing is
// compiled: a module that changed must not bring back what is missing.
func TestCDIWithoutVMware(t *testing.T) {
	source := t.TempDir()
	if err := os.MkdirAll(filepath.Join(source, "pkg/importer"), 0o755); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{cdiVMware: "//go:build amd64\n\npackage importer // libnbd\n", cdiNoVMware: cdiOnlyARM + "\npackage importer\n"}
	for name, text := range files {
		if err := write(filepath.Join(source, name), text); err != nil {
			t.Fatal(err)
		}
	}
	if err := fixCDI(source); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(source, cdiVMware)); err != nil || string(got) != "\npackage importer\n" {
		t.Errorf("%q, %v", got, err)
	}
	if err := write(filepath.Join(source, cdiNoVMware), "package importer\n"); err != nil {
		t.Fatal(err)
	}
	if err := fixCDI(source); err == nil || !strings.Contains(err.Error(), "not only for arm64") {
		t.Errorf("a changed module: %v", err)
	}
}
