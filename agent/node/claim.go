package node

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

const (
	// probes is how often the segment is asked (RFC 5227, section 1.1, PROBE_NUM).
	probes = 3
	// probeGap and probeEnd are shorter than that section's 1 to 2 s each: servers
	// of one rack answer within milliseconds, and the cluster waits for us.
	probeGap = 600 * time.Millisecond
	probeEnd = 800 * time.Millisecond
)

// claim makes sure that an address is free, or this machine's own.
func (s System) claim(ctx context.Context, step callhome.ClaimStep) error {
	address, err := netip.ParseAddr(step.Address)
	if err != nil {
		return prepare(err, "claim %s", step.Address)
	}
	mac, err := net.ParseMAC(step.MAC)
	if err != nil {
		return prepare(err, "claim %s", step.Address)
	}
	own, err := interfaces()
	if err != nil {
		return prepare(err, "claim %s: list network interfaces", address)
	}
	for _, i := range own {
		if i.has(address) {
			return nil
		}
	}
	at, err := s.segment(own, mac, address)
	if err != nil {
		return prepare(err, "claim %s", address)
	}
	holder, err := probe(ctx, at.Interface, address)
	if err != nil {
		return prepare(err, "claim %s: ask the segment of %s", address, at.Name)
	}
	if holder != nil {
		return fleet.NewFault(fleet.CodeAddressTaken, fleet.Conflict, nil, "%s is taken: %s answers for it in the segment of %s", address, holder, at.Name)
	}
	return nil
}

// device is a network interface with its addresses.
type device struct {
	net.Interface
	prefixes []netip.Prefix
}

func (d device) has(a netip.Addr) bool {
	for _, p := range d.prefixes {
		if p.Addr() == a {
			return true
		}
	}
	return false
}

func (d device) covers(a netip.Addr) bool {
	for _, p := range d.prefixes {
		if p.Masked().Contains(a) {
			return true
		}
	}
	return false
}

func interfaces() ([]device, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	out := make([]device, 0, len(all))
	for _, i := range all {
		d := device{Interface: i}
		addrs, err := i.Addrs()
		if err != nil {
			continue // gone since it was listed
		}
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok {
				if addr, ok := netip.AddrFromSlice(n.IP); ok {
					ones, _ := n.Mask.Size()
					d.prefixes = append(d.prefixes, netip.PrefixFrom(addr.Unmap(), ones))
				}
			}
		}
		out = append(out, d)
	}
	return out, nil
}

// segment chooses the interface through which the address would be used: of the
// port with the MAC, and the bonds and VLANs above it, the one whose own address
// is in the same network.
func (s System) segment(all []device, mac net.HardwareAddr, address netip.Addr) (device, error) {
	above := map[string]bool{}
	for _, d := range all {
		if d.Flags&net.FlagLoopback == 0 && (d.HardwareAddr.String() == mac.String() || s.permanent(d.Name) == mac.String()) {
			s.uppers(d.Name, above)
		}
	}
	if len(above) == 0 {
		return device{}, fmt.Errorf("no network port has the MAC address %s", mac)
	}
	var down []string
	for _, d := range all {
		if !above[d.Name] || !d.covers(address) {
			continue
		}
		if d.Flags&net.FlagUp == 0 {
			down = append(down, d.Name)
			continue
		}
		return d, nil
	}
	if len(down) > 0 {
		return device{}, fmt.Errorf("%s is down", strings.Join(down, ", "))
	}
	return device{}, fmt.Errorf("neither the port with MAC address %s nor a bond or VLAN above it has an address in the network of %s", mac, address)
}

// permanent is the burnt-in address of a bond's port.
func (s System) permanent(name string) string {
	b, err := os.ReadFile(filepath.Join(s.Root, "sys/class/net", name, "bonding_slave/perm_hwaddr"))
	if err != nil {
		return ""
	}
	return strings.ToLower(strings.TrimSpace(string(b)))
}

// uppers adds an interface and all that are built on it.
func (s System) uppers(name string, into map[string]bool) {
	if into[name] {
		return
	}
	into[name] = true
	entries, err := os.ReadDir(filepath.Join(s.Root, "sys/class/net", name))
	if err != nil {
		return
	}
	for _, e := range entries {
		if upper, ok := strings.CutPrefix(e.Name(), "upper_"); ok {
			s.uppers(upper, into)
		}
	}
}
