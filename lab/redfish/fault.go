package redfish

import (
	"path"
	"slices"
	"sync"
	"time"
)

// FaultKind is one of the closed set of things that can go wrong on purpose.
type FaultKind string

const (
	Unreachable         FaultKind = "unreachable"
	Slow                FaultKind = "slow"
	Busy                FaultKind = "busy"
	Answer              FaultKind = "answer"
	LoseReply           FaultKind = "lose-reply"
	SessionLimit        FaultKind = "session-limit"
	SessionsLost        FaultKind = "sessions-lost"
	PowerOnIgnored      FaultKind = "power-on-ignored"
	BootOverrideIgnored FaultKind = "boot-override-ignored"
	MediaDownloadFails  FaultKind = "media-download-fails"
	MediaCorrupt        FaultKind = "media-corrupt"
	MediaSlow           FaultKind = "media-slow"
	EjectFails          FaultKind = "eject-fails"
	Behave              FaultKind = "quirk"
)

// Fault is one thing that goes wrong. Each kind has occasions (a request, a
// boot, a download); Nth, Times and For say at which of them the fault acts.
// ParseFault reads the text form, String writes it.
type Fault struct {
	Kind FaultKind

	Nth   int           // the first occasion at which it acts; 0 and 1 mean at once
	Times int           // how often it acts; 0 means until cleared
	For   time.Duration // how long it stays after it was set; 0 means until cleared

	Method     string        // Answer, LoseReply: of the request; "" is any but GET
	Path       string        // Answer, LoseReply: glob, where * also crosses slashes; "" is any
	Status     int           // Answer
	Body       string        // Answer: sent as it is; "" makes a Redfish error
	RetryAfter time.Duration // Answer, Busy: whole seconds
	Delay      time.Duration // Slow
	Limit      int           // SessionLimit; MediaSlow: bytes in a second
	Quirk      Quirk         // Behave
}

// FaultHelp describes one kind for people.
type FaultHelp struct {
	Kind  FaultKind
	Usage string
	Text  string
}

// FaultKinds lists every kind there is with its text form.
func FaultKinds() []FaultHelp {
	return []FaultHelp{
		{Unreachable, "unreachable", "every connection is closed at once"},
		{Slow, "slow delay=20s", "every answer takes this much longer"},
		{Busy, "busy retry-after=5s", "every request is answered 503 with Retry-After"},
		{Answer, `answer method=POST path=*/Actions/* status=500 body="..."`, "a matching request is not acted upon but answered like this"},
		{LoseReply, "lose-reply method=POST path=*Reset", "a matching request is acted upon, but the connection closes without an answer"},
		{SessionLimit, "session-limit limit=1", "no more than this many sessions"},
		{SessionsLost, "sessions-lost", "all sessions end, as when a BMC restarts"},
		{PowerOnIgnored, "power-on-ignored", "power on is answered as done, and nothing happens"},
		{BootOverrideIgnored, "boot-override-ignored", "the machine boots in its normal order, the override is used up"},
		{MediaDownloadFails, "media-download-fails", "inserting an image fails after it was asked for"},
		{MediaCorrupt, "media-corrupt", "one byte in the middle of the inserted image is wrong"},
		{MediaSlow, "media-slow limit=50000", "the image is fetched at no more than this many bytes in a second"},
		{EjectFails, "eject-fails", "ejecting answers 500 and the image stays"},
		{Behave, "quirk name=eject-wants-object", "the BMC behaves as some in the field do; docs/compatibility.md lists the names"},
	}
}

// armed is a fault that was set.
type armed struct {
	Fault
	seen  int
	acted int
	until time.Time // zero: no end
}

func (a *armed) over(now time.Time) bool {
	return (a.Times > 0 && a.acted >= a.Times) || (!a.until.IsZero() && !now.Before(a.until))
}

func (a *armed) matches(method, p string) bool {
	switch {
	case a.Kind != Answer && a.Kind != LoseReply:
		return true
	case a.Method == "" && method == "GET", a.Method != "" && a.Method != "*" && a.Method != method:
		return false
	}
	return a.Path == "" || glob(a.Path, p)
}

// glob matches with * crossing slashes: path.Match works on a single segment, so
// slashes are exchanged for a character no path holds.
func glob(pattern, s string) bool {
	ok, err := path.Match(unslash(pattern), unslash(s))
	return err == nil && ok
}

func unslash(s string) string {
	out := []rune(s)
	for i, r := range out {
		if r == '/' {
			out[i] = '\x00'
		}
	}
	return string(out)
}

// faults are the faults of one BMC. The zero value has none. Its lock is the
// innermost one: it may be asked while any other is held.
type faults struct {
	mu    sync.Mutex
	all   []*armed
	acted map[Quirk]bool // quirks that were met
}

// strike reports the fault of this kind that acts on this occasion. Every armed
// fault of the kind counts the occasion; the oldest that is due acts.
func (f *faults) strike(kind FaultKind, method, path string) (Fault, bool) {
	return f.due(func(a *armed) bool { return a.Kind == kind && a.matches(method, path) })
}

// quirk tells whether a fault gives this quirk on this occasion.
func (f *faults) quirk(q Quirk) bool {
	_, ok := f.due(func(a *armed) bool { return a.Kind == Behave && a.Quirk == q })
	return ok
}

func (f *faults) due(concerns func(*armed) bool) (Fault, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	f.all = slices.DeleteFunc(f.all, func(a *armed) bool { return a.over(now) })
	var hit *armed
	for _, a := range f.all {
		if !concerns(a) {
			continue
		}
		a.seen++
		if hit == nil && a.seen >= a.Nth {
			hit = a
			a.acted++
		}
	}
	if hit == nil {
		return Fault{}, false
	}
	return hit.Fault, true
}

func (f *faults) hits(kind FaultKind) bool {
	_, ok := f.strike(kind, "", "")
	return ok
}

// SetFault arms a fault; it comes on top of those set before. An error names
// what is wrong with it.
func (b *BMC) SetFault(f Fault) error {
	if err := f.check(); err != nil {
		return err
	}
	if f.Kind == SessionsLost {
		b.accounts.dropAll()
		return nil
	}
	a := &armed{Fault: f}
	if f.For > 0 {
		a.until = time.Now().Add(f.For)
	}
	b.faults.mu.Lock()
	defer b.faults.mu.Unlock()
	b.faults.all = append(b.faults.all, a)
	return nil
}

// ClearFaults makes the BMC behave again.
func (b *BMC) ClearFaults() {
	b.faults.mu.Lock()
	defer b.faults.mu.Unlock()
	b.faults.all = nil
}

// Faults lists the faults still armed, the oldest first.
func (b *BMC) Faults() []Fault {
	b.faults.mu.Lock()
	defer b.faults.mu.Unlock()
	now := time.Now()
	var out []Fault
	for _, a := range b.faults.all {
		if !a.over(now) {
			out = append(out, a.Fault)
		}
	}
	return out
}
