package bmc

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"metalrise.dev/fleet"
)

// chassisScript is what ipmi_sim calls for the power and the boot device of its
// machine: it keeps them in files.
const chassisScript = `#!/bin/sh
dir=%s
shift
op=$1
shift
case $op in
get)
	for what in "$@"; do
		echo "$what:$(cat $dir/$what 2>/dev/null || echo 0)"
	done ;;
set)
	while [ $# -ge 2 ]; do
		case $1 in
		reset) echo reset >>$dir/acts ;;
		shutdown) echo shutdown >>$dir/acts; echo 0 >$dir/power ;;
		*) echo "$1=$2" >>$dir/acts; echo $2 >$dir/$1 ;;
		esac
		shift 2
	done ;;
check) ;;
esac
exit 0
`

const lanConf = `name "metalrise"
set_working_mc 0x20
  startlan 1
    addr 127.0.0.1 %d
    priv_limit admin
    allowed_auths_callback none md2 md5 straight
    allowed_auths_user none md2 md5 straight
    allowed_auths_operator none md2 md5 straight
    allowed_auths_admin none md2 md5 straight
    guid 4c4c4544003534108050c6c04f314733
  endlan
  chassis_control "%s/chassis 0x20"
  user 1 true "" "" user 10 none md2 md5 straight
  user 2 true "admin" "secret" admin 10 none md2 md5 straight
`

// fru is the product area of a FRU record (Platform Management FRU Information
// Storage Definition 1.0, sections 8 and 12).
func fru(fields ...string) []byte {
	area := []byte{1, 0, 0}
	for _, f := range fields {
		area = append(append(area, 0xc0|byte(len(f))), f...)
	}
	area = append(area, 0xc1)
	for len(area)%8 != 7 {
		area = append(area, 0)
	}
	area[1] = byte((len(area) + 1) / 8)
	head := []byte{1, 0, 0, 0, 1, 0, 0}
	sum := func(b []byte) []byte {
		var s byte
		for _, c := range b {
			s += c
		}
		return append(b, -s)
	}
	out := append(sum(head), sum(area)...)
	return append(out, make([]byte, 256-len(out))...)
}

// startSim runs Debian's ipmi_sim with one BMC and gives a login for it and the
// folder where its machine's state is.
func startSim(t testing.TB) (Login, string) {
	t.Helper()
	sim, err := exec.LookPath("ipmi_sim")
	if err != nil {
		t.Fatal("ipmi_sim is missing: install the Debian package openipmi (make deps)")
	}
	dir := t.TempDir()
	probe, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := probe.LocalAddr().(*net.UDPAddr).Port
	_ = probe.Close()
	for name, text := range map[string]string{
		"chassis":  fmt.Sprintf(chassisScript, dir),
		"lan.conf": fmt.Sprintf(lanConf, port, dir),
		"power":    "0\n",
		"boot":     "none\n",
		"fru":      string(fru("Contoso", "Model 7", "PN-1", "1", "SNIPMI1", "")),
		"emu": "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02\n" +
			"mc_add_fru_data 0x20 0 256 file 0 \"" + dir + "/fru\"\nmc_enable 0x20\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var said bytes.Buffer
	cmd := exec.Command(sim, "-c", filepath.Join(dir, "lan.conf"), "-f", filepath.Join(dir, "emu"), "-s", dir, "-n")
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("ipmi_sim said: %s", said.String())
		}
	})
	address := fmt.Sprintf("127.0.0.1:%d", port)
	for deadline := time.Now().Add(20 * time.Second); !answersPing(address); {
		if time.Now().After(deadline) {
			t.Fatalf("ipmi_sim does not answer: %s", said.String())
		}
	}
	return Login{
		Endpoint: fleet.Endpoint{Address: "ipmi://" + address, Username: "admin"}, Password: "secret",
		Options: Options{Poll: 20 * time.Millisecond, Settle: 10 * time.Second},
	}, dir
}

