package iso

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ulikunitz/xz"

	"metalrise.dev/iso/isotest"
)

// tool runs a program that the lab needs too.
func tool(t testing.TB, stdin io.Reader, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdin = stdin
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); errors.Is(err, exec.ErrNotFound) {
		t.Fatalf("%s is missing: run `make deps`, or apt-get install %s", name, name)
	} else if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, errs.Bytes())
	}
	return out.Bytes()
}

// TestXorrisoAndCpioReadOurs takes a personalised ISO apart with other programs.
func TestXorrisoAndCpioReadOurs(t *testing.T) {
	im, want := personal(t, open(t, isotest.Options{}))
	dir := t.TempDir()
	own, area, grub := filepath.Join(dir, "own.iso"), filepath.Join(dir, "ignition.img"), filepath.Join(dir, "grub.cfg")
	if err := os.WriteFile(own, want, 0o644); err != nil {
		t.Fatal(err)
	}
	tool(t, nil, "xorriso", "-osirrox", "on", "-indev", own, "-extract", "/images/ignition.img", area, "-extract", "/EFI/fedora/grub.cfg", grub)
	b, err := os.ReadFile(area)
	if err != nil || int64(len(b)) != im.base.EmbedSize() {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
	unzipped := tool(t, bytes.NewReader(b), "gzip", "-dc")
	list := tool(t, bytes.NewReader(unzipped), "cpio", "-itv", "--quiet")
	if !strings.HasPrefix(string(list), "-rw-r--r--") || !strings.HasSuffix(string(list), " config.ign\n") || bytes.Count(list, []byte("\n")) != 1 {
		t.Errorf("cpio lists %q", list)
	}
	if got := tool(t, bytes.NewReader(unzipped), "cpio", "-i", "--to-stdout", "--quiet", "config.ign"); string(got) != config {
		t.Errorf("cpio extracts %q", got)
	}
	text, err := os.ReadFile(grub)
	if err != nil || !strings.Contains(string(text), "ignition.platform.id=metal console=ttyS0\n#####") {
		t.Errorf("grub.cfg: %v\n%s", err, text)
	}
}

// TestWeReadXorrisos reads an ISO that xorriso made, with 8+3 names and Rock
// Ridge, with a tree deeper and longer names than ours, in all forms of areas.
func TestWeReadXorrisos(t *testing.T) {
	const kargs = "coreos.liveiso=x ignition.firstboot"
	grub := "menuentry x {\n\tlinux /images/pxeboot/vmlinuz " + kargs + "\n" + strings.Repeat("#", 900) + " COREOS_KARG_EMBED_AREA\n\tinitrd /images/pxeboot/initrd.img /images/ignition.img\n}\n"
	info, err := json.Marshal(map[string]any{"default": kargs, "size": len(kargs) + 1 + 900,
		"files": []any{map[string]any{"path": "EFI/a-longer-vendor-name/grub.cfg", "offset": strings.Index(grub, kargs)}}})
	if err != nil {
		t.Fatal(err)
	}
	kernel := make([]byte, 3<<20)
	rand.Read(kernel)
	for _, withInfo := range []bool{true, false} {
		root := t.TempDir()
		files := map[string][]byte{
			"images/pxeboot/vmlinuz": kernel, "images/ignition.img": make([]byte, 256<<10),
			"EFI/a-longer-vendor-name/grub.cfg": []byte(grub), "coreos/igninfo.json": []byte(`{"file": "images/ignition.img"}`),
			"a/b/c/d/e/f/g/" + strings.Repeat("long", 40): []byte("x"),
		}
		if withInfo {
			files["coreos/kargs.json"] = info
		}
		for p, b := range files {
			p = filepath.Join(root, p)
			if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, b, 0o644)); err != nil {
				t.Fatal(err)
			}
		}
		path := filepath.Join(t.TempDir(), "x.iso")
		tool(t, nil, "xorriso", "-as", "mkisofs", "-quiet", "-o", path, "-V", "xorrisos", "-iso-level", "1", "-R", "-J", root)
		b, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		var out bytes.Buffer
		if _, err := b.Extract(KernelPath, &out); err != nil || !bytes.Equal(out.Bytes(), kernel) {
			t.Errorf("kernel: %d bytes, %v", out.Len(), err)
		}
		im, err := b.Personalise(Personal{Ignition: []byte(config), AppendKargs: []string{"a=1"}})
		if err != nil {
			t.Fatal(err)
		}
		c, err := Inspect(im, im.Size())
		if err != nil {
			t.Fatal(err)
		}
		if c.Label != "xorrisos" || string(c.Ignition) != config || !slices.Equal(c.Kargs, append(strings.Fields(kargs), "a=1")) {
			t.Errorf("kargs.json %v: %+v", withInfo, c)
		}
	}
}

