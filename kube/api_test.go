package kube

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"metalrise.dev/fleet"
)

func apiSelfSigned(t testing.TB, name string, ips ...net.IP) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: ips}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
}

func TestConnectRefuses(t *testing.T) {
	ca, _ := apiSelfSigned(t, "ca")
	good := string(apiKubeconfig(t, "https://10.0.1.20:6443", ca))
	if c, err := Connect([]byte(good), fleet.Plan{}); err != nil || c.Endpoint() != "https://10.0.1.20:6443" {
		t.Fatalf("%v", err)
	}
	secret := good[strings.Index(good, "client-key-data: ")+17:][:40]
	for name, change := range map[string]func(string) string{
		"a program":     func(s string) string { return strings.Replace(s, "user: {", "user: {exec: {command: rm}, ", 1) },
		"an old plugin": func(s string) string { return strings.Replace(s, "user: {", "user: {auth-provider: {name: x}, ", 1) },
		"a token file":  func(s string) string { return strings.Replace(s, "user: {", "user: {tokenFile: /etc/shadow, ", 1) },
		"a key file":    func(s string) string { return strings.Replace(s, "client-key-data:", "client-key:", 1) },
		"an authority file": func(s string) string {
			return strings.Replace(s, "cluster: {", "cluster: {certificate-authority: /x, ", 1)
		},
		"no check of the server": func(s string) string {
			return strings.Replace(s, "cluster: {", "cluster: {insecure-skip-tls-verify: true, ", 1)
		},
		"a proxy":                func(s string) string { return strings.Replace(s, "cluster: {", "cluster: {proxy-url: http://x, ", 1) },
		"no TLS":                 func(s string) string { return strings.Replace(s, "https:", "http:", 1) },
		"no server":              func(s string) string { return strings.Replace(s, "https://10.0.1.20:6443", "", 1) },
		"a login in the address": func(s string) string { return strings.Replace(s, "https://", "https://a:b@", 1) },
		"two clusters":           func(s string) string { return strings.Replace(s, "clusters: [", "clusters: [{name: x}, ", 1) },
		"another key": func(s string) string {
			_, key := apiSelfSigned(t, "other")
			i := strings.Index(s, "client-key-data: ") + 17
			return s[:i] + base64.StdEncoding.EncodeToString(key) + s[i+strings.IndexByte(s[i:], '}'):]
		},
		"rubbish":  func(string) string { return "\x00" },
		"nothing":  func(string) string { return "" },
		"too much": func(s string) string { return s + strings.Repeat("#", maxAnswer) },
	} {
		_, err := Connect([]byte(change(good)), fleet.Plan{})
		if err == nil {
			t.Errorf("%s was taken", name)
		} else if strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the error tells the key", name)
		}
	}
}

func TestFaults(t *testing.T) {
	f, c := newFakeAPI(t)
	for _, one := range []struct {
		status int
		code   fleet.Code
		kind   fleet.Kind
	}{
		{400, fleet.CodeAPIRefused, fleet.Invalid}, {401, fleet.CodeAPIRefused, fleet.Denied}, {403, fleet.CodeAPIRefused, fleet.Denied},
		{409, fleet.CodeAPIRefused, fleet.Conflict}, {422, fleet.CodeAPIRefused, fleet.Invalid}, {500, fleet.CodeAPIRefused, fleet.Transient},
		{503, fleet.CodeAPIUnreachable, fleet.Transient}, {504, fleet.CodeAPIUnreachable, fleet.Transient},
	} {
		f.broken = func(*http.Request) (int, string) { return one.status, "because\nof\x1b[31m this" }
		_, err := get[corev1.Node](t.Context(), c, nodesResource, "", "x")
		if fleet.CodeOf(err) != one.code || fleet.KindOf(err) != one.kind || !strings.Contains(err.Error(), "the API says: because of [31m this") {
			t.Errorf("%d: %v %v %v", one.status, fleet.CodeOf(err), fleet.KindOf(err), err)
		}
	}
	f.broken = nil
	if n, err := get[corev1.Node](t.Context(), c, nodesResource, "", "x"); n != nil || err != nil {
		t.Errorf("what is not there: %v %v", n, err)
	}
	if err := c.Reachable(t.Context()); err != nil {
		t.Error(err)
	}
	stopped, stop := context.WithCancel(t.Context())
	stop()
	if err := c.Reachable(stopped); fleet.CodeOf(err) != fleet.CodeInterrupted || !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	f.Close()
	if err := c.Reachable(t.Context()); fleet.CodeOf(err) != fleet.CodeAPIUnreachable || fleet.KindOf(err) != fleet.Transient {
		t.Errorf("nobody there: %v", err)
	}
	// Another cluster holds the address.
	cert, _ := apiSelfSigned(t, "another authority")
	other := httptest.NewTLSServer(http.NotFoundHandler())
	defer other.Close()
	d, err := Connect(apiKubeconfig(t, other.URL, cert), apiPlan())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.Reachable(t.Context()); fleet.CodeOf(err) != fleet.CodeAPIUnreachable || fleet.KindOf(err) != fleet.Conflict {
		t.Errorf("another cluster: %v", err)
	}
}

