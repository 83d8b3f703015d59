package provision

import (
	"context"
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

// slow is a world with a second plan and slow storage.
type slow struct {
	*world
	other   fleet.Plan
	consent time.Duration // how long a consent takes to become durable
	facts   time.Duration // how long facts take
}

func newSlow(n int) *slow {
	s := &slow{world: newWorld(n)}
	s.other = s.plan
	s.other.Assignments = append([]fleet.Assignment(nil), s.plan.Assignments...)
	s.other.Assignments[0].Hostname = "changed"
	if err := s.other.Seal(); err != nil {
		panic(err)
	}
	return s
}

func (s *slow) Plan(ctx context.Context, id string) (fleet.Plan, bool, error) {
	if id == s.other.ID {
		return s.other, true, nil
	}
	return s.world.Plan(ctx, id)
}

func (s *slow) Append(ctx context.Context, ev ...fleet.Event) ([]fleet.Event, error) {
	if ev[0].Action == fleet.ActConsent {
		time.Sleep(s.consent)
	}
	return s.world.Append(ctx, ev...)
}

func (s *slow) KeepFacts(ctx context.Context, id fleet.ServerID, f fleet.Facts) error {
	time.Sleep(s.facts)
	return s.world.KeepFacts(ctx, id, f)
}

// engine makes an engine on the slow world; end ends it and all machines.
func (s *slow) start(t *testing.T) (e *Engine, ctx context.Context, end func()) {
	t.Helper()
	ctx, kill := context.WithCancel(t.Context())
	e, err := NewEngine(Config{Site: "osaka", Journal: s, Archive: s, BMCs: s.world, Configs: s.world, Routes: s.world,
		Secret: []byte("0123456789abcdef0123456789abcdef"), Image: callhome.Image{SHA256: "good", Format: "raw.zst"}, Limits: Limits{BootTimeout: 10 * time.Minute}})
	if err != nil {
		t.Fatal(err)
	}
	s.engine.Store(e)
	return e, ctx, func() {
		kill()
		e.Wait()
		s.unplug()
	}
}

func (s *slow) plansThatActed() map[string]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]bool{}
	for _, ev := range s.events {
		if ev.Edge == fleet.Began {
			out[ev.Plan] = true
		}
	}
	return out
}

func TestOnlyOneOfTwoPlansIsApplied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlow(2)
		s.consent = 5 * time.Millisecond
		e, ctx, end := s.start(t)
		defer end()
		results := make(chan error, 2)
		for _, id := range []string{s.plan.ID, s.other.ID} {
			go func() { results <- e.Apply(ctx, fleet.Consent{Plan: id, EraseDisks: 2}) }()
		}
		a, b := <-results, <-results
		if (a == nil) == (b == nil) {
			t.Errorf("results %v and %v, want one refused", a, b)
		}
		time.Sleep(90 * time.Minute)
		if acted := s.plansThatActed(); len(acted) != 1 {
			t.Errorf("%d plans acted", len(acted))
		}
		for id, r := range s.servers {
			r.mu.Lock()
			if r.writes != 1 || r.powerOffs != 1 {
				t.Errorf("%s: %d writes, power cut %d times", id, r.writes, r.powerOffs)
			}
			r.mu.Unlock()
		}
	})
}

func TestAnotherPlanIsRefusedRightAfterARetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlow(1)
		s.servers["SN001"].swapped = true
		e, ctx, end := s.start(t)
		defer end()
		if err := e.Apply(ctx, fleet.Consent{Plan: s.plan.ID, EraseDisks: 1}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if !e.Quiet() {
			t.Fatal("not held")
		}
		if err := e.Retry(ctx, "SN001", "test"); err != nil {
			t.Fatal(err)
		}
		if err := e.Apply(ctx, fleet.Consent{Plan: s.other.ID, EraseDisks: 1}); fleet.CodeOf(err) != fleet.CodeSiteLocked {
			t.Errorf("apply another plan: %v, want %s", err, fleet.CodeSiteLocked)
		}
	})
}

func TestWithdrawnConsentIsNotResumed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlow(2)
		s.servers["SN001"].dead, s.servers["SN002"].dead = true, true
		e, ctx, end := s.start(t)
		if err := e.Apply(ctx, fleet.Consent{Plan: s.plan.ID, EraseDisks: 2}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		if err := e.Withdraw(ctx, "test"); err != nil {
			t.Fatal(err)
		}
		n := len(s.journal())
		time.Sleep(time.Hour)
		if len(s.journal()) != n {
			t.Errorf("%d events after the consent was taken back", len(s.journal())-n)
		}
		end()
		e, ctx, end = s.start(t)
		defer end()
		if err := e.Resume(ctx); err != nil || len(e.Overview().Servers) != 0 {
			t.Errorf("resume: %v, %d servers", err, len(e.Overview().Servers))
		}
	})
}

