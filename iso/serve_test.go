package iso

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"metalrise.dev/iso/isotest"
)

func personal(tb testing.TB, b *Base) (*Image, []byte) {
	tb.Helper()
	im, err := b.Personalise(Personal{Ignition: []byte(config), AppendKargs: []string{"console=ttyS0"}})
	if err != nil {
		tb.Fatal(err)
	}
	want, err := io.ReadAll(io.NewSectionReader(im, 0, im.Size()))
	if err != nil {
		tb.Fatal(err)
	}
	return im, want
}

func TestReaderKeepsTheContract(t *testing.T) {
	im, want := personal(t, open(t, isotest.Options{}))
	r, err := im.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := iotest.TestReader(r, want); err != nil {
		t.Fatal(err)
	}
}

// TestEveryRoadGivesTheSameBytes compares the three ways out of an image at
// random ranges and at all edges of its segments.
func TestEveryRoadGivesTheSameBytes(t *testing.T) {
	im, want := personal(t, open(t, isotest.Options{}))
	edges := []int64{0, 1, im.Size() - 1, im.Size()}
	for _, s := range im.content.pieces {
		edges = append(edges, s.off-1, s.off, s.off+1, s.off+int64(len(s.data)), s.end()-1, s.end(), s.end()+1)
	}
	r, err := im.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	check := func(lo, hi int64) {
		t.Helper()
		var out bytes.Buffer
		n, err := r.WriteRange(&out, lo, hi-lo)
		if err != nil || n != hi-lo || !bytes.Equal(out.Bytes(), want[lo:hi]) {
			t.Fatalf("WriteRange %d to %d: %d bytes, %v", lo, hi, n, err)
		}
		b := make([]byte, hi-lo)
		if _, err := im.ReadAt(b, lo); (err != nil && err != io.EOF) || !bytes.Equal(b, want[lo:hi]) {
			t.Fatalf("ReadAt %d to %d: %v", lo, hi, err)
		}
	}
	for _, lo := range edges {
		for _, hi := range edges {
			if 0 <= lo && lo <= hi && hi <= im.Size() {
				check(lo, hi)
			}
		}
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		a, b := rnd.Int64N(im.Size()), rnd.Int64N(im.Size())
		check(min(a, b), max(a, b))
	}
	for _, bad := range [][2]int64{{im.Size() - 1, 2}, {-1, 1}, {0, -1}, {im.Size() + 1, 0}, {1, 1<<63 - 1}} {
		if n, err := im.WriteRange(io.Discard, bad[0], bad[1]); err == nil || n != 0 {
			t.Errorf("%d bytes at %d were written: %d", bad[1], bad[0], n)
		}
	}
}

