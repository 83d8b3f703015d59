package kubernetes

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// sample is an image of a file, a text, a link and a file named twice.
func sample(t *testing.T) image {
	t.Helper()
	program := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(program, []byte("#!"), 0o755); err != nil {
		t.Fatal(err)
	}
	return image{references: []string{"example.org/one:1", "example.org/two:1"}, entrypoint: []string{"/usr/bin/p"}, files: []imageFile{
		{path: "usr/bin/p", source: program}, {path: "etc/passwd", text: "root\n"}, {path: "usr/bin/q", target: "p"}, {path: "usr/bin/p", source: program},
	}}
}

// The same content gives the same bytes, wherever and whenever it lay on disk.
func TestArchiveIsReproducible(t *testing.T) {
	var first, second bytes.Buffer
	if err := sample(t).write(&first, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	again := sample(t)
	slices.Reverse(again.files)
	if err := again.write(&second, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("two archives of the same content differ")
	}
}

func TestArchive(t *testing.T) {
	var out bytes.Buffer
	if err := sample(t).write(&out, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	outer := members(t, &out)
	var manifest []struct {
		Config           string
		RepoTags, Layers []string
	}
	if err := json.Unmarshal(outer["manifest.json"].content, &manifest); err != nil || len(manifest) != 1 {
		t.Fatalf("manifest: %v, %v", manifest, err)
	}
	if !slices.Equal(manifest[0].RepoTags, []string{"example.org/one:1", "example.org/two:1"}) {
		t.Errorf("references %q", manifest[0].RepoTags)
	}
	if _, ok := outer[manifest[0].Config]; !ok {
		t.Errorf("no configuration %s", manifest[0].Config)
	}
	layer := members(t, bytes.NewReader(outer[manifest[0].Layers[0]].content))
	for name, want := range map[string]member{
		"usr/bin/p": {mode: 0o755, content: []byte("#!")}, "etc/passwd": {mode: 0o644, content: []byte("root\n")},
		"usr/bin/q": {mode: 0o777, target: "p"}, "usr/": {mode: 0o755}, "usr/bin/": {mode: 0o755}, "tmp/": {mode: 0o1777}, "run/": {mode: 0o755},
	} {
		got := layer[name]
		if got.mode != want.mode || got.target != want.target || !bytes.Equal(got.content, want.content) {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
	}
}

type member struct {
	mode    int64
	target  string
	content []byte
}

// members reads a tar, in which every name must come once and after its folder.
func members(t *testing.T, r io.Reader) map[string]member {
	t.Helper()
	all := map[string]member{}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		if _, twice := all[h.Name]; twice {
			t.Errorf("%s is there twice", h.Name)
		}
		if len(content) == 0 {
			content = nil
		}
		all[h.Name] = member{h.Mode, h.Linkname, content}
	}
}

// A program's libraries are found through links and what they need themselves.
func TestProgramLibraries(t *testing.T) {
	d := debian{root: "/"}
	files, err := d.program("bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		names = append(names, f.path)
	}
	for _, want := range []string{"bin/sh", loader, "usr/lib/x86_64-linux-gnu/libc.so.6"} {
		if !slices.Contains(names, want) {
			t.Errorf("%q lacks %s", names, want)
		}
	}
	if _, err := d.library("../evil.so"); err == nil {
		t.Error("took a library that is a path")
	}
	if _, err := d.library("libnobody-has-this.so.1"); err == nil {
		t.Error("found a library that does not exist")
	}
}
