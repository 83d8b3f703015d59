package ignition_test

import (
	"strings"
	"testing"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
	"metalrise.dev/ignition"
)

// TestLiveFiles wants the same settings that a medium of the server's own has,
// for each shape of network, and no secret.
func TestLiveFiles(t *testing.T) {
	for _, c := range configs(t) {
		if !strings.HasPrefix(c.name, "live") {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			shape := strings.TrimPrefix(c.name, "live-")
			in := liveInput(t, shape)
			files, err := ignition.LiveFiles(in.Assignment)
			if err != nil {
				t.Fatal(err)
			}
			raw, err := ignition.Live(in)
			if err != nil {
				t.Fatal(err)
			}
			whole := map[string]string{}
			for _, f := range parse(t, raw).Storage.Files {
				whole[f.Path] = f.Contents.Source
			}
			for _, f := range files {
				if _, ok := whole[f.Path]; !ok || f.Text == "" || strings.Contains(f.Text, "%0A") || strings.Contains(f.Text, in.Ticket.Token) {
					t.Errorf("%s is not of the live system: %q", f.Path, f.Text)
				}
				if strings.HasSuffix(f.Path, ".nmconnection") && f.Mode != 0o600 {
					t.Errorf("%s has mode %o", f.Path, f.Mode)
				}
			}
			if len(files) < 3 {
				t.Errorf("%d files", len(files))
			}
		})
	}
	in := liveInput(t, "port")
	in.Assignment.Network.Address = "x"
	if _, err := ignition.LiveFiles(in.Assignment); fleet.CodeOf(err) != fleet.CodeSiteInvalid {
		t.Errorf("%v", err)
	}
}

// TestAsking wants a ticket that only asks, and nothing that touches disks.
func TestAsking(t *testing.T) {
	in := liveInput(t, "port")
	ticket := in.Ticket
	ticket.Stage, ticket.Server, ticket.Plan, ticket.Attempt, ticket.Identity = callhome.Asking, "", "", 0, fleet.Identity{}
	raw, err := ignition.Asking(ticket, in.Agent, fleet.Access{})
	if err != nil {
		t.Fatal(err)
	}
	p := parse(t, raw)
	if len(p.Storage.Disks)+len(p.Storage.Filesystems) > 0 || !strings.Contains(string(raw), "metalrise-agent.service") || !strings.Contains(string(raw), "method%3Dauto") && !strings.Contains(string(raw), "method=auto") {
		t.Errorf("%s", raw)
	}
	if _, err := ignition.Asking(in.Ticket, in.Agent, fleet.Access{}); fleet.CodeOf(err) != fleet.CodeSiteInvalid {
		t.Errorf("a server's own ticket: %v", err)
	}
	ticket.URL = "https://x'; reboot; '"
	if _, err := ignition.Asking(ticket, in.Agent, fleet.Access{}); fleet.CodeOf(err) != fleet.CodeSiteInvalid {
		t.Errorf("%v", err)
	}
}
