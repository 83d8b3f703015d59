package machinetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"metalrise.dev/lab/machine"
)

func (s *suite) media(t *testing.T, g guest) machine.BootSource {
	t.Helper()
	return machine.BootSource{Kind: machine.FromMedia, ISO: Embed(t, s.image.ISO, config(t, g), "machinetest.name="+g.host)}
}

func (s *suite) guest(spec machine.Spec, i int, then string) guest {
	host := fmt.Sprintf("host-%d", i)
	return guest{spec: spec, host: host, addr: fmt.Sprintf("%s.%d/24", s.net.prefix, 10+i), url: s.net.url + "/" + host, then: then}
}

// live checks everything a system sees of its machine, then that it can switch
// the machine off.
func (s *suite) live(t *testing.T) {
	for i := range 2 { // UEFI, then BIOS
		spec := s.spec(t, "ml", i)
		hw := s.mk(t, spec)
		g := s.guest(spec, i, "poweroff")
		stop, r := s.boot(t, hw, s.media(t, g), nil)
		want(t, "stop", stop, machine.PoweredOff)
		checkReport(t, spec, g, r)
		if !strings.Contains(r["cmdline"], "machinetest.name="+g.host) || !strings.Contains(r["cmdline"], "ignition.firstboot") {
			t.Errorf("kernel arguments: %q lack those of the medium or its area", r["cmdline"])
		}
		want(t, "answer over the network", r["net"], "hello")
		want(t, "host asked", s.net.saw("/"+g.host), true)
		s.nothingLeft(t, spec)
	}
}

func checkReport(t *testing.T, spec machine.Spec, g guest, r Report) {
	t.Helper()
	t.Logf("system state %q, failed units %q, memory %s", r["state"], r["failed"], r["memory"])
	want(t, "host name", r["hostname"], g.host)
	want(t, "file", r["file"], "written by ignition for "+spec.Name)
	want(t, "user of the image's own config in group sudo", strings.Contains(" "+r["core"]+" ", " sudo "), true)
	want(t, "product_uuid", r["product_uuid"], spec.UUID)
	want(t, "product_serial", r["product_serial"], spec.Serial)
	want(t, "sys_vendor", r["sys_vendor"], spec.Vendor)
	want(t, "product_name", r["product_name"], spec.Model)
	want(t, "efi", r["efi"] == "yes", spec.Firmware == "uefi")
	for _, d := range spec.Disks {
		rotating := 0
		if d.Rotating {
			rotating = 1
		}
		got := r["disk.naa."+d.WWN]
		if prefix := fmt.Sprintf("%s %d %d ", d.Serial, d.SizeBytes/512, rotating); !strings.HasPrefix(got, prefix) {
			t.Errorf("disk %s: got %q, want it to begin with %q", d.WWN, got, prefix)
			continue
		}
		f := strings.Fields(got)
		want(t, "link to disk "+d.WWN, r["link.wwn-0x"+d.WWN], f[3])
		want(t, "model of disk "+d.WWN, strings.Join(f[4:], " "), d.Model)
	}
	for _, n := range spec.NICs {
		if r["nic."+n.MAC] == "" {
			t.Errorf("network card %s is not seen", n.MAC)
		}
	}
}

func (s *suite) restart(t *testing.T) {
	spec := s.spec(t, "mr", 2)
	hw := s.mk(t, spec)
	from := s.media(t, s.guest(spec, 2, "reboot"))
	stop, first := s.boot(t, hw, from, nil)
	want(t, "stop", stop, machine.Rebooted)
	stop, second := s.boot(t, hw, from, nil)
	want(t, "stop", stop, machine.Rebooted)
	want(t, "boots a live system remembers", second["boots"], "1")
	if first["boot_id"] == second["boot_id"] || first["boot_id"] == "" {
		t.Errorf("boot ids: got %q twice, want two", first["boot_id"])
	}
	s.nothingLeft(t, spec)
}

func (s *suite) button(t *testing.T) {
	spec := s.spec(t, "mb", 3)
	hw := s.mk(t, spec)
	if err := hw.Shutdown(context.Background()); err == nil {
		t.Error("the power button of a machine that is off shut something down")
	}
	stop, _ := s.boot(t, hw, s.media(t, s.guest(spec, 3, "")), func(context.CancelFunc) {
		if err := hw.Shutdown(context.Background()); err != nil {
			t.Errorf("shutdown: %v", err)
		}
	})
	want(t, "stop", stop, machine.PoweredOff)
}

