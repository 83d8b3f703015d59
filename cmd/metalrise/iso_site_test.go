package main

import (
	"os"
	"path/filepath"
	"testing"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
	"metalrise.dev/ignition"
)

// TestRackFindsItself finds a machine by serial or UUID, also by one whose other
// half is not known, and nobody else.
func TestRackFindsItself(t *testing.T) {
	const uuid = "4c4c4544-0031-3010-8053-b4c04f4d3732"
	r := rackMedium{Servers: []rackServer{
		{Server: "SN1", Identity: fleet.Identity{Serial: "SN1", UUID: uuid}},
		{Server: "SN2", Identity: fleet.Identity{Serial: "SN2"}},
		{Server: "twin", Identity: fleet.Identity{UUID: "11111111-2222-3333-4444-555555555555"}},
		{Server: "twin2", Identity: fleet.Identity{UUID: "11111111-2222-3333-4444-555555555555"}},
	}}
	for _, c := range []struct {
		id   fleet.Identity
		want fleet.ServerID
	}{
		{fleet.Identity{Serial: "SN1", UUID: uuid}, "SN1"},
		{fleet.Identity{UUID: uuid}, "SN1"},
		{fleet.Identity{Serial: "SN2", UUID: uuid}, "SN2"}, // its UUID is not known to the plan
		{fleet.Identity{Serial: "SN1", UUID: "99999999-2222-3333-4444-555555555555"}, ""},
		{fleet.Identity{Serial: "SN2", UUID: "99999999-2222-3333-4444-555555555555"}, "SN2"},
		{fleet.Identity{Serial: "SN3"}, ""},
		{fleet.Identity{}, ""},
		{fleet.Identity{UUID: "11111111-2222-3333-4444-555555555555"}, ""},
	} {
		got, ok := r.find(c.id)
		if got.Server != c.want || ok != (got.Server != "") {
			t.Errorf("%+v: %q %v, want %q", c.id, got.Server, ok, c.want)
		}
	}
}

// TestRackWritesSettingsOnly refuses a medium that wants to write elsewhere.
func TestRackWritesSettingsOnly(t *testing.T) {
	target := filepath.Join(t.TempDir(), "x")
	for _, path := range []string{target, "/etc/../" + target, "etc/x", ""} {
		s := rackServer{Files: []ignition.LiveFile{{Path: path, Mode: 0o644, Text: "x"}}, Ticket: callhome.Ticket{Token: "t"}}
		if err := s.settle(t.Context()); err == nil {
			t.Errorf("%q was written", path)
		}
	}
	if _, err := os.Stat(target); err == nil {
		t.Error("a file was written outside of /etc")
	}
}
