package container

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"metalrise.dev/lab/machine"
)

func TestBlockTree(t *testing.T) {
	sys := t.TempDir()
	s := &initramfs{plan: plan{
		Spec:    machine.Spec{Disks: []machine.Disk{{Serial: "S1", WWN: "5000c500aabbccdd", Model: "HDD 8T", SizeBytes: 1 << 30, Rotating: true}}},
		Disks:   []blockNode{{Name: "sda", Minor: 300, Size: 1 << 30}},
		Optical: &blockNode{Name: "sr0", Minor: 7, Size: 4096},
		Systems: []diskSystem{{Disk: "sda", Boot: diskPart{Number: 3, Minor: 301, Start: 1 << 20, Size: 2 << 20}, Root: diskPart{Number: 4, Minor: 302}}},
	}}
	for _, d := range []string{"block", "class/block", "dev/block"} {
		if err := os.MkdirAll(filepath.Join(sys, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.blockTree(sys); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"class/block/sda/size":             "2097152\n",
		"block/sda/queue/rotational":       "1\n",
		"class/block/sda/device/wwid":      "naa.5000c500aabbccdd\n",
		"class/block/sda/device/model":     "HDD 8T          \n",
		"class/block/sda/device/vendor":    "LAB     \n",
		"class/block/sda/device/type":      "0\n",
		"class/block/sda/device/vpd_pg80":  "\x00\x80\x00\x02S1",
		"dev/block/7:300/uevent":           "MAJOR=7\nMINOR=300\nDEVNAME=sda\nDEVTYPE=disk\n",
		"class/block/sda3/partition":       "3\n",
		"class/block/sda/sda3/start":       "2048\n",
		"dev/block/7:301/size":             "4096\n",
		"class/block/sda/subsystem/sr0/ro": "1\n",
		"class/block/sr0/device/type":      "5\n",
	} {
		b, err := os.ReadFile(filepath.Join(sys, name))
		if err != nil || string(b) != want {
			t.Errorf("%s: got %q (%v), want %q", name, b, err, want)
		}
	}
	b, _ := os.ReadFile(filepath.Join(sys, "class/block/sda/device/vpd_pg83"))
	if got, want := hex.EncodeToString(b), "0083000c010300085000c500aabbccdd"; got != want {
		t.Errorf("vpd_pg83: got %s, want %s", got, want)
	}
	want := "major minor  #blocks  name\n\n   7      300    1048576 sda\n   7        7          4 sr0\n   7      301       2048 sda3\n   7      302          0 sda4\n"
	if got := s.procPartitions(); got != want {
		t.Errorf("partitions: got %q, want %q", got, want)
	}
}

func TestLimitMeminfo(t *testing.T) {
	got := limitMeminfo("MemTotal:       24684092 kB\nMemFree:        20000000 kB\nMemAvailable:     500000 kB\nSwapTotal:             0 kB\nHugePages_Total:       0\n", 1<<20)
	for _, want := range []string{"MemTotal:        1048576 kB\n", "MemFree:         1048576 kB\n", "MemAvailable:     500000 kB\n", "HugePages_Total:       0\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("got %q, want a line %q", got, want)
		}
	}
}

func TestEditKargs(t *testing.T) {
	for _, c := range []struct {
		name, before string
		args         []string
		after        string // "" for an error
		changed      bool
	}{
		{"add", `set kargs="console=ttyS0"`, []string{"--should-exist", "a=1 b", "--should-exist", "console=ttyS0"}, `set kargs="console=ttyS0 a=1 b"`, true},
		{"remove", `set kargs="console=ttyS0 quiet"`, []string{"--should-not-exist", "quiet"}, `set kargs="console=ttyS0"`, true},
		{"nothing to do", `set kargs="a"`, []string{"--should-exist", "a", "--should-not-exist", "b"}, `set kargs="a"`, false},
		{"quotes", `set kargs="a"`, []string{"--should-exist", `x"y`}, "", false},
		{"unknown option", `set kargs="a"`, []string{"--append", "x"}, "", false},
		{"another file", `linux /vmlinuz`, []string{"--should-exist", "x"}, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "kargs.cfg")
			if err := os.WriteFile(path, []byte(c.before+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			changed, err := editKargs(path, c.args)
			if (err != nil) != (c.after == "") || changed != c.changed {
				t.Fatalf("got %v, %v", changed, err)
			}
			want := c.after
			if want == "" {
				want = c.before
			}
			if b, _ := os.ReadFile(path); strings.TrimSpace(string(b)) != want {
				t.Errorf("got %q, want %q", b, want)
			}
		})
	}
	if _, err := editKargs(filepath.Join(t.TempDir(), "none"), nil); err == nil || !strings.Contains(err.Error(), "installed") {
		t.Errorf("live system: got %v", err)
	}
}
