package bmc

import (
	"context"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"

	"metalrise.dev/fleet"
)

// portSet gathers network ports by MAC, in the order they were met.
type portSet struct {
	list   []fleet.NIC
	index  map[string]int
	barred map[string]bool // addresses that are no Ethernet port of the server
}

func (s *portSet) add(n fleet.NIC) {
	if n.MAC == "" {
		return
	}
	i, known := s.index[n.MAC]
	if !known {
		s.index[n.MAC] = len(s.list)
		s.list = append(s.list, n)
		return
	}
	have := &s.list[i]
	if !have.Link.IsKnown() {
		have.Link = n.Link
	}
	if !have.SpeedMbps.IsKnown() {
		have.SpeedMbps = n.SpeedMbps
	}
	if have.Name == "" {
		have.Name = n.Name
	}
}

// nics reads the network ports from every place vendors use, and from the boot
// options where the others name none, or name interfaces without an address.
// Nil means that no place could be read.
func (i *inspection) nics(ctx context.Context) []fleet.NIC {
	set := &portSet{index: map[string]int{}, barred: map[string]bool{}}
	var interfaces []node
	var adapters []adapter
	var group sync.WaitGroup
	group.Go(func() { interfaces = i.r.members(ctx, i.sys.link("EthernetInterfaces")) })
	group.Go(func() { adapters = i.adapters(ctx) })
	group.Wait()
	nameless := false
	for _, e := range interfaces {
		i.ethernetInterface(e, set)
		nameless = nameless || macOf(e, "MACAddress", "PermanentMACAddress") == ""
	}
	for _, a := range adapters {
		a.fill(set)
	}
	var options []node
	if len(set.list) == 0 || nameless {
		options = i.r.members(ctx, i.sys.object("Boot").link("BootOptions"))
		for _, o := range options {
			set.add(fleet.NIC{MAC: bootOptionMAC(o.str("UefiDevicePath")), Source: o.path})
		}
	}
	set.list = slices.DeleteFunc(set.list, func(n fleet.NIC) bool { return set.barred[n.MAC] })
	if set.list == nil && (interfaces != nil || adapters != nil || options != nil) {
		return []fleet.NIC{}
	}
	return set.list
}

func (i *inspection) ethernetInterface(e node, set *portSet) {
	mac := macOf(e, "MACAddress", "PermanentMACAddress")
	if mac == "" || e.state() == "absent" {
		return
	}
	switch {
	case strings.EqualFold(e.str("EthernetInterfaceType"), "Virtual"), len(e.object("Links").links("RelatedInterfaces")) > 0:
		return // VLAN or bond over a port that is listed itself
	case e.object("Links").link("HostInterface") != "", isUSBPath(e.str("UefiDevicePath")):
		set.barred[mac] = true // the cable between server and BMC
		return
	}
	set.add(fleet.NIC{MAC: mac, Name: firstOf(e.str("Id"), e.str("Name")), Link: link(e), SpeedMbps: speed(e), Source: e.path})
}

func isUSBPath(p string) bool { return strings.Contains(strings.ToLower(p), "/usb(") }

// adapter is a network adapter with its functions and ports.
type adapter struct {
	self             node
	functions, ports []node
}

// adapters reads the network adapters of this system: those its network
// interfaces name, else those of its own chassis.
func (i *inspection) adapters(ctx context.Context) []adapter {
	nodes := i.adapterNodes(ctx)
	if nodes == nil {
		return nil
	}
	out := make([]adapter, len(nodes))
	var group sync.WaitGroup
	for k, n := range nodes {
		if n.state() == "absent" {
			continue
		}
		out[k].self = n
		group.Go(func() { out[k].functions = i.r.members(ctx, n.link("NetworkDeviceFunctions")) })
		group.Go(func() { out[k].ports = i.r.members(ctx, firstOf(n.link("Ports"), n.link("NetworkPorts"))) })
	}
	group.Wait()
	return out
}

func (i *inspection) adapterNodes(ctx context.Context) []node {
	var paths []string
	for _, n := range i.r.members(ctx, i.sys.link("NetworkInterfaces")) {
		paths = append(paths, n.object("Links").link("NetworkAdapter"))
	}
	if out := i.r.resolve(ctx, i.sys.path, i.r.refs(paths...)); len(out) > 0 {
		return out
	}
	var out []node
	for _, c := range i.r.resolve(ctx, i.sys.path, i.r.refs(i.sys.object("Links").links("Chassis")...)) {
		hosts := c.object("Links").links("ComputerSystems")
		if len(hosts) > 1 {
			i.seen.add(c.path, "holds %d systems: its network adapters cannot be told apart and were left out", len(hosts))
			continue
		}
		out = append(out, i.r.members(ctx, c.link("NetworkAdapters"))...)
	}
	return out
}

