package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"metalrise.dev/fleet"
	"metalrise.dev/provision/store"
)

// TestReplaceTwiceErasesOnce gives the same command once more after it came to
// its end, as whoever repeats commands does, and at points where it may have
// ended before.
func TestReplaceTwiceErasesOnce(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	var out bytes.Buffer
	o := &options{streams: &streams{in: strings.NewReader(""), out: &out, errs: io.Discard}, file: filepath.Join(dir, "site.yaml"), state: filepath.Join(dir, "state"), output: "text"}
	err := os.WriteFile(o.file, []byte("apiVersion: metalrise.dev/v1alpha1\nkind: Site\nname: oslo\nbmcs:\n  addresses: [10.0.9.11-17]\n  username: admin\n  password: {env: PW}\nnetwork: {firstAddress: 10.0.1.21/24}\nimage: /srv/image\n"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(o.state)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	keep := func(digest string, servers ...fleet.Assignment) string {
		t.Helper()
		p := fleet.Plan{Site: "oslo", SiteDigest: digest, Assignments: servers}
		if err := p.Seal(); err != nil {
			t.Fatal(err)
		}
		if err := st.KeepPlan(ctx, p); err != nil {
			t.Fatal(err)
		}
		return p.ID
	}
	node := fleet.Assignment{Server: "SN2", Hostname: "oslo-w2", Role: fleet.Worker, BMC: fleet.Endpoint{Address: "10.0.9.12:443"}}
	other := fleet.Assignment{Server: "SN3", Hostname: "oslo-w3", Role: fleet.Worker, BMC: fleet.Endpoint{Address: "10.0.9.17:443"}}
	gone := node
	gone.Role = fleet.Excluded
	plan, at := keep("first", node), time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)
	tell := func(server fleet.ServerID, edge fleet.Edge, data string, actions ...fleet.Action) {
		t.Helper()
		for _, a := range actions {
			e := fleet.Event{At: at, Plan: plan, Server: server, Attempt: 1, Action: a, Edge: edge, Data: []byte(data)}
			if edge == fleet.Ended {
				e.Outcome = fleet.OK
			}
			if _, err := st.Append(ctx, e); err != nil {
				t.Fatal(err)
			}
		}
	}
	install := func(server fleet.ServerID) {
		t.Helper()
		tell(server, fleet.Ended, `{}`, fleet.ActStage, fleet.ActHello, fleet.ActWrite, fleet.ActArrive, fleet.ActFinish)
	}
	want := func(when, with string, done bool) {
		t.Helper()
		if got, err := o.alreadyReplaced(ctx, "oslo-w2", with); err != nil || got != done {
			t.Errorf("%s: %v %v, want %v", when, got, err, done)
		}
	}
	tell("", fleet.Ended, `{}`, fleet.ActConsent)
	install("SN2")
	want("it was never replaced", "", false)
	tell("SN2", fleet.Began, `{"by":"test"}`, fleet.ActRemove)
	tell("SN2", fleet.Ended, `{}`, fleet.ActRemove)
	plan = keep("second", node)
	tell("", fleet.Ended, `{}`, fleet.ActConsent)
	install("SN2")
	want("it was removed and added again", "", false)
	tell("SN2", fleet.Began, `{"by":"test","replace":true}`, fleet.ActRemove)
	want("it is being taken away", "", false)
	tell("SN2", fleet.Ended, `{}`, fleet.ActRemove, fleet.ActFinish)
	want("it was taken away", "", false)
	// A server that nobody allows to erase now: no engine is started here, whatever happens.
	plan = keep("third", node, fleet.Assignment{Server: "SN4", Hostname: "oslo-w4", Role: fleet.Worker})
	tell("", fleet.Ended, `{}`, fleet.ActConsent)
	tell("SN2", fleet.Ended, `{}`, fleet.ActStage, fleet.ActHello)
	want("it is being installed", "", false)
	install("SN2")
	want("it came back", "", true)
	want("another server is to take its place", "10.0.9.17", false)

	c := nodeReplaceCommand(o)
	c.SetArgs([]string{"oslo-w2", "--confirm", "oslo-w2", "--erase-disks", "1", "--force"})
	out.Reset()
	if err := c.ExecuteContext(ctx); err != nil || !strings.Contains(out.String(), "oslo-w2 was already replaced on "+at.Local().Format(time.DateTime)) {
		t.Errorf("the same command: %v, %q", err, out.String())
	}
	tell("SN2", fleet.Ended, `{}`, fleet.ActRetry) // it is booted anew, and not as it was
	if got, err := o.alreadyReplaced(ctx, "oslo-w2", ""); got || fleet.CodeOf(err) != fleet.CodeConsentMissing || fleet.KindOf(err) != fleet.Denied {
		t.Errorf("it came back and is not settled: %v %v, want a refusal", got, err)
	}
	tell("SN2", fleet.Began, `{"by":"test","replace":true}`, fleet.ActRemove)
	want("it is being replaced once more", "", false)

	plan = keep("fourth", gone, other)
	tell("", fleet.Ended, `{}`, fleet.ActConsent)
	want("the other one is being installed", "10.0.9.17", false)
	install("SN3")
	want("the other one is there", "10.0.9.17", true)
}

// TestReadyNowIsAsked: that a node was ready once does not say that it is.
func TestReadyNowIsAsked(t *testing.T) {
	view := func(c *fleet.ClusterStatus, s fleet.Status) fleet.Overview {
		s.Server = "SN2"
		return fleet.Overview{Cluster: c, Servers: []fleet.Status{s}}
	}
	yes, no := fleet.Check{Name: "kubelet", OK: true}, fleet.Check{Name: "kubelet", Missing: "it is not heard"}
	up, away := &fleet.ClusterStatus{Up: true, Reachable: true}, &fleet.ClusterStatus{Up: true}
	for name, c := range map[string]struct {
		view fleet.Overview
		want string
	}{
		"ready":              {view(up, fleet.Status{Phase: fleet.Ready, Condition: fleet.Settled, Checks: []fleet.Check{yes}}), ""},
		"a check fails":      {view(up, fleet.Status{Phase: fleet.Ready, Condition: fleet.Settled, Checks: []fleet.Check{yes, no}}), "not heard"},
		"nobody answers":     {view(away, fleet.Status{Phase: fleet.Ready, Condition: fleet.Settled, Checks: []fleet.Check{yes}}), "does not answer"},
		"it joined only":     {view(up, fleet.Status{Phase: fleet.Joined, Condition: fleet.Settled, Checks: []fleet.Check{yes}}), "Joined"},
		"it is held":         {view(up, fleet.Status{Phase: fleet.Ready, Condition: fleet.Held}), "Held"},
		"no cluster planned": {view(nil, fleet.Status{Phase: fleet.Installed, Condition: fleet.Settled}), ""},
		"it is not there":    {fleet.Overview{}, "not part"},
	} {
		if got := notReady(c.view, "SN2"); (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
