package tui

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"sync"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/colorprofile"
	"golang.org/x/sys/unix"

	"metalrise.dev/fleet"
)

// Terminal is where an App is shown.
type Terminal struct {
	In, Out *os.File
	Look    Look
	Environ []string
	Record  io.Writer // nil: nothing is recorded
}

// ErrBroken tells that a fault of the screens themselves ended them. An engine
// is not touched by that.
var ErrBroken = errors.New("the screens broke")

// Run shows an App until its user leaves or ctx ends. runs may be a Works; the
// wizard needs one.
func Run(ctx context.Context, o Options, t Terminal, runs Runs) error {
	if err := giveSize(t.Out); err != nil {
		return err
	}
	var rec *Recorder
	if t.Record != nil {
		var err error
		if rec, err = NewRecorder(t.Record, o); err != nil {
			return fmt.Errorf("begin record: %w", err)
		}
	}
	outer := ctx
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	m := &runner{ctx: ctx, app: New(o), look: t.Look, runs: runs, rec: rec, cancels: map[Do]context.CancelFunc{}, broken: make(chan error, 1)}
	m.works, _ = runs.(Works)
	program := tea.NewProgram(m, t.options()...)
	m.quit = program.Quit
	m.send = func(in Input) { program.Send(in) }
	// Bubble Tea's own way to end with a context does not wait for its reader.
	defer context.AfterFunc(ctx, program.Quit)()
	_, err := program.Run()
	if t.Look.Old { // there is no other screen to go back to
		_, _ = io.WriteString(t.Out, "\x1b[H\x1b[J")
	}
	select {
	case broken := <-m.broken:
		return broken
	default:
	}
	if errors.Is(err, tea.ErrProgramPanic) { // in Bubble Tea itself
		return errors.Join(ErrBroken, err)
	}
	if outer.Err() != nil || errors.Is(err, tea.ErrInterrupted) {
		return context.Canceled
	}
	return err
}

func (t Terminal) options() []tea.ProgramOption {
	profile := colorprofile.NoTTY
	switch {
	case t.Look.Colour && t.Look.Attributes:
		profile = colorprofile.ANSI
	case t.Look.Attributes:
		profile = colorprofile.ASCII
	}
	out := []tea.ProgramOption{tea.WithInput(t.In), tea.WithColorProfile(profile), tea.WithFPS(20)}
	if !t.Look.Old {
		return append(out, tea.WithOutput(t.Out), tea.WithEnvironment(t.Environ))
	}
	// Bubble Tea chooses its sequences by TERM; the sieve holds back what it
	// sends to every terminal.
	return append(out, tea.WithOutput(&oldTerminal{File: t.Out, sieve: sieve{out: t.Out}}), tea.WithEnvironment(append(t.Environ, "TERM=vt100")))
}

// oldTerminal is a terminal behind a sieve.
type oldTerminal struct {
	*os.File
	sieve sieve
}

func (o *oldTerminal) Write(p []byte) (int, error) { return o.sieve.Write(p) }

// WriteString hides the file's own, which would pass the sieve by.
func (o *oldTerminal) WriteString(s string) (int, error) { return o.sieve.Write([]byte(s)) }

// giveSize makes a terminal that does not know its size 80 x 24, as serial
// lines are; Bubble Tea shows nothing on one of 0 x 0.
func giveSize(f *os.File) error {
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return fmt.Errorf("size of terminal: %w", err)
	}
	if size.Col > 0 && size.Row > 0 {
		return nil
	}
	if err := unix.IoctlSetWinsize(int(f.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: minHeight, Col: minWidth}); err != nil {
		return fmt.Errorf("set size of terminal: %w", err)
	}
	return nil
}

// runner is what acts: it turns messages into Inputs and Actions into calls.
type runner struct {
	ctx     context.Context
	app     *App
	look    Look
	runs    Runs
	works   Works
	rec     *Recorder
	send    func(Input)
	looked  bool
	mu      sync.Mutex
	cancels map[Do]context.CancelFunc
	broken  chan error // the first panic; holds one
	quit    func()
}

type tick time.Time

func ticking() tea.Cmd {
	return tea.Tick(time.Second, func(t time.Time) tea.Msg { return tick(t) })
}

func (r *runner) Init() tea.Cmd {
	return tea.Batch(append(r.commands(r.app.Begin()), ticking())...)
}

func (r *runner) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	in := Input{}
	var more []tea.Cmd
	switch msg := msg.(type) {
	case tea.KeyPressMsg:
		in = keyInput(msg)
	case tea.PasteMsg:
		in.Text = msg.Content
	case tea.WindowSizeMsg:
		in.Size = &Size{msg.Width, msg.Height}
	case tick:
		in.Tick = true
		more = append(more, ticking())
	case Input:
		in = msg
	default:
		return r, nil
	}
	in.At = time.Now()
	return r, tea.Batch(append(more, r.commands(r.step(in))...)...)
}

// recovered ends the view after a panic and keeps where it happened: on the
// screen it would hide what people need, where the record is.
func (r *runner) recovered() {
	p := recover()
	if p == nil {
		return
	}
	select {
	case r.broken <- errors.Join(ErrBroken, fmt.Errorf("%v", p)):
		r.rec.note(Input{At: time.Now(), Broke: fmt.Sprintf("%v\n%s", p, debug.Stack())}, false)
		go r.quit() // the event loop may be what called
	default: // it ends already
	}
}

