package netboot

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/insomniacslk/dhcp/iana"
)

// udhcpc asks for an address as BusyBox does and returns the environment that its
// script got.
func udhcpc(t *testing.T, ns string, args ...string) (string, error) {
	t.Helper()
	need(t, "busybox", "busybox")
	dir := t.TempDir()
	script := filepath.Join(dir, "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n[ \"$1\" = bound ] && env > "+dir+"/bound\nexit 0\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := in(t.Context(), ns, append([]string{"busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-f", "-t", "2", "-T", "1", "-s", script,
		"-O", "bootfile", "-O", "tftp", "-O", "dns", "-O", "router", "-O", "subnet"}, args...)...)
	if err != nil {
		return out, err
	}
	b, err := os.ReadFile(filepath.Join(dir, "bound"))
	return string(b), err
}

func TestAGuestGetsItsAddressAndFile(t *testing.T) {
	newSegment(t)
	b := book()
	listen(t, b, Whole)
	plug(t, "n1", knownMAC)
	got, err := udhcpc(t, "n1", "-V", "PXEClient:Arch:00000:UNDI:002001", "-x", "0x5d:0000")
	if err != nil {
		t.Fatal(err, got)
	}
	for _, want := range []string{"ip=192.0.2.11", "subnet=255.255.255.0", "router=192.0.2.254", "dns=192.0.2.53", "serverid=192.0.2.1",
		"siaddr=192.0.2.1", "boot_file=undionly.kpxe", "bootfile=undionly.kpxe", "tftp=192.0.2.1", "lease=7200"} {
		if !strings.Contains(got, want+"\n") {
			t.Errorf("udhcpc was not told %s, only:\n%s", want, got)
		}
	}
	if s := b.saw(SightingLeased); s == nil || s.Guest != "n1" || s.Client.Class != ClassPXE || s.Client.Arch != ArchBIOS {
		t.Errorf("sighting of the lease: %+v", s)
	}
}

func TestDhclientGetsItsAddress(t *testing.T) {
	newSegment(t)
	need(t, "dhclient", "isc-dhcp-client")
	listen(t, book(), Whole)
	plug(t, "n1", knownMAC)
	dir := t.TempDir()
	background(t, "n1", "bound to 192.0.2.11", "dhclient", "-4", "-1", "-d", "-sf", "/bin/true", "-lf", dir+"/leases", "-pf", dir+"/pid", "--no-pid", "eth0")
}

func TestStrangersAndLateGuestsHearNothing(t *testing.T) {
	newSegment(t)
	b := book()
	listen(t, b, Whole)
	plug(t, "n9", "02:00:00:00:09:09")
	if got, err := udhcpc(t, "n9", "-t", "1", "-V", "PXEClient:Arch:00000:UNDI:002001"); err == nil {
		t.Errorf("an unknown machine was told\n%s", got)
	}
	if s := b.saw(SightingUnknown); s == nil || s.Client.MAC != "02:00:00:00:09:09" {
		t.Errorf("the unknown machine was not reported: %+v", s)
	}
	plug(t, "n1", knownMAC)
	late := b.guests[knownMAC]
	late.Until = time.Now().Add(-time.Second)
	b.mu.Lock()
	b.guests[knownMAC] = late
	b.mu.Unlock()
	if got, err := udhcpc(t, "n1", "-t", "1"); err == nil {
		t.Errorf("a guest after its time was told\n%s", got)
	}
	if s := b.saw(SightingLate); s == nil || s.Guest != "n1" {
		t.Errorf("the late guest was not reported: %+v", s)
	}
}

