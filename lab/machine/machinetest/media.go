package machinetest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// Embed makes a copy of a live ISO with an Ignition config and kernel
// arguments in its reserved areas, as an installer's tool would.
func Embed(t testing.TB, iso string, config []byte, kargs string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "live.iso")
	CopyFile(t, iso, path)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	at, size := isoFile(t, f, "IGNITION.IMG;1")
	archive := append(newcMember("config.ign", config), newcMember("TRAILER!!!", nil)...)
	if int64(len(archive)) > size {
		t.Fatalf("config of %d bytes does not fit the area of %d", len(archive), size)
	}
	if _, err := f.WriteAt(archive, at); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"GRUB.CFG;1", "ISOLINUX.CFG;1"} {
		at, size := isoFile(t, f, name)
		text := make([]byte, size)
		if _, err := f.ReadAt(text, at); err != nil && err != io.EOF {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(addKargs(t, text, kargs), at); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// isoFile finds a file by its ISO 9660 name: directory records (ECMA-119,
// section 9.1) hold it 33 bytes after their start and all lie near the front.
func isoFile(t testing.TB, r io.ReaderAt, name string) (offset, size int64) {
	t.Helper()
	front := make([]byte, 4<<20)
	n, err := r.ReadAt(front, 0)
	if err != nil && err != io.EOF {
		t.Fatal(err)
	}
	at := bytes.Index(front[:n], append([]byte{byte(len(name))}, name...))
	if at < 32 {
		t.Fatalf("the ISO has no file named %s", name)
	}
	record := front[at-32:]
	return int64(binary.LittleEndian.Uint32(record[2:])) * 2048, int64(binary.LittleEndian.Uint32(record[10:]))
}

// addKargs puts arguments into the area that ends with COREOS_KARG_EMBED_AREA:
// they continue the line before it, and the area shrinks by as much.
func addKargs(t testing.TB, text []byte, kargs string) []byte {
	t.Helper()
	end := bytes.Index(text, []byte(" COREOS_KARG_EMBED_AREA"))
	if end < 0 {
		t.Fatal("boot loader configuration has no area for kernel arguments")
	}
	start := end
	for text[start-1] == '#' {
		start--
	}
	start-- // the line end before the area
	add := []byte(" " + kargs + "\n")
	if len(add) > end-start {
		t.Fatalf("kernel arguments of %d bytes do not fit the area of %d", len(add), end-start)
	}
	out := bytes.Clone(text)
	copy(out[start:], add)
	for i := start + len(add); i < end; i++ {
		out[i] = '#'
	}
	return out
}

// newcMember is one file of a cpio archive (cpio(5), New ASCII Format).
func newcMember(name string, data []byte) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
		1, 0o100600, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0)
	b.WriteString(name + "\x00")
	b.Write(make([]byte, (4-b.Len()%4)%4))
	b.Write(data)
	b.Write(make([]byte, (4-b.Len()%4)%4))
	return b.Bytes()
}

// CopyFile copies a file, with holes where it has zeroes.
func CopyFile(t testing.TB, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "--sparse=always", "--reflink=auto", from, to).CombinedOutput(); err != nil {
		t.Fatalf("copy %s: %v: %s", from, err, out)
	}
}

// BootFS is the boot file system of a disk file, worked on without mounting it.
type BootFS struct {
	t    testing.TB
	disk string
	at   int64 // bytes
}

// OpenBootFS finds a disk file's boot file system.
func OpenBootFS(t testing.TB, disk string) BootFS {
	t.Helper()
	f, err := os.Open(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// The table's entries begin in the third sector (UEFI specification, 5.3);
	// a name is UTF-16.
	entries := make([]byte, 128*128)
	if _, err := f.ReadAt(entries, 2*512); err != nil {
		t.Fatal(err)
	}
	for e := range slices.Chunk(entries, 128) {
		if bytes.HasPrefix(e[56:], []byte("b\x00o\x00o\x00t\x00\x00\x00")) {
			return BootFS{t, disk, int64(binary.LittleEndian.Uint64(e[32:])) * 512}
		}
	}
	t.Fatalf("%s has no partition named boot", disk)
	return BootFS{}
}

func (b BootFS) debugfs(request string) string {
	b.t.Helper()
	cmd := exec.Command("debugfs", "-w", "-R", request, fmt.Sprintf("%s?offset=%d", b.disk, b.at))
	out, err := cmd.CombinedOutput()
	if err != nil {
		b.t.Fatalf("debugfs %s: %v: %s", request, err, out)
	}
	return string(out)
}

// Write makes or replaces a file.
func (b BootFS) Write(name string, data []byte) {
	b.t.Helper()
	tmp := filepath.Join(b.t.TempDir(), "f")
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		b.t.Fatal(err)
	}
	b.debugfs("mkdir /" + filepath.Dir(name))
	b.debugfs("rm " + name)
	b.debugfs("write " + tmp + " " + name)
	if !b.Has(name) {
		b.t.Fatalf("%s was not written to the boot file system", name)
	}
}

// Has says whether there is a file of that name.
func (b BootFS) Has(name string) bool {
	b.t.Helper()
	return bytes.Contains([]byte(b.debugfs("stat "+name)), []byte("Inode:"))
}
