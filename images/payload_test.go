package images

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"metalrise.dev/fleet"
)

// contents of the payload under test, by what they are.
var payloadContents = map[string][]byte{"hyper": []byte("the programs"), "bridge": []byte("a plugin"), "etcd": bytes.Repeat([]byte("layer"), 500_000),
	"operator": []byte("kind: Namespace\n")}

func goodPayload() fleet.Payload {
	file := func(name, path, content string) fleet.PayloadFile {
		b := payloadContents[content]
		return fleet.PayloadFile{Name: name, Path: path, Mode: 0o755, Digest: sum(b), Bytes: int64(len(b))}
	}
	etcd, operator := payloadContents["etcd"], payloadContents["operator"]
	return fleet.Payload{
		APIVersion: fleet.PayloadVersion, Flavour: fleet.Kubeadm, Version: "v1.34.4", Architecture: "x86_64",
		Files: []fleet.PayloadFile{
			file("hyper", "/opt/metalrise/bin/hyper", "hyper"),
			{Name: "kubelet", Path: "/opt/metalrise/bin/kubelet", Mode: 0o755, Target: "/opt/metalrise/bin/hyper"},
			file("cni/bridge", "/opt/cni/bin/bridge", "bridge"),
			file("cni/again", "/opt/cni/bin/again", "bridge"), // the same content twice
		},
		Images:    []fleet.PayloadImage{{Name: "etcd", References: []string{"registry.k8s.io/etcd:3.6.5-0"}, Digest: sum(etcd), Bytes: int64(len(etcd)), Roles: []fleet.Role{fleet.ControlPlane}}},
		Manifests: []fleet.PayloadManifest{{Component: fleet.ComponentKubeVirt, Name: "operator", Version: "v1.6.0", Digest: sum(operator), Bytes: int64(len(operator))}},
	}
}

// payloadFolder writes a payload to disk.
func payloadFolder(t *testing.T, p fleet.Payload) string {
	t.Helper()
	dir := t.TempDir()
	b, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, "payload.json"), b)
	for _, c := range payloadContents {
		put(t, filepath.Join(dir, fleet.Blob(sum(c))), c)
	}
	return dir
}

