package redfish

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestRootNeedsNoLoginEverythingElseDoes(t *testing.T) {
	r := newRig(t, nil)
	for _, p := range []string{"/redfish", "/redfish/v1", "/redfish/v1/", "/redfish/v1/odata"} {
		if a := r.raw(request("GET", p, nil)); a.status != 200 {
			t.Errorf("GET %s: %d", p, a.status)
		}
	}
	root := r.raw(request("GET", "/redfish/v1/", nil))
	if root.path("Vendor") != "Contoso" || root.path("Links", "Sessions", "@odata.id") != pathSessions || root.header.Get("OData-Version") != "4.0" {
		t.Errorf("root %s", root.raw)
	}
	for p, n := range r.bmc.nodes {
		if n.open {
			continue
		}
		for _, m := range []string{"GET", "PATCH", "POST", "DELETE"} {
			if p == pathSessions && m == "POST" {
				continue
			}
			if a := r.raw(request(m, p, object{})); a.status != 401 || a.id() != "NoValidSession" {
				t.Errorf("%s %s without a login: %d %s", m, p, a.status, a.id())
			}
		}
	}
	if a := r.raw(request("GET", "/redfish/v1/nothing", nil)); a.status != 401 {
		t.Errorf("unknown path without a login: %d, so strangers could map the tree", a.status)
	}
}

func TestEveryLinkLeadsSomewhere(t *testing.T) {
	for _, p := range Personalities() {
		t.Run(p.Name, func(t *testing.T) {
			r := newRig(t, func(c *Config) { c.Personality = p })
			seen := map[string]bool{}
			var walk func(string)
			var follow func(any)
			follow = func(v any) {
				switch v := v.(type) {
				case map[string]any:
					for k, one := range v {
						if id, isText := one.(string); isText && (k == "@odata.id" || k == "Members@odata.nextLink" || k == "@Redfish.ActionInfo") {
							if id, _, fragment := strings.Cut(id, "#"); !fragment {
								walk(id)
							}
							continue
						}
						follow(one)
					}
				case []any:
					for _, one := range v {
						follow(one)
					}
				}
			}
			walk = func(at string) {
				if seen[at] {
					return
				}
				seen[at] = true
				a := r.want(200, "GET", at, nil)
				own, _ := a.path("@odata.id").(string)
				if page, _, _ := strings.Cut(at, "?"); strings.TrimSuffix(own, "/") != strings.TrimSuffix(page, "/") {
					t.Errorf("%s calls itself %q", at, own)
				}
				if kind, _ := a.path("@odata.type").(string); !strings.HasPrefix(kind, "#") || a.path("Name") == nil {
					t.Errorf("%s lacks @odata.type or Name", at)
				}
				if tag, _ := a.path("@odata.etag").(string); tag == "" || tag != a.header.Get("ETag") {
					t.Errorf("%s: ETag %q in the body, %q in the header", at, tag, a.header.Get("ETag"))
				}
				follow(a.body)
			}
			walk("/redfish/v1/")
			for at, n := range r.bmc.nodes {
				if n.get != nil && !n.open && !seen[at] {
					t.Errorf("%s cannot be reached from the root", at)
				}
			}
		})
	}
}

func TestInventoryTellsTheSpec(t *testing.T) {
	r := newRig(t, nil)
	s := r.want(200, "GET", system, nil)
	if s.path("SerialNumber") != serial || s.path("UUID") != testSpec().UUID || s.path("MemorySummary", "TotalSystemMemoryGiB") != 8.0 {
		t.Errorf("system %s", s.raw)
	}
	d := r.want(200, "GET", system+"/Storage/Storage1/Drives/Disk1", nil)
	ids, _ := d.path("Identifiers").([]any)
	if d.path("CapacityBytes") != float64(32<<30) || d.path("MediaType") != "HDD" || len(ids) != 1 ||
		ids[0].(map[string]any)["DurableName"] != "5000c500a0b1c2d4" {
		t.Errorf("drive %s", d.raw)
	}
	n := r.want(200, "GET", system+"/EthernetInterfaces/NIC2", nil)
	if n.path("MACAddress") != "52:54:00:00:00:02" || n.path("LinkStatus") != "LinkDown" {
		t.Errorf("nic %s", n.raw)
	}
}

func TestSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(c *Config) { c.Limits = Limits{Sessions: 2, SessionTimeout: time.Minute} })
		open := func() answer {
			return r.raw(request("POST", pathSessions, object{"UserName": testUser, "Password": testPass}))
		}
		use := func(token string) int {
			req := request("GET", system, nil)
			req.Header.Set("X-Auth-Token", token)
			return r.raw(req).status
		}
		one := open()
		token := one.header.Get("X-Auth-Token")
		if one.status != 201 || token == "" || one.header.Get("Location") != one.path("@odata.id") {
			t.Fatalf("create: %d %v %s", one.status, one.header, one.raw)
		}
		if strings.Contains(one.raw, token) || strings.Contains(one.raw, testPass) {
			t.Error("the body holds a secret")
		}
		if use(token) != 200 || use("x"+token) != 401 {
			t.Error("token does not decide")
		}
		open()
		if a := open(); a.status != 503 || a.id() != "SessionLimitExceeded" {
			t.Errorf("third of two sessions: %d %s", a.status, a.id())
		}
		time.Sleep(50 * time.Second)
		use(token) // renews the first, the second runs out
		time.Sleep(50 * time.Second)
		if got := r.want(200, "GET", pathSessions, nil).path("Members@odata.count"); got != 1.0 {
			t.Errorf("%v sessions are left, want 1", got)
		}
		req := request("DELETE", one.header.Get("Location"), nil)
		req.Header.Set("X-Auth-Token", token)
		if a := r.raw(req); a.status != 204 {
			t.Errorf("delete: %d", a.status)
		}
		if use(token) != 401 {
			t.Error("a closed session still works")
		}
		r.want(404, "DELETE", one.header.Get("Location"), nil)
		r.want(400, "PATCH", "/redfish/v1/SessionService", object{"SessionTimeout": 29})
		r.want(400, "PATCH", "/redfish/v1/SessionService", object{"SessionTimeout": "30"})
		r.want(200, "PATCH", "/redfish/v1/SessionService", object{"SessionTimeout": 30})
		token = open().header.Get("X-Auth-Token")
		time.Sleep(31 * time.Second)
		if use(token) != 401 {
			t.Error("the changed timeout has no effect")
		}
		for _, body := range []object{{}, {"UserName": testUser}, {"UserName": 1, "Password": 2}} {
			if a := r.raw(request("POST", pathSessions, body)); a.status != 400 || a.id() != "PropertyMissing" {
				t.Errorf("%v: %d %s", body, a.status, a.id())
			}
		}
	})
}

func TestLockout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(c *Config) { c.Limits = Limits{LockoutThreshold: 3, LockoutDuration: time.Minute} })
		service := r.want(200, "GET", "/redfish/v1/AccountService", nil)
		if service.path("AccountLockoutThreshold") != 3.0 || service.path("AccountLockoutDuration") != 60.0 {
			t.Errorf("account service %s", service.raw)
		}
		token := r.raw(request("POST", pathSessions, object{"UserName": testUser, "Password": testPass})).header.Get("X-Auth-Token")
		wrong := func(times int) {
			for range times {
				req := request("GET", system, nil)
				req.SetBasicAuth(testUser, "guess")
				if a := r.raw(req); a.status != 401 {
					t.Errorf("wrong password: %d", a.status)
				}
			}
		}
		wrong(2)
		r.want(200, "GET", system, nil) // a right one forgets the wrong ones
		wrong(2)
		r.want(200, "GET", system, nil)
		wrong(3)
		r.want(401, "GET", system, nil) // locked
		req := request("GET", "/redfish/v1/AccountService/Accounts/1", nil)
		req.Header.Set("X-Auth-Token", token)
		if a := r.raw(req); a.status != 200 || a.path("Locked") != true {
			t.Errorf("an open session sees %d %s", a.status, a.raw)
		}
		time.Sleep(61 * time.Second)
		r.want(200, "GET", system, nil)
	})
}

