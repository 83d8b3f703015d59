// Package machinetest holds every kind of lab machine to one behaviour: what a
// server does when it boots a live medium or its disk, restarts, is switched
// off, or loses its power.
//
// The suite boots a real system many times; it runs only as root and when
// METALRISE_REAL=1 asks for the heavy tests. It never looks at how a machine is
// made: what it knows comes from the console, the network, the disk files and
// what Boot returns.
package machinetest

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"metalrise.dev/lab/machine"
)

// Image is a CoreOS-like node image.
type Image struct {
	ISO  string // live medium with an embed area for an Ignition config
	Disk string // disk image, raw (not compressed), whose first boot runs Ignition
	// Patience is how long one boot may take until the system's own units ran;
	// five minutes if zero.
	Patience time.Duration
}

// Factory makes one machine. The suite calls it again with the same Spec when
// it wants the same machine, disks included, in a new process of the lab.
type Factory func(t *testing.T, spec machine.Spec) machine.Hardware

// Require skips a test that is not to be run here and now: the suite needs
// root, and the wish to run what is slow.
func Require(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("skipped: needs root")
	}
	if os.Getenv("METALRISE_REAL") != "1" {
		t.Skip("skipped: heavy; set METALRISE_REAL=1")
	}
}

// Run holds the machines that mk makes to the contract of machine.Hardware.
func Run(t *testing.T, mk Factory, image Image) {
	Require(t)
	if image.Patience == 0 {
		image.Patience = 5 * time.Minute
	}
	s := &suite{mk: mk, image: image}
	s.net = newNetwork(t)
	t.Run("live medium shows the machine and powers off", s.live)
	t.Run("live medium restarts", s.restart)
	t.Run("power button", s.button)
	t.Run("power cut leaves nothing behind", s.cut)
	t.Run("empty disk does not boot", s.empty)
	t.Run("installed disk runs Ignition once", s.installed)
	t.Run("two machines share a bridge", s.two)
}

type suite struct {
	mk    Factory
	image Image
	net   *network
}

// network is a bridge of the host with an HTTP server on it that remembers who
// asked for what.
type network struct {
	bridge string
	prefix string // first three numbers of the address
	url    string

	mu   sync.Mutex
	seen map[string]bool
}

func newNetwork(t *testing.T) *network {
	t.Helper()
	// Distinct for every process: several suites may run on one host.
	id := os.Getpid() % 60000
	n := &network{bridge: fmt.Sprintf("mt%d", id), prefix: fmt.Sprintf("10.%d.%d", 100+id/250%100, id%250), seen: map[string]bool{}}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = n.bridge
	br := &netlink.Bridge{LinkAttrs: attrs}
	if err := netlink.LinkAdd(br); err != nil {
		t.Fatalf("make bridge %s: %v", n.bridge, err)
	}
	t.Cleanup(func() { _ = netlink.LinkDel(br) })
	addr, err := netlink.ParseAddr(n.prefix + ".1/24")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.AddrAdd(br, addr); err != nil {
		t.Fatalf("bridge address: %v", err)
	}
	if err := netlink.LinkSetUp(br); err != nil {
		t.Fatalf("bridge up: %v", err)
	}
	l, err := net.Listen("tcp", n.prefix+".1:0")
	if err != nil {
		t.Fatalf("listen on bridge: %v", err)
	}
	n.url = "http://" + l.Addr().String()
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.seen[r.URL.Path] = true
		_, _ = io.WriteString(w, "hello")
	})}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
	return n
}

func (n *network) saw(path string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.seen[path]
}

// ports counts what is plugged into the bridge.
func (n *network) ports(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/sys/class/net/" + n.bridge + "/brif")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// spec is a machine with two disks, one fast and one rotating.
func (s *suite) spec(t *testing.T, name string, i int) machine.Spec {
	t.Helper()
	const mib = 1 << 20
	return machine.Spec{
		Name: name, UUID: fmt.Sprintf("4c4c4544-0035-4a10-8054-b7c04f3959%02x", i), Serial: fmt.Sprintf("SN-%03d", i),
		Vendor: "Example Corp", Model: "Rack 1U", Firmware: []string{"uefi", "bios"}[i%2], CPUs: 1, MemoryMiB: 1536,
		Disks: []machine.Disk{
			{Name: "disk0", Serial: fmt.Sprintf("FAST%04d", i), WWN: fmt.Sprintf("5000c500aabb00%02x", i), Model: "SSD 4000", SizeBytes: 4096 * mib},
			{Name: "disk1", Serial: fmt.Sprintf("SLOW%04d", i), WWN: fmt.Sprintf("5000c500aabb80%02x", i), Model: "HDD 64", SizeBytes: 64 * mib, Rotating: true},
		},
		NICs: []machine.NIC{{MAC: fmt.Sprintf("52:54:00:ab:00:%02x", i), Bridge: s.net.bridge}},
		Dir:  t.TempDir(),
	}
}

// boot runs one boot until it stops, with act called once the system's units
// have printed their lines. It returns why it stopped, and the lines.
func (s *suite) boot(t *testing.T, hw machine.Hardware, from machine.BootSource, act func(cut context.CancelFunc)) (machine.Stop, Report) {
	t.Helper()
	ctx, cut := context.WithTimeout(context.Background(), s.image.Patience)
	defer cut()
	con := NewConsole()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("console:\n%s", con.Tail(6000))
		}
	})
	begin := time.Now()
	go func() {
		select {
		case <-con.Done:
			t.Logf("units ran after %.1f s", time.Since(begin).Seconds())
			if act != nil {
				act(cut)
			}
		case <-ctx.Done():
		}
	}()
	stop, err := hw.Boot(ctx, from, con)
	if err != nil {
		t.Fatalf("boot: %v", err)
	}
	return stop, con.Report()
}

func want[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// nothingLeft checks what can be seen from outside after a machine stopped.
func (s *suite) nothingLeft(t *testing.T, spec machine.Spec) {
	t.Helper()
	want(t, "devices left on the bridge", s.net.ports(t), 0)
	backing, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range backing {
		b, _ := os.ReadFile(f)
		if strings.Contains(string(b), spec.Dir) {
			t.Errorf("loop device left over %s", b)
		}
	}
	out, _ := exec.Command("pgrep", "-af", spec.Dir).Output()
	if len(out) > 0 {
		t.Errorf("processes left:\n%s", out)
	}
}
