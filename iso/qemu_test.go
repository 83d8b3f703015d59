package iso_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"metalrise.dev/iso"
	"metalrise.dev/lab/machine"
	"metalrise.dev/lab/machine/machinetest"
	"metalrise.dev/lab/machine/qemu"
	"metalrise.dev/lab/nodeimage"
)

// liveISO is the lab's live ISO: METALRISE_LIVE_ISO, or the one of the cache.
func liveISO(t *testing.T) string {
	t.Helper()
	machinetest.Require(t)
	if os.Getenv("METALRISE_QEMU") != "1" {
		t.Skip("skipped: heavy, software emulation takes minutes; set METALRISE_QEMU=1")
	}
	if p := os.Getenv("METALRISE_LIVE_ISO"); p != "" {
		return p
	}
	cache := os.Getenv("METALRISE_CACHE")
	if cache == "" {
		cache = t.TempDir()
	}
	dir, err := nodeimage.Ensure(t.Context(), cache, func(s string) { t.Log(s) })
	if err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(filepath.Join(dir, "*.iso"))
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	return found[0]
}

const bridge = "mrisotest0"

// network makes a bridge with an address of ours, for machines to reach us.
func network(t *testing.T) {
	t.Helper()
	_ = exec.Command("ip", "link", "del", bridge).Run() // left by a killed run
	t.Cleanup(func() { _ = exec.Command("ip", "link", "del", bridge).Run() })
	for _, args := range []string{"link add " + bridge + " type bridge", "addr add 198.51.100.1/24 dev " + bridge, "link set " + bridge + " up"} {
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", args, err, out)
		}
	}
}

