package ignition_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
	"metalrise.dev/ignition"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing them")

const (
	token  = "c3ludGhldGljLXRva2VuLW9mLXRoZS1nb2xkZW4tZmlsZXM"
	sshKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGBfKmCC9kPO6+tI0nPPMMeoRfl+LhoRkMoBk8S+t0B3 technician@example.net"
)

// config is one config under test.
type config struct {
	name  string
	make  func() ([]byte, error)
	kargs []string // that the kargs stage must hand over
}

// configs are both systems of every role on every network shape with every
// profile, and what a plan digests.
func configs(t testing.TB) []config {
	t.Helper()
	var out []config
	for _, role := range []fleet.Role{fleet.ControlPlane, fleet.Worker, fleet.SingleNode} {
		for _, shape := range []string{"port", "bond", "vlan"} {
			for _, profile := range []fleet.Profile{fleet.ProfileGeneral, fleet.ProfilePassthrough} {
				in := installedInput(t, role, shape, profile)
				name := strings.Join([]string{"installed", string(role), shape, string(profile)}, "-")
				out = append(out, config{name, func() ([]byte, error) { return ignition.Installed(in) }, ignition.KernelArguments(in.Assignment)})
			}
		}
	}
	for _, shape := range []string{"port", "bond", "vlan"} {
		in := liveInput(t, shape)
		out = append(out, config{"live-" + shape, func() ([]byte, error) { return ignition.Live(in) }, nil})
	}
	digested := installedInput(t, fleet.Worker, "port", fleet.ProfileGeneral)
	digested.Ticket, digested.Site, digested.Agent = nil, "", ignition.Artefact{}
	out = append(out, config{"installed-digested", func() ([]byte, error) { return ignition.Installed(digested) }, nil})
	for _, role := range []fleet.Role{fleet.ControlPlane, fleet.Worker} {
		member := installedInput(t, role, "bond", fleet.ProfileGeneral)
		member.Assignment.Node = &fleet.NodePlan{
			Name: "edge-7-" + string(role), Labels: map[string]string{"metalrise.dev/profile": "general", "example.net/rack": "r7"},
			Taints: []fleet.Taint{{Key: "node-role.kubernetes.io/control-plane", Effect: "NoSchedule"}},
		}
		out = append(out, config{"installed-member-" + string(role), func() ([]byte, error) { return ignition.Installed(member) }, nil})
	}
	bridged := installedInput(t, fleet.Worker, "port", fleet.ProfileGeneral)
	bridged.Assignment.Bridges = []fleet.VMBridge{{Name: "br-dmz", Port: "eno3"}, {Name: "br-vm", Port: "eno2", VLANs: []int{20, 30}}}
	out = append(out, config{"installed-bridges", func() ([]byte, error) { return ignition.Installed(bridged) }, nil})
	six := installedInput(t, fleet.Worker, "ipv6", fleet.ProfileGeneral)
	six.Spec = ignition.Spec35
	out = append(out, config{"installed-ipv6-spec35", func() ([]byte, error) { return ignition.Installed(six) }, nil})
	return out
}

func installedInput(t testing.TB, role fleet.Role, shape string, profile fleet.Profile) ignition.InstalledInput {
	t.Helper()
	a := assignment(t, role, shape, profile)
	ticket := ticketFor(t, a, callhome.Installed)
	return ignition.InstalledInput{Assignment: a, Ticket: &ticket, Agent: agent(), Site: "edge-7"}
}

func liveInput(t testing.TB, shape string) ignition.LiveInput {
	t.Helper()
	a := assignment(t, fleet.Worker, shape, fleet.ProfileGeneral)
	return ignition.LiveInput{Assignment: a, Ticket: ticketFor(t, a, callhome.Live), Agent: agent()}
}

func agent() ignition.Artefact {
	return ignition.Artefact{Path: "/v1/artefacts/agent", SHA256: strings.Repeat("5a", 32), Bytes: 20_000_000}
}

func ticketFor(t testing.TB, a fleet.Assignment, stage callhome.Stage) callhome.Ticket {
	t.Helper()
	return callhome.Ticket{
		Protocol: callhome.Protocol, URL: "https://10.0.1.5:8443", CA: read(t, "calls-ca.pem"), Token: token, Stage: stage,
		Site: "edge-7", Server: a.Server, Identity: a.Identity, Plan: strings.Repeat("0b", 32), Attempt: 1,
	}
}

// assignment varies with role and profile what is independent of them, so that
// every setting is met without multiplying the cases.
func assignment(t testing.TB, role fleet.Role, shape string, profile fleet.Profile) fleet.Assignment {
	t.Helper()
	id := fleet.NewIdentity("4c4c4544-0042-3510-8054-b6c04f4e3132", "SN0001")
	a := fleet.Assignment{
		Server: id.ID(), Identity: id, Role: role, Hostname: string(role) + "-1.edge-7.example.net",
		Network: networkOf(shape), Hypervisor: fleet.Hypervisor{Profile: profile},
		Access: fleet.Access{SSHKeys: []string{sshKey}},
	}
	switch role {
	case fleet.ControlPlane:
		a.Hypervisor.Vendor = "intel"
	case fleet.Worker:
		a.Hypervisor.Vendor, a.Hypervisor.Nested = "amd", true
		a.Access.CACertificates = []string{read(t, "site-a.pem") + read(t, "site-b.pem")}
	}
	if profile == fleet.ProfilePassthrough {
		a.Hypervisor.HugepagesGiB = 16
	}
	return a
}

func networkOf(shape string) fleet.Network {
	n := fleet.Network{
		MAC: "52:54:00:00:00:0a", Address: "10.0.1.21/24", Gateway: "10.0.1.1",
		DNS: []string{"10.0.1.2", "10.0.1.3"}, NTP: []string{"10.0.1.4", "time.example.net"},
	}
	switch shape {
	case "bond":
		n.Bond = &fleet.Bond{Mode: "active-backup", MACs: []string{"52:54:00:00:00:0a", "52:54:00:00:00:0b"}}
		n.NTP = nil
	case "vlan":
		n.Bond = &fleet.Bond{Mode: "802.3ad", MACs: []string{"52:54:00:00:00:0a", "52:54:00:00:00:0b"}}
		n.VLAN, n.MTU = 30, 9000
	case "ipv6":
		n.Address, n.Gateway, n.VLAN = "fd00:1::21/64", "fd00:1::1", 31
		n.DNS, n.NTP = []string{"fd00:1::2"}, []string{"fd00:1::4"}
	}
	return n
}

func read(t testing.TB, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "in", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// golden compares text with a golden file, or writes it.
func golden(t testing.TB, name, text string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if text != string(want) {
		t.Errorf("differs from %s (if that is meant: go test ./ignition -update)\n%s", path, firstDifference(string(want), text))
	}
}

func firstDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(w), len(g)) {
		var a, b string
		if i < len(w) {
			a = w[i]
		}
		if i < len(g) {
			b = g[i]
		}
		if a != b {
			return "want: " + a + "\ngot:  " + b
		}
	}
	return ""
}
