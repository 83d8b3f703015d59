package bmc

import (
	"net/http"
	"testing"
	"time"

	"metalrise.dev/fleet"
)

// fussy makes a fake that refuses Boot objects.
func fussy(refuse func(boot object) bool) *fakeBMC {
	f := newFake()
	b := f.resources[sysPath]["Boot"].(object)
	b["BootSourceOverrideEnabled"], b["BootSourceOverrideTarget"] = "Once", "Cd"
	f.hook = onRequest("PATCH", sysPath, func(_ int, w http.ResponseWriter, _ *http.Request, body object) bool {
		if b, _ := body["Boot"].(object); refuse(b) {
			complain(w, 400, "Base.1.4.PropertyValueNotInList")
			return true
		}
		return false
	})
	return f
}

func TestClearBoot(t *testing.T) {
	const enabled, target = "BootSourceOverrideEnabled", "BootSourceOverrideTarget"
	cases := map[string]func(boot object) bool{
		"plain":             func(object) bool { return false },
		"None refused":      func(b object) bool { return b[target] == "None" },
		"Disabled refused":  func(b object) bool { return b[enabled] == "Disabled" },
		"target wanted":     func(b object) bool { return b[target] == nil || b[target] == "None" },
		"both refused":      func(b object) bool { return b[target] == "None" || b[enabled] == "Disabled" },
		"nothing but once ": func(b object) bool { return b[enabled] != "Once" },
	}
	for name, refuse := range cases {
		t.Run(name, func(t *testing.T) {
			f := fussy(refuse)
			s := dial(t, serve(t, f))
			noError(t, s.ClearBoot(t.Context(), sysPath))
			sight, err := s.Look(t.Context(), sysPath)
			noError(t, err)
			if b := sight.BootOverride; b.IsSet() && !b.GoesTo(Hdd) {
				t.Errorf("override: %+v", b)
			}
		})
	}
	f := newFake() // nothing to clear
	s := dial(t, serve(t, f))
	noError(t, s.ClearBoot(t.Context(), sysPath))
	if c := f.changes(); len(c) != 0 {
		t.Errorf("changes: %v", c)
	}
}

func TestBootOnceNeverLasts(t *testing.T) {
	f := newFake()
	f.resources[sysPath]["Boot"].(object)["BootSourceOverrideEnabled@Redfish.AllowableValues"] = []any{"Disabled", "Continuous"}
	s := dial(t, serve(t, f))
	wantFault(t, s.BootOnce(t.Context(), sysPath, Cd), fleet.CodeBMCUnsupported, fleet.Unsupported)
	if c := f.changes(); len(c) != 0 {
		t.Errorf("changes: %v", c)
	}
}

// A BMC that accepts the override on its settings object and forgets it takes
// it on the system.
func TestBootOnceInTheOtherPlace(t *testing.T) {
	f := newFake()
	f.resources[sysPath]["@Redfish.Settings"] = object{"SettingsObject": ref(sysPath + "/SD")}
	f.resources[sysPath+"/SD"] = object{"Boot": object{"BootSourceOverrideTarget": "None", "BootSourceOverrideEnabled": "Disabled"}}
	f.hook = onRequest("PATCH", sysPath+"/SD", func(_ int, w http.ResponseWriter, _ *http.Request, _ object) bool {
		w.WriteHeader(http.StatusNoContent)
		return true
	})
	l := serve(t, f)
	l.Options.Settle = l.Options.Poll * 10
	noError(t, dial(t, l).BootOnce(t.Context(), sysPath, Cd))
}

func TestBootOnceDuringSelfTest(t *testing.T) {
	f := newFake()
	f.hook = onRequest("PATCH", sysPath, func(n int, w http.ResponseWriter, _ *http.Request, _ object) bool {
		if n < 4 {
			complain(w, 400, "iLO.2.14.UnableToModifyDuringSystemPOST")
		}
		return n < 4
	})
	noError(t, dial(t, serve(t, f)).BootOnce(t.Context(), sysPath, Cd))
}

// AMI: refused on the system with the address of its future state, which no
// link names.
func TestBootOnceInFutureState(t *testing.T) {
	f := newFake()
	f.resources[sysPath+"/SD"] = object{"@odata.etag": `"9"`, "Boot": object{}}
	f.hook = func(w http.ResponseWriter, r *http.Request, _ object) bool {
		switch {
		case r.Method == "PATCH" && r.URL.Path == sysPath:
			complain(w, 400, "Ami.1.0.OperationSupportedInFutureStateURI", "Boot")
		case r.Method == "PATCH" && r.URL.Path == sysPath+"/SD" && r.Header.Get("If-Match") != `"9"`:
			complain(w, 428, "Base.1.4.PreconditionRequired")
		default:
			return false
		}
		return true
	}
	noError(t, dial(t, serve(t, f)).BootOnce(t.Context(), sysPath, Cd))
	if b := f.resources[sysPath+"/SD"]["Boot"].(object); b["BootSourceOverrideTarget"] != "Cd" {
		t.Errorf("future state: %v", b)
	}
}

func TestETagThatChangesMeanwhile(t *testing.T) {
	f := newFake()
	f.resources[sysPath]["@odata.etag"] = `W/"1-gzip"`
	sent := []string{}
	f.hook = onRequest("PATCH", sysPath, func(_ int, w http.ResponseWriter, r *http.Request, _ object) bool {
		sent = append(sent, r.Header.Get("If-Match"))
		f.resources[sysPath]["@odata.etag"] = `W/"2-gzip"`
		if sent[len(sent)-1] != `"2"` {
			complain(w, 412, "Base.1.4.PreconditionFailed")
			return true
		}
		return false
	})
	noError(t, dial(t, serve(t, f)).BootOnce(t.Context(), sysPath, Cd))
	if len(sent) != 4 {
		t.Errorf("If-Match sent: %q", sent)
	}
}

func TestSecureBootFailsOnce(t *testing.T) {
	f := newFake()
	const at = sysPath + "/SecureBoot"
	f.resources[sysPath]["SecureBoot"] = ref(at)
	f.resources[at] = object{"@odata.id": at, "SecureBootEnable": true}
	f.hook = onRequest("PATCH", at, func(n int, w http.ResponseWriter, _ *http.Request, _ object) bool {
		if n == 1 {
			complain(w, 500, "Base.1.4.InternalError")
		}
		return n == 1
	})
	s := dial(t, serve(t, f))
	noError(t, s.SetSecureBoot(t.Context(), sysPath, false))
	noError(t, s.SetSecureBoot(t.Context(), sysPath, false))
	if c := f.changes(); len(c) != 1 {
		t.Errorf("changes: %v", c)
	}
}

// A job that ends with the next start only does not hold up what shows already.
func TestBootOnceWithJobOfTheNextStart(t *testing.T) {
	f := newFake()
	f.resources["/redfish/v1/Jobs/1"] = object{"@odata.type": "#Task.v1_4_3.Task", "TaskState": "Pending"}
	f.hook = onRequest("PATCH", sysPath, func(_ int, w http.ResponseWriter, _ *http.Request, body object) bool {
		merge(f.resources[sysPath], body)
		w.Header().Set("Location", "/redfish/v1/Jobs/1")
		w.WriteHeader(http.StatusAccepted)
		return true
	})
	l := serve(t, f)
	l.Options.Settle = 50 * time.Millisecond
	noError(t, dial(t, l).BootOnce(t.Context(), sysPath, Cd))
}
