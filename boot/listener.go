package boot

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
)

// limit bounds the open connections of a listener; further ones wait in the
// kernel's queue.
type limit struct {
	net.Listener
	slots chan struct{}
	done  chan struct{}
	once  sync.Once
}

func newLimit(ln net.Listener, n int) *limit {
	return &limit{Listener: ln, slots: make(chan struct{}, n), done: make(chan struct{})}
}

func (l *limit) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.done:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &slotConn{TCPConn: c.(*net.TCPConn), slots: l.slots}, nil
}

func (l *limit) Close() error {
	l.once.Do(func() { close(l.done) })
	return l.Listener.Close()
}

// slotConn embeds the TCP connection itself so that sendfile stays possible.
type slotConn struct {
	*net.TCPConn
	slots <-chan struct{}
	once  sync.Once
}

func (c *slotConn) Close() error {
	c.once.Do(func() { <-c.slots })
	return c.TCPConn.Close()
}

// certificates holds the server certificate, and makes a wider one when a
// connection arrives on an address it does not name yet (an address that was
// configured after the start).
type certificates struct {
	authority *Authority
	names     []string

	mu    sync.Mutex
	addrs []netip.Addr
	cert  *tls.Certificate
}

func newCertificates(a *Authority, addr net.Addr, names []string) (*certificates, error) {
	c := &certificates{authority: a}
	for _, n := range names {
		if ip, err := netip.ParseAddr(n); err == nil {
			c.addrs = append(c.addrs, ip.Unmap())
			continue
		}
		c.names = append(c.names, n)
	}
	local := addrOf(addr)
	if !local.IsValid() || local.IsUnspecified() {
		found, err := net.InterfaceAddrs()
		if err != nil {
			return nil, fmt.Errorf("list own addresses: %w", err)
		}
		for _, f := range found {
			if p, err := netip.ParsePrefix(f.String()); err == nil {
				c.addrs = append(c.addrs, p.Addr().Unmap())
			}
		}
	} else {
		c.addrs = append(c.addrs, local)
	}
	c.addrs = append(c.addrs, netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback())
	slices.SortFunc(c.addrs, netip.Addr.Compare)
	c.addrs = slices.Compact(c.addrs)
	var err error
	c.cert, err = a.issue(c.addrs, c.names)
	return c, err
}

func (c *certificates) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	local := addrOf(hello.Conn.LocalAddr())
	c.mu.Lock()
	defer c.mu.Unlock()
	if !local.IsValid() || slices.Contains(c.addrs, local) || len(c.addrs) > 1000 {
		return c.cert, nil
	}
	addrs := append(slices.Clone(c.addrs), local)
	cert, err := c.authority.issue(addrs, c.names)
	if err != nil {
		return nil, err
	}
	c.addrs, c.cert = addrs, cert
	return cert, nil
}

func addrOf(a net.Addr) netip.Addr {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	ip, _ := netip.AddrFromSlice(t.IP)
	return ip.Unmap().WithZone("")
}
