package netboot

import (
	"bytes"
	"context"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// segment is a bridge with our address, for namespaces to be plugged into.
const (
	bridge  = "nb0"
	ourself = "192.0.2.1"
)

func newSegment(t *testing.T) {
	t.Helper()
	if os.Getenv(apart) == "" {
		t.Skip("skipped: needs root")
	}
	run(t, "ip", "link", "add", bridge, "type", "bridge", "forward_delay", "0")
	t.Cleanup(func() { run(t, "ip", "link", "del", bridge) })
	run(t, "ip", "addr", "add", ourself+"/24", "broadcast", "+", "dev", bridge)
	run(t, "ip", "link", "set", bridge, "up")
}

// plug makes a namespace with one card, named eth0, on the bridge.
func plug(t *testing.T, name, mac string) {
	t.Helper()
	run(t, "ip", "netns", "add", name)
	t.Cleanup(func() { // the card goes with its namespace, but later
		_ = exec.Command("ip", "link", "del", "v"+name).Run()
		run(t, "ip", "netns", "del", name)
	})
	run(t, "ip", "link", "add", "v"+name, "type", "veth", "peer", "name", "eth0", "address", mac, "netns", name)
	run(t, "ip", "link", "set", "v"+name, "master", bridge, "up")
	run(t, "ip", "-n", name, "link", "set", "lo", "up")
	run(t, "ip", "-n", name, "link", "set", "eth0", "up")
	forwards(t, "v"+name)
}

// forwards waits until a port of the bridge does; the kernel takes up to a second
// to see that its other end is up.
func forwards(t *testing.T, port string) {
	t.Helper()
	until(t, port+" to forward", func() bool {
		b, _ := os.ReadFile("/sys/class/net/" + port + "/brport/state")
		return strings.TrimSpace(string(b)) == "3"
	})
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// in runs a program in a namespace and returns what it printed.
func in(ctx context.Context, ns string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", ns}, args...)...).CombinedOutput()
	return string(out), err
}

// need skips when a program of a Debian package is missing.
func need(t *testing.T, program, pkg string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Fatalf("%s is missing: install the Debian package %s", program, pkg)
	}
}

// background starts a program in a namespace until the test ends, and waits
// until it has said ready.
func background(t *testing.T, ns, ready string, args ...string) {
	t.Helper()
	cmd := exec.Command("ip", append([]string{"netns", "exec", ns}, args...)...)
	var out lockedBuffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	until(t, args[0]+" to say "+ready, func() bool { return strings.Contains(out.String(), ready) })
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 750 {
		if ok() {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("waited in vain for %s", what)
}

// dnsmasq is another DHCP server, in a namespace of its own, at 192.0.2.2.
func dnsmasq(t *testing.T, args ...string) {
	t.Helper()
	slowDnsmasq(t, append([]string{"--no-ping"}, args...)...)
}

// slowDnsmasq is as people run it: it pings an address for three seconds before it
// offers it.
func slowDnsmasq(t *testing.T, args ...string) {
	t.Helper()
	need(t, "dnsmasq", "dnsmasq-base")
	plug(t, "other", "02:00:00:00:00:02")
	run(t, "ip", "-n", "other", "addr", "add", "192.0.2.2/24", "dev", "eth0")
	background(t, "other", "DHCP, IP range", append([]string{"dnsmasq", "--keep-in-foreground", "--log-facility=-", "--conf-file=/dev/null",
		"--port=0", "--interface=eth0", "--bind-interfaces", "--user=root", "--pid-file=",
		"--dhcp-range=192.0.2.100,192.0.2.150,1h", "--dhcp-authoritative", "--domain=rogue.example",
		"--dhcp-leasefile=" + filepath.Join(t.TempDir(), "leases")}, args...)...)
}

// guestBook are guests in a map, and a record of what was seen.
type guestBook struct {
	mu     sync.Mutex
	guests map[string]Guest
	seen   []Sighting
}

func (b *guestBook) Guest(c Client) (Guest, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	g, ok := b.guests[c.MAC]
	return g, ok
}

func (b *guestBook) report(s Sighting) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seen = append(b.seen, s)
}

func (b *guestBook) saw(kind SightingKind) *Sighting {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.seen {
		if b.seen[i].Kind == kind {
			return &b.seen[i]
		}
	}
	return nil
}

const knownMAC = "02:00:00:00:01:01"

func book() *guestBook {
	return &guestBook{guests: map[string]Guest{knownMAC: {
		Name: "n1", Address: netip.MustParsePrefix("192.0.2.11/24"), Gateway: netip.MustParseAddr("192.0.2.254"),
		DNS: []netip.Addr{netip.MustParseAddr("192.0.2.53")}, Host: "n1",
		Road: RoadPXE, Script: "http://192.0.2.1:8080" + "/m/" + NewKey() + "/boot.ipxe",
		Until: time.Now().Add(time.Hour),
	}}}
}

func listen(t *testing.T, b *guestBook, mode Mode, change ...func(*Config)) *Server {
	t.Helper()
	cfg := Config{Interface: bridge, Mode: mode, Guests: b, Report: b.report}
	for _, c := range change {
		c(&cfg)
	}
	s, err := Listen(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}