func TestVersions(t *testing.T) {
	r := newRig(t, nil)
	patch := func(r *rig, match string) answer {
		req := request("PATCH", system, object{"AssetTag": "rack 7 " + match, "@odata.id": system})
		req.SetBasicAuth(testUser, testPass)
		if match != "" {
			req.Header.Set("If-Match", match)
		}
		return r.raw(req)
	}
	tag := r.want(200, "GET", system, nil).header.Get("ETag")
	if a := patch(r, tag); a.status != 200 || a.header.Get("ETag") == tag {
		t.Errorf("right ETag: %d, new ETag %q after %q", a.status, a.header.Get("ETag"), tag)
	}
	if a := patch(r, tag); a.status != 412 {
		t.Errorf("stale ETag: %d", a.status)
	}
	if a := patch(r, "*"); a.status != 200 {
		t.Errorf("any ETag: %d", a.status)
	}
	req := request("GET", system, nil)
	req.SetBasicAuth(testUser, testPass)
	req.Header.Set("If-None-Match", r.want(200, "GET", system, nil).header.Get("ETag"))
	if a := r.raw(req); a.status != 304 || a.raw != "" {
		t.Errorf("unchanged: %d %q", a.status, a.raw)
	}
	strict := newRig(t, func(c *Config) { c.Personality = Standard(); c.Personality.Match = MatchRequired })
	if a := patch(strict, ""); a.status != 428 {
		t.Errorf("no If-Match to a BMC that wants it: %d", a.status)
	}
}

func TestCollectionsExpandAndPage(t *testing.T) {
	r := newRig(t, nil)
	nics := system + "/EthernetInterfaces"
	if a := r.want(200, "GET", nics, nil); strings.Contains(a.raw, "nextLink") || strings.Contains(a.raw, "MACAddress") {
		t.Errorf("plain collection %s", a.raw)
	}
	full := r.want(200, "GET", nics+"?$expand=.($levels=1)", nil)
	if m := full.path("Members").([]any); len(m) != 2 || m[1].(map[string]any)["MACAddress"] != "52:54:00:00:00:02" {
		t.Errorf("expanded %s", full.raw)
	}
	if m := r.want(200, "GET", nics+"?$skip=1&$top=5", nil).path("Members").([]any); len(m) != 1 {
		t.Errorf("members after $skip: %v", m)
	}
	r.want(501, "GET", nics+"?$expand=*", nil)
	r.want(501, "GET", nics+"?$select=Name", nil)
	r.want(501, "GET", system+"?$expand=.", nil)
	r.want(400, "GET", nics+"?$top=x", nil)
	r.want(200, "GET", nics+"?harmless=1", nil)

	paged := newRig(t, func(c *Config) { c.Personality = Standard(); c.Personality.PageSize = 1 })
	first := paged.want(200, "GET", nics, nil)
	next, _ := first.path("Members@odata.nextLink").(string)
	if first.path("Members@odata.count") != 2.0 || next == "" {
		t.Fatalf("first page %s", first.raw)
	}
	if last := paged.want(200, "GET", next, nil); last.path("Members@odata.nextLink") != nil || len(last.path("Members").([]any)) != 1 {
		t.Errorf("last page %s", last.raw)
	}
}

