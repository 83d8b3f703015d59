package lab

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"metalrise.dev/lab/machine"
	"metalrise.dev/lab/machine/container"
	"metalrise.dev/lab/redfish"
)

// serveEnv makes this program the daemon of the lab in the folder it names.
const serveEnv = "METALRISE_LAB_TEST_SERVE"

func TestMain(m *testing.M) {
	container.MaybeInit()
	if dir := os.Getenv(serveEnv); dir != "" {
		if err := serveLab(dir); err != nil {
			println(err.Error())
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func serveLab(dir string) error {
	c, err := ReadConfig(dir)
	if err != nil {
		return err
	}
	l, err := Start(context.Background(), c, nil)
	if err != nil {
		return err
	}
	return errors.Join(l.Serve(context.Background()), l.Close())
}

// shortDir is a folder whose path leaves room for a socket's name (108 bytes).
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "lab")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func startFake(t *testing.T) *Lab {
	t.Helper()
	c := testConfig(shortDir(t))
	l, err := Start(t.Context(), c, nil)
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

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for begin := time.Now(); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Since(begin) > 2*time.Minute {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func TestStartAndClose(t *testing.T) {
	l := startFake(t)
	if _, err := Start(t.Context(), l.Config(), nil); !errors.Is(err, ErrRunning) {
		t.Errorf("a second lab in the folder: %v", err)
	}
	if err := l.Config().Remove(t.Context()); !errors.Is(err, ErrRunning) {
		t.Errorf("remove a running lab: %v", err)
	}
	if got := len(l.Servers()); got != 3 {
		t.Fatalf("%d servers", got)
	}
	text, err := os.ReadFile(l.SitePath())
	if err != nil {
		t.Fatal(err)
	}
	secret, err := os.ReadFile(filepath.Join(l.Config().Dir, passwordFile))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), strings.TrimSpace(string(secret))) {
		t.Error("the password is in the site file")
	}
	if st, err := os.Stat(filepath.Join(l.Config().Dir, passwordFile)); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("password file: %v, %v", st.Mode(), err)
	}
	for _, s := range l.Servers() {
		if s.BMC.Status().Power != redfish.PowerOff || !strings.Contains(string(text), s.BMC.Addr()) {
			t.Errorf("%s: %+v; want it off, and its BMC in the site file", s.Name, s.BMC.Status())
		}
	}
	if err := l.Untouched(); err != nil {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := net.Dial("tcp", l.Servers()[0].BMC.Addr()); err == nil {
		t.Error("a BMC answers after the end")
	}
	c, err := ReadConfig(l.Config().Dir)
	if err != nil {
		t.Fatal(err)
	}
	keep := filepath.Join(c.Dir, "notes.txt")
	if err := os.WriteFile(keep, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(c.Dir); err != nil || len(left) != 1 {
		t.Errorf("left are %v, %v; want somebody's notes only", left, err)
	}
}

func TestSocket(t *testing.T) {
	l := startFake(t)
	c := NewClient(l.Config())
	ctx := t.Context()
	if _, err := c.View(ctx); !errors.Is(err, ErrDown) {
		t.Fatalf("nobody serves: %v", err)
	}
	served := make(chan error, 1)
	go func() { served <- l.Serve(ctx) }()
	until(t, "the socket answers", func() bool { _, err := c.View(ctx); return err == nil })
	if st, err := os.Stat(filepath.Join(l.Config().Dir, socketFile)); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v", st.Mode(), err)
	}

	see := func() ServerView {
		v, err := c.View(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return v.Servers[1]
	}
	if s := see(); s.Doing != DoingNothing || s.Touched != "" || s.Serial != "LAB0002" {
		t.Errorf("%+v", s)
	}
	if err := c.Power(ctx, "n2", On); err != nil {
		t.Fatal(err)
	}
	until(t, "n2 runs", func() bool { return see().Doing == RunsDisk })
	if err := errors.Join(c.Power(ctx, "LAB0002", Off), c.Power(ctx, "n2", On)); err != nil {
		t.Fatal(err)
	}
	until(t, "n2 runs again", func() bool { return see().Doing == RunsDisk })
	if err := c.Power(ctx, "LAB0002", Off); err != nil {
		t.Fatal(err)
	}
	until(t, "n2 is off", func() bool { return see().Doing == DoingNothing })

	if err := c.Fault(ctx, "all", "slow delay=3s"); err != nil {
		t.Fatal(err)
	}
	if s := see(); len(s.Faults) != 1 || s.Faults[0] != "slow delay=3s" {
		t.Errorf("faults %q", s.Faults)
	}
	if err := c.Fault(ctx, "n2", ""); err != nil || len(see().Faults) != 0 {
		t.Errorf("clear: %v, left %q", err, see().Faults)
	}
	for name, err := range map[string]error{
		"n9": c.Power(ctx, "n9", On), "sideways": c.Power(ctx, "n1", "sideways"), "explode": c.Fault(ctx, "n1", "explode"),
	} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	testConsole(t, l, c)
	closed := make(chan error, 1)
	go func() { closed <- errors.Join(<-served, l.Close()) }()
	if err := c.Stop(ctx); err != nil {
		t.Error(err)
	}
	if err := l.Config().Clean(ctx); err != nil {
		t.Errorf("stop came back before the lab was gone: %v", err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

func testConsole(t *testing.T, l *Lab, c *Client) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, w := net.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- c.Console(ctx, "n1", true, w); w.Close() }()
	if _, err := l.servers[0].console.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 5)
	if _, err := r.Read(b); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix("hello", strings.TrimRight(string(b), "\x00")) {
		t.Errorf("console %q", b)
	}
	cancel()
	r.Close()
	<-ended
}

func TestConfigComesBack(t *testing.T) {
	c := testConfig(t.TempDir())
	c.Machine, c.Clock, c.Swaps = machine.QEMU, Offset(-2*time.Hour), map[string]int{"n2": 1}
	if err := c.Save(); err != nil {
		t.Fatal(err)
	}
	back, err := ReadConfig(c.Dir)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := json.Marshal(c)
	b, _ := json.Marshal(back)
	if string(a) != string(b) {
		t.Errorf("%s came back as %s", a, b)
	}
	if _, err := ReadConfig(t.TempDir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no lab: %v", err)
	}
}
