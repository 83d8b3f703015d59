package netboot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sys/unix"
)

const (
	// maxPacket is more than any client sends: firmware stays below 1500 bytes.
	maxPacket = 2048
	// maxHops is where RFC 1542 section 4.1.1 lets relays give up.
	maxHops = 16
)

// dhcpRates limit guests and strangers apart, so that a flood of invented
// machines keeps no guest waiting. A client sends some ten packets for one boot,
// with repeats; a rack of a thousand that powers on at once some hundreds a
// second, and waits.
type dhcpRates struct {
	guests, strangers *limiter[string]
}

func newDHCPRates() dhcpRates {
	each := rate{perSecond: 5, burst: 30}
	return dhcpRates{
		guests:    newLimiter[string](each, rate{perSecond: 500, burst: 2000}, 8192),
		strangers: newLimiter[string](each, rate{perSecond: 100, burst: 500}, 4096),
	}
}

func (r dhcpRates) allow(c Client, guest bool, now time.Time) bool {
	if guest {
		return r.guests.allow(c.MAC, now)
	}
	return r.strangers.allow(c.MAC, now)
}

// listenDHCP opens a UDP port for broadcasts on one interface. The port is not
// shared: another server of this computer on the same interface is an error.
func listenDHCP(ctx context.Context, device string, port door) (*net.UDPConn, error) {
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		if cerr := raw.Control(func(fd uintptr) {
			err = errors.Join(
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1),
				unix.BindToDevice(int(fd), device),
			)
		}); cerr != nil {
			return cerr
		}
		return err
	}}
	conn, err := lc.ListenPacket(ctx, "udp4", fmt.Sprintf("0.0.0.0:%d", port))
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, fmt.Errorf("answer DHCP on %s: another DHCP server of this computer has port %d; stop it there, or serve from another interface: %w", device, port, err)
	}
	if err != nil {
		return nil, fmt.Errorf("answer DHCP on %s: %w", device, err)
	}
	return conn.(*net.UDPConn), nil
}

// dhcp answers at one port.
type dhcp struct {
	desk   desk
	at     door
	conn   *net.UDPConn
	guests Guests
	rates  dhcpRates
	report *reporter
	log    *slog.Logger
	now    func() time.Time
}

// run answers until the connection is closed.
func (s *dhcp) run() {
	buf := make([]byte, maxPacket)
	for {
		n, from, err := s.conn.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || n == len(buf) {
			if err != nil {
				s.log.Warn("reading DHCP", "err", err)
				time.Sleep(100 * time.Millisecond) // an interface that went away must not spin
			}
			continue
		}
		out, to := s.handle(buf[:n], netip.AddrPortFrom(from.Addr().Unmap(), from.Port()))
		if out != nil {
			s.send(out, to)
		}
	}
}

// handle turns one packet into the answer and its destination, or nil.
func (s *dhcp) handle(packet []byte, from netip.AddrPort) ([]byte, netip.AddrPort) {
	nothing := netip.AddrPort{}
	m, err := dhcpv4.FromBytes(packet)
	if err != nil || m.HopCount > maxHops {
		return nil, nothing
	}
	c, ok := clientOf(m)
	if !ok {
		return nil, nothing
	}
	now := s.now()
	g, ok := s.guests.Guest(c)
	if !s.rates.allow(c, ok, now) {
		return nil, nothing
	}
	s.watch(m, c)
	switch {
	case !ok:
		if c.Class != ClassSystem { // laptops and printers are nobody's business here
			s.report.report(c.MAC, Sighting{Kind: SightingUnknown, Client: c, Text: "it asks to boot from the network and is in no plan"})
		}
		return nil, nothing
	case !now.Before(g.Until):
		s.report.report(c.MAC, Sighting{Kind: SightingLate, Client: c, Guest: g.Name, Text: "its time ended at " + g.Until.UTC().Format(time.RFC3339)})
		return nil, nothing
	}
	if err := g.Check(s.desk.mode); err != nil {
		s.report.report(c.MAC, Sighting{Kind: SightingInvalid, Client: c, Guest: g.Name, Text: err.Error()})
		return nil, nothing
	}
	r, v := s.desk.answer(m, c, g, s.at)
	s.report.report(c.MAC+" "+string(c.Class), Sighting{Kind: v.kind, Client: c, Guest: g.Name, Text: v.why})
	if r == nil {
		return nil, nothing
	}
	to, ok := destination(m, r, g, from, s.at)
	if !ok {
		return nil, nothing
	}
	return r.ToBytes(), to
}

// watch learns of other servers from what clients say: whom they chose.
func (s *dhcp) watch(m *dhcpv4.DHCPv4, c Client) {
	if s.at != doorDHCP || m.MessageType() != dhcpv4.MessageTypeRequest {
		return
	}
	id, ok := netip.AddrFromSlice(m.ServerIdentifier().To4())
	if !ok || id == s.desk.self {
		return
	}
	f := ForeignServer{ID: id, Gives: GivesAddresses}
	if a, ok := netip.AddrFromSlice(m.RequestedIPAddress().To4()); ok {
		f.Offered = a
	}
	s.report.report(id.String(), Sighting{Kind: SightingForeign, Client: c, Foreign: &f, Text: c.MAC + " took an address from " + id.String()})
}

// destination says where an answer goes (RFC 2131 section 4.1). To a client
// without an address it is always a broadcast: unicast would need an entry in the
// neighbour table, and firmware takes either.
func destination(m, r *dhcpv4.DHCPv4, g Guest, from netip.AddrPort, at door) (netip.AddrPort, bool) {
	client, _ := netip.AddrFromSlice(m.ClientIPAddr.To4())
	relay, _ := netip.AddrFromSlice(m.GatewayIPAddr.To4())
	everybody := netip.AddrPortFrom(netip.AddrFrom4([4]byte{255, 255, 255, 255}), 68)
	switch {
	case at == doorProxy:
		// the boot server answers the port it was asked from
		return from, from.Addr().Is4() && !from.Addr().IsUnspecified()
	case relay.IsValid() && !relay.IsUnspecified():
		// only a relay in the guest's own network is one; any other address would
		// make us send where a stranger wants
		return netip.AddrPortFrom(relay, 67), g.Address.Masked().Contains(relay)
	case r.MessageType() == dhcpv4.MessageTypeNak:
		return everybody, true
	case client.IsValid() && !client.IsUnspecified():
		return netip.AddrPortFrom(client, 68), client == g.Address.Addr()
	}
	return everybody, true
}

// send writes from our address: the interface may have others.
func (s *dhcp) send(b []byte, to netip.AddrPort) {
	source := unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: s.desk.self.As4()})
	if _, _, err := s.conn.WriteMsgUDPAddrPort(b, source, to); err != nil && !errors.Is(err, net.ErrClosed) {
		s.log.Warn("answering DHCP", "to", to.String(), "err", err)
	}
}
