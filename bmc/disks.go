package bmc

import (
	"context"
	"encoding/hex"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"metalrise.dev/fleet"
)

const (
	minDiskBytes = 1 << 30 // no disk that can take an operating system is smaller; a wrong unit is
	maxDiskBytes = 1 << 60
)

// disks reads the drives of the system and the volumes made of them.
// SimpleStorage and HPE's SmartStorage serve only where Storage names none, then
// what else the chassis holds and what the firmware could boot from. Nil disks
// mean that no place could be read.
func (i *inspection) disks(ctx context.Context) ([]fleet.Disk, []fleet.Volume) {
	var found []fleet.Disk
	controllers := i.r.members(ctx, i.sys.link("Storage"))
	read := controllers != nil
	drives := i.drives(ctx, controllers)
	volumes := i.volumes(ctx, controllers, drives)
	why := hidden(drives, volumes)
	for _, d := range drives {
		if disk, ok := i.drive(d); ok {
			disk.Hidden = why[same(d.path)]
			found = append(found, disk)
		}
	}
	for _, more := range []func(context.Context) ([]node, bool){i.simpleStorage, i.smartStorage, i.chassisDrives, i.bootDrives} {
		if len(found) > 0 {
			break
		}
		nodes, ok := more(ctx)
		read = read || ok
		for _, d := range nodes {
			if disk, ok := i.drive(d); ok {
				disk.Hidden = withheld(d)
				found = append(found, disk)
			}
		}
	}
	if !read {
		return nil, i.volumeFacts(volumes)
	}
	return i.distinct(found), i.volumeFacts(volumes)
}

// drives reads the drives of all storage controllers at the same time.
func (i *inspection) drives(ctx context.Context, controllers []node) []node {
	lists := make([][]node, len(controllers))
	var group sync.WaitGroup
	for k, c := range controllers {
		group.Go(func() { lists[k] = i.controllerDrives(ctx, c) })
	}
	group.Wait()
	return i.r.resolve(ctx, i.sys.path, slices.Concat(lists...))
}

// simpleStorage reads the devices of controllers without a tree of their own.
func (i *inspection) simpleStorage(ctx context.Context) ([]node, bool) {
	controllers := i.r.members(ctx, i.sys.link("SimpleStorage"))
	var out []node
	for _, c := range controllers {
		out = append(out, c.objects("Devices")...)
	}
	return out, controllers != nil
}

// chassisDrives reads the drives of the chassis, where no storage names them
// (Huawei iBMC without a RAID controller, Supermicro's NVMe backplanes).
func (i *inspection) chassisDrives(ctx context.Context) ([]node, bool) {
	var refs, out []node
	read := false
	for _, c := range i.chassis(ctx) {
		if own := i.r.members(ctx, c.link("Drives")); own != nil {
			out, read = append(out, own...), true
		}
		refs = append(refs, i.r.refs(c.object("Links").links("Drives")...)...)
	}
	out = append(out, i.r.resolve(ctx, i.sys.path, refs)...)
	return out, read || len(refs) > 0
}

// nvmeBoot is how EDK2 describes an NVMe namespace that it can boot from:
// model, serial number and namespace, with the blanks between squeezed.
var nvmeBoot = regexp.MustCompile(`^UEFI (.+) (\S+) (\d+)$`)

// nvmePath is the namespace in a UEFI device path (UEFI 2.10, 10.3.4.21).
var nvmePath = regexp.MustCompile(`(?i)/NVMe\(0x[0-9a-f]+,((?:[0-9a-f]{2}-){7}[0-9a-f]{2})\)`)

