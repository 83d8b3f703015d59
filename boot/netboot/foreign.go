package netboot

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
	"golang.org/x/sys/unix"
)

// Gives is what a DHCP server hands out.
type Gives string

const (
	GivesAddresses Gives = "addresses"          // addresses only
	GivesBoot      Gives = "boot"               // a proxyDHCP: only what to boot
	GivesBoth      Gives = "addresses and boot" // both
)

// ForeignServer is a DHCP server that is not ours, as far as its packets tell.
type ForeignServer struct {
	ID      netip.Addr // its server identifier
	From    netip.Addr // where its packets come from; differs behind a relay
	MAC     string     // of the card that sent them; "" when only heard of
	Gives   Gives
	Offered netip.Addr // an address it offered
	Router  netip.Addr
	Domain  string
	Lease   time.Duration
	// What it tells firmware to boot.
	NextServer netip.Addr
	BootFile   string
}

// String names the server in one line.
func (f ForeignServer) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "DHCP server %s", f.ID)
	if f.MAC != "" {
		fmt.Fprintf(&b, " (%s)", f.MAC)
	}
	if f.From.IsValid() && f.From != f.ID {
		fmt.Fprintf(&b, ", by %s", f.From)
	}
	fmt.Fprintf(&b, ", gives %s", f.Gives)
	if f.Offered.IsValid() {
		fmt.Fprintf(&b, ", offered %s", f.Offered)
	}
	if f.BootFile != "" {
		fmt.Fprintf(&b, ", boots %q", f.BootFile)
	}
	return b.String()
}

// foreignOf reads what a server's packet tells of it.
func foreignOf(m *dhcpv4.DHCPv4, from netip.Addr, mac string) (ForeignServer, bool) {
	kind := m.MessageType()
	if m.OpCode != dhcpv4.OpcodeBootReply || kind != dhcpv4.MessageTypeOffer && kind != dhcpv4.MessageTypeAck {
		return ForeignServer{}, false
	}
	address := func(ip net.IP) netip.Addr {
		a, _ := netip.AddrFromSlice(ip.To4())
		if a.IsUnspecified() {
			return netip.Addr{}
		}
		return a
	}
	f := ForeignServer{
		ID: address(m.ServerIdentifier()), From: from, MAC: mac, Gives: GivesAddresses,
		Offered: address(m.YourIPAddr), NextServer: address(m.ServerIPAddr),
		Domain: clean(m.DomainName(), 100), BootFile: clean(m.BootFileNameOption(), maxURL),
		Lease: m.IPAddressLeaseTime(0),
	}
	if r := m.Router(); len(r) > 0 {
		f.Router = address(r[0])
	}
	if !f.ID.IsValid() {
		f.ID = from
	}
	if f.BootFile == "" {
		f.BootFile = clean(m.BootFileName, 128)
	}
	switch boots := f.BootFile != "" || strings.HasPrefix(m.ClassIdentifier(), "PXEClient"); {
	case boots && !f.Offered.IsValid():
		f.Gives = GivesBoot
	case boots:
		f.Gives = GivesBoth
	}
	return f, f.ID.IsValid()
}

// maxForeign bounds what one probe remembers.
const maxForeign = 64

// ForeignWait is for how long a segment should be asked. Many servers first ping the
// address that they are about to offer: dnsmasq for 3 s, ISC's for 1 s, Microsoft's up
// to 5 times 1 s.
const ForeignWait = 8 * time.Second

// foreignMore is for how long others may still answer when one that gives addresses did.
const foreignMore = time.Second

