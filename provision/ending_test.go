package provision

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

// bubble runs a test with a clock of its own on a world with one server, and
// stops everything at its end.
func bubble(t *testing.T, w func() *world, test func(t *testing.T, w *world, e *Engine)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := w()
		e, err := w.boot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		test(t, w, e)
		w.kill()
		w.engine.Load().Wait()
		w.unplug()
	})
}

// again kills the engine and starts another one after a pause.
func (w *world) again(t *testing.T, pause time.Duration) *Engine {
	t.Helper()
	w.kill()
	w.engine.Load().Wait()
	time.Sleep(pause)
	e, err := w.boot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// keys gives the keys of the current attempt of a server, by what they open, and
// those that the servers share.
func keysOf(e *Engine, id fleet.ServerID) map[ResourceKind]string {
	r := e.current()
	w := r.servers[id]
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[ResourceKind]string{
		LiveMedium:   r.keys.derive(mediumGrant(id, w.track.Attempt)),
		DiskImage:    r.keys.derive(grant{kind: string(DiskImage)}),
		AgentProgram: r.keys.derive(grant{kind: string(AgentProgram)}),
	}
	if byNet(w.track.Route.Now) {
		out[NetArtefact] = r.keys.derive(netGrant(id, w.track.Attempt, NetRootfs))
	}
	return out
}

// wantOpen fails unless a key opens now, or has ended if that is wanted.
func wantOpen(t *testing.T, e *Engine, key string, want bool, when string) {
	t.Helper()
	res, ok, err := e.Open(key)
	if err != nil || ok != want || ok == !res.Ended.IsZero() {
		t.Errorf("%s: open %t, ended %v, want open %t (%v)", when, ok, res.Ended, want, err)
	}
}

func lateNotes(w *world) (n int) {
	for _, e := range w.journal() {
		if e.Action == fleet.ActFetch && strings.Contains(e.Note, "after its end") {
			n++
		}
	}
	return n
}

func awaited() *world {
	w := laddered(1)
	w.unattended = true
	return w
}

// TestAddressesOfAHeldServerEnd half an hour (three boots of this world) after the
// hold, whoever reads or calls, and stay ended when the engine is started anew.
func TestAddressesOfAHeldServerEnd(t *testing.T) {
	bubble(t, func() *world {
		w := newWorld(1)
		w.servers["SN001"].agentGivesUp = true
		return w
	}, func(t *testing.T, w *world, e *Engine) {
		time.Sleep(10 * time.Minute)
		if s := e.Overview().Servers[0]; s.Condition != fleet.Held {
			t.Fatalf("not held: %+v", s)
		}
		key := keysOf(e, "SN001")[LiveMedium]
		wantOpen(t, e, key, true, "soon after the hold")
		for range 8 {
			time.Sleep(5 * time.Minute)
			e.Fetched(key, 1<<20, 0)
		}
		wantOpen(t, e, key, false, "later, although it is still read")
		wantOpen(t, e, key, false, "at once again")
		if n := lateNotes(w); n != 1 {
			t.Errorf("%d lines in the journal, want one a minute", n)
		}
		e = w.again(t, time.Minute)
		wantOpen(t, e, key, false, "with another engine")
		if n := lateNotes(w); n != 2 {
			t.Errorf("%d lines in the journal", n)
		}
		if err := e.Retry(t.Context(), "SN001", "test"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		wantOpen(t, e, keysOf(e, "SN001")[LiveMedium], true, "of the next attempt")
		if res, ok, _ := e.Open(key); ok || !res.Ended.IsZero() {
			t.Errorf("the old address is still known: %+v", res)
		}
	})
}

// TestAddressesAreRenewedWhenTold lets an unattended server wait for days.
func TestAddressesAreRenewedWhenTold(t *testing.T) {
	bubble(t, awaited, func(t *testing.T, w *world, e *Engine) {
		time.Sleep(time.Minute)
		keys := keysOf(e, "SN001")
		wantOpen(t, e, keys[NetArtefact], true, "at the beginning")
		time.Sleep(time.Hour)
		wantOpen(t, e, keys[NetArtefact], false, "after an hour in which nothing came")
		wantOpen(t, e, keys[LiveMedium], false, "after an hour in which nothing came")
		for range 3 * 24 { // such machines ask again and again, but nobody takes them
			time.Sleep(time.Hour)
		}
		w.servers["SN001"].press()
		wantOpen(t, e, keys[NetArtefact], true, "when it was told")
		time.Sleep(time.Hour)
		if s := e.Overview().Servers[0]; s.Condition != fleet.Settled {
			t.Errorf("not installed after days: %+v", s)
		}
	})
}

// TestReadingKeepsAnAddress while it lasts, over a restart of the engine, but not
// for longer than a day.
func TestReadingKeepsAnAddress(t *testing.T) {
	bubble(t, awaited, func(t *testing.T, w *world, e *Engine) {
		time.Sleep(time.Minute)
		key := keysOf(e, "SN001")[NetArtefact]
		read := func(e *Engine, hours int) {
			for range hours * 12 {
				time.Sleep(5 * time.Minute)
				e.Fetched(key, 1<<20, 0)
			}
		}
		read(e, 10)
		wantOpen(t, e, key, true, "while it is read")
		time.Sleep(time.Second)
		before := e.current().servers["SN001"]
		before.mu.Lock()
		was := before.endLocked()
		before.mu.Unlock()
		e = w.again(t, 0)
		after := e.current().servers["SN001"]
		after.heard = time.Time{} // the engine's own start, which counts too
		after.mu.Lock()
		is := after.endLocked()
		after.mu.Unlock()
		if lost := was.Sub(is); lost < 0 || lost > e.noteEach() {
			t.Errorf("another engine ends it %s sooner, at most %s may be lost", lost, e.noteEach())
		}
		read(e, 10)
		wantOpen(t, e, key, true, "after 20 hours of reading")
		read(e, 5)
		wantOpen(t, e, key, false, "after 25 hours of reading")
		g := e.NetGuests()[0]
		e.Told(g)
		wantOpen(t, e, key, true, "when it was told again")
		fetches := 0
		for _, ev := range w.journal() {
			if ev.Action == fleet.ActFetch {
				fetches++
			}
		}
		if fetches > 25*60/7 {
			t.Errorf("%d events for 25 hours of reading", fetches)
		}
	})
}

// TestToldIsRemembered by another engine: a machine that is under way when the
// engine is killed finds the rest of what it boots.
func TestToldIsRemembered(t *testing.T) {
	bubble(t, awaited, func(t *testing.T, w *world, e *Engine) {
		time.Sleep(50 * time.Hour)
		key := keysOf(e, "SN001")[NetArtefact]
		wantOpen(t, e, key, false, "before it was told")
		e.Told(e.NetGuests()[0])
		time.Sleep(time.Second)
		e = w.again(t, time.Second)
		wantOpen(t, e, key, true, "with another engine")
	})
}

// TestWhatServersShareEnds a week after the last sign of any of them.
func TestWhatServersShareEnds(t *testing.T) {
	bubble(t, awaited, func(t *testing.T, w *world, e *Engine) {
		time.Sleep(time.Minute)
		keys := keysOf(e, "SN001")
		for _, kind := range []ResourceKind{DiskImage, AgentProgram} {
			wantOpen(t, e, keys[kind], true, "at the beginning: "+string(kind))
		}
		time.Sleep(8 * 24 * time.Hour)
		for _, kind := range []ResourceKind{DiskImage, AgentProgram} {
			wantOpen(t, e, keys[kind], false, "after a week: "+string(kind))
		}
		e = w.again(t, time.Minute)
		wantOpen(t, e, keys[AgentProgram], false, "with another engine")
		if n := lateNotes(w); n != 2 {
			t.Errorf("%d lines in the journal", n)
		}
		w.servers["SN001"].press()
		time.Sleep(time.Hour)
		if s := e.Overview().Servers[0]; s.Condition != fleet.Settled {
			t.Errorf("a machine that comes late is not installed: %+v", s)
		}
		wantOpen(t, e, keys[DiskImage], true, "after work went on")
	})
}

// TestEndedMediumIsWrittenForAPerson: who carries a drive waits for no clock.
func TestEndedMediumIsWrittenForAPerson(t *testing.T) {
	bubble(t, func() *world {
		w := laddered(1)
		w.servers["SN001"].noDrive, w.servers["SN001"].noNet = true, true
		return w
	}, func(t *testing.T, w *world, e *Engine) {
		time.Sleep(5 * 24 * time.Hour)
		res, err := e.Medium("SN001")
		if err != nil {
			t.Fatal(err)
		}
		wantOpen(t, e, res.Key, false, "over the network")
		config, err := res.Ignition()
		if err != nil || !strings.Contains(string(config), string(callhome.Live)) {
			t.Errorf("%q, %v", config, err)
		}
	})
}