// bootDrives makes drives of the NVMe namespaces that the firmware offers to
// boot from. Sizes are not known there. It never says that there is none.
func (i *inspection) bootDrives(ctx context.Context) ([]node, bool) {
	var out []node
	for _, o := range i.r.members(ctx, i.sys.object("Boot").link("BootOptions")) {
		path := nvmePath.FindStringSubmatch(o.str("UefiDevicePath"))
		name := nvmeBoot.FindStringSubmatch(o.str("DisplayName"))
		if path == nil || name == nil {
			continue
		}
		out = append(out, node{path: o.path, seen: i.seen, m: map[string]any{
			"Model": name[1], "SerialNumber": name[2], "Protocol": "NVMe",
			"Identifiers": []any{map[string]any{"DurableNameFormat": "EUI", "DurableName": path[1]}},
		}})
	}
	return out, len(out) > 0
}

// controllerDrives gives the drives of a controller, or links to them. With
// several, it asks for them in place first.
func (i *inspection) controllerDrives(ctx context.Context, c node) []node {
	refs := c.objects("Drives")
	if len(refs) == 1 && strings.HasSuffix(same(refs[0].self()), "/drives") {
		return i.r.members(ctx, refs[0].self()) // a collection in place of a list
	}
	query := i.r.s.expand.get()
	if len(refs) < 2 || query == "" || isWhole(refs[0]) {
		return refs
	}
	n, err := i.r.fetch(ctx, c.path+"?"+query)
	if err != nil {
		i.r.s.expand.failed()
		return refs
	}
	if !isExpanded(n) {
		i.r.s.expand.failed()
	}
	n.path = c.path
	return n.objects("Drives")
}

// smartStorage walks HPE's own tree, the only one on iLO 5 with older drivers:
// Oem.Hpe.Links.SmartStorage, its array controllers, their disk drives.
func (i *inspection) smartStorage(ctx context.Context) ([]node, bool) {
	var out []node
	read := false
	for _, vendor := range []string{"Hpe", "Hp"} {
		l := i.sys.object("Oem").object(vendor)
		path := firstOf(l.object("Links").link("SmartStorage"), l.object("SmartStorage").self())
		top, ok := i.r.try(ctx, path)
		if !ok {
			continue
		}
		controllers := i.r.members(ctx, top.object("Links").link("ArrayControllers"))
		read = read || controllers != nil
		for _, c := range controllers {
			out = append(out, i.r.members(ctx, firstOf(c.object("Links").link("PhysicalDrives"), c.object("Links").link("DiskDrives")))...)
		}
	}
	return out, read
}

// drive reads one drive, false when it is an empty bay, a part of the backplane
// or a drive of the BMC.
func (i *inspection) drive(d node) (fleet.Disk, bool) {
	disk := fleet.Disk{
		Serial: cleanDiskSerial(d.str("SerialNumber")), Model: d.label("Model").Or(""), Media: media(d),
		Protocol: firstOf(d.str("Protocol"), d.str("InterfaceType")), Source: d.path,
	}
	if d.state() == "absent" || isVirtualDrive(d) {
		return disk, false
	}
	disk.SizeBytes = size(d)
	disk.WWN = i.wwn(d)
	if !disk.SizeBytes.IsKnown() && disk.Serial == "" && disk.WWN == "" &&
		(disk.Model == "" || strings.Contains(strings.ToLower(disk.Model+d.str("Name")), "backplane")) {
		return disk, false
	}
	disk.Removable = strings.EqualFold(disk.Protocol, "USB")
	return disk, true
}

// isVirtualDrive recognises the drives that BMCs show to their servers, by the
// names the makers of BMC firmware give them.
func isVirtualDrive(d node) bool {
	words := strings.ToLower(d.str("Manufacturer") + " " + d.str("Model") + " " + d.str("Name"))
	for _, w := range []string{"virtual cd", "virtual dvd", "virtual floppy", "virtual hdisk", "virtual media", "virtual usb", "virtual disc", "cdrom", "cd-rom", "dvd-rom",
		"-mapped v", "vhdd", "vdvd", "lcdrive", "oemdrv", "remote file share"} {
		if strings.Contains(words, w) {
			return true
		}
	}
	return strings.EqualFold(d.str("MediaType"), "CDROM") || strings.Contains(words, "empty bay") && d.str("SerialNumber") == ""
}

