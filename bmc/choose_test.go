package bmc

import (
	"net/http"
	"sync/atomic"
	"testing"

	"metalrise.dev/fleet"
)

// $select is used while waiting for power, and believed only where it works.
func TestSelectQuery(t *testing.T) {
	for _, how := range []string{"works", "is refused", "breaks the service", "is ignored", "is not offered"} {
		t.Run(how, func(t *testing.T) {
			f := newFake()
			f.resources["/redfish/v1"]["ProtocolFeaturesSupported"] = object{"SelectQuery": how != "is not offered"}
			var chosen, whole atomic.Int32
			f.hook = func(w http.ResponseWriter, r *http.Request, _ object) bool {
				if r.URL.Path != sysPath || r.Method != http.MethodGet {
					return false
				}
				if r.URL.RawQuery == "" {
					whole.Add(1)
					return false
				}
				chosen.Add(1)
				switch how {
				case "works":
					state := "PoweringOn"
					if chosen.Load() > 2 {
						state = "On"
					}
					_, _ = w.Write([]byte(`{"@odata.id":"` + sysPath + `","PowerState":"` + state + `"}`))
				case "is refused":
					complain(w, http.StatusNotImplemented, "Base.1.4.QueryNotSupported")
				case "breaks the service":
					w.WriteHeader(http.StatusInternalServerError)
				default:
					return false
				}
				return true
			}
			s := dial(t, serve(t, f))
			f.with(func() { f.resources[sysPath]["PowerState"] = "On" })
			before := whole.Load()
			noError(t, s.WaitPower(t.Context(), sysPath, fleet.PowerOn))
			noError(t, s.WaitPower(t.Context(), sysPath, fleet.PowerOn))
			read := whole.Load() - before
			switch {
			case how == "works" && (chosen.Load() != 4 || read != 0):
				t.Errorf("%d chosen and %d whole reads, want 4 and none", chosen.Load(), read)
			case how == "is not offered" && chosen.Load() != 0:
				t.Errorf("asked %d times although it is not offered", chosen.Load())
			case how != "works" && how != "is not offered" && (chosen.Load() != 1 || read < 2):
				t.Errorf("%d chosen and %d whole reads, want 1 and at least 2", chosen.Load(), read)
			}
		})
	}
}
