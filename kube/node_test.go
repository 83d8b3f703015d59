package kube

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"metalrise.dev/fleet"
)

// zero gives the same bytes for ever, so that equal tests make equal keys.
type steady struct {
	seed string
	n    int
	rest []byte
}

func (s *steady) Read(p []byte) (int, error) {
	for i := range p {
		if len(s.rest) == 0 {
			sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", s.seed, s.n))
			s.n, s.rest = s.n+1, sum[:]
		}
		p[i], s.rest = s.rest[0], s.rest[1:]
	}
	return len(p), nil
}

var testNow = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func testAuthority(t testing.TB, p fleet.Plan) *Authority {
	t.Helper()
	a, err := NewAuthority(testNow, &steady{seed: "test"}, p)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func testDigest(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:])
}

func testPayload() fleet.Payload {
	p := fleet.Payload{APIVersion: fleet.PayloadVersion, Flavour: fleet.Kubeadm, Version: "v1.34.4", Architecture: "x86_64"}
	add := func(name, path, target string) {
		f := fleet.PayloadFile{Name: name, Path: path, Mode: 0o755, Target: target}
		if target == "" {
			f.Digest, f.Bytes = testDigest(name), 1000
		}
		p.Files = append(p.Files, f)
	}
	const bin = "/opt/metalrise/bin/"
	add("kubelet", bin+"kubelet", bin+"hyper")
	add("hyper", bin+"hyper", "")
	add("kubeadm", bin+"kubeadm", bin+"hyper")
	for _, name := range []string{"containerd", "containerd-shim-runc-v2", "ctr", "runc"} {
		add(name, bin+name, "")
	}
	for _, name := range []string{"bridge", "flannel", "host-local", "loopback", "portmap"} {
		add("cni/"+name, "/opt/cni/bin/"+name, "")
	}
	image := func(name string, roles []fleet.Role, references ...string) {
		p.Images = append(p.Images, fleet.PayloadImage{Name: name, References: references, Digest: testDigest("image " + name), Bytes: 5000, Roles: roles})
	}
	const registry = "registry.k8s.io/"
	image("pause", nil, registry+"pause:3.10.1")
	image("kubernetes", nil, registry+"kube-apiserver:v1.34.4", registry+"kube-controller-manager:v1.34.4",
		registry+"kube-scheduler:v1.34.4", registry+"kube-proxy:v1.34.4", registry+"etcd:3.6.5-0")
	image("coredns", nil, registry+"coredns/coredns:v1.12.1")
	image("flannel", nil, "ghcr.io/flannel-io/flannel:v0.26.7")
	image("keepalived", []fleet.Role{fleet.ControlPlane, fleet.SingleNode}, "metalrise.dev/keepalived:2.2.7")
	return p
}

