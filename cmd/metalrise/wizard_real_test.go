package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"metalrise.dev/fleet"
)

// person sits at a terminal: a session of tmux of its own. A person waits until
// something is shown before the next key is pressed.
type person struct {
	t      *testing.T
	socket string
	name   string
	values int // typed into fields
}

func sitDown(t *testing.T, socket, name string, env []string, args ...string) *person {
	t.Helper()
	p := &person{t: t, socket: socket, name: name}
	command := "env " + strings.Join(append(env, args...), " ") + "; echo left with $?; sleep 1000"
	p.tmux("-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", "-s", name, command)
	return p
}

func (p *person) tmux(args ...string) string {
	p.t.Helper()
	out, err := exec.Command("tmux", append([]string{"-L", p.socket}, args...)...).CombinedOutput()
	if err != nil {
		p.t.Fatalf("tmux %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (p *person) screen() string { return p.tmux("capture-pane", "-p", "-t", p.name) }

// sees waits until the screen shows every text.
func (p *person) sees(texts ...string) string {
	p.t.Helper()
	return p.waits(60*time.Second, texts...)
}

func (p *person) waits(limit time.Duration, texts ...string) string {
	p.t.Helper()
	for end := time.Now().Add(limit); ; time.Sleep(50 * time.Millisecond) {
		screen, missing := p.screen(), ""
		for _, s := range texts {
			if !strings.Contains(screen, s) {
				missing = s
			}
		}
		if missing == "" {
			return screen
		}
		if time.Now().After(end) {
			p.t.Fatalf("%s never shows %q:\n%s", p.name, missing, screen)
		}
	}
}

func (p *person) presses(keys ...string) {
	p.t.Helper()
	for _, k := range keys {
		p.tmux("send-keys", "-t", p.name, k)
		time.Sleep(60 * time.Millisecond)
	}
}

// moves goes down on a step until the cursor is there.
func (p *person) moves(to string) {
	p.t.Helper()
	for end := time.Now().Add(60 * time.Second); !strings.Contains(p.screen(), "> "+to); {
		if time.Now().After(end) {
			p.t.Fatalf("%s has no %q:\n%s", p.name, to, p.screen())
		}
		p.presses("Down")
		time.Sleep(100 * time.Millisecond)
	}
}

// goes leaves a step for the list of steps and takes the one that many below.
// Who presses the next key at once may be read as one who holds Alt.
func (p *person) goes(down int) {
	p.t.Helper()
	p.presses("Escape")
	p.sees("choose a step")
	for range down {
		p.presses("Down")
	}
	p.presses("Enter")
}

// fills types a value into the field at the cursor and accepts it.
func (p *person) fills(value string) {
	p.t.Helper()
	p.values++
	p.tmux("send-keys", "-t", p.name, "-l", value)
	p.presses("Enter")
}

var planOnScreen = regexp.MustCompile(`plan ([0-9a-f]{12})`)

// TestRealWizard installs a rack from the first screen to the last, as a person
// does, on a VT100. On the way the engine is killed, while two people watch.
func TestRealWizard(t *testing.T) {
	t.Run("two servers", func(t *testing.T) { installByWizard(t, 2) })
	t.Run("five servers", func(t *testing.T) { installByWizard(t, 5) })
}

func installByWizard(t *testing.T, servers int) {
	n := strconv.Itoa(servers)
	r := newRack(t, "wizard-test", servers)
	lab := filepath.Dir(r.site)
	site, image, password := labAnswers(t, r.site, lab)
	dir := t.TempDir()
	r.site = filepath.Join(dir, "site.yaml")
	socket := fmt.Sprintf("metalrise-test-%d", os.Getpid())
	t.Cleanup(func() { _ = exec.Command("tmux", "-L", socket, "kill-server").Run() })
	env := []string{"-C", dir, "TERM=vt100", "LANG=C.UTF-8", "METALRISE_STATE=" + r.state}
	begin := time.Now()
	p := sitDown(t, socket, "wizard", env, r.bin)
	raw := filepath.Join(dir, "raw")
	p.tmux("pipe-pane", "-t", p.name, "cat > "+raw)

	p.sees("Welcome", "Site name")
	p.fills("rack7")
	p.sees("2/12", "BMC addresses", "192.0.2.11-15")
	p.fills(site["addresses"])
	p.sees(site["addresses"], "saved in site.yaml")
	p.presses("Down")
	p.fills(password)
	p.sees("rack7-bmc-password", "typed")
	p.presses("Enter")
	p.sees(n + " BMCs answer")
	p.presses("Down", "Enter")
	p.sees("3/12")
	p.presses("Enter")
	p.sees(n+" servers were read", "LAB0002")
	p.presses("Down", "Enter")
	p.sees("4/12", "rack7-cp1")
	if servers == 2 { // a person has to decide
		p.sees("two servers can be")
		p.presses("Space")
		p.values++
		p.sees("saved in site.yaml")
	}
	p.moves("[ Next: Network ]")
	p.presses("Enter")
	p.sees("5/12")
	p.fills(site["firstAddress"])
	p.sees(site["firstAddress"], "rack7-w1")
	p.fills(site["gateway"])
	p.sees("saved in site.yaml")
	p.goes(3)
	p.sees("8/12", "OS release")
	p.fills(image)
	p.sees("saved in site.yaml")

	// Leaving and coming back loses nothing.
	p.presses("C-c")
	p.sees("y yes")
	time.Sleep(600 * time.Millisecond)
	p.presses("y")
	p.sees("left with 0")
	p = sitDownAgain(t, p, env, r.bin)
	p.tmux("pipe-pane", "-t", p.name, "cat >> "+raw)
	p.sees("site rack7", n+" servers read")
	p.goes(9)
	review := p.sees("10/12", n+" disks will be ERASED", "LAB0001-D1")
	shown := planOnScreen.FindStringSubmatch(review)
	out := r.must("plan", "--output", "json")
	if shown == nil || !strings.Contains(out, `"id": "`+shown[1]) {
		t.Errorf("the command makes another plan than %v:\n%.300s", shown, out)
	}
	p.fills(n)
	time.Sleep(600 * time.Millisecond) // an Enter at the same moment would not count
	p.presses("Enter")
	p.sees("0 of " + n + " installed")

	q := sitDown(t, socket, "second", []string{"-C", dir, "TERM=screen-256color", "LANG=ja_JP.UTF-8", "METALRISE_STATE=" + r.state}, r.bin, "attach")
	q.sees("rack7-w1", "完了 0 / "+n+" 台")
	if pid := r.engine(); pid > 0 {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	p.sees("the engine is not running")
	q.sees("エンジンが動いていません")
	p.presses("e")
	p.sees("runs again")
	p.waits(5*time.Minute, "all servers are installed")
	q.sees("全サーバーの導入が完了しました")
	p.goes(1)
	last := p.sees("12/12", n+" of "+n+" servers are installed", "no VM platform")
	t.Logf("from the first screen to the last in %s, %d typed values\n%s", time.Since(begin).Round(time.Second), p.values, last)
	if p.values > 12 {
		t.Errorf("%d typed values, more than 12", p.values)
	}
	r.await(time.Minute, "all installed", func(v fleet.Overview) bool {
		return len(v.Servers) == servers && v.Quiet
	})
	r.installedOnce()
	onlyVT100(t, raw, password)
}

func sitDownAgain(t *testing.T, p *person, env []string, args ...string) *person {
	t.Helper()
	n := sitDown(t, p.socket, p.name+"-again", env, args...)
	n.values = p.values
	return n
}

// labAnswers reads what a person would be told about the rack.
func labAnswers(t *testing.T, file, lab string) (fields map[string]string, image, password string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	fields = map[string]string{}
	for name, pattern := range map[string]string{"addresses": `addresses:\s+- "?([^"\s]+)`, "firstAddress": `firstAddress: (\S+)`, "gateway": `gateway: (\S+)`, "image": `image: "?([^"\n]+)`} {
		m := regexp.MustCompile(pattern).FindSubmatch(b)
		if m == nil {
			t.Fatalf("no %s in %s:\n%s", name, file, b)
		}
		fields[name] = string(m[1])
	}
	secret, err := os.ReadFile(filepath.Join(lab, "bmc-password"))
	if err != nil {
		t.Fatal(err)
	}
	return fields, fields["image"], strings.TrimSpace(string(secret))
}

// fieldOf reads one value of a file.
func fieldOf(t *testing.T, file, pattern string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(pattern).FindSubmatch(b)
	if m == nil {
		t.Fatalf("no %s in %s:\n%s", pattern, file, b)
	}
	return string(m[1])
}

var known = regexp.MustCompile("^([\\x08\\x09\\x0a\\x0d\\x20-\\x7e]|\x1b\\[[0-9;]*[ABCDHJKfmr]|\x1b\\[\\?25[hl]|\x1b[78DEM=>]|\x1b[()].)*$")

// onlyVT100 holds what was sent to the terminal to what a VT100 knows.
func onlyVT100(t *testing.T, raw, password string) {
	t.Helper()
	b, err := os.ReadFile(raw)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes were sent to the terminal in the whole session", len(b))
	if len(b) < 2000 || !known.Match(b) {
		t.Errorf("more than a VT100 knows, or next to nothing: %q", b[:min(len(b), 2000)])
	}
	if strings.Contains(string(b), password) {
		t.Error("the password was on the screen")
	}
}
