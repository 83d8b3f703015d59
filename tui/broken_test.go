package tui

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"metalrise.dev/fleet"
)

// brokenRun panics when it is looked at.
type brokenRun struct{ fakeRun }

func (*brokenRun) Watch(context.Context, int64) (fleet.Overview, []fleet.Event, error) {
	panic("no such run")
}

// TestPanicEndsTheViewAndIsRecorded breaks screens and lines from an action.
func TestPanicEndsTheViewAndIsRecorded(t *testing.T) {
	for name, show := range map[string]func(context.Context, Options, Terminal, Runs) error{"screens": Run, "lines": RunLines} {
		master, slave, err := pty.Open()
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.Copy(io.Discard, master) }()
		before, _ := termios(slave)
		var record bytes.Buffer
		err = show(t.Context(), Options{Attach: true, Lines: name == "lines"}, Terminal{In: slave, Out: slave, Look: Look{Attributes: true, Old: true}, Record: &record}, &brokenRun{})
		if !errors.Is(err, ErrBroken) || !strings.Contains(err.Error(), "no such run") {
			t.Errorf("%s end with %v", name, err)
		}
		if after, err := termios(slave); err != nil || after != before {
			t.Errorf("%s leave the terminal as %s, it was %s (%v)", name, after, before, err)
		}
		if !strings.Contains(record.String(), `"broke":"no such run`) {
			t.Errorf("%s: the record does not say where: %s", name, record.String())
		}
		told := false
		err = Replay(&record, func(_ *App, in Input) error {
			told = told || in.Broke != ""
			return nil
		})
		if err != nil || !told {
			t.Errorf("%s: replay %v, tells where %v", name, err, told)
		}
		_ = slave.Close()
		_ = master.Close()
	}
}

func TestReplayNamesTheInputThatBreaks(t *testing.T) {
	record := `{"language":"en"}` + "\n" + `{"at":"2026-03-04T12:00:00Z","key":"down"}` + "\n"
	err := Replay(strings.NewReader(record), func(*App, Input) error { panic("here") })
	if !errors.Is(err, ErrBroken) || !strings.Contains(err.Error(), `"key":"down"`) {
		t.Errorf("%v", err)
	}
}

// TestResizeStorm changes the size as fast as a dragged window does, down to a
// few cells: nothing breaks, and the screen is whole when it is over.
func TestResizeStorm(t *testing.T) {
	run := &fakeRun{view: sampleRun(5).Overview}
	s := openScreen(t, 80, 24, Look{Attributes: true, Old: true}, Options{Attach: true}, run)
	s.await("osaka-w5")
	master := s.in.(*os.File)
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		if err := pty.Setsize(master, &pty.Winsize{Cols: uint16(r.IntN(200)), Rows: uint16(r.IntN(60))}); err != nil {
			t.Fatal(err)
		}
		kick(t)
	}
	s.resize(t, master, 40, 10)
	s.await("This terminal is 40 x 10")
	s.resize(t, master, 100, 30)
	s.await("osaka-w5")
	if text := s.text(); strings.Contains(text, "This terminal") {
		t.Errorf("it does not recover:\n%s", text)
	}
}

func (s *screen) resize(t *testing.T, master *os.File, cols, rows int) {
	t.Helper()
	s.mu.Lock()
	s.emu.Resize(cols, rows)
	s.mu.Unlock()
	if err := pty.Setsize(master, &pty.Winsize{Cols: uint16(cols), Rows: uint16(rows)}); err != nil {
		t.Fatal(err)
	}
	kick(t)
}

// kick tells this process that the size of its terminal changed; the kernel tells
// only those whose controlling terminal it is.
func kick(t *testing.T) {
	t.Helper()
	if err := unix.Kill(os.Getpid(), unix.SIGWINCH); err != nil {
		t.Fatal(err)
	}
}

// termios is how a terminal is set.
func termios(f *os.File) (string, error) {
	s, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return fmt.Sprintf("%+v", s), err
}
