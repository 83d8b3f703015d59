package bmc

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// street is many addresses of the loopback network with something behind some
// of them, all at one port.
type street struct {
	port     int
	requests atomic.Int64
	secrets  atomic.Int64 // requests that carried credentials
	want     map[string]What
	config   *tls.Config
}

func newStreet(tb testing.TB, port int) *street {
	tb.Helper()
	srv := httptest.NewUnstartedServer(http.NotFoundHandler())
	srv.StartTLS() // for its certificate
	defer srv.Close()
	return &street{port: port, want: map[string]What{}, config: &tls.Config{Certificates: srv.TLS.Certificates}}
}

// listen opens one house of the street.
func (s *street) listen(tb testing.TB, a netip.Addr, is What) net.Listener {
	tb.Helper()
	l, err := net.Listen("tcp", netip.AddrPortFrom(a, uint16(s.port)).String())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = l.Close() })
	s.want[l.Addr().String()] = is
	return l
}

// bmc puts a BMC there.
func (s *street) bmc(tb testing.TB, a netip.Addr) { s.serve(tb, a, RedfishService, true, root) }

func root(w http.ResponseWriter, r *http.Request) {
	_ = json.NewEncoder(w).Encode(object{"RedfishVersion": "1.9.0", "Vendor": "Contoso", "UUID": "u", "Systems": ref("/redfish/v1/Systems")})
}

func (s *street) serve(tb testing.TB, a netip.Addr, is What, secure bool, h http.HandlerFunc) {
	l := s.listen(tb, a, is)
	if secure {
		l = tls.NewListener(l, s.config)
	}
	srv := &http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		if r.Header.Get("Authorization") != "" || r.Header.Get("X-Auth-Token") != "" || r.Method != http.MethodGet {
			s.secrets.Add(1)
		}
		h(w, r)
	})}
	go func() { _ = srv.Serve(l) }()
	tb.Cleanup(func() { _ = srv.Close() })
}

// raw puts something there that is no HTTP server.
func (s *street) raw(tb testing.TB, a netip.Addr, is What, talk func(net.Conn)) {
	l := s.listen(tb, a, is)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); talk(c) }()
		}
	}()
}

// nth is the n-th address of a network.
func nth(network string, n int) netip.Addr {
	a := netip.MustParsePrefix(network).Addr().As4()
	v := uint32(a[2])<<8 + uint32(a[3]) + uint32(n)
	a[2], a[3] = byte(v>>8), byte(v)
	return netip.AddrFrom4(a)
}

