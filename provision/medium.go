package provision

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"metalrise.dev/fleet"
)

// Media tells which live media can be made of the release.
type Media interface {
	// Unmade says why a medium cannot be made; "" when it can.
	Unmade(m fleet.Medium) string
	// Bytes is the size of a medium without what belongs to one server.
	Bytes(m fleet.Medium) int64
}

// Keyfile is a NetworkManager keyfile for the initial RAM disk of a live system.
type Keyfile struct {
	Name string // without a folder
	Text string
}

// Flow is how the medium of the current attempt gets to its BMC, as this engine
// saw it.
type Flow struct {
	Bytes int64     // sent to the BMC; what it read twice counts twice
	Size  int64     // of the whole medium; 0 when that is not known
	Root  int64     // of the root file system, sent to the server itself
	Rate  float64   // bytes in a second, as long as bytes were under way; 0 as long as that is not known
	Last  time.Time // when the medium was read last
}

const (
	// A rate is believed after so much: a probe of some KiB measures how far away a
	// BMC is and not how much its link takes. It is that of the middle one of all
	// pieces: a BMC that reads a lot at once and then waits for its machine is not
	// slow, and one that takes the first of it quickly, into memory, is not quick.
	sureBusy   = 30 * time.Second
	surePieces = 5
	mostPieces = 512
	pieceBytes = 256 << 10
	// stillReading is for how long a BMC may pause and counts as one that reads.
	stillReading = 2 * time.Minute
)

// flow gathers a Flow. Those who serve media must not wait for a journal.
type flow struct {
	mu      sync.Mutex
	attempt int
	bytes   int64
	root    int64
	sent    int64         // of the present piece, confirmed by the BMC
	busy    time.Duration // in which that was under way
	whole   time.Duration // of all pieces
	rates   []float64     // of pieces, bytes in a second
	last    time.Time
	sure    bool // the walker heard that there is a rate
}

func (f *flow) turnLocked(attempt int) bool {
	if attempt > f.attempt {
		f.attempt, f.bytes, f.root, f.last = attempt, 0, 0, time.Time{}
		f.sent, f.busy, f.whole, f.rates, f.sure = 0, 0, 0, nil, false
	}
	return attempt == f.attempt
}

// count adds bytes of what g opens. It tells whether that was part of the medium.
func (f *flow) count(g grant, bytes int64, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	medium := g.kind == string(LiveMedium)
	switch {
	case !f.turnLocked(g.attempt):
	case medium:
		f.bytes, f.last = f.bytes+bytes, now
	case g.name == NetRootfs:
		f.root += bytes
	}
	return medium
}

// measure adds what was under way, and tells whether the rate is sure just now.
func (f *flow) measure(attempt int, sent int64, busy time.Duration) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.turnLocked(attempt) {
		return false
	}
	f.sent, f.busy = f.sent+sent, f.busy+busy
	if f.sent < pieceBytes || len(f.rates) == mostPieces {
		return false
	}
	if f.busy > 0 {
		f.rates = append(f.rates, float64(f.sent)/f.busy.Seconds())
	}
	f.sent, f.busy, f.whole = 0, 0, f.whole+f.busy
	was := f.sure
	f.sure = len(f.rates) >= surePieces && f.whole >= sureBusy
	return f.sure && !was
}

func (f *flow) shows(attempt int, size int64) Flow {
	f.mu.Lock()
	defer f.mu.Unlock()
	if attempt != f.attempt {
		return Flow{Size: size}
	}
	out := Flow{Bytes: f.bytes, Size: size, Root: f.root, Last: f.last}
	if f.sure {
		rates := slices.Sorted(slices.Values(f.rates))
		out.Rate = rates[len(rates)/2]
	}
	return out
}

// Flowed hears from who serves media how fast the connection of a reader took
// what key opens: bytes that were confirmed, and for how long they were under way.
// It does not block.
func (e *Engine) Flowed(key string, bytes int64, busy time.Duration) {
	r := e.current()
	if r == nil {
		return
	}
	g, ok := r.keys.find(key)
	w := r.servers[g.server]
	if ok && w != nil && g.kind == string(LiveMedium) && w.flow.measure(g.attempt, bytes, busy) {
		w.rouse()
	}
}

