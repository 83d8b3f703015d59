package platform

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"metalrise.dev/fleet"
	"metalrise.dev/images"
)

// sample is an image of two layers with all kinds of members.
func sample(t *testing.T) image {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	if err := os.WriteFile(program, []byte("#!"), 0o755); err != nil {
		t.Fatal(err)
	}
	tree := filepath.Join(dir, "tree.tar")
	var text bytes.Buffer
	w := tar.NewWriter(&text)
	for _, h := range []tar.Header{
		{Typeflag: tar.TypeDir, Name: "./", Mode: 0o755}, {Typeflag: tar.TypeDir, Name: "./usr/", Mode: 0o755}, {Typeflag: tar.TypeDir, Name: "./usr/bin/", Mode: 0o755},
		{Typeflag: tar.TypeReg, Name: "./usr/bin/tool", Mode: 0o4755, Uid: 7, ModTime: time.Now()},
		{Typeflag: tar.TypeLink, Name: "./usr/bin/same", Linkname: "./usr/bin/tool"},
		{Typeflag: tar.TypeChar, Name: "./dev/null", Devmajor: 1, Devminor: 3}, {Typeflag: tar.TypeReg, Name: "./var/cache/left"},
	} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(tree, text.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return image{name: "x", references: []string{"example.org/x:1", "example.org/y:1"}, pinned: true, user: "1001", entrypoint: []string{"/usr/bin/p"}, layers: []func(*layer){
		func(l *layer) {
			l.tree(tree, kept)
			l.link("var/run", "../run")
		},
		func(l *layer) {
			l.file("usr/bin/p", program, 0o755, netBindService)
			l.text("etc/passwd", "root\n", 0o644)
		},
	}}
}

// The same content gives the same bytes, and package images finds in it what
// nodes are to find: names with tags, and the one with the digest.
func TestArchive(t *testing.T) {
	var first, second bytes.Buffer
	references, err := sample(t).write(&first, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sample(t).write(&second, t.TempDir()); err != nil || !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Errorf("two archives of the same content differ: %v", err)
	}
	outer := members(t, &first)
	names, err := images.ParseIndex(outer["index.json"].content)
	if err != nil {
		t.Fatal(err)
	}
	if len(references) != 3 || len(names) != 3 {
		t.Fatalf("references %q, index %v", references, names)
	}
	digest := names["example.org/x:1"].Digest.String()
	for _, name := range []string{"example.org/x:1", "example.org/y:1", "example.org/x@" + digest} {
		if !slices.Contains(references, name) || names[name].Digest.String() != digest {
			t.Errorf("%s: not among %q, or of another digest than %s: %v", name, references, digest, names)
		}
	}
	var manifest struct{ Layers []descriptor }
	if err := json.Unmarshal(outer[blob(digest)].content, &manifest); err != nil || len(manifest.Layers) != 2 {
		t.Fatalf("manifest %s: %v", outer[blob(digest)].content, err)
	}
	lower := members(t, bytes.NewReader(outer[blob(manifest.Layers[0].Digest)].content))
	upper := members(t, bytes.NewReader(outer[blob(manifest.Layers[1].Digest)].content))
	if m := lower["usr/bin/tool"]; m.header == nil || m.header.Mode != 0o4755 || m.header.Uid != 7 || !m.header.ModTime.Equal(epoch()) {
		t.Errorf("tool: %+v", m.header)
	}
	if m := lower["usr/bin/same"]; m.header == nil || m.header.Linkname != "usr/bin/tool" {
		t.Errorf("hard link: %+v", m.header)
	}
	// An absolute link leads whoever looks from outside of the container astray.
	if m := lower["var/run"]; m.header == nil || m.header.Linkname != "../run" {
		t.Errorf("link: %+v", m.header)
	}
	for _, name := range []string{"dev/null", "var/cache/left"} {
		if lower[name].header != nil {
			t.Errorf("took over %s", name)
		}
	}
	if m := upper["usr/bin/p"]; m.header == nil || m.header.PAXRecords["SCHILY.xattr.security.capability"] != netBindService {
		t.Errorf("program: %+v", m.header)
	}
}

// A layer's first error is not lost.
func TestLayerReportsWhatIsMissing(t *testing.T) {
	i := image{references: []string{"example.org/x:1"}, layers: []func(*layer){func(l *layer) {
		l.program("usr/bin/p", "/no/such/program")
		l.text("etc/passwd", "root\n", 0o644)
	}}}
	if _, err := i.write(io.Discard, t.TempDir()); err == nil || !strings.Contains(err.Error(), "/no/such/program") {
		t.Errorf("got %v", err)
	}
}

type member struct {
	header  *tar.Header
	content []byte
}

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
		all[h.Name] = member{h, content}
	}
}