// etcdFake plays etcdctl for members by name; a name with "!" is ill, with "?" it learns.
func etcdFake(removed *[]string, names ...string) func(string, []string) (string, string, int) {
	return func(_ string, command []string) (string, string, int) {
		var members, health []string
		code := 0
		for i, n := range names {
			name := strings.Trim(n, "!?")
			ill := strings.Contains(n, "!")
			members = append(members, fmt.Sprintf(`{"ID":%d,"name":%q,"peerURLs":["https://10.0.1.2%d:2380"],"clientURLs":["https://10.0.1.2%d:2379"],"isLearner":%v}`, uint64(1)<<63+uint64(i), name, i+1, i+1, strings.Contains(n, "?")))
			health = append(health, fmt.Sprintf(`{"endpoint":"https://10.0.1.2%d:2379","health":%v,"took":"1ms","error":%q}`, i+1, !ill, map[bool]string{true: "deadline exceeded"}[ill]))
			if ill {
				code = 1
			}
		}
		switch line := strings.Join(command, " "); {
		case command[0] != "etcdctl" || !strings.Contains(line, "--cacert=/etc/kubernetes/pki/etcd/ca.crt"):
			return "", "no such program", 127
		case strings.Contains(line, "member list"):
			return `{"header":{},"members":[` + strings.Join(members, ",") + "]}\n", "", 0
		case strings.Contains(line, "endpoint health"):
			return "[" + strings.Join(health, ",") + "]\n", map[int]string{1: "Error: unhealthy cluster"}[code], code
		case strings.Contains(line, "member remove"):
			*removed = append(*removed, command[len(command)-1])
			return "Member removed", "", 0
		}
		return "", "unknown command", 1
	}
}

func TestEtcd(t *testing.T) {
	f, c := newFakeAPI(t)
	a := c.plan.Assignments[0]
	if _, err := c.Members(t.Context()); fleet.CodeOf(err) != fleet.CodeAPIUnreachable {
		t.Errorf("without a pod: %v", err)
	}
	f.etcdPods("oslo-cp1", "oslo-cp2")
	for _, one := range []struct {
		members []string
		risk    bool
		leaves  []string
	}{
		{[]string{"oslo-cp1", "oslo-cp2", "oslo-cp3"}, false, []string{"8000000000000000"}},
		{[]string{"oslo-cp1!", "oslo-cp2", "oslo-cp3"}, false, []string{"8000000000000000"}}, // the ill one goes
		{[]string{"oslo-cp1", "oslo-cp2!", "oslo-cp3"}, true, []string{"8000000000000000"}},  // by force
		{[]string{"oslo-cp1", "oslo-cp2?", "oslo-cp3"}, false, []string{"8000000000000000"}},
		{[]string{"oslo-cp1", "oslo-cp2"}, false, []string{"8000000000000000"}},
		{[]string{"oslo-cp1", "oslo-cp2?"}, true, nil},
		{[]string{"oslo-cp1"}, true, nil},
		{[]string{"oslo-cp8", "oslo-cp2!"}, false, nil},                             // gone already
		{[]string{"", "oslo-cp2", "oslo-cp3"}, false, []string{"8000000000000000"}}, // never started: known by its address
		{[]string{"oslo-cp1", "oslo-cp2", "oslo-cp3!", "oslo-cp4", "oslo-cp5!"}, true, []string{"8000000000000000"}},
		{[]string{"oslo-cp1", "oslo-cp2", "oslo-cp3", "oslo-cp4", "oslo-cp5!"}, false, []string{"8000000000000000"}},
	} {
		var removed []string
		f.command = etcdFake(&removed, one.members...)
		err := c.CheckQuorum(t.Context(), "oslo-cp1")
		if (fleet.CodeOf(err) == fleet.CodeQuorumAtRisk) != one.risk || !one.risk && err != nil {
			t.Errorf("%v: %v", one.members, err)
		}
		err = c.LeaveEtcd(t.Context(), a)
		if (err != nil) != (one.risk && one.leaves == nil) || !slices.Equal(removed, one.leaves) {
			t.Errorf("%v: removed %v, %v", one.members, removed, err)
		}
	}
	f.command = func(string, []string) (string, string, int) { return "", "exec: not found\x1b", 127 }
	if _, err := c.Members(t.Context()); err == nil || !strings.Contains(err.Error(), "ended with code 127: exec: not found") {
		t.Errorf("no etcdctl: %v", err)
	}
	f.command = func(string, []string) (string, string, int) { return "{}", "", 0 }
	if _, err := c.Members(t.Context()); err == nil || !strings.Contains(err.Error(), "cannot be read") {
		t.Errorf("no members: %v", err)
	}
}