// Serves tells whether a key still opens something: a transfer that began before
// an attempt was left does not go on after it.
func (e *Engine) Serves(key string) bool {
	r := e.current()
	if r == nil {
		return true // starting: nothing is known yet
	}
	_, ok := r.keys.find(key)
	return ok
}

// flowLocked is what is known of the current attempt's medium.
func (w *walker) flowLocked() Flow {
	size := int64(0)
	if w.engine.Media != nil {
		size = w.engine.Media.Bytes(w.track.Route.medium())
	}
	return w.flow.shows(w.track.Attempt, size)
}

// unmade says why the engine cannot make a minimal medium; "" when it can.
func (e *Engine) unmade() string {
	if e.Media == nil {
		return "this engine makes full media only"
	}
	return e.Media.Unmade(fleet.MinimalMedium)
}

// medium is what the BMC is given in the current attempt.
func (r *RouteTrack) medium() fleet.Medium {
	if r.Medium == "" {
		return fleet.FullMedium
	}
	return r.Medium
}

// mediumBy is what the BMC is given in an attempt by a route that begins after
// missed.
func (r *RouteTrack) mediumBy(route fleet.BootRoute, missed []fleet.RouteFault) fleet.Medium {
	switch {
	case !route.ByBMC() || r.Wish == fleet.FullMedium:
		return fleet.FullMedium
	case r.Wish == fleet.MinimalMedium || r.Slow || slices.ContainsFunc(missed, tooLarge):
		return fleet.MinimalMedium
	}
	return fleet.FullMedium
}

// uses tells whether the attempt needs one of the parts of a boot from the network.
func (r *RouteTrack) uses(part string) bool {
	return byNet(r.Now) || r.medium() == fleet.MinimalMedium && part == NetRootfs
}

// tooLarge tells that a route was left only for the size of its medium.
func tooLarge(m fleet.RouteFault) bool {
	return m.Medium == fleet.FullMedium && m.Cause.Code == fleet.CodeMediumSlow
}

// recallSlow takes what an attempt under whatever plan learnt about the BMC's
// link. It is believed as long as a probe.
func (w *walker) recallSlow(e fleet.Event) {
	var s staged
	if e.Action == fleet.ActStage && e.Server == w.plan.Server && w.engine.started.Sub(e.At) < ProbeLasts &&
		json.Unmarshal(e.Data, &s) == nil && slices.ContainsFunc(s.Missed, tooLarge) {
		w.track.Route.Slow = true
	}
}

// slowness says that the full medium gets to the BMC too slowly for a boot; ""
// when that is not known. late: the live system should have called by now.
func (t *Track) slowness(look Look, late bool, now time.Time, l Limits) string {
	f := look.Flow
	if !t.Route.Now.ByBMC() || t.Route.medium() != fleet.FullMedium || f.Size == 0 || f.Bytes >= f.Size {
		return ""
	}
	if f.Rate > 0 {
		whole := time.Duration(float64(f.Size) / f.Rate * float64(time.Second))
		if whole > l.BootTimeout {
			return fmt.Sprintf("the BMC gets the full medium at %s: all %s would take %s, and a boot may take %s",
				megabits(f.Rate), megabytes(f.Size), whole.Round(time.Minute), l.BootTimeout)
		}
	}
	if late && t.Route.Read == Taken && now.Sub(f.Last) < stillReading {
		return fmt.Sprintf("within %s the BMC read %s of the full medium's %s, and still reads", l.BootTimeout, megabytes(f.Bytes), megabytes(f.Size))
	}
	return ""
}

// tooSlow goes on with the minimal medium by the same route; nil when the full one
// is not known to be too slow, or when nothing else is to be given.
func (t *Track) tooSlow(look Look, late bool, now time.Time, l Limits) Decision {
	text := t.slowness(look, late, now, l)
	if text == "" || t.Route.Wish != "" && t.Route.Wish != fleet.AutoMedium || look.Unmade != "" {
		return nil
	}
	missed := []fleet.RouteFault{{Route: t.Route.Now, Medium: fleet.FullMedium, Cause: fleet.Cause{Code: fleet.CodeMediumSlow, Kind: fleet.Transient, Chain: []string{text}}}}
	return t.trying(Descend{To: t.Route.Now, Missed: missed, Why: why(missed) + "; next is the minimal medium"}, fleet.ActStage, now, l)
}

