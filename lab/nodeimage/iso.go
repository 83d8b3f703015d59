package nodeimage

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"metalrise.dev/lab/recipe"
)

const (
	// Label is the volume label of the live ISO, which its kernel arguments name.
	Label = "lab-node-live"

	// EmbedAreaSize is the size of /images/ignition.img in bytes, the same as on
	// CoreOS media.
	EmbedAreaSize = 256 << 10

	// kargsAreaSize is the room for kernel arguments in each boot loader's
	// configuration, in bytes; coreos-installer takes up to 2048.
	kargsAreaSize = 1024
)

// liveKargs are the kernel arguments that the live ISO carries by default.
const liveKargs = "coreos.liveiso=" + Label + " ignition.firstboot ignition.platform.id=metal console=ttyS0"

// kargsFiles are the boot loaders' configurations that hold a karg embed area:
// their place on the ISO and their template.
var kargsFiles = [...]struct{ path, template string }{
	{"EFI/debian/grub.cfg", "files/boot/iso-grub.cfg"},
	{"isolinux/isolinux.cfg", "files/boot/isolinux.cfg"},
}

// kargsInfo is /coreos/kargs.json as coreos-installer reads it: where in which
// file the default kernel arguments begin, and how many bytes from there may be
// written over.
type kargsInfo struct {
	Default string         `json:"default"`
	Files   []kargsInfoPos `json:"files"`
	Size    int            `json:"size"`
}

type kargsInfoPos struct {
	Path   string `json:"path"`
	Offset int    `json:"offset"`
}

// fillKargs puts the default arguments and the rest of the embed area, a comment
// line of number signs, into a configuration's template.
func fillKargs(template string) (config string, offset int) {
	offset = strings.Index(template, "@KARGS@")
	// the area: arguments, one line break, number signs
	signs := strings.Repeat("#", kargsAreaSize-len(liveKargs)-1)
	return strings.NewReplacer("@KARGS@", liveKargs, "@AREA@", signs).Replace(template), offset
}

// liveISO makes the ISO from the PXE artefacts in dir and writes it to out.
func (b *builder) liveISO(work, dir, out string) error {
	b.Say("making the live ISO")
	root := filepath.Join(work, "iso")
	defer os.RemoveAll(root)
	for _, d := range []string{"images/pxeboot", "EFI/debian", "EFI/BOOT", "isolinux", "coreos"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			return err
		}
	}
	for from, to := range map[string]string{
		filepath.Join(dir, kernelFile):               "images/pxeboot/vmlinuz",
		filepath.Join(dir, initramfsFile):            "images/pxeboot/initrd.img",
		filepath.Join(dir, rootfsFile):               "images/pxeboot/rootfs.img",
		"/usr/lib/ISOLINUX/isolinux.bin":             "isolinux/isolinux.bin",
		"/usr/lib/syslinux/modules/bios/ldlinux.c32": "isolinux/ldlinux.c32",
	} {
		if err := b.Run(recipe.Command{Name: "cp", Args: []string{from, filepath.Join(root, to)}}); err != nil {
			return err
		}
	}
	if err := writeISOFiles(root); err != nil {
		return err
	}
	early, err := text("files/boot/iso-early.cfg")
	if err != nil {
		return err
	}
	early = strings.ReplaceAll(early, "@LABEL@", Label)
	efi := filepath.Join(root, "EFI/BOOT/BOOTX64.EFI")
	if err := b.grubImage(work, "x86_64-efi", "/EFI/debian", early, efi, "iso9660"); err != nil {
		return err
	}
	if err := b.efiPartition(efi, filepath.Join(root, "images/efiboot.img"), 4<<20); err != nil {
		return err
	}
	// -iso-level 1 with Rock Ridge and Joliet: the plain names become the short ones
	// that coreos-installer looks for (COREOS/KARGS.JSO).
	return b.Run(recipe.Command{Name: "xorriso", Args: []string{"-as", "mkisofs", "-quiet", "-o", out, "-V", Label,
		"-iso-level", "1", "-R", "-J",
		"-isohybrid-mbr", "/usr/lib/ISOLINUX/isohdpfx.bin",
		"-c", "isolinux/boot.cat", "-b", "isolinux/isolinux.bin", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table",
		"-eltorito-alt-boot", "-e", "images/efiboot.img", "-no-emul-boot", "-isohybrid-gpt-basdat", root}})
}

// writeISOFiles writes the embed areas and what describes them.
func writeISOFiles(root string) error {
	info := kargsInfo{Default: liveKargs, Size: kargsAreaSize}
	files := map[string][]byte{"images/ignition.img": make([]byte, EmbedAreaSize)}
	for _, f := range kargsFiles {
		template, err := text(f.template)
		if err != nil {
			return err
		}
		config, offset := fillKargs(template)
		files[f.path] = []byte(config)
		info.Files = append(info.Files, kargsInfoPos{f.path, offset})
	}
	for path, value := range map[string]any{
		"coreos/igninfo.json":  map[string]string{"file": "images/ignition.img"},
		"coreos/kargs.json":    info,
		"coreos/features.json": map[string]bool{"live-initrd-network": true},
	} {
		data, err := json.MarshalIndent(value, "", "  ")
		if err != nil {
			return err
		}
		files[path] = append(data, '\n')
	}
	for path, data := range files {
		if err := os.WriteFile(filepath.Join(root, path), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// grubImage makes one boot loader file whose embedded configuration is early.
func (b *builder) grubImage(work, platform, prefix, early, out string, modules ...string) error {
	config := filepath.Join(work, "grub-early.cfg")
	if err := os.WriteFile(config, []byte(early), 0o644); err != nil {
		return err
	}
	args := []string{"-O", platform, "-o", out, "-p", prefix, "-c", config,
		"part_gpt", "part_msdos", "search", "search_label", "configfile", "normal", "linux",
		"echo", "test", "serial", "terminal", "boot", "minicmd"}
	return b.Run(recipe.Command{Name: "grub-mkimage", Args: append(args, modules...)})
}

// efiPartition makes a FAT file system of the given size with one boot loader.
func (b *builder) efiPartition(loader, out string, size int64) error {
	f, err := os.Create(out)
	if err != nil {
		return err
	}
	if err := f.Truncate(size); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	for _, c := range [][]string{
		{"mkfs.vfat", "-n", "EFI-SYSTEM", out},
		{"mmd", "-i", out, "::EFI", "::EFI/BOOT"},
		{"mcopy", "-i", out, loader, "::EFI/BOOT/BOOTX64.EFI"},
	} {
		if err := b.Run(recipe.Command{Name: c[0], Args: c[1:]}); err != nil {
			return fmt.Errorf("EFI partition: %w", err)
		}
	}
	return nil
}

// text returns an embedded file.
func text(path string) (string, error) {
	data, err := content.ReadFile(path)
	return string(data), err
}