func answersPing(address string) bool {
	c, err := net.Dial("udp", address)
	if err != nil {
		return false
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(200 * time.Millisecond))
	if _, err := c.Write(presencePing()); err != nil {
		return false
	}
	buf := make([]byte, 256)
	n, err := c.Read(buf)
	if err != nil {
		time.Sleep(50 * time.Millisecond)
	}
	return err == nil && isPong(buf[:n])
}

// A server behind the real simulator is read, booted once and switched.
func TestIPMIWithSimulator(t *testing.T) {
	l, dir := startSim(t)
	ctx := t.Context()
	s, err := DialIPMI(ctx, l)
	noError(t, err)
	defer func() { noError(t, s.Close()) }()

	f, err := s.Inspect(ctx, "")
	noError(t, err)
	if f.Identity.Serial != "SNIPMI1" || f.Identity.UUID == "" || f.Manufacturer.Or("") != "Contoso" || f.Model.Or("") != "Model 7" ||
		f.Power.Or("") != fleet.PowerOff || f.BMCFirmware.Or("") == "" || f.NICs != nil || f.Disks != nil {
		t.Errorf("facts %+v", f)
	}
	noError(t, s.BootOnce(ctx, "", Pxe))
	sight, err := s.Look(ctx, "")
	noError(t, err)
	if sight.BootOverride.Target != "Pxe" || sight.BootOverride.Enabled == "Continuous" || sight.Identity != f.Identity {
		t.Errorf("sight %+v", sight)
	}
	noError(t, s.ClearBoot(ctx, ""))
	wantFault(t, s.BootOnce(ctx, "", UefiHTTP), fleet.CodeBMCUnsupported, fleet.Unsupported)

	noError(t, s.Power(ctx, "", ForceOff)) // already so
	noError(t, s.Power(ctx, "", On))
	noError(t, s.WaitPower(ctx, "", fleet.PowerOn))
	noError(t, s.Power(ctx, "", On)) // already so
	noError(t, s.Power(ctx, "", Restart))
	noError(t, s.Power(ctx, "", ForceOff))
	noError(t, s.WaitPower(ctx, "", fleet.PowerOff))
	acts, err := os.ReadFile(filepath.Join(dir, "acts"))
	noError(t, err)
	if n := strings.Count(string(acts), "power=1"); n != 1 || !strings.Contains(string(acts), "reset") || !strings.Contains(string(acts), "boot=pxe") {
		t.Errorf("the machine was asked: %s", acts)
	}
}

func TestIPMIRefusedLogins(t *testing.T) {
	l, _ := startSim(t)
	for _, c := range []struct{ user, password string }{{"admin", "wrong-password"}, {"nobody", "secret"}} {
		l.Endpoint.Username, l.Password = c.user, c.password
		_, err := DialIPMI(t.Context(), l)
		if err == nil || fleet.CodeOf(err) != fleet.CodeBMCLoginRefused || fleet.KindOf(err) != fleet.Denied {
			t.Errorf("%s: %v", c.user, err)
			continue
		}
		if text := err.Error(); strings.Contains(text, c.password) || strings.Contains(text, "authcode") {
			t.Errorf("error tells too much: %v", err)
		}
	}
	l.Password = ""
	_, err := DialIPMI(t.Context(), l)
	wantFault(t, err, fleet.CodeBMCLoginRefused, fleet.Invalid)
}

// weakBMC answers open session requests with algorithms of the test's choice,
// and counts what comes after.
type weakBMC struct {
	conn     net.PacketConn
	answer   func(auth byte) (status byte, algorithms [3]byte)
	proposed []byte
	later    int
	done     chan struct{}
}

func startWeak(t *testing.T, answer func(auth byte) (byte, [3]byte)) (Login, *weakBMC) {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	noError(t, err)
	w := &weakBMC{conn: conn, answer: answer, done: make(chan struct{})}
	go w.serve()
	return Login{Endpoint: fleet.Endpoint{Address: "ipmi://" + conn.LocalAddr().String(), Username: "admin"}, Password: "secret",
		Options: Options{RequestTimeout: 500 * time.Millisecond}}, w
}

