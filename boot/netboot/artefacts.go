package netboot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Library finds what is served below /b/KEY/NAME. Unknown, expired and
// misdirected keys are all fs.ErrNotExist. It answers from memory.
type Library interface {
	Item(key, name string, peer netip.Addr, now time.Time) (Item, error)
}

const (
	// step is what is sent under one deadline.
	step = 1 << 20
	// idle is how long a reader may take nothing.
	idle = 2 * time.Minute

	headerTimeout = 15 * time.Second
	maxHeader     = 16 << 10
	maxConns      = 2048
	closeTimeout  = 3 * time.Second
)

// Artefacts serves a Library over HTTP: GET and HEAD, ranges, entity tags. It may
// be mounted on any server; it looks at paths below /b/ only.
type Artefacts struct {
	Library Library
	Report  func(Sighting) // may be nil; must not block
	Log     *slog.Logger   // may be nil
	Now     func() time.Time

	once   sync.Once
	report *reporter
}

func (a *Artefacts) prepare() {
	if a.Log == nil {
		a.Log = slog.New(slog.DiscardHandler)
	}
	if a.Now == nil {
		a.Now = time.Now
	}
	a.report = newReporter(a.Report, a.Now)
}

// ServeHTTP implements http.Handler.
func (a *Artefacts) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.once.Do(a.prepare)
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
		return
	}
	from, _ := netip.ParseAddrPort(r.RemoteAddr)
	peer := from.Addr().Unmap()
	key, name, ok := splitPath(r.URL.Path)
	if !ok {
		http.NotFound(w, r)
		return
	}
	it, err := a.Library.Item(key, name, peer, a.Now())
	if errors.Is(err, fs.ErrNotExist) {
		http.NotFound(w, r)
		return
	}
	var c Content
	if err == nil {
		c, err = it.Open()
	}
	if err != nil {
		a.Log.Warn("artefact cannot be read", "name", name, "from", peer, "err", err)
		w.Header().Set("Retry-After", "5")
		http.Error(w, "not readable now", http.StatusServiceUnavailable)
		return
	}
	if c.Close != nil {
		defer func() { _ = c.Close() }()
	}
	h := w.Header()
	h.Set("Content-Type", mediaType(name))
	h.Set("Cache-Control", "no-store") // a proxy must not outlive the key
	if c.ETag != "" {
		h.Set("ETag", c.ETag)
	}
	out := &paced{ResponseWriter: w}
	var body io.ReadSeeker = io.NewSectionReader(c.Body, 0, c.Size)
	if f, ok := c.Body.(*os.File); ok {
		body = f
	}
	http.ServeContent(out, r, "", c.ModTime, body)
	a.tell(r, it, peer, c.Size, out.sent)
}

func (a *Artefacts) tell(r *http.Request, it Item, peer netip.Addr, size, sent int64) {
	if r.Method == http.MethodHead {
		return
	}
	s := Sighting{Kind: SightingFetched, Guest: it.Guest, Peer: peer, File: it.Name, Bytes: sent}
	if r.Header.Get("Range") == "" && sent < size && r.Header.Get("If-None-Match") == "" {
		s.Kind, s.Text = SightingBroken, fmt.Sprintf("%d of %d bytes were taken", sent, size)
	}
	a.report.report(peer.String()+" "+it.Guest+" "+it.Name, s)
}

func splitPath(p string) (key, name string, ok bool) {
	rest, ok := strings.CutPrefix(p, pathPrefix)
	if !ok {
		return "", "", false
	}
	key, name, ok = strings.Cut(rest, "/")
	return key, name, ok && isKey(key) && fileName(name)
}

// mediaType is by what UEFI tells a program from a disc (UEFI 2.10 section
// 24.7.3.1); it looks at the name only when the type is missing.
func mediaType(name string) string {
	switch strings.ToLower(path.Ext(name)) {
	case ".efi":
		return "application/efi"
	case ".iso":
		return "application/vnd.efi-iso"
	case ".img":
		return "application/octet-stream" // vnd.efi-img would be a bootable disk
	case ".ipxe":
		return "text/plain; charset=us-ascii"
	}
	return "application/octet-stream"
}

// paced moves the write deadline with every step, so that a transfer may last
// long but not stand still, and counts.
type paced struct {
	http.ResponseWriter
	sent int64
}

func (p *paced) Unwrap() http.ResponseWriter { return p.ResponseWriter }

func (p *paced) move() {
	_ = http.NewResponseController(p.ResponseWriter).SetWriteDeadline(time.Now().Add(idle))
}

func (p *paced) Write(b []byte) (int, error) {
	p.move()
	n, err := p.ResponseWriter.Write(b)
	p.sent += int64(n)
	return n, err
}

// ReadFrom is what http.ServeContent uses; a file below goes on to the kernel.
func (p *paced) ReadFrom(src io.Reader) (int64, error) {
	var done int64
	for {
		p.move()
		n, err := io.CopyN(p.ResponseWriter, src, step)
		done += n
		p.sent += n
		if err == io.EOF {
			return done, nil
		}
		if err != nil {
			return done, err
		}
	}
}

// web is the listener for artefacts.
type web struct {
	srv  *http.Server
	addr netip.AddrPort
	done chan struct{}
}

func listenWeb(ctx context.Context, at netip.AddrPort, h http.Handler, lg *slog.Logger) (*web, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp4", at.String())
	if err != nil {
		return nil, fmt.Errorf("serve artefacts on %s: %w", at, err)
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	w := &web{addr: ln.Addr().(*net.TCPAddr).AddrPort(), done: make(chan struct{}), srv: &http.Server{
		Handler: h, Protocols: &protocols,
		ReadHeaderTimeout: headerTimeout, IdleTimeout: idle, MaxHeaderBytes: maxHeader,
		// net/http's own lines are of no use and may hold addresses with keys
		ErrorLog: log.New(io.Discard, "", 0),
	}}
	go func() {
		defer close(w.done)
		if err := w.srv.Serve(&bounded{Listener: ln, max: maxConns}); !errors.Is(err, http.ErrServerClosed) {
			lg.Error("serving artefacts ended", "addr", at.String(), "err", err)
		}
	}()
	return w, nil
}

func (w *web) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if w.srv.Shutdown(ctx) != nil {
		_ = w.srv.Close()
	}
	<-w.done
	return nil
}

// bounded closes connections beyond a number at once.
type bounded struct {
	net.Listener
	max  int64
	open atomic.Int64
}

func (b *bounded) Accept() (net.Conn, error) {
	for {
		c, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if b.open.Add(1) <= b.max {
			return &counted{Conn: c, open: &b.open}, nil
		}
		b.open.Add(-1)
		_ = c.Close()
	}
}

type counted struct {
	net.Conn
	open *atomic.Int64
	once sync.Once
}

func (c *counted) Close() error {
	c.once.Do(func() { c.open.Add(-1) })
	return c.Conn.Close()
}

// ReadFrom lets the kernel send files.
func (c *counted) ReadFrom(r io.Reader) (int64, error) {
	if rf, ok := c.Conn.(io.ReaderFrom); ok {
		return rf.ReadFrom(r)
	}
	return io.Copy(struct{ io.Writer }{c.Conn}, r)
}
