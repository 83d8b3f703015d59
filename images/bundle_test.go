package images

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"metalrise.dev/fleet"
)

func must[T any](t *testing.T, err error, v T) T {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// dockerArchive packs images as docker save does.
func dockerArchive(t *testing.T, names ...string) ([]byte, map[string]v1.Image) {
	t.Helper()
	images, refs := map[string]v1.Image{}, map[name.Tag]v1.Image{}
	for _, n := range names {
		img, err := random.Image(20_000, 3)
		if err != nil {
			t.Fatal(err)
		}
		tag, err := name.NewTag(n)
		if err != nil {
			t.Fatal(err)
		}
		images[n], refs[tag] = img, img
	}
	var b bytes.Buffer
	if err := tarball.MultiWrite(refs, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), images
}

// containerPayload is a payload whose images are real archives: one of two images, one
// of another; the first as docker save writes it.
func containerPayload(t *testing.T) (dir string, p fleet.Payload, images map[string]v1.Image) {
	t.Helper()
	p = goodPayload()
	two, images := dockerArchive(t, "registry.k8s.io/etcd:3.6.5-0", "registry.k8s.io/pause:3.10.1")
	one, more := dockerArchive(t, "ghcr.io/flannel-io/flannel:v0.26.7")
	for k, v := range more {
		images[k] = v
	}
	p.Images = []fleet.PayloadImage{
		{Name: "kubernetes", References: []string{"registry.k8s.io/etcd:3.6.5-0", "registry.k8s.io/pause:3.10.1"}, Digest: sum(two), Bytes: int64(len(two))},
		{Name: "flannel", References: []string{"ghcr.io/flannel-io/flannel:v0.26.7"}, Digest: sum(one), Bytes: int64(len(one)), Roles: []fleet.Role{fleet.Worker}},
	}
	dir = payloadFolder(t, p)
	put(t, filepath.Join(dir, fleet.Blob(sum(two))), two)
	put(t, filepath.Join(dir, fleet.Blob(sum(one))), one)
	return dir, p, images
}

func testKey(t *testing.T, seed byte) BundleKey {
	t.Helper()
	k, err := NewBundleKey(bytes.Repeat([]byte{seed}, 32))
	return must(t, err, k)
}

func pack(t *testing.T, image, payload string) *Packing {
	t.Helper()
	k, err := Pack(bg, Wanted{Site: "rack1", Image: image, Payload: payload, Files: []WantedFile{
		{SiteFile, "site.yaml", []byte("name: rack1\n")}, {CNIManifest, "/x/cni.yaml", []byte("kind: A\n")}, {ManifestFile, "k v.yaml", []byte("kind: B\n")},
	}}, Verifier{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	return k
}

func trusting(k BundleKey) func(Signer) bool {
	return func(s Signer) bool { return s.Fingerprint() == k.Signer().Fingerprint() }
}

func TestBundleThereAndBack(t *testing.T) {
	image, key := release(t, metadata(nil)), testKey(t, 1)
	payload, value, _ := containerPayload(t)
	k := pack(t, image, payload)
	for _, form := range []Form{AsFile, AsFolder} {
		t.Run(string(form), func(t *testing.T) {
			to := filepath.Join(t.TempDir(), "rack1.bundle")
			if err := k.Write(bg, to, form, key, nil); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(to + ".partial"); err == nil {
				t.Error("partial file left")
			}
			r, err := OpenBundle(to, trusting(key))
			if err != nil {
				t.Fatal(err)
			}
			if err := r.Verify(bg, nil); err != nil {
				t.Fatal(err)
			}
			s := openStore(t)
			u, err := s.UseBundle(bg, r, nil)
			if err != nil {
				t.Fatal(err)
			}
			want, _ := Load(bg, image)
			got, err := Load(bg, u.Release.Folder)
			if err != nil || got.Digest() != want.Digest() {
				t.Errorf("release: %v", err)
			}
			p, err := LoadPayload(bg, u.Payload.Folder)
			if err != nil || p.Verify(bg, Verifier{}, nil) != nil {
				t.Fatalf("payload: %v", err)
			}
			if v := p.Value(); len(v.Images) != 2 || v.Images[1].Roles[0] != fleet.Worker || v.Files[0] != value.Files[0] {
				t.Errorf("%+v", v)
			}
			set, err := p.Containers(bg)
			if err != nil || len(set.Names()) != 3 {
				t.Fatalf("%v", err)
			}
			set.Close()
			if b, err := os.ReadFile(u.Path(CNIManifest)); err != nil || string(b) != "kind: A\n" {
				t.Errorf("%q %v", b, err)
			}
			before, blobs := s.count(t)
			if again, err := s.UseBundle(bg, r, nil); err != nil || again.Bundle.Folder != u.Bundle.Folder {
				t.Error(err)
			}
			if after, b := s.count(t); after != before || b != blobs || before != 3 {
				t.Errorf("%d entries, then %d", before, after)
			}
			all, _ := s.List()
			for _, e := range all {
				if err := s.Verify(bg, e, nil); err != nil {
					t.Error(err)
				}
			}
			// What is used can be bundled again, and is the same payload.
			k2 := pack(t, u.Release.Folder, u.Payload.Folder)
			if d, _ := fleet.Digest(*k2.Bundle.Payload); d != u.Payload.Digest {
				t.Error("the payload changed on the way back")
			}
		})
	}
}

// TestBundleIsALayout: other tools read the container images of a folder.
func TestBundleIsALayout(t *testing.T) {
	payload, _, images := containerPayload(t)
	k, to := pack(t, release(t, metadata(nil)), payload), filepath.Join(t.TempDir(), "b")
	if err := k.Write(bg, to, AsFolder, testKey(t, 1), nil); err != nil {
		t.Fatal(err)
	}
	index, err := layout.ImageIndexFromPath(to)
	if err != nil {
		t.Fatal(err)
	}
	m, err := index.IndexManifest()
	if err != nil || len(m.Manifests) != 3 {
		t.Fatalf("%+v %v", m, err)
	}
	for _, d := range m.Manifests {
		img, err := index.Image(d.Digest)
		if err != nil {
			t.Fatal(err)
		}
		got, err1 := img.ConfigName()
		want, err2 := images[d.Annotations[annotationName]].ConfigName()
		if err1 != nil || err2 != nil || got != want {
			t.Errorf("%s: %s, want %s (%v %v)", d.Annotations[annotationName], got, want, err1, err2)
		}
	}
}

func TestBundleResumes(t *testing.T) {
	payload, _, _ := containerPayload(t)
	k, key := pack(t, release(t, metadata(nil)), payload), testKey(t, 1)
	dir := t.TempDir()
	whole := filepath.Join(dir, "whole")
	if err := k.Write(bg, whole, AsFile, key, nil); err != nil {
		t.Fatal(err)
	}
	want, _ := os.ReadFile(whole)
	for i, begin := range [][]byte{want[:len(want)/3], want[:len(want)/2+7], append(bytes.Clone(want[:5000]), 1, 2, 3), append(bytes.Clone(want), 9), {}} {
		to := filepath.Join(dir, fmt.Sprint(i))
		put(t, to+".partial", begin)
		if err := k.Write(bg, to, AsFile, key, nil); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(to); !bytes.Equal(got, want) {
			t.Errorf("%d: another bundle came out", i)
		}
	}
	folder := filepath.Join(dir, "folder")
	if err := k.Write(bg, folder, AsFolder, key, nil); err != nil {
		t.Fatal(err)
	}
	first, second := k.Bundle.Contents[0].SHA256, k.Bundle.Contents[1].SHA256
	path := func(d string) string { return filepath.Join(folder, blobPath(d)) }
	os.Remove(path(first))
	kept, _ := os.Stat(path(second))
	if err := k.Write(bg, folder, AsFolder, key, nil); err != nil {
		t.Fatal(err)
	}
	if again, _ := os.Stat(path(second)); !os.SameFile(kept, again) {
		t.Error("what was there was written again")
	}
	if r, err := OpenBundle(folder, trusting(key)); err != nil || r.Verify(bg, nil) != nil {
		t.Error("not complete")
	}
}

func TestBundleRefuses(t *testing.T) {
	payload, _, _ := containerPayload(t)
	k, key, other := pack(t, release(t, metadata(nil)), payload), testKey(t, 1), testKey(t, 2)
	whole := filepath.Join(t.TempDir(), "b")
	if err := k.Write(bg, whole, AsFile, key, nil); err != nil {
		t.Fatal(err)
	}
	var unknown *UnknownSignerError
	if _, err := OpenBundle(whole, trusting(other)); !errors.As(err, &unknown) || unknown.Signer.Fingerprint() != key.Signer().Fingerprint() || fleet.CodeOf(err) != fleet.CodeImageCorrupt {
		t.Errorf("a stranger's: %v", err)
	}
	text, _ := os.ReadFile(whole)
	for name, c := range map[string]func([]byte) []byte{
		"cut off":     func(b []byte) []byte { return b[:len(b)/2] },
		"empty":       func(b []byte) []byte { return nil },
		"bundle.json": func(b []byte) []byte { return bytes.Replace(b, []byte(`"rack1"`), []byte(`"rack2"`), 1) },
		"a content":   func(b []byte) []byte { b[len(b)-2000] ^= 1; return b },
		"index.json": func(b []byte) []byte {
			return bytes.Replace(b, []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index`), []byte(`{"schemaVersion":3,"mediaType":"application/vnd.oci.image.index`), 1)
		},
		"its signature": func(b []byte) []byte { return bytes.Replace(b, []byte("U1NIU0lH"), []byte("U1NIU0lG"), 1) },
		"more at its end": func(b []byte) []byte {
			b = b[:len(b)-1024]
			var tail bytes.Buffer
			w := tar.NewWriter(&tail)
			_ = tarText(w, "more", []byte("x"))
			w.Close()
			return append(b, tail.Bytes()...)
		},
	} {
		bad := filepath.Join(t.TempDir(), "b")
		changed := c(bytes.Clone(text))
		if bytes.Equal(changed, text) {
			t.Fatalf("%s: the test changed nothing", name)
		}
		put(t, bad, changed)
		r, err := OpenBundle(bad, trusting(key))
		s := openStore(t)
		if err == nil {
			if err = r.Verify(bg, nil); err == nil {
				t.Errorf("%s: verified", name)
			}
			_, err = s.UseBundle(bg, r, nil)
		}
		if fleet.CodeOf(err) != fleet.CodeImageCorrupt {
			t.Errorf("%s: %v", name, err)
		}
		if entries, _ := s.count(t); entries != 0 {
			t.Errorf("%s: %d entries", name, entries)
		}
	}
}

// TestArchiveBytes holds the bytes of archives: bundles of other versions of
// metalrise depend on them.
func TestArchiveBytes(t *testing.T) {
	layer := []byte("layer")
	m := []byte(`{}`)
	r := recipe{images: []NamedImage{{"a.example/b:1", "application/vnd.oci.image.manifest.v1+json", "sha256:" + sum(m), 2}}, contents: map[string]int64{sum(layer): 5, sum(m): 2}}
	open := func(d string) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(map[string][]byte{sum(layer): layer, sum(m): m}[d])), nil
	}
	digest, size, err := r.measure(bg, open)
	if want := "9cef87822bef8f5e90cd58022397268f7ee25f0f2f37ca7355c701e1342b52e4"; err != nil || digest != want || size != 5120 {
		t.Errorf("%s, %d bytes, %v", digest, size, err)
	}
}

func TestSigner(t *testing.T) {
	key := testKey(t, 7)
	s, err := ParseSigner(key.Signer().String() + " metalrise rack1")
	if err != nil || s.Fingerprint() != key.Signer().Fingerprint() || !strings.HasPrefix(s.Fingerprint(), "SHA256:") {
		t.Errorf("%v %v", s, err)
	}
	signature := key.sign([]byte("text"))
	if s, err := checkSSH([]byte("text"), signature); err != nil || s.String() != key.Signer().String() {
		t.Error(err)
	}
	if _, err := checkSSH([]byte("other"), signature); err == nil {
		t.Error("another text")
	}
	for _, bad := range []string{"", "ssh-rsa AAAA", "ssh-ed25519 !", "ssh-ed25519 AAAA"} {
		if _, err := ParseSigner(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func FuzzBundle(f *testing.F) {
	dir, _, _ := containerPayloadF(f)
	f.Add(dir)
	f.Add([]byte(`{"apiVersion":"metalrise.dev/bundle/v1","site":"a","contents":[]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := ParseBundle(b)
		if err != nil {
			return
		}
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseBundle(text); err != nil {
			t.Fatalf("read once, not twice: %v", err)
		}
	})
}

func containerPayloadF(f *testing.F) ([]byte, int, int) {
	b := Bundle{APIVersion: BundleVersion, Site: "rack1", Release: BundleRelease{OS: OtherOS, Stream: "s", Version: "1", Arch: X86_64, Files: []RecordFile{{Role: RoleISO, Format: FormatISO, Name: "a.iso", SHA256: sum(nil), Bytes: 1}}},
		Contents: []BundleContent{{sum(nil), 1}}}
	b.Release.Digest = releaseOf(b.Release.record()).Digest()
	text, err := json.Marshal(b)
	if err != nil {
		f.Fatal(err)
	}
	return text, 0, 0
}

func FuzzIndexAndSignature(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:` + sum(nil) + `","size":2,"annotations":{"io.containerd.image.name":"a.example/b:1"}}]}`))
	f.Add([]byte(sshBegin + "\nU1NIU0lHAAAAAQ==\n" + sshEnd))
	f.Fuzz(func(t *testing.T, b []byte) {
		if names, err := ParseIndex(b); err == nil {
			for n, d := range names {
				if v, err := parseImageName(n); err != nil || v.String() != n || !isSHA256(d.Digest.Hex) {
					t.Fatalf("%q", n)
				}
			}
		}
		if _, err := checkSSH([]byte("text"), b); err == nil {
			t.Fatal("a signature out of nothing")
		}
		if n, err := parseImageName(string(b)); err == nil {
			if again, err := parseImageName(n.String()); err != nil || again != n {
				t.Fatalf("%q becomes %q", n, again)
			}
		}
		e, err := readTar(bg, bytes.NewReader(b), bytes.NewReader(b))
		if err == nil {
			c := newContainers()
			if index, ok := e["index.json"]; ok {
				_ = c.addLayout(index, func(v1.Hash) (extent, bool) { return extent{}, false })
			}
		}
	})
}

func TestImageNames(t *testing.T) {
	for in, want := range map[string]string{
		"nginx": "docker.io/library/nginx:latest", "a/b:1": "docker.io/a/b:1", "registry.k8s.io/pause:3.10.1": "registry.k8s.io/pause:3.10.1",
		"h:5000/x": "h:5000/x:latest", "localhost/x:2": "localhost/x:2", "q.io/a/b@sha256:" + sum(nil): "q.io/a/b@sha256:" + sum(nil),
	} {
		if n, err := parseImageName(in); err != nil || n.String() != want {
			t.Errorf("%s: %s %v", in, n, err)
		}
	}
	for _, bad := range []string{"", "a//b", "A/b", "h.io/../x:1", "x:", "x@sha256:1", "h.io/x:a/b", "h.io/x y"} {
		if n, err := parseImageName(bad); err == nil {
			t.Errorf("%q became %s", bad, n)
		}
	}
}
