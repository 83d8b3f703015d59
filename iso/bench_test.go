package iso

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"metalrise.dev/iso/isotest"
)

// typicalConfig is as large as a real one, about 30 KiB, half of it keys and
// certificates that compress badly.
func typicalConfig(tb testing.TB) []byte {
	tb.Helper()
	rnd := rand.NewChaCha8([32]byte{1})
	var files []map[string]any
	for i := range 60 {
		secret := make([]byte, 200)
		rnd.Read(secret) // never fails
		files = append(files, map[string]any{"path": fmt.Sprintf("/etc/metalrise/file-%d.conf", i), "mode": 420,
			"contents": map[string]any{"source": "data:;base64," + base64.StdEncoding.EncodeToString(secret) + strings.Repeat("b3B0aW9uPXllcwo", 9)}})
	}
	b, err := json.Marshal(map[string]any{"ignition": map[string]any{"version": "3.4.0"}, "storage": map[string]any{"files": files}})
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func BenchmarkParseBase(b *testing.B) {
	path := build(b, isotest.Options{})
	b.ReportAllocs()
	for b.Loop() {
		base, err := Open(path)
		if err != nil {
			b.Fatal(err)
		}
		base.Close()
	}
}

func BenchmarkPersonalise(b *testing.B) {
	base := open(b, isotest.Options{})
	p := Personal{Ignition: typicalConfig(b), AppendKargs: []string{"console=ttyS0,115200n8", "ip=10.0.0.2::10.0.0.1:255.255.255.0:n1:eno1:none"}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := base.Personalise(p); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(p.Ignition)), "config-bytes")
}

// BenchmarkOpen is what one more reader of a finished image costs.
func BenchmarkOpen(b *testing.B) {
	im, _ := personal(b, open(b, isotest.Options{}))
	b.ReportAllocs()
	for b.Loop() {
		r, err := im.Open()
		if err != nil {
			b.Fatal(err)
		}
		r.Close()
	}
}

func BenchmarkInspect(b *testing.B) {
	im, _ := personal(b, open(b, isotest.Options{}))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Inspect(im, im.Size()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadAt(b *testing.B) {
	im, _ := personal(b, open(b, isotest.Options{RootfsSize: 256 << 20}))
	buf := make([]byte, 1<<20)
	b.SetBytes(im.Size())
	for b.Loop() {
		for at := int64(0); at < im.Size(); at += int64(len(buf)) {
			if _, err := im.ReadAt(buf[:min(int64(len(buf)), im.Size()-at)], at); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkServe streams an image of 256 MiB over a loopback socket, beside
// http.ServeFile of the plain base. Both ends run in this process.
func BenchmarkServe(b *testing.B) {
	im, _ := personal(b, open(b, isotest.Options{RootfsSize: 256 << 20}))
	plain := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, im.base.Path()) })
	for _, h := range []struct {
		name    string
		handler http.Handler
		tls     bool
	}{{"image", im, false}, {"plain file", plain, false}, {"image TLS", im, true}, {"plain file TLS", plain, true}} {
		b.Run(h.name, func(b *testing.B) {
			srv := httptest.NewUnstartedServer(h.handler)
			if h.tls {
				srv.StartTLS()
			} else {
				srv.Start()
			}
			defer srv.Close()
			b.SetBytes(im.Size())
			b.ReportAllocs()
			buf := make([]byte, 1<<20)
			for b.Loop() {
				resp, err := srv.Client().Get(srv.URL)
				if err != nil {
					b.Fatal(err)
				}
				n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, resp.Body, buf)
				resp.Body.Close()
				if err != nil || n != im.Size() {
					b.Fatal(n, err)
				}
			}
		})
	}
}

// BenchmarkWriteRange leaves HTTP out: file to socket, in steps of a MiB.
func BenchmarkWriteRange(b *testing.B) {
	im, _ := personal(b, open(b, isotest.Options{RootfsSize: 256 << 20}))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		io.CopyBuffer(struct{ io.Writer }{io.Discard}, c, make([]byte, 1<<20))
		c.Close()
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	r, err := im.Open()
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	b.SetBytes(im.Size())
	b.ReportAllocs()
	for b.Loop() {
		for at := int64(0); at < im.Size(); at += 1 << 20 {
			if _, err := r.WriteRange(c, at, min(1<<20, im.Size()-at)); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkFirstByte is what a server's first byte costs: "new" makes the image
// and reads, "cached" finds it in a Cache, as all requests but the first do.
func BenchmarkFirstByte(b *testing.B) {
	base := open(b, isotest.Options{})
	p := Personal{Ignition: typicalConfig(b)}
	read := func(im *Image) {
		r, err := im.Open()
		if err != nil {
			b.Fatal(err)
		}
		if _, err := r.WriteRange(io.Discard, 0, sectorSize); err != nil {
			b.Fatal(err)
		}
		r.Close()
	}
	b.Run("new", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			im, err := base.Personalise(p)
			if err != nil {
				b.Fatal(err)
			}
			read(im)
		}
	})
	b.Run("cached", func(b *testing.B) {
		c := NewCache(10, 1<<20)
		b.ReportAllocs()
		for b.Loop() {
			im, err := c.Image("key", func() (*Image, error) { return base.Personalise(p) })
			if err != nil {
				b.Fatal(err)
			}
			read(im)
		}
	})
}
