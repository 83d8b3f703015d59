package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// networks are those that the name allows, the preferred first: two private
// ones (RFC 1918) and one for benchmarks (RFC 2544), which no one routes.
func (c Config) networks() []netip.Prefix {
	n := c.block()
	return []netip.Prefix{
		netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 86, n, 0}), 24),
		netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 29, n, 0}), 24),
		netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, n, 0}), 24),
	}
}

// chooseNetwork takes the first network that nothing on this host uses, and
// that one only which the configuration insists on.
func (c Config) chooseNetwork(used []netip.Prefix) (netip.Prefix, error) {
	want := c.networks()
	if c.Network.IsValid() {
		want = []netip.Prefix{c.Network.Masked()}
	}
	var why []error
	for _, p := range want {
		taken := false
		for _, u := range used {
			if u.Overlaps(p) {
				why = append(why, fmt.Errorf("%s collides with %s, which this host uses", p, u))
				taken = true
				break
			}
		}
		if !taken {
			return p, nil
		}
	}
	return netip.Prefix{}, fmt.Errorf("lab %s: no network is free; name one with --network: %w", c.Name, errors.Join(why...))
}

// usedNetworks lists the prefixes of this host's addresses and routes. The
// default route is everyone's and does not count.
func usedNetworks() ([]netip.Prefix, error) {
	var used []netip.Prefix
	add := func(n *net.IPNet) {
		if n == nil {
			return
		}
		a, ok := netip.AddrFromSlice(n.IP)
		if ones, _ := n.Mask.Size(); ok && ones > 0 {
			used = append(used, netip.PrefixFrom(a.Unmap(), ones).Masked())
		}
	}
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("list addresses of this host: %w", err)
	}
	for _, a := range addrs {
		add(a.IPNet)
	}
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("list routes of this host: %w", err)
	}
	for _, r := range routes {
		add(r.Dst)
	}
	return used, nil
}

// addBridges makes the bridge that all servers are plugged into, and that of the
// VMs' network if there is one, which gets no address. c.Network is set.
func (c Config) addBridges() error {
	for _, name := range c.bridges() {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = name
		bridge := &netlink.Bridge{LinkAttrs: attrs}
		if err := netlink.LinkAdd(bridge); err != nil {
			return errors.Join(fmt.Errorf("lab %s: make bridge %s: %w", c.Name, name, err), c.deleteBridges())
		}
		var err error
		if name == c.bridge() {
			err = netlink.AddrAdd(bridge, &netlink.Addr{IPNet: &net.IPNet{IP: c.host(1).AsSlice(), Mask: net.CIDRMask(c.Network.Bits(), 32)}})
		}
		if err := errors.Join(err, netlink.LinkSetUp(bridge)); err != nil {
			return errors.Join(fmt.Errorf("lab %s: bridge %s: %w", c.Name, name, err), c.deleteBridges())
		}
	}
	return nil
}

// deleteBridges removes the lab's bridges that are there.
func (c Config) deleteBridges() error {
	var all []error
	for _, name := range c.bridges() {
		link, err := netlink.LinkByName(name)
		if gone := new(netlink.LinkNotFoundError); errors.As(err, gone) {
			continue
		}
		if err == nil {
			err = netlink.LinkDel(link)
		}
		if err != nil {
			all = append(all, fmt.Errorf("lab %s: delete bridge %s: %w", c.Name, name, err))
		}
	}
	return errors.Join(all...)
}