func TestServe(t *testing.T) {
	im, want := personal(t, open(t, isotest.Options{}))
	srv := httptest.NewServer(im)
	defer srv.Close()
	get := func(method string, head ...string) (*http.Response, []byte) {
		t.Helper()
		req, err := http.NewRequest(method, srv.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(head); i += 2 {
			req.Header.Set(head[i], head[i+1])
		}
		resp, err := srv.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, b
	}
	resp, b := get("GET")
	if resp.StatusCode != 200 || !bytes.Equal(b, want) || resp.ContentLength != im.Size() || resp.Header.Get("ETag") != im.ETag() {
		t.Errorf("GET: %v, %d bytes", resp, len(b))
	}
	if resp, b := get("HEAD"); resp.StatusCode != 200 || len(b) != 0 || resp.ContentLength != im.Size() || resp.Header.Get("Accept-Ranges") != "bytes" {
		t.Errorf("HEAD: %v", resp)
	}
	area := im.content.pieces[1].off
	if resp, b := get("GET", "Range", fmt.Sprintf("bytes=%d-%d", area-5, area+99), "If-Range", im.ETag()); resp.StatusCode != 206 || !bytes.Equal(b, want[area-5:area+100]) {
		t.Errorf("range: %v, %q", resp, b)
	}
	if resp, b := get("GET", "Range", "bytes=-7"); resp.StatusCode != 206 || !bytes.Equal(b, want[len(want)-7:]) {
		t.Errorf("suffix range: %v, %q", resp, b)
	}
	if resp, b := get("GET", "Range", "bytes=0-1", "If-Range", `"other"`); resp.StatusCode != 200 || len(b) != len(want) {
		t.Errorf("range of another version: %v", resp)
	}
	if resp, b := get("GET", "Range", "bytes=0-1,5-6"); resp.StatusCode != 206 || !strings.Contains(string(b), "Content-Range: bytes 5-6/") {
		t.Errorf("two ranges: %v", resp)
	}
	if resp, _ := get("GET", "If-None-Match", im.ETag()); resp.StatusCode != 304 {
		t.Errorf("unchanged: %v", resp)
	}
	if resp, _ := get("GET", "Range", fmt.Sprintf("bytes=%d-", im.Size())); resp.StatusCode != 416 {
		t.Errorf("range beyond the end: %v", resp)
	}
	if resp, _ := get("DELETE"); resp.StatusCode != 405 {
		t.Errorf("DELETE: %v", resp)
	}
}

// TestManyReaders has hundreds of clients read two servers' images at once.
func TestManyReaders(t *testing.T) {
	b := open(t, isotest.Options{})
	im, want := personal(t, b)
	other, err := b.Personalise(Personal{Ignition: []byte(strings.Repeat(config, 50))})
	if err != nil {
		t.Fatal(err)
	}
	otherWant, _ := io.ReadAll(io.NewSectionReader(other, 0, other.Size()))
	var wg sync.WaitGroup
	for i := range 300 {
		im, want := im, want
		if i%2 == 1 {
			im, want = other, otherWant
		}
		wg.Go(func() {
			var out bytes.Buffer
			if _, err := im.WriteRange(&out, 0, im.Size()); err != nil || !bytes.Equal(out.Bytes(), want) {
				t.Errorf("reader %d: %d bytes, %v", i, out.Len(), err)
			}
		})
	}
	wg.Wait()
}

// TestBrokenTransfersGoOn has many clients over HTTP lose their connection and go
// on where they stopped, as BMCs and curl do.
func TestBrokenTransfersGoOn(t *testing.T) {
	im, want := personal(t, open(t, isotest.Options{}))
	srv := httptest.NewServer(im)
	defer srv.Close()
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			var got []byte
			for len(got) < len(want) {
				req, err := http.NewRequest("GET", srv.URL, nil)
				if err != nil {
					t.Error(err)
					return
				}
				req.Close = true
				if len(got) > 0 {
					req.Header.Set("Range", fmt.Sprintf("bytes=%d-", len(got)))
					req.Header.Set("If-Range", im.ETag())
				}
				resp, err := http.DefaultTransport.RoundTrip(req)
				if err != nil {
					t.Error(err)
					return
				}
				b, err := io.ReadAll(io.LimitReader(resp.Body, int64(200_000+i*1000)))
				resp.Body.Close()
				if err != nil || len(got) > 0 && resp.StatusCode != 206 {
					t.Error(resp.Status, err)
					return
				}
				got = append(got, b...)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("client %d got other bytes", i)
			}
		})
	}
	wg.Wait()
}

// fileWatch is a connection that notes whether base bytes were handed over as a
// file, which is what lets the kernel send them.
type fileWatch struct {
	net.Conn
	direct *int64
}

func (f fileWatch) ReadFrom(r io.Reader) (int64, error) {
	n, err := io.Copy(f.Conn, r)
	if l, ok := r.(*io.LimitedReader); ok {
		if _, ok := l.R.(*os.File); ok {
			*f.direct += n
		}
	}
	return n, err
}

type watchListener struct {
	net.Listener
	direct *int64
}

func (l watchListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return fileWatch{c, l.direct}, err
}

// TestBaseBytesGoByFile holds the fast path: nearly all bytes of a response
// reach the connection as reads from a file, not as writes.
func TestBaseBytesGoByFile(t *testing.T) {
	im, want := personal(t, open(t, isotest.Options{}))
	var direct int64
	srv := httptest.NewUnstartedServer(im)
	srv.Listener = watchListener{srv.Listener, &direct}
	srv.Start()
	resp, err := http.Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	srv.Close()
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	var overlay int64
	for _, p := range im.content.pieces {
		if p.from == fromMemory {
			overlay += p.size
		}
	}
	if least := im.Size() - overlay - 4096; direct < least {
		t.Errorf("%d bytes went by file, want at least %d", direct, least)
	}
}