// Foreign asks the segment of an interface for DHCP servers, as a machine that
// does not exist, and returns who answered within wait, or within a second after one
// that gives addresses, ordered by identifier.
// It never takes an address: an offer that nobody requests lapses. It needs
// CAP_NET_RAW. Our own servers answer only guests, so they are never among them.
func Foreign(ctx context.Context, device string, wait time.Duration) ([]ForeignServer, error) {
	w, err := openWire(device)
	if err != nil {
		return nil, fmt.Errorf("look for DHCP servers on %s: %w", device, err)
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	var enough *time.Timer // nil until it is known what matters most
	defer func() {
		if enough != nil {
			enough.Stop()
		}
	}()
	stop := context.AfterFunc(ctx, func() { _ = w.Close() })
	defer stop()
	defer func() { _ = w.Close() }()
	mac := make(net.HardwareAddr, 6)
	_, _ = rand.Read(mac)        // never fails
	mac[0] = mac[0]&^0x01 | 0x02 // locally administered, not a group
	if err := probe(w, mac); err != nil {
		return nil, fmt.Errorf("look for DHCP servers on %s: %w", device, err)
	}
	found := map[netip.Addr]ForeignServer{}
	for {
		d, from, err := w.read()
		if err != nil {
			if ctx.Err() == nil {
				return nil, fmt.Errorf("look for DHCP servers on %s: %w", device, err)
			}
			break
		}
		m, err := dhcpv4.FromBytes(d.payload)
		if err != nil || m.ClientHWAddr.String() != mac.String() {
			continue
		}
		f, ok := foreignOf(m, d.from.Addr(), from)
		if old, known := found[f.ID]; ok && (known || len(found) < maxForeign) {
			found[f.ID] = merge(old, f)
		}
		if ok && f.Gives != GivesBoot && enough == nil {
			enough = time.AfterFunc(foreignMore, cancel)
		}
	}
	out := make([]ForeignServer, 0, len(found))
	for _, f := range found {
		out = append(out, f)
	}
	slices.SortFunc(out, func(a, b ForeignServer) int { return a.ID.Compare(b.ID) })
	return out, nil
}

// merge joins what two answers of one server tell: it may give an address to a
// plain client and a file to firmware.
func merge(old, f ForeignServer) ForeignServer {
	if !old.ID.IsValid() {
		return f
	}
	if !f.Offered.IsValid() {
		f.Offered, f.Lease = old.Offered, old.Lease
	}
	f.BootFile = cmp.Or(f.BootFile, old.BootFile)
	f.Domain = cmp.Or(f.Domain, old.Domain)
	if !f.Router.IsValid() {
		f.Router = old.Router
	}
	if old.Gives != f.Gives {
		f.Gives = GivesBoth
	}
	return f
}

// probe sends a DISCOVER as a plain client, and as PXE and HTTP firmware.
func probe(w *wire, mac net.HardwareAddr) error {
	arch := func(a iana.Arch) dhcpv4.Modifier { return dhcpv4.WithOption(dhcpv4.OptClientArch(a)) }
	class := func(s string) dhcpv4.Modifier { return dhcpv4.WithOption(dhcpv4.OptClassIdentifier(s)) }
	for _, with := range [][]dhcpv4.Modifier{
		nil,
		{class("PXEClient:Arch:00007:UNDI:003016"), arch(iana.EFI_X86_64)},
		{class("HTTPClient:Arch:00016:UNDI:003016"), arch(iana.EFI_X86_64_HTTP)},
	} {
		with = append(with, dhcpv4.WithBroadcast(true), dhcpv4.WithRequestedOptions(dhcpv4.OptionBootfileName, dhcpv4.OptionTFTPServerName))
		m, err := dhcpv4.NewDiscovery(mac, with...)
		if err != nil {
			return err
		}
		if err := w.broadcast(m.ToBytes()); err != nil {
			return err
		}
	}
	return nil
}

// watchForeign reports servers whose answers pass by, until w is closed. It
// hears broadcasts, and what is sent to this computer.
func watchForeign(w *wire, self netip.Addr, report *reporter) {
	for {
		d, mac, err := w.read()
		if errors.Is(err, net.ErrClosed) || errors.Is(err, unix.EBADF) {
			return
		}
		if err != nil {
			time.Sleep(100 * time.Millisecond)
			continue
		}
		m, err := dhcpv4.FromBytes(d.payload)
		if err != nil {
			continue
		}
		f, ok := foreignOf(m, d.from.Addr(), mac)
		if !ok || f.ID == self || f.From == self {
			continue
		}
		report.report(f.ID.String()+" "+f.MAC, Sighting{Kind: SightingForeign, Foreign: &f, Text: f.String() + " answered " + m.ClientHWAddr.String()})
	}
}