// testPlan is a site of so many control planes and two workers, or none beside
// a single node.
func testPlan(t testing.TB, controlPlanes int, kind fleet.EndpointKind) fleet.Plan {
	t.Helper()
	payload := testPayload()
	digest, err := fleet.Digest(payload)
	if err != nil {
		t.Fatal(err)
	}
	c := &fleet.ClusterPlan{Flavour: fleet.Kubeadm, Version: payload.Version, PayloadDigest: digest, Domain: "cluster.local",
		PodCIDR: "10.244.0.0/16", ServiceCIDR: "10.96.0.0/16", CNI: fleet.Flannel}
	switch kind {
	case fleet.VirtualIP:
		c.Endpoint = fleet.APIEndpoint{Kind: kind, Address: "10.0.1.20", Port: 6443, VRRP: 20}
	case fleet.LoadBalancer:
		c.Endpoint = fleet.APIEndpoint{Kind: kind, Address: "api.oslo.example.org", Port: 443}
	case fleet.NodeAddress:
		c.Endpoint = fleet.APIEndpoint{Kind: kind, Address: "10.0.1.21", Port: 6443}
	}
	p := fleet.Plan{APIVersion: fleet.APIVersion, Site: "oslo", Cluster: c}
	workers := 2
	if controlPlanes == 1 {
		workers = 0
	}
	for i := range controlPlanes + workers {
		a := fleet.Assignment{Server: fleet.ServerID(fmt.Sprintf("SN%04d", i+1)), Role: fleet.ControlPlane,
			Network: fleet.Network{MAC: fmt.Sprintf("52:54:00:00:00:%02x", i+1), Address: fmt.Sprintf("10.0.1.%d/24", 21+i), Gateway: "10.0.1.1"}}
		a.Hostname = fmt.Sprintf("oslo-cp%d", i+1)
		a.Node = &fleet.NodePlan{Initial: i == 0, SystemReserved: map[string]string{"cpu": "500m", "memory": "1Gi"}}
		switch {
		case controlPlanes == 1:
			a.Role = fleet.SingleNode
		case i >= controlPlanes:
			a.Role, a.Hostname = fleet.Worker, fmt.Sprintf("oslo-w%d", i+1-controlPlanes)
			a.Node.StaticCPUs = true
			a.Network.DNS = []string{"10.0.1.2"}
		default:
			a.Node.Taints = []fleet.Taint{{Key: "node-role.kubernetes.io/control-plane", Effect: "NoSchedule"}}
		}
		a.Node.Name = a.Hostname
		p.Assignments = append(p.Assignments, a)
	}
	if err := p.Seal(); err != nil {
		t.Fatal(err)
	}
	return p
}

// testNode is one server of a plan, by host name, on hardware or in a container.
func testNode(t testing.TB, p fleet.Plan, hostname string, r fleet.NodeRuntime) Node {
	t.Helper()
	i := slices.IndexFunc(p.Assignments, func(a fleet.Assignment) bool { return a.Hostname == hostname })
	if i < 0 {
		t.Fatalf("no server %s in the plan", hostname)
	}
	return Node{Plan: p, Assignment: p.Assignments[i], Runtime: r, Payload: testPayload(), Attempt: 1,
		Path: func(sha256 string) string { return "/v1/payload/" + sha256 }}
}

func hardware() fleet.NodeRuntime {
	return fleet.NodeRuntime{CgroupVersion: 2, MayLowerOOM: true, Kernel: "6.12.0"}
}

func container() fleet.NodeRuntime {
	return fleet.NodeRuntime{CgroupVersion: 1, Swap: true, Kernel: "6.18.0", Container: "lab"}
}

const testToken = "abcdef.0123456789abcdef"

