package provision

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

// Caller is who calls home, as the transport saw it.
type Caller struct {
	Token   string // as shown
	KeyHash string // SHA-256 of the client certificate's public key, hexadecimal; "" without one
	Address string
}

// longPoll is how long a call that must wait is kept open. Machines then hear
// at once, and a broken connection costs no more than this.
const longPoll = 20 * time.Second

// Hello judges a machine that presents itself.
func (e *Engine) Hello(ctx context.Context, c Caller, h callhome.Hello) (callhome.Orders, error) {
	w, g, err := e.caller(c)
	if err != nil {
		return callhome.Orders{}, err
	}
	if h.Protocol != callhome.Protocol {
		return callhome.Orders{}, fleet.NewFault(fleet.CodeTokenRefused, fleet.Invalid, nil, "protocol %d, this metalrise speaks %d", h.Protocol, callhome.Protocol)
	}
	if string(h.Stage) != g.kind || h.Server != g.server || h.Plan != w.run.plan.ID && (w.plan.Kept == "" || h.Plan != w.plan.Kept) {
		return callhome.Orders{}, refused("the token belongs to another server, plan or stage")
	}
	if h.Stage == callhome.Installed {
		return w.arrive(ctx, c, h)
	}
	return w.welcome(ctx, c, g, h)
}

// caller finds the server to whom a token belongs.
func (e *Engine) caller(c Caller) (*walker, grant, error) {
	r := e.current()
	if r == nil {
		return nil, grant{}, fleet.NewFault(fleet.CodePlanUnknown, fleet.Transient, nil, "no plan is being applied")
	}
	g, ok := r.keys.find(c.Token)
	w := r.servers[g.server]
	if !ok || w == nil {
		return nil, grant{}, refused("the token is not in force")
	}
	if c.KeyHash == "" {
		return nil, grant{}, refused("no client certificate was shown")
	}
	return w, g, nil
}

func refused(why string) error {
	return fleet.NewFault(fleet.CodeTokenRefused, fleet.Denied, nil, "%s", why)
}

// welcome judges a live system and, if it is as planned, grants the write.
func (w *walker) welcome(ctx context.Context, c Caller, g grant, h callhome.Hello) (callhome.Orders, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.track
	if g.attempt != t.Attempt { // another attempt began while this call was on its way
		return callhome.Orders{}, refused("the token is not in force")
	}
	if t.Live.Key != "" {
		if t.Live.Key == c.KeyHash {
			w.hear()
			return w.ordersLocked()
		}
		return callhome.Orders{}, w.strangerLocked(ctx, c)
	}
	erasing := w.erasesLocked()
	if t.Hold != nil && !t.awaitsHand() || t.Written && !erasing {
		return w.ordersLocked()
	}
	w.hear()
	if err := w.engine.Archive.KeepFacts(ctx, w.plan.Server, h.Facts); err != nil {
		return callhome.Orders{}, err
	}
	bound, err := json.Marshal(Bound{Key: c.KeyHash, Instance: clip(h.Instance)})
	if err != nil {
		return callhome.Orders{}, err
	}
	if cause := Fit(w.engine.Site, w.plan, h.Facts); cause != nil {
		*cause = trim(*cause)
		err := w.recordLocked(ctx,
			fleet.Event{Action: fleet.ActHello, Edge: fleet.Ended, Outcome: fleet.Failed, Cause: cause},
			fleet.Event{Action: fleet.ActHold, Edge: fleet.Ended, Outcome: fleet.Failed, Cause: cause})
		if err != nil {
			return callhome.Orders{}, err
		}
		return w.ordersLocked()
	}
	note := "the live system called home from " + c.Address
	if off := clockOff(h.Facts, time.Now()); off != "" {
		note += "; " + off
	}
	// The grant is durable before the machine hears of it, in one commit with
	// the reason for it.
	grant := fleet.Event{Action: fleet.ActWrite, Edge: fleet.Began, Note: "erase and write disk " + w.plan.InstallDisk.String()}
	if erasing {
		grant = fleet.Event{Action: fleet.ActErase, Edge: fleet.Began, Note: "erase disk " + w.plan.InstallDisk.String()}
	}
	err = w.recordLocked(ctx, fleet.Event{Action: fleet.ActHello, Edge: fleet.Ended, Outcome: fleet.OK, Data: bound, Note: note}, grant)
	if err != nil {
		return callhome.Orders{}, err
	}
	return w.ordersLocked()
}

