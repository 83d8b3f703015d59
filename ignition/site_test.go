package ignition

import (
	"strings"
	"testing"

	"metalrise.dev/fleet"
)

// TestSiteLive wants the program to be started from the medium, an agent that
// waits for a ticket, and nothing that touches disks or names a server.
func TestSiteLive(t *testing.T) {
	raw, err := SiteLive(testMedium("program"), fleet.Access{}, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{preparedUnit, AgentService, MediumPath} {
		if !strings.Contains(string(raw), want) {
			t.Errorf("the config has no %s", want)
		}
	}
	for _, no := range []string{"--carry", "\"disks\"", "nmconnection", "ticket.json\""} {
		if strings.Contains(string(raw), no) {
			t.Errorf("the config has %s", no)
		}
	}
	bad := testMedium("program")
	bad.Build = "'; reboot"
	if _, err := SiteLive(bad, fleet.Access{}, ""); fleet.CodeOf(err) != fleet.CodeSiteInvalid {
		t.Errorf("%v", err)
	}
}
