package container

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"metalrise.dev/lab/machine"
	"metalrise.dev/lab/machine/machinetest"
)

// lab is what a real test of this kind needs.
type lab struct {
	iso, raw, ignition string
}

func newLab(t testing.TB) lab {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("skipped: needs root")
	}
	if os.Getenv("METALRISE_REAL") != "1" {
		t.Skip("skipped: heavy; set METALRISE_REAL=1")
	}
	dir, ignition := realParts(t)
	return lab{iso: only(t, dir, "*-live.x86_64.iso"), raw: only(t, dir, "*.raw.zst"), ignition: ignition}
}

func testSpec(dir, name string) machine.Spec {
	return machine.Spec{
		Name: name, UUID: "4c4c4544-0035-4a10-8054-b7c04f395999", Serial: "SN-1", Vendor: "Example Corp", Model: "Rack 1U",
		Firmware: "uefi", CPUs: 2, MemoryMiB: 1024, Dir: dir,
		Disks: []machine.Disk{{Name: "disk0", Serial: "FAST1", WWN: "5000c500aabbccdd", Model: "SSD", SizeBytes: 2 << 30}},
	}
}

func (l lab) machine(t testing.TB, name string) *Machine {
	t.Helper()
	m, err := New(testSpec(t.TempDir(), name), l.ignition)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// boot boots and runs act when the script is done.
func boot(t testing.TB, m *Machine, from machine.BootSource, act func(cut func())) (machine.Stop, *machinetest.Console) {
	t.Helper()
	ctx, cut := context.WithTimeout(t.Context(), time.Minute)
	defer cut()
	con := machinetest.NewConsole()
	go func() {
		select {
		case <-con.Done:
			act(cut)
		case <-ctx.Done():
		}
	}()
	stop, err := m.Boot(ctx, from, con)
	if err != nil {
		t.Fatalf("boot: %v\n%s", err, con.Tail(3000))
	}
	return stop, con
}

func (l lab) live(t testing.TB, script string) machine.BootSource {
	t.Helper()
	return machine.BootSource{Kind: machine.FromMedia, ISO: machinetest.Embed(t, l.iso, machinetest.Script(t, script), "test=1")}
}

// nothingLeft checks loop devices and control groups.
func nothingLeft(t testing.TB, m *Machine) {
	t.Helper()
	all, err := attachedLoops()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range all {
		if strings.HasPrefix(l.backing, m.spec.Dir) {
			t.Errorf("%s is left over %s", loopPath(l.minor), l.backing)
		}
	}
	g, err := newGroup(m.groupName())
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range g.in {
		if exists(g.outer(h)) {
			t.Errorf("control group %s is left", g.outer(h))
		}
	}
}

// What a machine must not be able to do, and what it must see.
func TestConfinement(t *testing.T) {
	l := newLab(t)
	m := l.machine(t, "cf")
	var st syscall.Stat_t
	if err := syscall.Stat("/", &st); err != nil {
		t.Fatal(err)
	}
	_, con := boot(t, m, l.live(t, fmt.Sprintf(`
mknod /run/hostdisk b %d %d
head -c 1 /run/hostdisk >/dev/null 2>&1 && say hostdisk read || say hostdisk denied
ls /dev/kvm >/dev/null 2>&1 && say kvm there || say kvm missing
(echo a > /sys/fs/cgroup/devices/devices.allow) 2>/dev/null; head -c 1 /run/hostdisk >/dev/null 2>&1 && say lifted yes || say lifted denied
(echo 7 > /proc/sys/vm/swappiness) 2>/dev/null && say swappiness set || say swappiness denied
(echo 1 > /proc/sys/net/ipv4/ip_forward) 2>/dev/null && say forward set || say forward denied
date -s @0 >/dev/null 2>&1 && say clock set || say clock denied
say partitions "$(grep -c ' sda$' /proc/partitions) $(wc -l < /proc/partitions)"
say lsblk "$(lsblk -dno NAME,TYPE,SIZE,ROTA,MODEL,VENDOR /dev/sda | tr -s " ")"
say limit "$(cat /proc/meminfo | sed -n 's/MemTotal: *//p')"
say container "$(systemd-detect-virt)"
say memory "$(dd if=/dev/zero of=/run/big bs=1M count=4000 2>/dev/null && echo unlimited || echo limited)"
`, st.Dev>>8&0xfff, st.Dev&0xff)), func(cut func()) { cut() })
	for key, want := range map[string]string{
		"hostdisk": "denied", "kvm": "missing", "lifted": "denied", "swappiness": "denied", "forward": "set",
		"clock": "denied", "partitions": "1 4", "limit": "1048576 kB", "lsblk": "sda disk 2G 0 SSD LAB", "memory": "limited",
	} {
		if got := con.Report()[key]; got != want {
			t.Errorf("%s: got %q, want %q", key, got, want)
		}
	}
	nothingLeft(t, m)
}

// Loop devices that the machine attaches over its disk, as an installer does
// for partitions, go with it, in whatever state they are.
func TestOwnLoopDevicesGo(t *testing.T) {
	l := newLab(t)
	for _, end := range []string{"cut", "reboot"} {
		m := l.machine(t, "ol")
		_, con := boot(t, m, l.live(t, `
set -e
sgdisk -n1:2048:+64M -c1:data /dev/sda >/dev/null
part=$(losetup --find --show --offset 1048576 --sizelimit 67108864 /dev/sda)
mkfs.ext4 -q $part; mount $part /mnt; echo hello > /mnt/hello; sync -f /mnt
truncate -s 8M /var/tmp/file; losetup --find --show /var/tmp/file
truncate -s 8M /run/file; losetup --find --show /run/file
say part "$part"
`+map[string]string{"cut": "", "reboot": "systemctl --no-block reboot"}[end]), func(cut func()) {
			if end == "cut" {
				cut()
			}
		})
		if con.Report()["part"] == "" {
			t.Fatalf("script failed:\n%s", con.Tail(2000))
		}
		nothingLeft(t, m)
		all, err := attachedLoops()
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range all {
			if d.backing == "/sda" || d.backing == "/file" || strings.HasSuffix(d.backing, "/var/tmp/file") {
				t.Errorf("%s is left over %s", loopPath(d.minor), d.backing)
			}
		}
		out, err := exec.Command("debugfs", "-R", "cat /hello", m.diskFile(m.spec.Disks[0])+"?offset=1048576").Output()
		if err != nil || string(out) != "hello\n" {
			t.Errorf("what was flushed before the end by %s: got %q (%v), want hello", end, out, err)
		}
	}
}

// A power cut loses what was not flushed and keeps what was.
func TestPowerCutLosesWhatWasNotFlushed(t *testing.T) {
	l := newLab(t)
	m := l.machine(t, "pc")
	boot(t, m, l.live(t, `
sgdisk -n1:2048:+64M -c1:data /dev/sda >/dev/null
part=$(losetup --find --show --offset 1048576 --sizelimit 67108864 /dev/sda)
mkfs.ext4 -q $part; mount -o commit=300 $part /mnt; echo hello > /mnt/flushed; sync -f /mnt; echo hello > /mnt/fresh
`), func(cut func()) { cut() })
	nothingLeft(t, m)
	for name, want := range map[string]string{"/flushed": "hello\n", "/fresh": ""} {
		out, _ := exec.Command("debugfs", "-R", "cat "+name, m.diskFile(m.spec.Disks[0])+"?offset=1048576").Output()
		if string(out) != want {
			t.Errorf("%s: got %q, want %q", name, out, want)
		}
	}
}

// A config that Ignition refuses leaves the machine dead until its power is cut.
func TestBrokenConfigIsAnEmergency(t *testing.T) {
	l := newLab(t)
	m := l.machine(t, "em")
	iso := machinetest.Embed(t, l.iso, []byte(`{"ignition":{"version":"3.4.0"},"storage":{"files":[{"path":"relative"}]}}`), "test=1")
	ctx, cut := context.WithTimeout(t.Context(), 3*time.Second)
	defer cut()
	con := machinetest.NewConsole()
	stop, err := m.Boot(ctx, machine.BootSource{Kind: machine.FromMedia, ISO: iso}, con)
	if err != nil || stop != machine.Killed {
		t.Errorf("got %q, %v; want %q", stop, err, machine.Killed)
	}
	for _, want := range []string{"emergency mode", "path not absolute"} {
		if !strings.Contains(con.Tail(8000), want) {
			t.Errorf("console lacks %q:\n%s", want, con.Tail(2000))
		}
	}
	nothingLeft(t, m)
}

// Kernel arguments of a config cost an installed system one more restart.
func TestKernelArguments(t *testing.T) {
	l := newLab(t)
	m := l.machine(t, "ka")
	disk := m.diskFile(m.spec.Disks[0])
	machinetest.CopyFile(t, unpack(t, l.raw), disk)
	if err := os.Truncate(disk, m.spec.Disks[0].SizeBytes); err != nil {
		t.Fatal(err)
	}
	fs := machinetest.OpenBootFS(t, disk)
	fs.Write("/ignition/config.ign", machinetest.Script(t, `say cmdline "$(cat /proc/cmdline)"; say root "$(findmnt -no SOURCE /)"`, "hugepages=4", "nested=1"))
	from := machine.BootSource{Kind: machine.FromDisk}
	stop, _ := boot(t, m, from, func(cut func()) { cut() })
	if stop != machine.Rebooted {
		t.Fatalf("first boot: got %q, want %q", stop, machine.Rebooted)
	}
	stop, con := boot(t, m, from, func(cut func()) { cut() })
	if stop != machine.Killed {
		t.Fatalf("second boot: got %q, want %q", stop, machine.Killed)
	}
	got := con.Report()["cmdline"]
	for _, want := range []string{"hugepages=4", "nested=1", "console=ttyS0", "ignition.firstboot", "root=LABEL=root"} {
		if !strings.Contains(got, want) {
			t.Errorf("kernel arguments %q lack %q", got, want)
		}
	}
	nothingLeft(t, m)
}

// A lab that is killed takes its machines with it, and Clean does the rest.
func TestLabKilled(t *testing.T) {
	l := newLab(t)
	dir := t.TempDir()
	iso := l.live(t, `losetup --find --show /dev/sda; say up yes`).ISO
	ready := filepath.Join(dir, "ready")
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestLabKilledHelper$")
	cmd.Env = append(os.Environ(), "CONTAINER_TEST_DIR="+dir, "CONTAINER_TEST_ISO="+iso, "CONTAINER_TEST_IGNITION="+l.ignition)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for range 600 {
		if exists(ready) {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	pid, err := os.ReadFile(ready)
	if err != nil {
		t.Fatal(err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	for range 200 {
		if !exists("/proc/" + string(pid)) {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if exists("/proc/" + string(pid)) {
		t.Errorf("process 1 of the machine (%s) lives on", pid)
	}
	m, err := New(testSpec(dir, "lk"), l.ignition)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Clean(t.Context()); err != nil {
		t.Fatal(err)
	}
	nothingLeft(t, m)
	if left, _ := filepath.Glob(filepath.Join(dir, stagePattern)); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if err := m.Clean(t.Context()); err != nil {
		t.Errorf("clean again: %v", err)
	}
}

// TestLabKilledHelper is the lab that TestLabKilled kills.
func TestLabKilledHelper(t *testing.T) {
	dir := os.Getenv("CONTAINER_TEST_DIR")
	if dir == "" {
		return
	}
	m, err := New(testSpec(dir, "lk"), os.Getenv("CONTAINER_TEST_IGNITION"))
	if err != nil {
		t.Fatal(err)
	}
	con := machinetest.NewConsole()
	go func() {
		<-con.Done
		m.mu.Lock()
		defer m.mu.Unlock()
		tmp := filepath.Join(dir, "tmp")
		_ = os.WriteFile(tmp, fmt.Append(nil, m.pid), 0o644)
		_ = os.Rename(tmp, filepath.Join(dir, "ready"))
	}()
	_, err = m.Boot(t.Context(), machine.BootSource{Kind: machine.FromMedia, ISO: os.Getenv("CONTAINER_TEST_ISO")}, con)
	t.Fatalf("boot ended: %v", err)
}