func (w *weakBMC) stop() {
	_ = w.conn.Close()
	<-w.done
}

// serve knows RMCP+ Open Session Request and Response (IPMI 2.0, 13.17, 13.18).
func (w *weakBMC) serve() {
	defer close(w.done)
	buf := make([]byte, 512)
	for {
		n, from, err := w.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		if n < 48 || buf[5]&0x3f != 0x10 {
			w.later++
			continue
		}
		req := buf[16:n]
		w.proposed = append(w.proposed, req[12])
		status, a := w.answer(req[12])
		body := []byte{req[0], status, 4, 0, req[4], req[5], req[6], req[7]}
		if status == 0 {
			body = append(body, 9, 9, 9, 9, 0, 0, 0, 8, a[0], 0, 0, 0, 1, 0, 0, 8, a[1], 0, 0, 0, 2, 0, 0, 8, a[2], 0, 0, 0)
		}
		head := []byte{6, 0, 0xff, 7, 6, 0x11, 0, 0, 0, 0, 0, 0, 0, 0, byte(len(body)), 0}
		_, _ = w.conn.WriteTo(append(head, body...), from)
	}
}

// Cipher suites 0 and 1 are never proposed. A BMC that takes nothing better, or
// answers a good proposal with one of them, is refused before the password is
// used in any form.
func TestIPMIRefusesWeakSuites(t *testing.T) {
	for name, answer := range map[string]func(byte) (byte, [3]byte){
		"refuses the good ones":  func(byte) (byte, [3]byte) { return 0x04, [3]byte{} },
		"answers with suite 0":   func(byte) (byte, [3]byte) { return 0, [3]byte{0, 0, 0} },
		"answers with suite 1":   func(byte) (byte, [3]byte) { return 0, [3]byte{1, 0, 0} },
		"answers without cipher": func(auth byte) (byte, [3]byte) { return 0, [3]byte{auth, 4, 0} },
	} {
		l, w := startWeak(t, answer)
		_, err := DialIPMI(t.Context(), l)
		w.stop()
		wantFault(t, err, fleet.CodeBMCUnsupported, fleet.Denied)
		if w.later > 0 {
			t.Errorf("%s: %d messages after the opening", name, w.later)
		}
		for _, auth := range w.proposed {
			if auth != 1 && auth != 3 {
				t.Errorf("%s: authentication algorithm %d was proposed", name, auth)
			}
		}
	}
}

func TestIPMINoAnswer(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	noError(t, err)
	defer conn.Close()
	l := Login{Endpoint: fleet.Endpoint{Address: "ipmi://" + conn.LocalAddr().String(), Username: "admin"}, Password: "secret", Options: Options{RequestTimeout: 50 * time.Millisecond}}
	_, err = DialIPMI(t.Context(), l)
	wantFault(t, err, fleet.CodeBMCUnreachable, fleet.Transient)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = DialIPMI(ctx, l)
	wantFault(t, err, fleet.CodeBMCUnreachable, fleet.Transient)
}

func TestIPMIAddress(t *testing.T) {
	for in, want := range map[string]string{"ipmi://10.0.0.1": "10.0.0.1:623", "ipmi://[fd00::1]": "[fd00::1]:623", "ipmi://bmc:1623": "bmc:1623", "10.0.0.1:443": ""} {
		if want != "" {
			if all, err := Expand([]string{in}, 443); err != nil || len(all) != 1 || all[0] != "ipmi://"+want {
				t.Errorf("%s: %q %v", in, all, err)
			}
		}
		if got, ok := IPMIAddress(in); got != want || ok != (want != "") {
			t.Errorf("%s: %q %v", in, got, ok)
		}
	}
}
