package ring

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"metalrise.dev/fleet"
	"metalrise.dev/guest"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func said(boot string, seq uint64, at time.Time, node string) word {
	return word{at, node, guest.Beat{Nonce: "run", Boot: boot, Seq: seq}}
}

func logOf(words ...word) []byte {
	var out []byte
	for _, w := range words {
		out = fmt.Appendf(out, "%s %s\r\n", w.at.Format(time.RFC3339Nano), w.beat.Line())
	}
	return out
}

func TestReadConsole(t *testing.T) {
	a, b := strings.Repeat("a", 16), strings.Repeat("b", 16)
	log := logOf(said(a, 1, noon, "w1"))
	log = append(log, "2026-11-22T12:00:01Z Booting from ROM..\r\nno time at all\n2026-11-22T12:00:02Z metalrise-guest 1 boot=cut\n"...)
	stranger := said(b, 7, noon, "w1")
	stranger.beat.Nonce = "another"
	log = append(append(log, logOf(stranger)...), logOf(said(a, 2, noon.Add(3*time.Second), "w1"))...)
	words, raw, until := readConsole(log, "w1", "run")
	if len(words) != 2 || words[1].beat.Seq != 2 || words[0].node != "w1" || raw != "metalrise-guest 1 boot=cut" || !until.Equal(noon.Add(3*time.Second)) {
		t.Errorf("words %+v, raw %q, until %s", words, raw, until)
	}
	if words, raw, _ := readConsole(bytes.Repeat([]byte{'x'}, 1<<20), "w1", "run"); words != nil || raw != "" {
		t.Errorf("a line without an end is %v, %q", words, raw)
	}
}

func TestStoryMeasuresTheMove(t *testing.T) {
	a := strings.Repeat("a", 16)
	at := func(ms int) time.Time { return noon.Add(time.Duration(ms) * time.Millisecond) }
	var s story
	s.add([]word{said(a, 1, at(0), "w1"), said(a, 2, at(3000), "w1")}) // slow while it boots
	s.rest()
	s.add([]word{said(a, 3, at(3250), "w1"), said(a, 2, at(3000), "w1")}) // one comes twice
	s.add([]word{said(a, 5, at(4400), "w2"), said(a, 4, at(4150), "w2")}) // out of order
	l := s.newest()
	if l.heard != 5 || l.gap != 900*time.Millisecond || l.moved != 2 || l.last.node != "w2" || l.first.beat.Seq != 1 {
		t.Errorf("%+v", *l)
	}
	if got := silence(l.gap, 250*time.Millisecond); got != 650*time.Millisecond {
		t.Errorf("silent for %s", got)
	}
	if got := silence(0, 250*time.Millisecond); got != 0 {
		t.Errorf("less than nothing: %s", got)
	}
}

func TestStoryIsBounded(t *testing.T) {
	var s story
	for i := range uint64(3 * maxBeats) {
		s.add([]word{said("0123456789abcdef", i+1, noon.Add(time.Duration(i)*time.Millisecond), "w1")})
	}
	if l := s.newest(); len(l.beats) > maxBeats || l.heard != 3*maxBeats || l.gap != time.Millisecond {
		t.Errorf("%d kept, %d heard, gap %s", len(l.beats), l.heard, l.gap)
	}
	for i := range 3 * maxBoots {
		s.add([]word{said(fmt.Sprintf("%016d", i), 1, noon, "w1")})
	}
	if len(s.boots) > maxBoots {
		t.Errorf("%d boots", len(s.boots))
	}
}

func FuzzConsole(f *testing.F) {
	f.Add(logOf(said("0123456789abcdef", 1, noon, "w1")))
	f.Add([]byte("2026-11-22T12:00:00Z x\n\n \n"))
	f.Fuzz(func(t *testing.T, log []byte) {
		var s story
		words, raw, _ := readConsole(log, "w1", "run")
		s.add(words)
		s.add(words)
		if len(raw) > maxRaw || len(s.boots) > maxBoots {
			t.Errorf("%d bytes raw, %d boots", len(raw), len(s.boots))
		}
		for _, l := range s.boots {
			if l.heard > len(words) || len(l.beats) > maxBeats || l.first.beat.Seq > l.last.beat.Seq {
				t.Errorf("%+v", l)
			}
		}
	})
}

