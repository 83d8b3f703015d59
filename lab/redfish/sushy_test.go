package redfish

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"metalrise.dev/lab/machine"
)

// python is Debian's own: python3-sushy belongs to it, whatever else is in PATH.
const python = "/usr/bin/python3"

// unknown says what of a personality python3-sushy 4.3 cannot be expected to
// know; all others it drives through power and virtual media.
func unknown(p Personality) (without []string) {
	if p.Match == MatchRequired {
		without = append(without, "bios") // it sends no ETag with BIOS attributes
	}
	switch {
	case p.MediaPlace == UnderSystem, p.Media == MediaByVmm:
		without = append(without, "media") // it looks below managers, and for the standard's actions
	case p.Insert == InsertTask, p.Media == MediaByPatch, slices.Contains(p.Quirks, InsertWantsMethod):
		without = append(without, "answer") // such inserts answer otherwise than with the outcome
	}
	return without
}

// TestSushy has a client that other people wrote go through a whole install cycle.
func TestSushy(t *testing.T) {
	if exec.Command(python, "-c", "import sushy").Run() != nil {
		t.Skip("skipped: no python3-sushy")
	}
	for _, p := range Personalities() {
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			sushy(t, p)
		})
	}
}

func sushy(t *testing.T, p Personality) {
	images, dir := imageServer(t), t.TempDir()
	log, err := os.OpenFile(filepath.Join(dir, "boots"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	note := func(from machine.BootSource) {
		if got, err := os.ReadFile(from.ISO); from.Kind == machine.FromMedia && (err != nil || !bytes.Equal(got, image)) {
			t.Errorf("the machine reads another image than was served (%v)", err)
		}
		if _, err := io.WriteString(log, string(from.Kind)+"\n"); err != nil {
			t.Error(err)
		}
	}
	h := &board{steps: []step{{do: note, stop: machine.Rebooted}, {do: note, runs: true}}}
	b, err := Start(t.Context(), Config{
		Listen: "127.0.0.1:0", Username: testUser, Password: testPass, Spec: testSpec(), Hardware: h, Dir: filepath.Join(dir, "bmc"), Personality: p,
		Delays: Delays{PowerOn: 100 * time.Millisecond, PowerOff: 100 * time.Millisecond, POST: 10 * time.Millisecond},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()

	without := unknown(p)
	cmd := exec.CommandContext(t.Context(), python, "-W", "ignore", "testdata/sushy_cycle.py")
	cmd.Env = []string{"PATH=/usr/bin:/bin", "BMC_URL=https://" + b.Addr(), "BMC_USER=" + testUser, "BMC_PASS=" + testPass,
		"BOOT_LOG=" + log.Name(), "IMAGE_URL=" + images.URL + "/ok.iso", "WITHOUT=" + strings.Join(without, " ")}
	if slices.Contains(p.Quirks, InsertWantsMethod) {
		cmd.Env = append(cmd.Env, "METHOD=Stream")
	}
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("sushy: %v\n%s%s", err, out, errs.Bytes())
	}
	checkSushy(t, b, out, images.URL+"/ok.iso", without)
	if s := b.Status(); s.Sessions != 0 || s.Power != PowerOff || s.Media != nil {
		t.Errorf("in the end: %+v", s)
	}
}

func checkSushy(t *testing.T, b *BMC, out []byte, url string, without []string) {
	t.Helper()
	media := !slices.Contains(without, "media")
	steps := map[string]map[string]any{}
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		var one map[string]any
		if err := json.Unmarshal(lines.Bytes(), &one); err != nil {
			t.Fatalf("%s: %v", lines.Text(), err)
		}
		steps[one["step"].(string)] = one
	}
	target := "Hdd"
	if media {
		target = "Cd"
		if b.vendor() == "Supermicro" {
			target = "UsbCd" // its own rule for this maker
		}
	}
	wants := map[string]object{
		"wrong password refused": {},
		"system":                 {"id": b.SystemID(), "uuid": testSpec().UUID, "serial": serial, "maker": b.vendor(), "power": "Off", "memory": 8.0},
		"processors":             {"count": 4.0, "arch": "x86"},
		"nics":                   {"macs": []any{"52:54:00:00:00:01", "52:54:00:00:00:02"}},
		"drives": {"sizes": []any{float64(64 << 30), float64(32 << 30)}, "serials": []any{"DSK0", "DSK1"},
			"names": []any{"5000c500a0b1c2d3", "5000c500a0b1c2d4"}, "simple": []any{float64(32 << 30), float64(64 << 30)}},
		"bios":       {"now": "Enabled", "pending": "Disabled"},
		"secureboot": {"enabled": false},
		"manager":    {"id": b.cfg.Personality.ManagerID, "kind": "BMC", "chassis": []any{b.cfg.Personality.ChassisID}},
		"override":   {"enabled": "Once", "target": target, "mode": "UEFI"},
		"installed":  {"enabled": "Disabled", "target": "None"},
		"restarted":  {"virtualization": "Disabled"},
		"end":        {},
	}
	if slices.Contains(without, "bios") {
		delete(wants, "bios")
		delete(wants, "restarted")
	}
	if media {
		wants["inserted"] = object{"inserted": true, "image": url, "via": "URI"}
		wants["ejected"] = object{"inserted": false, "image": nil}
	}
	if b.cfg.Personality.Name == "standard" {
		wants["missing image refused"] = object{}
		wants["second on refused"] = object{"status": 409.0}
		wants["system"]["allowed"] = []any{"ForceOff", "ForceOn", "ForceRestart", "GracefulRestart", "GracefulShutdown", "On", "PowerCycle", "PushPowerButton"}
		wants["system"]["targets"] = []any{"Cd", "Hdd", "None", "Pxe"}
	}
	for step, want := range wants {
		got, done := steps[step]
		if !done {
			t.Errorf("step %q is missing in\n%s", step, out)
		}
		for k, v := range want {
			if !reflect.DeepEqual(got[k], v) {
				t.Errorf("%s: sushy sees %s = %v, want %v", step, k, got[k], v)
			}
		}
	}
}
