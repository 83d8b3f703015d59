package tui

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// maxLine bounds one typed line: a pasted list of SSH keys has room.
const maxLine = 64 << 10

// RunLines shows an App as questions and answers until its user leaves, the
// input ends or ctx ends. In and Out need not be terminals; where In is one,
// nothing is echoed while a secret is typed.
func RunLines(ctx context.Context, o Options, t Terminal, runs Runs) (err error) {
	o.Lines = true
	var rec *Recorder
	if t.Record != nil {
		if rec, err = NewRecorder(t.Record, o); err != nil {
			return fmt.Errorf("begin record: %w", err)
		}
	}
	outer := ctx
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	echo := &echo{fd: int(t.In.Fd())}
	defer echo.on()
	queue := make(chan Input)
	send := func(in Input) {
		select {
		case queue <- in:
		case <-ctx.Done():
		}
	}
	m := &runner{ctx: ctx, app: New(o), look: t.Look, runs: runs, rec: rec, send: send, cancels: map[Do]context.CancelFunc{}, broken: make(chan error, 1), quit: stop}
	m.works, _ = runs.(Works)
	go readLines(t.In, send)
	go func() {
		for tick := time.Tick(time.Second); ctx.Err() == nil; <-tick {
			send(Input{Tick: true})
		}
	}()
	p := &linePrinter{out: t.Out, look: t.Look}
	leaving := m.start(m.app.Begin())
	p.print(m.app.Said())
	for !leaving {
		select {
		case <-ctx.Done():
			p.print("\n")
			select {
			case err := <-m.broken:
				return err
			default:
				return outer.Err()
			}
		case in := <-queue:
			if in.Line != nil && *in.Line == endOfInput {
				p.print("\n")
				return nil
			}
			in.At = time.Now()
			p.answered(in.Line != nil)
			actions := m.step(in)
			echo.set(!m.app.Secret()) // before the question can be answered
			p.print(m.app.Said())
			leaving = m.start(actions)
		}
	}
	return nil
}

// endOfInput stands for it in the queue; no typed line holds its letter.
const endOfInput = "\x04"

// start begins actions and tells whether one of them is to leave.
func (r *runner) start(actions []Action) (leave bool) {
	for _, a := range actions {
		switch a.Do {
		case DoQuit:
			leave = true
		case DoCancel:
			r.cancelAll()
		default:
			go func() {
				defer r.recovered()
				if in, ok := r.act(a).(Input); ok {
					r.send(in)
				}
			}()
		}
	}
	return leave
}

// step is one Input of the queue. One that panics changes nothing more.
func (r *runner) step(in Input) []Action {
	defer r.recovered()
	r.rec.note(in, r.app.Secret())
	provoke(in)
	return r.app.Step(in)
}

// readLines sends every line. Its goroutine ends with the input; while the
// program leaves, a terminal keeps it waiting until the process ends.
func readLines(in io.Reader, send func(Input)) {
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 0, 4096), maxLine)
	for lines.Scan() {
		text := strings.ReplaceAll(strings.TrimSuffix(lines.Text(), "\r"), endOfInput, "")
		send(Input{Line: &text})
	}
	end := endOfInput
	send(Input{Line: &end})
}

// linePrinter writes what was told. A question that stands open is ended before
// anything else is told, and put again after it.
type linePrinter struct {
	out  io.Writer
	look Look
	open string // question without a line's end
}

func (p *linePrinter) answered(typed bool) {
	if typed { // the terminal has ended the line by echoing Enter
		p.open = ""
	}
}

func (p *linePrinter) print(text string) {
	if text == "" {
		return
	}
	if !p.look.Unicode {
		text = plainMarks(text)
	}
	again := ""
	if p.open != "" {
		again = p.open
		text = "\n" + text
	}
	p.open = ""
	if i := strings.LastIndexByte(text, '\n'); i < len(text)-1 {
		p.open = text[i+1:]
	} else if again != "" {
		p.open = again
		text += again
	}
	_, _ = io.WriteString(p.out, text) // who reads it may be gone; the engine goes on
}

// echo switches the echo of a terminal; where In is none it does nothing.
type echo struct {
	fd  int
	off bool
}

func (e *echo) on() { e.set(true) }

func (e *echo) set(on bool) {
	if on == !e.off {
		return
	}
	t, err := unix.IoctlGetTermios(e.fd, unix.TCGETS)
	if err != nil {
		return
	}
	if on {
		t.Lflag |= unix.ECHO
	} else {
		t.Lflag &^= unix.ECHO
		t.Lflag |= unix.ECHONL
	}
	if unix.IoctlSetTermios(e.fd, unix.TCSETS, t) == nil {
		e.off = !on
	}
}
