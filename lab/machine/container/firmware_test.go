package container

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/cavaliergopher/cpio"
	"github.com/diskfs/go-diskfs"
	"github.com/diskfs/go-diskfs/disk"
	"github.com/diskfs/go-diskfs/filesystem"
	"github.com/diskfs/go-diskfs/filesystem/iso9660"
	"github.com/ulikunitz/xz"

	"metalrise.dev/lab/machine"
)

const firstBootGRUB = `
set timeout=0
if serial --unit=0 --speed=115200; then
	terminal_output --append serial
fi
set kargs=""
if [ -f ($root)/grub/kargs.cfg ]; then
	source ($root)/grub/kargs.cfg
fi
set ignition_firstboot=""
if [ -f ($root)/ignition.firstboot ]; then
	set ignition_network_kcmdline=""
	source ($root)/ignition.firstboot
	set ignition_firstboot="ignition.firstboot ${ignition_network_kcmdline}"
fi
linux ($root)/vmlinuz root=LABEL=root ${kargs} ${ignition_firstboot}
initrd ($root)/initrd.img
boot
`

func TestGRUB(t *testing.T) {
	for _, c := range []struct {
		name, cfg string
		files     map[string]string
		want      string // kernel and arguments
		fails     string // part of the error
	}{
		{name: "first boot", cfg: firstBootGRUB,
			files: map[string]string{"/grub/kargs.cfg": `set kargs="console=ttyS0 a=b"`, "/ignition.firstboot": "set ignition_network_kcmdline='ip=dhcp rd.neednet=1'\n"},
			want:  "/vmlinuz root=LABEL=root console=ttyS0 a=b ignition.firstboot ip=dhcp rd.neednet=1"},
		{name: "later boot", cfg: firstBootGRUB, files: map[string]string{"/grub/kargs.cfg": `set kargs="x"`}, want: "/vmlinuz root=LABEL=root x"},
		{name: "empty marker", cfg: firstBootGRUB, files: map[string]string{"/ignition.firstboot": ""}, want: "/vmlinuz root=LABEL=root ignition.firstboot"},
		{name: "first entry", cfg: "menuentry 'One; two' {\n\tlinux /one a\n## COREOS_KARG_EMBED_AREA\n}\nmenuentry \"Two\" {\n linux /two b\n}\n", want: "/one a"},
		{name: "else and elif", cfg: "if [ x = y ]; then\nlinux /a\nelif [ -n \"z\" ]; then\nlinux /b 1\nelse\nlinux /c\nfi", want: "/b 1"},
		{name: "nested in a branch not taken", cfg: "if false; then\nif true; then\nlinux /a\nelse\nlinux /b\nfi\nelse\nlinux /c\nfi", want: "/c"},
		{name: "continued line", cfg: "linux /k one \\\n two", want: "/k one two"},
		{name: "no kernel", cfg: "set timeout=5\n", fails: "starts no kernel"},
		{name: "variable that grows", cfg: "set a=xxxxxxxx\n" + strings.Repeat("set a=$a$a\n", 64), fails: "more than the"},
		{name: "too many closings", cfg: "fi\n", fails: "closes nothing"},
		{name: "sources itself", cfg: "source /loop", files: map[string]string{"/loop": "source /loop"}, fails: "8 files deep"},
	} {
		t.Run(c.name, func(t *testing.T) {
			exists := func(p string) bool { _, ok := c.files[p]; return ok }
			e, err := runGRUB(c.cfg, exists, func(p string) (string, error) { return c.files[p], nil })
			if c.fails != "" {
				if err == nil || !strings.Contains(err.Error(), c.fails) {
					t.Errorf("got %v, want an error with %q", err, c.fails)
				}
				return
			}
			if got := strings.Join(append([]string{e.Kernel}, e.Args...), " "); err != nil || got != c.want {
				t.Errorf("got %q (%v), want %q", got, err, c.want)
			}
		})
	}
}

func TestIsolinux(t *testing.T) {
	e, err := isolinuxEntry("default linux\nlabel linux\n kernel /k\n append initrd=/i a b=c\n### COREOS_KARG_EMBED_AREA\nlabel other\n kernel /o\n append z\n")
	if err != nil || e.Kernel != "/k" || !slices.Equal(e.Args, []string{"a", "b=c"}) {
		t.Errorf("got %+v, %v", e, err)
	}
	if _, err := isolinuxEntry("prompt 0\n"); err == nil {
		t.Error("a configuration without kernel was accepted")
	}
}

