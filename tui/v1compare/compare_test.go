package v1compare

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	v2 "charm.land/bubbletea/v2"
	v1 "github.com/charmbracelet/bubbletea"
	"github.com/creack/pty"

	"metalrise.dev/fleet"
	"metalrise.dev/tui"
)

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

// look is that of a monochrome VT100.
var look = tui.Look{Attributes: true, Old: true}

// screen is one App of package tui, whatever draws it.
type screen struct{ app *tui.App }

func (s screen) take(in tui.Input) {
	in.At = noon
	s.app.Step(in)
}

func (s screen) text() string { return look.Paint(s.app.View()) }

// keys maps what both versions call their keys to the names of package tui.
func key(name, text string) tui.Input {
	if text != "" && name != "enter" && name != "esc" {
		return tui.Input{Text: text}
	}
	return tui.Input{Key: name}
}

// change is an Input from outside: a row that moved on.
type change tui.Input

type modelV1 struct{ screen }

func (m modelV1) Init() v1.Cmd { return nil }
func (m modelV1) View() string { return m.text() }
func (m modelV1) Update(msg v1.Msg) (v1.Model, v1.Cmd) {
	switch msg := msg.(type) {
	case v1.KeyMsg:
		text := ""
		if msg.Type == v1.KeyRunes {
			text = string(msg.Runes)
		}
		m.take(key(msg.String(), text))
	case change:
		m.take(tui.Input(msg))
	}
	return m, nil
}

type modelV2 struct{ screen }

func (m modelV2) Init() v2.Cmd { return nil }
func (m modelV2) View() v2.View {
	v := v2.NewView(m.text())
	v.AltScreen = true
	return v
}
func (m modelV2) Update(msg v2.Msg) (v2.Model, v2.Cmd) {
	switch msg := msg.(type) {
	case v2.KeyPressMsg:
		m.take(key(msg.String(), msg.Text))
	case change:
		m.take(tui.Input(msg))
	}
	return m, nil
}

// terminal is a pseudo-terminal that keeps everything it is sent.
type terminal struct {
	t      *testing.T
	master *os.File
	slave  *os.File
	mu     sync.Mutex
	raw    bytes.Buffer
	last   time.Time
}

func open(t *testing.T) *terminal {
	t.Helper()
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	if err := pty.Setsize(master, &pty.Winsize{Cols: 80, Rows: 24}); err != nil {
		t.Fatal(err)
	}
	p := &terminal{t: t, master: master, slave: slave, last: time.Now()}
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			if err != nil {
				return
			}
			p.mu.Lock()
			p.raw.Write(buf[:n])
			p.last = time.Now()
			p.mu.Unlock()
		}
	}()
	return p
}

// rest waits until nothing was sent for a while and tells how much was sent.
func (p *terminal) rest() int {
	for {
		p.mu.Lock()
		quiet, n := time.Since(p.last) > 300*time.Millisecond, p.raw.Len()
		p.mu.Unlock()
		if quiet {
			return n
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (p *terminal) types(keys string) int {
	p.t.Helper()
	before := p.rest()
	if _, err := io.WriteString(p.master, keys); err != nil {
		p.t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	return p.rest() - before
}

// program is what both versions offer.
type program interface{ Kill() }

// numbers are what is compared.
type numbers struct {
	start, letter, move, row int
	queries                  string // modern sequences sent at the start
}

func (n numbers) String() string {
	return fmt.Sprintf("start %d bytes, letter %d, next field %d, row of progress %d, at the start %q", n.start, n.letter, n.move, n.row, n.queries)
}

// measure runs the wizard's second step, then the run screen.
func measure(t *testing.T, begin func(*terminal, screen) (program, func(change))) numbers {
	t.Helper()
	var n numbers
	sheet := site()
	p := open(t)
	prog, _ := begin(p, screen{tui.New(tui.Options{Sheet: &sheet})})
	time.Sleep(200 * time.Millisecond)
	n.start = p.rest()
	n.queries = modern(p.raw.String())
	p.types("\x1b")
	p.types("\x1b[B")
	p.types("\r")
	n.move = p.types("\x1b[B")
	p.types("\x1b[A")
	p.types("1")
	n.letter = max(p.types("0"), p.types("."))
	prog.Kill()
	time.Sleep(100 * time.Millisecond)

	q := open(t)
	prog, send := begin(q, screen{tui.New(tui.Options{Attach: true})})
	for percent := int64(40); percent < 44; percent++ {
		before := q.rest()
		w := run(percent)
		send(change(tui.Input{Watched: &w}))
		time.Sleep(100 * time.Millisecond)
		if sent := q.rest() - before; percent > 41 {
			n.row = max(n.row, sent)
		}
	}
	prog.Kill()
	return n
}

// modern finds what a VT100 does not know.
func modern(raw string) string {
	var out []string
	for _, s := range []string{"\x1b[?2026$p", "\x1b[?2027$p", "\x1b[?u", "\x1b[=", "\x1b[>", "\x1b[?1049h", "\x1b[?2004h", "\x1b]"} {
		if strings.Contains(raw, s) {
			out = append(out, strings.TrimPrefix(s, "\x1b"))
		}
	}
	return strings.Join(out, " ")
}

func TestCompare(t *testing.T) {
	t.Setenv("TERM", "vt100")
	one := measure(t, func(p *terminal, s screen) (program, func(change)) {
		s.take(tui.Input{Size: &tui.Size{Width: 80, Height: 24}})
		prog := v1.NewProgram(modelV1{s}, v1.WithInput(p.slave), v1.WithOutput(p.slave), v1.WithAltScreen(), v1.WithFPS(20), v1.WithoutSignalHandler())
		go func() { _, _ = prog.Run() }()
		return prog, func(c change) { prog.Send(c) }
	})
	two := measure(t, func(p *terminal, s screen) (program, func(change)) {
		s.take(tui.Input{Size: &tui.Size{Width: 80, Height: 24}})
		prog := v2.NewProgram(modelV2{s}, v2.WithInput(p.slave), v2.WithOutput(p.slave), v2.WithEnvironment([]string{"TERM=vt100"}), v2.WithFPS(20), v2.WithoutSignalHandler())
		go func() { _, _ = prog.Run() }()
		return prog, func(c change) { prog.Send(c) }
	})
	t.Logf("v1: %s", one)
	t.Logf("v2: %s", two)
	if two.letter >= one.letter || two.row >= one.row {
		t.Errorf("v2 takes no fewer bytes than v1: the decision for it has lost its reason")
	}
}

func site() tui.Sheet {
	s := fleet.Site{APIVersion: fleet.APIVersion, Kind: "Site", Name: "osaka"}
	s.BMCs = fleet.BMCs{Addresses: []string{"10.0.9.11-15"}, Username: "admin", Password: fleet.SecretRef{File: "osaka-bmc-password"}}
	return tui.Sheet{Path: "site.yaml", Exists: true, Typed: s, Site: s, Revision: 1}
}

func run(percent int64) tui.Watched {
	v := fleet.Overview{Site: "osaka", Plan: "4be1c9d2a7f04be1c9d2a7f0", At: noon, Engine: true}
	for i := range 5 {
		v.Servers = append(v.Servers, fleet.Status{Server: fleet.ServerID(fmt.Sprintf("SN%d", i)), Hostname: fmt.Sprintf("osaka-w%d", i+1), Role: fleet.Worker,
			Attempt: 1, Phase: fleet.Booted, Condition: fleet.Moving, Step: "wait for the agent to write the disk", Done: 10, Total: 100})
	}
	v.Servers[0].Done = percent
	return tui.Watched{Overview: v}
}
