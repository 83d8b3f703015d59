package ignition

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
	"strings"

	"metalrise.dev/fleet"
)

const (
	bondActiveBackup = "active-backup"
	bondLACP         = "802.3ad"

	connectionsDir = "/etc/NetworkManager/system-connections/"
	bondInterface  = "bond0"
	// bondMonitorMs is how often link is looked at; without it a bond never
	// notices a dead port. 100 ms is what the kernel's bonding guide starts from.
	bondMonitorMs = "100"
)

// onlyPlanned keeps NetworkManager from asking for an address on ports that the
// plan does not name: such a lease may bring a second default route, and one
// that never comes holds up network-online.target.
const onlyPlanned = `[main]
no-auto-default=*
`

// clusterInterfaces keeps NetworkManager away from what the pod network and VMs
// make for themselves. The API's virtual address needs no word here: it is added
// to a managed port, whose further addresses NetworkManager leaves alone while
// the port's connection stays up.
const clusterInterfaces = `[keyfile]
unmanaged-devices=interface-name:cni*;interface-name:flannel*;interface-name:veth*;interface-name:kube-*;interface-name:k6t-*;interface-name:tap*
`

// keyfile is a NetworkManager connection being written: see nm-settings-keyfile(5).
type keyfile struct{ b strings.Builder }

func (k *keyfile) section(name string, pairs ...string) {
	if k.b.Len() > 0 {
		k.b.WriteByte('\n')
	}
	fmt.Fprintf(&k.b, "[%s]\n", name)
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			fmt.Fprintf(&k.b, "%s=%s\n", pairs[i], pairs[i+1])
		}
	}
}

// connection starts a keyfile. Its UUID follows from server and part, so that
// one connection can name another one and the same plan gives the same bytes.
func connection(server fleet.ServerID, part, kind, interfaceName string, more ...string) *keyfile {
	k := &keyfile{}
	k.section("connection", append([]string{
		"id", "metalrise-" + part,
		"uuid", connectionUUID(server, part),
		"type", kind,
		"interface-name", interfaceName,
		"autoconnect-retries", "0", // for ever: a switch may take minutes to come up
	}, more...)...)
	return k
}

// connectionUUID is a UUID of version 8 (RFC 9562, section 5.8) made from a digest.
func connectionUUID(server fleet.ServerID, part string) string {
	u := sha256.Sum256([]byte("metalrise connection\n" + string(server) + "\n" + part))
	u[6] = u[6]&0x0f | 0x80
	u[8] = u[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:16])
}

// network adds the keyfiles of a server's network: ports are found by MAC, the
// topmost device (port, bond or VLAN) carries the address.
func (d *document) network(server fleet.ServerID, n fleet.Network) {
	d.file("/etc/NetworkManager/conf.d/90-metalrise.conf", 0o644, onlyPlanned)
	mtu := ""
	if n.MTU != 0 {
		mtu = fmt.Sprint(n.MTU)
	}
	below := "port"
	if n.Bond != nil {
		below = "bond"
		for i, mac := range n.Bond.MACs {
			k := connection(server, fmt.Sprintf("bond-port-%d", i+1), "ethernet", "",
				"master", connectionUUID(server, "bond"), "slave-type", "bond")
			k.section("ethernet", "mac-address", strings.ToLower(mac), "mtu", mtu)
			d.keyfile(fmt.Sprintf("bond-port-%d", i+1), k)
		}
	}
	lower := d.lowerDevice(server, n, below, mtu)
	if n.VLAN == 0 {
		addresses(lower, n)
		d.keyfile(below, lower)
		return
	}
	noAddresses(lower)
	d.keyfile(below, lower)
	vlan := connection(server, "vlan", "vlan", fmt.Sprintf("vlan%d", n.VLAN))
	vlan.section("ethernet", "mtu", mtu)
	vlan.section("vlan", "id", fmt.Sprint(n.VLAN), "parent", connectionUUID(server, below))
	addresses(vlan, n)
	d.keyfile("vlan", vlan)
}

// lowerDevice is the port, or the bond over the ports.
func (d *document) lowerDevice(server fleet.ServerID, n fleet.Network, part, mtu string) *keyfile {
	if n.Bond == nil {
		k := connection(server, part, "ethernet", "")
		k.section("ethernet", "mac-address", strings.ToLower(n.MAC), "mtu", mtu)
		return k
	}
	k := connection(server, part, "bond", bondInterface, "autoconnect-slaves", "1")
	// The planned MAC rather than that of the port that happened to come first.
	k.section("ethernet", "cloned-mac-address", strings.ToLower(n.MAC), "mtu", mtu)
	hash := ""
	if n.Bond.Mode == bondLACP {
		// By IP address too: everything routed has the gateway's MAC and would
		// share one link. This is the finest policy that 802.3ad allows.
		hash = "layer2+3"
	}
	k.section("bond", "mode", n.Bond.Mode, "miimon", bondMonitorMs, "xmit_hash_policy", hash)
	return k
}

func (d *document) keyfile(part string, k *keyfile) {
	// NetworkManager ignores keyfiles that others may read.
	d.file(connectionsDir+"metalrise-"+part+".nmconnection", 0o600, k.b.String())
}

// addresses gives a connection the planned address and no other: the family
// without one is off, so that no router's advertisement adds to the plan.
func addresses(k *keyfile, n fleet.Network) {
	own := netip.MustParsePrefix(n.Address)
	planned, other := "ipv4", "ipv6"
	if own.Addr().Is6() {
		planned, other = "ipv6", "ipv4"
	}
	dns := ""
	for _, s := range n.DNS {
		dns += s + ";"
	}
	k.section(planned, "method", "manual", "address1", own.String(), "gateway", n.Gateway, "dns", dns, "may-fail", "false")
	k.section(other, "method", "disabled")
}

func noAddresses(k *keyfile) {
	k.section("ipv4", "method", "disabled")
	k.section("ipv6", "method", "disabled")
}
