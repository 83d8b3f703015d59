package bmc

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"

	"metalrise.dev/fleet"
)

type object = map[string]any

// fakeBMC is a small Redfish service with state. Tests change its resources and
// put a hook in front to make it misbehave.
type fakeBMC struct {
	mu        sync.Mutex
	resources map[string]object
	hook      func(w http.ResponseWriter, r *http.Request, body object) bool // true: answered
	token     string
	logins    int // session POSTs seen
	deleted   []string
	calls     []string // "POST /path {body}" of everything that changes something
	inserts   int
}

const (
	sysPath  = "/redfish/v1/Systems/1"
	slotPath = "/redfish/v1/Managers/1/VirtualMedia/CD"
)

func ref(path string) object { return object{"@odata.id": path} }

func members(paths ...string) object {
	list := []any{}
	for _, p := range paths {
		list = append(list, ref(p))
	}
	return object{"Members": list}
}

func newFake() *fakeBMC {
	return &fakeBMC{resources: map[string]object{
		"/redfish/v1": {
			"RedfishVersion": "1.9.0", "Vendor": "Contoso", "Product": "BMC", "UUID": "u", "Oem": object{"Contoso": object{}},
			"Systems": ref("/redfish/v1/Systems"), "Managers": ref("/redfish/v1/Managers"),
			"Links": object{"Sessions": ref("/redfish/v1/SessionService/Sessions")},
		},
		"/redfish/v1/Systems":  members(sysPath),
		"/redfish/v1/Managers": members("/redfish/v1/Managers/1"),
		sysPath: {
			"@odata.id": sysPath, "Id": "1", "SerialNumber": "SN1", "PowerState": "Off", "Manufacturer": "Contoso",
			"Links":   object{"ManagedBy": []any{ref("/redfish/v1/Managers/1")}},
			"Boot":    object{"BootSourceOverrideEnabled": "Disabled", "BootSourceOverrideTarget": "None", "BootSourceOverrideMode": "UEFI", "BootSourceOverrideTarget@Redfish.AllowableValues": []any{"None", "Pxe", "Cd", "Hdd", "UefiHttp"}},
			"Actions": object{"#ComputerSystem.Reset": object{"target": sysPath + "/Actions/Reset", "ResetType@Redfish.AllowableValues": []any{"On", "ForceOff", "GracefulShutdown", "ForceRestart"}}},
		},
		"/redfish/v1/Managers/1":              {"@odata.id": "/redfish/v1/Managers/1", "FirmwareVersion": "1", "VirtualMedia": ref("/redfish/v1/Managers/1/VirtualMedia")},
		"/redfish/v1/Managers/1/VirtualMedia": members(slotPath),
		slotPath: {
			"@odata.id": slotPath, "Id": "CD", "MediaTypes": []any{"CD"}, "Inserted": false, "Image": nil,
			"Actions": object{"#VirtualMedia.InsertMedia": object{"target": slotPath + "/Insert"}, "#VirtualMedia.EjectMedia": object{"target": slotPath + "/Eject"}},
		},
	}}
}

func (f *fakeBMC) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var body object
	_ = json.NewDecoder(r.Body).Decode(&body)
	path := strings.TrimSuffix(r.URL.Path, "/")
	session := r.Method == http.MethodPost && strings.HasSuffix(path, "/Sessions")
	if session {
		f.logins++
	}
	if f.hook != nil && f.hook(w, r, body) {
		return
	}
	switch {
	case session:
		f.token = fmt.Sprintf("token%d", f.logins)
		w.Header().Set("X-Auth-Token", f.token)
		w.Header().Set("Location", fmt.Sprintf("https://bmc.inner%s/%d", path, f.logins))
		w.WriteHeader(http.StatusCreated)
		return
	case path != "/redfish/v1" && (f.token == "" || r.Header.Get("X-Auth-Token") != f.token):
		complain(w, http.StatusUnauthorized, "Base.1.0.NoValidSession")
		return
	case r.Method == http.MethodDelete:
		f.deleted = append(f.deleted, path)
		w.WriteHeader(http.StatusNoContent)
		return
	case r.Method == http.MethodGet:
		f.get(w, path)
		return
	}
	text, _ := json.Marshal(body)
	f.calls = append(f.calls, fmt.Sprintf("%s %s %s", r.Method, path, text))
	f.act(w, path, body)
}

func (f *fakeBMC) get(w http.ResponseWriter, path string) {
	o, ok := f.resources[path]
	if !ok {
		complain(w, http.StatusNotFound, "Base.1.0.ResourceMissingAtURI")
		return
	}
	_ = json.NewEncoder(w).Encode(o)
}

func (f *fakeBMC) act(w http.ResponseWriter, path string, body object) {
	switch path {
	case sysPath + "/Actions/Reset":
		f.resources[sysPath]["PowerState"] = map[string]string{"On": "On", "ForceRestart": "On"}[fmt.Sprint(body["ResetType"])]
		if f.resources[sysPath]["PowerState"] == "" {
			f.resources[sysPath]["PowerState"] = "Off"
		}
	case slotPath + "/Insert":
		f.inserts++
		f.resources[slotPath]["Image"], f.resources[slotPath]["Inserted"] = body["Image"], true
	case slotPath + "/Eject":
		f.resources[slotPath]["Image"], f.resources[slotPath]["Inserted"] = nil, false
	default:
		o, ok := f.resources[path]
		if !ok {
			complain(w, http.StatusNotFound, "Base.1.0.ResourceMissingAtURI")
			return
		}
		merge(o, body)
	}
	w.WriteHeader(http.StatusNoContent)
}

func merge(into, from object) {
	for k, v := range from {
		if sub, ok := v.(object); ok {
			if have, ok := into[k].(object); ok {
				have = maps.Clone(have)
				merge(have, sub)
				into[k] = have
				continue
			}
		}
		into[k] = v
	}
}

// complain answers with a Redfish error.
func complain(w http.ResponseWriter, status int, id string, args ...string) {
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(object{"error": object{"code": id, "@Message.ExtendedInfo": []any{object{"MessageId": id, "Message": "it says " + id, "MessageArgs": args}}}})
}

// changes lists what was sent to the fake that changes something.
func (f *fakeBMC) changes() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.calls...)
}

// with calls fn with the fake locked.
func (f *fakeBMC) with(fn func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fn()
}

// wantFault fails unless err has the code and kind.
func wantFault(t *testing.T, err error, code fleet.Code, kind fleet.Kind) {
	t.Helper()
	if err == nil || fleet.CodeOf(err) != code || fleet.KindOf(err) != kind {
		t.Errorf("want %s, %s; got %s, %s: %v", code, kind, fleet.CodeOf(err), fleet.KindOf(err), err)
	}
	if err != nil && strings.Contains(err.Error(), "secret") {
		t.Errorf("error tells the password: %v", err)
	}
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