// TestSweepOfAStreet finds every BMC among 4,094 addresses, and says of all else that
// listens that it is none.
func TestSweepOfAStreet(t *testing.T) {
	const network = "127.83.0.0/20"
	s := newStreet(t, 28443)
	for i := range 32 {
		s.bmc(t, nth(network, 5+i*113))
	}
	odd := nth(network, 4000)
	next := func() netip.Addr { odd = odd.Next(); return odd }
	s.raw(t, next(), Unknown, func(c net.Conn) { // slow-loris: one byte of nothing at a time
		for i := 0; ; i++ {
			b := []byte{2} // a handshake record of 4 KiB that never ends
			if head := []byte{22, 3, 3, 16, 0}; i < len(head) {
				b[0] = head[i]
			}
			if _, err := c.Write(b); err != nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	})
	s.raw(t, next(), Unknown, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })           // says nothing
	s.raw(t, next(), NotBMC, func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0) })        // resets
	s.raw(t, next(), NotBMC, func(c net.Conn) { fmt.Fprint(c, "SSH-2.0-OpenSSH_9.2\r\n") }) // another protocol
	s.raw(t, next(), NotBMC, func(c net.Conn) { fmt.Fprint(c, strings.Repeat("x", 1<<16)) })
	plain := next()
	s.serve(t, plain, NotBMC, false, root) // plain HTTP where TLS is expected
	s.serve(t, next(), NotBMC, true, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "<html>a printer</html>") })
	s.serve(t, next(), Unknown, true, func(w http.ResponseWriter, r *http.Request) { // never answers a request
		<-r.Context().Done()
	})
	s.serve(t, next(), EnclosureController, true, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"RedfishVersion":"1.2.0","Chassis":{"@odata.id":"/redfish/v1/Chassis"}}`)
	})
	s.serve(t, next(), LegacyRedfish, true, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/rest/v1" {
			http.NotFound(w, r)
			return
		}
		fmt.Fprint(w, `{"Type":"ServiceRoot.1.0.0"}`)
	})

	addresses, err := Expand([]string{network}, s.port)
	noError(t, err)
	p := NewProber(512)
	p.connect, p.request = 3*time.Second, 5*time.Second // enough for a busy test machine
	seen := map[string]Found{}
	noError(t, p.sweep(t.Context(), addresses, func(f Found) { seen[f.Address] = f }))
	if len(seen) != len(addresses) {
		t.Errorf("%d of %d addresses are told about", len(seen), len(addresses))
	}
	for a, f := range seen {
		want, listens := s.want[a]
		if !listens {
			want = NoAnswer
		}
		if f.What != want || f.Why == "" {
			t.Errorf("%s: %s (%s, %v), want %s", a, f.What, f.Why, f.Err, want)
		}
		if want == RedfishService && (len(f.Fingerprint) != 64 || f.Vendor != "Contoso" || f.RedfishVersion != "1.9.0") {
			t.Errorf("%s: %+v", a, f)
		}
	}
	if f := seen[netip.AddrPortFrom(plain, uint16(s.port)).String()]; !strings.Contains(f.Why, "http://") {
		t.Errorf("plain HTTP: %s", f.Why)
	}
	if s.secrets.Load() != 0 {
		t.Errorf("%d requests of a sweep carried credentials or changed something", s.secrets.Load())
	}
}

func TestSweepEndsWithItsContext(t *testing.T) {
	s := newStreet(t, 28444)
	s.raw(t, nth("127.83.32.0/24", 7), Unknown, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	err := Sweep(ctx, []string{"127.83.32.7:28444", "127.83.32.8:28444"}, 1, func(f Found) { t.Errorf("told about %+v", f) })
	if err == nil {
		t.Error("no error")
	}
}

// ipmi answers presence pings at one address.
func ipmi(t *testing.T, address string, answer []byte) int {
	t.Helper()
	c, err := net.ListenPacket("udp4", address)
	noError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	go func() {
		buf := make([]byte, 64)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			if string(buf[:n]) == string(presencePing()) {
				_, _ = c.WriteTo(answer, from)
			}
		}
	}()
	return c.LocalAddr().(*net.UDPAddr).Port
}

func TestIPMIOnly(t *testing.T) {
	pong := []byte{6, 0, 0xff, 6, 0, 0, 0x11, 0xbe, 0x40, 0, 0, 16, 0, 0, 0x11, 0xbe, 0, 0, 0, 0, 0x81, 0, 0, 0, 0, 0, 0, 0}
	p := NewProber(4)
	p.ipmiPort = ipmi(t, "127.83.40.1:0", pong)
	f, err := p.Probe(t.Context(), "127.83.40.1:1")
	noError(t, err)
	if f.What != IPMIOnly || !f.IPMI || f.Fingerprint != "" {
		t.Errorf("%+v", f)
	}
	if f, err := p.Probe(t.Context(), ipmiScheme+"127.83.40.1:623"); err != nil || f.What != IPMIOnly {
		t.Errorf("%+v, %v", f, err)
	}
	for name, bad := range map[string][]byte{"without IPMI": append(append([]byte(nil), pong[:20]...), 1, 0, 0, 0, 0, 0, 0, 0), "cut off": pong[:14], "other": []byte("hello")} {
		p := NewProber(4)
		p.ipmiPort = ipmi(t, "127.83.40.2:0", bad)
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		if f, err := p.Probe(ctx, "127.83.40.2:1"); err == nil || f.What != NoAnswer {
			t.Errorf("%s: %+v", name, f)
		}
		cancel()
	}
	// A page of another kind on the port does not hide the BMC behind it.
	s := newStreet(t, 28445)
	s.serve(t, netip.MustParseAddr("127.83.40.3"), NotBMC, true, http.NotFound)
	p = NewProber(4)
	p.ipmiPort = ipmi(t, "127.83.40.3:0", pong)
	if f, err := p.Probe(t.Context(), "127.83.40.3:28445"); err != nil || f.What != IPMIOnly {
		t.Errorf("%+v, %v", f, err)
	}
}

func TestSSDP(t *testing.T) {
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	noError(t, err)
	defer c.Close()
	go func() {
		buf := make([]byte, 1024)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			if !strings.Contains(string(buf[:n]), "ST: "+ssdpTarget) {
				continue
			}
			for _, al := range []string{"<https://10.9.9.9:8443/redfish/v1/>", "nonsense"} {
				_, _ = c.WriteTo([]byte("HTTP/1.1 200 OK\r\nST: "+ssdpTarget+":9\r\nUSN: uuid:1\r\nAL: "+al+"\r\n\r\n"), from)
			}
			for _, bad := range []string{"", "HTTP/1.1 200 OK\r\nST: upnp:rootdevice\r\n\r\n", "HTTP/1.1 500 No\r\nST: " + ssdpTarget + "\r\n\r\n"} {
				_, _ = c.WriteTo([]byte(bad), from)
			}
		}
	}()
	got, err := ssdp(t.Context(), c.LocalAddr().String(), 300*time.Millisecond)
	noError(t, err)
	if fmt.Sprint(got) != "[127.0.0.1:443 127.0.0.1:8443]" {
		t.Errorf("%v", got) // the host is who answered, never whom the answer names
	}
}

// BenchmarkSweep16 asks a whole /16 of the loopback network, where 250
// addresses have a BMC, for its service roots. Closed addresses refuse at once
// there; a network that drops packets instead takes 65,534 / 512 × 3.5 s, seven
// and a half minutes.
func BenchmarkSweep16(b *testing.B) {
	const network, bmcs = "127.84.0.0/16", 250
	s := newStreet(b, 28446)
	for i := range bmcs {
		s.bmc(b, nth(network, 3+i*257))
	}
	addresses, err := Expand([]string{network}, s.port)
	if err != nil {
		b.Fatal(err)
	}
	files, heap := 0, uint64(0)
	for b.Loop() {
		found := 0
		stop := watch(&files, &heap)
		err := Sweep(b.Context(), addresses, 512, func(f Found) {
			if f.What == RedfishService {
				found++
			}
		})
		stop()
		if err != nil || found != bmcs {
			b.Fatalf("found %d of %d: %v", found, bmcs, err)
		}
	}
	if s.secrets.Load() != 0 {
		b.Fatal("a sweep sent credentials")
	}
	b.ReportMetric(float64(files), "peak-fds") // the servers' ends of the connections among them
	b.ReportMetric(float64(heap)/(1<<20), "peak-heap-MiB")
	b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s/sweep")
	b.ReportMetric(float64(s.requests.Load())/float64(b.N), "requests/sweep")
}

// watch keeps the most open files, above those that are open now, and the most
// memory in use.
func watch(files *int, heap *uint64) (stop func()) {
	count := func() int {
		list, _ := os.ReadDir("/proc/self/fd")
		return len(list)
	}
	before := count()
	end := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		for {
			select {
			case <-end:
				return
			case <-time.After(20 * time.Millisecond):
			}
			*files = max(*files, count()-before)
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			*heap = max(*heap, m.HeapInuse+m.StackInuse)
		}
	})
	return func() { close(end); group.Wait() }
}

func TestProberWidthIsBounded(t *testing.T) {
	for _, w := range []int{-1, 0, 1, 512, 100000} {
		if n := cap(NewProber(w).knocks); n < 1 || n > 512 {
			t.Errorf("width %d for %d", n, w)
		}
	}
}