// inArea gives an ISO whose embed area begins with b.
func inArea(t *testing.T, b []byte) (io.ReaderAt, int64) {
	t.Helper()
	path := build(t, isotest.Options{Files: map[string][]byte{"images/ignition.img": append(b, make([]byte, 4096)...)}})
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.NewReader(whole), int64(len(whole))
}

// TestWeReadWhatCoreosInstallerWrites: coreos-installer writes xz with a CRC32
// and further files beside the config; the oldest releases wrote plain cpio.
func TestWeReadWhatCoreosInstallerWrites(t *testing.T) {
	raw := appendMember(nil, "etc/coreos-firstboot-network/eno1.nmconnection", 0o100600, []byte("[connection]"))
	raw = append(raw, archive([]member{{configName, 0o100644, []byte(config)}})...)
	ours := tool(t, bytes.NewReader(raw), "xz", "-9", "-C", "crc32")
	var other bytes.Buffer
	z, err := xz.NewWriter(&other)
	if err == nil {
		_, err = z.Write(raw)
	}
	if err := errors.Join(err, z.Close()); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"plain": raw, "xz": ours, "xz otherwise": other.Bytes(), "gzip": tool(t, bytes.NewReader(raw), "gzip", "-9")} {
		got, err := ReadIgnition(inArea(t, b))
		if err != nil || string(got) != config {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	only := appendMember(appendMember(nil, "other", 0o100644, nil), newcTrailer, 0, nil)
	if _, err := ReadIgnition(inArea(t, only)); !errors.Is(err, ErrNoIgnition) {
		t.Errorf("archive without a config: %v", err)
	}
}

// TestHostileAreas: sizes that lie must not cost memory.
func TestHostileAreas(t *testing.T) {
	huge := appendMember(nil, configName, 0o100644, nil)
	copy(huge[54:], "FFFFFFFF")
	name := appendMember(nil, configName, 0o100644, nil)
	copy(name[94:], "7FFFFFFF")
	// An xz header that asks for a dictionary of 4 GiB.
	head := append([]byte("\xfd7zXZ\x00\x00\x01"), 0, 0, 0, 0)
	binary.LittleEndian.PutUint32(head[8:], crc32.ChecksumIEEE(head[6:8]))
	dict := append(head, 2, 0, 0x21, 1, 40, 0, 0, 0, 0, 0, 0, 0, 1, 0)
	bomb := tool(t, bytes.NewReader(appendMember(nil, configName, 0o100644, make([]byte, maxConfig+4))), "gzip", "-9")
	var many []byte
	for range 3 {
		many = appendMember(many, "other", 0o100644, make([]byte, 15<<20))
	}
	wide := tool(t, bytes.NewReader(append(many, archive([]member{{name: configName, mode: 0o100644}})...)), "gzip", "-1")
	for what, b := range map[string][]byte{"size": huge, "many files": wide, "name": name, "dictionary": dict, "bomb": bomb,
		"noise": bytes.Repeat([]byte{0xff}, 99), "cut gzip": bomb[:50], "cut cpio": huge[:60]} {
		var f *FormatError
		if got, err := ReadIgnition(inArea(t, b)); !errors.As(err, &f) {
			t.Errorf("%s: %d bytes, %v", what, len(got), err)
		}
	}
}
