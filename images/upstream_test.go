package images

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	ociregistry "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	oci "github.com/google/go-containerregistry/pkg/v1/remote"

	"metalrise.dev/fleet"
)

func programTar(t *testing.T, names ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, n := range names {
		if err := tarText(w, n, []byte("program "+n)); err != nil {
			t.Fatal(err)
		}
	}
	if w.Close() != nil || z.Close() != nil {
		t.Fatal("close")
	}
	return b.Bytes()
}

// upstream publishes all that a payload is made of: programs with checksums
// as each project has them, and container images for two architectures.
func upstream(t *testing.T) (Downloader, Upstream, *publisher, *atomic.Int32) {
	t.Helper()
	u := Upstream{Kubernetes: "v1.34.4", Architecture: "x86_64", Containerd: "v2.1.4", Runc: "v1.3.0", CNIPlugins: "v1.7.1", Etcd: "3.6.5-0",
		CoreDNS: "v1.12.1", Pause: "3.10.1", Flannel: "v0.26.7", FlannelCNI: "v1.7.1-flannel1", Images: []string{"control-plane=metal.example/keepalived:2.2.7"}}
	p := newPublisher(t)
	for _, s := range u.sources() {
		at := s.URL[strings.Index(s.URL, "://")+3:]
		b := []byte("program " + path.Base(at))
		if s.Files[0].Member != "" {
			var names []string
			for _, f := range s.Files {
				names = append(names, "./"+f.Member)
			}
			b = programTar(t, append(names, "LICENSE")...)
		}
		p.files["/"+at] = b
		text := sum(b)
		if !strings.HasSuffix(s.checksum, ".sha256") {
			text = fmt.Sprintf("%064x  other\n%s *%s\n", 1, text, path.Base(at))
		}
		p.files["/"+s.checksum[strings.Index(s.checksum, "://")+3:]] = []byte(text)
	}
	var pulls atomic.Int32
	reg := ociregistry.New(ociregistry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.Method == "GET" && strings.Contains(q.URL.Path, "/blobs/") {
			pulls.Add(1)
		}
		reg.ServeHTTP(w, q)
	}))
	t.Cleanup(server.Close)
	list, err := u.images()
	if err != nil {
		t.Fatal(err)
	}
	d := Downloader{Tries: 1}
	hosts := map[string]bool{}
	for _, m := range list {
		n, _ := parseImageName(m.Reference)
		hosts[n.host] = true
		push(t, strings.TrimPrefix(server.URL, "http://")+"/"+n.repository+":"+n.tag)
	}
	for h := range hosts {
		d.Mirrors = append(d.Mirrors, Mirror{"https://" + h, server.URL})
	}
	for _, h := range []string{"dl.k8s.io", "github.com"} {
		d.Mirrors = append(d.Mirrors, Mirror{"https://" + h, p.URL + "/" + h})
	}
	return d, u, p, &pulls
}

// push puts an index for two architectures there.
func push(t *testing.T, at string) {
	t.Helper()
	ref, err := name.ParseReference(at)
	if err != nil {
		t.Fatal(err)
	}
	index := v1.ImageIndex(empty.Index)
	for _, arch := range []string{"arm64", "amd64"} {
		img, err := random.Image(3000, 2)
		if err != nil {
			t.Fatal(err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}})
	}
	if err := oci.WriteIndex(ref, index); err != nil {
		t.Fatal(err)
	}
}