func TestStalePlansAreRefused(t *testing.T) {
	for name, spoil := range map[string]func(*fleet.Plan){
		"another release's ISO":  func(p *fleet.Plan) { p.Image.ISOSHA256 = "other" },
		"another release's disk": func(p *fleet.Plan) { p.Image.DiskSHA256 = "other" },
		"another site":           func(p *fleet.Plan) { p.Site = "kobe" },
		"a server twice":         func(p *fleet.Plan) { p.Assignments = append(p.Assignments, p.Assignments[0]) },
		"another config":         func(p *fleet.Plan) { p.Assignments[0].Ignition = "other" },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSlow(1)
				spoil(&s.plan)
				if err := s.plan.Seal(); err != nil {
					t.Fatal(err)
				}
				e, ctx, end := s.start(t)
				defer end()
				err := e.Apply(ctx, fleet.Consent{Plan: s.plan.ID, EraseDisks: len(s.plan.ErasedDisks())})
				if fleet.CodeOf(err) != fleet.CodePlanStale || len(s.journal()) != 0 {
					t.Errorf("%v with %d events, want %s", err, len(s.journal()), fleet.CodePlanStale)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) { // damaged in the store
		s := newSlow(1)
		s.plan.Assignments[0].InstallDisk.Serial = "ANOTHER"
		e, ctx, end := s.start(t)
		defer end()
		if err := e.Apply(ctx, fleet.Consent{Plan: s.plan.ID, EraseDisks: 1}); fleet.CodeOf(err) != fleet.CodePlanStale {
			t.Errorf("a plan that was changed after it was made: %v", err)
		}
	})
}

func TestOldLiveSystemDoesNotGetTheNewAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlow(1)
		r := s.servers["SN001"]
		r.silentLive = 9
		e, ctx, end := s.start(t)
		defer end()
		if err := e.Apply(ctx, fleet.Consent{Plan: s.plan.ID, EraseDisks: 1}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(45 * time.Minute) // both attempts are over: held
		w := e.current().servers["SN001"]
		attempt := w.status(time.Now()).Attempt
		old := Caller{Token: e.current().keys.derive(liveGrant("SN001", attempt)), KeyHash: "OLD"}
		hello := callhome.Hello{Protocol: callhome.Protocol, Stage: callhome.Live, Server: "SN001", Plan: s.plan.ID, Attempt: attempt, Facts: r.look()}
		if err := e.Retry(ctx, "SN001", "test"); err != nil {
			t.Fatal(err)
		}
		for range 200 {
			if o, err := e.Hello(ctx, old, hello); err == nil && o.Verb == callhome.Go {
				t.Fatal("the live system of the old attempt was let write")
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
}

func TestAWritingMachineIsNotHeldForItsBMC(t *testing.T) {
	now := time.Now()
	tr := NewTrack("S", "P")
	fold := func(e fleet.Event) {
		e.Server, e.Plan, e.At = "S", "P", now
		tr.Fold(e)
	}
	bound, err := json.Marshal(Bound{Key: "k"})
	if err != nil {
		t.Fatal(err)
	}
	fold(fleet.Event{Action: fleet.ActStage, Edge: fleet.Ended, Outcome: fleet.OK, Attempt: 1, Data: []byte(`{}`)})
	fold(fleet.Event{Action: fleet.ActPowerOn, Edge: fleet.Began})
	fold(fleet.Event{Action: fleet.ActHello, Edge: fleet.Ended, Outcome: fleet.OK, Data: bound})
	fold(fleet.Event{Action: fleet.ActWrite, Edge: fleet.Began})
	for range 5 {
		fold(fleet.Event{Action: fleet.ActPowerOn, Edge: fleet.Ended, Outcome: fleet.Uncertain, Cause: &fleet.Cause{Code: fleet.CodeBMCUnreachable, Kind: fleet.UnsureKind}})
	}
	if d, ok := Next(tr, Look{Heard: now}, now, Limits{}.withDefaults()).(Wait); !ok {
		t.Errorf("%+v, want to wait for the agent", d)
	}
}

func TestAValidKeyIsNeverFinallyRefusedWhileTheEngineStarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlow(1)
		e, _, end := s.start(t)
		defer end()
		if _, ok, err := e.Open(newKeyring(e.Secret, s.plan.ID).derive(grant{kind: string(DiskImage)})); ok || fleet.KindOf(err) != fleet.Transient {
			t.Errorf("before resume: %v, %v, want a transient fault", ok, err)
		}
	})
}

func TestAnOldIdentifyIsNotActedOn(t *testing.T) {
	now := time.Now()
	tr := NewTrack("S", "P")
	fold := func(at time.Time, a fleet.Action, data string) {
		tr.Fold(fleet.Event{Server: "S", Plan: "P", At: at, Action: a, Edge: fleet.Ended, Outcome: fleet.OK, Attempt: 1, Data: []byte(data)})
	}
	old := now.Add(-time.Hour)
	fold(old, fleet.ActStage, `{}`)
	fold(old, fleet.ActIdentify, `{"power":"off"}`)
	fold(old, fleet.ActInsert, ``)
	l := Limits{}.withDefaults()
	if d, ok := Next(tr, Look{}, now, l).(Act); !ok || d.Action != fleet.ActIdentify {
		t.Errorf("%+v, want to identify again", d)
	}
	fold(now, fleet.ActIdentify, `{"power":"on"}`)
	if d, ok := Next(tr, Look{}, now, l).(Act); !ok || d.Action != fleet.ActPowerOff {
		t.Errorf("%+v, want the power off, which is on by now", d)
	}
}

func TestFutureEventsAreTakenAsNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlow(1)
		future := time.Now().AddDate(5, 0, 0)
		s.events = []fleet.Event{{Seq: 1, At: future, Plan: s.plan.ID, Action: fleet.ActConsent}, {Seq: 2, At: future, Server: "SN001", Plan: s.plan.ID,
			Action: fleet.ActStage, Edge: fleet.Ended, Outcome: fleet.Failed, Cause: &fleet.Cause{Kind: fleet.Transient}}}
		e, ctx, end := s.start(t)
		defer end()
		if err := e.Resume(ctx); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if o := e.Overview(); o.Servers[0].Condition != fleet.Settled {
			t.Errorf("after the clock was set back: %+v", o.Servers[0])
		}
	})
}
