package kube

import (
	"slices"
	"strings"
	"testing"

	"metalrise.dev/fleet"
)

// TestMirror wants the settings of the registries whose images the payload has,
// readable by nobody else, and none without a mirror.
func TestMirror(t *testing.T) {
	p := testPlan(t, 3, fleet.VirtualIP)
	n := testNode(t, p, "oslo-w1", hardware())
	n.Mirror = Mirror{URL: "https://10.0.1.5:8443", CA: "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n", Authorization: "Basic eDp5"}
	task, err := Prepare(n)
	if err != nil {
		t.Fatal(err)
	}
	const want = `# written by metalrise
[host."https://10.0.1.5:8443"]
  capabilities = ["pull", "resolve"]
  ca = "/etc/metalrise/kube/mirror.pem"
  [host."https://10.0.1.5:8443".header]
    Authorization = ["Basic eDp5"]
`
	var hosts []string
	restart := -1
	for i, s := range task.Steps {
		if s.Unit != nil && s.Unit.Verb == "restart" {
			restart = i
		}
		if s.File == nil {
			continue
		}
		if s.File.To == mirrorCA && string(s.File.Data) != n.Mirror.CA {
			t.Errorf("authority %q", s.File.Data)
		}
		host, ok := strings.CutPrefix(s.File.To, registriesDir+"/")
		if !ok {
			continue
		}
		hosts = append(hosts, host)
		if string(s.File.Data) != want || s.File.Mode != 0o600 || restart >= 0 {
			t.Errorf("%s, mode %o, after the restart %t:\n%s", s.File.To, s.File.Mode, restart >= 0, s.File.Data)
		}
	}
	if !slices.Equal(hosts, []string{"ghcr.io/hosts.toml", "metalrise.dev/hosts.toml", "registry.k8s.io/hosts.toml"}) {
		t.Errorf("%q", hosts)
	}
	n.Mirror = Mirror{}
	if task, err = Prepare(n); err != nil {
		t.Fatal(err)
	}
	for _, s := range task.Steps {
		if s.File != nil && strings.HasPrefix(s.File.To, registriesDir) {
			t.Errorf("without a mirror: %s", s.File.To)
		}
	}
}

func TestMirrorRefused(t *testing.T) {
	const ca = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"
	n := testNode(t, testPlan(t, 3, fleet.VirtualIP), "oslo-w1", hardware())
	for _, m := range []Mirror{
		{URL: "http://10.0.1.5:8443", CA: ca}, {URL: "https://10.0.1.5/x", CA: ca}, {URL: "https://a\"]\nx", CA: ca}, {URL: "https://10.0.1.5", CA: "x"},
		{URL: "https://10.0.1.5", CA: ca, Authorization: "Basic x\"]\n[host"}, {CA: ca},
	} {
		n.Mirror = m
		if _, err := Prepare(n); err == nil {
			t.Errorf("taken: %+v", m)
		}
	}
}

func TestRegistryHosts(t *testing.T) {
	p := fleet.Payload{Images: []fleet.PayloadImage{{References: []string{"busybox:1", "quay.io/kubevirt/virt-api:v1", "library/x:2", "localhost:5000/a:1", "../x:1", "a.b/../c:1"}}}}
	if got := registryHosts(p); !slices.Equal(got, []string{"a.b", "docker.io", "localhost:5000", "quay.io"}) {
		t.Errorf("%q", got)
	}
}