func put(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestPayload(t *testing.T) {
	ctx := context.Background()
	dir := payloadFolder(t, goodPayload())
	p, err := LoadPayload(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(goodPayload(), p.Value()); diff != "" {
		t.Error(diff)
	}
	want, _ := fleet.Digest(goodPayload())
	if p.Digest() != want {
		t.Errorf("digest %s, want %s", p.Digest(), want)
	}
	hyper := sum(payloadContents["hyper"])
	if _, _, err := p.Open(hyper); !errors.Is(err, ErrNotVerified) || fleet.CodeOf(err) != fleet.CodePayloadCorrupt {
		t.Errorf("unverified content: %v", err)
	}
	var last, total int64
	progress := func(done, all int64) {
		if done < last || done > all {
			t.Errorf("progress went from %d to %d of %d", last, done, all)
		}
		last, total = done, all
	}
	v := Verifier{Cache: t.TempDir()}
	if err := p.Verify(ctx, v, progress); err != nil {
		t.Fatal(err)
	}
	all := int64(0)
	for _, content := range payloadContents {
		all += int64(len(content))
	}
	if last != total || total != all || p.Bytes() != all {
		t.Errorf("progress ended with %d of %d, want %d", last, total, all)
	}
	for name, want := range payloadContents {
		f, size, err := p.Open(sum(want))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(f)
		f.Close()
		if err != nil || !bytes.Equal(got, want) || size != int64(len(want)) {
			t.Errorf("%s: %d bytes, size %d, %v", name, len(got), size, err)
		}
	}
	for _, bad := range []string{"", "../payload.json", strings.Repeat("0", 64), strings.ToUpper(hyper)} {
		if _, _, err := p.Open(bad); fleet.CodeOf(err) != fleet.CodePayloadInvalid {
			t.Errorf("Open(%q): %v", bad, err)
		}
	}
}

// TestPayloadCache: what was verified and is unchanged is not read again.
func TestPayloadCache(t *testing.T) {
	ctx := context.Background()
	dir := payloadFolder(t, goodPayload())
	v := Verifier{Cache: t.TempDir()}
	for round, want := range []bool{true, false} {
		p, err := LoadPayload(ctx, dir)
		if err != nil {
			t.Fatal(err)
		}
		calls := 0
		if err := p.Verify(ctx, v, func(int64, int64) { calls++ }); err != nil {
			t.Fatal(err)
		}
		if read := calls > 1; read != want {
			t.Errorf("round %d: %d calls of progress", round, calls)
		}
	}
}

func TestPayloadDamaged(t *testing.T) {
	ctx := context.Background()
	path := func(dir, content string) string { return filepath.Join(dir, fleet.Blob(sum(payloadContents[content]))) }
	t.Run("before loading", func(t *testing.T) {
		dir := payloadFolder(t, goodPayload())
		os.Remove(path(dir, "hyper"))
		put(t, path(dir, "etcd"), []byte("half"))
		os.Remove(path(dir, "bridge"))
		if err := os.Symlink("/etc/hostname", path(dir, "bridge")); err != nil {
			t.Fatal(err)
		}
		_, err := LoadPayload(ctx, dir)
		var all *InvalidError
		if fleet.CodeOf(err) != fleet.CodePayloadCorrupt || !errors.As(err, &all) || len(all.Faults) != 3 {
			t.Errorf("%v", err)
		}
	})
	t.Run("same size", func(t *testing.T) {
		dir := payloadFolder(t, goodPayload())
		b := bytes.Clone(payloadContents["etcd"])
		b[7] ^= 1
		put(t, path(dir, "etcd"), b)
		p, err := LoadPayload(ctx, dir)
		if err != nil {
			t.Fatal(err)
		}
		err = p.Verify(ctx, Verifier{}, nil)
		var corrupt *CorruptError
		if fleet.CodeOf(err) != fleet.CodePayloadCorrupt || !errors.As(err, &corrupt) || !strings.Contains(err.Error(), corrupt.Path) {
			t.Errorf("%v", err)
		}
		if _, _, err := p.Open(sum(payloadContents["etcd"])); err == nil {
			t.Error("a damaged content was given out")
		}
	})
	t.Run("after verifying", func(t *testing.T) {
		dir := payloadFolder(t, goodPayload())
		p, err := LoadPayload(ctx, dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Verify(ctx, Verifier{}, nil); err != nil {
			t.Fatal(err)
		}
		put(t, path(dir, "hyper"), []byte("another text"))
		if _, _, err := p.Open(sum(payloadContents["hyper"])); !errors.Is(err, ErrChanged) || fleet.CodeOf(err) != fleet.CodePayloadCorrupt {
			t.Errorf("changed content: %v", err)
		}
		os.Remove(path(dir, "bridge"))
		if _, _, err := p.Open(sum(payloadContents["bridge"])); fleet.CodeOf(err) != fleet.CodePayloadCorrupt {
			t.Errorf("removed content: %v", err)
		}
	})
	t.Run("touched", func(t *testing.T) {
		dir := payloadFolder(t, goodPayload())
		p, err := LoadPayload(ctx, dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Verify(ctx, Verifier{}, nil); err != nil {
			t.Fatal(err)
		}
		file, id := path(dir, "hyper"), sum(payloadContents["hyper"])
		for what, touch := range map[string]func() error{
			"linked":     func() error { return os.Link(file, filepath.Join(dir, "link")) },
			"other mode": func() error { return os.Chmod(file, 0o755) },
			"written anew": func() error {
				return errors.Join(os.Remove(file), os.WriteFile(file, payloadContents["hyper"], 0o644))
			},
		} {
			if err := touch(); err != nil {
				t.Fatal(err)
			}
			f, n, err := p.Open(id)
			if err != nil || n != int64(len(payloadContents["hyper"])) {
				t.Fatalf("%s: %d bytes, %v", what, n, err)
			}
			f.Close()
		}
		b := bytes.Clone(payloadContents["hyper"])
		b[0] ^= 1
		put(t, file, b)
		for range 2 { // the second time it is not read again
			if _, _, err := p.Open(id); !errors.Is(err, ErrChanged) {
				t.Errorf("another content of the same size: %v", err)
			}
		}
	})
	t.Run("stopped", func(t *testing.T) {
		p, err := LoadPayload(ctx, payloadFolder(t, goodPayload()))
		if err != nil {
			t.Fatal(err)
		}
		stopped, stop := context.WithCancel(ctx)
		stop()
		if err := p.Verify(stopped, Verifier{}, nil); !errors.Is(err, context.Canceled) || fleet.CodeOf(err) != fleet.CodeUnexpected {
			t.Errorf("%v", err)
		}
	})
}

func TestPayloadUnreadable(t *testing.T) {
	good, _ := json.Marshal(goodPayload())
	for name, text := range map[string]string{
		"empty": "", "list": "[]", "unknown field": strings.Replace(string(good), `"files"`, `"filez":[],"files"`, 1),
		"more behind": string(good) + "{}", "large": strings.Repeat(" ", maxPayload) + string(good), "null": "null",
	} {
		dir := payloadFolder(t, goodPayload())
		put(t, filepath.Join(dir, "payload.json"), []byte(text))
		if p, err := LoadPayload(context.Background(), dir); p != nil || fleet.CodeOf(err) != fleet.CodePayloadInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	none := filepath.Join(t.TempDir(), "none")
	for _, dir := range []string{none, t.TempDir()} {
		if _, err := LoadPayload(context.Background(), dir); fleet.CodeOf(err) != fleet.CodePayloadInvalid || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v", dir, err)
		}
	}
}

// TestPayloadFaults: each change alone is found, at its place.
func TestPayloadFaults(t *testing.T) {
	for _, c := range []struct {
		at     string
		change func(*fleet.Payload)
	}{
		{"apiVersion", func(p *fleet.Payload) { p.APIVersion = "v2" }},
		{"flavour", func(p *fleet.Payload) { p.Flavour = "" }},
		{"version", func(p *fleet.Payload) { p.Version = "1.34.4" }},
		{"version", func(p *fleet.Payload) { p.Version = "v1.034.4" }},
		{"architecture", func(p *fleet.Payload) { p.Architecture = "x86 64" }},
		{"files", func(p *fleet.Payload) { p.Files = nil }},
		{"files[0].name", func(p *fleet.Payload) { p.Files[0].Name = "" }},
		{"files[2].name", func(p *fleet.Payload) { p.Files[2].Name = "hyper" }},
		{"files[2].path", func(p *fleet.Payload) { p.Files[2].Path = "/usr/bin/sudo" }},
		{"files[2].path", func(p *fleet.Payload) { p.Files[2].Path = "/opt/../usr/bin/sudo" }},
		{"files[2].path", func(p *fleet.Payload) { p.Files[2].Path = "opt/cni" }},
		{"files[2].path", func(p *fleet.Payload) { p.Files[2].Path = "/opt/" }},
		{"files[2].path", func(p *fleet.Payload) { p.Files[2].Path = "/opt/a\nb" }},
		{"files[2].path", func(p *fleet.Payload) { p.Files[2].Path = p.Files[0].Path }},
		{"files[2].path", func(p *fleet.Payload) { p.Files[2].Path = p.Files[0].Path + "/below" }},
		{"files[0].mode", func(p *fleet.Payload) { p.Files[0].Mode = 0o4755 }},
		{"files[0].mode", func(p *fleet.Payload) { p.Files[0].Mode = 0o777 }},
		{"files[0].sha256", func(p *fleet.Payload) { p.Files[0].Digest = "abc" }},
		{"files[0].bytes", func(p *fleet.Payload) { p.Files[0].Bytes = -1 }},
		{"files[3].bytes", func(p *fleet.Payload) { p.Files[3].Bytes++ }},
		{"files[1]", func(p *fleet.Payload) { p.Files[1].Bytes = 1 }},
		{"files[1].target", func(p *fleet.Payload) { p.Files[1].Target = "/etc/shadow" }},
		{"files[1].target", func(p *fleet.Payload) { p.Files[1].Target = p.Files[1].Path }},
		{"images[0].name", func(p *fleet.Payload) { p.Images[0].Name = "e tcd" }},
		{"images[0].sha256", func(p *fleet.Payload) { p.Images[0].Digest = strings.ToUpper(p.Images[0].Digest) }},
		{"images[0].references", func(p *fleet.Payload) { p.Images[0].References = nil }},
		{"images[0].references[0]", func(p *fleet.Payload) { p.Images[0].References[0] = "-x" }},
		{"images[0].roles[0]", func(p *fleet.Payload) { p.Images[0].Roles[0] = fleet.Excluded }},
		{"images[1].name", func(p *fleet.Payload) {
			again := p.Images[0]
			again.References = []string{"other:1"}
			p.Images = append(p.Images, again)
		}},
		{"manifests[0].component", func(p *fleet.Payload) { p.Manifests[0].Component = "" }},
		{"manifests[0].name", func(p *fleet.Payload) { p.Manifests[0].Name = "../operator" }},
		{"manifests[0].version", func(p *fleet.Payload) { p.Manifests[0].Version = "1 6" }},
		{"manifests[0].sha256", func(p *fleet.Payload) { p.Manifests[0].Digest = "" }},
		{"manifests[0].bytes", func(p *fleet.Payload) { p.Manifests[0].Bytes = maxManifestText + 1 }},
		{"manifests[1].name", func(p *fleet.Payload) { p.Manifests = append(p.Manifests, p.Manifests[0]) }},
	} {
		p := goodPayload()
		c.change(&p)
		err := CheckPayload(p)
		var all *InvalidError
		if !errors.As(err, &all) {
			t.Errorf("%s: not found", c.at)
			continue
		}
		found := false
		for _, f := range all.Faults {
			found = found || f.Path == c.at
			if f.Why == "" || f.Remedy == "" {
				t.Errorf("fault without help: %+v", f)
			}
		}
		if !found {
			t.Errorf("%s: %v", c.at, err)
		}
	}
}

// TestPayloadFaultsAtOnce: one report for all.
func TestPayloadFaultsAtOnce(t *testing.T) {
	p := goodPayload()
	p.Version, p.Files[0].Mode, p.Images[0].Digest, p.Images[0].References = "x", 0, "", nil
	var all *InvalidError
	if err := CheckPayload(p); !errors.As(err, &all) || len(all.Faults) != 4 {
		t.Errorf("%v", err)
	}
}

func FuzzParsePayload(f *testing.F) {
	good, _ := json.Marshal(goodPayload())
	f.Add(good)
	f.Add([]byte(`{"apiVersion":"metalrise.dev/payload/v1","files":[{"path":"/opt/../x","target":"/opt/a"}],"images":[{"references":[""]}]}`))
	f.Add([]byte(`{"files":[{"bytes":9223372036854775807},{"bytes":-1,"mode":4294967295}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := ParsePayload(text)
		if err != nil {
			if diff := cmp.Diff(fleet.Payload{}, p); diff != "" {
				t.Errorf("a value besides the error: %s", diff)
			}
			return
		}
		for _, file := range p.Files {
			if !filepath.IsAbs(file.Path) || filepath.Clean(file.Path) != file.Path || badPath(file.Path) != "" {
				t.Errorf("path %q", file.Path)
			}
		}
		for _, b := range blobsOf(p) {
			if !isSHA256(b.sha256) || b.bytes <= 0 {
				t.Errorf("blob %+v", b)
			}
		}
		again, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if q, err := ParsePayload(again); err != nil || fmt.Sprint(q) != fmt.Sprint(p) {
			t.Errorf("written again it is %v: %s", err, again)
		}
	})
}