func TestValidatePayload(t *testing.T) {
	plan := testPlan(t, 3, fleet.VirtualIP)
	plan.Cluster.PayloadDigest = ""
	if f := Validate(plan, testPayload()); len(f) != 0 {
		t.Fatalf("a good payload: %+v", f)
	}
	drop := func(name string) func(*fleet.Plan, *fleet.Payload) {
		return func(_ *fleet.Plan, p *fleet.Payload) {
			p.Files = slices.DeleteFunc(p.Files, func(f fleet.PayloadFile) bool { return f.Name == name })
			p.Images = slices.DeleteFunc(p.Images, func(i fleet.PayloadImage) bool { return i.Name == name })
		}
	}
	for _, c := range []struct {
		name  string
		spoil func(*fleet.Plan, *fleet.Payload)
		code  fleet.Code
		want  string
	}{
		{"flavour", func(p *fleet.Plan, _ *fleet.Payload) { p.Cluster.Flavour = "okd" }, fleet.CodeFlavourUnknown, `"okd"`},
		{"cni", func(p *fleet.Plan, _ *fleet.Payload) { p.Cluster.CNI = "calico" }, fleet.CodePayloadInvalid, `"calico"`},
		{"other version", func(p *fleet.Plan, _ *fleet.Payload) { p.Cluster.Version = "v1.35.0" }, fleet.CodePayloadInvalid, "v1.35.0"},
		{"old version", func(_ *fleet.Plan, p *fleet.Payload) { p.Version = "v1.29.9" }, fleet.CodePayloadInvalid, "too old"},
		{"no version", func(_ *fleet.Plan, p *fleet.Payload) { p.Version = "1.34" }, fleet.CodePayloadInvalid, "no release"},
		{"architecture", func(_ *fleet.Plan, p *fleet.Payload) { p.Architecture = "riscv64" }, fleet.CodePayloadInvalid, "riscv64"},
		{"digest", func(p *fleet.Plan, _ *fleet.Payload) { p.Cluster.PayloadDigest = testDigest("x") }, fleet.CodePayloadInvalid, "not the one"},
		{"form", func(_ *fleet.Plan, p *fleet.Payload) { p.APIVersion = "v2" }, fleet.CodePayloadInvalid, "version \"v2\""},
		{"no runc", drop("runc"), fleet.CodePayloadInvalid, `file "runc" is missing`},
		{"no bridge", drop("cni/bridge"), fleet.CodePayloadInvalid, `file "cni/bridge" is missing`},
		{"no target", drop("hyper"), fleet.CodePayloadInvalid, "/opt/metalrise/bin/hyper"},
		{"no pause", drop("pause"), fleet.CodePayloadInvalid, `image "pause" is missing`},
		{"no keepalived", drop("keepalived"), fleet.CodePayloadInvalid, `image "keepalived" is missing`},
		{"roles", func(_ *fleet.Plan, p *fleet.Payload) { p.Images[0].Roles = []fleet.Role{fleet.Worker} }, fleet.CodePayloadInvalid, "role control-plane"},
		{"repository", func(_ *fleet.Plan, p *fleet.Payload) { p.Images[1].References[3] = "example.org/kube-proxy:v1.34.4" }, fleet.CodePayloadInvalid, "should be called registry.k8s.io/kube-proxy:v1.34.4"},
		{"dns", func(_ *fleet.Plan, p *fleet.Payload) { p.Images[2].References[0] = "registry.k8s.io/coredns:v1.12.1" }, fleet.CodePayloadInvalid, "registry.k8s.io/coredns"},
		{"twice", func(_ *fleet.Plan, p *fleet.Payload) {
			p.Images[2].References = append(p.Images[2].References, "registry.k8s.io/etcd:3.5.1-0")
		}, fleet.CodePayloadInvalid, "there twice"},
		{"pinned badly", func(_ *fleet.Plan, p *fleet.Payload) {
			p.Images[2].References = append(p.Images[2].References, "metalrise.dev/guest@sha256:abc")
		}, fleet.CodePayloadInvalid, "metalrise.dev/guest@sha256:abc"},
		{"relative", func(_ *fleet.Plan, p *fleet.Payload) { p.Files[1].Path = "opt/x" }, fleet.CodePayloadInvalid, "no plain absolute path"},
		{"upwards", func(_ *fleet.Plan, p *fleet.Payload) { p.Files[1].Path = "/opt/../etc/passwd" }, fleet.CodePayloadInvalid, "no plain absolute path"},
		{"shell", func(_ *fleet.Plan, p *fleet.Payload) { p.Files[1].Path = "/opt/$(reboot)" }, fleet.CodePayloadInvalid, "no plain absolute path"},
		{"usr", func(_ *fleet.Plan, p *fleet.Payload) { p.Files[1].Path = "/usr/bin/hyper" }, fleet.CodePayloadInvalid, "/usr cannot be written"},
		{"setuid", func(_ *fleet.Plan, p *fleet.Payload) { p.Files[1].Mode = 0o4755 }, fleet.CodePayloadInvalid, "mode 4755"},
		{"sum", func(_ *fleet.Plan, p *fleet.Payload) { p.Files[1].Digest = "abc" }, fleet.CodePayloadInvalid, "digest \"abc\""},
	} {
		t.Run(c.name, func(t *testing.T) {
			plan, payload := testPlan(t, 3, fleet.VirtualIP), testPayload()
			plan.Cluster.PayloadDigest = ""
			c.spoil(&plan, &payload)
			for _, f := range Validate(plan, payload) {
				if f.Code == c.code && strings.Contains(f.Text, c.want) {
					if f.Severity != fleet.Blocker || f.Path == "" || f.Remedy == "" {
						t.Errorf("finding %+v lacks something", f)
					}
					return
				}
			}
			t.Errorf("no finding %s with %q in %+v", c.code, c.want, Validate(plan, payload))
		})
	}
}

