package kube

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"metalrise.dev/fleet"
)

func TestAuthorityComesBack(t *testing.T) {
	a := testAuthority(t, testPlan(t, 3, fleet.VirtualIP))
	data, err := a.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	b, err := ParseAuthority(data)
	if err != nil {
		t.Fatal(err)
	}
	again, err := b.Marshal()
	if err != nil || !bytes.Equal(data, again) || a.PinHash() != b.PinHash() {
		t.Errorf("it came back as another one (%v)", err)
	}
}

func TestAuthoritiesDiffer(t *testing.T) {
	p := testPlan(t, 3, fleet.VirtualIP)
	a := testAuthority(t, p)
	b, err := NewAuthority(testNow, &steady{seed: "other"}, p)
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]bool{}
	for _, v := range []*Authority{a, b} {
		for _, k := range []*ecdsa.PrivateKey{v.cluster.key, v.frontProxy.key, v.etcd.key, v.accounts} {
			raw, err := k.Bytes()
			if err != nil {
				t.Fatal(err)
			}
			keys[string(raw)] = true
		}
	}
	if len(keys) != 8 || a.PinHash() == b.PinHash() {
		t.Errorf("%d different keys of 8", len(keys))
	}
	if same := testAuthority(t, p); same.PinHash() != a.PinHash() {
		t.Error("equal randomness gives another authority")
	}
}

type broken struct{ zeros bool }

func (b broken) Read(p []byte) (int, error) {
	if !b.zeros {
		return 0, errors.New("no randomness")
	}
	clear(p)
	return len(p), nil
}

func TestNoAuthorityWithoutRandomness(t *testing.T) {
	p := testPlan(t, 3, fleet.VirtualIP)
	for _, r := range []broken{{}, {zeros: true}} {
		if _, err := NewAuthority(testNow, r, p); err == nil {
			t.Errorf("an authority was made from %+v", r)
		}
	}
	if _, err := NewAuthority(time.Time{}, &steady{}, p); err == nil {
		t.Error("an authority was made without a time")
	}
	p.Cluster = nil
	if _, err := NewAuthority(testNow, &steady{}, p); err == nil {
		t.Error("an authority was made without a cluster")
	}
}

