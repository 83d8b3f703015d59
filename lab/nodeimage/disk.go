package nodeimage

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"metalrise.dev/lab/recipe"
)

const sectorSize = 512

// partition is one part of the disk image. Starts follow from sizes: the first
// begins at 1 MiB, each other where the one before ends.
type partition struct {
	name     string
	typeCode string // sgdisk's
	sectors  int64
}

// partitions has the order and the names of a CoreOS disk, which installers
// look for. The boot file system holds one kernel and initramfs; the root has
// some 400 MiB to spare until the first boot grows it to the disk's end.
var partitions = [...]partition{
	{"BIOS-BOOT", "ef02", 1 << 20 / sectorSize},
	{"EFI-SYSTEM", "ef00", 8 << 20 / sectorSize},
	{"boot", "8300", 128 << 20 / sectorSize},
	{"root", "8300", 640 << 20 / sectorSize},
}

// start returns the first sector of partition number i, from 0.
func start(i int) int64 {
	lba := int64(1 << 20 / sectorSize)
	for _, p := range partitions[:i] {
		lba += p.sectors
	}
	return lba
}

// diskSize leaves a last mebibyte for the backup partition table.
func diskSize() int64 { return (start(len(partitions)) + 1<<20/sectorSize) * sectorSize }

// diskImage writes the raw image to out: root is the tree of the root file
// system, dir holds kernel and initramfs. It needs no loop devices.
func (b *builder) diskImage(work, root, dir, out string) error {
	b.Say("making the disk image")
	parts, err := b.diskParts(work, root, dir)
	if err != nil {
		return err
	}
	f, err := os.Create(out)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(diskSize()); err != nil {
		return err
	}
	args := []string{"--clear"}
	for i, p := range partitions {
		args = append(args,
			fmt.Sprintf("--new=%d:%d:%d", i+1, start(i), start(i)+p.sectors-1),
			fmt.Sprintf("--typecode=%d:%s", i+1, p.typeCode), fmt.Sprintf("--change-name=%d:%s", i+1, p.name))
	}
	if err := b.Run(recipe.Command{Name: "sgdisk", Args: append(args, out)}); err != nil {
		return err
	}
	for i, path := range parts {
		if err := copyInto(f, path, start(i)*sectorSize, partitions[i].sectors*sectorSize); err != nil {
			return fmt.Errorf("partition %s: %w", partitions[i].name, err)
		}
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	if err := bootSector(f); err != nil {
		return fmt.Errorf("boot sector: %w", err)
	}
	return f.Close()
}

// diskParts makes the content of each partition as a file of its own.
func (b *builder) diskParts(work, root, dir string) ([]string, error) {
	path := func(name string) string { return filepath.Join(work, name) }
	boot := path("boot")
	defer os.RemoveAll(boot)
	for _, d := range []string{"grub", "ignition"} {
		if err := os.MkdirAll(filepath.Join(boot, d), 0o755); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile(filepath.Join(boot, "ignition.firstboot"), nil, 0o644); err != nil {
		return nil, err
	}
	for from, to := range map[string]string{"disk-grub.cfg": "grub/grub.cfg", "disk-kargs.cfg": "grub/kargs.cfg"} {
		config, err := text("files/boot/" + from)
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(boot, to), []byte(config), 0o644); err != nil {
			return nil, err
		}
	}
	for from, to := range map[string]string{kernelFile: "vmlinuz", initramfsFile: "initrd.img"} {
		if err := b.Run(recipe.Command{Name: "cp", Args: []string{filepath.Join(dir, from), filepath.Join(boot, to)}}); err != nil {
			return nil, err
		}
	}
	// the prefix without a disk: the boot partition of the disk that the firmware
	// booted, never a like-named one of another disk
	const prefix, early = "(,gpt3)/grub", "configfile $prefix/grub.cfg\n"
	if err := b.grubImage(work, "i386-pc", prefix, early, path("core.img"), "biosdisk", "ext2"); err != nil {
		return nil, err
	}
	if err := relocateCore(path("core.img"), start(0)); err != nil {
		return nil, err
	}
	if err := b.grubImage(work, "x86_64-efi", prefix, early, path("BOOTX64.EFI"), "ext2", "fat"); err != nil {
		return nil, err
	}
	if err := b.efiPartition(path("BOOTX64.EFI"), path("esp.img"), partitions[1].sectors*sectorSize); err != nil {
		return nil, err
	}
	for i, tree := range map[int]string{2: boot, 3: root} {
		p := partitions[i]
		// grub of this release reads neither of the two features that are off
		if err := b.Run(recipe.Command{Name: "mke2fs", Args: []string{"-q", "-F", "-t", "ext4", "-O", "^metadata_csum_seed,^orphan_file",
			"-m", "0", "-L", p.name, "-d", tree, path(p.name + ".img"), fmt.Sprintf("%dk", p.sectors*sectorSize/1024)}}); err != nil {
			return nil, err
		}
	}
	return []string{path("core.img"), path("esp.img"), path("boot.img"), path("root.img")}, nil
}

// copyInto writes the non-zero blocks of a file into f at an offset.
func copyInto(f *os.File, path string, offset, limit int64) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	buf := make([]byte, 1<<20)
	zero := make([]byte, 1<<20)
	for {
		n, err := io.ReadFull(in, buf)
		if limit -= int64(n); limit < 0 {
			return fmt.Errorf("%s is larger than its partition", filepath.Base(path))
		}
		if n > 0 && string(buf[:n]) != string(zero[:n]) {
			if _, err := f.WriteAt(buf[:n], offset); err != nil {
				return err
			}
		}
		offset += int64(n)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// Where GRUB's boot code keeps disk addresses (grub-core/boot/i386/pc: boot.S,
// diskboot.S): the first sector of the core in the boot sector, and in the core's
// own first sector the place of the rest of it.
const (
	bootKernelSector = 0x5c
	bootDriveCheck   = 0x66
	coreBlockList    = sectorSize - 12
	bootCodeSize     = 440 // up to the disk signature of the partition table
)

// relocateCore tells GRUB's core where on the disk it lies.
func relocateCore(path string, lba int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteAt(binary.LittleEndian.AppendUint64(nil, uint64(lba+1)), coreBlockList); err != nil {
		return err
	}
	return f.Close()
}

// bootSector puts GRUB's boot code before the partition table. The two bytes of
// the drive check become no-ops, as grub-install makes them for hard disks.
func bootSector(f *os.File) error {
	code, err := os.ReadFile("/usr/lib/grub/i386-pc/boot.img")
	if err != nil {
		return err
	}
	if len(code) < bootCodeSize {
		return fmt.Errorf("boot.img has only %d bytes", len(code))
	}
	code = code[:bootCodeSize]
	binary.LittleEndian.PutUint64(code[bootKernelSector:], uint64(start(0)))
	code[bootDriveCheck], code[bootDriveCheck+1] = 0x90, 0x90
	_, err = f.WriteAt(code, 0)
	return err
}