// The guest is compiled from what the program carries, without its tests.
func TestGuestSources(t *testing.T) {
	sources, err := guestSources()
	if err != nil {
		t.Fatal(err)
	}
	for name := range sources {
		if strings.HasSuffix(name, "_test.go") {
			t.Errorf("carries %s", name)
		}
	}
	if sources["guest/doc.go"] == "" || sources["main.go"] == "" || sources["go.mod"] == "" {
		t.Errorf("lacks files: %d in all", len(sources))
	}
}

// TestRealPayload builds the payload and looks whether a cluster finds in it all
// that the manifests ask for.
func TestRealPayload(t *testing.T) {
	if os.Getenv("METALRISE_REAL") != "1" {
		t.Skip("skipped: real parts run with METALRISE_REAL=1")
	}
	if os.Getuid() != 0 {
		t.Skip("skipped: needs root")
	}
	cache := os.Getenv("METALRISE_CACHE")
	if cache == "" {
		cache = t.TempDir()
	}
	begin := time.Now()
	dir, err := Build(t.Context(), cache, func(s string) { t.Logf("%6.1fs %s", time.Since(begin).Seconds(), s) })
	if err != nil {
		t.Fatal(err)
	}
	p, err := images.LoadPayload(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Verify(t.Context(), images.Verifier{Cache: t.TempDir()}, nil); err != nil {
		t.Fatal(err)
	}
	set, err := p.Containers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	names := set.Names()
	if !slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, "metalrise.dev/guest@sha256:") }) {
		t.Errorf("the guest has no name with its digest: %q", names)
	}
	for _, name := range []string{"virt-operator", "virt-api", "virt-controller", "virt-handler", "virt-launcher"} {
		if !slices.Contains(names, reference(name)) {
			t.Errorf("no image %s", reference(name))
		}
	}
	for _, i := range p.Value().Images {
		if strings.HasPrefix(i.Name, "csi-") && i.Component != fleet.ComponentCSI || strings.HasPrefix(i.Name, "kubevirt") && i.Component != fleet.ComponentKubeVirt || i.Name == "etcd" && i.Component != "" {
			t.Errorf("image %s is said to be of component %q", i.Name, i.Component)
		}
	}
	asked := regexp.MustCompile(`(?m)^\s*(?:- )?(?:image|value): *"?([a-z0-9.-]+\.[a-z]+/[^"\s]+:v[^"\s]+)"?\s*$`) // operators know further images from their environment
	for _, c := range []fleet.Component{fleet.ComponentKubeVirt, fleet.ComponentMultus, fleet.ComponentCDI, fleet.ComponentSnapshots, fleet.ComponentCSI} {
		manifests := p.Value().ManifestsOf(c)
		if len(manifests) != 1 {
			t.Fatalf("%s has %d manifests", c, len(manifests))
		}
		text, err := os.ReadFile(filepath.Join(dir, fleet.Blob(manifests[0].Digest)))
		if err != nil {
			t.Fatal(err)
		}
		found := asked.FindAllStringSubmatch(string(text), -1)
		if len(found) == 0 {
			t.Errorf("the manifest of %s asks for no image", c)
		}
		for _, f := range found {
			if !slices.Contains(names, f[1]) {
				t.Errorf("the manifest of %s asks for %s, which no archive holds", c, f[1])
			}
		}
	}
	if !slices.ContainsFunc(p.Value().Files, func(f fleet.PayloadFile) bool { return f.Name == "virtctl" }) {
		t.Error("no virtctl")
	}
}