func TestMoves(t *testing.T) {
	for name, c := range map[string]struct {
		nodes []string
		may   map[string][]string
		want  []Move
	}{
		"none":        {nil, nil, nil},
		"alone":       {[]string{"a"}, nil, nil},
		"round":       {[]string{"a", "b", "c"}, nil, []Move{{"a", "b"}, {"b", "c"}, {"c", "a"}}},
		"two kinds":   {[]string{"a", "b", "c", "d"}, map[string][]string{"a": {"c"}, "c": {"a"}, "b": {"d"}, "d": {"b"}}, []Move{{"a", "c"}, {"b", "d"}, {"c", "a"}, {"d", "b"}}},
		"no way away": {[]string{"a", "b"}, map[string][]string{"a": {}, "b": {"a"}}, []Move{{"b", "a"}}},
	} {
		if got := Moves(c.nodes, c.may); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}

func TestVictim(t *testing.T) {
	w1, w2, cp := node{name: "w1"}, node{name: "w2"}, node{name: "cp", control: true}
	busy := node{name: "w3", strangers: 2}
	for name, c := range map[string]struct {
		nodes  []node
		may    map[string][]string
		all    []string
		want   string
		others []string
	}{
		"the last worker":              {[]node{cp, w1, w2}, nil, []string{"cp", "w1", "w2"}, "w2", []string{"cp", "w1"}},
		"not one with VMs of others":   {[]node{w1, busy}, nil, []string{"w1", "w3"}, "w1", []string{"w3"}},
		"a control plane if need be":   {[]node{cp, busy}, nil, []string{"cp", "w3"}, "cp", []string{"w3"}},
		"none free":                    {[]node{busy}, nil, []string{"w1", "w3"}, "", nil},
		"alone":                        {[]node{w1}, nil, []string{"w1"}, "", nil},
		"only control planes in need":  {nil, nil, []string{"a", "b"}, "", nil},
		"one from which VMs can leave": {[]node{w1, w2}, map[string][]string{"w2": {}, "w1": {"w2"}}, []string{"w1", "w2"}, "w1", []string{"w2"}},
	} {
		got, others, why := victim(c.nodes, c.may, c.all)
		if got != c.want || !slices.Equal(others, c.others) || (why == "") != (got != "") {
			t.Errorf("%s: got %q, %v, %q", name, got, others, why)
		}
	}
}

func TestPairs(t *testing.T) {
	for _, c := range []struct {
		nodes []string
		want  []Move
	}{
		{[]string{"a"}, []Move{{"a", "a"}}},
		{[]string{"a", "b"}, []Move{{"a", "b"}}},
		{[]string{"a", "b", "c"}, []Move{{"a", "b"}, {"c", "a"}}},
	} {
		if got := pairs(c.nodes); !slices.Equal(got, c.want) {
			t.Errorf("%v: %v", c.nodes, got)
		}
	}
}

func TestAddressesInAVMNetwork(t *testing.T) {
	for subnet, want := range map[string][2]string{
		"10.0.20.0/24":    {"10.0.20.251/24", "10.0.20.252/24"},
		"10.0.20.7/22":    {"10.0.23.251/22", "10.0.23.252/22"},
		"192.168.5.64/29": {"192.168.5.67/29", "192.168.5.68/29"},
	} {
		got, err := pair(fleet.VMNetwork{Name: "n", Subnet: subnet})
		if err != nil || got[0].String() != want[0] || got[1].String() != want[1] {
			t.Errorf("%s: %v, %v", subnet, got, err)
		}
	}
	for _, wrong := range []string{"10.0.0.0/30", "fd00::/64", "x"} {
		if got, err := pair(fleet.VMNetwork{Name: "n", Subnet: wrong}); err == nil {
			t.Errorf("%s gives %v", wrong, got)
		}
	}
	if got, err := pair(fleet.VMNetwork{Name: "n"}); err != nil || !got[0].Addr().IsLinkLocalUnicast() || got[0] == got[1] {
		t.Errorf("without a subnet: %v, %v", got, err)
	}
}

func TestSkips(t *testing.T) {
	every := fleet.Proofs()
	change := func(nodes int, do func(*fleet.StackPlan)) fleet.Plan {
		p := somePlan([]string{"w1", "w2", "w3"}[:nodes]...)
		do(p.Stack)
		return p
	}
	bare := somePlan("w1")
	bare.Stack = nil
	for name, c := range map[string]struct {
		plan fleet.Plan
		want []fleet.Proof
	}{
		"all there":      {somePlan("w1", "w2"), nil},
		"no platform":    {bare, every},
		"no guest":       {change(2, func(s *fleet.StackPlan) { s.Guest = "" }), every},
		"no hypervisor":  {somePlan(), every},
		"one hypervisor": {somePlan("w1"), []fleet.Proof{fleet.ProofMigrate, fleet.ProofDrain, fleet.ProofFence}},
		"CPUs differ": {change(2, func(s *fleet.StackPlan) { s.Migration = map[string][]string{"w1": nil, "w2": nil} }),
			[]fleet.Proof{fleet.ProofMigrate, fleet.ProofDrain}},
		"no storage":   {change(2, func(s *fleet.StackPlan) { s.Storage = fleet.VMStorage{} }), []fleet.Proof{fleet.ProofVolume, fleet.ProofSnapshot}},
		"no snapshots": {change(2, func(s *fleet.StackPlan) { s.Storage.Snapshots = "" }), []fleet.Proof{fleet.ProofSnapshot}},
	} {
		for _, proof := range every {
			if why := whyNot(c.plan, proof); (why != "") != slices.Contains(c.want, proof) {
				t.Errorf("%s: %s: %q", name, proof, why)
			}
		}
	}
}

// The orders come through the manifest: what the guest reads is what was meant.
func TestManifestCarriesTheOrders(t *testing.T) {
	m := machine{name: "vm", run: "abc", proof: fleet.ProofNetwork, image: "guest", nodes: []string{"w1"}, disk: claimed, mark: "one"}
	p, _ := pair(fleet.VMNetwork{Name: "n", Subnet: "10.0.20.0/24"})
	m.wire, m.ping = &wire{"default/n", p[0]}, p[1].Addr()
	args, _ := nested(m.vm().Object, "spec", "template", "spec", "domain", "firmware", "kernelBoot", "kernelArgs").(string)
	got, err := guest.ParseOrders(args)
	if err != nil || !reflect.DeepEqual(got, m.orders()) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, m.orders())
	}
	if len(args) > 900 {
		t.Errorf("the kernel's arguments have %d bytes", len(args))
	}
	if m.mac(0) == m.mac(1) || !strings.HasPrefix(m.mac(0), "02:") {
		t.Errorf("MAC addresses %s, %s", m.mac(0), m.mac(1))
	}
}

func nested(v any, path ...string) any {
	for _, p := range path {
		m, _ := v.(map[string]any)
		v = m[p]
	}
	return v
}

func TestNames(t *testing.T) {
	long := nameOf("net", strings.Repeat("very-long.host-name.", 5), "a")
	if len(long) > 40 || strings.ContainsAny(long, "._") || long == nameOf("net", strings.Repeat("very-long.host-name.", 5), "b") {
		t.Errorf("%q", long)
	}
	if got := nameOf("start", "Node_1.example"); got != "start-node-1-example" {
		t.Errorf("%q", got)
	}
}

func TestLastError(t *testing.T) {
	log := `{"level":"info","msg":"x"}` + "\nno json\n" + `{"level":"error","msg":"failed to start","reason":"no KVM"}` + "\n" + `{"level":"warning","msg":"y"}`
	if got := lastError(log); got != "failed to start: no KVM" {
		t.Errorf("%q", got)
	}
}