// An archive may name an image by its digest besides its tag.
func TestValidatePinnedImage(t *testing.T) {
	plan, payload := testPlan(t, 3, fleet.VirtualIP), testPayload()
	plan.Cluster.PayloadDigest = ""
	payload.Images[3].References = append(payload.Images[3].References, "ghcr.io/flannel-io/flannel@sha256:"+testDigest("flannel"))
	if f := Validate(plan, payload); len(f) != 0 {
		t.Errorf("findings %+v", f)
	}
}

func TestValidateSaysAllAtOnce(t *testing.T) {
	plan := testPlan(t, 3, fleet.VirtualIP)
	if f := Validate(plan, fleet.Payload{}); len(f) < 20 {
		t.Errorf("an empty payload has only %d faults: %+v", len(f), f)
	}
	plan.Cluster = nil
	if f := Validate(plan, fleet.Payload{}); f != nil {
		t.Errorf("a plan without a cluster needs no payload: %+v", f)
	}
}

func TestNoTaskForWhatMakesNoSense(t *testing.T) {
	for name, spoil := range map[string]func(*Node){
		"no cluster":  func(n *Node) { n.Plan.Cluster = nil },
		"no node":     func(n *Node) { n.Assignment.Node = nil },
		"name":        func(n *Node) { n.Assignment.Node.Name = "Oslo $(x)" },
		"role":        func(n *Node) { n.Assignment.Role = fleet.Excluded },
		"address":     func(n *Node) { n.Assignment.Network.Address = "10.0.1.21" },
		"cgroup":      func(n *Node) { n.Runtime.CgroupVersion = 0 },
		"path":        func(n *Node) { n.Path = nil },
		"attempt":     func(n *Node) { n.Attempt = 0 },
		"vip":         func(n *Node) { n.Plan.Cluster.Endpoint.Address = "10.0.1.20\n}" },
		"vrrp":        func(n *Node) { n.Plan.Cluster.Endpoint.VRRP = 256 },
		"port":        func(n *Node) { n.Plan.Cluster.Endpoint.Port = 0 },
		"kind":        func(n *Node) { n.Plan.Cluster.Endpoint.Kind = "dns" },
		"other files": func(n *Node) { n.Payload.Files = nil },
	} {
		t.Run(name, func(t *testing.T) {
			p := testPlan(t, 3, fleet.VirtualIP)
			n := testNode(t, p, "oslo-cp1", hardware())
			spoil(&n)
			a := testAuthority(t, testPlan(t, 3, fleet.VirtualIP))
			if _, err := Prepare(n); fleet.KindOf(err) != fleet.Invalid {
				t.Errorf("prepare: %v", err)
			}
			if _, err := Begin(n, a); fleet.KindOf(err) != fleet.Invalid {
				t.Errorf("begin: %v", err)
			}
			if _, err := Join(n, a, testToken); fleet.KindOf(err) != fleet.Invalid {
				t.Errorf("join: %v", err)
			}
			if _, err := Reset(n); fleet.KindOf(err) != fleet.Invalid {
				t.Errorf("reset: %v", err)
			}
		})
	}
}

func TestOnlyOneNodeBegins(t *testing.T) {
	p := testPlan(t, 3, fleet.VirtualIP)
	a := testAuthority(t, p)
	if _, err := Begin(testNode(t, p, "oslo-cp2", hardware()), a); fleet.KindOf(err) != fleet.Conflict {
		t.Errorf("a second beginning: %v", err)
	}
	for _, token := range []string{"", "abcdef", "abcdef.0123456789ABCDEF", testToken + "\n", testToken + "0"} {
		_, err := Join(testNode(t, p, "oslo-cp2", hardware()), a, token)
		if fleet.KindOf(err) != fleet.Invalid || token != "" && strings.Contains(err.Error(), token) {
			t.Errorf("token %q: %v", token, err)
		}
	}
}
