package node

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

// segment is two machines on one cable: network namespaces with a veth pair.
// The first is asked from; it holds 10.99.7.1 and fd00:99::1.
type segment struct {
	t         *testing.T
	near, far string
	mac       string // of the near machine's port
	farMAC    string
}

func newSegment(t *testing.T) *segment {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("skipped: needs root")
	}
	name := fmt.Sprintf("mrclaim%d", os.Getpid()%100000)
	s := &segment{t: t, near: name + "n", far: name + "f", mac: "52:54:00:99:07:01", farMAC: "52:54:00:99:07:02"}
	for _, ns := range []string{s.near, s.far} {
		s.ip("netns", "add", ns)
		t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", ns).Run() })
		s.ip("-n", ns, "link", "set", "lo", "up")
	}
	s.ip("-n", s.near, "link", "add", "port0", "address", s.mac, "type", "veth", "peer", "name", "port0", "address", s.farMAC, "netns", s.far)
	for _, ns := range []string{s.near, s.far} {
		s.ip("-n", ns, "link", "set", "port0", "up")
	}
	s.address(s.near, "port0", "10.99.7.1/24", "fd00:99::1/64")
	s.address(s.far, "port0", "10.99.7.2/24", "fd00:99::2/64")
	return s
}

func (s *segment) ip(args ...string) {
	s.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		s.t.Fatalf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func (s *segment) address(ns, dev string, prefixes ...string) {
	s.t.Helper()
	for _, p := range prefixes {
		args := []string{"-n", ns, "address", "add", p, "dev", dev}
		if strings.Contains(p, ":") {
			args = append(args, "nodad")
		}
		s.ip(args...)
	}
}

type claimed struct {
	Code fleet.Code
	Text string
}

// claim runs the step on the near machine: this test program, started there.
func (s *segment) claim(t *testing.T, address, mac string) claimed {
	t.Helper()
	cmd := exec.Command("ip", "netns", "exec", s.near, os.Args[0], "-test.run=^TestClaimOnTheMachine$", "-test.v")
	cmd.Env = append(os.Environ(), "METALRISE_TEST_CLAIM="+address+" "+mac)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if text, ok := strings.CutPrefix(line, "CLAIMED "); ok {
			var c claimed
			if err := json.Unmarshal([]byte(text), &c); err != nil {
				t.Fatal(err)
			}
			return c
		}
	}
	t.Fatalf("no result in\n%s", out)
	return claimed{}
}

// TestClaimOnTheMachine is the part of TestClaim that runs elsewhere.
func TestClaimOnTheMachine(t *testing.T) {
	address, mac, ok := strings.Cut(os.Getenv("METALRISE_TEST_CLAIM"), " ")
	if !ok {
		return
	}
	err := System{Root: "/"}.Do(t.Context(), nil, callhome.Step{Name: "claim", Claim: &callhome.ClaimStep{Address: address, MAC: mac}}, nil)
	c := claimed{}
	if err != nil {
		c = claimed{fleet.CodeOf(err), err.Error()}
	}
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("CLAIMED %s\n", b)
}

func TestClaim(t *testing.T) {
	s := newSegment(t)
	s.address(s.far, "port0", "10.99.7.20/32", "fd00:99::20/128")
	for name, c := range map[string]struct {
		address, mac string
		code         fleet.Code
		text         string
	}{
		"free":               {"10.99.7.30", s.mac, "", ""},
		"free IPv6":          {"fd00:99::30", s.mac, "", ""},
		"taken":              {"10.99.7.20", s.mac, fleet.CodeAddressTaken, s.farMAC},
		"taken IPv6":         {"fd00:99::20", s.mac, fleet.CodeAddressTaken, s.farMAC},
		"another's own":      {"10.99.7.2", s.mac, fleet.CodeAddressTaken, s.farMAC},
		"ours":               {"10.99.7.1", s.mac, "", ""},
		"ours IPv6":          {"fd00:99::1", s.mac, "", ""},
		"no such port":       {"10.99.7.30", "52:54:00:99:07:77", fleet.CodeNodePrepare, "no network port has the MAC address"},
		"another network":    {"10.88.0.1", s.mac, fleet.CodeNodePrepare, "in the network of 10.88.0.1"},
		"far port is no one": {"10.99.7.30", s.farMAC, fleet.CodeNodePrepare, "no network port has"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := s.claim(t, c.address, c.mac); got.Code != c.code || !strings.Contains(got.Text, c.text) {
				t.Errorf("%+v, want %q with %q", got, c.code, c.text)
			}
		})
	}
}

// The address may be on what is built upon the port.
func TestClaimAboveThePort(t *testing.T) {
	s := newSegment(t)
	s.address(s.far, "port0", "10.99.7.20/32")
	s.ip("-n", s.near, "address", "flush", "dev", "port0")
	s.ip("-n", s.near, "link", "add", "upper0", "address", "52:54:00:99:07:03", "type", "bridge", "forward_delay", "0")
	s.ip("-n", s.near, "link", "set", "port0", "master", "upper0")
	s.ip("-n", s.near, "link", "set", "upper0", "up")
	s.address(s.near, "upper0", "10.99.7.1/24")
	if got := s.claim(t, "10.99.7.20", s.mac); got.Code != fleet.CodeAddressTaken || !strings.Contains(got.Text, "segment of upper0") {
		t.Errorf("%+v", got)
	}
	if got := s.claim(t, "10.99.7.30", s.mac); got.Code != "" {
		t.Errorf("%+v", got)
	}
	s.ip("-n", s.near, "link", "set", "upper0", "down")
	s.address(s.near, "upper0", "10.99.7.9/24")
	if got := s.claim(t, "10.99.7.30", s.mac); got.Code != fleet.CodeNodePrepare || !strings.Contains(got.Text, "is down") {
		t.Errorf("%+v", got)
	}
}

// What hears answers is fed by anybody in the segment.
func FuzzAnswers(f *testing.F) {
	own := net.HardwareAddr{0x52, 0x54, 0, 0, 0, 1}
	four := arpQuestion(own, netip.MustParseAddr("10.0.0.9"))
	six := neighbourQuestion(netip.MustParseAddr("fd00::9"))
	if four.protocol != unix.ETH_P_ARP || six.protocol != unix.ETH_P_IPV6 {
		f.Fatal("protocols")
	}
	f.Add(four.packet)
	f.Add(six.packet)
	reply := append([]byte{0x60, 0, 0, 0, 0, 32, 58, 255}, make([]byte, 32)...)
	a := netip.MustParseAddr("fd00::9").As16()
	reply = append(append(append(reply, 136, 0, 0, 0, 0x20, 0, 0, 0), a[:]...), 2, 1, 9, 9, 9, 9, 9, 9)
	if mac, ok := six.answer(reply, own); !ok || mac.String() != "09:09:09:09:09:09" {
		f.Fatalf("%v, %v", mac, ok)
	}
	f.Add(reply)
	f.Fuzz(func(t *testing.T, p []byte) {
		for _, q := range []question{four, six} {
			if mac, ok := q.answer(p, own); ok && len(mac) != 6 {
				t.Errorf("%v", mac)
			}
		}
	})
}
