package qemu

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cavaliergopher/cpio"
	"github.com/coreos/stream-metadata-go/stream"
	"metalrise.dev/lab/machine"
	"metalrise.dev/lab/machine/machinetest"
	"metalrise.dev/lab/nodeimage"
)

// image returns the node image's ISO and compressed disk image.
func image(t *testing.T) (iso, disk string) {
	t.Helper()
	machinetest.Require(t)
	if os.Getenv("METALRISE_QEMU") != "1" {
		t.Skip("skipped: heavy, software emulation takes minutes; set METALRISE_QEMU=1")
	}
	needQEMU(t)
	cache := os.Getenv("METALRISE_CACHE")
	if cache == "" {
		cache = t.TempDir()
	}
	dir, err := nodeimage.Ensure(t.Context(), cache, func(s string) { t.Log(s) })
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, nodeimage.StreamFile))
	if err != nil {
		t.Fatal(err)
	}
	var s stream.Stream
	if err := json.Unmarshal(data, &s); err != nil {
		t.Fatal(err)
	}
	formats := s.Architectures[nodeimage.Arch].Artifacts["metal"].Formats
	return filepath.Join(dir, formats["iso"].Disk.Location), filepath.Join(dir, formats["raw.zst"].Disk.Location)
}

// config is an Ignition config with one file, kernel arguments, and a script
// that runs when the network is there, its output on the console.
func config(t *testing.T, script string, kargs ...string) []byte {
	t.Helper()
	file := func(path, text string, mode int) map[string]any {
		return map[string]any{"path": path, "mode": mode, "contents": map[string]string{"source": "data:," + url.PathEscape(text)}}
	}
	c := map[string]any{
		"ignition": map[string]string{"version": "3.4.0"},
		"storage": map[string]any{"files": []any{
			file("/etc/hostname", "node-one\n", 0o644),
			file("/usr/local/bin/mark", "#!/bin/bash\n"+script+"\necho END OF MARK\n", 0o755),
			file("/etc/NetworkManager/system-connections/one.nmconnection",
				"[connection]\nid=one\ntype=ethernet\n[ethernet]\nmac-address=52:54:00:00:00:01\n[ipv4]\nmethod=manual\naddress1=192.0.2.10/24\n[ipv6]\nmethod=disabled\n", 0o600),
		}},
		"systemd": map[string]any{"units": []any{map[string]any{"name": "mark.service", "enabled": true,
			"contents": "[Unit]\nAfter=ssh.service chronyd.service NetworkManager.service\n[Service]\nType=oneshot\n" +
				"StandardOutput=journal+console\nStandardError=journal+console\nExecStart=/usr/local/bin/mark\n[Install]\nWantedBy=multi-user.target\n"}}},
	}
	if len(kargs) > 0 {
		c["kernelArguments"] = map[string]any{"shouldExist": kargs}
	}
	data, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// personal copies the ISO and puts a config into its embed area.
func personal(t *testing.T, iso string, config []byte) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "personal.iso")
	run(t, "cp", iso, out)
	var archive bytes.Buffer
	w := cpio.NewWriter(&archive)
	if err := w.WriteHeader(&cpio.Header{Name: "config.ign", Mode: 0o100600, Size: int64(len(config))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(config); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if archive.Len() > nodeimage.EmbedAreaSize {
		t.Fatal("config is too large")
	}
	// the area is the only quarter mebibyte of this file; xorriso says where it lies
	report := run(t, "xorriso", "-indev", out, "-find", "/images/ignition.img", "-exec", "report_lba")
	var start, blocks, size int64
	for line := range strings.Lines(report) {
		if rest, ok := strings.CutPrefix(line, "File data lba:"); ok {
			fields := strings.Split(rest, ",")
			fmt.Sscan(fields[1], &start)
			fmt.Sscan(fields[2], &blocks)
			fmt.Sscan(fields[3], &size)
		}
	}
	if size != nodeimage.EmbedAreaSize {
		t.Fatalf("embed area: %d bytes in %q", size, report)
	}
	f, err := os.OpenFile(out, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(archive.Bytes(), start*2048); err != nil {
		t.Fatal(err)
	}
	return out
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// boot runs the machine until it says mark, then has it shut down.
func boot(t *testing.T, m *Machine, from machine.BootSource, mark string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	con := newConsole(t)
	type result struct {
		stop machine.Stop
		err  error
	}
	begin := time.Now()
	stopped := make(chan result, 1)
	go func() {
		stop, err := m.Boot(ctx, from, con)
		stopped <- result{stop, err}
	}()
	select {
	case <-con.said(mark):
		t.Logf("said %q after %.1f s", mark, time.Since(begin).Seconds())
	case r := <-stopped:
		t.Fatalf("stopped before it said %q: %q, %v\n%s", mark, r.stop, r.err, con)
	}
	if err := m.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	r := <-stopped
	t.Logf("%s after %.1f s", r.stop, time.Since(begin).Seconds())
	if r.err != nil || r.stop != machine.PoweredOff {
		t.Errorf("stopped: %q, %v\n%s", r.stop, r.err, con)
	}
	return con.String()
}

const look = `echo HOST $(uname -n)
for d in /sys/block/sd*; do echo DISK $(basename $d) rotational=$(cat $d/queue/rotational); done
ls -l /dev/disk/by-id | sed -n 's/.*\(wwn-.*\)/ID \1/p'
echo VENDOR $(cat /sys/class/dmi/id/sys_vendor) SERIAL $(cat /sys/class/dmi/id/product_serial) UUID $(cat /sys/class/dmi/id/product_uuid)
for u in ssh chronyd NetworkManager; do echo UNIT $u $(systemctl is-active $u); done
echo KVM $(ls /dev/kvm) $(grep -wo svm /proc/cpuinfo | sort -u)
echo ARGS $(cat /proc/cmdline)
id core
systemctl --failed --no-legend | sed 's/^/FAILED /'
`

func wants(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains(text, line) {
			t.Errorf("the system did not say %q", line)
		}
	}
	if strings.Contains(text, "FAILED ") || strings.Contains(text, "EMERGENCY") {
		t.Error("something failed")
	}
	if t.Failed() {
		t.Log(text)
	}
}

func TestConformance(t *testing.T) {
	iso, compressed := image(t)
	raw := filepath.Join(t.TempDir(), "disk.raw")
	run(t, "zstd", "-q", "-d", "--sparse", compressed, "-o", raw)
	machinetest.Run(t, func(t *testing.T, spec machine.Spec) machine.Hardware {
		m, err := New(spec)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}, machinetest.Image{ISO: iso, Disk: raw})
}

func TestLiveSystem(t *testing.T) {
	iso, _ := image(t)
	for _, firmware := range []string{"bios", "uefi"} {
		t.Run(firmware, func(t *testing.T) {
			m, err := New(spec(t, firmware))
			if err != nil {
				t.Fatal(err)
			}
			text := boot(t, m, machine.BootSource{Kind: machine.FromMedia, ISO: personal(t, iso, config(t, look))}, "END OF MARK")
			wants(t, text, "HOST node-one", "DISK sda rotational=0", "DISK sdb rotational=1",
				"ID wwn-0x5000c500a1b2c301", "VENDOR Lab, Inc. SERIAL SN-T1 UUID 6d5f3a52-1f0e-4c1b-9d39-0c6a3f1f7a01",
				"UNIT ssh active", "UNIT chronyd active", "UNIT NetworkManager active", "KVM /dev/kvm svm", "(core)")
		})
	}
}

// install writes the image to the machine's second disk, as an agent would, with
// a config in its boot file system.
func install(t *testing.T, m *Machine, compressed string, config []byte) {
	t.Helper()
	disk := m.spec.Disks[1]
	path := m.diskPath(disk)
	run(t, "zstd", "-q", "-d", "-f", "--sparse", compressed, "-o", path)
	if err := makeDisk(path, disk.SizeBytes); err != nil {
		t.Fatal(err)
	}
	source := filepath.Join(t.TempDir(), "config.ign")
	if err := os.WriteFile(source, config, 0o600); err != nil {
		t.Fatal(err)
	}
	// the third partition, through debugfs: no loop device, no mount
	part := filepath.Join(t.TempDir(), "boot.img")
	const mib = 1 << 20
	start, size := int64(10*mib), int64(128*mib)
	run(t, "dd", "if="+path, "of="+part, "bs=1M", fmt.Sprintf("skip=%d", start/mib), fmt.Sprintf("count=%d", size/mib))
	run(t, "debugfs", "-w", "-R", "write "+source+" ignition/config.ign", part)
	run(t, "dd", "if="+part, "of="+path, "bs=1M", fmt.Sprintf("seek=%d", start/mib), "conv=notrunc")
}

// The installed system applies its config once: on the boot that has the marker,
// kernel arguments included, and never again.
func TestInstalledSystem(t *testing.T) {
	_, compressed := image(t)
	for _, firmware := range []string{"bios", "uefi"} {
		t.Run(firmware, func(t *testing.T) {
			s := spec(t, firmware)
			s.Disks[1].SizeBytes = 3 << 30
			m, err := New(s)
			if err != nil {
				t.Fatal(err)
			}
			script := look + `echo ROOTSIZE $(( $(df --output=size -k / | tail -1) / 1048576 ))
boots=$(( $(cat /var/boots 2>/dev/null) + 1 )); echo $boots > /var/boots; echo BOOTS $boots
`
			install(t, m, compressed, config(t, script, "hugepages=1", "lab.note=kept"))
			disk := machine.BootSource{Kind: machine.FromDisk}

			// Ignition asks for other kernel arguments, so the first start ends in a reboot
			con := newConsole(t)
			begin := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
			defer cancel()
			stop, err := m.Boot(ctx, disk, con)
			if err != nil || stop != machine.Rebooted {
				t.Fatalf("first start: %q, %v\n%s", stop, err, con)
			}
			t.Logf("rebooted for its kernel arguments after %.1f s", time.Since(begin).Seconds())

			first := boot(t, m, disk, "first boot complete")
			wants(t, first, "HOST node-one", "BOOTS 1", "hugepages=1 lab.note=kept ignition.firstboot", "UNIT ssh active", "(core)", "ROOTSIZE 2")

			second := boot(t, m, disk, "END OF MARK")
			wants(t, second, "HOST node-one", "BOOTS 2", "hugepages=1 lab.note=kept", "ROOTSIZE 2")
			if strings.Contains(second, "ignition.firstboot") || strings.Contains(second, "Starting ignition-files") {
				t.Errorf("Ignition ran again\n%s", second)
			}
		})
	}
}
