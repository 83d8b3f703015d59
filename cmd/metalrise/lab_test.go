package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/site"
	"metalrise.dev/lab"
	"metalrise.dev/lab/machine"
)

// fakeLab starts a lab whose machines boot nothing, which needs no root.
func fakeLab(t *testing.T, servers, port int) *lab.Lab {
	t.Helper()
	l, err := lab.Start(t.Context(), lab.Config{
		Name: "words", Dir: t.TempDir(), Servers: servers, Machine: machine.Fake, Firmware: "uefi", Disks: 2,
		Personality: "standard", ImageDir: `/some "odd" folder`, BMCPort: port,
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func TestLabSiteFileIsOneThatTheProductReads(t *testing.T) {
	for _, c := range []struct{ servers, port int }{{1, 0}, {2, 18443}, {5, 0}, {5, 18443}} {
		l := fakeLab(t, c.servers, c.port)
		f, findings := site.Load(l.SitePath())
		for _, x := range findings {
			if x.Severity == fleet.Blocker || x.Severity == fleet.Warning {
				t.Errorf("%d servers on port %d: %+v", c.servers, c.port, x)
			}
		}
		s := f.Site()
		if s.Name != "lab-words" {
			t.Errorf("site %q", s.Name)
		}
		if !strings.HasSuffix(s.Image, `some "odd" folder`) {
			t.Errorf("image %q", s.Image)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// withoutLabs points the commands at an empty place.
func withoutLabs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("XDG_STATE_HOME", dir)
	t.Setenv("METALRISE_STATE", "")
	return dir
}

func TestLabRefusals(t *testing.T) {
	withoutLabs(t)
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"lab up --machine paper", exitUsage, `machine "paper"`},
		{"lab up --servers 0 --disks 77", exitUsage, "disks 77"},
		{"lab up --clock -2h", exitUsage, "clock -2h0m0s"},
		{"lab up --network nowhere", exitUsage, "--network"},
		{"lab up --network 10.1.0.0/16", exitUsage, "24 bits"},
		{"lab up --name Oslo", exitUsage, `"Oslo"`},
		{"lab status", exitFailed, "lab up makes one"},
		{"lab down", exitFailed, "lab up makes one"},
		{"lab fault n1", exitUsage, "--clear"},
		{"lab fault n1 --list", exitUsage, "--list"},
		{"lab fault n1 explode", exitUsage, "explode"},
		{"lab console", exitUsage, "arg"},
		{"lab power n1", exitUsage, "arg"},
		{"lab swap-disk", exitUsage, "arg"},
		{"lab swap-disk n1", exitFailed, "lab up makes one"},
	} {
		var out, errs bytes.Buffer
		code := run(t.Context(), strings.Fields(c.args), nil, &out, &errs)
		if code != c.code || !strings.Contains(errs.String(), c.says) {
			t.Errorf("metalrise %s: exit %d, %q; want exit %d and %q", c.args, code, errs.String(), c.code, c.says)
		}
	}
}

func TestLabIsNotMadeOverTheStateOfASite(t *testing.T) {
	dir := withoutLabs(t)
	state := filepath.Join(dir, "metalrise", "lab-oslo")
	if err := os.MkdirAll(state, 0o700); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"lab", "up", "--name", "oslo"}, nil, &out, &errs); code != exitFailed || !strings.Contains(errs.String(), state) {
		t.Errorf("exit %d, %q", code, errs.String())
	}
}

func TestLabThatIsDownIsRemovedWithItsSitesState(t *testing.T) {
	dir := withoutLabs(t)
	l := fakeLab(t, 1, 0)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(dir, "metalrise", "lab-words")
	other := filepath.Join(dir, "metalrise", "words")
	for _, d := range []string{state, other} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	at := l.Config().Dir
	metalrise := func(args ...string) string {
		t.Helper()
		var out, errs bytes.Buffer
		if code := run(t.Context(), append([]string{"lab", "--dir", at}, args...), nil, &out, &errs); code != exitOK {
			t.Fatalf("lab %q: exit %d, %s", args, code, errs.String())
		}
		return out.String()
	}
	metalrise("down", "--keep")
	if _, err := os.Stat(l.SitePath()); err != nil {
		t.Error("--keep did not keep the lab")
	}
	metalrise("down")
	for path, want := range map[string]bool{state: false, at: false, other: true} {
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("%s is there: %v, want %v", path, err == nil, want)
		}
	}
}

