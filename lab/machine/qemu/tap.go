package qemu

import (
	"fmt"
	"hash/fnv"
	"os"

	"github.com/vishvananda/netlink"
	"metalrise.dev/lab/machine"
)

// tapName is the host's name of a NIC's other end: the machine's name and a few
// digits of its directory, so that two labs may both have an n1.
func tapName(spec machine.Spec, i int) string {
	h := fnv.New32a()
	h.Write([]byte(spec.Dir))
	return fmt.Sprintf("%s.%d%04x", spec.Name, i, h.Sum32()&0xffff)
}

// openTaps makes a tap for each NIC that has a bridge and joins it. A tap lives
// as long as someone holds its file: it goes with QEMU, however QEMU ends.
// The result has a nil for a NIC without a bridge.
func openTaps(spec machine.Spec) ([]*os.File, error) {
	files := make([]*os.File, len(spec.NICs))
	for i, n := range spec.NICs {
		if n.Bridge == "" {
			continue
		}
		f, err := openTap(tapName(spec, i), n.Bridge)
		if err != nil {
			closeAll(files)
			return nil, fmt.Errorf("nic %s on bridge %s: %w", n.MAC, n.Bridge, err)
		}
		files[i] = f
	}
	return files, nil
}

func openTap(name, bridge string) (*os.File, error) {
	master, err := netlink.LinkByName(bridge)
	if err != nil {
		return nil, err
	}
	tap := &netlink.Tuntap{
		LinkAttrs:  netlink.LinkAttrs{Name: name},
		Mode:       netlink.TUNTAP_MODE_TAP,
		Flags:      netlink.TUNTAP_NO_PI | netlink.TUNTAP_VNET_HDR,
		NonPersist: true,
		Queues:     1,
	}
	if err := netlink.LinkAdd(tap); err != nil {
		return nil, fmt.Errorf("add tap %s: %w", name, err)
	}
	f := tap.Fds[0]
	if err := netlink.LinkSetMaster(tap, master); err != nil {
		f.Close()
		return nil, fmt.Errorf("join tap %s: %w", name, err)
	}
	if err := netlink.LinkSetUp(tap); err != nil {
		f.Close()
		return nil, fmt.Errorf("set tap %s up: %w", name, err)
	}
	return f, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}
