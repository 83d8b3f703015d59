package nodeimage

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The script that gives the initramfs its network runs in a folder, on keyfiles as
// NetworkManager's documentation has them.
func TestKeyfilesBecomeTheNetworkOfTheInitramfs(t *testing.T) {
	const port = "[connection]\nid=port\nuuid=u1\ntype=ethernet\n\n[ethernet]\nmac-address=52:54:00:00:00:01\nmtu=9000\n\n"
	const manual = "[ipv4]\nmethod=manual\naddress1=192.0.2.9/24\ngateway=192.0.2.1\ndns=192.0.2.2;192.0.2.3;\nmay-fail=false\n\n[ipv6]\nmethod=disabled\n"
	const none = "[ipv4]\nmethod=disabled\n\n[ipv6]\nmethod=disabled\n"
	fixed := []string{"Address=192.0.2.9/24", "Gateway=192.0.2.1", "DNS=192.0.2.2", "DNS=192.0.2.3", "LinkLocalAddressing=no"}
	for _, c := range []struct {
		name     string
		keyfiles map[string]string
		want     map[string][]string // lines by file
		not      string              // in no file
	}{
		{"none", nil, nil, "Network"},
		{"port", map[string]string{"port": port + manual},
			map[string][]string{"10-port.network": append(fixed, "Type=ether", "MACAddress=52:54:00:00:00:01", "MTUBytes=9000")}, "DHCP="},
		{"DHCP", map[string]string{"port": port + "[ipv4]\nmethod=auto\n"}, map[string][]string{"10-port.network": {"DHCP=ipv4"}}, "\nAddress="},
		{"IPv6", map[string]string{"port": port + "[ipv6]\nmethod=manual\naddress1=2001:db8::9/64\ngateway=2001:db8::1\n[ipv4]\nmethod=disabled\n"},
			map[string][]string{"10-port.network": {"Address=2001:db8::9/64", "Gateway=2001:db8::1"}}, "DHCP="},
		{"VLAN", map[string]string{"port": port + none, "vlan": "[connection]\nuuid=u2\ntype=vlan\ninterface-name=vlan12\n[vlan]\nid=12\nparent=u1\n" + manual},
			map[string][]string{"10-port.network": {"VLAN=vlan12"}, "10-vlan.netdev": {"Name=vlan12", "Kind=vlan", "Id=12"}, "10-vlan.network": append(fixed, "Name=vlan12")}, "DHCP="},
		{"bond", map[string]string{
			"p1":   "[connection]\nuuid=u1\ntype=ethernet\nmaster=u3\nslave-type=bond\n[ethernet]\nmac-address=52:54:00:00:00:01\n",
			"p2":   "[connection]\nuuid=u2\ntype=ethernet\nmaster=u3\nslave-type=bond\n[ethernet]\nmac-address=52:54:00:00:00:02\n",
			"bond": "[connection]\nuuid=u3\ntype=bond\ninterface-name=bond0\n[ethernet]\ncloned-mac-address=52:54:00:00:00:01\n[bond]\nmode=802.3ad\nmiimon=100\nxmit_hash_policy=layer2+3\n" + manual},
			map[string][]string{"10-p1.network": {"Bond=bond0"}, "10-p2.network": {"Bond=bond0", "MACAddress=52:54:00:00:00:02"},
				"10-bond.netdev":  {"Kind=bond", "Name=bond0", "MACAddress=52:54:00:00:00:01", "Mode=802.3ad", "MIIMonitorSec=100ms", "TransmitHashPolicy=layer2+3"},
				"10-bond.network": append(fixed, "Name=bond0")}, "VLAN="},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			script, err := text("files/dracut/35lab-node/keyfile-network")
			if err != nil {
				t.Fatal(err)
			}
			from := filepath.Join(dir, "etc/coreos-firstboot-network")
			to := filepath.Join(dir, "run/systemd/network")
			script = strings.NewReplacer("/etc/", dir+"/etc/", "/run/", dir+"/run/").Replace(script)
			if err := os.MkdirAll(from, 0o755); err != nil {
				t.Fatal(err)
			}
			for name, text := range c.keyfiles {
				if err := os.WriteFile(filepath.Join(from, name+".nmconnection"), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if out, err := exec.Command("bash", "-c", script).CombinedOutput(); err != nil || len(out) > 0 {
				t.Fatalf("%v %s", err, out)
			}
			got, _ := filepath.Glob(to + "/10-*")
			all := ""
			for _, path := range got {
				b, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				all += string(b)
				for _, want := range c.want[filepath.Base(path)] {
					if !strings.Contains(string(b), want+"\n") {
						t.Errorf("%s lacks %s:\n%s", filepath.Base(path), want, b)
					}
				}
				delete(c.want, filepath.Base(path))
			}
			if len(c.want) > 0 || strings.Contains(all, c.not) {
				t.Errorf("not there: %v; must not have %q:\n%s", c.want, c.not, all)
			}
			masked, err := os.Readlink(to + "/80-dhcp.network")
			if (len(c.keyfiles) > 0) != (masked == "/dev/null") {
				t.Errorf("DHCP on all other ports: %q, %v", masked, err)
			}
		})
	}
}
