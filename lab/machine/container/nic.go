package container

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"

	"metalrise.dev/lab/machine"
)

// firstSlot is the PCI slot of the first network card, as on the emulated
// machines of the other kind: the cards are ens3, ens4, …
const firstSlot = 3

// guestNIC is the name of a card inside the machine.
func guestNIC(i int) string { return fmt.Sprintf("ens%d", firstSlot+i) }

// hostNIC is the name of a card's host end: at most 15 characters
// (IFNAMSIZ), distinct for machines of one name in different labs.
func (m *Machine) hostNIC(i int) string {
	return fmt.Sprintf("%s.%d%s", m.spec.Name, i, m.tag[:4])
}

// plug makes the machine's network cards: virtual cable pairs with one end in
// the network namespace of process pid and the other in the card's bridge.
func (m *Machine) plug(pid int) error {
	for i, n := range m.spec.NICs {
		if err := m.plugOne(i, n, pid); err != nil {
			return fmt.Errorf("machine %s: plug network card %s: %w", m.spec.Name, n.MAC, err)
		}
	}
	return nil
}

func (m *Machine) plugOne(i int, n machine.NIC, pid int) error {
	mac, err := net.ParseMAC(n.MAC)
	if err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = m.hostNIC(i)
	if n.Bridge != "" {
		bridge, err := netlink.LinkByName(n.Bridge)
		if err != nil {
			return fmt.Errorf("bridge %s: %w", n.Bridge, err)
		}
		attrs.MasterIndex = bridge.Attrs().Index
	}
	cable := netlink.NewVeth(attrs)
	cable.PeerName, cable.PeerHardwareAddr, cable.PeerNamespace = guestNIC(i), mac, netlink.NsPid(pid)
	if err := netlink.LinkAdd(cable); err != nil {
		return fmt.Errorf("make %s: %w", attrs.Name, err)
	}
	if n.Bridge == "" {
		return nil // no cable: the card has no carrier
	}
	return netlink.LinkSetUp(cable)
}

// unplug removes the host ends, and with them the cards.
func (m *Machine) unplug() error {
	var errs []error
	for i := range m.spec.NICs {
		link, err := netlink.LinkByName(m.hostNIC(i))
		var missing netlink.LinkNotFoundError
		if errors.As(err, &missing) {
			continue
		}
		if err == nil {
			err = netlink.LinkDel(link)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("remove network device %s: %w", m.hostNIC(i), err))
		}
	}
	return errors.Join(errs...)
}
