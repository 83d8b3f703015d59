package bmc

import (
	"encoding/json"
	"flag"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"metalrise.dev/fleet"
)

var update = flag.Bool("update", false, "write the golden files anew")

// corpusDir finds the recorded trees of real BMCs.
func corpusDir(t testing.TB) string {
	dir := os.Getenv("METALRISE_CORPUS")
	if dir == "" {
		dir = filepath.Join("..", "..", "shared", "redfish-corpus")
	}
	if _, err := os.Stat(dir); err != nil {
		t.Skip("skipped: no corpus")
	}
	return dir
}

// static serves one recorded tree with a session service in front.
type static struct {
	dir   string
	delay time.Duration
}

func (s static) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	time.Sleep(s.delay)
	path := strings.TrimSuffix(r.URL.Path, "/")
	if r.Method == http.MethodPost && strings.HasSuffix(path, "/Sessions") {
		w.Header().Set("X-Auth-Token", "token")
		w.Header().Set("Location", "/redfish/v1/SessionService/Sessions/1")
		w.WriteHeader(http.StatusCreated)
		return
	}
	if r.Header.Get("X-Auth-Token") != "token" && path != "/redfish/v1" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	switch r.Method {
	case http.MethodDelete:
		w.WriteHeader(http.StatusNoContent)
		return
	case http.MethodGet:
	default:
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	body, err := os.ReadFile(filepath.Join(s.dir, filepath.FromSlash(path), "index.json"))
	if err != nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body)
}

// serve starts a TLS server and gives a login for it.
func serve(t testing.TB, h http.Handler) Login {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ErrorLog = log.New(io.Discard, "", 0) // of connections that clients close
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return Login{
		Endpoint: fleet.Endpoint{Address: strings.TrimPrefix(srv.URL, "https://"), Username: "admin"},
		Password: "secret",
		Options:  Options{AcceptNewPin: true, Poll: time.Millisecond, Settle: 2 * time.Second},
	}
}

func dial(t testing.TB, l Login) *Session {
	t.Helper()
	s, err := Dial(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// inventory is what a golden file holds of one tree.
type inventory struct {
	Systems []SystemRef   `json:"systems"`
	Facts   []fleet.Facts `json:"facts"`
}

func TestCorpus(t *testing.T) {
	dir := corpusDir(t)
	trees, err := filepath.Glob(filepath.Join(dir, "[a-z]*", "redfish"))
	if err != nil || len(trees) == 0 {
		t.Fatalf("no trees in %s: %v", dir, err)
	}
	for _, tree := range trees {
		tree = filepath.Dir(tree)
		name := filepath.Base(tree)
		t.Run(name, func(t *testing.T) {
			s := dial(t, serve(t, static{dir: tree}))
			var got inventory
			if got.Systems, err = s.Systems(t.Context()); err != nil {
				t.Fatal(err)
			}
			for _, ref := range got.Systems {
				if ref.Kind != IsServer {
					continue
				}
				before := s.Stats()
				f, err := s.Inspect(t.Context(), ref.URI)
				if err != nil {
					t.Fatal(err)
				}
				after := s.Stats()
				t.Logf("%s: %d requests, %d bytes, %d connections", ref.URI, after.Requests-before.Requests, after.Bytes-before.Bytes, after.Connections)
				if f.At.IsZero() {
					t.Error("facts without a time")
				}
				f.At = time.Time{}
				got.Facts = append(got.Facts, f)
			}
			golden(t, name, got)
		})
	}
}

func golden(t *testing.T, name string, got any) {
	t.Helper()
	text, err := json.MarshalIndent(got, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	text = append(text, '\n')
	path := filepath.Join("testdata", "golden", name+".json")
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != string(text) {
		t.Errorf("inventory differs from %s; see `go test -update` and git diff:\n%s", path, text)
	}
}
