package bmc

import (
	"context"
	"encoding/hex"
	"slices"
	"strings"
	"sync"

	"metalrise.dev/fleet"
)

const (
	minDiskBytes = 1 << 30 // no disk that can take an operating system is smaller; a wrong unit is
	maxDiskBytes = 1 << 60
)

// disks reads the drives of the system. SimpleStorage and HPE's SmartStorage
// serve only where Storage names none. Nil means that no place could be read.
func (i *inspection) disks(ctx context.Context) []fleet.Disk {
	var found []fleet.Disk
	drives, read := i.drives(ctx)
	i.noteHidden(ctx, drives)
	for _, d := range drives {
		if disk, ok := i.drive(d); ok {
			found = append(found, disk)
		}
	}
	if len(found) == 0 {
		simple := i.r.members(ctx, i.sys.link("SimpleStorage"))
		read = read || simple != nil
		for _, c := range simple {
			for _, d := range c.objects("Devices") {
				if disk, ok := i.drive(d); ok {
					found = append(found, disk)
				}
			}
		}
	}
	if len(found) == 0 {
		smart := i.smartStorage(ctx)
		read = read || smart != nil
		for _, d := range smart {
			if disk, ok := i.drive(d); ok {
				found = append(found, disk)
			}
		}
	}
	if !read {
		return nil
	}
	return i.distinct(found)
}

// drives reads the drives of all storage controllers at the same time, and
// tells whether there was anything to read.
func (i *inspection) drives(ctx context.Context) (drives []node, read bool) {
	controllers := i.r.members(ctx, i.sys.link("Storage"))
	lists := make([][]node, len(controllers))
	var group sync.WaitGroup
	for k, c := range controllers {
		group.Go(func() { lists[k] = i.controllerDrives(ctx, c) })
	}
	group.Wait()
	return i.r.resolve(ctx, i.sys.path, slices.Concat(lists...)), controllers != nil
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
	n, _, err := i.r.s.get(ctx, c.path+"?"+query, i.seen)
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
func (i *inspection) smartStorage(ctx context.Context) []node {
	var out []node
	for _, vendor := range []string{"Hpe", "Hp"} {
		l := i.sys.object("Oem").object(vendor)
		path := firstOf(l.object("Links").link("SmartStorage"), l.object("SmartStorage").self())
		top, ok := i.r.try(ctx, path)
		if !ok {
			continue
		}
		for _, c := range i.r.members(ctx, top.object("Links").link("ArrayControllers")) {
			out = append(out, i.r.members(ctx, firstOf(c.object("Links").link("PhysicalDrives"), c.object("Links").link("DiskDrives")))...)
		}
	}
	return out
}

// drive reads one drive, false when it is an empty bay, a part of the backplane
// or a drive of the BMC.
func (i *inspection) drive(d node) (fleet.Disk, bool) {
	disk := fleet.Disk{
		Serial: cleanDiskSerial(d.str("SerialNumber")), Model: d.str("Model"), Media: media(d),
		Protocol: firstOf(d.str("Protocol"), d.str("InterfaceType")), SizeBytes: size(d), Source: d.path,
	}
	if d.state() == "absent" || isVirtualDrive(d) {
		return disk, false
	}
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
	for _, w := range []string{"virtual cd", "virtual dvd", "virtual floppy", "virtual hdisk", "virtual media", "virtual usb", "virtual disc", "cdrom", "cd-rom", "dvd-rom"} {
		if strings.Contains(words, w) {
			return true
		}
	}
	return strings.EqualFold(d.str("MediaType"), "CDROM") || strings.Contains(words, "empty bay") && d.str("SerialNumber") == ""
}

// size reads the capacity in bytes, or in MiB where only that is given. A size
// no disk has is a wrong unit and stays unknown.
func size(d node) fleet.Maybe[int64] {
	if v, ok := d.number("CapacityBytes"); ok && v != 0 {
		if v >= minDiskBytes && v <= maxDiskBytes {
			return fleet.Known(int64(v))
		}
		d.bad("CapacityBytes", d.m["CapacityBytes"], "the size of a disk in bytes")
		return fleet.Maybe[int64]{}
	}
	if v, ok := d.number("CapacityMiB"); ok && v >= minDiskBytes>>20 && v <= maxDiskBytes>>20 {
		return fleet.Known(int64(v) << 20)
	}
	return fleet.Maybe[int64]{}
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

// wwn reads the world-wide name: NAA, else EUI.
func (i *inspection) wwn(d node) string {
	ids := d.objects("Identifiers")
	for _, format := range []string{"NAA", "EUI"} {
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
	serials, owners := map[string]bool{}, map[string]int{}
	for _, d := range found {
		if d.Serial != "" {
			key := d.Serial + "\x00" + d.Model + "\x00" + d.SizeBytes.String()
			if serials[key] {
				continue
			}
			serials[key] = true
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
		out = append(out, d)
	}
	return out
}
