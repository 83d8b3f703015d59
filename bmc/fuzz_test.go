package bmc

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"metalrise.dev/fleet"
)

// echo is a transport without a network: every resource is the same bytes.
type echo struct{ body []byte }

func (e echo) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	_, _ = w.Write(e.body)
	return w.Result(), nil
}

// FuzzFacts reads a machine whose every resource is the same hostile object:
// whatever it says, reading ends, within bounds, and what is told as a fact has
// the form the rest of metalrise relies on.
func FuzzFacts(f *testing.F) {
	f.Add([]byte(`{"@odata.id":"/a","Members":[{"@odata.id":"/b"},{"Id":"x"}],"Members@odata.nextLink":"/c","Systems":{"@odata.id":"/s"}}`))
	f.Add([]byte(`{"Storage":{"@odata.id":"/s"},"Members":[{"@odata.id":"/d"}],"Drives":[{"SerialNumber":" x ","CapacityBytes":1e12,"Identifiers":[{"DurableNameFormat":"EUI","DurableName":"00:25:38:00:00:00:00:01"}]}]}`))
	f.Add([]byte(`{"EthernetInterfaces":{"@odata.id":"/e"},"Members":[{"MACAddress":"aa:bb:cc:dd:ee:f0","SpeedMbps":"10"}],"Processors":"/p","PowerState":null,"TotalCores":1e400}`))
	if trees, _ := filepath.Glob(filepath.Join("..", "..", "shared", "redfish-corpus", "*", "redfish", "v1", "Systems", "*", "index.json")); len(trees) > 0 {
		for _, p := range trees {
			if body, err := os.ReadFile(p); err == nil {
				f.Add(body)
			}
		}
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body) > 64<<10 {
			return
		}
		o := Options{}.withDefaults()
		s := &Session{client: newClient("bmc:443", "", o), opts: o, slotsOf: map[string][]drivePlace{}}
		s.client.http.Transport = echo{body}
		if m, err := decode(body); err == nil {
			s.root = node{path: rootPath, m: m}
			s.expand.init(s.root)
		}
		facts, err := s.Inspect(context.Background(), "/redfish/v1/Systems/1")
		if err != nil {
			return
		}
		if _, err := json.Marshal(facts); err != nil {
			t.Errorf("facts cannot be written: %v", err)
		}
		checkForms(t, facts)
		_, _ = s.Look(context.Background(), "/redfish/v1/Systems/1")
		_, _ = s.Systems(context.Background())
	})
}

func checkForms(t *testing.T, f fleet.Facts) {
	for _, n := range f.NICs {
		if n.MAC != cleanMAC(n.MAC) || n.MAC == "" {
			t.Errorf("mac %q", n.MAC)
		}
	}
	for _, d := range f.Disks {
		if d.WWN != strings.ToLower(d.WWN) || len(d.WWN) != 0 && len(d.WWN) != 16 && len(d.WWN) != 32 {
			t.Errorf("wwn %q", d.WWN)
		}
		if size, ok := d.SizeBytes.Get(); ok && size < minDiskBytes {
			t.Errorf("size %d", size)
		}
	}
	if f.Identity != fleet.NewIdentity(f.Identity.UUID, f.Identity.Serial) {
		t.Errorf("identity %+v", f.Identity)
	}
	if len(f.Problems) > maxProblems {
		t.Errorf("%d problems", len(f.Problems))
	}
}
