package bmctest_test

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"metalrise.dev/bmc"
	"metalrise.dev/bmc/bmctest"
	"metalrise.dev/fleet"
	"metalrise.dev/lab/redfish"
)

func TestFake(t *testing.T) {
	f := bmctest.NewFake(fleet.Facts{
		Identity: fleet.NewIdentity("5b1f2c3d-0a4b-4c5d-8e6f-7a8b9c0d1e2f", "FAKE1"),
		NICs:     []fleet.NIC{{MAC: "52:54:00:00:00:01", Source: "made"}},
		Disks:    []fleet.Disk{{Serial: "D1", SizeBytes: fleet.Known[int64](64 << 30), Source: "made"}},
	})
	bmctest.Run(t, bmctest.Target{Name: "fake", Extent: bmctest.Drives, Image: liveISO, Open: func(*testing.T) bmctest.Session { return f }})
	if got := f.Starts(); !slices.Equal(got, []string{liveISO, "disk"}) {
		t.Errorf("it started from %q", got)
	}
}

func TestLab(t *testing.T) {
	for _, p := range redfish.Personalities() {
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			r := newRack(t, p, nil)
			bmctest.Run(t, bmctest.Target{Name: p.Name, Extent: bmctest.Drives, Image: liveISO, Open: func(t *testing.T) bmctest.Session {
				s, err := r.dial(t)
				if err != nil {
					t.Fatal(err)
				}
				return s
			}})
		})
	}
}

// TestCorpus reads the recorded trees of real BMCs.
func TestCorpus(t *testing.T) {
	dir := os.Getenv("METALRISE_CORPUS")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "redfish-corpus")
	}
	trees, err := filepath.Glob(filepath.Join(dir, "[a-z]*", "redfish"))
	if err != nil || len(trees) == 0 {
		t.Skip("skipped: no corpus")
	}
	for _, tree := range trees {
		tree = filepath.Dir(tree)
		t.Run(filepath.Base(tree), func(t *testing.T) {
			t.Parallel()
			login := served(t, recorded(tree))
			bmctest.Run(t, bmctest.Target{Name: tree, Extent: bmctest.ReadsOnly, Open: func(t *testing.T) bmctest.Session {
				s, err := bmc.Dial(t.Context(), login)
				if err != nil {
					t.Fatal(err)
				}
				return s
			}})
		})
	}
}

// recorded answers with the files of one tree, behind a session service.
func recorded(dir string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		path := strings.TrimSuffix(r.URL.Path, "/")
		switch {
		case r.Method == http.MethodPost && strings.HasSuffix(path, "/Sessions"):
			w.Header().Set("X-Auth-Token", "token")
			w.Header().Set("Location", "/redfish/v1/SessionService/Sessions/1")
			w.WriteHeader(http.StatusCreated)
		case r.Method == http.MethodDelete:
			w.WriteHeader(http.StatusNoContent)
		case r.Method != http.MethodGet:
			w.WriteHeader(http.StatusMethodNotAllowed)
		default:
			body, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(path), "index.json"))
			if err != nil {
				w.WriteHeader(http.StatusNotFound)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(body)
		}
	}
}

// served starts a TLS server and gives a login for it.
func served(t *testing.T, h http.Handler) bmc.Login {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return bmc.Login{
		Endpoint: fleet.Endpoint{Address: strings.TrimPrefix(srv.URL, "https://"), Username: "admin"}, Password: "secret",
		Options: bmc.Options{AcceptNewPin: true, Poll: time.Millisecond, Settle: 2 * time.Second},
	}
}

// TestHardware tries the BMC that METALRISE_BMC names (host or host:port), with
// METALRISE_BMC_USER and METALRISE_BMC_PASSWORD_FILE. It reads only, unless
// METALRISE_BMC_DRIVE is "switch it off" and METALRISE_BMC_IMAGE is the address
// of an image.
func TestHardware(t *testing.T) {
	address := os.Getenv("METALRISE_BMC")
	if address == "" {
		t.Skip("skipped: no METALRISE_BMC")
	}
	password, err := os.ReadFile(os.Getenv("METALRISE_BMC_PASSWORD_FILE"))
	if err != nil {
		t.Fatal(err)
	}
	login := bmc.Login{
		Endpoint: fleet.Endpoint{Address: address, Username: os.Getenv("METALRISE_BMC_USER")},
		Password: strings.TrimRight(string(password), "\r\n"), Options: bmc.Options{AcceptNewPin: true},
	}
	target := bmctest.Target{Name: address, Image: os.Getenv("METALRISE_BMC_IMAGE"), Wait: 5 * time.Minute, Open: func(t *testing.T) bmctest.Session {
		s, err := bmc.Dial(t.Context(), login)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("certificate %s", s.Fingerprint())
		return s
	}}
	if os.Getenv("METALRISE_BMC_DRIVE") == "switch it off" && target.Image != "" {
		target.Extent = bmctest.Drives
	}
	bmctest.Run(t, target)
}
