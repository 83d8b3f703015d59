package bmc

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
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

// BenchmarkInventory reads one whole server of two recorded BMCs, as they are
// and with a working $expand, answering at once and after 50 ms. It reports
// requests, bytes and connections per inventory beside the time.
func BenchmarkInventory(b *testing.B) {
	dir := corpusDir(b)
	for _, tree := range []string{"dell-r750-idrac9-6.00.30", "hpe-dl380agen11-ilo6-1.66"} {
		for _, delay := range []time.Duration{0, 50 * time.Millisecond} {
			plain := static{dir: filepath.Join(dir, tree), delay: delay}
			for name, h := range map[string]http.Handler{"members": plain, "expand": expanding{plain}} {
				b.Run(fmt.Sprintf("%s/%s/%s", tree, name, delay), func(b *testing.B) { benchInventory(b, h) })
			}
		}
	}
}

func benchInventory(b *testing.B, h http.Handler) {
	l := serve(b, h)
	var total Stats
	for b.Loop() {
		s, err := Dial(b.Context(), l)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := s.Inspect(b.Context(), ""); err != nil {
			b.Fatal(err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		st := s.Stats()
		total.Requests += st.Requests
		total.Bytes += st.Bytes
		total.Connections += st.Connections
	}
	n := float64(b.N)
	b.ReportMetric(float64(total.Requests)/n, "requests/op")
	b.ReportMetric(float64(total.Bytes)/n, "bytes/op")
	b.ReportMetric(float64(total.Connections)/n, "conns/op")
}
