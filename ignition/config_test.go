package ignition_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
	"metalrise.dev/ignition"
)

func TestGoldenConfigs(t *testing.T) {
	for _, c := range configs(t) {
		t.Run(c.name, func(t *testing.T) {
			raw, err := c.make()
			if err != nil {
				t.Fatal(err)
			}
			var pretty bytes.Buffer
			if err := json.Indent(&pretty, raw, "", "  "); err != nil {
				t.Fatal(err)
			}
			golden(t, c.name+".ign", pretty.String()+"\n")
		})
	}
}

func TestSameInputSameBytes(t *testing.T) {
	for i, c := range configs(t) {
		first, err := c.make()
		if err != nil {
			t.Fatal(err)
		}
		second, err := configs(t)[i].make()
		if err != nil || !bytes.Equal(first, second) {
			t.Errorf("%s: two makes differ (%v)", c.name, err)
		}
	}
}

// parsed is the part of a config that the properties below look at.
type parsed struct {
	Storage struct {
		Files []struct {
			Path     string
			Mode     int
			Contents struct{ Source string }
		}
		Disks, Filesystems, Raid, Luks []any
	}
	Systemd struct {
		Units []struct{ Name, Contents string }
	}
}

func parse(t *testing.T, raw []byte) parsed {
	t.Helper()
	var p parsed
	if err := json.Unmarshal(raw, &p); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestTokenOnlyInTheTicket(t *testing.T) {
	for _, c := range configs(t) {
		raw, err := c.make()
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		for _, f := range parse(t, raw).Storage.Files {
			if !strings.Contains(f.Contents.Source, token) {
				continue
			}
			found++
			if f.Path != callhome.TicketPath || f.Mode != 0o600 {
				t.Errorf("%s: token in %s, mode %o", c.name, f.Path, f.Mode)
			}
		}
		if all := strings.Count(string(raw), token); all != found {
			t.Errorf("%s: the token is there %d times, %d of them in files", c.name, all, found)
		}
		if want := !strings.Contains(c.name, "digested"); (found == 1) != want {
			t.Errorf("%s: token in %d files", c.name, found)
		}
	}
}

func TestTicketArrivesWhole(t *testing.T) {
	in := liveInput(t, "port")
	raw, err := ignition.Live(in)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range parse(t, raw).Storage.Files {
		if f.Path != callhome.TicketPath {
			continue
		}
		text, err := url.PathUnescape(strings.TrimPrefix(f.Contents.Source, "data:,"))
		if err != nil {
			t.Fatal(err)
		}
		var got callhome.Ticket
		if err := json.Unmarshal([]byte(text), &got); err != nil || got != in.Ticket {
			t.Errorf("ticket %+v, %v", got, err)
		}
		return
	}
	t.Error("no ticket")
}

func TestLiveTouchesNoDisk(t *testing.T) {
	for _, shape := range []string{"port", "bond", "vlan"} {
		raw, err := ignition.Live(liveInput(t, shape))
		if err != nil {
			t.Fatal(err)
		}
		s := parse(t, raw).Storage
		if len(s.Disks)+len(s.Filesystems)+len(s.Raid)+len(s.Luks) != 0 || strings.Contains(string(raw), "kernelArguments") {
			t.Errorf("%s: the live config has disks or kernel arguments", shape)
		}
	}
}

// Units are the same for every server: nothing from outside could get into one.
func TestUnitsHoldNoValues(t *testing.T) {
	texts := map[string]string{}
	for _, c := range configs(t) {
		raw, err := c.make()
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range parse(t, raw).Systemd.Units {
			if old, ok := texts[u.Name]; ok && old != u.Contents {
				t.Errorf("%s: %s differs", c.name, u.Name)
			}
			texts[u.Name] = u.Contents
		}
	}
	if len(texts) != 4 {
		t.Errorf("%d units", len(texts))
	}
}

func TestKernelArguments(t *testing.T) {
	for _, c := range []struct {
		h    fleet.Hypervisor
		want string
	}{
		{fleet.Hypervisor{Profile: fleet.ProfileGeneral, Vendor: "intel", Nested: true}, ""},
		{fleet.Hypervisor{Profile: fleet.ProfilePassthrough, Vendor: "intel"}, "intel_iommu=on iommu=pt"},
		{fleet.Hypervisor{Profile: fleet.ProfilePassthrough, Vendor: "amd"}, "amd_iommu=on iommu=pt"},
		{fleet.Hypervisor{Profile: fleet.ProfilePassthrough}, "intel_iommu=on amd_iommu=on iommu=pt"},
		{fleet.Hypervisor{Profile: fleet.ProfileGeneral, HugepagesGiB: 4}, "default_hugepagesz=1G hugepagesz=1G hugepages=4"},
	} {
		if got := strings.Join(ignition.KernelArguments(fleet.Assignment{Hypervisor: c.h}), " "); got != c.want {
			t.Errorf("%+v: %q, want %q", c.h, got, c.want)
		}
	}
}

func TestDigest(t *testing.T) {
	a := assignment(t, fleet.Worker, "bond", fleet.ProfileGeneral)
	first, err := ignition.Digest(a)
	if err != nil || len(first) != 64 {
		t.Fatal(first, err)
	}
	a.Ignition = first
	if again, err := ignition.Digest(a); err != nil || again != first {
		t.Errorf("digest depends on itself: %s, %v", again, err)
	}
	a.Hypervisor.Nested = !a.Hypervisor.Nested
	if other, err := ignition.Digest(a); err != nil || other == first {
		t.Errorf("digest does not see a change: %v", err)
	}
}

// Every field that ends up in a config refuses what would break out of it, and
// all refusals come at once.
func TestInvalidInput(t *testing.T) {
	in := installedInput(t, fleet.Worker, "vlan", fleet.ProfilePassthrough)
	a := &in.Assignment
	a.Server, a.Role, a.Hostname = "", "king", "host\nname"
	a.Network = fleet.Network{
		MAC: "52:54:00:00:00:0a\n[x]", Bond: &fleet.Bond{Mode: "balance-rr", MACs: []string{"01:00:5e:00:00:01", "01:00:5E:00:00:01"}}, VLAN: 4095,
		MTU: 68, Address: "10.0.1.21", Gateway: "10.0.1.1;x", DNS: []string{"10.0.1.2", "dns.example.net"}, NTP: []string{"a b", "10.0.0.256", "x\nallow all"},
	}
	a.Hypervisor = fleet.Hypervisor{Vendor: "via", Profile: "fast", HugepagesGiB: -1}
	a.Access = fleet.Access{
		SSHKeys: []string{
			sshKey, sshKey + "\nmore", "ssh-ed25519 AAAA", "-----BEGIN OPENSSH PRIVATE KEY-----", "hello", `from="10.0.0.0/8" ` + sshKey,
		},
		CACertificates: []string{read(t, "site-a.pem"), "nothing", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"},
	}
	in.Ticket.URL, in.Ticket.CA, in.Ticket.Stage, in.Ticket.Attempt = "https://user:hunter2@10.0.1.5:8443/$(x)'", "", callhome.Live, 0
	in.Agent = ignition.Artefact{Path: "/a/../b';reboot'", SHA256: "xyz"}
	in.Site, in.Spec = "a.b", "2.0.0"

	_, err := ignition.Installed(in)
	var invalid *ignition.Invalid
	if !errors.As(err, &invalid) {
		t.Fatalf("got %v", err)
	}
	if fleet.KindOf(err) != fleet.Invalid || fleet.CodeOf(err) != fleet.CodeSiteInvalid {
		t.Errorf("kind %s, code %s", fleet.KindOf(err), fleet.CodeOf(err))
	}
	var got []string
	for _, p := range invalid.Problems {
		got = append(got, p.Path)
	}
	want := []string{
		"assignment.server", "assignment.role", "assignment.hostname", "assignment.network.mac",
		"assignment.network.bond.mode", "assignment.network.bond.macs[0]", "assignment.network.bond.macs[1]", "assignment.network.bond.macs[1]",
		"assignment.network.bond.macs", "assignment.network.vlan", "assignment.network.address", "assignment.network.mtu",
		"assignment.network.gateway", "assignment.network.dns[1]",
		"assignment.network.ntp[0]", "assignment.network.ntp[1]", "assignment.network.ntp[2]",
		"assignment.hypervisor.vendor", "assignment.hypervisor.profile", "assignment.hypervisor.hugepagesGiB",
		"assignment.access.sshKeys[1]", "assignment.access.sshKeys[2]", "assignment.access.sshKeys[3]", "assignment.access.sshKeys[4]",
		"assignment.access.caCertificates[1]", "assignment.access.caCertificates[2]",
		"ticket.url", "ticket.ca", "ticket.stage", "ticket.server", "ticket.attempt",
		"agent.path", "agent.sha256", "agent.bytes", "site", "spec",
	}
	for _, w := range want {
		if !slices.Contains(got, w) {
			t.Errorf("nothing said about %s", w)
		}
	}
	for _, g := range got {
		if !slices.Contains(want, g) {
			t.Errorf("%s is fine", g)
		}
	}
	for _, secret := range []string{"hunter2", token, "PRIVATE KEY-----\n"} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("the error shows %q", secret)
		}
	}
}