func FuzzMembers(f *testing.F) {
	f.Add([]byte(`{"members":[{"ID":1,"name":"a","clientURLs":["x"]}]}`), []byte(`[{"endpoint":"x","health":true}]`))
	f.Fuzz(func(t *testing.T, list, health []byte) {
		if m, err := readMembers(list, health); err == nil && len(m) == 0 {
			t.Error("no members and no error")
		}
	})
}

func TestInvite(t *testing.T) {
	f, c := newFakeAPI(t)
	a := c.plan.Assignments[0]
	const path = "/api/v1/namespaces/kube-system/secrets/bootstrap-token-abcdef"
	until := time.Date(2030, 1, 2, 3, 4, 5, 0, time.FixedZone("x", 3600))
	for _, secret := range []string{"0123456789abcdef", "fedcba9876543210"} {
		if err := c.Invite(t.Context(), a, "abcdef."+secret, until); err != nil {
			t.Fatal(err)
		}
		data := f.get(path)["data"].(map[string]any)
		for k, want := range map[string]string{"token-id": "abcdef", "token-secret": secret, "expiration": "2030-01-02T02:04:05Z",
			"usage-bootstrap-signing": "true", "usage-bootstrap-authentication": "true", "auth-extra-groups": tokenGroup} {
			if got, _ := base64.StdEncoding.DecodeString(data[k].(string)); string(got) != want {
				t.Errorf("%s is %q, want %q", k, got, want)
			}
		}
	}
	if err := c.Revoke(t.Context(), "abcdef"); err != nil || f.get(path) != nil {
		t.Errorf("revoke: %v", err)
	}
	for _, bad := range []string{"", "abcdef", "ABCDEF.0123456789abcdef", "abcdef.0123456789abcde", "abcdef.0123456789abcdef ", "../../.0123456789abcdef"} {
		err := c.Invite(t.Context(), a, bad, until)
		if fleet.KindOf(err) != fleet.Invalid || err == nil || bad != "" && strings.Contains(err.Error(), bad) {
			t.Errorf("token %q: %v", bad, err)
		}
	}
	if err := c.Revoke(t.Context(), "../x.y"); fleet.KindOf(err) != fleet.Invalid || err == nil {
		t.Errorf("revoke a path: %v", err)
	}
	if err := c.Invite(t.Context(), fleet.Assignment{}, "abcdef.0123456789abcdef", until); fleet.KindOf(err) != fleet.Invalid || err == nil {
		t.Errorf("no node: %v", err)
	}
}

