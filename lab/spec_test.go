package lab

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"metalrise.dev/lab/machine"
)

func testConfig(dir string) Config {
	return Config{
		Name: "oslo", Dir: dir, Servers: 3, Machine: machine.Fake, Firmware: "uefi", Disks: 3, Personality: "standard",
		ImageDir: "/image", Network: netip.MustParsePrefix("10.86.7.0/24"),
	}
}

func TestSpecsAreSoundAndUnique(t *testing.T) {
	c := testConfig("/lab")
	c.Servers, c.Disks = MostServers, mostDisks
	seen := map[string]string{}
	unique := func(kind, value, owner string) {
		t.Helper()
		if other := seen[kind+value]; other != "" {
			t.Errorf("%s %s is that of %s and of %s", kind, value, other, owner)
		}
		seen[kind+value] = owner
	}
	uuid := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	for n := 1; n <= c.Servers; n++ {
		s := c.spec(n)
		if err := s.Check(); err != nil {
			t.Fatal(err)
		}
		if !uuid.MatchString(s.UUID) {
			t.Errorf("uuid %q", s.UUID)
		}
		unique("uuid", s.UUID, s.Name)
		unique("serial", s.Serial, s.Name)
		unique("address", c.bmcAddress(n).String(), s.Name)
		for _, nic := range s.NICs {
			unique("mac", nic.MAC, s.Name)
		}
		sizes := map[int64]bool{}
		for i, d := range s.Disks {
			unique("disk", d.Serial, s.Name)
			unique("wwn", d.WWN, s.Name)
			if !strings.HasPrefix(d.WWN, "5") || len(d.Model) > 16 {
				t.Errorf("disk %+v: want an NAA 5 name and a model of at most 16 characters", d)
			}
			// The smallest disk of at least 8 GiB is the one to install on.
			if first := s.Disks[0]; i > 0 && d.SizeBytes >= 8*gib && d.SizeBytes <= first.SizeBytes {
				t.Errorf("disk %d of %d bytes rivals the first of %d", i, d.SizeBytes, first.SizeBytes)
			}
			if sizes[d.SizeBytes] {
				t.Errorf("two disks of %d bytes", d.SizeBytes)
			}
			sizes[d.SizeBytes] = true
		}
	}
}

func TestSpecFollowsFromTheName(t *testing.T) {
	a, b := testConfig("/lab"), testConfig("/lab")
	b.Name = "bergen"
	if x, y := a.spec(1), a.spec(1); x.UUID != y.UUID || x.Disks[0].WWN != y.Disks[0].WWN || x.NICs[0].MAC != y.NICs[0].MAC {
		t.Error("the same lab gave two racks")
	}
	if x, y := a.spec(1), b.spec(1); x.UUID == y.UUID || x.Disks[0].WWN == y.Disks[0].WWN {
		t.Error("two labs gave the same server")
	}
	if a.bridge() == b.bridge() || len(a.bridge()) > 15 {
		t.Errorf("bridges %q and %q: want two of at most 15 characters", a.bridge(), b.bridge())
	}
	b.Name, b.Dir = a.Name, "/elsewhere"
	if a.bridge() == b.bridge() {
		t.Error("labs of one name in two folders share a bridge")
	}
}

func TestCheckReportsEverything(t *testing.T) {
	err := Config{Name: "Big!", Servers: 201, Machine: "paper", Disks: 10, Firmware: "coreboot", BMCPort: -1, MemoryMiB: 3}.Check()
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{`"Big!"`, "dir", "201", `"paper"`, "disks 10", `"coreboot"`, "-1", "3 MiB", "personality"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in:\n%v", want, err)
		}
	}
}

