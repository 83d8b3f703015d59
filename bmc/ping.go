package bmc

import (
	"context"
	"net"
	"strconv"
	"time"
)

// The RMCP presence ping and its answer (ASF 2.0, sections 3.2.2 to 3.2.4): an
// RMCP header of class ASF, then ASF's enterprise number 4542, type, tag, and
// the length of what follows. It needs no login and carries none.
const (
	asfPing = 0x80
	asfPong = 0x40

	pingTimes = 3
	pingWait  = time.Second // IPMI 2.0, section 13.1.3: a BMC answers within a second
)

func presencePing() []byte {
	return []byte{0x06, 0x00, 0xff, 0x06, 0x00, 0x00, 0x11, 0xbe, asfPing, 0x00, 0x00, 0x00}
}

// isPong tells whether b answers a presence ping with IPMI among the supported
// entities (bit 7 of byte 8 of the data).
func isPong(b []byte) bool {
	const header, ipmi = 12, 0x80
	return len(b) >= header+9 && b[0] == 0x06 && b[3] == 0x06 && b[8] == asfPong && b[header+8]&ipmi != 0
}

// ping asks the host of hostport for RMCP. The channel gives one answer, false
// when stop is called before. An unreachable port is known at once where the
// host says so.
func (p *Prober) ping(ctx context.Context, hostport string) (answered <-chan bool, stop func()) {
	out := make(chan bool, 1)
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer cancel()
		out <- p.pong(ctx, hostport)
	}()
	return out, cancel
}

func (p *Prober) pong(ctx context.Context, hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		return false
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "udp", net.JoinHostPort(host, strconv.Itoa(p.ipmiPort)))
	if err != nil {
		return false
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	buf := make([]byte, 256)
	for range pingTimes {
		if _, err := c.Write(presencePing()); err != nil {
			return false
		}
		if ctx.Err() != nil {
			return false
		}
		_ = c.SetReadDeadline(time.Now().Add(pingWait))
		if ctx.Err() != nil {
			return false
		}
		for {
			n, err := c.Read(buf)
			if err != nil {
				if t, ok := err.(net.Error); ok && t.Timeout() {
					break
				}
				return false
			}
			if isPong(buf[:n]) {
				return true
			}
		}
	}
	return false
}
