package fleet

import "testing"

func TestRules(t *testing.T) {
	seen := Facts{Manufacturer: Known("Dell Inc."), Model: Known("PowerEdge R650 "), MemoryMiB: Known[int64](257_000), CPU: CPU{Cores: Known(32)},
		NICs: []NIC{{MAC: "02:00:00:00:00:01"}, {MAC: "b4:45:06:aa:bb:cc"}}, Disks: []Disk{{Serial: "1"}, {Serial: "2"}, {Serial: "stick", Removable: true}}}
	for name, c := range map[string]struct {
		m    Match
		want bool
	}{
		"maker":              {Match{Manufacturer: "DELL inc."}, true},
		"other maker":        {Match{Manufacturer: "HPE"}, false},
		"part of a maker":    {Match{Manufacturer: "Dell"}, false},
		"model":              {Match{Model: "poweredge r650"}, true},
		"maker and model":    {Match{Manufacturer: "Dell Inc.", Model: "PowerEdge R640"}, false},
		"port":               {Match{MACPrefix: "B4:45:06"}, true},
		"other port":         {Match{MACPrefix: "b4:45:07"}, false},
		"as sold":            {Match{Model: "PowerEdge R650", MemoryGiB: 256, Cores: 32, Disks: 2}, true},
		"too little memory":  {Match{Model: "PowerEdge R650", MemoryGiB: 384}, false},
		"too few cores":      {Match{Model: "PowerEdge R650", Cores: 33}, false},
		"a stick is no disk": {Match{Model: "PowerEdge R650", Disks: 3}, false},
		"nothing named":      {Match{MemoryGiB: 1}, false},
		"nothing at all":     {Match{}, false},
	} {
		if got := c.m.Fits(seen); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
		if c.m.Names() && c.m.Fits(Facts{}) {
			t.Errorf("%s: fits a machine of which nothing is known", name)
		}
	}
	s := Site{Rules: []Rule{{Name: "a", Match: Match{Manufacturer: "Dell Inc."}}, {Name: "b", Match: Match{MACPrefix: "b4:45"}}, {Name: "c", Match: Match{Model: "x"}}}}
	if got := s.RulesFor(seen); len(got) != 2 || got[0].Name != "a" || got[1].Name != "b" {
		t.Errorf("%+v", got)
	}
	if e := ByHand("SN1"); !e.IsByHand() || (Endpoint{Address: "10.0.0.1:443"}).IsByHand() || e.Address == ByHand("SN2").Address {
		t.Errorf("%+v", e)
	}
}
