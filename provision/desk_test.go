package provision

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

// TestDeskRefuses calls an engine that waits for one live system in every way
// that must not lead to a write.
func TestDeskRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(2)
		w.servers["SN001"].silentLive = 99 // the test speaks in its place
		w.servers["SN002"].silentLive = 99
		e, err := w.boot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		tokens := e.current().keys
		good := tokens.derive(liveGrant("SN001", 1))
		hello := func(change func(*callhome.Hello)) callhome.Hello {
			h := callhome.Hello{Protocol: callhome.Protocol, Stage: callhome.Live, Server: "SN001", Plan: w.plan.ID, Facts: w.servers["SN001"].look()}
			change(&h)
			return h
		}
		same := func(*callhome.Hello) {}
		for name, c := range map[string]struct {
			caller Caller
			hello  callhome.Hello
		}{
			"no token":                 {Caller{KeyHash: "k"}, hello(same)},
			"unknown token":            {Caller{Token: strings.Repeat("0", 32), KeyHash: "k"}, hello(same)},
			"no client certificate":    {Caller{Token: good}, hello(same)},
			"another server":           {Caller{Token: good, KeyHash: "k"}, hello(func(h *callhome.Hello) { h.Server = "SN002" })},
			"another server's token":   {Caller{Token: tokens.derive(liveGrant("SN002", 1)), KeyHash: "k"}, hello(same)},
			"another plan":             {Caller{Token: good, KeyHash: "k"}, hello(func(h *callhome.Hello) { h.Plan = "other" })},
			"another stage":            {Caller{Token: good, KeyHash: "k"}, hello(func(h *callhome.Hello) { h.Stage = callhome.Installed })},
			"another protocol":         {Caller{Token: good, KeyHash: "k"}, hello(func(h *callhome.Hello) { h.Protocol = 99 })},
			"a token not yet in force": {Caller{Token: tokens.derive(liveGrant("SN001", 2)), KeyHash: "k"}, hello(same)},
			"a media key":              {Caller{Token: tokens.derive(mediumGrant("SN001", 1)), KeyHash: "k"}, hello(same)},
			"installed before it was":  {Caller{Token: tokens.derive(installedGrant("SN001")), KeyHash: "k"}, hello(func(h *callhome.Hello) { h.Stage = callhome.Installed })},
		} {
			if o, err := e.Hello(t.Context(), c.caller, c.hello); err == nil {
				t.Errorf("%s: got orders %+v", name, o)
			} else if k := fleet.KindOf(err); k != fleet.Denied && k != fleet.Invalid {
				t.Errorf("%s: %v is of kind %s", name, err, k)
			}
		}
		caller := Caller{Token: good, KeyHash: "k"}
		if _, err := e.Written(t.Context(), caller, callhome.Written{SHA256: "good"}); err == nil {
			t.Error("a write was accepted before a hello")
		}
		for _, ev := range w.journal() {
			if ev.Action == fleet.ActWrite {
				t.Fatalf("a write was granted: %+v", ev)
			}
		}
		if o, err := e.Hello(t.Context(), caller, hello(same)); err != nil || o.Verb != callhome.Go {
			t.Fatalf("the right caller: %+v, %v", o, err)
		}
		if o, err := e.Hello(t.Context(), caller, hello(same)); err != nil || o.Verb != callhome.Go {
			t.Errorf("the same call again: %+v, %v", o, err)
		}
		other := Caller{Token: good, KeyHash: "other"}
		if _, err := e.Progress(t.Context(), other, callhome.Progress{}); fleet.KindOf(err) != fleet.Denied {
			t.Errorf("progress with another key: %v", err)
		}
		if _, err := e.Written(t.Context(), other, callhome.Written{SHA256: "good"}); fleet.KindOf(err) != fleet.Denied {
			t.Errorf("written with another key: %v", err)
		}
		grants := 0
		for _, ev := range w.journal() {
			if ev.Action == fleet.ActWrite && ev.Edge == fleet.Began {
				grants++
			}
		}
		if grants != 1 {
			t.Errorf("%d grants, want 1", grants)
		}
		w.kill()
		e.Wait()
		w.unplug()
	})
}

// TestKeysOpenOnlyWhatIsInForce tries media addresses before, in and after
// their attempt.
func TestKeysOpenOnlyWhatIsInForce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(1)
		w.servers["SN001"].silentLive = 1
		e, err := w.boot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		keys := e.current().keys
		opens := func(g grant) bool {
			_, ok, err := e.Open(keys.derive(g))
			if err != nil {
				t.Fatal(err)
			}
			return ok
		}
		if !opens(mediumGrant("SN001", 1)) || opens(mediumGrant("SN001", 2)) || opens(liveGrant("SN001", 1)) {
			t.Error("in attempt 1: want its medium only")
		}
		time.Sleep(8*time.Minute + 30*time.Second) // the live system stays silent; attempt 2 begins
		if opens(mediumGrant("SN001", 1)) || !opens(mediumGrant("SN001", 2)) {
			t.Error("in attempt 2: want its medium only")
		}
		time.Sleep(time.Hour)
		if opens(mediumGrant("SN001", 2)) {
			t.Error("an installed server's medium is still served")
		}
		if !opens(grant{kind: string(DiskImage)}) || !opens(grant{kind: string(AgentProgram)}) {
			t.Error("the release is not served")
		}
		w.kill()
		e.Wait()
		w.unplug()
	})
}