// reporting is a config whose only unit tells what the system sees, and a file
// of the given content.
func reporting(t *testing.T, ballast []byte) []byte {
	t.Helper()
	script := `#!/bin/bash
echo "CHECK ballast=$(sha256sum < /etc/ballast | cut -d' ' -f1)"
echo "CHECK kargs=$(cat /proc/cmdline)"
echo "CHECK keyfile=$(stat -c %a /etc/NetworkManager/system-connections/own.nmconnection)"
echo "CHECK address=$(ip -o -4 address show scope global | tr -s ' ' | cut -d' ' -f4 | tr '\n' ' ')"
echo "CHECK failed=$(systemctl --failed --no-legend | tr '\n' ' ')"
echo "CHECK done=yes"
`
	file := func(path string, data []byte, mode int) map[string]any {
		return map[string]any{"path": path, "mode": mode, "contents": map[string]string{"source": "data:;base64," + base64.StdEncoding.EncodeToString(data)}}
	}
	b, err := json.Marshal(map[string]any{
		"ignition": map[string]string{"version": "3.4.0"},
		"storage":  map[string]any{"files": []any{file("/etc/ballast", ballast, 0o600), file("/usr/local/bin/tell", []byte(script), 0o755)}},
		"systemd": map[string]any{"units": []any{map[string]any{"name": "tell.service", "enabled": true,
			"contents": "[Unit]\nAfter=NetworkManager.service network-online.target\nWants=network-online.target\n[Service]\nType=oneshot\nStandardOutput=tty\nTTYPath=/dev/ttyS0\nExecStart=/usr/local/bin/tell\n[Install]\nWantedBy=multi-user.target\n"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t *testing.T, im *iso.Image, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = im.WriteRange(f, 0, im.Size())
	if err == nil { // disks are whole MiB
		err = f.Truncate((im.Size() + 1<<20 - 1) &^ (1<<20 - 1))
	}
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// boot runs a machine until its unit said all, and gives what it said.
func boot(t *testing.T, firmware string, im *iso.Image, from machine.BootKind) machinetest.Report {
	t.Helper()
	s := machine.Spec{
		Name: "iso1", UUID: "6d5f3a52-1f0e-4c1b-9d39-0c6a3f1f7b01", Serial: "SN-ISO1", Vendor: "Lab, Inc.", Model: "Node 1",
		Firmware: firmware, CPUs: 2, MemoryMiB: 1024, Dir: t.TempDir(),
		Disks: []machine.Disk{{Name: "disk0", Serial: "LAB0001", WWN: "5000c500a1b2c301", Model: "LABDISK", SizeBytes: (im.Size() + 1<<20 - 1) &^ (1<<20 - 1)}},
		NICs:  []machine.NIC{{MAC: "52:54:00:00:0b:01", Bridge: bridge}},
	}
	m, err := qemu.New(s)
	if err != nil {
		t.Fatal(err)
	}
	source := machine.BootSource{Kind: from}
	if from == machine.FromMedia {
		source.ISO = filepath.Join(s.Dir, "medium.iso")
		write(t, im, source.ISO)
	} else { // the ISO as a USB stick or disk
		write(t, im, filepath.Join(s.Dir, "disk0.raw"))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	con := machinetest.NewConsole()
	begin := time.Now()
	stopped := make(chan error, 1)
	go func() {
		_, err := m.Boot(ctx, source, con)
		stopped <- err
	}()
	select {
	case <-con.Done:
		t.Logf("%s booted and told all after %.1f s", firmware, time.Since(begin).Seconds())
		cancel()
		<-stopped
	case err := <-stopped:
		t.Fatalf("stopped before it told all: %v\n%s", err, con.Tail(4000))
	}
	return con.Report()
}

// TestRealBoot boots personalised images: with a config far larger than the
// embed area, and without a root file system, as medium and as disk, by both
// kinds of firmware.
func TestRealBoot(t *testing.T) {
	path := liveISO(t)
	network(t)
	full, err := iso.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	minimal, err := full.Minimal()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("full %d bytes, minimal %d bytes", full.Size(), minimal.Size())
	rootfs, err := full.File(iso.RootfsPath)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "198.51.100.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Log(r.Method, r.URL.Path, "from", r.RemoteAddr)
		http.ServeContent(w, r, "rootfs.img", time.Time{}, rootfs)
	})}
	go srv.Serve(l)
	defer srv.Close()
	at := (&url.URL{Scheme: "http", Host: l.Addr().String(), Path: "/rootfs.img"}).String()

	ballast := make([]byte, 1<<20)
	rand.NewChaCha8([32]byte{3}).Read(ballast)
	// the network of the initrd and of the live system alike
	keyfile := iso.File{Name: "own.nmconnection", Data: []byte("[connection]\nid=own\ntype=ethernet\n[ethernet]\nmac-address=52:54:00:00:0b:01\n[ipv4]\nmethod=manual\naddress1=198.51.100.2/24\n[ipv6]\nmethod=disabled\n")}
	for _, c := range []struct {
		name     string
		base     *iso.Base
		personal iso.Personal
		ballast  []byte
		from     machine.BootKind
	}{
		{"large config", full, iso.Personal{}, ballast, machine.FromMedia},
		{"minimal", minimal, iso.Personal{RootfsURL: at}, ballast[:1000], machine.FromMedia},
		{"large config on a disk", full, iso.Personal{}, ballast, machine.FromDisk},
	} {
		for _, firmware := range []string{"bios", "uefi"} {
			t.Run(c.name+" "+firmware, func(t *testing.T) {
				p := c.personal
				p.Ignition, p.Keyfiles = reporting(t, c.ballast), []iso.File{keyfile}
				p.AppendKargs = []string{"own.note=" + firmware}
				im, err := c.base.Personalise(p)
				if err != nil {
					t.Fatal(err)
				}
				got := boot(t, firmware, im, c.from)
				sum := sha256.Sum256(c.ballast)
				if got["ballast"] != hex.EncodeToString(sum[:]) || !strings.HasSuffix(got["kargs"], "own.note="+firmware) && p.RootfsURL == "" || got["keyfile"] != "600" || got["address"] != "198.51.100.2/24" || got["failed"] != "" {
					t.Error(got)
				}
				if p.RootfsURL != "" && (!strings.Contains(got["kargs"], at) || strings.Contains(got["kargs"], "coreos.liveiso")) {
					t.Error(got)
				}
			})
		}
	}
}

// TestRealProbe: a machine booted from the probe by accident says so and goes on.
func TestRealProbe(t *testing.T) {
	machinetest.Require(t)
	if os.Getenv("METALRISE_QEMU") != "1" {
		t.Skip("skipped: heavy; set METALRISE_QEMU=1")
	}
	medium, err := iso.Probe("lab\n")
	if err != nil {
		t.Fatal(err)
	}
	s := machine.Spec{
		Name: "probe", UUID: "6d5f3a52-1f0e-4c1b-9d39-0c6a3f1f7b02", Serial: "SN-PROBE", Vendor: "Lab, Inc.", Model: "Node 1",
		Firmware: "bios", CPUs: 1, MemoryMiB: 256, Dir: t.TempDir(),
		Disks: []machine.Disk{{Name: "disk0", Serial: "LAB0001", WWN: "5000c500a1b2c301", Model: "LABDISK", SizeBytes: 1 << 20}},
	}
	source := machine.BootSource{Kind: machine.FromMedia, ISO: filepath.Join(s.Dir, "probe.iso")}
	if err := os.WriteFile(source.ISO, medium, 0o644); err != nil {
		t.Fatal(err)
	}
	m, err := qemu.New(s)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	con := machinetest.NewConsole()
	done := make(chan error, 1)
	go func() {
		_, err := m.Boot(ctx, source, con)
		done <- err
	}()
	for !strings.Contains(con.Tail(4096), "metalrise probe medium") {
		select {
		case err := <-done:
			t.Fatalf("it said nothing of itself: %v\n%s", err, con.Tail(4096))
		case <-time.After(200 * time.Millisecond):
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
