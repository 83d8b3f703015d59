package boot

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"metalrise.dev/fleet/callhome"
)

// Config is what a Server needs.
type Config struct {
	// Addr is where TLS is served: "10.0.1.5:8443", "0.0.0.0:8443", or with
	// port 0 for any free one.
	Addr string
	// PlainAddr serves media, and media only, over plain HTTP for BMCs that
	// cannot speak our TLS. "" switches it off.
	PlainAddr string
	// Names are further addresses or host names that machines may know us by,
	// for example behind address translation.
	Names []string

	Authority *Authority
	Desk      Desk
	Library   Library
	// Registry, when set, answers everything below RegistryPath over TLS. Whether
	// a caller may is for it to say.
	Registry http.Handler
	// Served, when set, hears how much of a medium was read, by whom, while it
	// is read: bytes is what came since the last call for the same request, 0
	// for a HEAD request. It must not block.
	Served func(key string, from netip.Addr, bytes int64)
	// Flowed, when set, hears together with Served how fast the reader's
	// connection took it. It must not block.
	Flowed func(key string, f Flow)
	// Log hears about refusals and faults; nil is silent.
	Log *slog.Logger

	// MaxConns bounds the connections of each listener; 0 means 4096.
	MaxConns int
	// Idle is how long a reader may take nothing before it is dropped; 0 means
	// two minutes, since BMCs pause while the machine behind them starts.
	Idle time.Duration
}

// Server serves until Close.
type Server struct {
	cfg    Config
	tls    *http.Server
	plain  *http.Server
	addr   net.Addr
	paddr  net.Addr
	wg     sync.WaitGroup
	closed sync.Once
	// buffers holds *buffer.
	buffers sync.Pool
}

const (
	maxHeader     = 32 << 10
	headerTimeout = 15 * time.Second // TLS handshake and request header
	bodyTimeout   = 60 * time.Second // a call's body of some 100 KiB over a bad link
	closeTimeout  = 5 * time.Second
)

// Listen starts to serve. Calls to Desk and Library get a context with the
// values of ctx that ends when the caller is gone: what must not stop half-way
// has to be detached from it. The end of ctx does not stop the server, Close does.
func Listen(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.Authority == nil || cfg.Desk == nil || cfg.Library == nil {
		return nil, errors.New("boot: authority, desk and library are needed")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.MaxConns <= 0 {
		cfg.MaxConns = 4096
	}
	if cfg.Idle <= 0 {
		cfg.Idle = 2 * time.Minute
	}
	s := &Server{cfg: cfg}
	ln, err := s.listen(ctx, cfg.Addr)
	if err != nil {
		return nil, err
	}
	s.addr = ln.Addr()
	certs, err := newCertificates(cfg.Authority, s.addr, cfg.Names)
	if err != nil {
		_ = ln.Close()
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/m/", s.media)
	mux.HandleFunc("POST "+callhome.PathWho, call(s, checkWho, cfg.Desk.Who))
	mux.HandleFunc("POST "+callhome.PathHello, call(s, checkHello, cfg.Desk.Hello))
	mux.HandleFunc("POST "+callhome.PathProgress, call(s, checkProgress, cfg.Desk.Progress))
	mux.HandleFunc("POST "+callhome.PathWritten, call(s, checkWritten, cfg.Desk.Written))
	mux.HandleFunc("POST "+callhome.PathFailed, call(s, checkFailed, cfg.Desk.Failed))
	mux.HandleFunc("POST "+callhome.PathErased, call(s, checkErased, cfg.Desk.Erased))
	mux.HandleFunc("POST "+callhome.PathTask, call(s, checkTask, cfg.Desk.Task))
	if cfg.Registry != nil {
		mux.Handle(RegistryPath, s.registry())
	}
	s.tls = s.httpServer(ctx, mux)
	secure := tls.NewListener(ln, &tls.Config{
		MinVersion:     tls.VersionTLS12,
		ClientAuth:     tls.RequestClientCert,
		GetCertificate: certs.get,
		NextProtos:     []string{"http/1.1"},
	})
	if cfg.PlainAddr != "" {
		pln, err := s.listen(ctx, cfg.PlainAddr)
		if err != nil {
			_ = ln.Close()
			return nil, err
		}
		s.paddr = pln.Addr()
		pmux := http.NewServeMux()
		pmux.HandleFunc("/m/", s.media)
		s.plain = s.httpServer(ctx, pmux)
		s.serve(s.plain, pln)
	}
	s.serve(s.tls, secure)
	return s, nil
}

func (s *Server) listen(ctx context.Context, addr string) (net.Listener, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("serve machines on %s: %w", addr, err)
	}
	return newLimit(ln, s.cfg.MaxConns), nil
}

func (s *Server) httpServer(ctx context.Context, h http.Handler) *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP1(true) // one stream per connection keeps write deadlines simple
	return &http.Server{
		Handler:           h,
		Protocols:         &protocols,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       s.cfg.Idle,
		MaxHeaderBytes:    maxHeader,
		ConnContext:       withGauge,
		BaseContext:       func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
		// net/http's own lines name addresses only, but a stream of them from
		// port scanners is of no use to anybody.
		ErrorLog: log.New(io.Discard, "", 0),
	}
}

func (s *Server) serve(srv *http.Server, ln net.Listener) {
	s.wg.Go(func() {
		if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			s.cfg.Log.Error("serving machines ended", "addr", ln.Addr().String(), "err", err)
		}
	})
}

// Addr is where TLS is served.
func (s *Server) Addr() net.Addr { return s.addr }

// PlainAddr is where plain HTTP is served, or nil.
func (s *Server) PlainAddr() net.Addr { return s.paddr }

// Close lets running calls end for some seconds, cuts what is left and returns
// when nothing runs any more.
func (s *Server) Close() error {
	s.closed.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		for _, srv := range []*http.Server{s.tls, s.plain} {
			if srv == nil {
				continue
			}
			if srv.Shutdown(ctx) != nil {
				_ = srv.Close()
			}
		}
	})
	s.wg.Wait()
	return nil
}
