package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"

	"metalrise.dev/fleet"
)

// testProgram is the name under which the tests' own program is metalrise.
const testProgram = "metalrise"

// listener sits at a terminal without a cursor and hears what is told.
type listener struct {
	t      *testing.T
	in     *os.File
	mu     sync.Mutex
	text   string
	from   int // what was heard and answered already
	values int // typed into fields
	ended  chan error
}

func listen(t *testing.T, dir string, env []string, bin string, args ...string) *listener {
	t.Helper()
	cmd := exec.Command(bin, args...)
	if bin == testProgram {
		own, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd.Path, cmd.Err = own, nil
	}
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	in, err := pty.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	l := &listener{t: t, in: in, ended: make(chan error, 1)}
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := in.Read(buf)
			l.mu.Lock()
			l.text += string(buf[:n])
			l.mu.Unlock()
			if err != nil {
				l.ended <- cmd.Wait()
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = in.Close()
	})
	return l
}

func (l *listener) heard() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text
}

// hears waits for a text after what was answered last.
func (l *listener) hears(limit time.Duration, want string) {
	l.t.Helper()
	for end := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
		text := l.heard()
		if at := strings.Index(text[l.from:], want); at >= 0 {
			l.from += at + len(want)
			return
		}
		if time.Now().After(end) {
			l.t.Fatalf("%q is never told after:\n%s\n--- but:\n%s", want, text[:l.from], text[l.from:])
		}
	}
}

func (l *listener) answers(text string) {
	l.t.Helper()
	if _, err := l.in.WriteString(text + "\n"); err != nil {
		l.t.Fatal(err)
	}
}

// converse hears and answers in turn; an answer that begins with "=" is a value.
func (l *listener) converse(turns [][2]string) {
	l.t.Helper()
	for _, turn := range turns {
		l.hears(time.Minute, turn[0])
		answer := turn[1]
		if value, ok := strings.CutPrefix(answer, "="); ok {
			l.values++
			answer = value
		}
		l.answers(answer)
	}
}

func (l *listener) leaves() {
	l.t.Helper()
	select {
	case err := <-l.ended:
		if err != nil {
			l.t.Errorf("ended with %v:\n%s", err, l.heard())
		}
	case <-time.After(20 * time.Second):
		l.t.Fatalf("does not end:\n%s", l.heard())
	}
}

// TestLinesOnATerminalWithoutCursor writes a site by answers alone, leaves, and
// finds everything again.
func TestLinesOnATerminalWithoutCursor(t *testing.T) {
	for lang, first := range map[string]string{"en": "Step 1 of 12: Welcome.", "ja": "手順 1 / 12: ようこそ。"} {
		dir := t.TempDir()
		env := []string{"TERM=dumb", "LC_ALL=C.UTF-8", "XDG_STATE_HOME=" + dir}
		l := listen(t, dir, env, testProgram, "--accessible", "--lang", lang)
		l.hears(20*time.Second, first)
		l.hears(20*time.Second, "? ")
		l.answers("rack7")
		l.hears(20*time.Second, "192.0.2.11-15")
		l.answers("1")
		l.hears(20*time.Second, "192.0.2.11-15")
		l.answers("10.0.9.11-12")
		l.hears(20*time.Second, "site.yaml")
		l.answers("3")
		l.hears(20*time.Second, "bmc-password")
		l.answers("hunter2 hunter2")
		l.hears(20*time.Second, "site.yaml")
		l.answers("q")
		l.hears(20*time.Second, "Enter")
		l.answers("y")
		l.leaves()
		text := l.heard()
		if strings.Contains(text, "hunter2") || strings.Contains(text, "\x1b") {
			t.Errorf("the password or a control sequence was written: %q", text)
		}
		file, err := os.ReadFile(filepath.Join(dir, "site.yaml"))
		if err != nil || !strings.Contains(string(file), "- 10.0.9.11-12") || !strings.Contains(string(file), "# Where the servers' BMCs answer.") {
			t.Errorf("%v\n%s", err, file)
		}
		l = listen(t, dir, env, testProgram, "--accessible", "--lang", lang)
		l.hears(20*time.Second, "rack7")
		l.answers("s")
		l.hears(20*time.Second, "12. ")
		l.answers("2")
		l.hears(20*time.Second, "10.0.9.11-12")
		l.hears(20*time.Second, "rack7-bmc-password")
		if err := l.in.Close(); err != nil { // the line is cut
			t.Fatal(err)
		}
	}
}