// TestLeaseOfNclient also asks for an address that is not the planned one.
func TestLeaseOfNclient(t *testing.T) {
	newSegment(t)
	listen(t, book(), Whole)
	mac, _ := net.ParseMAC(knownMAC)
	run(t, "ip", "link", "add", "nbc0", "type", "veth", "peer", "name", "nbc1", "address", knownMAC)
	t.Cleanup(func() { run(t, "ip", "link", "del", "nbc0") })
	run(t, "ip", "link", "set", "nbc0", "master", bridge, "up")
	run(t, "ip", "link", "set", "nbc1", "up")
	c, err := nclient4.New("nbc1", nclient4.WithHWAddr(mac), nclient4.WithTimeout(2*time.Second), nclient4.WithRetry(2))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	lease, err := c.Request(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := lease.ACK.YourIPAddr.String(); got != "192.0.2.11" {
		t.Errorf("address %s", got)
	}
	if lease.ACK.BootFileName != "" {
		t.Errorf("a plain system was told to boot %q", lease.ACK.BootFileName)
	}
	lease.Offer.YourIPAddr = net.IPv4(192, 0, 2, 99)
	if ack, err := c.RequestFromOffer(t.Context(), lease.Offer); err == nil {
		t.Errorf("192.0.2.99 was confirmed: %v", ack)
	} else if nak := new(nclient4.ErrNak); !errors.As(err, &nak) {
		t.Errorf("want a refusal, got %v", err)
	}
}

func TestBesideDnsmasq(t *testing.T) {
	newSegment(t)
	b := book()
	dnsmasq(t)
	listen(t, b, Beside)
	plug(t, "n1", knownMAC)
	got, err := udhcpc(t, "n1")
	if err != nil || !strings.Contains(got, "ip=192.0.2.1") || !strings.Contains(got, "serverid=192.0.2.2\n") {
		t.Fatalf("a plain client: %v\n%s", err, got)
	}
	offers := discover(t, knownMAC, "PXEClient:Arch:00007:UNDI:003016", iana.EFI_X86_64)
	theirs, ours := offers["192.0.2.2"], offers[ourself]
	if theirs == nil || theirs.YourIPAddr.IsUnspecified() || theirs.BootFileName != "" {
		t.Errorf("dnsmasq offered %v", theirs)
	}
	if ours == nil || !ours.YourIPAddr.IsUnspecified() || ours.BootFileNameOption() != LoaderUEFI || ours.ClassIdentifier() != "PXEClient" ||
		ours.ServerIPAddr.String() != ourself || ours.IPAddressLeaseTime(0) != 0 {
		t.Errorf("we offered %v", ours)
	}
	if s := b.saw(SightingProxied); s == nil || s.Client.Arch != ArchUEFIx64 {
		t.Errorf("sighting: %+v", s)
	}
	// nothing for strangers
	if got := discover(t, "02:00:00:00:09:09", "PXEClient:Arch:00007:UNDI:003016", iana.EFI_X86_64); got[ourself] != nil || got["192.0.2.2"] == nil {
		t.Errorf("a stranger heard %v", got)
	}
	// the other server is named from what passed by
	until(t, "the foreign server to be reported", func() bool { return b.saw(SightingForeign) != nil })
	if f := b.saw(SightingForeign).Foreign; f.ID.String() != "192.0.2.2" {
		t.Errorf("foreign: %v", f)
	}
	bootServer(t)
}

// bootServer asks port 4011 from a namespace's address.
func bootServer(t *testing.T) {
	t.Helper()
	mac, _ := net.ParseMAC(knownMAC)
	conn, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.ParseIP(ourself), Port: 4011})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	m, err := dhcpv4.New(dhcpv4.WithHwAddr(mac), dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest), dhcpv4.WithClientIP(net.IPv4(192, 0, 2, 100)),
		dhcpv4.WithOption(dhcpv4.OptClassIdentifier("PXEClient:Arch:00000:UNDI:002001")), dhcpv4.WithOption(dhcpv4.OptClientArch(iana.INTEL_X86PC)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(m.ToBytes()); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	buf := make([]byte, 2048)
	n, err := conn.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	r, err := dhcpv4.FromBytes(buf[:n])
	if err != nil || r.MessageType() != dhcpv4.MessageTypeAck || r.BootFileName != LoaderBIOS || r.ServerIPAddr.String() != ourself {
		t.Errorf("the boot server said %v (%v)", r, err)
	}
}

