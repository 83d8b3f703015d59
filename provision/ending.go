package provision

import (
	"fmt"
	"sync/atomic"
	"time"

	"metalrise.dev/fleet"
)

// What is served ends by the clock, not only with what it was made for.
//
// The addresses of an attempt (its medium, the parts of its boot from the
// network) end Limits.MediaLife after the attempt's last sign of life, and in any
// case Limits.MediaMost after they were given away last. Signs are the attempt's
// events, what is read of the medium, and calls of its live system. A held server
// has none: from the hold on its time runs. The addresses that all servers of a
// plan share end Limits.SharedLife after the last event or call of any of them.
//
// Every sign that counts for long is in the journal, so a restarted engine comes
// to the same end; what was not written down yet is a quarter of MediaLife at most.

// latest is the latest of some times.
func latest(first time.Time, rest ...time.Time) time.Time {
	for _, t := range rest {
		first = later(first, t)
	}
	return first
}

// isSign tells that an event shows work going on. That somebody asked for what
// has ended does not.
func isSign(e fleet.Event) bool { return e.Action != fleet.ActFetch || e.Edge != fleet.Progressed }

// signed folds an event as a sign of life of its attempt.
func (t *Track) signed(e fleet.Event) {
	if t.Hold != nil || !isSign(e) {
		return
	}
	t.Route.Sign = later(t.Route.Sign, e.At)
	switch e.Action {
	case fleet.ActStage, fleet.ActInsert, fleet.ActBootOnce, fleet.ActPowerOn:
		t.Route.Given = later(t.Route.Given, e.At)
	}
}

// endLocked is when the addresses of the current attempt end.
func (w *walker) endLocked() time.Time {
	t, l := w.track, w.engine.Limits
	sign, given := t.Route.Sign, t.Route.Given
	if t.Hold == nil {
		told, read := w.meter.times(t.Attempt)
		sign, given = latest(sign, w.heard, told, read), later(given, told)
	}
	end := sign.Add(l.MediaLife)
	if most := given.Add(l.MediaMost); most.Before(end) {
		return most
	}
	return end
}

// endedLocked tells that the current attempt's addresses have ended, and when.
func (w *walker) endedLocked(now time.Time) (time.Time, bool) {
	end := w.endLocked()
	return end, !now.Before(end)
}

// lateEach is how often it is journaled that somebody asks for what has ended.
const lateEach = time.Minute

// lateLocked journals that somebody asked for an address after its end.
func (w *walker) lateLocked(what ResourceKind, end, now time.Time) {
	if now.Sub(w.late) < lateEach {
		return
	}
	w.late = now
	err := w.recordLocked(w.run.ctx, fleet.Event{Action: fleet.ActFetch, Edge: fleet.Progressed, Note: lateNote(what, end)})
	if err != nil {
		w.engine.Log.Warn("journal", "server", w.plan.Server, "error", err)
	}
}

func lateNote(what ResourceKind, end time.Time) string {
	return fmt.Sprintf("an address was asked for after its end and refused: %s, ended %s", what, end.UTC().Format(time.RFC3339))
}

// shelf is what is known of the addresses that all servers of a plan share.
type shelf struct {
	sign atomic.Int64 // the last event or call of any server, in nanoseconds since 1970
	late atomic.Int64 // when a request after the end was journaled last
}

// signed hears of a sign of life.
func (s *shelf) signed(at time.Time) {
	for n := at.UnixNano(); ; {
		was := s.sign.Load()
		if n <= was || s.sign.CompareAndSwap(was, n) {
			return
		}
	}
}

// sharedEnded tells that what all servers share has ended, and when. It journals
// that somebody asked.
func (e *Engine) sharedEnded(r *run, what ResourceKind, now time.Time) (time.Time, bool) {
	end := time.Unix(0, r.shelf.sign.Load()).Add(e.Limits.SharedLife)
	if now.Before(end) {
		return end, false
	}
	was := r.shelf.late.Load()
	if now.Sub(time.Unix(0, was)) >= lateEach && r.shelf.late.CompareAndSwap(was, now.UnixNano()) {
		_, err := e.Journal.Append(r.ctx, fleet.Event{At: now, Plan: r.plan.ID, Action: fleet.ActFetch, Edge: fleet.Progressed, Note: lateNote(what, end)})
		if err != nil {
			e.Log.Warn("journal", "error", err)
		}
	}
	return end, true
}

// Told hears that a guest's firmware was told where to boot from: the time of its
// addresses begins anew. It does not block.
func (e *Engine) Told(g NetGuest) {
	r := e.current()
	if r == nil || r.servers[g.Server] == nil {
		return
	}
	w := r.servers[g.Server]
	if w.meter.tell(g.Attempt, time.Now(), e.noteEach()) {
		w.rouse()
	}
}

// noteEach is how often a sign of life that is no event of its own is written down.
func (e *Engine) noteEach() time.Duration { return e.Limits.MediaLife / 4 }
