package tui

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"metalrise.dev/fleet"
)

// Input is one thing that happened. Exactly one of the fields after At is set.
type Input struct {
	At       time.Time `json:"at"`
	Key      string    `json:"key,omitempty"`   // a named key: "enter", "up", "f2", "ctrl+c"
	Text     string    `json:"text,omitempty"`  // typed or pasted
	Line     *string   `json:"line,omitempty"`  // typed and ended by Enter, where there are no screens
	Tick     bool      `json:"tick,omitempty"`  // once a second
	Broke    string    `json:"broke,omitempty"` // the end of a record: the screens panicked, and where
	Size     *Size     `json:"size,omitempty"`
	Watched  *Watched  `json:"watched,omitempty"`
	Progress *Progress `json:"progress,omitempty"`
	Done     *Done     `json:"done,omitempty"`
}

// Size is that of the terminal, in cells.
type Size struct {
	Width  int `json:"width"`
	Height int `json:"height"`
}

// Watched is what one look at the run gave: where all servers are, and the
// events since the last look.
type Watched struct {
	Overview fleet.Overview `json:"overview"`
	Events   []fleet.Event  `json:"events,omitempty"`
	Err      *fleet.Cause   `json:"err,omitempty"`
}

// Progress tells how far a long action is.
type Progress struct {
	Do    Do  `json:"do"`
	Done  int `json:"done"`
	Total int `json:"total"`
}

// Done tells that an action ended.
type Done struct {
	Do    Do           `json:"do"`
	Path  string       `json:"path,omitempty"`  // of the field, for DoSet
	Sheet *Sheet       `json:"sheet,omitempty"` // what is known now; nil when nothing changed
	Err   *fleet.Cause `json:"err,omitempty"`
	// Stopped tells that a person ended the action; what it had done by then
	// counts.
	Stopped bool     `json:"stopped,omitempty"`
	Pace    *Pace    `json:"pace,omitempty"`  // of DoPace
	Lines   []string `json:"lines,omitempty"` // of DoLog: the end of the engine's log
	File    string   `json:"file,omitempty"`  // of DoGather: what was written
}

// Do is what a screen can have done.
type Do string

const (
	DoLoad     Do = "load"     // read the site file and what is known of its servers
	DoCreate   Do = "create"   // write a first site file; Value is its name
	DoSet      Do = "set"      // change one field of the site file
	DoPassword Do = "password" // keep Secret in a private file and name that in the site file
	DoOverride Do = "override" // change Path of one Server's entry under servers
	DoFind     Do = "find"     // ask all addresses who is there
	DoInspect  Do = "inspect"  // log in and read facts
	DoApply    Do = "apply"    // keep the plan and hand it to the engine
	DoRetry    Do = "retry"    // another attempt for a held Server; without one, for the VM platform
	DoEngine   Do = "engine"   // start the engine again; it continues by itself
	DoWatch    Do = "watch"    // look at the run, after a short while
	DoPace     Do = "pace"     // learn from earlier runs how long servers take
	DoLog      Do = "log"      // read the end of the engine's log
	DoGather   Do = "gather"   // write what a helper needs into one file, without secrets
	DoRest     Do = "rest"     // nothing, but a short while after the cursor moved
	DoCancel   Do = "cancel"   // end what runs long
	DoQuit     Do = "quit"     // leave; an engine goes on
)

// Action is what a screen wants done.
type Action struct {
	Do     Do
	Path   string
	Value  any // nil empties the field
	Server fleet.ServerID
	Route  fleet.BootRoute // by which a retry begins; "" leaves it to the engine
	Secret string          // never written down
	Plan   string          // whose disks may be erased
	Disks  int             // that a person typed
	After  int64           // sequence number of the last event known
}

// Sheet is all that the wizard shows of a site: its file, what was seen and the
// plan that follows from both.
type Sheet struct {
	Path     string          `json:"path"`
	Exists   bool            `json:"exists"`
	Typed    fleet.Site      `json:"typed"` // as the file says
	Site     fleet.Site      `json:"site"`  // with defaults
	Findings []fleet.Finding `json:"findings,omitempty"`
	Found    []fleet.Found   `json:"found,omitempty"`   // in the order of addresses
	Servers  []Known         `json:"servers,omitempty"` // in the order of addresses
	Plan     *fleet.Plan     `json:"plan,omitempty"`    // nil while nothing can be planned
	Applied  string          `json:"applied,omitempty"` // id of the plan that somebody consented to last
	Survey   []fleet.Finding `json:"survey,omitempty"`  // of the last Find and Inspect of this session
	// Unreadable says why a site file that is there cannot be read; then the
	// wizard touches nothing.
	Unreadable string `json:"unreadable,omitempty"`
	// Offers are values that were found for fields that have none, by path. None
	// is in the file before a person accepts it.
	Offers   map[string]string `json:"offers,omitempty"`
	Revision int               `json:"revision"` // rises with every sheet; older ones that come late are left out
}

