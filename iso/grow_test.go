package iso

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"metalrise.dev/iso/isotest"
)

// save writes an image to a file.
func save(t *testing.T, im *Image) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "own.iso")
	f, err := os.Create(p)
	if err != nil {
		t.Fatal(err)
	}
	n, err := im.WriteRange(f, 0, im.Size())
	if err := errors.Join(err, f.Close()); err != nil || n != im.Size() {
		t.Fatal(n, err)
	}
	return p
}

// hybridISO is an ISO made by xorriso with Rock Ridge, Joliet, boot images for
// BIOS and UEFI, partition tables, and the areas of the live layout.
func hybridISO(t testing.TB) string {
	return changedISO(t, func(map[string][]byte) {})
}

// changedISO is a hybridISO with other files.
func changedISO(t testing.TB, change func(files map[string][]byte)) string {
	t.Helper()
	const kargs = "coreos.liveiso=hybrid ignition.firstboot ignition.platform.id=metal"
	grub := "menuentry x {\n\tlinux /images/pxeboot/vmlinuz " + kargs + "\n" + strings.Repeat("#", 900) + " COREOS_KARG_EMBED_AREA\n\tinitrd /images/pxeboot/initrd.img /images/ignition.img\n}\n"
	linux := "label x\n kernel /images/pxeboot/vmlinuz\n append initrd=/images/pxeboot/initrd.img,/images/ignition.img " + kargs + "\n" + strings.Repeat("#", 900) + " COREOS_KARG_EMBED_AREA\n"
	root := t.TempDir()
	files := map[string][]byte{
		KernelPath: noise(3 << 20), InitrdPath: noise(1 << 20), RootfsPath: noise(5<<20 + 77),
		"images/ignition.img": make([]byte, 256<<10), "images/efiboot.img": make([]byte, 1440<<10),
		"EFI/fedora/grub.cfg": []byte(grub), "isolinux/isolinux.cfg": []byte(linux), "zz/last": []byte("last of all\n"),
		"coreos/igninfo.json":  []byte(`{"file": "images/ignition.img"}`),
		"coreos/features.json": []byte(`{"installer-config": true, "live-initrd-network": true}`),
		"coreos/kargs.json":    []byte(`{"default": "` + kargs + `", "files": [{"path": "EFI/fedora/grub.cfg", "offset": ` + offset(grub, kargs) + `}, {"path": "isolinux/isolinux.cfg", "offset": ` + offset(linux, kargs) + `}], "size": 900}`),
	}
	change(files)
	for p, b := range files {
		p = filepath.Join(root, p)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, b, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	tool(t, nil, "cp", "/usr/lib/ISOLINUX/isolinux.bin", filepath.Join(root, "isolinux/isolinux.bin"))
	out := filepath.Join(t.TempDir(), "hybrid.iso")
	tool(t, nil, "xorriso", "-as", "mkisofs", "-quiet", "-o", out, "-V", "hybrid", "-iso-level", "1", "-R", "-J",
		"-isohybrid-mbr", "/usr/lib/ISOLINUX/isohdpfx.bin",
		"-c", "isolinux/boot.cat", "-b", "isolinux/isolinux.bin", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table",
		"-eltorito-alt-boot", "-e", "images/efiboot.img", "-no-emul-boot", "-isohybrid-gpt-basdat", root)
	return out
}

func offset(text, of string) string {
	return strconv.Itoa(strings.Index(text, of))
}

// extracted takes a file out of an ISO by xorriso, by its name in one of the
// trees.
func extracted(t *testing.T, iso, path string, args ...string) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	tool(t, nil, "xorriso", append(append([]string{"-abort_on", "WARNING"}, args...), "-osirrox", "on", "-indev", iso, "-extract", path, out)...)
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestLargeConfigMovesBehindTheEnd: another program finds it under the area's
// name in every tree, all other files are where they were, and we read it again.
func TestLargeConfigMovesBehindTheEnd(t *testing.T) {
	path := hybridISO(t)
	b, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	large := noise(700_000)
	im, err := b.Personalise(Personal{Ignition: large, AppendKargs: []string{"a=1"}})
	if err != nil {
		t.Fatal(err)
	}
	if grown := im.Size() - b.Size(); grown < 700_000 || grown > 740_000 {
		t.Errorf("grew by %d bytes", grown)
	}
	own := save(t, im)
	for _, tree := range [][]string{nil, {"-read_fs", "norock"}} {
		area := extracted(t, own, "/images/ignition.img", tree...)
		if got, err := unpack(bytes.NewReader(area)); err != nil || len(got) != 1 || !bytes.Equal(got[0].data, large) {
			t.Errorf("%v: %d bytes, %v", tree, len(area), err)
		}
	}
	if !bytes.Equal(extracted(t, own, "/"+RootfsPath), noise(5<<20+77)) {
		t.Error("the root file system changed")
	}
	again, err := Open(own)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if got, err := ReadIgnition(again, again.Size()); err != nil || !bytes.Equal(got, large) {
		t.Errorf("read again: %d bytes, %v", len(got), err)
	}
	// what was grown once has room now, and can be reset
	if im, err = again.Personalise(Personal{Start: Defaults}); err != nil {
		t.Fatal(err)
	}
	c, err := Inspect(im, im.Size())
	if err != nil || c.Customised() {
		t.Errorf("after reset: %+v, %v", c, err)
	}
	checkPartitions(t, own)
}

// checkPartitions: another program finds both partition tables whole.
func checkPartitions(t *testing.T, iso string) {
	t.Helper()
	info, err := os.Stat(iso)
	if err != nil {
		t.Fatal(err)
	}
	out := string(tool(t, nil, "xorriso", "-indev", iso, "-report_system_area", "plain"))
	// what it would say of wrong checksums, or of a copy that is not at the end
	if !strings.Contains(out, "GPT partition path :   2  /images/efiboot.img") || strings.Contains(out, "CRC") || strings.Contains(out, "backup") {
		t.Error(out)
	}
	var mbr [512]byte
	f, err := os.Open(iso)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.ReadAt(mbr[:], 0); err != nil {
		t.Fatal(err)
	}
	if n := int64(binary.LittleEndian.Uint32(mbr[mbrTable+12:])) * 512; n != info.Size() {
		t.Errorf("the partition has %d bytes of %d", n, info.Size())
	}
}

func TestFilesAndKeyfiles(t *testing.T) {
	b := open(t, isotest.Options{})
	key := File{Name: "eno1.nmconnection", Data: []byte("[connection]\nid=eno1\n")}
	im, err := b.Personalise(Personal{Ignition: []byte(config), Keyfiles: []File{key}, Files: []File{{Name: "usr/bin/x", Data: []byte("#!"), Mode: 0o755}}})
	if err != nil {
		t.Fatal(err)
	}
	raw := tool(t, io.NewSectionReader(im, b.layout.ignition.off, b.layout.ignition.size), "gzip", "-dcq")
	list := string(tool(t, bytes.NewReader(raw), "cpio", "-itv", "--quiet"))
	for _, want := range []string{"drwxr-xr-x", "-rw-------", " etc/coreos-firstboot-network\n", " etc/coreos-firstboot-network/eno1.nmconnection\n", "-rwxr-xr-x", " usr/bin/x\n", " config.ign\n"} {
		if !strings.Contains(list, want) {
			t.Errorf("no %q in\n%s", want, list)
		}
	}
	// a second customisation keeps the rest, and replaces all keyfiles by new ones
	own, err := Open(save(t, im))
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	names := func(p Personal) string {
		t.Helper()
		im, err := own.Personalise(p)
		if err != nil {
			t.Fatal(err)
		}
		c, err := Inspect(im, im.Size())
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, f := range c.Files {
			out = append(out, f.Name)
		}
		return strings.Join(append(out, string(c.Ignition)), " ")
	}
	dir := KeyfileDir + "/"
	if got := names(Personal{Ignition: []byte("{}")}); got != dir+"eno1.nmconnection usr/bin/x {}" {
		t.Error(got)
	}
	key.Name = "two.nmconnection"
	if got := names(Personal{Keyfiles: []File{key}}); got != "usr/bin/x "+dir+"two.nmconnection "+config {
		t.Error(got)
	}
	if got := names(Personal{Start: Defaults, Keyfiles: []File{key}}); got != dir+"two.nmconnection " {
		t.Error(got)
	}
}

func TestRefusedFiles(t *testing.T) {
	b := open(t, isotest.Options{})
	for _, name := range []string{"", "/etc/x", "../x", "a/../b", "a//b", "config.ign", newcTrailer, "a b", "a\nb", "é", strings.Repeat("x", 256)} {
		var n *NameError
		if _, err := b.Personalise(Personal{Files: []File{{Name: name}}}); !errors.As(err, &n) {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"x", "a/x.nmconnection", ".nmconnection", "../x.nmconnection"} {
		var n *NameError
		if _, err := b.Personalise(Personal{Keyfiles: []File{{Name: name}}}); !errors.As(err, &n) {
			t.Errorf("keyfile %q: %v", name, err)
		}
	}
	var n *NameError
	if _, err := b.Personalise(Personal{Files: []File{{Name: "x"}, {Name: "x"}}}); !errors.As(err, &n) {
		t.Error(err)
	}
	var tooLarge *TooLargeError
	many := []File{{Name: "a", Data: make([]byte, 15<<20)}, {Name: "b", Data: make([]byte, 15<<20)}, {Name: "c", Data: make([]byte, 15<<20)}}
	if _, err := b.Personalise(Personal{Files: many}); !errors.As(err, &tooLarge) || tooLarge.Part != PartFiles {
		t.Error(err)
	}
	old := open(t, isotest.Options{Files: map[string][]byte{"coreos/features.json": []byte("{}")}})
	if _, err := old.Personalise(Personal{Keyfiles: []File{{Name: "x.nmconnection"}}}); !errors.Is(err, ErrNoNetwork) {
		t.Error(err)
	}
}

func TestDeleteKargsAndDefaults(t *testing.T) {
	for _, o := range []isotest.Options{{}, {KargStyle: isotest.KargsMarker}, {KargStyle: isotest.KargsHeader}} {
		b := open(t, o)
		im, err := b.Personalise(Personal{DeleteKargs: []string{"ignition.firstboot"}, AppendKargs: []string{"a=1"}})
		if err != nil {
			t.Fatal(err)
		}
		got, err := ReadKargs(im, im.Size())
		if want := "coreos.liveiso=fedora-coreos-test ignition.platform.id=metal a=1"; err != nil || strings.Join(got, " ") != want {
			t.Errorf("%v, %v", got, err)
		}
		var k *KargError
		if _, err := b.Personalise(Personal{DeleteKargs: []string{"nosuch"}}); !errors.As(err, &k) {
			t.Error(err)
		}
		if o.KargStyle != isotest.KargsInfo {
			continue // the others tell no defaults, or keep them in the area itself
		}
		own, err := Open(save(t, im))
		if err != nil {
			t.Fatal(err)
		}
		defer own.Close()
		if im, err = own.Personalise(Personal{Start: Defaults, AppendKargs: []string{"b=2"}}); err != nil {
			t.Fatal(err)
		}
		if got, err := ReadKargs(im, im.Size()); err != nil || strings.Join(got, " ") != strings.Join(append(defaultKargs, "b=2"), " ") {
			t.Errorf("%v, %v", got, err)
		}
	}
}
