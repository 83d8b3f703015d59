package agent

import (
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"metalrise.dev/fleet"
)

const netDir = "sys/class/net/"

// lookNICs lists the physical network ports. A machine that has none at all (a
// container shows only its end of a cable pair) lists its plain Ethernet
// interfaces instead.
func (m *Machine) lookNICs() []fleet.NIC {
	var physical, plain []fleet.NIC
	for _, name := range m.names(netDir) {
		dir := netDir + name + "/"
		if name == "lo" || m.read(dir+"type") != "1" { // ARPHRD_ETHER
			continue
		}
		nic, ok := m.lookNIC(name)
		if !ok {
			continue
		}
		switch {
		case m.exists(dir + "device"):
			physical = append(physical, nic)
		case !m.isVirtualNet(dir):
			plain = append(plain, nic)
		}
	}
	if len(physical) > 0 {
		return physical
	}
	return plain
}

// isVirtualNet knows interfaces made by configuration: the kernel names their
// kind (DEVTYPE), except for a few that show it by a folder or file.
func (m *Machine) isVirtualNet(dir string) bool {
	for _, mark := range []string{"bonding", "bridge", "tun_flags", "brport/bridge"} {
		if m.exists(dir + mark) {
			return true
		}
	}
	return strings.Contains(m.read(dir+"uevent"), "DEVTYPE=") || strings.HasPrefix(filepath.Base(strings.TrimSuffix(dir, "/")), "dummy")
}

func (m *Machine) lookNIC(name string) (fleet.NIC, bool) {
	dir := netDir + name + "/"
	mac, err := net.ParseMAC(m.permanentMAC(name))
	if err != nil || len(mac) != 6 || isZero(mac) {
		return fleet.NIC{}, false
	}
	nic := fleet.NIC{MAC: mac.String(), Name: name, Source: "/" + netDir + name}
	// carrier cannot be read while the interface is down: then link is unknown.
	switch m.read(dir + "carrier") {
	case "1":
		nic.Link = fleet.Known(true)
	case "0":
		nic.Link = fleet.Known(false)
	}
	if speed, err := strconv.Atoi(m.read(dir + "speed")); err == nil && speed > 0 {
		nic.SpeedMbps = fleet.Known(speed)
	}
	if target, err := os.Readlink(m.path(dir + "device/driver")); err == nil {
		nic.Driver = filepath.Base(target)
	}
	return nic, true
}

// permanentMAC is the address burnt into the port: a bond gives its ports the
// address of one of them.
func (m *Machine) permanentMAC(name string) string {
	dir := netDir + name + "/"
	if mac := m.read(dir + "bonding_slave/perm_hwaddr"); mac != "" {
		return mac
	}
	if m.own() == nil && m.exists(dir+"device") {
		if mac, ok := ethtoolMAC(name); ok {
			return mac.String()
		}
	}
	return m.read(dir + "address")
}

// ethtoolMAC asks the driver (linux/ethtool.h, ETHTOOL_GPERMADDR).
func ethtoolMAC(name string) (net.HardwareAddr, bool) {
	type request struct {
		cmd, size uint32
		data      [32]byte
	}
	type ifreq struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}
	if len(name) >= unix.IFNAMSIZ {
		return nil, false
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, false
	}
	defer func() { _ = unix.Close(fd) }()
	req := &request{cmd: unix.ETHTOOL_GPERMADDR, size: 32}
	var pin runtime.Pinner
	pin.Pin(req)
	defer pin.Unpin()
	ifr := &ifreq{data: unsafe.Pointer(req)}
	copy(ifr.name[:], name)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(ifr)))
	mac := net.HardwareAddr(req.data[:6])
	if errno != 0 || req.size != 6 || isZero(mac) {
		return nil, false
	}
	return mac, true
}
