package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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
	file := ""
	t.Cleanup(func() { // after the lab is down: its folder stays while something else lies in it
		if file != "" {
			_ = os.Remove(file)
			_ = os.Remove(filepath.Dir(file))
		}
	})
	r := newRack(t, lab, 1, "--machine", "qemu", "--firmware", firmware)
	old, err := os.ReadFile(r.site)
	if err != nil {
		t.Fatal(err)
	}
	var view struct {
		Bridge string `json:"bridge"`
	}
	if err := json.Unmarshal([]byte(r.must("lab", "status", "--name", lab, "--output", "json")), &view); err != nil || view.Bridge == "" {
		t.Fatal(view, err)
	}
	file = filepath.Join(filepath.Dir(r.site), "net.yaml")
	if err := os.WriteFile(file, append(old, []byte("\nserving:\n  netboot: "+view.Bridge+"\n")...), 0o600); err != nil {
		t.Fatal(err)
	}
	r.site = file
	return r
}

// onFailure shows what the machine and the engine said last.
func (r *rack) onFailure() {
	r.t.Cleanup(func() {
		if !r.t.Failed() {
			return
		}
		out, _ := r.try("lab", "console", "--name", r.lab, "n1")
		r.t.Logf("console:\n%s", out[max(0, len(out)-6000):])
		out, _ = r.try("events")
		r.t.Logf("events:\n%s", out)
		b, _ := os.ReadFile(filepath.Join(r.state, "engine.log"))
		r.t.Logf("engine:\n%s", b[max(0, len(b)-6000):])
	})
}

const installLimit = 25 * time.Minute // software emulation on a busy computer

// installedBy checks that the one server is installed, once, by a rung, and that
// status and journal tell why each rung above was left.
func (r *rack) installedBy(want fleet.BootRoute, missed ...fleet.BootRoute) {
	r.t.Helper()
	begin := time.Now()
	s := r.await(installLimit, "installed by "+string(want), func(v fleet.Overview) bool { return v.Quiet }).Servers[0]
	r.t.Logf("installed by %s after %s", s.Route, time.Since(begin).Round(time.Second))
	if s.Condition != fleet.Settled || s.Phase != fleet.Installed || s.Route != want {
		r.t.Errorf("%s, %s by %s: %+v", s.Phase, s.Condition, s.Route, s.Cause)
	}
	r.left(s, missed...)
	grants := 0
	for _, e := range r.events() {
		if e.Action == fleet.ActWrite && e.Edge == fleet.Began {
			grants++
		}
	}
	if grants != 1 {
		r.t.Errorf("the disk was granted %d times", grants)
	}
}

// left checks that these rungs were left, in this order, each with its reason in
// the status and in the journal.
func (r *rack) left(s fleet.Status, missed ...fleet.BootRoute) {
	r.t.Helper()
	var got []fleet.BootRoute
	for _, m := range s.Missed {
		got = append(got, m.Route)
		if m.Cause.Code == "" || len(m.Cause.Chain) == 0 {
			r.t.Errorf("%s was left without a reason", m.Route)
			continue
		}
		why := m.Cause.Chain[len(m.Cause.Chain)-1]
		if !slices.ContainsFunc(r.events(), func(e fleet.Event) bool {
			return e.Action == fleet.ActStage && strings.Contains(e.Note, string(m.Route)+": "+why)
		}) {
			r.t.Errorf("the journal does not tell that %s was left because %q", m.Route, why)
		}
		r.t.Logf("%s was left: %s %s", m.Route, m.Cause.Code, why)
	}
	if !slices.Equal(got, missed) {
		r.t.Errorf("left %v, want %v", got, missed)
	}
}