// A machine whose clock holds local time instead of UTC takes what was made.
func TestCertificatesForWrongClocks(t *testing.T) {
	p := testPlan(t, 3, fleet.VirtualIP)
	a := testAuthority(t, p)
	text, err := a.Kubeconfig(testNow, &steady{seed: "admin"}, p.Cluster.Endpoint, "oslo", 365*24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	admin := adminOf(t, text)
	roots := x509.NewCertPool()
	roots.AddCert(a.cluster.cert)
	for _, c := range []struct {
		at time.Duration
		ok bool
	}{{-14 * time.Hour, true}, {0, true}, {300 * 24 * time.Hour, true}, {-48 * time.Hour, false}, {400 * 24 * time.Hour, false}} {
		_, err := admin.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: testNow.Add(c.at), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
		if (err == nil) != c.ok {
			t.Errorf("at %s: %v", c.at, err)
		}
	}
	others := x509.NewCertPool()
	others.AddCert(a.etcd.cert)
	others.AddCert(a.frontProxy.cert)
	if _, err := admin.Verify(x509.VerifyOptions{Roots: others, CurrentTime: testNow, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err == nil {
		t.Error("the administrator is known to etcd's authority too")
	}
}

func adminOf(t *testing.T, text []byte) *x509.Certificate {
	t.Helper()
	var c kubeconfig
	if err := yaml.Unmarshal(text, &c); err != nil {
		t.Fatal(err)
	}
	raw, err := base64.StdEncoding.DecodeString(c.Users[0].User.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(raw)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestKubeconfig(t *testing.T) {
	p := testPlan(t, 3, fleet.VirtualIP)
	a := testAuthority(t, p)
	for _, e := range []struct {
		address, server string
	}{{"10.0.1.20", "https://10.0.1.20:6443"}, {"fd00::20", "https://[fd00::20]:6443"}, {"api.example.org", "https://api.example.org:6443"}} {
		text, err := a.Kubeconfig(testNow, &steady{seed: "admin"}, fleet.APIEndpoint{Address: e.address, Port: 6443}, "oslo", 24*time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), "server: "+e.server+"\n") {
			t.Errorf("server is not %s:\n%s", e.server, text)
		}
		c, err := KubeconfigCertificate(text)
		if err != nil || !c.Until.Equal(testNow.Add(24*time.Hour)) || c.Subject != "CN=metalrise-administrator,O=kubeadm:cluster-admins" {
			t.Errorf("%+v, %v", c, err)
		}
	}
	for _, valid := range []time.Duration{0, -time.Hour, 11 * 365 * 24 * time.Hour} {
		if _, err := a.Kubeconfig(testNow, &steady{}, p.Cluster.Endpoint, "oslo", valid); err == nil {
			t.Errorf("valid for %s", valid)
		}
	}
}

func TestPinIsThatOfThePublicKey(t *testing.T) {
	a := testAuthority(t, testPlan(t, 1, fleet.NodeAddress))
	der, err := x509.MarshalPKIXPublicKey(a.cluster.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(der)
	if want := "sha256:" + hex.EncodeToString(sum[:]); a.PinHash() != want {
		t.Errorf("%s, want %s", a.PinHash(), want)
	}
}

func TestCertificates(t *testing.T) {
	for _, c := range testAuthority(t, testPlan(t, 1, fleet.NodeAddress)).Certificates() {
		if c.Name == "" || !strings.HasPrefix(c.Subject, "CN=oslo ") || !c.From.Before(testNow) || c.Until.Before(testNow.AddDate(9, 11, 0)) {
			t.Errorf("%+v", c)
		}
	}
}

func TestParseAuthorityRefuses(t *testing.T) {
	a := testAuthority(t, testPlan(t, 1, fleet.NodeAddress))
	good, err := a.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	mixed := *a
	mixed.cluster.key = a.etcd.key
	foreign, err := mixed.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"nothing": nil, "text": []byte("x"), "cut": good[:len(good)/2], "two": append(bytes.Clone(good), good...),
		"version": bytes.Replace(good, []byte("authority/v1"), []byte("authority/v2"), 1),
		"field":   bytes.Replace(good, []byte(`"etcd"`), []byte(`"other"`), 1),
		"key":     foreign,
		"long":    append(bytes.Clone(good), bytes.Repeat([]byte(" "), maxAuthority)...),
		"no key":  bytes.ReplaceAll(good, []byte("PRIVATE KEY"), []byte("PUBLIC KEY")),
	} {
		got, err := ParseAuthority(data)
		if err == nil || got != nil {
			t.Errorf("%s: taken", name)
			continue
		}
		if strings.Contains(err.Error(), "MIG") || len(err.Error()) > 200 {
			t.Errorf("%s: the error may hold a secret: %v", name, err)
		}
	}
}

func FuzzParseAuthority(f *testing.F) {
	p := fleet.Plan{Site: "oslo", Cluster: &fleet.ClusterPlan{}}
	a, err := NewAuthority(testNow, &steady{seed: "fuzz"}, p)
	if err != nil {
		f.Fatal(err)
	}
	good, err := a.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := ParseAuthority(data)
		if err != nil {
			return
		}
		if _, err := a.Marshal(); err != nil {
			t.Errorf("read, but not written: %v", err)
		}
	})
}

func FuzzKubeconfigCertificate(f *testing.F) {
	f.Add([]byte("users: [{user: {client-certificate-data: AAAA}}]"))
	f.Add([]byte("{"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, err := KubeconfigCertificate(data); err == nil && c.Until.IsZero() {
			t.Error("a certificate without an end")
		}
	})
}

func FuzzReference(f *testing.F) {
	for _, s := range []string{"registry.k8s.io/etcd:3.6.5-0", "localhost:5000/a/b:1", "a", "a/b", "a/b@sha256:00", "/b:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if i, ok := parseReference(s); ok && i.String() != s {
			t.Errorf("%q became %q", s, i)
		}
	})
}
