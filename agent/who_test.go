package agent_test

import (
	"strings"
	"testing"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

// TestAsksWhoItIs starts with the site's ticket: nothing is touched before the
// machine was told who it is, and then all goes as with a ticket of its own, with
// one client key.
func TestAsksWhoItIs(t *testing.T) {
	r := newRig(t, "raw.zst", 3*mib)
	own := r.ticket
	r.desk.ticket = &own
	r.ticket = callhome.Ticket{Protocol: callhome.Protocol, URL: own.URL, CA: own.CA, Token: askingToken, Stage: callhome.Asking, Site: own.Site}
	if err := r.run(t.Context()); err != nil {
		t.Fatalf("%v; console:\n%s", err, r.log)
	}
	if len(r.desk.asked) != 3 || len(r.desk.written) == 0 || r.host.Reboots() != 1 {
		t.Errorf("asked %d times, written %d, reboots %d", len(r.desk.asked), len(r.desk.written), r.host.Reboots())
	}
	m := r.desk.asked[0]
	if m.Protocol != callhome.Protocol || m.Facts.Identity != own.Identity || len(m.Facts.Disks) != 2 || m.Instance != r.desk.hellos[0].Instance {
		t.Errorf("%+v", m)
	}
	if n := strings.Count(r.log.String(), "the plan does not name this machine"); n != 1 {
		t.Errorf("told %d times what it waits for:\n%s", n, r.log)
	}
	if strings.Contains(r.log.String(), "token") {
		t.Errorf("the console shows a token:\n%s", r.log)
	}
}

// TestTakesNoForeignTicket refuses a ticket that is for another machine, another
// authority, another site or another kind of system.
func TestTakesNoForeignTicket(t *testing.T) {
	for name, spoil := range map[string]func(*callhome.Ticket){
		"machine":   func(v *callhome.Ticket) { v.Identity = fleet.NewIdentity("", "SN0002") },
		"authority": func(v *callhome.Ticket) { v.CA = "other" },
		"site":      func(v *callhome.Ticket) { v.Site = "other" },
		"stage":     func(v *callhome.Ticket) { v.Stage = callhome.Installed },
		"asking":    func(v *callhome.Ticket) { v.Stage = callhome.Asking },
		"server":    func(v *callhome.Ticket) { v.Server = "" },
	} {
		r := newRig(t, "raw", 3*mib)
		own := r.ticket
		r.ticket = callhome.Ticket{Protocol: callhome.Protocol, URL: own.URL, CA: own.CA, Token: askingToken, Stage: callhome.Asking, Site: own.Site}
		spoil(&own)
		r.desk.ticket = &own
		if err := r.run(t.Context()); err == nil || len(r.desk.hellos) > 0 {
			t.Errorf("%s: %v, %d hellos", name, err, len(r.desk.hellos))
		}
	}
}
