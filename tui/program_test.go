package tui

import (
	"context"
	"io"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/charmbracelet/x/vt"
	"github.com/creack/pty"

	"metalrise.dev/fleet"
)

// fakeRun is a run whose first server writes one percent more when told.
type fakeRun struct {
	mu   sync.Mutex
	view fleet.Overview
}

func (f *fakeRun) Watch(context.Context, int64) (fleet.Overview, []fleet.Event, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	v := f.view
	v.At = time.Now()
	v.Servers = append([]fleet.Status(nil), v.Servers...)
	return v, nil, nil
}
func (f *fakeRun) Retry(context.Context, fleet.ServerID, fleet.BootRoute) error { return nil }
func (f *fakeRun) StartEngine(context.Context) error                            { return nil }
func (f *fakeRun) Pace(context.Context) (Pace, error)                           { return Pace{}, nil }
func (f *fakeRun) EngineLog(context.Context) ([]string, error)                  { return []string{"engine ready"}, nil }
func (f *fakeRun) Gather(context.Context) (string, error)                       { return "report.tar.gz", nil }

func (f *fakeRun) write(percent int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.view.Servers[0].Done = percent * f.view.Servers[0].Total / 100
}

// screen is a terminal with a program in it: what it was sent and what it shows.
type screen struct {
	t    *testing.T
	mu   sync.Mutex
	raw  []byte
	last time.Time
	emu  *vt.Emulator
	in   interface{ Write([]byte) (int, error) }
	done chan error
}

func openScreen(t *testing.T, cols, rows int, k Look, o Options, runs Runs) *screen {
	t.Helper()
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	if cols > 0 {
		if err := pty.Setsize(master, &pty.Winsize{Cols: uint16(cols), Rows: uint16(rows)}); err != nil {
			t.Fatal(err)
		}
	}
	s := &screen{t: t, emu: vt.NewEmulator(80, 24), in: master, done: make(chan error, 1)}
	go func() { _, _ = io.Copy(io.Discard, s.emu) }() // its answers to questions; unread, they would stop it
	ctx, stop := context.WithCancel(t.Context())
	go func() {
		s.done <- Run(ctx, o, Terminal{In: slave, Out: slave, Look: k, Environ: []string{"TERM=vt100"}}, runs)
	}()
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			if err != nil {
				return
			}
			s.mu.Lock()
			s.raw = append(s.raw, buf[:n]...)
			_, _ = s.emu.Write(buf[:n])
			s.last = time.Now()
			s.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		stop()
		<-s.done
		_ = slave.Close()
		_ = master.Close()
	})
	return s
}

func (s *screen) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.emu.String()
}

// await waits until the screen shows a text.
func (s *screen) await(want string) {
	s.t.Helper()
	for end := time.Now().Add(20 * time.Second); !strings.Contains(s.text(), want); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("the screen never shows %q:\n%s\nsent %q", want, s.text(), s.sent())
		}
	}
	time.Sleep(150 * time.Millisecond) // what belongs to the same frame
	s.rest()
}

// soon waits until the screen shows a text, and not for what follows.
func (s *screen) soon(want string) {
	s.t.Helper()
	for end := time.Now().Add(20 * time.Second); !strings.Contains(s.text(), want); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("the screen never shows %q:\n%s", want, s.text())
		}
	}
}

// rest waits until nothing was sent for a while.
func (s *screen) rest() {
	for {
		s.mu.Lock()
		quiet := time.Since(s.last) > 200*time.Millisecond
		s.mu.Unlock()
		if quiet {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (s *screen) sent() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]byte(nil), s.raw...)
}

// key presses a key, waits until the screen shows its effect, and tells how many
// bytes that took.
func (s *screen) key(k, shows string) int {
	s.t.Helper()
	s.rest()
	before := len(s.sent())
	if _, err := s.in.Write([]byte(k)); err != nil {
		s.t.Fatal(err)
	}
	s.await(shows)
	return len(s.sent()) - before
}

// vt100Only matches what a VT100 obeys and plain text.
var vt100Only = regexp.MustCompile("^([\\x08\\x09\\x0a\\x0d\\x20-\\x7e]|\x1b\\[[0-9;]*[ABCDHJKfmr]|\x1b\\[\\?25[hl]|\x1b[78DEM=>]|\x1b[()].)*$")

