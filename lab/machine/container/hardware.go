package container

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"metalrise.dev/lab/machine"
)

const (
	diskVendor = "LAB" // SCSI vendor identification
	scsiHost   = "devices/pci0000:00/0000:00:05.0/host0"
)

// node is a partition's device node.
func (p diskPart) node(disk string) string { return "/dev/" + disk + strconv.Itoa(p.Number) }

// diskNodes makes the disks' device nodes with the names udev would give them.
func (s *initramfs) diskNodes(dev string) error {
	for i, b := range s.plan.Disks {
		if err := blockDevice(filepath.Join(dev, b.Name), b.Minor); err != nil {
			return err
		}
		d := s.plan.Spec.Disks[i]
		names := []string{"wwn-0x" + d.WWN, "scsi-3" + d.WWN,
			"scsi-S" + udevName(diskVendor) + "_" + udevName(d.Model) + "_" + udevName(d.Serial)}
		for _, n := range names {
			if err := os.Symlink("../../"+b.Name, filepath.Join(dev, "disk/by-id", n)); err != nil {
				return err
			}
		}
	}
	for _, sys := range s.plan.Systems {
		for _, p := range []diskPart{sys.Boot, sys.Root} {
			if err := blockDevice(filepath.Join(dev, filepath.Base(p.node(sys.Disk))), p.Minor); err != nil {
				return err
			}
		}
	}
	o := s.plan.Optical
	if o == nil {
		return nil
	}
	if err := blockDevice(filepath.Join(dev, o.Name), o.Minor); err != nil {
		return err
	}
	if o.Label == "" || strings.ContainsAny(o.Label, "/\x00") {
		return nil
	}
	return os.Symlink("../../"+o.Name, filepath.Join(dev, "disk/by-label", o.Label))
}

// udevName is how udev writes vendor and model into a link's name.
func udevName(s string) string { return strings.Join(strings.Fields(s), "_") }

