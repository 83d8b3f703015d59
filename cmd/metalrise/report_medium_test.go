package main

import (
	"strings"
	"testing"

	"metalrise.dev/fleet"
)

// TestReportTellsTheMedium: route, medium and what of it was read, from the status.
func TestReportTellsTheMedium(t *testing.T) {
	s := fleet.Status{Attempt: 2, Route: fleet.VirtualMedia, Medium: fleet.MinimalMedium, Fetched: 46274560}
	x := buildServer(fleet.Assignment{Server: "SN1", Hostname: "w1"}, s, fleet.Facts{}, fleet.Facts{}, nil)
	got := timingSection(asBuilt{Servers: []builtServer{x}}).Rows[0]
	if got[1] != "2" || !strings.HasPrefix(got[2], "virtual-media, minimal medium, 46") || !strings.HasSuffix(got[2], " read") {
		t.Errorf("%q", got)
	}
	x = buildServer(fleet.Assignment{Server: "SN2"}, fleet.Status{Route: fleet.PXE}, fleet.Facts{}, fleet.Facts{}, nil)
	if got := bootedBy(x); got != "pxe" {
		t.Errorf("%q", got)
	}
	if got := bootedBy(builtServer{}); got != "-" {
		t.Errorf("%q", got)
	}
}
