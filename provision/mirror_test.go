package provision

import (
	"strings"
	"testing"

	"metalrise.dev/fleet"
)

// TestMirrorLogins wants each node to have a login of its own that outlives the
// plan, and nobody else to be let in.
func TestMirrorLogins(t *testing.T) {
	w := newClusterWorld(1, 1)
	c := w.clusters()
	c.Mirror = true
	e, err := NewEngine(Config{Site: "osaka", Journal: w, Archive: w, BMCs: w, Configs: w, Routes: w,
		Secret: []byte("0123456789abcdef0123456789abcdef"), CA: "pem", Clusters: c})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Pulls("SN001", mirrorPassword(e.Secret, "SN001")); fleet.KindOf(err) != fleet.Denied {
		t.Errorf("without a plan: %v", err)
	}
	e.run = e.newRun(w.plan, nil)
	one := e.run.servers["SN001"]
	if m := one.mirrorLocked(); m != (Mirror{}) {
		t.Errorf("before we know how we are reached: %+v", m)
	}
	one.track.Reached.ByMachine = "https://10.0.0.250:8443"
	m := one.mirrorLocked()
	server, password, _ := strings.Cut(m.Login, ":")
	if m.URL != "https://10.0.0.250:8443" || m.CA != "pem" || server != "SN001" {
		t.Errorf("%+v", m)
	}
	if err := e.Pulls("SN001", password); err != nil {
		t.Error(err)
	}
	for who, pass := range map[fleet.ServerID]string{"SN002": password, "SN003": mirrorPassword(e.Secret, "SN003"), "": password, "SN001": ""} {
		if err := e.Pulls(who, pass); fleet.CodeOf(err) != fleet.CodeTokenRefused {
			t.Errorf("%q with %q: %v", who, pass, err)
		}
	}
	later := w.plan
	later.ID = "another plan"
	e.run = e.newRun(later, nil)
	if err := e.Pulls("SN001", password); err != nil {
		t.Errorf("under a later plan: %v", err)
	}
	c.Mirror = false
	if m := one.mirrorLocked(); m != (Mirror{}) {
		t.Errorf("not served: %+v", m)
	}
}
