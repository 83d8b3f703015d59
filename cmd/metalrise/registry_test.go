package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"metalrise.dev/boot"
	"metalrise.dev/fleet"
	"metalrise.dev/images"
)

type noMedia struct{}

func (noMedia) Open(context.Context, string) (boot.Content, error) {
	return boot.Content{}, fs.ErrNotExist
}

// imagePayload is a verified payload with one image.
func imagePayload(t *testing.T, reference string) (*images.Payload, string) {
	t.Helper()
	img, err := random.Image(300_000, 2)
	if err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag(reference)
	if err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	if err := tarball.Write(tag, img, &archive); err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	put := func(b []byte) (string, int64) {
		sum := sha256.Sum256(b)
		digest := hex.EncodeToString(sum[:])
		path := filepath.Join(dir, fleet.Blob(digest))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, b, 0o644)); err != nil {
			t.Fatal(err)
		}
		return digest, int64(len(b))
	}
	p := fleet.Payload{APIVersion: fleet.PayloadVersion, Flavour: fleet.Kubeadm, Version: "v1.34.4", Architecture: "x86_64"}
	file := fleet.PayloadFile{Name: "kubelet", Path: "/opt/metalrise/bin/kubelet", Mode: 0o755}
	file.Digest, file.Bytes = put([]byte("a program"))
	one := fleet.PayloadImage{Name: "one", References: []string{reference}}
	one.Digest, one.Bytes = put(archive.Bytes())
	p.Files, p.Images = []fleet.PayloadFile{file}, []fleet.PayloadImage{one}
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "payload.json"), text, 0o644); err != nil {
		t.Fatal(err)
	}
	payload, err := verifiedPayload(t.Context(), dir, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return payload, config.String()
}

// TestRegistryOfTheEngine pulls with an independent client over the engine's own
// listener: with the login of a node, without, and with another one.
func TestRegistryOfTheEngine(t *testing.T) {
	const server, password = "SN:1", "0123456789abcdef0123456789abcdef"
	authority, err := boot.NewAuthority("oslo")
	if err != nil {
		t.Fatal(err)
	}
	payload, config := imagePayload(t, "registry.k8s.io/pause:3.10.1")
	starting := fleet.NewFault(fleet.CodeUnexpected, fleet.Transient, nil, "the engine is starting")
	refusal := fleet.NewFault(fleet.CodeTokenRefused, fleet.Denied, nil, "no")
	var ready bool
	n := &nodeImages{log: slog.New(slog.DiscardHandler), pulls: func(s fleet.ServerID, p string) error {
		switch {
		case !ready:
			return starting
		case s != server || p != password:
			return refusal
		}
		return nil
	}}
	defer n.Close()
	l := &library{}
	srv, err := boot.Listen(t.Context(), boot.Config{Addr: "127.0.0.1:0", PlainAddr: "127.0.0.1:0", Authority: authority, Desk: desk{&l.engine}, Library: noMedia{}, Registry: n})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority.PEM())
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	base := "https://" + srv.Addr().String()
	ask := func(url, user, pass string) int {
		t.Helper()
		q, err := http.NewRequest("GET", url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if user != "" {
			q.SetBasicAuth(user, pass)
		}
		resp, err := client.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		if resp.StatusCode == 401 && (!strings.HasPrefix(resp.Header.Get("WWW-Authenticate"), "Basic ") || !strings.Contains(string(b), "UNAUTHORIZED")) {
			t.Errorf("%s: %v %s", url, resp.Header, b)
		}
		return resp.StatusCode
	}
	if got := ask(base+"/v2/", server, password); got != 503 {
		t.Errorf("while the engine starts: %d", got)
	}
	ready = true
	if got := ask(base+"/v2/pause/manifests/3.10.1", server, password); got != 503 {
		t.Errorf("without software: %d", got)
	}
	n.serve(payload)
	for _, c := range []struct {
		url, user, password string
		want                int
	}{
		{base + "/v2/", server, password, 200},
		{base + "/v2/", "", "", 401},
		{base + "/v2/", server, "0123456789abcdef0123456789abcdee", 401},
		{base + "/v2/", "SN", password, 401},
		{base + "/v2/pause/manifests/3.10.1?ns=registry.k8s.io", server, password, 200},
		{base + "/v2/pause/manifests/3.10.1?ns=registry.k8s.io", "", "", 401},
		{base + "/v2/pause/manifests/3.10.1?ns=quay.io", server, password, 404},
		{"http://" + srv.PlainAddr().String() + "/v2/", server, password, 404},
	} {
		if got := ask(c.url, c.user, c.password); got != c.want {
			t.Errorf("%s as %q: %d, want %d", c.url, c.user, got, c.want)
		}
	}
	ref, err := name.ParseReference(srv.Addr().String() + "/registry.k8s.io/pause:3.10.1")
	if err != nil {
		t.Fatal(err)
	}
	pull := func(pass string) error {
		img, err := remote.Image(ref, remote.WithTransport(transport), remote.WithAuth(&authn.Basic{Username: server, Password: pass}))
		if err != nil {
			return err
		}
		if got, err := img.ConfigName(); err != nil || got.String() != config {
			t.Errorf("another image: %s %v", got, err)
		}
		return validate.Image(img)
	}
	if err := pull(password); err != nil {
		t.Errorf("as a node: %v", err)
	}
	if err := pull("no"); err == nil {
		t.Error("pulled with a wrong password")
	}
}
