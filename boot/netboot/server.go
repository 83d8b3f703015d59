package netboot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Config is what a Server needs.
type Config struct {
	Interface string     // the device on the machines' segment
	Address   netip.Addr // ours on it; zero: its first IPv4 address
	Mode      Mode
	Guests    Guests
	// Files is what TFTP serves; nil leaves TFTP out.
	Files Files

	// Report hears what was seen, the same at most once a minute. It must not block.
	Report func(Sighting)
	// Log hears about faults of our own; nil is silent. No keys are logged.
	Log *slog.Logger
	Now func() time.Time // nil: time.Now
}

// Server answers on one interface until Close.
type Server struct {
	self    netip.Addr
	closers []interface{ Close() error }
	wg      sync.WaitGroup
	once    sync.Once
	err     error
}

// Listen starts to answer. It needs the rights to bind ports below 1024 and to
// bind to a device; with CAP_NET_RAW it also sees other servers' answers. The
// end of ctx does not stop the server, Close does.
func Listen(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.Guests == nil || cfg.Mode != Whole && cfg.Mode != Beside {
		return nil, errors.New("network boot: guests and a mode are needed")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	self, mtu, err := addressOf(cfg.Interface, cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("network boot: %w", err)
	}
	s := &Server{self: self}
	if err := s.open(ctx, cfg, mtu); err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("network boot: %w", err)
	}
	return s, nil
}

func (s *Server) open(ctx context.Context, cfg Config, mtu int) error {
	report := newReporter(cfg.Report, cfg.Now)
	ports := []door{doorDHCP}
	if cfg.Mode == Beside {
		ports = append(ports, doorProxy)
	}
	rates := newDHCPRates()
	for _, port := range ports {
		conn, err := listenDHCP(ctx, cfg.Interface, port)
		if err != nil {
			return err
		}
		d := &dhcp{desk: desk{cfg.Mode, s.self}, at: port, conn: conn, guests: cfg.Guests, rates: rates, report: report, log: cfg.Log, now: cfg.Now}
		s.start(conn, d.run)
	}
	if cfg.Files != nil {
		t, err := listenTFTP(ctx, netip.AddrPortFrom(s.self, 69), cfg.Files, mtu)
		if err != nil {
			return err
		}
		t.report, t.log, t.now = report, cfg.Log, cfg.Now
		s.start(t, t.run)
	}
	w, err := openWire(cfg.Interface)
	if err != nil {
		cfg.Log.Warn("other DHCP servers are seen only when clients name them", "err", err)
		return nil
	}
	s.start(w, func() { watchForeign(w, s.self, report) })
	return nil
}

func (s *Server) start(c interface{ Close() error }, run func()) {
	s.closers = append(s.closers, c)
	s.wg.Go(run)
}

// Addr is our address on the interface.
func (s *Server) Addr() netip.Addr { return s.self }

// Close ends everything and returns when nothing runs any more.
func (s *Server) Close() error {
	s.once.Do(func() {
		var errs []error
		for _, c := range s.closers {
			errs = append(errs, c.Close())
		}
		s.err = errors.Join(errs...)
		s.wg.Wait()
	})
	return s.err
}

// addressOf finds our address on an interface and the interface's MTU.
func addressOf(device string, want netip.Addr) (netip.Addr, int, error) {
	ifi, err := net.InterfaceByName(device)
	if err != nil {
		return netip.Addr{}, 0, fmt.Errorf("interface %q: %w", device, err)
	}
	addrs, err := ifi.Addrs()
	if err != nil {
		return netip.Addr{}, 0, fmt.Errorf("addresses of %s: %w", device, err)
	}
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err == nil && p.Addr().Is4() && (!want.IsValid() || p.Addr() == want) {
			return p.Addr(), ifi.MTU, nil
		}
	}
	if want.IsValid() {
		return netip.Addr{}, 0, fmt.Errorf("interface %s has no address %s", device, want)
	}
	return netip.Addr{}, 0, fmt.Errorf("interface %s has no IPv4 address; give it one in the machines' network", device)
}