func TestChooseNetwork(t *testing.T) {
	free := testConfig("/lab")
	free.Network = netip.Prefix{}
	all := free.networks()
	insists := testConfig("/lab")
	for _, c := range []struct {
		name string
		cfg  Config
		used []string
		want string // "" refuses
	}{
		{"nothing used", free, nil, all[0].String()},
		{"unrelated", free, []string{"192.0.2.0/24", "127.0.0.0/8"}, all[0].String()},
		{"first taken", free, []string{"10.0.0.0/8"}, all[1].String()},
		{"an address within", free, []string{all[0].Addr().String() + "/32", all[1].String()}, all[2].String()},
		{"all taken", free, []string{"10.0.0.0/8", "172.16.0.0/12", "198.18.0.0/15"}, ""},
		{"insists", insists, nil, "10.86.7.0/24"},
		{"insists in vain", insists, []string{"10.86.0.0/16"}, ""},
	} {
		var used []netip.Prefix
		for _, u := range c.used {
			used = append(used, netip.MustParsePrefix(u))
		}
		got, err := c.cfg.chooseNetwork(used)
		if c.want == "" {
			if err == nil || !strings.Contains(err.Error(), "--network") {
				t.Errorf("%s: %v, %v; want a refusal with a remedy", c.name, got, err)
			}
		} else if err != nil || got.String() != c.want {
			t.Errorf("%s: %v, %v; want %s", c.name, got, err, c.want)
		}
	}
}

func TestSiteNamesItsServersShortly(t *testing.T) {
	c := testConfig("/lab")
	c.BMCPort = 443
	first := c.bmcAddress(1).String()
	if got := c.ranges(nil); !slices.Equal(got, []string{first + "-13"}) {
		t.Errorf("%q", got)
	}
	c.Servers = 1
	if got := c.ranges(nil); !slices.Equal(got, []string{first}) {
		t.Errorf("%q", got)
	}
	c.BMCPort = 0
	if got := c.ranges([]string{first + ":40001"}); !slices.Equal(got, []string{first + ":40001"}) {
		t.Errorf("%q", got)
	}
	for name, want := range map[string]string{"lab": "lab", "lab-2": "lab-2", "oslo": "lab-oslo", "labdev": "lab-labdev"} {
		c.Name = name
		if got := c.SiteName(); got != want {
			t.Errorf("site of lab %s is %s, want %s", name, got, want)
		}
	}
}

func TestVMNetworkIsPluggedIntoSecondPorts(t *testing.T) {
	c := testConfig("/lab")
	if a := c.spec(1); a.NICs[1].Bridge != "" || len(c.bridges()) != 1 || strings.Contains(c.site(nil), "platform:") {
		t.Errorf("without a VM network: %+v, bridges %q", a.NICs, c.bridges())
	}
	c.VMNetwork, c.Software, c.Machine = true, "/software", machine.Container
	a, b := c.spec(1), c.spec(2)
	if v := a.NICs[1].Bridge; v == "" || v == a.NICs[0].Bridge || v != b.NICs[1].Bridge || len(v) > 15 || !slices.Equal(c.bridges(), []string{a.NICs[0].Bridge, v}) {
		t.Errorf("%+v, %+v, bridges %q", a.NICs, b.NICs, c.bridges())
	}
	if text := c.site(nil); !strings.Contains(text, "platform:\n  # The second port of each server is for VMs.\n  networks:\n") || strings.Contains(text, "csi-driver") || !strings.Contains(text, "port: "+vmPort) {
		t.Errorf("the site file asks for no VM network:\n%s", text)
	}
	c.StorageClass = "shots"
	if text := c.site(nil); strings.Count(text, "\nplatform:") != 1 || !strings.Contains(text, "  components: [csi-driver]\n  storage: {class: shots, snapshots: shots}\n") {
		t.Errorf("the site file asks for no CSI driver:\n%s", text)
	}
	for servers, moves := range map[int]bool{2: false, 3: true} { // with two there is one hypervisor
		c.Servers = servers
		if text := c.site(nil); strings.Contains(text, "migrationNetwork: vms\n") != moves {
			t.Errorf("%d servers:\n%s", servers, text)
		}
	}
	c.Machine = machine.QEMU
	if err := c.Check(); err == nil || !strings.Contains(err.Error(), "VM network") {
		t.Errorf("full virtual machines have no port for it: %v", err)
	}
}