// strangerLocked refuses a second machine, or a second boot, with a token that
// is bound already. After the restart was granted it means that the machine
// booted the medium again, which needs a person.
func (w *walker) strangerLocked(ctx context.Context, c Caller) error {
	err := refused("the token was redeemed by another boot")
	cause := fleet.CauseOf(fmt.Errorf("hello of %s from %s: %w", w.plan.Server, c.Address, err))
	var events []fleet.Event
	if now := time.Now(); now.Sub(w.stranger) >= time.Minute { // it comes again and again
		w.stranger = now
		events = append(events, fleet.Event{Action: fleet.ActProgress, Edge: fleet.Progressed, Cause: cause, Note: "a token was shown twice and refused"})
	}
	if w.track.Marks[fleet.ActRestart].OK && !w.track.Arrived && w.track.Hold == nil {
		cause = &fleet.Cause{Code: fleet.CodeWrongBoot, Kind: fleet.Conflict, Chain: []string{"the machine came back with the live system after its disk was written"}}
		events = append(events, fleet.Event{Action: fleet.ActHold, Edge: fleet.Ended, Outcome: fleet.Failed, Cause: cause})
	}
	if len(events) > 0 {
		if e := w.recordLocked(ctx, events...); e != nil {
			return e
		}
	}
	return err
}

// Admit tells whether a caller may speak at all, before its message is read.
func (e *Engine) Admit(c Caller) error {
	if e.asks(c.Token) {
		return nil // its one call finds out the rest
	}
	_, _, err := e.caller(c)
	return err
}

