package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"metalrise.dev/fleet"
)

// netRack is a lab of one full virtual machine, whose site boots servers from the
// network on the lab's own bridge.
func netRack(t *testing.T, lab, firmware string) *rack {
	t.Helper()
	if os.Getenv("METALRISE_QEMU") == "" {
		t.Skip("skipped: heavy, software emulation takes minutes; set METALRISE_QEMU=1")
	}
	r := newRack(t, lab, 1, "--machine", "qemu", "--firmware", firmware)
	old, err := os.ReadFile(r.site)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(old), "gateway: ")
	gateway, _, _ := strings.Cut(rest, "\n")
	all, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	bridge := ""
	for _, i := range all {
		addresses, err := i.Addrs()
		for _, a := range addresses {
			if err == nil && strings.HasPrefix(a.String(), gateway+"/") {
				bridge = i.Name
			}
		}
	}
	file := filepath.Join(filepath.Dir(r.site), "net.yaml")
	if err := os.WriteFile(file, append(old, []byte("\nserving:\n  netboot: "+bridge+"\n")...), 0o600); err != nil {
		t.Fatal(err)
	}
	r.site = file
	return r
}

// TestRealNetworkRungs installs a machine whose BMC has no licence for virtual
// media: by PXE from BIOS, and by UEFI HTTP boot, until its installed system
// reports.
func TestRealNetworkRungs(t *testing.T) {
	for name, c := range map[string]struct {
		firmware string
		faults   []string
		want     fleet.BootRoute
	}{
		"pxe-bios":  {"bios", []string{"quirk name=licence-dell"}, fleet.PXE},
		"uefi-http": {"uefi", []string{"quirk name=licence-dell", "quirk name=http-boot"}, fleet.UEFIHTTP},
		"pxe-uefi":  {"uefi", []string{"quirk name=licence-dell"}, fleet.PXE},
	} {
		t.Run(name, func(t *testing.T) {
			r := netRack(t, "net-"+name, c.firmware)
			for _, f := range c.faults {
				r.must("lab", "fault", "--name", r.lab, "n1", f)
			}
			r.planned(1)
			r.must("apply", "--erase-disks", "1", "--detach")
			v := r.await(25*time.Minute, "installed", func(v fleet.Overview) bool { return v.Quiet })
			if s := v.Servers[0]; s.Condition != fleet.Settled || s.Route != c.want {
				t.Errorf("%s by %s: %+v", s.Condition, s.Route, s.Cause)
			}
		})
	}
}

// TestRealServe installs a machine that is switched on by hand: its firmware boots
// from the network, and no BMC is asked for anything by the engine.
func TestRealServe(t *testing.T) {
	r := netRack(t, "serve", "bios")
	r.planned(1)
	cmd := exec.Command(r.bin, "serve", "--erase-disks", "1", "-f", r.site, "--state", r.state)
	log, err := os.Create(filepath.Join(t.TempDir(), "serve.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	r.await(time.Minute, "the machine is waited for", func(v fleet.Overview) bool {
		return v.Engine && len(v.Servers) == 1 && strings.Contains(v.Servers[0].Step, "to be switched on")
	})
	bmc := r.overview().Servers[0].BMC
	login := []string{"--username", "admin", "--password-file", filepath.Join(filepath.Dir(r.site), "bmc-password"), "--accept-new-pins", "--meanwhile"}
	r.must(append([]string{"bmc", "boot", bmc, "pxe"}, login...)...)
	r.must("lab", "power", "--name", r.lab, "n1", "on")
	v := r.await(25*time.Minute, "installed", func(v fleet.Overview) bool { return v.Quiet })
	if s := v.Servers[0]; s.Condition != fleet.Settled {
		t.Errorf("%s: %+v", s.Condition, s.Cause)
	}
	for _, e := range r.events() {
		switch e.Action {
		case fleet.ActIdentify, fleet.ActInsert, fleet.ActBootOnce, fleet.ActPowerOn, fleet.ActPowerOff, fleet.ActEject:
			t.Errorf("the BMC was asked: %+v", e)
		}
	}
}
