package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// box is a lab machine that is installed from a prepared medium.
type box struct {
	*rack
	bmc    []string // arguments that name its BMC
	medium string
	site   string // without BMCs
}

// newBox makes the medium and puts it into the drive of the switched-off machine.
// more is added to the lab's site file.
func newBox(t *testing.T, lab, more string, flags ...string) *box {
	r := newRack(t, lab, 1, flags...)
	text, err := os.ReadFile(r.site)
	if err != nil {
		t.Fatal(err)
	}
	fields, _, _ := labAnswers(t, r.site, filepath.Dir(r.site))
	bare := regexp.MustCompile(`(?m)^bmcs:\n(?: .*\n)+`).ReplaceAll(text, nil)
	if len(bare) == len(text) || bytes.Contains(bare, []byte("password")) {
		t.Fatalf("the site file names its BMCs otherwise:\n%s", text)
	}
	dir := t.TempDir()
	b := &box{rack: r, medium: filepath.Join(dir, "node.iso"), site: filepath.Join(dir, "site.yaml"),
		bmc: []string{fields["addresses"], "--username", "admin", "--password-file", filepath.Join(filepath.Dir(r.site), "bmc-password"), "--accept-new-pins"}}
	if err := os.WriteFile(b.site, append(bare, more...), 0o600); err != nil {
		t.Fatal(err)
	}
	for typed, want := range map[string]int{"": exitDenied, "yes\n": exitDenied, "LAB0001\n": exitDenied} {
		if code := b.build(typed); code != want {
			t.Fatalf("iso build after typing %q: exit %d, want %d", typed, code, want)
		}
	}
	begin := time.Now()
	if code := b.build("any\n"); code != exitOK {
		t.Fatalf("iso build: exit %d", code)
	}
	t.Logf("the medium was made in %s", time.Since(begin).Round(100*time.Millisecond))
	server := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer server.Close()
	b.onBMC("media", "insert", server.URL+"/node.iso")
	return b
}

func (b *box) build(typed string) int {
	cmd := exec.Command(b.bin, "iso", "build", "-f", b.site, "--single-node", "--to", b.medium)
	cmd.Stdin = strings.NewReader(typed)
	out, _ := cmd.CombinedOutput() // the exit code says it
	b.t.Logf("%s", out)
	return cmd.ProcessState.ExitCode()
}

func (b *box) onBMC(what, act string, more ...string) {
	b.t.Helper()
	b.must(append(append([]string{"bmc", what, b.bmc[0], act}, more...), b.bmc[1:]...)...)
}

// power uses the button; off returns when the machine is off.
func (b *box) power(to string) {
	b.t.Helper()
	b.must("lab", "power", "--name", b.lab, "n1", to)
	for end := time.Now().Add(30 * time.Second); to == "off"; time.Sleep(100 * time.Millisecond) {
		if strings.Contains(b.must("lab", "status", "--name", b.lab, "--output", "json"), `"power": "Off"`) {
			return
		}
		if time.Now().After(end) {
			b.t.Fatal("the machine does not go off")
		}
	}
}

func (b *box) file(name string) string {
	return filepath.Join(filepath.Dir(b.rack.site), "servers", "n1", name)
}

// shows waits until the console, from byte after on, shows a text, and gives where it ends.
func (b *box) shows(limit time.Duration, after int, text string) int {
	b.t.Helper()
	for end := time.Now().Add(limit); ; time.Sleep(100 * time.Millisecond) {
		all, err := os.ReadFile(b.file("console.log"))
		if err != nil && !os.IsNotExist(err) {
			b.t.Fatal(err)
		}
		if len(all) >= after {
			if i := bytes.Index(all[after:], []byte(text)); i >= 0 {
				return after + i + len(text)
			}
		}
		if time.Now().After(end) {
			b.t.Fatalf("the console never shows %q:\n%s", text, all[max(0, len(all)-6000):])
		}
	}
}

// killEngine ends the machine's own engine as a crash would.
func (b *box) killEngine() {
	b.t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		b.t.Fatal(err)
	}
	killed := 0
	for _, path := range lines {
		text, err := os.ReadFile(path)
		if err != nil || string(text) != "/usr/local/bin/metalrise\x00prepared\x00" {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err == nil && syscall.Kill(pid, syscall.SIGKILL) == nil {
			killed++
		}
	}
	if killed != 1 {
		b.t.Errorf("%d engines were killed, want the machine's own", killed)
	}
}