// Progress hears how far a write is.
func (e *Engine) Progress(ctx context.Context, c Caller, p callhome.Progress) (callhome.Orders, error) {
	w, err := e.live(c)
	if err != nil {
		return callhome.Orders{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.boundLocked(c); err != nil {
		return callhome.Orders{}, err
	}
	w.hear()
	w.done, w.total = p.Done, p.Total
	// Thinned out: who watches a journal needs a sign of life, not every step.
	if now := time.Now(); now.Sub(w.told) >= 5*time.Second {
		w.told = now
		data, err := json.Marshal(map[string]int64{"done": p.Done, "total": p.Total})
		if err != nil {
			return callhome.Orders{}, err
		}
		if err := w.recordLocked(ctx, fleet.Event{Action: fleet.ActWrite, Edge: fleet.Progressed, Data: data, Note: p.Step}); err != nil {
			return callhome.Orders{}, err
		}
	}
	return w.ordersLocked()
}

// Written hears that the disk is written, and answers when the machine may
// restart: after the medium was ejected.
func (e *Engine) Written(ctx context.Context, c Caller, m callhome.Written) (callhome.Orders, error) {
	w, err := e.live(c)
	if err != nil {
		return callhome.Orders{}, err
	}
	if err := w.acceptWrite(ctx, c, m); err != nil {
		return callhome.Orders{}, err
	}
	until := time.NewTimer(longPoll)
	defer until.Stop()
	for {
		w.mu.Lock()
		o, err := w.ordersLocked()
		changed := w.changed
		w.mu.Unlock()
		if err != nil || o.Verb != callhome.Wait {
			return o, err
		}
		select {
		case <-changed:
		case <-until.C:
			return o, nil
		case <-ctx.Done():
			return o, ctx.Err()
		}
	}
}

func (w *walker) acceptWrite(ctx context.Context, c Caller, m callhome.Written) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.boundLocked(c); err != nil {
		return err
	}
	w.hear()
	if w.track.Written || w.track.Hold != nil {
		return nil
	}
	if !w.track.Granted {
		return refused("no write was granted")
	}
	data, err := json.Marshal(writeResult{clip(m.SHA256), m.Bytes, m.Seconds})
	if err != nil {
		return err
	}
	done := fleet.Event{Action: fleet.ActWrite, Edge: fleet.Ended, Outcome: fleet.OK, Data: data}
	want := w.engine.Image.SHA256
	wrote := fleet.Disk{WWN: m.Disk.WWN, Serial: m.Disk.Serial, SizeBytes: fleet.Known(m.Disk.SizeBytes)}
	switch {
	case !w.plan.InstallDisk.Match(wrote):
		done.Outcome = fleet.Failed
		done.Cause = fleet.CauseOf(fleet.NewFault(fleet.CodeDiskChanged, fleet.Conflict, nil, "the machine wrote disk serial %.80q wwn %.80q, planned is %s", m.Disk.Serial, m.Disk.WWN, w.plan.InstallDisk))
	case m.SHA256 != want:
		done.Outcome = fleet.Failed
		done.Cause = fleet.CauseOf(fleet.NewFault(fleet.CodeImageMismatch, fleet.Conflict, nil, "the machine wrote data with sha256 %.64q, planned is %s", m.SHA256, want))
	}
	return w.recordLocked(ctx, done)
}

// Failed hears that the agent cannot go on.
func (e *Engine) Failed(ctx context.Context, c Caller, m callhome.Failed) (callhome.Orders, error) {
	w, err := e.live(c)
	if err != nil {
		return callhome.Orders{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.boundLocked(c); err != nil {
		return callhome.Orders{}, err
	}
	w.hear()
	did := fleet.ActWrite
	if w.erasesLocked() {
		did = fleet.ActErase
	}
	if w.track.Hold != nil || w.track.Written && did == fleet.ActWrite {
		return w.ordersLocked()
	}
	cause := reported(m.Cause)
	err = w.recordLocked(ctx,
		fleet.Event{Action: did, Edge: fleet.Ended, Outcome: fleet.Failed, Cause: &cause},
		fleet.Event{Action: fleet.ActHold, Edge: fleet.Ended, Outcome: fleet.Failed, Cause: &cause})
	if err != nil {
		return callhome.Orders{}, err
	}
	return w.ordersLocked()
}

// reported is a cause as a machine tells it: it does not name the engine's own
// findings, some of which end by themselves.
func reported(c fleet.Cause) fleet.Cause {
	if !callhome.Reportable(c.Code) {
		c.Code = fleet.CodeAgentFailed
	}
	return trim(c)
}

// trim keeps what a machine says within bounds, and gives it a known code.
func trim(c fleet.Cause) fleet.Cause {
	if _, ok := fleet.Page(c.Code); !ok {
		c.Code = fleet.CodeAgentFailed
	}
	switch c.Kind {
	case fleet.Transient, fleet.Denied, fleet.Unsupported, fleet.Conflict, fleet.Invalid, fleet.UnsureKind:
	default:
		c.Kind = fleet.Conflict
	}
	c.Chain = append([]string(nil), c.Chain[:min(len(c.Chain), 20)]...)
	for i, s := range c.Chain {
		c.Chain[i] = clip(s)
	}
	return c
}

// clip bounds a text that a machine chose.
func clip(s string) string { return strings.ToValidUTF8(s[:min(len(s), 1000)], "?") }

func (e *Engine) live(c Caller) (*walker, error) {
	w, g, err := e.caller(c)
	if err == nil && g.kind != string(callhome.Live) {
		err = refused("the token is not a live system's")
	}
	return w, err
}

func (w *walker) boundLocked(c Caller) error {
	if w.track.Live.Key != c.KeyHash {
		return refused("the token was redeemed by another boot")
	}
	return nil
}

// hear notes a sign of life. The walker counts silence from it.
func (w *walker) hear() {
	w.heard = time.Now()
	w.run.shelf.signed(w.heard)
	w.rouse()
}