// discover asks as firmware and returns the offers that came within a second, by
// server.
func discover(t *testing.T, mac, class string, arch iana.Arch, more ...dhcpv4.Modifier) map[string]*dhcpv4.DHCPv4 {
	t.Helper()
	hw, err := net.ParseMAC(mac)
	if err != nil {
		t.Fatal(err)
	}
	name := "nbd0"
	run(t, "ip", "link", "add", name, "type", "veth", "peer", "name", "nbd1")
	defer run(t, "ip", "link", "del", name)
	run(t, "ip", "link", "set", name, "master", bridge, "up")
	run(t, "ip", "link", "set", "nbd1", "up")
	forwards(t, name)
	w, err := openWire("nbd1")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = w.Close() })()
	m, err := dhcpv4.NewDiscovery(hw, append(more, dhcpv4.WithOption(dhcpv4.OptClassIdentifier(class)), dhcpv4.WithOption(dhcpv4.OptClientArch(arch)), dhcpv4.WithBroadcast(true))...)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.broadcast(m.ToBytes()); err != nil {
		t.Fatal(err)
	}
	out := map[string]*dhcpv4.DHCPv4{}
	for {
		d, _, err := w.read()
		if err != nil {
			return out
		}
		if r, err := dhcpv4.FromBytes(append([]byte(nil), d.payload...)); err == nil && r.TransactionID == m.TransactionID {
			out[d.from.Addr().String()] = r
		}
	}
}

func TestForeignServersAreNamed(t *testing.T) {
	newSegment(t)
	if found, err := Foreign(t.Context(), bridge, 300*time.Millisecond); err != nil || len(found) != 0 {
		t.Fatalf("an empty segment has %v (%v)", found, err)
	}
	dnsmasq(t, "--dhcp-boot=rogue.0,evil,192.0.2.66", "--dhcp-option=3,192.0.2.77")
	b := book()
	listen(t, b, Whole) // ours is not among them
	found, err := Foreign(t.Context(), bridge, 1500*time.Millisecond)
	if err != nil || len(found) != 1 {
		t.Fatalf("found %v (%v)", found, err)
	}
	f := found[0]
	if f.ID.String() != "192.0.2.2" || f.From != f.ID || f.MAC != "02:00:00:00:00:02" || f.Gives != GivesBoth || !f.Offered.IsValid() ||
		f.BootFile != "rogue.0" || f.NextServer.String() != "192.0.2.66" || f.Router.String() != "192.0.2.77" || f.Domain != "rogue.example" || f.Lease != time.Hour {
		t.Errorf("found %+v", f)
	}
	t.Log(f)
	// and by listening only: what it answers to others
	plug(t, "n7", "02:00:00:00:07:07")
	if _, err := udhcpc(t, "n7", "-B"); err != nil {
		t.Fatal(err)
	}
	until(t, "the foreign server to be reported", func() bool { return b.saw(SightingForeign) != nil })
	if f := b.saw(SightingForeign).Foreign; f.ID != netip.MustParseAddr("192.0.2.2") {
		t.Errorf("foreign: %v", f)
	}
}

// TestSlowForeignServerIsFound: one that pings before it offers is found all the same.
func TestSlowForeignServerIsFound(t *testing.T) {
	newSegment(t)
	slowDnsmasq(t)
	found, err := Foreign(t.Context(), bridge, ForeignWait)
	if err != nil || len(found) != 1 || found[0].Gives != GivesAddresses || !found[0].Offered.IsValid() {
		t.Errorf("found %v (%v)", found, err)
	}
}

func TestSecondServerOnOneInterface(t *testing.T) {
	newSegment(t)
	listen(t, book(), Whole)
	_, err := Listen(t.Context(), Config{Interface: bridge, Mode: Whole, Guests: book()})
	if err == nil || !strings.Contains(err.Error(), "another DHCP server of this computer") {
		t.Errorf("got %v", err)
	}
}
