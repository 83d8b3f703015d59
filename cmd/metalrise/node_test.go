package main

import (
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"metalrise.dev/fleet"
	"metalrise.dev/provision/store"
)

// TestReplaceIsFoundDone gives a replacement by another server once more, at
// each point where the first call may have ended.
func TestReplaceIsFoundDone(t *testing.T) {
	at := func(server, host, address string, role fleet.Role) fleet.Assignment {
		return fleet.Assignment{Server: fleet.ServerID(server), Hostname: host, Role: role, BMC: fleet.Endpoint{Address: address}}
	}
	kept, old, fresh := at("SN1", "oslo-w1", "10.0.9.11:443", fleet.Worker), at("SN2", "oslo-w2", "10.0.9.12:443", fleet.Worker), at("SN3", "oslo-w3", "10.0.9.17:443", fleet.Worker)
	gone := old
	gone.Role = fleet.Excluded
	for name, c := range map[string]struct {
		plan []fleet.Assignment
		node string
		with string
		want bool
	}{
		"nothing was done":          {[]fleet.Assignment{kept, old}, "oslo-w2", "10.0.9.17", false},
		"the other one is there":    {[]fleet.Assignment{kept, gone, fresh}, "oslo-w2", "10.0.9.17", true},
		"the same by its serial":    {[]fleet.Assignment{kept, gone, fresh}, "SN2", "10.0.9.17", true},
		"both are there":            {[]fleet.Assignment{kept, old, fresh}, "oslo-w2", "10.0.9.17", false},
		"another address":           {[]fleet.Assignment{kept, gone, fresh}, "oslo-w2", "10.0.9.18", false},
		"no other server was named": {[]fleet.Assignment{kept, gone, fresh}, "oslo-w2", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			o := &options{streams: &streams{out: io.Discard, errs: io.Discard}, file: filepath.Join(dir, "site.yaml"), state: filepath.Join(dir, "state"), output: "text"}
			err := os.WriteFile(o.file, []byte("apiVersion: metalrise.dev/v1alpha1\nkind: Site\nname: oslo\nbmcs:\n  addresses: [10.0.9.11-17]\n  username: admin\n  password: {env: PW}\nnetwork: {firstAddress: 10.0.1.21/24}\nimage: /srv/image\n"), 0o600)
			if err != nil {
				t.Fatal(err)
			}
			st, err := store.Open(o.state)
			if err != nil {
				t.Fatal(err)
			}
			p := fleet.Plan{Site: "oslo", Assignments: c.plan}
			if err := p.Seal(); err != nil {
				t.Fatal(err)
			}
			if err := st.KeepPlan(t.Context(), p); err != nil {
				t.Fatal(err)
			}
			_, err = st.Append(t.Context(), fleet.Event{At: time.Now(), Plan: p.ID, Action: fleet.ActConsent, Edge: fleet.Ended, Outcome: fleet.OK})
			if err != nil {
				t.Fatal(err)
			}
			if err := st.Close(); err != nil {
				t.Fatal(err)
			}
			if got, err := o.replaced(t.Context(), c.node, c.with); err != nil || got != c.want {
				t.Errorf("%v %v, want %v", got, err, c.want)
			}
		})
	}
}