func (s *suite) cut(t *testing.T) {
	spec := s.spec(t, "mc", 4)
	hw := s.mk(t, spec)
	stop, _ := s.boot(t, hw, s.media(t, s.guest(spec, 4, "")), func(cut context.CancelFunc) { cut() })
	want(t, "stop", stop, machine.Killed)
	s.nothingLeft(t, spec)
	if err := hw.Clean(context.Background()); err != nil {
		t.Errorf("clean: %v", err)
	}
}

// empty cuts the power after a while, as a full virtual machine's firmware
// stays at its prompt without telling anyone.
func (s *suite) empty(t *testing.T) {
	spec := s.spec(t, "me", 5)
	hw := s.mk(t, spec)
	ctx, cut := context.WithTimeout(context.Background(), time.Minute)
	defer cut()
	stop, err := hw.Boot(ctx, machine.BootSource{Kind: machine.FromDisk}, NewConsole())
	if err != nil {
		t.Fatal(err)
	}
	if stop != machine.NotBooted && !(stop == machine.Killed && errors.Is(ctx.Err(), context.DeadlineExceeded)) {
		t.Errorf("stop: got %q, want %q", stop, machine.NotBooted)
	}
	s.nothingLeft(t, spec)
}

// installed writes the disk image as an installer does and boots it twice.
func (s *suite) installed(t *testing.T) {
	spec := s.spec(t, "mi", 6)
	hw := s.mk(t, spec)
	disk, other := filepath.Join(spec.Dir, "disk0.raw"), filepath.Join(spec.Dir, "disk1.raw")
	CopyFile(t, s.image.Disk, disk)
	if err := os.Truncate(disk, spec.Disks[0].SizeBytes); err != nil {
		t.Fatal(err)
	}
	pattern := bytes.Repeat([]byte("somebody else's data. "), 3<<20/22)
	data := append(pattern, make([]byte, int(spec.Disks[1].SizeBytes)-len(pattern))...)
	if err := os.WriteFile(other, data, 0o600); err != nil {
		t.Fatal(err)
	}
	boot := OpenBootFS(t, disk)
	want(t, "first-boot marker of the image", boot.Has("/ignition.firstboot"), true)
	g := s.guest(spec, 6, "reboot")
	boot.Write("/ignition/config.ign", config(t, g))

	from := machine.BootSource{Kind: machine.FromDisk}
	stop, first := s.boot(t, hw, from, nil)
	want(t, "stop", stop, machine.Rebooted)
	checkReport(t, spec, g, first)
	want(t, "first boot", strings.Contains(first["cmdline"], "ignition.firstboot"), true)
	want(t, "boots", first["boots"], "1")
	want(t, "answer over the network", first["net"], "hello")
	want(t, "marker after the first boot", boot.Has("/ignition.firstboot"), false)

	hw = s.mk(t, spec)
	stop, second := s.boot(t, hw, from, nil)
	want(t, "stop", stop, machine.Rebooted)
	checkReport(t, spec, g, second)
	want(t, "first boot again", strings.Contains(second["cmdline"], "ignition.firstboot"), false)
	want(t, "boots", second["boots"], "2")

	after, err := os.ReadFile(other)
	if err != nil {
		t.Fatal(err)
	}
	want(t, "other disk untouched", bytes.Equal(after, data), true)
	s.nothingLeft(t, spec)
}

func (s *suite) two(t *testing.T) {
	var both sync.WaitGroup
	stops := make([]machine.Stop, 2)
	errs := make([]error, 2)
	for i := range 2 {
		spec := s.spec(t, fmt.Sprintf("mt%d", i), 8+i)
		hw := s.mk(t, spec)
		from := s.media(t, s.guest(spec, 8+i, "poweroff"))
		both.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 2*s.image.Patience)
			defer cancel()
			stops[i], errs[i] = hw.Boot(ctx, from, NewConsole())
		})
	}
	both.Wait()
	for i := range 2 {
		if errs[i] != nil {
			t.Errorf("boot %d: %v", i, errs[i])
		}
		want(t, fmt.Sprintf("stop of machine %d", i), stops[i], machine.PoweredOff)
		want(t, fmt.Sprintf("machine %d asked", i), s.net.saw(fmt.Sprintf("/host-%d", 8+i)), true)
	}
}