// TestRealWizardLines installs a single node by answers alone: the same values
// are typed as on the screens.
func TestRealWizardLines(t *testing.T) {
	r := newRack(t, "wizard-lines", 1)
	site, image, password := labAnswers(t, r.site, filepath.Dir(r.site))
	dir := t.TempDir()
	if err := os.Symlink(image, filepath.Join(dir, "image-folder")); err != nil { // found beside the site file
		t.Fatal(err)
	}
	r.site = filepath.Join(dir, "site.yaml")
	env := []string{"TERM=dumb", "LC_ALL=C", "METALRISE_STATE=" + r.state}
	l := listen(t, dir, env, r.bin, "--accessible")
	l.converse([][2]string{
		{"Site name, now", "=edge1"},
		{"Enter: BMC addresses", ""}, {"BMC addresses, now", "=" + site["addresses"]},
		{"Enter: Password", ""}, {"Password, now", "=" + password},
		{"Enter: Find servers now", ""}, {"1 BMCs answer", ""},
		{"Enter: Read all servers now", ""}, {"1 servers were read", ""},
		{"becomes edge1-cp1, single-node", ""},
		{"Enter: First address", ""}, {"First address, now", "=" + site["firstAddress"]},
		{"Enter: Next: Disks", ""}, {"will be ERASED", ""},
		{"Enter: Next: Software", ""}, {"Enter: OS release", ""}, {"OS release. Found: image-folder", ""},
		{"Enter: Next: Checks", ""}, {"Enter: Next: Review", ""},
		{"Enter: Disks to erase", ""}, {"Number of disks to erase", "=1"}, {"Type start", "start"},
	})
	l.hears(5*time.Minute, "all servers are installed")
	l.converse([][2]string{{"installed; ", "n"}, {"1 of 1 servers are installed", "q"}, {"y leaves", "y"}})
	l.leaves()
	if text := l.heard(); strings.Contains(text, password) || strings.Contains(text, "\x1b") {
		t.Errorf("the password or a control sequence was written: %q", text)
	}
	t.Logf("%d typed values\n%s", l.values, l.heard())
	if l.values > 6 {
		t.Errorf("%d typed values, more than 6", l.values)
	}
	r.installedOnce()
}

