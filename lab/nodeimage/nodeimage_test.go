package nodeimage

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/coreos/stream-metadata-go/stream"
	"github.com/klauspost/compress/zstd"
)

func ensure(t *testing.T) string {
	t.Helper()
	if os.Getenv("METALRISE_REAL") == "" {
		t.Skip("skipped: METALRISE_REAL is not set, building the image takes minutes")
	}
	if os.Getuid() != 0 {
		t.Skip("skipped: needs root")
	}
	cache := os.Getenv("METALRISE_CACHE")
	if cache == "" {
		cache = t.TempDir()
	}
	begin := time.Now()
	dir, err := Ensure(t.Context(), cache, func(s string) { t.Logf("%6.1fs %s", time.Since(begin).Seconds(), s) })
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%6.1fs %s", time.Since(begin).Seconds(), dir)
	return dir
}

// Everything that stream.json says of the files is so.
func TestImage(t *testing.T) {
	dir := ensure(t)
	data, err := os.ReadFile(filepath.Join(dir, StreamFile))
	if err != nil {
		t.Fatal(err)
	}
	var s stream.Stream
	if err := json.Unmarshal(data, &s); err != nil {
		t.Fatal(err)
	}
	if s.Stream != Stream {
		t.Errorf("stream %q", s.Stream)
	}
	formats := s.Architectures[Arch].Artifacts["metal"].Formats
	iso, disk, pxe := formats["iso"].Disk, formats["raw.zst"].Disk, formats["pxe"]
	for _, a := range []*stream.Artifact{iso, disk, pxe.Kernel, pxe.Initramfs, pxe.Rootfs} {
		sum, err := fileSHA256(filepath.Join(dir, a.Location))
		if err != nil || sum != a.Sha256 {
			t.Errorf("%s: sha256 %s, %v; stream.json says %s", a.Location, sum, err, a.Sha256)
		}
	}
	initramfs, err := os.ReadFile(filepath.Join(dir, pxe.Initramfs.Location))
	if err != nil {
		t.Fatal(err)
	}
	if end := string(initramfs[len(initramfs)-1024:]); !strings.Contains(end, digestFile+"\x00") || !strings.Contains(end, pxe.Rootfs.Sha256+"\n") {
		t.Error("the initramfs does not end with the digest of its rootfs")
	}
	t.Run("iso", func(t *testing.T) { checkISO(t, filepath.Join(dir, iso.Location)) })
	t.Run("disk", func(t *testing.T) {
		checkDisk(t, filepath.Join(dir, disk.Location), disk.UncompressedSha256)
	})
	t.Run("rootfs", func(t *testing.T) { checkRootfs(t, filepath.Join(dir, pxe.Rootfs.Location)) })
}

func checkISO(t *testing.T, iso string) {
	out := t.TempDir()
	if text, err := exec.Command("xorriso", "-osirrox", "on", "-indev", iso, "-extract", "/", out).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(out, name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	if area := read("images/ignition.img"); !bytes.Equal(area, make([]byte, EmbedAreaSize)) {
		t.Errorf("the embed area has %d bytes, or is not empty", len(area))
	}
	var info kargsInfo
	if err := json.Unmarshal(read("coreos/kargs.json"), &info); err != nil {
		t.Fatal(err)
	}
	if len(info.Files) != 2 || info.Size > 2048 {
		t.Errorf("kargs.json: %+v", info)
	}
	for _, f := range info.Files {
		rest := read(f.Path)[f.Offset:]
		area, after := string(rest[:info.Size]), string(rest[info.Size:])
		if strings.TrimRight(area, "#") != info.Default+"\n" {
			t.Errorf("%s: the area begins %q", f.Path, area[:100])
		}
		if !strings.HasPrefix(after, " COREOS_KARG_EMBED_AREA\n") {
			t.Errorf("%s: after the area comes %.40q", f.Path, after)
		}
	}
	// the plain names, before any extension, are those that coreos-installer looks for
	f, err := os.Open(iso)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	directories := make([]byte, 1<<20)
	if _, err := io.ReadFull(f, directories); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"IGNINFO.JSO", "KARGS.JSO", "FEATURES.JSO", "IGNITION.IMG", "ROOTFS.IMG", "GRUB.CFG", "ISOLINUX.CFG"} {
		if !bytes.Contains(directories, []byte(name+";1")) {
			t.Errorf("no %s among the plain names", name)
		}
	}
}