// fill adds what the functions tell; the ports add link and kind to that, and
// stand in where there is no function.
func (a adapter) fill(set *portSet) {
	ports := map[string]node{}
	for _, p := range a.ports {
		ports[same(p.path)] = p
	}
	for _, f := range a.functions {
		function(f, ports, set)
	}
	if len(a.functions) > 0 {
		return
	}
	for _, p := range a.ports {
		macs := append(p.object("Ethernet").texts("AssociatedMACAddresses"), p.texts("AssociatedNetworkAddresses")...)
		for _, text := range macs {
			mac := cleanMAC(text)
			if mac == "" {
				continue // Fibre Channel names are among them
			}
			if !isEthernetPort(p) {
				set.barred[mac] = true
				continue
			}
			set.add(fleet.NIC{MAC: mac, Name: portName(a.self, p), Link: link(p), SpeedMbps: speed(p), Source: p.path})
			break // further addresses are functions of the same port
		}
	}
}

func portName(a, p node) string { return strings.TrimSpace(a.str("Id") + " " + p.str("Id")) }

func function(f node, ports map[string]node, set *portSet) {
	mac := macOf(f.object("Ethernet"), "MACAddress", "PermanentMACAddress")
	if mac == "" || f.state() == "absent" {
		return
	}
	l := f.object("Links")
	port := ports[same(firstOf(l.link("PhysicalNetworkPortAssignment"), l.link("PhysicalPortAssignment"),
		f.link("PhysicalNetworkPortAssignment"), f.link("PhysicalPortAssignment")))]
	if !isEthernetFunction(f) || port.exists() && !isEthernetPort(port) {
		set.barred[mac] = true
		return
	}
	n := fleet.NIC{MAC: mac, Name: f.str("Id"), Source: f.path}
	if port.exists() {
		n.Link, n.SpeedMbps = link(port), speed(port)
	}
	set.add(n)
}

// isEthernetFunction reads the type of a function. Where Dell leaves it null,
// the documented prefix of its id tells ("InfiniBand.Slot.7-1", "FC.Slot.1-1").
func isEthernetFunction(f node) bool {
	switch strings.ToLower(f.str("NetDevFuncType")) {
	case "fibrechannel", "fibrechanneloverethernet", "infiniband":
		return false
	case "":
		id := strings.ToLower(f.str("Id"))
		return !strings.HasPrefix(id, "infiniband.") && !strings.HasPrefix(id, "fc.")
	}
	return true
}

func isEthernetPort(p node) bool {
	for _, key := range []string{"LinkNetworkTechnology", "ActiveLinkTechnology"} {
		switch strings.ToLower(p.str(key)) {
		case "infiniband", "fibrechannel":
			return false
		}
	}
	return true
}

func link(n node) fleet.Maybe[bool] {
	switch strings.ToLower(n.str("LinkStatus")) {
	case "linkup", "up":
		return fleet.Known(true)
	case "linkdown", "down", "nolink":
		return fleet.Known(false)
	}
	return fleet.Maybe[bool]{}
}

// speed reads whichever unit the resource has. 0 is what BMCs say of a port
// without link.
func speed(n node) fleet.Maybe[int] {
	const most = 10_000_000
	for _, key := range []string{"SpeedMbps", "CurrentLinkSpeedMbps"} {
		if v, ok := n.number(key); ok && v >= 1 && v <= most {
			return fleet.Known(int(v))
		}
	}
	if v, ok := n.number("CurrentSpeedGbps"); ok && v > 0 && v <= most/1000 {
		return fleet.Known(int(v * 1000))
	}
	return fleet.Maybe[int]{}
}

func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

// macOf reads the first usable address among the fields.
func macOf(n node, keys ...string) string {
	for _, key := range keys {
		text := n.str(key)
		if text == "" {
			continue
		}
		if mac := cleanMAC(text); mac != "" {
			return mac
		}
		if strings.Trim(text, "0:-. ") != "" {
			n.bad(key, text, "a unicast MAC address of 48 bits")
		}
	}
	return ""
}

// cleanMAC gives a 48-bit unicast address in lower case with colons, else "".
func cleanMAC(text string) string {
	plain := strings.NewReplacer(":", "", "-", "", ".", "", " ", "").Replace(text)
	if len(plain) != 12 {
		return ""
	}
	mac, err := net.ParseMAC(plain[0:2] + ":" + plain[2:4] + ":" + plain[4:6] + ":" + plain[6:8] + ":" + plain[8:10] + ":" + plain[10:12])
	if err != nil || mac[0]&1 != 0 || strings.Trim(plain, "0") == "" {
		return ""
	}
	return mac.String()
}

var devicePathMAC = regexp.MustCompile(`(?i)/MAC\(([0-9A-F]{12}),`)

// bootOptionMAC reads the address in a UEFI device path, unless it is behind USB.
func bootOptionMAC(path string) string {
	if isUSBPath(path) {
		return ""
	}
	if m := devicePathMAC.FindStringSubmatch(path); m != nil {
		return cleanMAC(m[1])
	}
	return ""
}