// TestRealWizardSingleNode takes a single node to a ready cluster on the screens,
// with at most six typed values, and shows how to use it.
func TestRealWizardSingleNode(t *testing.T) {
	r := newRack(t, "wizard-node", 1, "--kubernetes")
	site, image, password := labAnswers(t, r.site, filepath.Dir(r.site))
	software := fieldOf(t, r.site, `software: "?([^"\n]+)`)
	dir := t.TempDir()
	for name, to := range map[string]string{"image-folder": image, "node-software": software} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	r.site = filepath.Join(dir, "site.yaml")
	socket := "metalrise-single-" + filepath.Base(dir)
	t.Cleanup(func() { _ = exec.Command("tmux", "-L", socket, "kill-server").Run() })
	p := sitDown(t, socket, "single", []string{"-C", dir, "TERM=vt100", "LANG=C.UTF-8", "METALRISE_STATE=" + r.state}, r.bin)
	p.sees("Welcome", "Site name")
	p.fills("edge1")
	p.sees("2/12", "192.0.2.11-15")
	p.fills(site["addresses"])
	p.sees("saved in site.yaml")
	p.presses("Down")
	p.fills(password)
	p.sees("edge1-bmc-password", "typed")
	p.presses("Enter")
	p.sees("1 BMCs answer")
	p.presses("Down", "Enter")
	p.sees("3/12")
	p.presses("Enter")
	p.sees("1 servers were read", "LAB0001")
	p.presses("Down", "Enter")
	p.sees("4/12", "single-node")
	p.goes(1)
	p.sees("5/12")
	p.fills(site["firstAddress"])
	p.sees("saved in site.yaml")
	p.goes(2)
	p.sees("7/12")
	p.moves("[ More settings ]") // what is seldom needed
	p.presses("Enter")
	p.sees("Emulation")
	p.presses("Up", "Up", "Up", "Up") // past what concerns VMs
	p.sees("> Emulation")
	p.presses("Space") // the lab's machines have no KVM
	p.values++
	p.sees("saved in site.yaml")
	p.goes(1)
	p.sees("8/12", "image-folder", "found?", "node-software")
	p.presses("Enter", "Enter") // takes what was found
	p.sees("saved in site.yaml", " found")
	p.presses("Enter", "Enter")
	p.sees("node-software", " found")
	p.goes(2)
	p.sees("10/12", "1 disks will be ERASED", "LAB0001-D1")
	var made struct{ Plan fleet.Plan } // its id is its digest
	if err := json.Unmarshal([]byte(r.must("plan", "--output", "json")), &made); err != nil || made.Plan.ID == "" {
		t.Fatalf("%+v %v", made, err)
	}
	p.fills("1")
	time.Sleep(600 * time.Millisecond) // an Enter at the same moment would not count
	p.presses("Enter")
	p.waits(10*time.Minute, "all nodes are ready")
	if got := r.overview().Plan; got != made.Plan.ID {
		t.Errorf("the wizard applied plan %s, the command makes %s of the same file", got, made.Plan.ID)
	}
	p.goes(1)
	last := p.sees("12/12", "kubeconfig")
	t.Logf("%d typed values\n%s", p.values, last)
	if p.values > 6 {
		t.Errorf("%d typed values, more than 6", p.values)
	}
	r.ready(1)
}

// TestRealBrokenScreens breaks the screens of a program that is built to break:
// the terminal is as it was, and the record shows how it came to that.
func TestRealBrokenScreens(t *testing.T) {
	if os.Getenv("METALRISE_REAL") == "" {
		t.Skip("skipped: real parts run with METALRISE_REAL=1")
	}
	bin := filepath.Join(t.TempDir(), "metalrise")
	if out, err := exec.Command("go", "build", "-tags", "metalrise_fault", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	dir := t.TempDir()
	socket := "metalrise-broken-" + filepath.Base(dir)
	t.Cleanup(func() { _ = exec.Command("tmux", "-L", socket, "kill-server").Run() })
	for _, term := range []string{"vt100", "screen-256color"} {
		p := sitDown(t, socket, term, []string{"-C", dir, "TERM=" + term, "LANG=C.UTF-8", "TMPDIR=" + dir, "METALRISE_STATE=" + dir}, "sh", "-c", "'stty -a > before; "+bin+"; stty -a > after'")
		p.sees("Welcome", "Site name")
		p.presses("!")
		screen := p.sees("the screens broke", "tui --replay", "left with 0")
		t.Logf("%s:\n%s", term, screen)
		before, err := os.ReadFile(filepath.Join(dir, "before"))
		if err != nil {
			t.Fatal(err)
		}
		after, err := os.ReadFile(filepath.Join(dir, "after"))
		if err != nil || string(before) != string(after) {
			t.Errorf("%s is not as it was: %v\n%s\n%s", term, err, before, after)
		}
	}
	records, err := filepath.Glob(filepath.Join(dir, "metalrise-record-*.jsonl"))
	if err != nil || len(records) != 2 {
		t.Fatalf("records %v %v", records, err)
	}
	out, err := exec.Command(bin, "tui", "--replay", records[0]).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "Site name") {
		t.Errorf("replay: %v\n%s", err, out)
	}
}