func checkDisk(t *testing.T, compressed, want string) {
	raw := filepath.Join(t.TempDir(), "disk.raw")
	in, err := os.Open(compressed)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	z, err := zstd.NewReader(in)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	f, err := os.Create(raw)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.Copy(f, z); err != nil {
		t.Fatal(err)
	}
	if sum, err := fileSHA256(raw); err != nil || sum != want {
		t.Errorf("uncompressed: %s, %v; stream.json says %s", sum, err, want)
	}
	entries := make([]byte, 4*128)
	if _, err := f.ReadAt(entries, 2*sectorSize); err != nil {
		t.Fatal(err)
	}
	for i, p := range partitions {
		e := entries[i*128:]
		units := make([]uint16, 36)
		for j := range units {
			units[j] = binary.LittleEndian.Uint16(e[56+2*j:])
		}
		name := strings.TrimRight(string(utf16.Decode(units)), "\x00")
		if first := int64(binary.LittleEndian.Uint64(e[32:])); name != p.name || first != start(i) {
			t.Errorf("partition %d is %q at %d, want %q at %d", i+1, name, first, p.name, start(i))
		}
	}
	// ext4's magic number and label (kernel documentation, ext4 super block)
	for i, label := range map[int]string{2: "boot", 3: "root"} {
		super := make([]byte, 1024)
		if _, err := f.ReadAt(super, start(i)*sectorSize+1024); err != nil {
			t.Fatal(err)
		}
		if got := strings.TrimRight(string(super[0x78:0x88]), "\x00"); binary.LittleEndian.Uint16(super[0x38:]) != 0xef53 || got != label {
			t.Errorf("partition %d: not ext4 labelled %q but %q", i+1, label, got)
		}
	}
}

func checkRootfs(t *testing.T, path string) {
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	head := make([]byte, 128)
	if _, err := f.ReadAt(head, 0); err != nil {
		t.Fatal(err)
	}
	if string(head[:6]) != "070701" || string(head[110:124]) != "root.squashfs\x00" || string(head[124:]) != "hsqs" {
		t.Errorf("rootfs begins %q", head)
	}
	// a general tree: nothing in it knows the product but its own name
	out := t.TempDir()
	run := exec.Command("sh", "-c", `tail -c +125 "$1" > squashfs && unsquashfs -q -n -d tree squashfs >/dev/null`, "sh", path)
	run.Dir = out
	if text, err := run.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	tree := filepath.Join(out, "tree")
	osRelease, err := os.ReadFile(filepath.Join(tree, "usr/lib/os-release"))
	if err != nil || !strings.Contains(string(osRelease), "\nVARIANT_ID=lab-node\n") {
		t.Errorf("os-release: %v\n%s", err, osRelease)
	}
	if id, err := os.ReadFile(filepath.Join(tree, "etc/machine-id")); err != nil || string(id) != "uninitialized\n" {
		t.Errorf("machine-id %q, %v", id, err)
	}
	for _, d := range []string{"etc", "usr/lib/systemd", "usr/libexec"} {
		checkForeign(t, filepath.Join(tree, d))
	}
	// what kubeadm looks for before it begins, kubelet calls, and runc is linked with
	for _, program := range []string{"conntrack", "ethtool", "ip", "iptables", "losetup", "mount", "nft", "nsenter", "socat", "tc", "touch"} {
		found := 0
		for _, d := range []string{"bin", "sbin", "usr/bin", "usr/sbin"} {
			if _, err := os.Lstat(filepath.Join(tree, d, program)); err == nil {
				found++
			}
		}
		if found == 0 {
			t.Errorf("the tree has no %s", program)
		}
	}
	if seccomp, _ := filepath.Glob(filepath.Join(tree, "usr/lib/x86_64-linux-gnu/libseccomp.so.2")); seccomp == nil {
		t.Error("the tree has no libseccomp")
	}
	if keys, _ := filepath.Glob(filepath.Join(tree, "etc/ssh/ssh_host_*")); keys != nil {
		t.Errorf("every machine would have the same host keys: %v", keys)
	}
}

func checkForeign(t *testing.T, root string) {
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if bytes.Contains(bytes.ToLower(data), []byte("metalrise")) {
			t.Errorf("%s knows the product", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