// Known is one inspected server.
type Known struct {
	Server fleet.Server `json:"server"`
	Facts  fleet.Facts  `json:"facts"`
}

// Works does what screens want. Every method may take long, may be called from
// any goroutine and ends early when ctx does.
type Works interface {
	// Load reads the sheet. A missing site file is a sheet that does not exist.
	Load(ctx context.Context) (Sheet, error)
	// Create writes a first site file.
	Create(ctx context.Context, name string) (Sheet, error)
	// Set changes one field and writes the file; a value that is not valid
	// changes nothing. Nil empties the field.
	Set(ctx context.Context, path string, value any) (Sheet, error)
	// Override is Set for one field of one server's entry.
	Override(ctx context.Context, server fleet.ServerID, field string, value any) (Sheet, error)
	// Password keeps a typed secret in a file that only its owner can read.
	Password(ctx context.Context, secret string) (Sheet, error)
	// Find asks the site's addresses who is there.
	Find(ctx context.Context, each func(done, total int)) (Sheet, error)
	// Inspect logs in to what was found and reads facts.
	Inspect(ctx context.Context, each func(done, total int)) (Sheet, error)
	// Apply gives the plan with this id to the engine, with a person's consent.
	Apply(ctx context.Context, plan string, disks int) (Sheet, error)
	Runs
}

// Runs is what the run screen alone needs.
type Runs interface {
	// Watch tells where all servers are, and up to 1,000 events with a sequence
	// number above after, oldest first. It works without an engine.
	Watch(ctx context.Context, after int64) (fleet.Overview, []fleet.Event, error)
	// Retry gives a held server another attempt, which begins with this way to
	// boot; the engine chooses where it is "". Without a server it is the VM
	// platform that is tried again.
	Retry(ctx context.Context, server fleet.ServerID, route fleet.BootRoute) error
	// StartEngine starts the engine unless it runs; it continues by itself.
	StartEngine(ctx context.Context) error
	// Pace learns from the journals of earlier runs, this site's and others'.
	Pace(ctx context.Context) (Pace, error)
	// EngineLog gives the last lines of the engine's log, oldest first.
	EngineLog(ctx context.Context) ([]string, error)
	// Gather writes journal, plan and facts into one file without secrets, and
	// gives its path.
	Gather(ctx context.Context) (string, error)
}

// Recorder writes Inputs down, one a line. Text typed into a secret's field is
// replaced by stars of the same number. A nil Recorder writes nothing.
type Recorder struct {
	mu  sync.Mutex // an action that panics notes so from its own goroutine
	out *json.Encoder
}

// NewRecorder writes to w. The first line tells how the App was made.
func NewRecorder(w io.Writer, o Options) (*Recorder, error) {
	r := &Recorder{out: json.NewEncoder(w)}
	return r, r.out.Encode(o)
}

func (r *Recorder) note(in Input, secret bool) {
	if r == nil {
		return
	}
	if secret {
		in.Text = stars(in.Text)
		if in.Line != nil {
			line := stars(*in.Line)
			in.Line = &line
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = r.out.Encode(in) // a full disk must not end the view
}

func stars(s string) string { return strings.Repeat("*", utf8.RuneCountInString(s)) }

// Replay plays a record and calls each after every Input.
func Replay(r io.Reader, each func(*App, Input) error) error {
	d := json.NewDecoder(r)
	var o Options
	if err := d.Decode(&o); err != nil {
		return fmt.Errorf("read record: %w", err)
	}
	a := New(o)
	if o.Lines {
		a.Begin() // its question is a part of what was told
	}
	for {
		var in Input
		err := d.Decode(&in)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read record: %w", err)
		}
		if err := replayed(a, in, each); err != nil {
			return err
		}
	}
}

// replayed takes one Input of a record. One that breaks the screens is what the
// record was kept for: it is named.
func replayed(a *App, in Input, each func(*App, Input) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			b, _ := json.Marshal(in)
			err = errors.Join(ErrBroken, fmt.Errorf("by %s: %v", b, p))
		}
	}()
	a.Step(in)
	return each(a, in)
}