func TestConsoleCannotSteerTheTerminal(t *testing.T) {
	in := "one\r\n\x1b[32mOK\x1b[0m two\x1b]0;title\x07 three\x1b(B\x07\x7f\x1b]8;;x\x1b\\ fünf\n"
	const want = "one\nOK two three fünf\n"
	for _, size := range []int{1, 3, len(in)} {
		var out bytes.Buffer
		p := &plainText{w: &out}
		for i := 0; i < len(in); i += size {
			if _, err := p.Write([]byte(in[i:min(i+size, len(in))])); err != nil {
				t.Fatal(err)
			}
		}
		if out.String() != want {
			t.Errorf("in pieces of %d: %q, want %q", size, out.String(), want)
		}
	}
}

func TestLabHelpFitsTheScreen(t *testing.T) {
	for _, name := range []string{"up", "down", "status", "list", "console", "fault", "power", "swap-disk", "payload"} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), []string{"lab", name, "--help"}, nil, &out, &errs); code != exitOK {
			t.Fatal(errs.String())
		}
		long, _, _ := strings.Cut(out.String(), "\nFlags:")
		for line := range strings.Lines(long) {
			if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > 80 {
				t.Errorf("lab %s: %d columns: %s", name, n, line)
			}
		}
		if !strings.Contains(long, "Exit codes:") || !strings.Contains(long, "Examples:") {
			t.Errorf("lab %s: help without exit codes or examples", name)
		}
	}
}

func TestLabDiskIsSwappedOnlyInAServerThatIsOff(t *testing.T) {
	withoutLabs(t)
	l := fakeLab(t, 2, 0)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	served := make(chan error, 1)
	go func() { served <- l.Serve(ctx) }()
	call := func(args ...string) (int, string) {
		t.Helper()
		var out, errs bytes.Buffer
		code := run(t.Context(), append([]string{"lab", "--dir", l.Config().Dir}, args...), nil, &out, &errs)
		return code, out.String() + errs.String()
	}
	until := func(want string, args ...string) {
		t.Helper()
		for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
			code, text := call(args...)
			if code == exitOK && strings.Contains(text, want) {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("lab %q: exit %d, %s; want %q", args, code, text, want)
			}
		}
	}
	until("no cluster", "status")
	if code, text := call("power", "n2", "on"); code != exitOK {
		t.Fatal(text)
	}
	if code, text := call("swap-disk", "n2"); code != exitDenied || !strings.Contains(text, "lab power n2 off") {
		t.Errorf("a server that is on: exit %d, %s", code, text)
	}
	if code, text := call("power", "n2", "off"); code != exitOK {
		t.Fatal(text)
	}
	if code, text := call("swap-disk", "n2"); code != exitOK {
		t.Fatal(text)
	}
	until("swapped once, now serial LAB0002-D1-1", "status")
	if code, text := call("swap-disk", "n9"); code != exitFailed || !strings.Contains(text, "n9") {
		t.Errorf("no such server: exit %d, %s", code, text)
	}
	stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestPayloadIsDescribed(t *testing.T) {
	dir := t.TempDir()
	if line := softwareLine(dir); !strings.Contains(line, "payload.json") {
		t.Errorf("a folder without a payload: %q", line)
	}
	text := `{"flavour":"kubeadm","version":"v1.34.4","architecture":"x86_64","files":[{"name":"kubelet","bytes":5}],"images":[{"name":"etcd","bytes":7}]}`
	if err := os.WriteFile(filepath.Join(dir, "payload.json"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := readPayload(dir)
	if err != nil || e.Version != "v1.34.4" || e.Files != 1 || e.Images != 1 || e.Bytes != 12 {
		t.Errorf("%+v, %v", e, err)
	}
	if line := softwareLine(dir); line != "kubeadm v1.34.4 from "+dir {
		t.Errorf("%q", line)
	}
}