func TestMakePayload(t *testing.T) {
	d, u, p, pulls := upstream(t)
	lock, err := d.Lock(bg, u)
	if err != nil {
		t.Fatal(err)
	}
	if len(lock.Sources) != 7 || len(lock.Images) != 9 {
		t.Fatalf("%d sources, %d images", len(lock.Sources), len(lock.Images))
	}
	s := openStore(t)
	e, err := s.MakePayload(bg, lock, d, nil)
	if err != nil {
		t.Fatal(err)
	}
	load, err := LoadPayload(bg, e.Folder)
	if err != nil || load.Verify(bg, Verifier{}, nil) != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, f := range load.Value().Files {
		names[f.Name] = true
	}
	// What package kube asks for.
	for _, n := range []string{"kubelet", "kubeadm", "containerd", "containerd-shim-runc-v2", "ctr", "runc", "cni/bridge", "cni/flannel", "cni/host-local", "cni/loopback", "cni/portmap"} {
		if !names[n] {
			t.Errorf("no %s", n)
		}
	}
	if k, ok := load.Value().Image("keepalived"); !ok || k.For(fleet.Worker) || !k.For(fleet.ControlPlane) {
		t.Errorf("%+v", k)
	}
	set, err := load.Containers(bg)
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	for _, m := range lock.Images { // by the very digest upstream has
		if d := set.names[m.Reference]; d.Digest.String() != m.Digest {
			t.Errorf("%s is %s, locked is %s", m.Reference, d.Digest, m.Digest)
		}
	}
	before, asked := pulls.Load(), len(p.asks)
	again, err := s.MakePayload(bg, lock, d, nil)
	// Configurations are not kept as contents of their own, so those are asked for.
	if err != nil || again.Digest != e.Digest || len(p.asks) != asked || int(pulls.Load()-before) > len(lock.Images) {
		t.Errorf("made again: %v, %d downloads, %d pulls", err, len(p.asks)-asked, pulls.Load()-before)
	}
	if other, err := openStore(t).MakePayload(bg, lock, d, nil); err != nil || other.Digest != e.Digest {
		t.Errorf("another computer makes another payload: %v", err)
	}
}

func TestMakePayloadRefuses(t *testing.T) {
	d, u, p, _ := upstream(t)
	good, err := d.Lock(bg, u)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(l *PayloadLock)
		code   fleet.Code
	}{
		"another program":  {func(l *PayloadLock) { l.Sources[0].SHA256 = sum([]byte("x")) }, fleet.CodePayloadCorrupt},
		"another image":    {func(l *PayloadLock) { l.Images[0].Digest = "sha256:" + sum([]byte("x")) }, fleet.CodePayloadInvalid},
		"no such member":   {func(l *PayloadLock) { l.Sources[3].Files[0].Member = "bin/none" }, fleet.CodePayloadInvalid},
		"over the system":  {func(l *PayloadLock) { l.Sources[0].Files[0].Path = "/usr/bin/sudo" }, fleet.CodePayloadInvalid},
		"of this computer": {func(l *PayloadLock) { l.Sources[0].URL = "file:///etc/shadow" }, fleet.CodePayloadInvalid},
	} {
		l := good
		l.Sources, l.Images = append([]LockSource{}, good.Sources...), append([]LockImage{}, good.Images...)
		for i := range l.Sources {
			l.Sources[i].Files = append([]LockFile{}, good.Sources[i].Files...)
		}
		c.change(&l)
		s := openStore(t)
		if _, err := s.MakePayload(bg, l, d, nil); fleet.CodeOf(err) != c.code {
			t.Errorf("%s: %v", name, err)
		}
		if e, _ := s.count(t); e != 0 {
			t.Errorf("%s: %d entries", name, e)
		}
	}
	p.files["/dl.k8s.io/release/v1.34.4/bin/linux/amd64/kubelet.sha256"] = []byte("<html>")
	if _, err := d.Lock(bg, u); fleet.CodeOf(err) != fleet.CodePayloadInvalid {
		t.Errorf("%v", err)
	}
}

func FuzzParseLock(f *testing.F) {
	f.Add([]byte(`{"apiVersion":"metalrise.dev/payload-lock/v1","version":"v1.34.4","architecture":"x86_64","sources":[],"images":[]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := ParseLock(b)
		if err == nil {
			for _, s := range l.Sources {
				for _, x := range s.Files {
					if badPath(x.Path) != "" {
						t.Fatalf("%q", x.Path)
					}
				}
			}
		}
		_, _ = parseChecksum(b, "kubelet")
	})
}