func TestDressTaints(t *testing.T) {
	taint := func(s string) corev1.Taint { // "key=value:effect"
		kv, effect, _ := strings.Cut(s, ":")
		k, v, _ := strings.Cut(kv, "=")
		return corev1.Taint{Key: k, Value: v, Effect: corev1.TaintEffect(effect)}
	}
	for _, one := range []struct{ have, ours, want, after, nowOurs string }{
		{"", "", "", "same", ""},
		{"a:X", "", "", "same", ""}, // somebody's
		{"a:X", "a:X", "", "", ""},  // ours, no longer planned
		{"a:X b:Y", "a:X", "c=1:Z", "b:Y c=1:Z", "c:Z"},
		{"c=1:Z", "c:Z", "c=1:Z", "same", "c:Z"},
		{"c=1:Z", "c:Z", "c=2:Z", "c=2:Z", "c:Z"},
		{"c=1:Z", "", "c=1:Z", "same", "c:Z"}, // kubeadm's becomes ours
		{"a:X", "a:X", "a:Y", "a:Y", "a:Y"},   // another effect is another taint
		{"", "", "b:X a:X", "a:X b:X", "a:X,b:X"},
	} {
		var have []corev1.Taint
		for s := range strings.FieldsSeq(one.have) {
			have = append(have, taint(s))
		}
		var planned []fleet.Taint
		for s := range strings.FieldsSeq(one.want) {
			x := taint(s)
			planned = append(planned, fleet.Taint{Key: x.Key, Value: x.Value, Effect: string(x.Effect)})
		}
		got, ours := dressTaints(have, one.ours, planned)
		text := "same"
		if got != nil {
			var parts []string
			for _, x := range got {
				parts = append(parts, strings.TrimSuffix(x.Key+"="+x.Value, "=")+":"+string(x.Effect))
			}
			text = strings.Join(parts, " ")
		}
		if text != one.after || ours != one.nowOurs {
			t.Errorf("%+v: %q, ours %q", one, text, ours)
		}
	}
}

func TestServingCertificates(t *testing.T) {
	_, c := newFakeAPI(t)
	cert, key := apiSelfSigned(t, "system:node:oslo-w1", net.IPv4(127, 81, 3, 9))
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.81.3.9:10250", &tls.Config{Certificates: []tls.Certificate{pair}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() { conn.(*tls.Conn).Handshake(); conn.Close() }()
		}
	}()
	c.plan.Assignments = c.plan.Assignments[1:]
	c.plan.Assignments[0].Network.Address = "127.81.3.8/8" // nobody there
	c.plan.Assignments[1].Network.Address = "127.81.3.9/8"
	found, err := c.Certificates(t.Context())
	var names []string
	for _, one := range found {
		names = append(names, one.Name)
	}
	if want := []string{"cluster authority", "administrator", "kubelet of oslo-w1"}; !slices.Equal(names, want) {
		t.Errorf("found %v", names)
	}
	if found[2].Subject != "CN=system:node:oslo-w1" || found[2].Until.Before(time.Now()) {
		t.Errorf("%+v", found[2])
	}
	if err == nil || !strings.Contains(err.Error(), "API server of oslo-cp2 at 127.81.3.8:6443") || !strings.Contains(err.Error(), "kubelet of oslo-cp2") {
		t.Errorf("%v", err)
	}
	chain, err := greet(t.Context(), "127.81.3.9:10250")
	if err != nil || c.ofCluster(chain, "127.81.3.9", time.Now()) {
		t.Errorf("a foreign certificate is taken for the cluster's: %v", err)
	}
	c.login.ca = cert
	if c.ofCluster(chain, "127.81.3.8", time.Now()) || c.ofCluster(chain, "127.81.3.9", time.Now().Add(2*time.Hour)) {
		t.Error("another address, or an expired certificate, is taken")
	}
}