// linkPartitions names the booted disk's partitions as udev would.
func linkPartitions(d diskSystem) error {
	for name, p := range map[string]diskPart{"boot": d.Boot, "root": d.Root} {
		for _, dir := range []string{"by-label", "by-partlabel"} {
			if err := os.Symlink("../../"+filepath.Base(p.node(d.Disk)), filepath.Join("/dev/disk", dir, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// procPartitions is /proc/partitions with the machine's own disks.
func (s *initramfs) procPartitions() string {
	var b strings.Builder
	b.WriteString("major minor  #blocks  name\n\n")
	line := func(minor int, size int64, name string) {
		fmt.Fprintf(&b, "%4d %8d %10d %s\n", loopMajor, minor, size>>10, name)
	}
	for _, d := range s.plan.Disks {
		line(d.Minor, d.Size, d.Name)
	}
	if o := s.plan.Optical; o != nil {
		line(o.Minor, o.Size, o.Name)
	}
	for _, sys := range s.plan.Systems {
		for _, p := range []diskPart{sys.Boot, sys.Root} {
			line(p.Minor, p.Size, filepath.Base(p.node(sys.Disk)))
		}
	}
	return b.String()
}

// sys builds /sys: the machine's own disks and identity in the form in which
// the kernel shows SCSI disks and SMBIOS, and the real tree where namespaces
// make it the machine's own (network) or it is the kernel's (modules).
func (s *initramfs) sys(root string) error {
	sys, real := root+"/sys", root+"/run/.sysfs"
	if err := mountNew("sysfs", real, "sysfs", 0, ""); err != nil {
		return err
	}
	if err := mountNew("sysfs", sys, "tmpfs", unix.MS_NOSUID|unix.MS_NOEXEC|unix.MS_NODEV, "mode=0755"); err != nil {
		return err
	}
	for _, d := range []string{"block", "bus", "class/block", "dev/block", "dev/char", "firmware", "fs/cgroup"} {
		if err := os.MkdirAll(filepath.Join(sys, d), 0o755); err != nil {
			return err
		}
	}
	for _, d := range []string{"class/net", "devices/virtual/net", "devices/system", "module", "kernel"} {
		if err := bind(filepath.Join(real, d), filepath.Join(sys, d), d != "class/net" && d != "devices/virtual/net"); err != nil {
			return err
		}
	}
	if err := s.identity(sys); err != nil {
		return err
	}
	if err := s.blockTree(sys); err != nil {
		return err
	}
	if err := s.cgroups(sys); err != nil {
		return err
	}
	// A read-only /sys tells the system that devices are managed outside.
	if err := unix.Mount("", sys, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NOEXEC|unix.MS_NODEV, ""); err != nil {
		return fmt.Errorf("make %s read-only: %w", sys, err)
	}
	return unix.Unmount(real, unix.MNT_DETACH)
}

// writeAttrs writes files of one line each below dir.
func writeAttrs(dir string, attrs map[string]string) error {
	for name, value := range attrs {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(p, []byte(value+"\n"), 0o444); err != nil {
			return err
		}
	}
	return nil
}

func (s *initramfs) identity(sys string) error {
	m := s.plan.Spec
	err := writeAttrs(filepath.Join(sys, "devices/virtual/dmi/id"), map[string]string{
		"product_uuid": m.UUID, "product_serial": m.Serial, "sys_vendor": m.Vendor, "product_name": m.Model,
		"chassis_vendor": m.Vendor, "chassis_serial": m.Serial, "chassis_type": "23", "board_vendor": m.Vendor,
	})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(sys+"/class/dmi", 0o755); err != nil {
		return err
	}
	if err := os.Symlink("../../devices/virtual/dmi/id", sys+"/class/dmi/id"); err != nil {
		return err
	}
	if m.Firmware == "uefi" {
		return writeAttrs(sys+"/firmware/efi", map[string]string{"fw_platform_size": "64"})
	}
	return nil
}

func (s *initramfs) blockTree(sys string) error {
	for i, b := range s.plan.Disks {
		d := s.plan.Spec.Disks[i]
		if err := blockDir(sys, i, b, diskAttrs(b, d), deviceAttrs(d)); err != nil {
			return err
		}
		if err := writeVPD(sys, i, d); err != nil {
			return err
		}
		for _, system := range s.plan.Systems {
			if system.Disk != b.Name {
				continue
			}
			for _, p := range []diskPart{system.Boot, system.Root} {
				if err := partitionDir(sys, i, b, p); err != nil {
					return err
				}
			}
		}
	}
	if o := s.plan.Optical; o != nil {
		attrs := map[string]string{"size": sectors(o.Size), "ro": "1", "removable": "1", "queue/rotational": "1"}
		device := map[string]string{"type": "5", "vendor": pad(diskVendor, 8), "model": pad("VIRTUAL MEDIA", 16), "rev": "1.0 "}
		return blockDir(sys, len(s.plan.Disks), *o, attrs, device)
	}
	return nil
}

func sectors(bytes int64) string { return strconv.FormatInt(bytes/512, 10) }

// pad fills an identification field with blanks, as SCSI wants it (SPC-4, 6.4.2).
func pad(s string, n int) string { return fmt.Sprintf("%-*.*s", n, n, s) }

func diskAttrs(b blockNode, d machine.Disk) map[string]string {
	rotational := "0"
	if d.Rotating {
		rotational = "1"
	}
	return map[string]string{
		"size": sectors(b.Size), "ro": "0", "removable": "0", "hidden": "0", "range": "16", "ext_range": "256",
		"queue/rotational": rotational, "queue/logical_block_size": "512", "queue/physical_block_size": "512",
		"queue/hw_sector_size": "512", "queue/discard_granularity": "4096", "queue/discard_max_bytes": "4294966784",
		"queue/minimum_io_size": "512", "queue/optimal_io_size": "0",
	}
}

// deviceAttrs are a SCSI disk's own attributes; the vital product data pages
// hold its serial number (80h) and its NAA identifier (83h) (SPC-4, 7.8).
func deviceAttrs(d machine.Disk) map[string]string {
	return map[string]string{
		"type": "0", "vendor": pad(diskVendor, 8), "model": pad(d.Model, 16), "rev": "1.0 ",
		"state": "running", "wwid": "naa." + d.WWN, "scsi_level": "7",
	}
}

func writeVPD(sys string, target int, d machine.Disk) error {
	page80, page83, err := vpdPages(d)
	if err != nil {
		return err
	}
	unit := filepath.Join(sys, scsiHost, fmt.Sprintf("target0:0:%d/0:0:%d:0", target, target))
	if err := os.WriteFile(filepath.Join(unit, "vpd_pg80"), page80, 0o444); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(unit, "vpd_pg83"), page83, 0o444)
}

func vpdPages(d machine.Disk) (page80, page83 []byte, err error) {
	naa, err := hex.DecodeString(d.WWN)
	if err != nil {
		return nil, nil, fmt.Errorf("disk %s: wwn %q: %w", d.Serial, d.WWN, err)
	}
	page80 = append(binary.BigEndian.AppendUint16([]byte{0, 0x80}, uint16(len(d.Serial))), d.Serial...)
	// One descriptor: binary, of the logical unit, an NAA identifier.
	desc := append([]byte{1, 3, 0, byte(len(naa))}, naa...)
	page83 = append(binary.BigEndian.AppendUint16([]byte{0, 0x83}, uint16(len(desc))), desc...)
	return page80, page83, nil
}

// blockDir makes one disk's folder and the links to it.
func blockDir(sys string, target int, b blockNode, attrs, device map[string]string) error {
	addr := fmt.Sprintf("0:0:%d:0", target)
	unit := filepath.Join(scsiHost, fmt.Sprintf("target0:0:%d", target), addr)
	dir := filepath.Join(unit, "block", b.Name)
	devno := fmt.Sprintf("%d:%d", loopMajor, b.Minor)
	attrs["dev"] = devno
	attrs["uevent"] = fmt.Sprintf("MAJOR=%d\nMINOR=%d\nDEVNAME=%s\nDEVTYPE=disk", loopMajor, b.Minor, b.Name)
	if err := writeAttrs(filepath.Join(sys, dir), attrs); err != nil {
		return err
	}
	if err := writeAttrs(filepath.Join(sys, unit), device); err != nil {
		return err
	}
	links := map[string]string{
		filepath.Join(dir, "device"):            "../../../" + addr,
		filepath.Join(dir, "subsystem"):         strings.Repeat("../", 8) + "class/block",
		filepath.Join("block", b.Name):          "../" + dir,
		filepath.Join("class/block", b.Name):    "../../" + dir,
		filepath.Join("dev/block", devno):       "../../" + dir,
		filepath.Join(unit, "driver"):           "../../../../../../bus/scsi/drivers/sd",
		filepath.Join("bus/scsi/devices", addr): "../../../" + unit,
	}
	for name, to := range links {
		p := filepath.Join(sys, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			return err
		}
		if err := os.Symlink(to, p); err != nil {
			return err
		}
	}
	return nil
}

func partitionDir(sys string, target int, disk blockNode, p diskPart) error {
	name := filepath.Base(p.node(disk.Name))
	dir := filepath.Join(scsiHost, fmt.Sprintf("target0:0:%d/0:0:%d:0/block", target, target), disk.Name, name)
	devno := fmt.Sprintf("%d:%d", loopMajor, p.Minor)
	err := writeAttrs(filepath.Join(sys, dir), map[string]string{
		"partition": strconv.Itoa(p.Number), "start": sectors(p.Start), "size": sectors(p.Size), "ro": "0", "dev": devno,
		"uevent": fmt.Sprintf("MAJOR=%d\nMINOR=%d\nDEVNAME=%s\nDEVTYPE=partition\nPARTN=%d", loopMajor, p.Minor, name, p.Number),
	})
	if err != nil {
		return err
	}
	for link, to := range map[string]string{"class/block/" + name: "../../" + dir, "dev/block/" + devno: "../../" + dir} {
		if err := os.Symlink(to, filepath.Join(sys, link)); err != nil {
			return err
		}
	}
	return nil
}

// cgroups mounts the machine's control groups: the namespace makes its own
// group the root of each tree.
func (s *initramfs) cgroups(sys string) error {
	base := sys + "/fs/cgroup"
	if err := mountNew("tmpfs", base, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0755"); err != nil {
		return err
	}
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	for _, c := range s.plan.Cgroups {
		kind := "cgroup"
		if c.Options == "" {
			kind = "cgroup2"
		}
		if err := mountNew(kind, filepath.Join(base, c.Name), kind, flags, c.Options); err != nil {
			return err
		}
	}
	return nil
}