func TestBadRequests(t *testing.T) {
	r := newRig(t, nil)
	boot := func(k string, v any) object { return object{"Boot": object{k: v}} }
	for _, c := range []struct {
		method, path string
		body         any
		status       int
		id           string
	}{
		{"DELETE", system, nil, 405, "OperationNotAllowed"},
		{"GET", reset, nil, 405, "OperationNotAllowed"},
		{"GET", "/redfish/v1/Systems/1", nil, 404, "ResourceMissingAtURI"},
		{"GET", pathSessions + "/77", nil, 404, "ResourceMissingAtURI"},
		{"PATCH", system, []int{1}, 400, "MalformedJSON"},
		{"PATCH", system, object{}, 400, "NoOperation"},
		{"PATCH", system, object{"@odata.etag": "x"}, 400, "NoOperation"},
		{"PATCH", system, object{"Nonsense": 1}, 400, "PropertyUnknown"},
		{"PATCH", system, object{"SerialNumber": "x"}, 400, "PropertyNotWritable"},
		{"PATCH", system, object{"Boot": 1}, 400, "PropertyValueTypeError"},
		{"PATCH", system, boot("BootSourceOverrideTarget", "Floppy"), 400, "PropertyValueNotInList"},
		{"PATCH", system, boot("BootSourceOverrideEnabled", 7), 400, "PropertyValueNotInList"},
		{"PATCH", system, boot("BootSourceOverrideMode", "Legacy"), 400, "PropertyValueNotInList"},
		{"PATCH", system, boot("BootOrder", nil), 400, "PropertyUnknown"},
		{"POST", reset, object{}, 400, "ActionParameterMissing"},
		{"POST", reset, object{"ResetType": 1}, 400, "ActionParameterValueTypeError"},
		{"POST", reset, object{"ResetType": "Explode"}, 400, "ActionParameterValueNotInList"},
		{"POST", reset, object{"ResetType": "On", "Now": true}, 400, "ActionParameterUnknown"},
		{"PATCH", system + "/Bios/Settings", object{"Attributes": object{"Nonsense": 1}}, 400, "PropertyUnknown"},
		{"PATCH", system + "/Bios/Settings", object{"Attributes": object{"BootMode": "Legacy"}}, 400, "PropertyNotWritable"},
		{"POST", reset, object{"ResetType": strings.Repeat("x", maxBody)}, 413, "PayloadTooLarge"},
	} {
		a := r.want(c.status, c.method, c.path, c.body)
		if a.id() != c.id {
			t.Errorf("%s %s: message %s, want %s", c.method, c.path, a.id(), c.id)
		}
		info, _ := a.path("error", "@Message.ExtendedInfo").([]any)
		if len(info) != 1 || info[0].(map[string]any)["MessageId"] != registry+c.id {
			t.Errorf("%s %s: extended info %v", c.method, c.path, info)
		}
	}
	if got := r.ask("DELETE", system, nil).header.Get("Allow"); got != "GET, HEAD, PATCH" {
		t.Errorf("Allow %q", got)
	}
	req := request("POST", reset, object{"ResetType": "On"})
	req.SetBasicAuth(testUser, testPass)
	req.Header.Set("Content-Type", "text/xml")
	if a := r.raw(req); a.status != http.StatusUnsupportedMediaType || r.power() != PowerOff {
		t.Errorf("xml: %d, power %s", a.status, r.power())
	}
	req = request("GET", system, nil)
	req.SetBasicAuth(testUser, testPass)
	req.Header.Set("Accept", "text/html")
	if a := r.raw(req); a.status != http.StatusNotAcceptable {
		t.Errorf("html wanted: %d", a.status)
	}
}

func TestBIOSAttributesActAtTheNextBoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		name := Standard().Virtualization
		now := func() any { return r.want(200, "GET", system+"/Bios", nil).path("Attributes", name) }
		r.want(200, "PATCH", system+"/Bios/Settings", object{"Attributes": object{name: "Disabled"}})
		if now() != "Enabled" {
			t.Errorf("before the boot: %v", now())
		}
		r.reset(ResetOn)
		synctest.Wait()
		if now() != "Disabled" {
			t.Errorf("after the boot: %v", now())
		}
	})
}

func FuzzRequests(f *testing.F) {
	f.Add("POST", reset, `{"ResetType":"On"}`)
	f.Add("PATCH", system, `{"Boot":{"BootSourceOverrideTarget":null}}`)
	f.Add("POST", slotPath+"/Actions/VirtualMedia.InsertMedia", `{"Image":"http://\u0000/"}`)
	f.Add("GET", system+"/EthernetInterfaces?$expand=.&$skip=9", "")
	f.Fuzz(func(t *testing.T, method, path, body string) {
		req, err := http.NewRequest(method, "https://bmc"+path, strings.NewReader(body))
		if err != nil {
			return
		}
		req.SetBasicAuth(testUser, testPass)
		r := newRig(t, nil)
		a := r.raw(req)
		if a.status >= 500 && a.status != 501 {
			t.Errorf("%s %s %q: %d %s", method, path, body, a.status, a.raw)
		}
		if a.raw != "" && !json.Valid([]byte(a.raw)) {
			t.Errorf("not JSON: %q", a.raw)
		}
	})
}
