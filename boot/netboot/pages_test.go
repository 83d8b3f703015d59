package netboot

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// pages serves what the tests' machines fetch over HTTP, each thing under a key of
// its own; in the product package boot does so.
type pages struct {
	base string // "http://192.0.2.1:1234"
	seen func(Sighting)

	mu    sync.Mutex
	parts map[string]func() (io.ReadSeekCloser, error) // by path
}

// inMemory is content that is no file.
type inMemory struct{ *bytes.Reader }

func (inMemory) Close() error { return nil }

func ofBytes(b []byte) func() (io.ReadSeekCloser, error) {
	return func() (io.ReadSeekCloser, error) { return inMemory{bytes.NewReader(b)}, nil }
}

func ofFile(path string) func() (io.ReadSeekCloser, error) {
	return func() (io.ReadSeekCloser, error) { return os.Open(path) }
}

func newPages(t *testing.T, seen func(Sighting)) *pages {
	t.Helper()
	l, err := net.Listen("tcp4", ourself+":0")
	if err != nil {
		t.Fatal(err)
	}
	p := &pages{base: "http://" + l.Addr().String(), seen: seen, parts: map[string]func() (io.ReadSeekCloser, error){}}
	srv := &http.Server{Handler: p}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close(); <-done })
	return p
}

// put makes content reachable and returns its address.
func (p *pages) put(name string, open func() (io.ReadSeekCloser, error)) string {
	path := "/b/" + NewKey() + "/" + name
	p.mu.Lock()
	defer p.mu.Unlock()
	p.parts[path] = open
	return p.base + path
}

func (p *pages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	open := p.parts[r.URL.Path]
	p.mu.Unlock()
	if open == nil {
		http.NotFound(w, r)
		return
	}
	c, err := open()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer c.Close()
	name := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	switch { // UEFI tells a program from a disc by its type (UEFI 2.10 section 24.7.3.1)
	case strings.HasSuffix(name, ".efi"):
		w.Header().Set("Content-Type", "application/efi")
	case strings.HasSuffix(name, ".iso"):
		w.Header().Set("Content-Type", "application/vnd.efi-iso")
	}
	http.ServeContent(w, r, "", time.Time{}, c)
	if r.Method == http.MethodGet {
		p.seen(Sighting{Kind: SightingFetched, Guest: "q1", File: name})
	}
}
