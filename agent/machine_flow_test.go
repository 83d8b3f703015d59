package agent_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"metalrise.dev/agent"
	"metalrise.dev/agent/internal/fixture"
	"metalrise.dev/fleet"
)

// folderHost is the real machine code on a folder, whose reboot is only counted.
type folderHost struct {
	*agent.Machine
	reboots int
}

func (h *folderHost) Reboot(context.Context) error { h.reboots++; return nil }
func (h *folderHost) SetClock(time.Time) error     { return nil }

// ext4 makes a real, empty file system as boot partitions have it.
func ext4(t *testing.T) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fs")
	from := t.TempDir()
	fixture.Write(t, from, map[string]string{"ignition.firstboot": "", "vmlinuz": "kernel"})
	fixture.Sparse(t, path, 8*mib)
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", "-L", "boot", "-d", from, path).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// newFolderRig is a rig whose machine is a folder with one disk, dev.
func newFolderRig(t *testing.T, size int64) (*rig, *folderHost, string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("skipped: needs root")
	}
	r := newRig(t, "raw.zst", 2*mib)
	root := t.TempDir()
	fixture.Write(t, root, map[string]string{
		"sys/class/dmi/id/product_serial": "SN0001", "sys/block/sda/size": fixture.Itoa(size / 512), "sys/block/sda/device/serial": "PLANNED",
		"sys/block/sda/device/wwid": "naa.5000000000000002",
	})
	r.desk.write.Disk.SizeBytes = size
	r.image = imageOf(ext4(t), 2*mib)
	r.replace(t, r.image)
	dev := filepath.Join(root, "dev/sda")
	fixture.Sparse(t, dev, size)
	return r, &folderHost{Machine: agent.NewHost(root)}, dev
}

func TestFolderMachineWholeWay(t *testing.T) {
	r, host, dev := newFolderRig(t, 64*mib)
	wholeWay(t, r, host, dev)
}

func TestBlockDeviceWholeWay(t *testing.T) {
	r, host, dev := newFolderRig(t, 64*mib)
	out, err := exec.Command("losetup", "--find", "--show", dev).Output()
	if err != nil {
		t.Fatal(err)
	}
	loop := strings.TrimSpace(string(out))
	t.Cleanup(func() { _ = exec.Command("losetup", "--detach", loop).Run() })
	file := dev + ".file"
	if err := os.Rename(dev, file); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(loop, dev); err != nil {
		t.Fatal(err)
	}
	wholeWay(t, r, host, dev)
}

func wholeWay(t *testing.T, r *rig, host *folderHost, dev string) {
	t.Helper()
	// Old data everywhere: what the image has as zeros must become zeros.
	old, err := os.OpenFile(dev, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := old.WriteAt([]byte(strings.Repeat("old", 20*mib)), mib); err != nil {
		t.Fatal(err)
	}
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r.desk.onFailed = cancel
	if err := agent.RunWith(ctx, r.ticket, host, r.log); err != nil || host.reboots != 1 {
		t.Fatalf("%v, %d reboots; console:\n%s", err, host.reboots, r.log)
	}
	if len(r.desk.failed) > 0 {
		t.Fatalf("failed on the way: %+v", r.desk.failed)
	}
	if out, err := exec.Command("sgdisk", "-v", dev).CombinedOutput(); err != nil || !strings.Contains(string(out), "No problems found") {
		t.Errorf("sgdisk: %v\n%s", err, out)
	}
	got, err := os.ReadFile(dev)
	if err != nil {
		t.Fatal(err)
	}
	if string(got[mib:3*mib]) != string(r.image[mib:3*mib]) {
		t.Error("the first partition is not that of the image")
	}
	part := filepath.Join(t.TempDir(), "boot")
	if err := os.WriteFile(part, got[3*mib:11*mib], 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("e2fsck", "-fn", part).CombinedOutput(); err != nil {
		t.Errorf("the boot file system is damaged: %v\n%s", err, out)
	}
	for file, want := range map[string]string{
		"ignition/config.ign": string(r.desk.write.Ignition), "metalrise.json": `"site":"rack-a"`, "ignition.firstboot": "rd.neednet=1", "vmlinuz": "kernel",
	} {
		out, err := exec.Command("debugfs", "-R", "cat /"+file, part).Output()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%s holds %q, %v", file, out, err)
		}
	}
	if out, _ := exec.Command("debugfs", "-R", "stat /ignition/config.ign", part).Output(); !strings.Contains(string(out), "Mode:  0600") {
		t.Errorf("config.ign: %s", out)
	}
	// Looking at the disk again shows whose it is, so the same site may erase it again.
	facts := host.Look(t.Context())
	if len(facts.Disks) != 1 || facts.Disks[0].Owner != "rack-a" {
		t.Errorf("disks %+v", facts.Disks)
	}
	if names, _ := filepath.Glob(filepath.Join(filepath.Dir(filepath.Dir(dev)), "run/metalrise/boot-*")); len(names) > 0 {
		t.Errorf("left behind: %q", names)
	}
	if out, _ := exec.Command("losetup", "--associated", dev).Output(); len(out) > 0 && !strings.Contains(dev, "loop") {
		t.Errorf("loop devices left behind: %s", out)
	}
}

// A machine that loses power while it writes must come back with a disk that
// does not boot. The image stands still at several places; what the disk holds
// at that moment is what would be left.
func TestPowerLossLeavesDiskUnbootable(t *testing.T) {
	for _, percent := range []int64{5, 50, 95, 99} {
		t.Run(fmt.Sprint(percent, " percent"), func(t *testing.T) {
			r, host, dev := newFolderRig(t, 64*mib)
			r.desk.write.Image.Format = "raw"
			r.shelf.items[imageKey] = r.image
			if err := os.WriteFile(dev, []byte(strings.Repeat("\x55\xaa", 32*mib)), 0o600); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			looked := false
			r.shelf.slow = func(off int64) {
				if off*100 < int64(len(r.image))*percent || looked {
					return
				}
				looked = true
				time.Sleep(300 * time.Millisecond) // lets the agent write all it has
				wantClear(t, dev)
				cancel()
			}
			_ = agent.RunWith(ctx, r.ticket, host, r.log)
			if !looked {
				t.Fatalf("the image was never read that far; console:\n%s", r.log)
			}
			wantClear(t, dev)
		})
	}
}

func wantClear(t *testing.T, dev string) {
	t.Helper()
	b, err := os.ReadFile(dev)
	if err != nil {
		t.Error(err)
		return
	}
	for _, part := range [][]byte{b[:mib], b[len(b)-mib:]} {
		if strings.Trim(string(part), "\x00") != "" {
			t.Error("the start or end of the disk is not clear")
		}
	}
}

func TestDamagedBootFileSystem(t *testing.T) {
	r, host, dev := newFolderRig(t, 64*mib)
	r.image = imageOf([]byte("no file system"), 2*mib)
	r.replace(t, r.image)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r.desk.onFailed = cancel
	_ = agent.RunWith(ctx, r.ticket, host, r.log)
	if len(r.desk.failed) == 0 || r.desk.failed[0].Cause.Code != fleet.CodeWriteFailed || host.reboots > 0 {
		t.Fatalf("%+v, %d reboots", r.desk.failed, host.reboots)
	}
	wantClear(t, dev)
}