// TestRealRungs installs a machine by each rung of the ladder that firmware can
// take: from its power-on until the installed system reports.
func TestRealRungs(t *testing.T) {
	const media, plain = fleet.VirtualMedia, fleet.VirtualMediaHTTP
	for _, c := range []struct {
		name     string
		firmware string
		faults   []string
		want     fleet.BootRoute
		missed   []fleet.BootRoute
	}{
		{"medium-bios", "bios", nil, media, nil},
		{"medium-uefi", "uefi", []string{"media-download-fails times=2"}, plain, []fleet.BootRoute{media}},
		{"pxe-bios", "bios", []string{"quirk name=licence-dell"}, fleet.PXE, []fleet.BootRoute{media, plain}},
		{"pxe-uefi", "uefi", []string{"quirk name=licence-dell"}, fleet.PXE, []fleet.BootRoute{media, plain}},
		{"http-uefi", "uefi", []string{"quirk name=licence-dell", "quirk name=http-boot"}, fleet.UEFIHTTP, []fleet.BootRoute{media, plain}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := netRack(t, c.name, c.firmware)
			r.onFailure()
			for _, f := range c.faults {
				r.must("lab", "fault", "--name", r.lab, "n1", f)
			}
			r.planned(1)
			r.must("apply", "--erase-disks", "1", "--detach")
			r.installedBy(c.want, c.missed...)
		})
	}
}

// TestRealLadderToTheBottom makes each rung fail, so that a machine comes down to
// the last one, and then sends it up again to one that works by now.
func TestRealLadderToTheBottom(t *testing.T) {
	r := netRack(t, "bottom", "uefi")
	r.onFailure()
	for _, f := range []string{"quirk name=http-boot", "media-download-fails", "answer method=PATCH path=*/Systems/* status=400"} {
		r.must("lab", "fault", "--name", r.lab, "n1", f)
	}
	r.planned(1)
	r.must("apply", "--erase-disks", "1", "--detach")
	s := r.await(2*time.Minute, "held", func(v fleet.Overview) bool { return v.Quiet && v.Servers[0].Condition == fleet.Held }).Servers[0]
	if s.Route != fleet.USB || !strings.Contains(strings.Join(s.Cause.Chain, " "), "metalrise medium "+string(s.Server)) {
		t.Errorf("held on %s: %+v", s.Route, s.Cause)
	}
	r.left(s, fleet.VirtualMedia, fleet.VirtualMediaHTTP, fleet.UEFIHTTP, fleet.PXE)
	r.must("lab", "fault", "--name", r.lab, "n1", "--clear")
	r.must("retry", string(s.Server), "--route", "virtual-media-http")
	r.installedBy(fleet.VirtualMediaHTTP)
}

// TestRealPowerCut cuts a machine's power while its disk is written: firmware
// finds nothing to boot on it.
func TestRealPowerCut(t *testing.T) {
	r := netRack(t, "cut", "uefi")
	r.onFailure()
	r.planned(1)
	r.must("apply", "--erase-disks", "1", "--detach")
	r.await(installLimit, "the disk to be half written", func(v fleet.Overview) bool {
		s := v.Servers[0]
		return s.Total > 0 && s.Done > s.Total/4
	})
	r.must("lab", "power", "--name", r.lab, "n1", "off")
	r.must("stop")
	for _, e := range r.events() {
		if e.Action == fleet.ActWrite && e.Edge == fleet.Ended {
			t.Fatalf("it was quicker than the switch: %+v", e)
		}
	}
	r.byHand("media", r.overview().Servers[0].BMC, "eject", "--while-on") // firmware would go on with it
	r.must("lab", "power", "--name", r.lab, "n1", "on")
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Second) {
		out := r.must("lab", "status", "--name", r.lab, "--output", "json")
		if strings.Contains(out, `"lastStop": "not booted"`) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the half-written disk boots: %s", out)
		}
	}
}

// TestRealServe installs a machine that is switched on by hand: its firmware boots
// from the network, and no BMC is asked for anything by the engine.
func TestRealServe(t *testing.T) {
	r := netRack(t, "serve", "bios")
	r.onFailure()
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
	r.byHand("boot", r.overview().Servers[0].BMC, "pxe")
	r.must("lab", "power", "--name", r.lab, "n1", "on")
	r.installedBy(fleet.PXE)
	for _, e := range r.events() {
		switch e.Action {
		case fleet.ActIdentify, fleet.ActInsert, fleet.ActBootOnce, fleet.ActPowerOn, fleet.ActPowerOff, fleet.ActEject:
			t.Errorf("the BMC was asked: %+v", e)
		}
	}
}
