package provision

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

// TestWhoAmI has machines ask from a live system that was made for the site.
func TestWhoAmI(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := laddered(3)
		w.unattended = true
		w.roads[fleet.PXE], w.roads[fleet.UEFIHTTP] = "no interface", "no interface"
		e, err := w.boot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var unknown []fleet.Identity
		e.Unknown = func(_ context.Context, f fleet.Facts) string {
			unknown = append(unknown, f.Identity)
			return "no rule matches it"
		}
		time.Sleep(time.Minute)
		if s := e.Overview().Servers[0]; s.Condition != fleet.Waiting || s.Route != fleet.USB || !strings.Contains(s.Step, "medium") {
			t.Fatalf("%+v", s)
		}
		site := AskingTicket(e.Secret, "osaka", "https://10.0.0.250:8443", "pem")
		if site.Stage != callhome.Asking || site.Server != "" || site.Plan != "" {
			t.Errorf("%+v", site)
		}
		who := func(key, token string, f fleet.Facts) (callhome.Orders, error) {
			return e.Who(t.Context(), Caller{Token: token, KeyHash: key, Address: "10.0.0.9"}, callhome.Who{Protocol: callhome.Protocol, Instance: "i", Facts: f})
		}
		facts := w.servers["SN001"].look()

		if err := e.Admit(Caller{Token: site.Token, KeyHash: "k"}); err != nil {
			t.Error(err)
		}
		for _, token := range []string{"", "0123456789abcdef0123456789abcdef", e.current().keys.derive(liveGrant("SN001", 1))} {
			if _, err := who("k", token, facts); fleet.CodeOf(err) != fleet.CodeTokenRefused {
				t.Errorf("token %q: %v", token, err)
			}
		}
		if _, err := e.Hello(t.Context(), Caller{Token: site.Token, KeyHash: "k"}, callhome.Hello{Protocol: callhome.Protocol, Stage: callhome.Live, Server: "SN001", Plan: w.plan.ID, Attempt: 1}); fleet.CodeOf(err) != fleet.CodeTokenRefused {
			t.Errorf("the site's token opens more than one call: %v", err)
		}
		stranger := facts
		stranger.Identity = fleet.Identity{Serial: "SN900"}
		o, err := who("k", site.Token, stranger)
		if err != nil || o.Verb != callhome.Hold || o.Ticket != nil || !strings.Contains(o.Why, "SN900") || !strings.Contains(o.Why, "no rule matches it") || len(unknown) != 1 {
			t.Errorf("a stranger: %+v %v", o, err)
		}
		thief := facts
		thief.Disks = nil
		if o, err = who("thief", site.Token, thief); err != nil || o.Verb != callhome.Hold || o.Ticket != nil {
			t.Errorf("somebody who knows the serial alone: %+v %v", o, err)
		}
		if s := e.Overview().Servers[0]; s.Condition != fleet.Waiting {
			t.Errorf("a stranger's words held a server: %+v", s)
		}
		if o, err = who("k1", site.Token, facts); err != nil || o.Verb != callhome.Go || o.Ticket == nil || o.Ticket.Server != "SN001" || o.Ticket.Stage != callhome.Live {
			t.Fatalf("the server itself: %+v %v", o, err)
		}
		hello := callhome.Hello{Protocol: callhome.Protocol, Stage: callhome.Live, Instance: "i", Server: "SN001", Plan: o.Ticket.Plan, Attempt: o.Ticket.Attempt, Facts: facts}
		got, err := e.Hello(t.Context(), Caller{Token: o.Ticket.Token, KeyHash: "k1"}, hello)
		if err != nil || got.Verb != callhome.Go || got.Write == nil {
			t.Fatalf("hello: %+v %v", got, err)
		}
		if o, err = who("k2", site.Token, facts); err != nil || o.Verb != callhome.Hold || o.Ticket != nil {
			t.Errorf("another boot of the same server: %+v %v", o, err)
		}
		if o, err = who("k1", site.Token, facts); err != nil || o.Ticket == nil {
			t.Errorf("the same boot again: %+v %v", o, err)
		}
		w.kill()
		e.Wait()
		w.unplug()
	})
}

// TestWhoIsNotAnsweredBesideABMC gives no ticket for a server that the engine
// boots itself.
func TestWhoIsNotAnsweredBesideABMC(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := laddered(1)
		w.servers["SN001"].slowWrite = time.Hour
		w.servers["SN001"].silentLive = 9
		e, err := w.boot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		o, err := e.Who(t.Context(), Caller{Token: AskingTicket(e.Secret, "osaka", "", "").Token, KeyHash: "k"},
			callhome.Who{Protocol: callhome.Protocol, Facts: w.servers["SN001"].look()})
		if err != nil || o.Verb != callhome.Hold || o.Ticket != nil {
			t.Errorf("%+v %v", o, err)
		}
		w.kill()
		e.Wait()
		w.unplug()
	})
}