func TestVT100GetsLittleAndOnlyWhatItKnows(t *testing.T) {
	run := &fakeRun{view: sampleRun(5).Overview}
	for i := range run.view.Servers {
		run.view.Servers[i].Since = time.Time{} // no ages, which change by themselves
	}
	s := openScreen(t, 0, 0, Look{Attributes: true, Old: true}, Options{Attach: true}, run) // 0 x 0, as serial lines are
	s.await("osaka-w5")
	first := len(s.sent())
	// A key moves the mark and nothing else. The steps of the server follow once
	// the cursor rests on it.
	moved, details := 0, 0
	for _, k := range [][3]string{{"\x1b[B", ">x osaka-w2", "SN00002"}, {"\x1b[B", ">. osaka-w3", "SN00003"}, {"\x1b[A", ">x osaka-w2", "SN00002"}, {"\x1b[B", ">. osaka-w3", "SN00003"}} {
		s.rest()
		before := len(s.sent())
		if _, err := s.in.Write([]byte(k[0])); err != nil {
			t.Fatal(err)
		}
		s.soon(k[1])
		moved = max(moved, len(s.sent())-before)
		s.await(" " + k[2] + "  worker")
		time.Sleep(rest)
		s.rest()
		details = max(details, len(s.sent())-before-moved)
	}
	t.Logf("another server: %d bytes, then its steps: %d bytes", moved, details)
	if moved > 20 {
		t.Errorf("moving to another server takes %d bytes, more than 20", moved)
	}
	row := 0
	for p := int64(44); p <= 46; p++ {
		s.rest()
		before := len(s.sent())
		run.write(p)
		s.await(" " + string(rune('0'+p/10)) + string(rune('0'+p%10)) + " %")
		row = max(row, len(s.sent())-before)
	}
	t.Logf("first screen %d bytes, progress row at most %d bytes", first, row)
	if raw := s.sent(); !vt100Only.Match(raw) {
		t.Errorf("more than a VT100 knows: %q", raw)
	}
	if row > 60 {
		t.Errorf("a progress row takes %d bytes, more than 60", row)
	}
	if _, err := s.in.Write([]byte("d")); err != nil {
		t.Fatal(err)
	}
	if err := <-s.done; err != nil {
		t.Error(err)
	}
	s.done <- nil // for the clean-up
}

func TestTypingOnVT100TakesFewBytes(t *testing.T) {
	sheet := sampleSheet(5)
	s := openScreen(t, 80, 24, Look{Attributes: true, Old: true}, Options{Sheet: &sheet}, &fakeRun{})
	s.await("Welcome")
	s.key("\x1b", "choose a step")
	s.key("\x1b[B", ">v 2 Find servers")
	s.key("\r", "> BMC addresses")
	moved := s.key("\x1b[B", "> User")
	s.key("\x1b[A", "> BMC addresses")
	s.key("1", "addresses    1  ")
	typed := 0
	for _, k := range []string{"10", "10.", "10.7"} {
		typed = max(typed, s.key(k[len(k)-1:], "addresses    "+k+"  "))
	}
	t.Logf("a letter: %d bytes; moving to the next field: %d bytes", typed, moved)
	if typed > 20 || moved > 20 {
		t.Errorf("a letter takes %d bytes and a move %d, more than 20", typed, moved)
	}
}

// TestVT100ShowsTextThatGrowsAndShrinks changes a word in the middle of a line:
// what follows moves, though a VT100 can neither insert nor delete characters.
func TestVT100ShowsTextThatGrowsAndShrinks(t *testing.T) {
	run := &fakeRun{view: sampleRun(5).Overview}
	s := openScreen(t, 80, 24, Look{Attributes: true, Old: true}, Options{Attach: true}, run)
	s.await("osaka-w5")
	for _, host := range []string{"osaka-w1", "osaka-w10", "osaka-w100", "osaka-w10", "osaka-w1"} {
		run.mu.Lock()
		run.view.Servers[0].Hostname = host
		run.mu.Unlock()
		s.await(" " + host + "  SN00001  worker  BMC 10.0.9.11:443")
	}
	s.key("l", "/ filter   s chosen")
	s.key("\x1b", "r retry  c change value  b boot method  x exclude  o console  h next held\n")
}
