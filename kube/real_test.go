package kube

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

// realPayload is the newest payload in the cache, which the lab makes.
func realPayload(t *testing.T) (dir string, p fleet.Payload) {
	t.Helper()
	if os.Getenv("METALRISE_REAL") == "" {
		t.Skip("skipped: real parts run with METALRISE_REAL=1")
	}
	cache := os.Getenv("METALRISE_CACHE")
	if cache == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(base, "metalrise")
	}
	found, err := filepath.Glob(filepath.Join(cache, "payload-*", "payload.json"))
	if err != nil {
		t.Fatal(err)
	}
	var newest time.Time
	for _, f := range found {
		if st, err := os.Stat(f); err == nil && st.ModTime().After(newest) {
			newest, dir = st.ModTime(), filepath.Dir(f)
		}
	}
	if dir == "" {
		t.Skipf("skipped: no payload in %s; the lab's tests make one", cache)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "payload.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &p); err != nil {
		t.Fatal(err)
	}
	return dir, p
}

// realKubeadm links the payload's kubeadm into a folder of the test.
func realKubeadm(t *testing.T, dir string, p fleet.Payload) string {
	t.Helper()
	f, ok := file(p, "kubeadm")
	if !ok {
		t.Fatal("the payload has no kubeadm")
	}
	digest := f.Digest
	for _, other := range p.Files {
		if other.Path == f.Target {
			digest = other.Digest
		}
	}
	path := filepath.Join(t.TempDir(), "kubeadm")
	if err := os.Symlink(filepath.Join(dir, fleet.Blob(digest)), path); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRealPayloadSuits(t *testing.T) {
	_, payload := realPayload(t)
	for _, s := range shapes() {
		p := testPlan(t, s.controlPlanes, s.endpoint)
		p.Cluster.Version, p.Cluster.PayloadDigest = payload.Version, ""
		if f := Validate(p, payload); len(f) > 0 {
			t.Errorf("%s: %+v", s.name, f)
		}
		if _, err := BaseManifests(p, payload); err != nil {
			t.Errorf("%s: %v", s.name, err)
		}
	}
}

func TestRealKubeadmTakesEveryConfiguration(t *testing.T) {
	dir, payload := realPayload(t)
	kubeadm := realKubeadm(t, dir, payload)
	seen := map[string]bool{}
	each(t, func(t *testing.T, _ shape, _ string, task callhome.Task) {
		for _, s := range task.Steps {
			if s.File == nil || s.File.To != initConfig && s.File.To != joinConfig || seen[string(s.File.Data)] {
				continue
			}
			seen[string(s.File.Data)] = true
			path := filepath.Join(t.TempDir(), "config.yaml")
			if err := os.WriteFile(path, s.File.Data, 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command(kubeadm, "config", "validate", "--config", path).CombinedOutput()
			if err != nil || strings.Contains(string(out), "unknown field") || strings.Contains(string(out), "W1") {
				t.Errorf("kubeadm config validate: %v\n%s\n%s", err, out, s.File.Data)
			}
		}
	})
	if len(seen) < 20 {
		t.Errorf("only %d configurations", len(seen))
	}
}

// kubeadm makes all certificates of a control plane under our authority, and
// they are valid under it. kubeadm backdates what it makes by five minutes only:
// nodes' clocks must be set before.
func TestRealKubeadmTakesTheAuthority(t *testing.T) {
	dir, payload := realPayload(t)
	kubeadm := realKubeadm(t, dir, payload)
	p := testPlan(t, 3, fleet.VirtualIP)
	n := testNode(t, p, "oslo-cp1", hardware())
	// Made now: kubeadm looks at the clock.
	a, err := NewAuthority(time.Now(), &steady{seed: "real"}, p)
	if err != nil {
		t.Fatal(err)
	}
	task, err := Begin(n, a)
	if err != nil {
		t.Fatal(err)
	}
	work := t.TempDir()
	pki := filepath.Join(work, "pki")
	var config string
	given := map[string][]byte{}
	for _, s := range task.Steps {
		if s.File == nil {
			continue
		}
		if rest, ok := strings.CutPrefix(s.File.To, pkiDir); ok {
			to := filepath.Join(pki, rest)
			given[to] = s.File.Data
			if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(to, s.File.Data, os.FileMode(s.File.Mode)); err != nil {
				t.Fatal(err)
			}
		}
		if s.File.To == initConfig {
			config = filepath.Join(work, "init.yaml")
			text := strings.ReplaceAll(string(s.File.Data), "certificatesDir: "+pkiDir, "certificatesDir: "+pki)
			if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	out, err := exec.Command(kubeadm, "init", "phase", "certs", "all", "--config", config).CombinedOutput()
	if err != nil {
		t.Fatalf("kubeadm init phase certs: %v\n%s", err, out)
	}
	for path, data := range given {
		if now, err := os.ReadFile(path); err != nil || string(now) != string(data) {
			t.Errorf("kubeadm changed %s (%v)", path, err)
		}
	}
	for name, by := range map[string]*x509.Certificate{
		"apiserver.crt": a.cluster.cert, "apiserver-kubelet-client.crt": a.cluster.cert, "front-proxy-client.crt": a.frontProxy.cert,
		"etcd/server.crt": a.etcd.cert, "etcd/peer.crt": a.etcd.cert, "apiserver-etcd-client.crt": a.etcd.cert,
	} {
		raw, err := os.ReadFile(filepath.Join(pki, name))
		if err != nil {
			t.Error(err)
			continue
		}
		block, _ := pem.Decode(raw)
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AddCert(by)
		for _, at := range []time.Time{time.Now(), time.Now().Add(-4 * time.Minute)} {
			if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
				t.Errorf("%s at %s: %v", name, at, err)
			}
		}
		if name == "apiserver.crt" && cert.VerifyHostname("10.0.1.20") != nil {
			t.Errorf("the API server's certificate is not for the virtual address: %v", cert.IPAddresses)
		}
	}
}

// The program that will read it reads the keepalived configuration.
func TestRealKeepalivedConfiguration(t *testing.T) {
	if os.Getenv("METALRISE_REAL") == "" {
		t.Skip("skipped: real parts run with METALRISE_REAL=1")
	}
	keepalived, err := exec.LookPath("keepalived")
	if err != nil {
		t.Fatal("make deps installs keepalived: ", err)
	}
	all, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(i net.Interface) bool {
		return i.Flags&net.FlagLoopback == 0 && i.Flags&net.FlagMulticast != 0
	})
	if i < 0 {
		t.Skip("skipped: no network interface that can do multicast")
	}
	p := testPlan(t, 3, fleet.VirtualIP)
	text := strings.ReplaceAll(testNode(t, p, "oslo-cp1", hardware()).keepalivedConfig(), "@INTERFACE@", all[i].Name)
	// The health check is in the image, not here.
	text = strings.Replace(text, "/usr/local/bin/healthcheck", "/bin/true", 1)
	path := filepath.Join(t.TempDir(), "keepalived.conf")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(keepalived, "--config-test", "--use-file", path).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("keepalived --config-test: %v\n%s", err, out)
	}
}