func keyInput(k tea.KeyPressMsg) Input {
	if k.Text != "" && k.Mod&(tea.ModCtrl|tea.ModAlt) == 0 {
		return Input{Text: k.Text}
	}
	return Input{Key: k.String()}
}

func (r *runner) View() tea.View {
	defer r.recovered() // the empty view is drawn then
	p := r.app.View()
	v := tea.NewView(r.look.Paint(p))
	v.AltScreen = true
	if p.Cursor != nil {
		v.Cursor = tea.NewCursor(p.Cursor.X, p.Cursor.Y)
		v.Cursor.Blink = false
	}
	return v
}

func (r *runner) commands(actions []Action) []tea.Cmd {
	var out []tea.Cmd
	for _, a := range actions {
		switch a.Do {
		case DoQuit:
			out = append(out, tea.Quit)
		case DoCancel:
			r.cancelAll()
		default:
			out = append(out, func() tea.Msg {
				defer r.recovered()
				return r.act(a)
			})
		}
	}
	return out
}

func (r *runner) cancelAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, cancel := range r.cancels {
		cancel()
	}
}

// cancellable gives a context that DoCancel ends.
func (r *runner) cancellable(do Do) (context.Context, func()) {
	ctx, cancel := context.WithCancel(r.ctx)
	r.mu.Lock()
	r.cancels[do] = cancel
	r.mu.Unlock()
	return ctx, func() {
		cancel()
		r.mu.Lock()
		delete(r.cancels, do)
		r.mu.Unlock()
	}
}

// lookEvery is how often the run is looked at; one look costs the engine one
// answer and the journal one read of an index.
const lookEvery = 500 * time.Millisecond

// act does one action, off the event loop, and tells how it ended.
func (r *runner) act(a Action) tea.Msg {
	switch a.Do {
	case DoWatch:
		return r.watch(a)
	case DoRetry:
		return done(a, nil, r.runs.Retry(r.ctx, a.Server, a.Route))
	case DoEngine:
		return done(a, nil, r.runs.StartEngine(r.ctx))
	case DoPace, DoLog, DoGather, DoRest:
		return r.side(a)
	}
	if r.works == nil {
		return done(a, nil, errors.New("this view only watches"))
	}
	s, err := r.work(a)
	if err != nil && s.Revision == 0 {
		return done(a, nil, err)
	}
	return done(a, &s, err)
}

func (r *runner) work(a Action) (Sheet, error) {
	ctx, release := r.cancellable(a.Do)
	defer release()
	switch a.Do {
	case DoLoad:
		return r.works.Load(ctx)
	case DoCreate:
		name, _ := a.Value.(string)
		return r.works.Create(ctx, name)
	case DoSet:
		return r.works.Set(ctx, a.Path, a.Value)
	case DoPassword:
		return r.works.Password(ctx, a.Secret)
	case DoOverride:
		return r.works.Override(ctx, a.Server, a.Path, a.Value)
	case DoFind:
		return r.works.Find(ctx, r.reporter(a.Do))
	case DoInspect:
		return r.works.Inspect(ctx, r.reporter(a.Do))
	case DoApply:
		return r.works.Apply(ctx, a.Plan, a.Disks)
	}
	return Sheet{}, fmt.Errorf("nobody can do %q", a.Do)
}

// reporter passes progress on, at most ten times a second and at the end.
func (r *runner) reporter(do Do) func(done, total int) {
	var last time.Time
	return func(done, total int) {
		if now := time.Now(); done == total || now.Sub(last) > 100*time.Millisecond {
			last = now
			r.send(Input{Progress: &Progress{do, done, total}})
		}
	}
}

func done(a Action, s *Sheet, err error) Input {
	path := a.Path
	if a.Do == DoOverride {
		path = ""
	}
	if errors.Is(err, context.Canceled) {
		return Input{Done: &Done{Do: a.Do, Sheet: s, Stopped: true}}
	}
	return Input{Done: &Done{Do: a.Do, Path: path, Sheet: s, Err: fleet.CauseOf(err)}}
}

// side does what goes on beside the watching.
func (r *runner) side(a Action) tea.Msg {
	d := Done{Do: a.Do}
	var err error
	switch a.Do {
	case DoPace:
		var p Pace
		p, err = r.runs.Pace(r.ctx)
		d.Pace = &p
	case DoLog:
		d.Lines, err = r.runs.EngineLog(r.ctx)
	case DoGather:
		d.File, err = r.runs.Gather(r.ctx)
	case DoRest:
		select {
		case <-time.After(rest):
		case <-r.ctx.Done():
		}
	}
	d.Err = fleet.CauseOf(err)
	return Input{Done: &d}
}

func (r *runner) watch(a Action) tea.Msg {
	if r.looked {
		select {
		case <-time.After(lookEvery):
		case <-r.ctx.Done():
			return nil
		}
	}
	r.looked = true
	view, events, err := r.runs.Watch(r.ctx, a.After)
	if r.ctx.Err() != nil {
		return nil
	}
	return Input{Watched: &Watched{Overview: view, Events: events, Err: fleet.CauseOf(err)}}
}
