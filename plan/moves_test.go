package plan_test

import (
	"strings"
	"testing"

	"metalrise.dev/fleet"
	"metalrise.dev/plan"
)

// TestRoomForMigrations: each hypervisor needs an address on the network of live
// migrations, and one too few is said before anything is installed.
func TestRoomForMigrations(t *testing.T) {
	for subnet, want := range map[string]string{
		"10.0.21.0/28": "",
		"10.0.21.0/29": "10.0.21.0/29 has 1 addresses for live migrations, and there are 2 hypervisors",
		"fd00:21::/64": "fd00:21::/64 has 0 addresses for live migrations, and there are 2 hypervisors",
	} {
		in := readScenario(t, "testdata/stack-networks/input.yaml")
		in.Site.Platform.Networks[1].Subnet = subnet
		p := plan.Make(in)
		var got []string
		for _, f := range p.Findings {
			if f.Path == "platform.networks[1].subnet" && f.Severity == fleet.Blocker {
				got = append(got, f.Text)
			}
		}
		if strings.Join(got, "; ") != want {
			t.Errorf("%s: %q, want %q", subnet, got, want)
		}
	}
}
