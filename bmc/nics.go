package bmc

import (
	"context"
	"maps"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"

	"metalrise.dev/fleet"
)

// portSet gathers network ports by MAC, in the order they were met. Ids are no
// key: those of ports repeat between adapters.
type portSet struct {
	list   []fleet.NIC
	index  map[string]int
	barred map[string]bool // addresses that are no Ethernet port of the server
	proven map[string]bool // addresses that an Ethernet function has, whatever else shares them
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
	have.Name, have.Permanent = firstOf(have.Name, n.Name), firstOf(have.Permanent, n.Permanent)
}

// nics reads the network ports from every place vendors use. Adapters list the
// hardware; the interfaces of some BMCs only what an agent in the last system
// told (iLO 5). Where no adapter can be read, or an interface has no address, the
// boot options are asked too, and the BIOS attributes where all else is silent.
// Nil means that no place could be read.
func (i *inspection) nics(ctx context.Context) []fleet.NIC {
	set := &portSet{index: map[string]int{}, barred: map[string]bool{}, proven: map[string]bool{}}
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
	before := len(set.list)
	for _, a := range adapters {
		a.fill(set)
	}
	for _, p := range i.hpePorts(ctx) {
		set.add(fleet.NIC{MAC: macOf(p, "MacAddress"), Name: p.str("Name"), Link: link(p), SpeedMbps: speed(p), Source: p.path})
	}
	var options []node
	if silent := len(adapters) == 0 && len(set.list) == before; silent || len(set.list) == 0 || nameless {
		options = i.r.members(ctx, i.sys.object("Boot").link("BootOptions"))
		for _, o := range options {
			set.add(fleet.NIC{MAC: bootOptionMAC(o), Source: o.path})
		}
	}
	if len(set.list) == 0 {
		i.attributeMACs(ctx, set)
	}
	set.list = slices.DeleteFunc(set.list, func(n fleet.NIC) bool { return set.barred[n.MAC] && !set.proven[n.MAC] })
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
	case isCableToBMC(e), isOtherFabric(e):
		set.barred[mac] = true
		return
	}
	n := fleet.NIC{MAC: mac, Name: firstOf(e.str("Id"), e.str("Name")), Link: link(e), SpeedMbps: speed(e), Source: e.path}
	if p := cleanMAC(e.str("PermanentMACAddress")); p != mac {
		n.Permanent = p
	}
	set.add(n)
}

// isCableToBMC recognises the interface between server and BMC: by its link, by
// a path over USB, or by what vendors call it (Lenovo and Supermicro ToManager,
// OpenBMC usb0, HPE Virtual NIC).
func isCableToBMC(e node) bool {
	if e.object("Links").link("HostInterface") != "" || isUSBPath(e.str("UefiDevicePath")) {
		return true
	}
	id := strings.ToLower(e.str("Id"))
	if id == "tomanager" || id == "tohost" || strings.HasPrefix(id, "usb") {
		return true
	}
	words := strings.ToLower(e.str("Name") + " " + e.str("Description"))
	for _, w := range []string{"over-usb", "over usb", "usb ethernet", "usb nic", "usbnic", "virtual nic", "rndis", "to manager"} {
		if strings.Contains(words, w) {
			return true
		}
	}
	return false
}

func isUSBPath(p string) bool { return strings.Contains(strings.ToLower(p), "/usb(") }

// isOtherFabric reads the documented prefixes of Dell's ids
// ("InfiniBand.Slot.7-1", "FC.Slot.1-1"), which older ones list as interfaces.
func isOtherFabric(n node) bool {
	id := strings.ToLower(n.str("Id"))
	return strings.HasPrefix(id, "infiniband.") || strings.HasPrefix(id, "fc.")
}

// hpePorts reads the adapters in HPE's own tree, the only one on iLO 4 and early
// iLO 5: Oem.Hpe.Links.NetworkAdapters, their PhysicalPorts.
func (i *inspection) hpePorts(ctx context.Context) []node {
	var out []node
	for _, vendor := range []string{"Hpe", "Hp"} {
		l := i.sys.object("Oem").object(vendor)
		for _, a := range i.r.members(ctx, firstOf(l.object("Links").link("NetworkAdapters"), l.object("NetworkAdapters").self())) {
			out = append(out, a.objects("PhysicalPorts")...)
		}
	}
	return out
}

