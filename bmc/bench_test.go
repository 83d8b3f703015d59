package bmc

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	bmclib "github.com/bmc-toolbox/bmclib/v2"
	"github.com/stmcginnis/gofish"

	"metalrise.dev/fleet"
)

// expanding puts $expand=.($levels=1) in front of a recorded tree.
type expanding struct{ static }

func (e expanding) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.RawQuery == "" || r.Method != http.MethodGet {
		e.static.ServeHTTP(w, r)
		return
	}
	time.Sleep(e.delay)
	m, err := e.load(r.URL.Path)
	if err != nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	for k, v := range m {
		if k != "Links" {
			m[k] = e.inline(v)
		}
	}
	_ = json.NewEncoder(w).Encode(m)
}

func (e expanding) load(path string) (map[string]any, error) {
	body, err := os.ReadFile(filepath.Join(e.dir, filepath.FromSlash(path), "index.json"))
	if err != nil {
		return nil, err
	}
	return decode(body)
}

func (e expanding) inline(v any) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = e.inline(v[i])
		}
	case map[string]any:
		if p, ok := v["@odata.id"].(string); ok && len(v) == 1 {
			if m, err := e.load(strings.TrimSuffix(p, "/")); err == nil {
				return m
			}
		}
	}
	return v
}

// meter counts what a server is asked and answers, whoever asks.
type meter struct {
	http.Handler
	requests, bytes, connections atomic.Int64
}

type metered struct {
	http.ResponseWriter
	m *meter
}

func (w metered) Write(b []byte) (int, error) {
	n, err := w.ResponseWriter.Write(b)
	w.m.bytes.Add(int64(n))
	return n, err
}

func (m *meter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.requests.Add(1)
	m.Handler.ServeHTTP(metered{w, m}, r)
}

// serveMetered starts a TLS server that counts.
func serveMetered(b *testing.B, h http.Handler) (*meter, Login) {
	m := &meter{Handler: h}
	srv := httptest.NewUnstartedServer(m)
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			m.connections.Add(1)
		}
	}
	srv.StartTLS()
	b.Cleanup(srv.Close)
	return m, Login{
		Endpoint: fleet.Endpoint{Address: strings.TrimPrefix(srv.URL, "https://"), Username: "admin"}, Password: "secret",
		Options: Options{AcceptNewPin: true},
	}
}

// BenchmarkInventory reads one whole server of two recorded BMCs, answering at
// once and after 50 ms: with this package as the BMC is and with a working
// $expand, with bmclib's Inventory and with gofish's own methods for the same
// facts. Requests, bytes and connections are counted by the server.
func BenchmarkInventory(b *testing.B) {
	dir := corpusDir(b)
	for _, tree := range []string{"dell-r750-idrac9-6.00.30", "hpe-dl380agen11-ilo6-1.66"} {
		for _, delay := range []time.Duration{0, 50 * time.Millisecond} {
			plain := static{dir: filepath.Join(dir, tree), delay: delay}
			for _, c := range []struct {
				name string
				h    http.Handler
				read func(context.Context, Login) (disks, nics int, err error)
			}{
				{"ours", plain, readOurs}, {"ours with expand", expanding{plain}, readOurs}, {"bmclib", plain, readBMCLib}, {"gofish", plain, readGofish},
			} {
				b.Run(fmt.Sprintf("%s/%s/%s", tree[:strings.Index(tree, "-")], c.name, delay), func(b *testing.B) {
					m, l := serveMetered(b, c.h)
					var disks, nics int
					var err error
					for b.Loop() {
						if disks, nics, err = c.read(b.Context(), l); err != nil {
							b.Fatal(err)
						}
					}
					n := float64(b.N)
					b.ReportMetric(float64(m.requests.Load())/n, "requests/op")
					b.ReportMetric(float64(m.bytes.Load())/n, "bytes/op")
					b.ReportMetric(float64(m.connections.Load())/n, "conns/op")
					b.ReportMetric(float64(disks), "disks")
					b.ReportMetric(float64(nics), "nics")
				})
			}
		}
	}
}

func readOurs(ctx context.Context, l Login) (disks, nics int, err error) {
	s, err := Dial(ctx, l)
	if err != nil {
		return 0, 0, err
	}
	f, err := s.Inspect(ctx, "")
	if err != nil {
		return 0, 0, err
	}
	return len(f.Disks), len(f.NICs), s.Close()
}

func readBMCLib(ctx context.Context, l Login) (disks, nics int, err error) {
	host, port, err := net.SplitHostPort(l.Endpoint.Address)
	if err != nil {
		return 0, 0, err
	}
	c := bmclib.NewClient(host, l.Endpoint.Username, l.Password, bmclib.WithRedfishPort(port))
	c.Registry.Drivers = c.Registry.For("gofish")
	if err := c.Open(ctx); err != nil {
		return 0, 0, err
	}
	d, err := c.Inventory(ctx)
	if err != nil {
		return 0, 0, err
	}
	for _, n := range d.NICs {
		nics += len(n.NICPorts)
	}
	return len(d.Drives), nics, c.Close(ctx)
}

// readGofish asks gofish for what Inspect reads, with its defaults.
func readGofish(ctx context.Context, l Login) (disks, nics int, err error) {
	c, err := gofish.ConnectContext(ctx, gofish.ClientConfig{Endpoint: "https://" + l.Endpoint.Address, Username: l.Endpoint.Username, Password: l.Password, Insecure: true})
	if err != nil {
		return 0, 0, err
	}
	defer c.Logout()
	systems, err := c.Service.Systems()
	if err != nil {
		return 0, 0, err
	}
	for _, s := range systems {
		_, _ = s.Processors()
		_, _ = s.Memory()
		_, _ = s.Bios()
		_, _ = s.SecureBoot()
		interfaces, _ := s.EthernetInterfaces()
		nics += len(interfaces)
		storage, _ := s.Storage()
		for _, st := range storage {
			drives, _ := st.Drives()
			disks += len(drives)
			_, _ = st.Volumes()
		}
		_, _ = s.VirtualMedia()
	}
	managers, _ := c.Service.Managers()
	for _, m := range managers {
		_, _ = m.VirtualMedia()
	}
	chassis, _ := c.Service.Chassis()
	for _, ch := range chassis {
		adapters, _ := ch.NetworkAdapters()
		for _, a := range adapters {
			_, _ = a.NetworkDeviceFunctions()
			_, _ = a.NetworkPorts()
		}
	}
	return disks, nics, nil
}
