package main

import (
	"os"
	"path/filepath"
	"testing"

	"metalrise.dev/fleet"
)

func TestOffersAreWhatIsFoundOnce(t *testing.T) {
	c, dir := newTestClerk(t)
	t.Setenv("XDG_STATE_HOME", dir)
	put := func(path string) {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(path)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, path), []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("release/stream.json")
	put("software/payload.json")
	s, err := c.Create(t.Context(), "osaka")
	if err != nil || s.Offers["image"] != "release" || s.Offers["cluster.software"] != "software" {
		t.Fatalf("%+v %v", s.Offers, err)
	}
	put("other/stream.json")
	if s, err = c.Load(t.Context()); err != nil || s.Offers["image"] != "" {
		t.Fatalf("one of two was picked: %+v %v", s.Offers, err)
	}
}

func TestFreeAddressIsOfferedOnlyWhereOneIsNeeded(t *testing.T) {
	plan := func(roles ...fleet.Role) fleet.Plan {
		var p fleet.Plan
		for i, r := range roles {
			p.Assignments = append(p.Assignments, fleet.Assignment{Role: r, Network: fleet.Network{Address: []string{"10.0.1.21/24", "10.0.1.22/24", "10.0.1.23/24"}[i]}})
		}
		return p
	}
	three := plan(fleet.ControlPlane, fleet.ControlPlane, fleet.ControlPlane)
	s := fleet.Site{Cluster: fleet.Cluster{Software: "software"}, Network: fleet.SiteNetwork{Gateway: "10.0.1.24"}}
	if got := freeAddress(s, three); got != "10.0.1.25" {
		t.Errorf("got %q", got)
	}
	if got := freeAddress(s, plan(fleet.SingleNode)); got != "" {
		t.Errorf("a single node is offered %q", got)
	}
	three.Assignments[2].Network.Address = "10.0.1.254/24"
	if got := freeAddress(s, three); got != "" {
		t.Errorf("the broadcast address %q is offered", got)
	}
	s.Cluster.LoadBalancer = "api.example:6443"
	if got := freeAddress(s, three); got != "" {
		t.Errorf("beside a load balancer %q is offered", got)
	}
}
