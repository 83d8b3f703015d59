package boot

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// Library finds what is served below /m/<key>/<name>. The key is the only
// protection: at least 128 bits from a cryptographic source as lower-case
// hexadecimal, compared so that time does not tell how much of a guess was
// right (a map keyed by the digest of the key does that). The name is only there
// because some BMCs want an address to end in ".iso"; it is never looked at.
//
// An unknown key is an error that is fs.ErrNotExist, one whose time is over is
// ErrEnded; any other error means that the content exists but cannot be read now.
type Library interface {
	Open(ctx context.Context, key string) (Content, error)
}

// ErrEnded says that a key opened something, and that its time is over. Whoever
// knows such a key did not guess it, so that is no secret.
var ErrEnded = errors.New("the time of this address is over")

// Content is one thing to be served. It is closed after each request.
type Content struct {
	Body io.ReaderAt
	Size int64
	// ETag is quoted as in HTTP: `"…"`. It must change with the bytes, because
	// broken transfers go on where they stopped only when it is the same.
	ETag    string
	ModTime time.Time
	Type    string // media type; "" means application/octet-stream
	// WriteRange, when set, sends n bytes from off on; it exists so that a
	// content of parts can hand files to the kernel. It returns what was sent.
	WriteRange func(w io.Writer, off, n int64) (int64, error)
	// Alive, when set, tells whether this may be served still; it is asked with
	// every step, and a transfer that may not go on is cut.
	Alive func() bool
	Close func() error // may be nil
}

const (
	minKey = 32  // hexadecimal digits: 128 bits
	maxKey = 128 //
	// step is what is written under one deadline, and how often Served hears.
	step = 1 << 20
)

// MediaPath is the path of a content: "/m/<key>/<name>".
func MediaPath(key, name string) string { return "/m/" + key + "/" + name }

func (s *Server) media(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
		return
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(s.cfg.Idle))
	key, ok := mediaKey(r.URL.Path)
	if !ok {
		notFound(w)
		return
	}
	c, err := s.cfg.Library.Open(r.Context(), key)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		notFound(w)
		return
	case errors.Is(err, ErrEnded):
		s.cfg.Log.Warn("an address was asked for after its end", "from", r.RemoteAddr)
		http.Error(w, "the time of this address is over", http.StatusGone)
		return
	case err != nil:
		s.cfg.Log.Warn("medium cannot be read", "from", r.RemoteAddr, "err", err)
		w.Header().Set("Retry-After", retryAfter)
		http.Error(w, "not readable now", http.StatusServiceUnavailable)
		return
	}
	if c.Close != nil {
		defer func() { _ = c.Close() }()
	}
	if c.Type == "" {
		c.Type = "application/octet-stream"
	}
	w.Header().Set("Content-Type", c.Type)
	if c.ETag != "" {
		w.Header().Set("ETag", c.ETag)
	}
	from, _ := netip.ParseAddrPort(r.RemoteAddr)
	out := &stream{ResponseWriter: w, idle: s.cfg.Idle, buffers: &s.buffers, sent: func(n int64) {
		if s.cfg.Served != nil {
			s.cfg.Served(key, from.Addr().Unmap(), n)
		}
		if s.cfg.Flowed != nil {
			s.cfg.Flowed(key, flowOf(r))
		}
	}}
	if r.Method == http.MethodHead {
		out.sent(0)
	}
	http.ServeContent(out, r, "", c.ModTime, &reader{SectionReader: io.NewSectionReader(c.Body, 0, c.Size), content: c})
}

// mediaKey takes the key out of a path, when it has the form of one.
func mediaKey(path string) (string, bool) {
	rest, ok := strings.CutPrefix(path, "/m/")
	if !ok {
		return "", false
	}
	key, name, _ := strings.Cut(rest, "/")
	if len(key) < minKey || len(key) > maxKey || !isHex(key) || strings.Contains(name, "/") {
		return "", false
	}
	return key, true
}

// RegistryPath is where container runtimes look for a registry (OCI
// distribution specification 1.1, "Endpoints").
const RegistryPath = "/v2/"

// registry serves the registry with the deadlines that media have: a layer may
// take long, but not stand still.
func (s *Server) registry() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out := &stream{ResponseWriter: w, idle: s.cfg.Idle, buffers: &s.buffers, sent: func(int64) {}}
		out.move()
		s.cfg.Registry.ServeHTTP(out, r)
	})
}

func notFound(w http.ResponseWriter) { http.Error(w, "no such medium", http.StatusNotFound) }

// reader is the content as http.ServeContent wants it; stream finds the content
// behind it again.
type reader struct {
	*io.SectionReader
	content Content
}

// stream moves the write deadline with every step that was taken, so that a
// transfer may last hours but not stand still.
type stream struct {
	http.ResponseWriter
	idle    time.Duration
	sent    func(int64)
	buffers *sync.Pool
}

func (s *stream) Unwrap() http.ResponseWriter { return s.ResponseWriter }

func (s *stream) Write(p []byte) (int, error) {
	s.move()
	n, err := s.ResponseWriter.Write(p)
	s.sent(int64(n))
	return n, err
}

// ReadFrom is what io.CopyN inside http.ServeContent calls.
func (s *stream) ReadFrom(src io.Reader) (int64, error) {
	limited, ok := src.(*io.LimitedReader)
	if !ok {
		return s.copy(src)
	}
	r, ok := limited.R.(*reader)
	if !ok || r.content.WriteRange == nil {
		return s.copy(src)
	}
	off, err := r.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, err
	}
	var done int64
	for done < limited.N {
		if r.content.Alive != nil && !r.content.Alive() {
			return done, errOver
		}
		s.move()
		n, err := r.content.WriteRange(s.ResponseWriter, off+done, min(step, limited.N-done))
		done += n
		s.sent(n)
		if err != nil {
			return done, err
		}
		if n == 0 {
			return done, io.ErrUnexpectedEOF
		}
	}
	return done, nil
}

// errOver cuts a transfer whose address ended meanwhile: a BMC that reads the
// medium of an attempt that was left must not go on for hours.
var errOver = errors.New("boot: what is served ended")

// buffer is what one stream copies through. Buffers are pooled: hundreds of
// readers at 256 KiB each, only while they copy.
type buffer [256 << 10]byte

func (s *stream) copy(src io.Reader) (int64, error) {
	buf, ok := s.buffers.Get().(*buffer)
	if !ok {
		buf = new(buffer)
	}
	defer s.buffers.Put(buf)
	return io.CopyBuffer(onlyWriter{s}, src, buf[:])
}

type onlyWriter struct{ io.Writer }

func (s *stream) move() {
	_ = http.NewResponseController(s.ResponseWriter).SetWriteDeadline(time.Now().Add(s.idle))
}
