package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"metalrise.dev/fleet"
	"metalrise.dev/provision/store"
)

func ruleFacts(serial, maker, model string) fleet.Facts {
	return fleet.Facts{Source: fleet.SeenByAgent, Identity: fleet.NewIdentity("", serial), Manufacturer: fleet.Known(maker), Model: fleet.Known(model),
		NICs: []fleet.NIC{{MAC: "02:00:00:00:00:" + fmt.Sprintf("%02x", len(serial))}}}
}

// TestRecogniser enrols what matches one rule, and nothing else.
func TestRecogniser(t *testing.T) {
	st, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	own := fleet.Server{ID: "KNOWN", Identity: fleet.NewIdentity("", "KNOWN"), BMC: fleet.Endpoint{Address: "10.0.0.1:443"}}
	if err := st.KeepServers(t.Context(), own.BMC.Address, []fleet.Server{own}, []fleet.Facts{{}}); err != nil {
		t.Fatal(err)
	}
	site := fleet.Site{Rules: []fleet.Rule{
		{Name: "dell", Role: fleet.Worker, Match: fleet.Match{Manufacturer: "Dell Inc."}},
		{Name: "big", Role: fleet.ControlPlane, Match: fleet.Match{Model: "R9"}},
	}}
	seen := &strangers{store: st, all: map[string]fleet.Stranger{}}
	r := &recogniser{site: site, store: st, seen: seen}
	for _, c := range []struct {
		f    fleet.Facts
		want string
		in   bool
	}{
		{ruleFacts("SN1", "dell inc.", "R1"), "matches rule dell", true},
		{ruleFacts("SN1", "dell inc.", "R1"), "matches rule dell", true}, // it asks again and again
		{ruleFacts("SN22", "HPE", "R1"), "PLAN-018 no rule", false},
		{ruleFacts("SN3333333", "Dell Inc.", "R9"), "PLAN-019 several rules match it (dell, big)", false},
		{ruleFacts("KNOWN", "Dell Inc.", "R1"), "behind BMC 10.0.0.1:443", false},
		{ruleFacts("", "Dell Inc.", "R1"), "neither a usable serial", false},
		{ruleFacts("SN55555", "Dell Inc.", strings.Repeat("x", mostFacts)), "more than any server needs", false},
	} {
		if got := r.unknown(t.Context(), c.f); !strings.Contains(got, c.want) {
			t.Errorf("%+v: %q, want %q", c.f.Identity, got, c.want)
		}
		servers, err := st.Servers(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		in := false
		for _, v := range servers {
			in = in || v.ID == c.f.Identity.ID() && v.BMC.IsByHand()
		}
		if in != c.in {
			t.Errorf("%+v: enrolled %v", c.f.Identity, in)
		}
	}
	events, err := st.Events(t.Context(), 0, 100)
	if err != nil || len(events) != 6 {
		t.Errorf("%d events, %v: each machine once", len(events), err)
	}
	if all := seen.list(); len(all) != 6 {
		t.Errorf("%+v", all)
	}
	servers, _ := st.Servers(t.Context())
	facts, _ := st.Facts(t.Context())
	got, in, left := byRules(site, servers, facts)
	if len(in) != 1 || len(left) != 0 || len(got.Servers) != 1 || got.Servers[0].Serial != "SN1" || got.Servers[0].Role != fleet.Worker || len(site.Servers) != 0 {
		t.Errorf("%+v %+v %+v", got.Servers, in, left)
	}
	site.Rules = nil
	if got, in, left = byRules(site, servers, facts); len(in) != 0 || len(left) != 1 || left[0].Severity != fleet.Warning || left[0].Code != fleet.CodeNoRule || len(got.Servers) != 0 {
		t.Errorf("without rules: %+v %+v", in, left)
	}
	site.Servers = []fleet.Override{{Serial: "SN1", Role: fleet.Excluded}}
	if got, in, left = byRules(site, servers, facts); len(in) != 1 || len(left) != 0 || got.Servers[0].Role != fleet.Excluded {
		t.Errorf("what a person said: %+v %+v %+v", got.Servers, in, left)
	}
}

// TestRulesAreBounded lets invented machines cost no more than so much.
func TestRulesAreBounded(t *testing.T) {
	st, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	r := &recogniser{site: fleet.Site{Rules: []fleet.Rule{{Name: "all", Role: fleet.Worker, Match: fleet.Match{Manufacturer: "M"}}}}, store: st, seen: &strangers{store: st, all: map[string]fleet.Stranger{}}}
	for i := range mostStrangers + 20 {
		f := ruleFacts(fmt.Sprintf("SN%04d", i), "M", "x")
		f.NICs[0].MAC = fmt.Sprintf("02:00:00:00:%02x:%02x", i>>8, i&255)
		f.At = time.Now()
		got := r.unknown(t.Context(), f)
		if (i >= mostStrangers) != strings.Contains(got, "which is the most") {
			t.Fatalf("%d: %q", i, got)
		}
	}
	servers, err := st.Servers(t.Context())
	if err != nil || len(servers) != mostStrangers || len(r.seen.list()) != mostStrangers {
		t.Errorf("%d servers, %d listed, %v", len(servers), len(r.seen.list()), err)
	}
}