func TestInvalidOnItsOwn(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*ignition.InstalledInput)
		path   string
	}{
		"excluded":     {func(in *ignition.InstalledInput) { in.Assignment.Role = fleet.Excluded }, "assignment.role"},
		"no name":      {func(in *ignition.InstalledInput) { in.Assignment.Hostname = "" }, "assignment.hostname"},
		"capital":      {func(in *ignition.InstalledInput) { in.Assignment.Hostname = "Node" }, "assignment.hostname"},
		"long name":    {func(in *ignition.InstalledInput) { in.Assignment.Hostname = strings.Repeat("a.", 32) + "b" }, "assignment.hostname"},
		"zero MAC":     {func(in *ignition.InstalledInput) { in.Assignment.Network.MAC = "00:00:00:00:00:00" }, "assignment.network.mac"},
		"other family": {func(in *ignition.InstalledInput) { in.Assignment.Network.Gateway = "fd00::1" }, "assignment.network.gateway"},
		"zone":         {func(in *ignition.InstalledInput) { in.Assignment.Network.DNS = []string{"fe80::1%eth0\n"} }, "assignment.network.dns[0]"},
		"bridge's name": {func(in *ignition.InstalledInput) {
			in.Assignment.Bridges = []fleet.VMBridge{{Name: "../br", Port: "eno2"}}
		}, "assignment.bridges[0].name"},
		"port of two bridges": {func(in *ignition.InstalledInput) {
			in.Assignment.Bridges = []fleet.VMBridge{{Name: "br-a", Port: "eno2"}, {Name: "br-b", Port: "eno2"}}
		}, "assignment.bridges[1].port"},
		"bridge over the own bond": {func(in *ignition.InstalledInput) {
			in.Assignment.Network.Bond = &fleet.Bond{Mode: "802.3ad", MACs: []string{in.Assignment.Network.MAC}}
			in.Assignment.Bridges = []fleet.VMBridge{{Name: "br-a", Port: "bond0"}}
		}, "assignment.bridges[0].port"},
		"bridge's VLAN": {func(in *ignition.InstalledInput) {
			in.Assignment.Bridges = []fleet.VMBridge{{Name: "br-a", Port: "eno2", VLANs: []int{4095}}}
		}, "assignment.bridges[0].vlans[0]"},
		"bond without ports": {func(in *ignition.InstalledInput) { in.Assignment.Network.Bond = &fleet.Bond{Mode: "802.3ad"} }, "assignment.network.bond.macs"},
		"node name":          {func(in *ignition.InstalledInput) { in.Assignment.Node = &fleet.NodePlan{Name: "a\nb"} }, "assignment.node.name"},
		"token":              {func(in *ignition.InstalledInput) { in.Ticket.Token = "" }, "ticket.token"},
		"other server":       {func(in *ignition.InstalledInput) { in.Ticket.Server = "SN0002" }, "ticket.server"},
		"other identity":     {func(in *ignition.InstalledInput) { in.Ticket.Identity.Serial = "SN0002" }, "ticket.identity"},
		"other protocol":     {func(in *ignition.InstalledInput) { in.Ticket.Protocol++ }, "ticket.protocol"},
		"plain HTTP":         {func(in *ignition.InstalledInput) { in.Ticket.URL = "http://10.0.1.5:8443" }, "ticket.url"},
		"URL with path":      {func(in *ignition.InstalledInput) { in.Ticket.URL += "/" }, "ticket.url"},
		"no plan":            {func(in *ignition.InstalledInput) { in.Ticket.Plan = "" }, "ticket.plan"},
	} {
		in := installedInput(t, fleet.Worker, "port", fleet.ProfileGeneral)
		c.change(&in)
		_, err := ignition.Installed(in)
		var invalid *ignition.Invalid
		if !errors.As(err, &invalid) || len(invalid.Problems) != 1 || invalid.Problems[0].Path != c.path {
			t.Errorf("%s: got %v, want one problem at %s", name, err, c.path)
		}
	}
	for _, good := range []string{"https://[fd00::5]:8443", "https://boot.example.net"} {
		in := liveInput(t, "port")
		in.Ticket.URL = good
		if _, err := ignition.Live(in); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
}
