package agent

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"metalrise.dev/agent/internal/fixture"
)

// ext4Image makes a real ext4 file system that holds the files of a folder.
func ext4Image(t *testing.T, size int64, files map[string]string, options ...string) []byte {
	t.Helper()
	mkfs, err := exec.LookPath("mkfs.ext4")
	if err != nil {
		mkfs = "/sbin/mkfs.ext4"
	}
	from, to := t.TempDir(), filepath.Join(t.TempDir(), "fs")
	fixture.Write(t, from, files)
	fixture.Sparse(t, to, size)
	out, err := exec.Command(mkfs, append(options, "-q", "-F", "-L", "boot", "-d", from, to)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b, err := os.ReadFile(to)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestReadExt4File(t *testing.T) {
	many := map[string]string{markerName: `{"site":"rack-a"}`}
	for i := range 300 { // more than one block of the folder
		many["a-rather-long-name-of-a-file-"+fixture.Itoa(int64(i))[:len(fixture.Itoa(int64(i)))-1]] = "x"
	}
	for name, options := range map[string][]string{
		"usual": nil, "4 KiB blocks": {"-b", "4096"}, "1 KiB blocks": {"-b", "1024"}, "32 bit": {"-O", "^64bit,^metadata_csum"}, "small inodes": {"-I", "128"},
	} {
		t.Run(name, func(t *testing.T) {
			fs := ext4Image(t, 16*mib, many, options...)
			b, err := readExt4File(bytes.NewReader(fs), markerName, maxMarker)
			if err != nil || string(b) != `{"site":"rack-a"}` {
				t.Errorf("%q, %v", b, err)
			}
			if _, err := readExt4File(bytes.NewReader(fs), "missing", maxMarker); err == nil {
				t.Error("a missing file was found")
			}
			if _, err := readExt4File(bytes.NewReader(fs), markerName, 5); err == nil {
				t.Error("a file above the limit was read")
			}
		})
	}
}

func TestProbe(t *testing.T) {
	const size = 4 * mib
	tests := map[string]struct {
		at   int64
		data string
		want string
	}{
		"xfs": {0, "XFSB" + strings.Repeat("\x00", 104) + "data", "xfs label data"}, "luks": {0, "LUKS\xba\xbe", "LUKS encrypted volume"},
		"ceph": {0, "bluestore block device\n", "Ceph bluestore"}, "ntfs": {3, "NTFS    ", "ntfs"}, "swap": {4086, "SWAPSPACE2", "swap"},
		"lvm in sector 1": {512, "LABELONE" + strings.Repeat("\x00", 16) + "LVM2 001", "LVM physical volume"},
		"mdraid 1.2":      {4096, "\xfc\x4e\x2b\xa9", "Linux RAID member"}, "mdraid 1.0": {size - 8192, "\xfc\x4e\x2b\xa9", "Linux RAID member"},
		"mdraid 0.90": {size - 65536, "\xfc\x4e\x2b\xa9", "Linux RAID member"}, "zfs": {128<<10 + 5*1024, "\x0c\xb1\xba\x00\x00\x00\x00\x00", "ZFS member"},
		"vmfs": {mib, "\x0d\xd0\x01\xc0", "VMFS volume"}, "btrfs": {65600, "_BHRfS_M", "btrfs"}, "iso": {32769, "CD001", "iso9660"},
		"intel raid": {size - 1024, "Intel Raid ISM Cfg Sig. ", "firmware RAID member"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			b := make([]byte, size)
			copy(b[test.at:], test.data)
			c, err := readContents(bytes.NewReader(b), size, 512)
			if err != nil || !slices.Contains(c.Texts(), test.want) {
				t.Errorf("%+v, %v, want %q", c, err, test.want)
			}
			pooled := strings.Contains(name, "lvm") || strings.Contains(name, "raid") || slices.Contains([]string{"ceph", "zfs", "vmfs"}, name)
			if got := slices.Contains(c.Members(), test.want); got != pooled {
				t.Errorf("member of something larger: %v, want %v", got, pooled)
			}
		})
	}
	vfat := make([]byte, size)
	copy(vfat[82:], "FAT32   ")
	copy(vfat[71:], "ESP        ")
	vfat[510], vfat[511] = 0x55, 0xaa
	if c, err := readContents(bytes.NewReader(vfat), size, 512); err != nil || !slices.Equal(c.Texts(), []string{"vfat label ESP"}) {
		t.Errorf("vfat: %q, %v", c.Texts(), err)
	}
	if c, err := readContents(bytes.NewReader(make([]byte, size)), size, 512); err != nil || len(c.Members()) > 0 || !slices.Equal(c.Texts(), []string{"blank"}) {
		t.Errorf("blank disk: %+v, %v", c, err)
	}
}

func TestContentsOfPartitions(t *testing.T) {
	ours := ext4Image(t, 4*mib, map[string]string{markerName: `{"site":"rack-a","plan":"p"}`})
	img := testGPT(t, ours, mib)
	c, err := readContents(bytes.NewReader(img), int64(len(img)), 512)
	if err != nil || c.Owner != "rack-a" {
		t.Fatalf("%+v, %v", c, err)
	}
	want := []string{"partition table gpt", `partition 1 "root"`, `partition 2 "boot": ext4 label boot`}
	if !slices.Equal(c.Texts(), want) || len(c.Members()) > 0 {
		t.Errorf("%q with members %q, want %q and none", c.Texts(), c.Members(), want)
	}
	mbr := make([]byte, 4*mib)
	mbr[510], mbr[511] = 0x55, 0xaa
	if c, _ := readContents(bytes.NewReader(mbr), 4*mib, 512); !slices.Equal(c.Texts(), []string{"partition table mbr without partitions"}) {
		t.Errorf("an empty master boot record: %+v", c)
	}
	mbr[446+4] = 0x83
	binary.LittleEndian.PutUint32(mbr[446+8:], 2048)
	binary.LittleEndian.PutUint32(mbr[446+12:], 2048)
	if c, _ := readContents(bytes.NewReader(mbr), 4*mib, 512); !slices.Contains(c.Texts(), "partition 1 type 0x83") {
		t.Errorf("mbr: %+v", c)
	}
	img[520] ^= 1 // damages the header
	if c, _ := readContents(bytes.NewReader(img), int64(len(img)), 512); !strings.Contains(strings.Join(c.Texts(), " "), "damaged partition table") {
		t.Errorf("a damaged table is not told: %+v", c)
	}
}

func TestMoveBackup(t *testing.T) {
	img := testGPT(t, []byte("boot"), mib)
	for _, extra := range []int64{0, 512, 7 * mib} {
		size := int64(len(img)) + extra
		disk := make([]byte, size)
		copy(disk, img)
		head := disk[:mib]
		table, err := parseGPT(head, 512)
		if err != nil {
			t.Fatal(err)
		}
		tail, at, err := table.moveBackup(head, size)
		if err != nil {
			t.Fatal(err)
		}
		copy(disk[at:], tail)
		if at+int64(len(tail)) != size {
			t.Errorf("the backup ends at byte %d of %d", at+int64(len(tail)), size)
		}
		moved, err := parseGPT(disk[:mib], 512)
		if err != nil || len(moved.parts) != len(table.parts) || moved.parts[1] != table.parts[1] {
			t.Errorf("primary after the move: %+v, %v", moved, err)
		}
		if got := int64(binary.LittleEndian.Uint32(disk[446+12:])); got != size/512-1 {
			t.Errorf("the protective MBR covers %d blocks of %d", got, size/512-1)
		}
		// sgdisk judges with its own code, where it is installed.
		if sgdisk, err := exec.LookPath("sgdisk"); err == nil {
			path := filepath.Join(t.TempDir(), "disk")
			if err := os.WriteFile(path, disk, 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command(sgdisk, "-v", path).CombinedOutput(); err != nil || !strings.Contains(string(out), "No problems found") {
				t.Errorf("sgdisk: %v\n%s", err, out)
			}
		}
		backup := tail[len(tail)-512:]
		if headerCRC(backup[:92]) != binary.LittleEndian.Uint32(backup[16:]) || binary.LittleEndian.Uint64(backup[24:]) != uint64(size/512-1) {
			t.Error("the backup's header is not valid")
		}
	}
	table, err := parseGPT(img[:mib], 512)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := table.moveBackup(img[:mib], int64(len(img))-mib); err == nil {
		t.Error("a table was moved to a disk that is too small")
	}
}

func TestFirstBootLetsNothingOut(t *testing.T) {
	for _, bad := range []string{`a"b`, "a b", "a$b", "a\nb", "a\\b", "a`b", "a;b", ""} {
		if out, err := firstBoot([]string{bad}); err == nil {
			t.Errorf("%q became %q", bad, out)
		}
	}
}

func FuzzContents(f *testing.F) {
	small := make([]byte, 2*mib)
	f.Add([]byte("XFSB"), uint32(0))
	f.Add([]byte("EFI PART"), uint32(512))
	f.Add([]byte("\x53\xef"), uint32(1080))
	f.Fuzz(func(t *testing.T, data []byte, at uint32) {
		b := bytes.Clone(small)
		copy(b[int(at)%len(b):], data)
		c, err := readContents(bytes.NewReader(b), int64(len(b)), 512)
		if err == nil && len(c.Texts()) == 0 {
			t.Error("contents without a word")
		}
	})
}

func FuzzGPT(f *testing.F) {
	f.Add(make([]byte, 1024))
	f.Fuzz(func(t *testing.T, head []byte) {
		if len(head) >= 1024 { // let the checksums be right, so that more than they is tried
			h := head[512:]
			copy(h, gptSignature)
			binary.LittleEndian.PutUint32(h[12:], 92)
			binary.LittleEndian.PutUint32(h[16:], headerCRC(h[:92]))
		}
		table, err := parseGPT(head, 512)
		if err != nil {
			return
		}
		if _, _, err := table.moveBackup(bytes.Clone(head), 1<<30); err == nil {
			for _, p := range table.parts {
				if p.Span.Size <= 0 || p.Span.Offset+p.Span.Size > 1<<30 {
					t.Errorf("accepted partition %+v on a disk of 1 GiB", p)
				}
			}
		}
	})
}

func FuzzVPD(f *testing.F) {
	f.Add([]byte("\x00\x83\x00\x0c\x01\x03\x00\x08\x50\x00\xc5\x00\xa1\xb2\xc3\xd4"))
	f.Add([]byte("\x00\x80\x00\x04ABCD"))
	f.Fuzz(func(t *testing.T, page []byte) {
		if w := parseVPD83(page); w != cleanWWN(w) && w != "" {
			t.Errorf("wwn %q is not in the form of one", w)
		}
		if s := parseVPD80(page); s != cleanName(s) {
			t.Errorf("serial %q is not clean", s)
		}
	})
}

func FuzzExt4(f *testing.F) {
	f.Add([]byte{0x53, 0xef}, uint16(1080))
	f.Fuzz(func(t *testing.T, data []byte, at uint16) {
		b := make([]byte, 1<<20)
		copy(b[1080:], "\x53\xef")
		copy(b[at:], data)
		_, _ = readExt4File(bytes.NewReader(b), markerName, maxMarker)
	})
}

func FuzzXZHeader(f *testing.F) {
	f.Add([]byte("\xfd7zXZ\x00\x00\x04\xe6\xd6\xb4\x46\x02\x00\x21\x01\x16\x00\x00\x00"))
	f.Fuzz(func(_ *testing.T, head []byte) { xzDictionary(head) })
}