// size reads the capacity in bytes, or from the fields that some vendors have
// in its place. A size that no such disk has, or that its name contradicts, is in
// a wrong unit and stays unknown.
func size(d node) fleet.Maybe[int64] {
	key, bytes := "CapacityBytes", 0.0
	if v, ok := d.number(key); ok && v != 0 {
		bytes = v
	} else if v, ok := d.number("CapacityMiB"); ok && v > 0 {
		key, bytes = "CapacityMiB", v*(1<<20)
	} else if n, ok := d.number("CapacityLogicalBlocks"); ok && n > 0 {
		if block, ok := d.number("BlockSizeBytes"); ok && block >= 512 && block <= 1<<16 {
			key, bytes = "CapacityLogicalBlocks", n*block
		}
	} else if v, ok := d.object("Capacity").object("Data").number("AllocatedBytes"); ok && v > 0 {
		key, bytes = "Capacity", v
	}
	if bytes == 0 {
		return fleet.Maybe[int64]{}
	}
	if least := leastBytes(d); bytes < least || bytes > maxDiskBytes {
		d.bad(key, d.m[key], "the size of a disk in bytes")
		return fleet.Maybe[int64]{}
	}
	if named := namedBytes(d); named > 0 && (bytes > 4*named || bytes < named/4) {
		d.bad(key, d.m[key], "a size near the "+bytesText(named)+" that its name tells")
		return fleet.Maybe[int64]{}
	}
	return fleet.Known(int64(bytes))
}

// leastBytes is the size below which a unit is wrong. The smallest hard disks
// that servers with Redfish have hold 36 GB; a 20 TB disk counted in KiB would
// be 19.5 GB.
func leastBytes(d node) float64 {
	if strings.EqualFold(d.str("MediaType"), "HDD") {
		return 30e9
	}
	return minDiskBytes
}

// sizeInName is "1.92TB" or "480 GB" in a model or name, but not "12Gb/s".
var sizeInName = regexp.MustCompile(`(?:^|[ _-])(\d+(?:\.\d+)?) ?(TB|GB)(?:$|[ _,.;)-])`)

// namedBytes is the size that a drive's model or name tells, 0 when none does or
// they do not agree.
func namedBytes(d node) float64 {
	named := 0.0
	for _, key := range []string{"Model", "Name"} {
		m := sizeInName.FindAllStringSubmatch(d.str(key), -1)
		if len(m) != 1 {
			continue
		}
		v, err := strconv.ParseFloat(m[0][1], 64)
		if err != nil {
			continue
		}
		if v *= 1e9; m[0][2] == "TB" {
			v *= 1000
		}
		if named != 0 && named != v {
			return 0
		}
		named = v
	}
	return named
}

func bytesText(b float64) string {
	if b >= 1e12 {
		return strconv.FormatFloat(b/1e12, 'g', 4, 64) + " TB"
	}
	return strconv.FormatFloat(b/1e9, 'g', 4, 64) + " GB"
}

func media(d node) fleet.MediaKind {
	switch strings.ToLower(d.str("MediaType")) {
	case "ssd":
		return fleet.MediaSSD
	case "hdd", "smr":
		return fleet.MediaHDD
	}
	if strings.HasPrefix(strings.ToLower(d.str("Protocol")), "nvme") {
		return fleet.MediaSSD
	}
	return fleet.MediaUnknown
}

func cleanDiskSerial(s string) string {
	if strings.Trim(s, "0.-_ ") == "" || len(s) > 64 {
		return ""
	}
	for _, r := range s {
		if r < 0x20 || r > 0x7e {
			return ""
		}
	}
	return s
}