func TestMergeKubeconfig(t *testing.T) {
	ca, _ := apiSelfSigned(t, "ca")
	ca2, _ := apiSelfSigned(t, "ca2")
	ours, moved, other := apiKubeconfig(t, "https://10.0.1.20:6443", ca), apiKubeconfig(t, "https://10.0.1.99:6443", ca), apiKubeconfig(t, "https://10.0.1.20:6443", ca2)
	const existing = `# my clusters
apiVersion: v1
kind: Config
preferences: {colors: true}
clusters:
- name: work # do not touch
  cluster: {server: "https://work", extensions: [{name: x, extension: {a: 1}}]}
contexts: []
users:
- name: work
  user:
    exec: {command: login}
current-context: work
`
	first, changed, err := MergeKubeconfig([]byte(existing), ours, "oslo", RefuseOther)
	if err != nil || !changed {
		t.Fatal(changed, err)
	}
	for _, want := range []string{"# my clusters", "# do not touch", "colors: true", "command: login", "current-context: work", "https://10.0.1.20:6443", "extension: {a: 1}"} {
		if !strings.Contains(string(first), want) {
			t.Errorf("%q is lost in\n%s", want, first)
		}
	}
	again, changed, err := MergeKubeconfig(first, ours, "oslo", RefuseOther)
	if err != nil || !slices.Equal(again, first) {
		t.Errorf("again: %v %v", changed, err)
	}
	touched := []byte(strings.Replace(string(first), "cluster: oslo\n", "cluster: oslo\n      namespace: vms\n", 1))
	second, changed, err := MergeKubeconfig(touched, moved, "oslo", RefuseOther)
	if err != nil || !changed || strings.Contains(string(second), "10.0.1.20") || !strings.Contains(string(second), "10.0.1.99") || !strings.Contains(string(second), "namespace: vms") {
		t.Errorf("moved: %v\n%s", err, second)
	}
	if _, _, err := MergeKubeconfig(second, other, "oslo", RefuseOther); !errors.Is(err, ErrOtherCluster) {
		t.Errorf("another cluster of the name: %v", err)
	}
	if third, changed, err := MergeKubeconfig(second, other, "oslo", ReplaceOther); err != nil || !changed || strings.Count(string(third), "name: oslo") != 3 {
		t.Errorf("replaced: %v\n%s", err, third)
	}
	if _, _, err := MergeKubeconfig([]byte(existing), ours, "work", RefuseOther); !errors.Is(err, ErrOtherCluster) {
		t.Errorf("a name in use: %v", err)
	}
	for name, empty := range map[string]string{"nothing": "", "comments": "# nothing\n", "nulls": "clusters: null\nusers: null\ncontexts:\n"} {
		out, changed, err := MergeKubeconfig([]byte(empty), ours, "oslo", RefuseOther)
		var f kubeconfigFile
		if err == nil {
			err = yaml.Unmarshal(out, &f)
		}
		if err != nil || !changed || f.CurrentContext != "oslo" || len(f.Clusters) != 1 || f.Contexts[0].Context.User != "oslo" {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		if _, err := Connect(out, fleet.Plan{}); err != nil {
			t.Errorf("%s: what came out cannot be used: %v", name, err)
		}
	}
	for name, bad := range map[string]string{"a list": "- a\n", "no YAML": "\t{", "clusters are text": "clusters: x\n", "two documents": "a: 1\n---\nb: 2\n"} {
		if out, _, err := MergeKubeconfig([]byte(bad), ours, "oslo", RefuseOther); err == nil {
			t.Errorf("%s was taken:\n%s", name, out)
		}
	}
	if _, _, err := MergeKubeconfig(nil, []byte("{}"), "oslo", RefuseOther); err == nil {
		t.Error("ours is empty and was taken")
	}
}

func FuzzMergeKubeconfig(f *testing.F) {
	ca, _ := apiSelfSigned(f, "ca")
	ours := apiKubeconfig(f, "https://10.0.1.20:6443", ca)
	f.Add([]byte("clusters: [{name: a}]\n# x\n"))
	f.Add([]byte("a: &x [1]\nclusters: *x\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		out, _, err := MergeKubeconfig(b, ours, "oslo", ReplaceOther)
		if err != nil {
			return
		}
		if again, _, err := MergeKubeconfig(out, ours, "oslo", RefuseOther); err != nil || string(again) != string(out) {
			t.Errorf("not the same the second time: %v\n%s\n%s", err, out, again)
		}
	})
}

func TestReadManifests(t *testing.T) {
	got, err := readManifests([]byte("# head\n---\n{kind: Deployment, apiVersion: apps/v1, metadata: {name: d}}\n---\n\n---\n{kind: Rack, apiVersion: x/v1, metadata: {name: r}}\n---\nkind: Namespace\napiVersion: v1\nmetadata: {name: ns}\n---\n{kind: CustomResourceDefinition, apiVersion: apiextensions.k8s.io/v1, metadata: {name: c}}\n---\n{kind: ConfigMap, apiVersion: v1, metadata: {name: m, namespace: ns}}\n---\n{kind: ClusterRole, apiVersion: rbac.authorization.k8s.io/v1, metadata: {name: o}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, o := range got {
		names = append(names, nameOf(o))
	}
	if want := []string{"Namespace ns", "CustomResourceDefinition c", "ClusterRole o", "ConfigMap ns/m", "Deployment d", "Rack r"}; !slices.Equal(names, want) {
		t.Errorf("%q", names)
	}
	for name, bad := range map[string]string{
		"no kind": "{apiVersion: v1, metadata: {name: a}}", "no name": "{apiVersion: v1, kind: Pod}", "text": "hello", "a key twice": "{apiVersion: v1, kind: Pod, kind: Pod, metadata: {name: a}}",
		"a nameless one in a list": "{apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: Pod}]}",
		"too many":                 strings.Repeat("{apiVersion: v1, kind: Pod, metadata: {name: a}}\n---\n", maxObjects+1),
	} {
		if _, err := readManifests([]byte(bad)); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}