// silence is why nobody called home in time.
func (t *Track) silence(look Look, now time.Time, l Limits) Hold {
	h := overdue(fleet.CodeBootSilent, t.silent(l))
	if t.Route.medium() == fleet.MinimalMedium && t.Route.Read == Taken && look.Flow.Root == 0 {
		h.Cause.Chain = append(h.Cause.Chain, fmt.Sprintf(
			"its BMC read the minimal medium, and the server did not ask for its root file system at %s: the planned network did not lead there, or the kernel did not run", t.Reached.ByMachine))
	}
	if slow := t.slowness(look, true, now, l); slow != "" {
		h.Cause.Code, h.Cause.Chain = fleet.CodeMediumSlow, append(h.Cause.Chain, slow)
	}
	return h
}

// tally is the data of the fetch event that closes an attempt's reading.
type tally struct {
	Medium fleet.Medium `json:"medium"`
	Bytes  int64        `json:"bytes"`          // read by the BMC, as far as this engine saw
	Size   int64        `json:"size,omitempty"` // of the medium
	Root   int64        `json:"root,omitempty"` // read by the server itself
	Rate   float64      `json:"rate,omitempty"` // bytes in a second
	Final  bool         `json:"final"`
}

// noteTally writes down what the BMC read in all, once the disk is written: until
// then the live system may read on.
func (w *walker) noteTally(ctx context.Context) {
	w.mu.Lock()
	t, f := w.track, w.flowLocked()
	due := t.Written && !t.Route.Tallied && t.Route.Now.ByBMC() && t.Live.Key != "" && f.Bytes > 0
	d := tally{Medium: t.Route.medium(), Bytes: f.Bytes, Size: f.Size, Root: f.Root, Rate: f.Rate, Final: true}
	w.mu.Unlock()
	if !due {
		return
	}
	data, err := json.Marshal(d)
	if err != nil {
		return
	}
	note := fmt.Sprintf("its BMC read %s of the %s medium", megabytes(d.Bytes), d.Medium)
	if d.Rate > 0 {
		note += " at " + megabits(d.Rate)
	}
	if d.Root > 0 {
		note += fmt.Sprintf("; the server itself read %s", megabytes(d.Root))
	}
	w.record(ctx, fleet.Event{Action: fleet.ActFetch, Edge: fleet.Ended, Outcome: fleet.OK, Note: note, Data: data})
}

// foldTally folds the event of noteTally; false when e is another one.
func (t *Track) foldTally(e fleet.Event) bool {
	var d tally
	if e.Attempt != t.Attempt || json.Unmarshal(e.Data, &d) != nil || !d.Final {
		return false
	}
	t.Route.Tallied, t.Route.Fetched = true, d.Bytes
	return true
}

// served fills in what of a status is about the medium.
func (t *Track) served(s *fleet.Status, f Flow) {
	if !t.Route.Now.ByBMC() || !t.Staged && t.Route.Fetched == 0 {
		return
	}
	s.Medium, s.Fetched = t.Route.medium(), max(f.Bytes, t.Route.Fetched)
	if f.Bytes > 0 && t.Live.Key == "" && !t.Written && !t.Arrived && t.Hold == nil {
		s.Step += fmt.Sprintf("; its BMC read %s of the %s medium", megabytes(f.Bytes), s.Medium)
	}
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

// megabits tells a rate as links are told; below one in kbit/s.
func megabits(bytes float64) string {
	if bits := bytes * 8; bits < 1e6 {
		return fmt.Sprintf("%.0f kbit/s", bits/1e3)
	}
	return strings.Replace(fmt.Sprintf("%.1f Mbit/s", bytes*8/1e6), ".0 ", " ", 1)
}
