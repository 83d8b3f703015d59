package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"metalrise.dev/tui"
)

// screenFlags shape what is shown on a terminal.
type screenFlags struct {
	lang       string
	ascii      bool
	accessible bool
	record     string
}

func (f *screenFlags) add(c *cobra.Command) {
	p := c.Flags()
	p.StringVar(&f.lang, "lang", "", "language of the screens: en or ja (default: by locale)")
	p.BoolVar(&f.accessible, "accessible", false, "ask questions line by line, for screen readers and terminals without a cursor")
	p.BoolVar(&f.ascii, "ascii", false, "use ASCII marks only")
	p.StringVar(&f.record, "record", "", "write everything that happens on the screen to this file, without secrets")
}

// wizard is what metalrise does without a command: the wizard on a terminal,
// its help elsewhere.
func (o *options) wizard(c *cobra.Command, f *screenFlags) error {
	if !f.accessible && !o.onTerminal() {
		if in, ok := o.in.(*os.File); ok && isTerminal(in) {
			fmt.Fprintf(o.errs, "TERM=%q cannot move its cursor; metalrise --accessible asks the same questions line by line\n\n", os.Getenv("TERM"))
		}
		return c.Help()
	}
	return o.show(c.Context(), f, tui.Options{}, newClerk(o))
}

func attachCommand(o *options) *cobra.Command {
	f := &screenFlags{}
	c := &cobra.Command{
		Use:   "attach",
		Short: "Watch the run on a full screen; leaving it stops nothing",
		Long: `attach shows where every server is, what it does and why one is held. Any number
of terminals may do so at once. It survives the engine's end and its next start.
` + exitHelp,
		Example: "  metalrise attach -f osaka.yaml\n  metalrise attach --lang ja",
		Args:    usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if !f.accessible && !o.onTerminal() {
				return &exitError{exitUsage, errors.New("attach needs a terminal that can move its cursor; see attach --accessible, metalrise status and metalrise events --follow")}
			}
			dir, err := o.siteDir()
			if err != nil {
				return err
			}
			works := newClerk(o)
			works.dir = func() (string, error) { return dir, nil }
			return o.show(c.Context(), f, tui.Options{Attach: true, Title: o.file}, works)
		},
	}
	f.add(c)
	return c
}

func tuiCommand(o *options) *cobra.Command {
	var replay string
	c := &cobra.Command{
		Use:   "tui --replay FILE",
		Short: "Print the screens of a recorded session",
		Long: `tui plays a record made with --record and prints every screen that differs from
the one before, as text. It does nothing else: no BMC, engine or file is touched.
` + exitHelp,
		Example: "  metalrise --record session.jsonl\n  metalrise tui --replay session.jsonl",
		Args:    usage(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			if replay == "" {
				return &exitError{exitUsage, errors.New("--replay FILE is needed; metalrise alone opens the wizard")}
			}
			return o.replay(replay)
		},
	}
	c.Flags().StringVar(&replay, "replay", "", "record to play")
	return c
}

func (o *options) replay(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	defer f.Close()
	last := ""
	return tui.Replay(f, func(a *tui.App, in tui.Input) error {
		if in.Broke != "" {
			o.printf("── %s ── here the screens broke\n%s\n", in.At.Format("15:04:05.000"), in.Broke)
			return nil
		}
		if text := a.View().Text(); text != last && strings.TrimSpace(text) != "" {
			last = text
			o.printf("── %s ──\n%s", in.At.Format("15:04:05.000"), text)
		}
		return nil
	})
}

// onTerminal tells whether both ends are a terminal on which a cursor moves.
func (o *options) onTerminal() bool {
	in, ok := o.in.(*os.File)
	out, ok2 := o.tty.(*os.File)
	if !ok || !ok2 || !tui.Detect(os.Getenv).Attributes {
		return false
	}
	return isTerminal(in) && isTerminal(out)
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// show runs screens until they are left.
func (o *options) show(ctx context.Context, f *screenFlags, t tui.Options, works tui.Runs) error {
	look := tui.Detect(os.Getenv)
	if f.accessible {
		look = tui.DetectLines(os.Getenv)
	}
	if f.ascii {
		look.Unicode = false
	}
	t.Language = tui.DetectLanguage(os.Getenv, look)
	switch f.lang {
	case "":
	case string(tui.English), string(tui.Japanese):
		t.Language = tui.Language(f.lang)
	default:
		return &exitError{exitUsage, fmt.Errorf("--lang %q: want en or ja", f.lang)}
	}
	if t.Language == tui.Japanese && !look.Unicode {
		t.Language = tui.English // an ASCII terminal has no letters for it
	}
	in, ok := o.in.(*os.File)
	out, ok2 := o.tty.(*os.File)
	if !ok || !ok2 {
		return &exitError{exitUsage, errors.New("the wizard needs standard input and output")}
	}
	record, err := f.open()
	if err != nil {
		return err
	}
	tape := &tape{}
	term := tui.Terminal{In: in, Out: out, Look: look, Environ: os.Environ(), Record: tape}
	if record != nil {
		defer record.Close()
		term.Record = record
	}
	if c, ok := works.(io.Closer); ok {
		defer c.Close()
	}
	run := tui.Run
	if f.accessible {
		run = tui.RunLines
	}
	err = run(ctx, t, term, works)
	switch {
	case errors.Is(err, tui.ErrBroken) && record == nil:
		return errors.Join(err, tape.keep(o.errs))
	case errors.Is(err, tui.ErrBroken):
		toldRecord(o.errs, record.Name())
	}
	if errors.Is(err, context.Canceled) {
		return &exitError{code: exitInterrupted}
	}
	return err
}

// open makes the record's file; nil when none is wanted. A record shows
// addresses, names and serials, so it is private.
func (f *screenFlags) open() (*os.File, error) {
	if f.record == "" {
		return nil, nil
	}
	out, err := os.OpenFile(filepath.Clean(f.record), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	return out, nil
}

// tape keeps the record of a session in memory, for the case that the screens
// break: the record shows how, and has no secrets.
type tape struct {
	text []byte
	full bool
}

// tapeSize is enough for some hours of a rack; what comes later is left out,
// because only a record from its beginning can be played.
const tapeSize = 32 << 20

// Write implements io.Writer.
func (t *tape) Write(p []byte) (int, error) {
	t.full = t.full || len(t.text)+len(p) > tapeSize
	if !t.full {
		t.text = append(t.text, p...)
	}
	return len(p), nil
}

// keep writes the record to a file of its own and says where.
func (t *tape) keep(out io.Writer) error {
	f, err := os.CreateTemp("", "metalrise-record-*.jsonl") // made with mode 0600
	if err != nil {
		return fmt.Errorf("keep record: %w", err)
	}
	_, err = f.Write(t.text)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("keep record: %w", err)
	}
	toldRecord(out, f.Name())
	return nil
}

// toldRecord says where the record of screens that broke is.
func toldRecord(out io.Writer, path string) {
	fmt.Fprintf(out, "the screens broke; how is recorded, without secrets, in\n  %s\n  metalrise tui --replay %s shows it; an engine is not touched by this\n", path, path)
}