// wwn reads the world-wide name: NAA, else EUI, else NGUID. For a SAS drive it
// may be the address of one of its ports: nothing in Redfish tells that from the
// name of the drive (DSP8010 says only that NAA is a name "of the resource", and
// vendors give either). It is kept as told, and fleet.DiskRef.Match bears the
// difference of two bits where the serials are equal.
func (i *inspection) wwn(d node) string {
	ids := d.objects("Identifiers")
	for _, format := range []string{"NAA", "EUI", "NGUID"} {
		for _, id := range ids {
			if !strings.EqualFold(id.str("DurableNameFormat"), format) {
				continue
			}
			name := id.str("DurableName")
			if name == "" {
				continue
			}
			w := cleanWWN(name)
			if w == "" {
				id.bad("DurableName", name, "a name of 8 or 16 bytes in hexadecimal")
			} else if format == "EUI" && len(w) == 16 {
				w = i.turnEUI(id, w)
			}
			if w != "" {
				return w
			}
		}
	}
	return ""
}

// cleanWWN strips what vendors put around and between the digits.
func cleanWWN(name string) string {
	s := strings.ToLower(strings.TrimSpace(name))
	for _, prefix := range []string{"naa.", "eui.", "wwn-", "0x"} {
		s = strings.TrimPrefix(s, prefix)
	}
	s = strings.NewReplacer(":", "", "-", "", " ", "").Replace(s)
	if len(s) != 16 && len(s) != 32 || strings.Trim(s, "0") == "" || strings.Trim(s, "f") == "" {
		return ""
	}
	if _, err := hex.DecodeString(s); err != nil {
		return ""
	}
	return s
}

// makers are the IEEE prefixes of companies that make NVMe drives.
const makers = "002538 8ce38e 5cd2e4 00a075 001b44 ace42e e8238e 000cca 00e04c 0024cd 6479a7 707c18 48b02d "

// turnEUI puts an EUI-64 into the order in which the system will show it. Some
// BMCs print it with the last byte first, as UEFI device paths do. When neither
// end names a known maker the order cannot be told and the name is left out: a
// wrong name would make the right disk look like another one.
func (i *inspection) turnEUI(id node, w string) string {
	known := func(s string) bool { return strings.Contains(makers, s[:6]+" ") }
	if known(w) {
		return w
	}
	b, _ := hex.DecodeString(w)
	slices.Reverse(b)
	turned := hex.EncodeToString(b)
	if known(turned) {
		return turned
	}
	id.bad("DurableName", w, "an EUI whose byte order can be told")
	return ""
}

// distinct drops disks named twice, and a WWN that two disks claim.
func (i *inspection) distinct(found []fleet.Disk) []fleet.Disk {
	out := []fleet.Disk{}
	serials, owners := map[string][]int{}, map[string]int{}
	for _, d := range found {
		if k := slices.IndexFunc(serials[d.Serial], func(k int) bool { return isAgain(out[k], d) }); d.Serial != "" && k >= 0 {
			have := &out[serials[d.Serial][k]]
			have.WWN, have.Hidden, have.Model = firstOf(have.WWN, d.WWN), firstOf(have.Hidden, d.Hidden), firstOf(have.Model, d.Model)
			if !have.SizeBytes.IsKnown() {
				have.SizeBytes = d.SizeBytes
			}
			continue
		}
		if d.WWN != "" {
			k, claimed := owners[d.WWN]
			if claimed && (d.Serial == "" || out[k].Serial == "" || d.Serial == out[k].Serial) {
				continue
			}
			if claimed {
				i.seen.add(d.Source+"#Identifiers", "WWN %s is also that of %s: neither is believed", d.WWN, out[k].Source)
				out[k].WWN, d.WWN = "", ""
			} else {
				owners[d.WWN] = len(out)
			}
		}
		if d.Serial != "" {
			serials[d.Serial] = append(serials[d.Serial], len(out))
		}
		out = append(out, d)
	}
	return out
}

// isAgain tells whether two disks of one serial are one disk: nothing known of
// both differs. Some drives of different makers do share a serial.
func isAgain(a, b fleet.Disk) bool {
	x, okX := a.SizeBytes.Get()
	y, okY := b.SizeBytes.Get()
	return (a.Model == b.Model || a.Model == "" || b.Model == "") && (!okX || !okY || x == y)
}
