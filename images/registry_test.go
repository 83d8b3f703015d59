package images

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	oci "github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// registry serves the images of a payload over TLS.
func registry(t *testing.T) (*httptest.Server, map[string]v1.Image, *Registry) {
	t.Helper()
	dir, _, images := containerPayload(t)
	p, err := LoadPayload(bg, dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Containers(bg); err == nil {
		t.Fatal("served what was not verified")
	}
	if err := p.Verify(bg, Verifier{}, nil); err != nil {
		t.Fatal(err)
	}
	set, err := p.Containers(bg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { set.Close() })
	r := NewRegistry(set)
	s := httptest.NewTLSServer(r)
	t.Cleanup(s.Close)
	return s, images, r
}

// TestRegistryPull pulls every image with an independent client, and validates
// all layers and digests.
func TestRegistryPull(t *testing.T) {
	s, images, r := registry(t)
	host := strings.TrimPrefix(s.URL, "https://")
	if h := r.Hosts(); len(h) != 2 || h[1] != "registry.k8s.io" {
		t.Errorf("%q", h)
	}
	for n, want := range images {
		for _, path := range []string{n, n[strings.IndexByte(n, '/')+1:]} {
			ref, err := name.ParseReference(host + "/" + path)
			if err != nil {
				t.Fatal(err)
			}
			img, err := oci.Image(ref, oci.WithTransport(s.Client().Transport))
			if err != nil {
				t.Fatal(err)
			}
			if err := validate.Image(img); err != nil {
				t.Error(err)
			}
			got, _ := img.ConfigName()
			if have, _ := want.ConfigName(); got != have {
				t.Errorf("%s: another image", n)
			}
		}
	}
}

func TestRegistryAnswers(t *testing.T) {
	s, _, _ := registry(t)
	ask := func(method, path, rng string) (*http.Response, string) {
		t.Helper()
		q, err := http.NewRequest(method, s.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if rng != "" {
			q.Header.Set("Range", rng)
		}
		resp, err := s.Client().Do(q)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, string(b)
	}
	for path, want := range map[string]int{
		"/v2/": 200, "/v2": 404, "/": 404,
		"/v2/pause/manifests/3.10.1?ns=registry.k8s.io": 200, "/v2/pause/manifests/3.10.1?ns=docker.io": 404,
		"/v2/registry.k8s.io/pause/manifests/3.10.1": 200, "/v2/pause/manifests/9": 404, "/v2/pause/manifests/sha256:zz": 400,
		"/v2/pause/blobs/sha256:" + strings.Repeat("0", 64): 404, "/v2/pause/blobs/latest": 400, "/v2/pause/tags/list": 200,
		"/v2/../../etc/blobs/passwd": 404, "/v2/pause/uploads/x": 404, "/v2/pause": 404,
	} {
		if resp, body := ask("GET", path, ""); resp.StatusCode != want {
			t.Errorf("%s: %d %s", path, resp.StatusCode, body)
		}
	}
	for _, method := range []string{"PUT", "POST", "PATCH", "DELETE"} {
		if resp, body := ask(method, "/v2/pause/manifests/3.10.1", ""); resp.StatusCode != 405 || !strings.Contains(body, "UNSUPPORTED") {
			t.Errorf("%s: %d", method, resp.StatusCode)
		}
	}
	head, _ := ask("HEAD", "/v2/pause/manifests/3.10.1", "")
	get, body := ask("GET", "/v2/pause/manifests/3.10.1", "")
	if d := get.Header.Get("Docker-Content-Digest"); d != "sha256:"+sum([]byte(body)) || head.Header.Get("Docker-Content-Digest") != d || head.ContentLength != int64(len(body)) {
		t.Errorf("%v %v", head.Header, get.Header)
	}
	part, middle := ask("GET", "/v2/pause/manifests/3.10.1", "bytes=5-9")
	if part.StatusCode != 206 || middle != body[5:10] {
		t.Errorf("%d %q", part.StatusCode, middle)
	}
}
