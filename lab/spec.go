package lab

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"

	"metalrise.dev/lab/machine"
)

const gib = 1 << 30

// Ranges of the last number of an address.
const (
	firstBMC    = 11 // 127.x.y.11 is the BMC of n1
	firstServer = 21 // the site file gives n1 .21
	virtualIP   = 10 // and the cluster's API .10
)

// spec is the machine with the given number, counted from 1. Everything in it
// follows from the lab's name and the number, so that a lab made again is the
// same rack.
func (c Config) spec(n int) machine.Spec {
	name := fmt.Sprintf("n%d", n)
	s := machine.Spec{
		Name: name, UUID: c.uuid(n), Serial: fmt.Sprintf("LAB%04d", n), Vendor: "Metalrise", Model: "Lab Server",
		Firmware: c.Firmware, CPUs: 2, MemoryMiB: c.memory(), Dir: filepath.Join(c.Dir, "servers", name),
		NICs: []machine.NIC{
			{MAC: c.mac(n, 0), Bridge: c.bridge()},
			{MAC: c.mac(n, 1)}, // no cable, as most ports of a real server
		},
	}
	if c.VMNetwork {
		s.NICs[1].Bridge = c.vmBridge()
	}
	for i := range c.Disks {
		s.Disks = append(s.Disks, c.disk(n, i))
	}
	return s
}

// disk is disk i of server n. All sizes differ, and the first is the smallest
// that takes an operating system: sizes in GiB are 10, 20, 4, 21, 22 and so on.
func (c Config) disk(n, i int) machine.Disk {
	d := machine.Disk{
		Name: fmt.Sprintf("disk%d", i), Serial: fmt.Sprintf("LAB%04d-D%d", n, i+1),
		WWN: "5" + c.digest("wwn", n, i)[:15], Model: "LAB SSD",
	}
	switch i {
	case 0:
		d.SizeBytes = 10 * gib
		if k := c.Swaps[fmt.Sprintf("n%d", n)]; k > 0 {
			d.Name, d.Serial = fmt.Sprintf("disk0-%d", k), fmt.Sprintf("%s-%d", d.Serial, k)
			d.WWN = "5" + c.digest(fmt.Sprintf("wwn of swap %d", k), n, i)[:15]
		}
	case 2:
		d.SizeBytes = 4 * gib // too small for an operating system
	default:
		d.SizeBytes, d.Rotating, d.Model = int64(20+max(0, i-2))*gib, true, "LAB HDD"
	}
	return d
}

// digest is stable material for identities, in hexadecimal.
func (c Config) digest(what string, n, i int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s/%s/%d/%d", c.Name, what, n, i))
	return hex.EncodeToString(sum[:])
}

// uuid is a name-based UUID (RFC 9562, section 5.5).
func (c Config) uuid(n int) string {
	u := sha1.Sum(fmt.Appendf(nil, "metalrise lab %s server %d", c.Name, n))
	u[6] = u[6]&0x0f | 0x50
	u[8] = u[8]&0x3f | 0x80
	h := hex.EncodeToString(u[:16])
	return fmt.Sprintf("%s-%s-%s-%s-%s", h[:8], h[8:12], h[12:16], h[16:20], h[20:])
}

// mac is in the range that virtual machines use; the last two bytes make it
// unique in the lab.
func (c Config) mac(n, port int) string {
	k := n*4 + port
	return fmt.Sprintf("52:54:00:%s:%02x:%02x", c.digest("mac", 0, 0)[:2], k>>8, k&0xff)
}

// bridge is the name of the lab's bridge, at most 15 characters. The folder is
// in it: labs of one name in different folders never take each other's.
func (c Config) bridge() string {
	sum := sha256.Sum256([]byte(c.Name + "\x00" + c.Dir))
	return fmt.Sprintf("mr-%.7s%x", c.Name, sum[:2])
}

// vmBridge is that of the VMs' network. Nothing of this computer is in it.
func (c Config) vmBridge() string { return "mv" + strings.TrimPrefix(c.bridge(), "mr") }

// bridges are all that the lab makes.
func (c Config) bridges() []string {
	if c.VMNetwork {
		return []string{c.bridge(), c.vmBridge()}
	}
	return []string{c.bridge()}
}

// block is the number that the name decides, 1 to 254.
func (c Config) block() byte {
	sum := sha256.Sum256([]byte(c.Name))
	return 1 + sum[0]%254
}

// bmcAddress is where the BMC of server n listens.
func (c Config) bmcAddress(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{127, 86, c.block(), byte(firstBMC + n - 1)})
}

// host is address number k of the lab's network.
func (c Config) host(k byte) netip.Addr {
	a := c.Network.Masked().Addr().As4()
	a[3] = k
	return netip.AddrFrom4(a)
}