// archive makes a newc archive.
func archive(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := cpio.NewWriter(&b)
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for n := range files {
			if !yield(n) {
				return
			}
		}
	}) {
		if err := w.WriteHeader(&cpio.Header{Name: name, Mode: 0o600, Size: int64(len(files[name]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(files[name])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestOpenArea(t *testing.T) {
	plain := archive(t, map[string]string{"config.ign": "{}", "etc/coreos-firstboot-network/eth.nmconnection": "[x]", "other": "no"})
	var zipped, xzed bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = z.Write(plain)
	_ = z.Close()
	x, err := xz.NewWriter(&xzed)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = x.Write(plain)
	_ = x.Close()
	for name, data := range map[string][]byte{"plain": plain, "gzip": zipped.Bytes(), "xz": xzed.Bytes()} {
		e, err := openArea(append(data, make([]byte, 4096)...))
		if err != nil || string(e.Config) != "{}" || len(e.Keyfiles) != 1 || string(e.Keyfiles["eth.nmconnection"]) != "[x]" {
			t.Errorf("%s: got %+v, %v", name, e, err)
		}
	}
	if e, err := openArea(make([]byte, 4096)); err != nil || e.Config != nil {
		t.Errorf("empty area: got %+v, %v", e, err)
	}
	for name, data := range map[string][]byte{"noise": []byte("hello, this is nothing"), "cut gzip": zipped.Bytes()[:40], "cut": plain[:130]} {
		if e, err := openArea(data); err == nil && name != "cut" {
			t.Errorf("%s: accepted as %+v", name, e)
		}
	}
}

func TestFirstMember(t *testing.T) {
	data := append([]byte("skip"), archive(t, map[string]string{"root.squashfs": "hsqs…"})...)
	name, offset, size, err := firstMember(bytes.NewReader(data), 4)
	if err != nil || name != "root.squashfs" || offset != 4+124 || string(data[offset:offset+size]) != "hsqs…" {
		t.Errorf("got %q at %d, %d bytes, %v", name, offset, size, err)
	}
	for _, bad := range [][]byte{nil, []byte("070701"), bytes.Repeat([]byte("x"), 200), append([]byte("070701"), bytes.Repeat([]byte("F"), 200)...)} {
		if _, _, _, err := firstMember(bytes.NewReader(bad), 0); err == nil {
			t.Errorf("%.20q was accepted", bad)
		}
	}
}

// gptDisk makes the start of a disk with a primary table.
func gptDisk(parts []partition, size int64) []byte {
	d := make([]byte, size)
	table := d[2*512 : 2*512+128*128]
	for i, p := range parts {
		e := table[128*i:]
		e[0] = 1
		binary.LittleEndian.PutUint64(e[32:], uint64(p.Start/512))
		binary.LittleEndian.PutUint64(e[40:], uint64((p.Start+p.Size)/512-1))
		for j, u := range utf16.Encode([]rune(p.Name)) {
			binary.LittleEndian.PutUint16(e[56+2*j:], u)
		}
	}
	h := d[512:1024]
	copy(h, "EFI PART\x00\x00\x01\x00")
	for at, v := range map[int]uint32{12: 92, 80: 128, 84: 128, 88: crc32.ChecksumIEEE(table)} {
		binary.LittleEndian.PutUint32(h[at:], v)
	}
	binary.LittleEndian.PutUint64(h[72:], 2)
	binary.LittleEndian.PutUint32(h[16:], crc32.ChecksumIEEE(h[:92]))
	return d
}

func TestGPT(t *testing.T) {
	const size = 1 << 20
	want := []partition{{1, "boot", 65536, 4096}, {2, "rööt", 131072, 8192}}
	disk := gptDisk(want, size)
	got, err := readGPT(bytes.NewReader(disk), size)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
	if _, ok := partitionNamed(got, "root"); ok {
		t.Error("found a partition that is not there")
	}
	outside := gptDisk([]partition{{1, "boot", 65536, size}}, size)
	for name, d := range map[string][]byte{
		"empty":                  make([]byte, size),
		"damaged header":         flip(disk, 512+40),
		"damaged entries":        flip(disk, 1024+32),
		"partition out of range": outside,
		"too short":              disk[:600],
	} {
		if p, err := readGPT(bytes.NewReader(d), size); err == nil {
			t.Errorf("%s: accepted as %v", name, p)
		}
	}
}

func flip(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 0x55
	return b
}

// mediaISO makes a small live medium.
func mediaISO(t *testing.T, files map[string]string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "media.iso")
	d, err := diskfs.Create(path, 10<<20, diskfs.SectorSizeDefault)
	if err != nil {
		t.Fatal(err)
	}
	d.LogicalBlocksize = 2048
	fs, err := d.CreateFilesystem(disk.FilesystemSpec{FSType: filesystem.TypeISO9660, VolumeLabel: "test-live", WorkDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := fs.Mkdir(filepath.Dir(name)); err != nil {
			t.Fatal(err)
		}
		f, err := fs.OpenFile(name, os.O_CREATE|os.O_RDWR)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := fs.(*iso9660.FileSystem).Finalize(iso9660.FinalizeOptions{RockRidge: true, VolumeIdentifier: "TEST-LIVE"}); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestReadMedium(t *testing.T) {
	area := string(archive(t, map[string]string{"config.ign": "{}"}))
	path := mediaISO(t, map[string]string{
		"EFI/debian/grub.cfg": "linux /images/pxeboot/vmlinuz a", "isolinux/isolinux.cfg": "kernel /vmlinuz\nappend b\n",
		"coreos/igninfo.json": `{"file": "images/ignition.img"}`, "images/ignition.img": area + strings.Repeat("\x00", 5000),
	})
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, err := openISO(f)
	if err != nil {
		t.Fatal(err)
	}
	for firmware, want := range map[string]string{"uefi": "a", "bios": "b"} {
		e, err := mediaKernel(img, firmware)
		if err != nil || !slices.Equal(e.Args, []string{want}) {
			t.Errorf("%s: got %+v, %v", firmware, e, err)
		}
	}
	if e, err := mediaArea(img); err != nil || string(e.Config) != "{}" {
		t.Errorf("area: got %+v, %v", e, err)
	}
	if _, err := img.find("/images/pxeboot/rootfs.img"); err == nil || !strings.Contains(err.Error(), "rootfs.img") {
		t.Errorf("missing file: got %v", err)
	}
}

// A disk that is partitioned as a system is but holds none is found out only by
// process 1, in the machine's namespaces.
func TestDamagedBootFileSystem(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("skipped: needs root")
	}
	spec := testSpec(t.TempDir(), "db")
	spec.Disks[0].SizeBytes = 4 << 20
	m, err := New(spec, "/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	data := gptDisk([]partition{{1, "boot", 1 << 20, 1 << 20}, {2, "root", 2 << 20, 1 << 20}}, spec.Disks[0].SizeBytes)
	if err := os.WriteFile(m.diskFile(spec.Disks[0]), data, 0o600); err != nil {
		t.Fatal(err)
	}
	var con bytes.Buffer
	stop, err := m.Boot(t.Context(), machine.BootSource{Kind: machine.FromDisk}, &con)
	if err != nil || stop != machine.NotBooted || !strings.Contains(con.String(), "mount boot file system") {
		t.Errorf("got %q, %v, console %q", stop, err, con.String())
	}
	nothingLeft(t, m)
	after, err := os.ReadFile(m.diskFile(spec.Disks[0]))
	if err != nil || !bytes.Equal(after, data) {
		t.Errorf("the disk was changed (%v)", err)
	}
}

// What firmware cannot boot is said on the console and costs nothing.
func TestNotBooted(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("skipped: needs root")
	}
	spec := testSpec(t.TempDir(), "nb")
	spec.Disks = nil
	m, err := New(spec, "/nonexistent/ignition")
	if err != nil {
		t.Fatal(err)
	}
	noise := filepath.Join(t.TempDir(), "noise.iso")
	if err := os.WriteFile(noise, make([]byte, 64<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, from := range []machine.BootSource{{Kind: machine.FromDisk}, {Kind: machine.FromMedia}, {Kind: machine.FromMedia, ISO: noise}} {
		var con bytes.Buffer
		stop, err := m.Boot(t.Context(), from, &con)
		if err != nil || stop != machine.NotBooted || !strings.Contains(con.String(), "No bootable device") {
			t.Errorf("%+v: got %q, %v, console %q", from, stop, err, con.String())
		}
	}
	if _, err := m.Boot(t.Context(), machine.BootSource{Kind: machine.FromMedia, ISO: "/nonexistent.iso"}, &bytes.Buffer{}); err == nil {
		t.Error("a medium that cannot be read is a fault of the lab, but was none")
	}
}
