package boot

import (
	"context"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Flow is what went over a reader's connection since it was looked at last, as
// the kernel's own TCP counts it: what the reader has confirmed, and for how long
// bytes were under way. Unlike the time between two requests it has no pauses in
// it in which the reader wanted nothing.
type Flow struct {
	Bytes int64         // confirmed by the reader's computer
	Busy  time.Duration // bytes were sent or waited to be; also while the reader had no room for them
}

// gauge reads one connection. It is shared by the requests on it, which follow
// each other.
type gauge struct {
	raw syscall.RawConn

	mu    sync.Mutex
	bytes uint64
	busy  uint64 // microseconds
}

type gaugeKey struct{}

// withGauge lets the requests of a connection find its gauge. What is no TCP
// connection has none.
func withGauge(ctx context.Context, c net.Conn) context.Context {
	if wrapped, ok := c.(interface{ NetConn() net.Conn }); ok { // TLS
		c = wrapped.NetConn()
	}
	sc, ok := c.(syscall.Conn)
	if !ok {
		return ctx
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return ctx
	}
	return context.WithValue(ctx, gaugeKey{}, &gauge{raw: raw})
}

// flowOf gives what is new on a request's connection; zero when that is not known.
func flowOf(r *http.Request) Flow {
	g, ok := r.Context().Value(gaugeKey{}).(*gauge)
	if !ok {
		return Flow{}
	}
	var info *unix.TCPInfo
	var err error
	if g.raw.Control(func(fd uintptr) {
		info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	}) != nil || err != nil {
		return Flow{}
	}
	busy := info.Busy_time
	g.mu.Lock()
	defer g.mu.Unlock()
	f := Flow{Bytes: int64(info.Bytes_acked - min(info.Bytes_acked, g.bytes)), Busy: time.Duration(busy-min(busy, g.busy)) * time.Microsecond}
	g.bytes, g.busy = max(g.bytes, info.Bytes_acked), max(g.busy, busy)
	return f
}