// rootOf opens the root file system as it lies on the disk of the machine, which
// is off: a copy of it, because what was flushed before the power was cut may be
// in the journal only, and that must be replayed. It gives the copy's device.
func (b *box) rootOf() string {
	b.t.Helper()
	run := func(name string, args ...string) string {
		out, err := exec.Command(name, args...).CombinedOutput()
		if err != nil {
			b.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
		return strings.TrimSpace(string(out))
	}
	disk := filepath.Join(b.t.TempDir(), "disk.raw")
	run("cp", "--sparse=always", b.file("disk0.raw"), disk)
	first := regexp.MustCompile(`First sector: (\d+)`).FindStringSubmatch(run("sgdisk", "-i", "4", disk))
	if first == nil {
		b.t.Fatal("sgdisk names no first sector")
	}
	sector, err := strconv.ParseInt(first[1], 10, 64)
	if err != nil {
		b.t.Fatal(err)
	}
	device := run("losetup", "--find", "--show", "--offset", fmt.Sprint(sector*512), disk)
	b.t.Cleanup(func() { _ = exec.Command("losetup", "--detach", device).Run() })
	b.t.Logf("%s", run("e2fsck", "-E", "journal_only", "-y", device))
	return device
}

// read gives a file of a root file system, and its mode as debugfs shows it.
func (b *box) read(device, path string) (content, mode string) {
	b.t.Helper()
	debug := func(what string) string {
		out, err := exec.Command("debugfs", "-R", what+" "+path, device).Output()
		if err != nil {
			b.t.Fatal(err)
		}
		return string(out)
	}
	m := regexp.MustCompile(`Mode:\s+(\d+)`).FindStringSubmatch(debug("stat"))
	if m == nil {
		return "", ""
	}
	return debug("cat"), m[1]
}

// TestRealPreparedSingleNode gives a machine a medium and power, and nothing else.
// Its power is cut while it writes, its engine is killed, its power is cut again
// while the cluster begins. At the end the medium boots once more.
func TestRealPreparedSingleNode(t *testing.T) {
	b := newBox(t, "prepared", "", "--kubernetes")
	begin := time.Now()
	b.power("on")
	at := b.shows(time.Minute, 0, "write      began")
	b.power("off")
	t.Logf("%s: the power was cut while the disk was written", time.Since(begin).Round(time.Second))
	again := time.Now()
	b.power("on")
	at = b.shows(time.Minute, at, "write      began")
	b.killEngine()
	at = b.shows(2*time.Minute, at, "write      adopted")
	at = b.shows(2*time.Minute, at, "begin      began")
	b.power("off")
	t.Logf("%s: the power was cut while the cluster began", time.Since(begin).Round(time.Second))
	b.power("on")
	at = b.shows(4*time.Minute, at, "this machine is done")
	t.Logf("ready %s after the last try began, with a killed engine and a power cut", time.Since(again).Round(time.Second))
	if pid := b.engine(); pid != 0 {
		t.Errorf("an engine runs here: process %d", pid)
	}
	b.power("off")
	root := b.rootOf()
	config, mode := b.read(root, "/var/lib/metalrise/prepared/site/kubeconfig")
	if mode != "0600" || !strings.Contains(config, "client-key-data") {
		t.Fatalf("kubeconfig of mode %s, %d bytes", mode, len(config))
	}
	for _, gone := range []string{"medium", "pending", "software"} {
		if _, mode := b.read(root, "/var/lib/metalrise/prepared/"+gone); mode != "" {
			t.Errorf("%s is still there, mode %s", gone, mode)
		}
	}
	if err := os.MkdirAll(b.state, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(b.state, "kubeconfig"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	b.power("on")
	b.ready(1)
	b.power("off")

	b.onBMC("boot", "cd")
	b.power("on")
	b.shows(time.Minute, at, "installed from this medium already")
	for _, s := range b.labView().Servers {
		if s.Touched != "" {
			t.Errorf("%s: a disk that was not planned was written: %s", s.Name, s.Touched)
		}
	}
}
