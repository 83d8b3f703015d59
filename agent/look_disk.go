package agent

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"metalrise.dev/fleet"
)

// seenDisk is one block device that could hold an operating system.
type seenDisk struct {
	name     string // in /sys/block, with '!' for '/'
	disk     fleet.Disk
	sector   int64
	readOnly bool
	inUse    string // by what; "" when free
}

const blockDir = "sys/block/"

// notDisks are block devices that are made by configuration or are no disks:
// loop, memory, mapped and assembled devices, optical and floppy drives, network
// devices, the special areas of memory cards.
func notDisks() *regexp.Regexp {
	return regexp.MustCompile(`^(loop|ram|zram|dm-|md|sr|scd|fd|nbd|rbd|drbd|bcache|zd|mtdblock|ubiblock|pmem.*s$|mmcblk\d+(boot|rpmb|gp))`)
}

// disks lists them in the order of their names, contents not looked at.
func (m *Machine) disks() []seenDisk {
	skip := notDisks()
	var out []seenDisk
	for _, name := range m.names(blockDir) {
		dir := blockDir + name + "/"
		if skip.MatchString(name) || m.read(dir+"hidden") == "1" {
			continue
		}
		blocks, err := strconv.ParseInt(m.read(dir+"size"), 10, 64)
		if err != nil || blocks <= 0 || blocks > 1<<50 {
			continue // a card reader without a card
		}
		d := seenDisk{name: name, sector: 512, readOnly: m.read(dir+"ro") == "1", inUse: m.usedBy(name)}
		if n, err := strconv.ParseInt(m.read(dir+"queue/logical_block_size"), 10, 64); err == nil && n >= 512 && n <= 4096 {
			d.sector = n
		}
		d.disk = fleet.Disk{
			Model:     printable(m.read(dir + "device/model")),
			SizeBytes: fleet.Known(blocks * 512), // always in units of 512 bytes, whatever the disk's sectors are
			Media:     m.media(name),
			Protocol:  m.protocol(name),
			Removable: m.read(dir+"removable") == "1",
			Source:    "/dev/" + strings.ReplaceAll(name, "!", "/"),
		}
		d.disk.WWN, d.disk.Serial = m.identify(name)
		out = append(out, d)
	}
	return out
}

// identify finds WWN and serial: from the kernel, from the raw inquiry pages, from
// udev's database, at last from the names udev made.
func (m *Machine) identify(name string) (wwn, serial string) {
	dir := blockDir + name + "/"
	wwn = cleanWWN(m.read(dir + "device/wwid"))
	if wwn == "" {
		wwn = cleanWWN(m.read(dir + "wwid"))
	}
	if page, err := m.readAll(dir + "device/vpd_pg83"); err == nil {
		if w := parseVPD83(page); w != "" {
			wwn = w
		}
	}
	if page, err := m.readAll(dir + "device/vpd_pg80"); err == nil {
		serial = parseVPD80(page)
	}
	for _, path := range []string{"device/serial", "serial"} {
		if serial == "" {
			serial = cleanName(m.read(dir + path))
		}
	}
	if wwn == "" || serial == "" {
		w, s := m.fromUdev(m.read(dir + "dev"))
		wwn, serial = first(wwn, w), first(serial, s)
	}
	if wwn == "" || serial == "" {
		w, s := m.fromLinks(name)
		wwn, serial = first(wwn, w), first(serial, s)
	}
	return wwn, serial
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// fromUdev reads the properties udev stored for a device number.
func (m *Machine) fromUdev(dev string) (wwn, serial string) {
	if dev == "" || strings.ContainsAny(dev, "/") {
		return "", ""
	}
	var plain string
	m.lines("run/udev/data/b"+dev, func(line string) {
		key, value, _ := strings.Cut(strings.TrimPrefix(line, "E:"), "=")
		switch key {
		case "ID_WWN_WITH_EXTENSION":
			wwn = cleanWWN(value)
		case "ID_WWN":
			plain = cleanWWN(value)
		case "ID_SERIAL_SHORT":
			serial = cleanName(value)
		}
	})
	return first(wwn, plain), serial
}

// fromLinks reads /dev/disk/by-id, whose names hold what udev knew.
func (m *Machine) fromLinks(name string) (wwn, serial string) {
	const dir = "dev/disk/by-id/"
	for _, link := range m.names(dir) {
		target, err := os.Readlink(m.path(dir + link))
		if err != nil || filepath.Base(target) != name || strings.Contains(link, "-part") {
			continue
		}
		if w, ok := strings.CutPrefix(link, "wwn-"); ok {
			wwn = first(wwn, cleanWWN(w))
			continue
		}
		if kind, rest, ok := strings.Cut(link, "-"); ok && (kind == "ata" || kind == "virtio" || kind == "scsi-SATA" || kind == "nvme" && !strings.HasPrefix(rest, "eui.")) {
			serial = first(serial, cleanName(rest[strings.LastIndexByte(rest, '_')+1:]))
		}
	}
	return wwn, serial
}

func (m *Machine) media(name string) fleet.MediaKind {
	switch m.read(blockDir + name + "/queue/rotational") {
	case "0":
		return fleet.MediaSSD
	case "1":
		return fleet.MediaHDD
	}
	return fleet.MediaUnknown
}

// protocol is told by the way to the disk in the device tree.
func (m *Machine) protocol(name string) string {
	link, _ := os.Readlink(m.path(blockDir + name))
	switch {
	case strings.HasPrefix(name, "nvme"):
		return "NVMe"
	case strings.HasPrefix(name, "vd"):
		return "virtio"
	case strings.HasPrefix(name, "mmcblk"):
		return "MMC"
	case strings.Contains(link, "/usb"):
		return "USB"
	case strings.Contains(link, "/ata"), m.read(blockDir+name+"/device/vendor") == "ATA":
		return "SATA"
	case strings.Contains(link, "/end_device-"):
		return "SAS"
	}
	return ""
}

// usedBy tells what uses a disk or one of its partitions: mounts, swap, or
// devices stacked on it. An exclusive open would fail as well, but without a why.
func (m *Machine) usedBy(name string) string {
	dirs := map[string]string{name: blockDir + name + "/"}
	for _, sub := range m.names(blockDir + name) {
		if m.exists(blockDir + name + "/" + sub + "/partition") {
			dirs[sub] = blockDir + name + "/" + sub + "/"
		}
	}
	devs := map[string]string{}
	for part, dir := range dirs {
		if holders := m.names(dir + "holders"); len(holders) > 0 {
			return "in use: " + part + " is part of " + strings.Join(holders, ", ")
		}
		if dev := m.read(dir + "dev"); dev != "" {
			devs[dev] = part
		}
	}
	used := ""
	m.lines("proc/self/mountinfo", func(line string) {
		f := strings.Fields(line) // proc(5): id, parent, major:minor, root, mount point, …
		if len(f) >= 5 && devs[f[2]] != "" && used == "" {
			used = "in use: " + devs[f[2]] + " is mounted on " + printable(f[4])
		}
	})
	m.lines("proc/swaps", func(line string) {
		f := strings.Fields(line)
		if len(f) > 0 && used == "" {
			if part := filepath.Base(f[0]); dirs[part] != "" {
				used = "in use: " + part + " is swap space"
			}
		}
	})
	return used
}
