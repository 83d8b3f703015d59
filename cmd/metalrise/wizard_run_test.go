package main

import (
	"context"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"metalrise.dev/fleet"
	"metalrise.dev/provision/store"
	"metalrise.dev/tui"
)

// TestPaceComesFromOtherSites: a second site of the same model knows how long
// its servers will take; the plan that runs teaches nothing about itself.
func TestPaceComesFromOtherSites(t *testing.T) {
	root, ctx := t.TempDir(), context.Background()
	keep := func(site string, boot time.Duration) {
		t.Helper()
		st, err := store.Open(filepath.Join(root, site))
		if err != nil {
			t.Fatal(err)
		}
		id := fleet.ServerID("SN-" + site)
		v := fleet.Server{ID: id, BMC: fleet.Endpoint{Address: "10.0.9.11:443", SystemURI: "/redfish/v1/Systems/1"}}
		if err := st.KeepServers(ctx, v.BMC.Address, []fleet.Server{v}, []fleet.Facts{{Manufacturer: fleet.Known("Acme"), Model: fleet.Known("R7")}}); err != nil {
			t.Fatal(err)
		}
		at := time.Now().Add(-time.Hour)
		_, err = st.Append(ctx, fleet.Event{At: at, Plan: "p", Action: fleet.ActConsent, Edge: fleet.Ended, Outcome: fleet.OK},
			fleet.Event{At: at, Server: id, Plan: "p", Action: fleet.ActStage, Edge: fleet.Ended, Outcome: fleet.OK},
			fleet.Event{At: at.Add(boot), Server: id, Plan: "p", Action: fleet.ActHello, Edge: fleet.Ended, Outcome: fleet.OK})
		if err == nil {
			err = st.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	keep("before", 4*time.Minute)
	keep("now", time.Second)
	w := &watcher{o: &options{}, dir: func() (string, error) { return filepath.Join(root, "now"), nil }}
	p, err := w.Pace(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if p.Models["SN-now"] != "Acme R7" || !slices.Equal(p.Took["Acme R7"][tui.LegBoot], []time.Duration{4 * time.Minute}) {
		t.Errorf("pace %+v", p)
	}
}