// attributeMACs is the last resort: firmware attributes that hold an address.
func (i *inspection) attributeMACs(ctx context.Context, set *portSet) {
	bios, ok := i.r.try(ctx, i.sys.link("Bios"))
	if !ok {
		return
	}
	attributes := bios.object("Attributes")
	if len(attributes.m) > maxAttributes {
		return
	}
	for _, key := range slices.Sorted(maps.Keys(attributes.m)) {
		if name := plainName(key); strings.Contains(name, "mac") && !strings.Contains(name, "bmc") {
			set.add(fleet.NIC{MAC: cleanMAC(attribute(attributes.m[key])), Name: clean(key), Source: fieldPath(bios.path, "Attributes."+clean(key))})
		}
	}
}

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
		group.Go(func() { out[k].functions = i.parts(ctx, n, "NetworkDeviceFunctions") })
		group.Go(func() { out[k].ports = i.parts(ctx, n, "Ports", "NetworkPorts") })
	}
	group.Wait()
	return out
}

// parts reads the first collection an adapter has of those named, else what its
// controllers link to (Huawei).
func (i *inspection) parts(ctx context.Context, adapter node, keys ...string) []node {
	for _, key := range keys {
		if l := adapter.link(key); l != "" {
			return i.r.members(ctx, l)
		}
	}
	var refs []node
	for _, c := range adapter.objects("Controllers") {
		for _, links := range []node{c.object("Links"), c.object("Link")} {
			for _, key := range keys {
				refs = append(refs, i.r.refs(links.links(key)...)...)
			}
		}
	}
	return i.r.resolve(ctx, adapter.path, refs)
}

// chassis reads the chassis of this system that hold no other one. Where the
// system names none, those that name it are meant.
func (i *inspection) chassis(ctx context.Context) []node {
	links := i.sys.object("Links").links("Chassis")
	all := i.r.resolve(ctx, i.sys.path, i.r.refs(links...))
	if len(links) == 0 {
		all = slices.DeleteFunc(i.r.members(ctx, i.root.link("Chassis")), func(c node) bool {
			return !slices.ContainsFunc(c.object("Links").links("ComputerSystems"), func(p string) bool { return same(p) == same(i.sys.path) })
		})
	}
	return slices.DeleteFunc(all, func(c node) bool {
		hosts := c.object("Links").links("ComputerSystems")
		if len(hosts) > 1 {
			i.seen.add(c.path, "holds %d systems: what is in it cannot be told apart and was left out", len(hosts))
		}
		return len(hosts) > 1
	})
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
	for _, c := range i.chassis(ctx) {
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
	if p := cleanMAC(f.object("Ethernet").str("PermanentMACAddress")); p != mac {
		n.Permanent = p
	}
	if strings.EqualFold(f.str("NetDevFuncType"), "Ethernet") {
		set.proven[mac] = true
	}
	if port.exists() {
		n.Link, n.SpeedMbps = link(port), speed(port)
	}
	set.add(n)
}

// isEthernetFunction reads the type of a function. Where Dell leaves it null,
// its id tells.
func isEthernetFunction(f node) bool {
	switch strings.ToLower(f.str("NetDevFuncType")) {
	case "fibrechannel", "fibrechanneloverethernet", "infiniband":
		return false
	case "":
		return !isOtherFabric(f)
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

var (
	devicePathMAC  = regexp.MustCompile(`(?i)/MAC\(([0-9A-F]{12}),`)
	displayNameMAC = regexp.MustCompile(`(?i)(?:MAC[:=(]|- )((?:[0-9A-F]{2}[:-]?){5}[0-9A-F]{2})\b`)
)

// bootOptionMAC reads the address in a UEFI device path, unless it is behind
// USB, or in the name of a network option that has no path.
func bootOptionMAC(o node) string {
	path := o.str("UefiDevicePath")
	if isUSBPath(path) {
		return ""
	}
	if m := devicePathMAC.FindStringSubmatch(path); m != nil {
		return cleanMAC(m[1])
	}
	if name := o.str("DisplayName"); path == "" && !strings.Contains(strings.ToLower(name), "usb") {
		if m := displayNameMAC.FindStringSubmatch(name); m != nil {
			return cleanMAC(m[1])
		}
	}
	return ""
}
