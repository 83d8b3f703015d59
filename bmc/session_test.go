package bmc

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"metalrise.dev/fleet"
)

func TestPin(t *testing.T) {
	l := serve(t, newFake())
	s := dial(t, l)
	seen := s.Fingerprint()
	if len(seen) != 64 {
		t.Fatalf("fingerprint %q", seen)
	}
	l.Options.AcceptNewPin = false
	_, err := Dial(t.Context(), l)
	wantFault(t, err, fleet.CodeBMCPinChanged, fleet.Invalid)
	l.Endpoint.Fingerprint = strings.ToUpper(seen)
	dial(t, l)
	l.Options.AcceptNewPin = true // accepts new ones, not changed ones
	l.Endpoint.Fingerprint = strings.Repeat("0", 64)
	_, err = Dial(t.Context(), l)
	wantFault(t, err, fleet.CodeBMCPinChanged, fleet.Conflict)
}

// A resumed TLS connection does not get past the pin.
func TestPinHoldsForResumedConnections(t *testing.T) {
	s := dial(t, serve(t, newFake()))
	s.client.closeIdle()
	s.client.pin.mu.Lock()
	s.client.pin.want, s.client.pin.accept = strings.Repeat("1", 64), false
	s.client.pin.mu.Unlock()
	_, err := s.Look(t.Context(), sysPath)
	wantFault(t, err, fleet.CodeBMCPinChanged, fleet.Conflict)
}

func TestSessionIsReusedAndDeleted(t *testing.T) {
	f := newFake()
	var told []string
	l := serve(t, f)
	l.Options.SessionOpened = func(location string) { told = append(told, location) }
	ctx, cancel := context.WithCancel(t.Context())
	s, err := Dial(ctx, l)
	noError(t, err)
	for range 5 {
		_, err := s.Look(ctx, sysPath)
		noError(t, err)
	}
	if got := s.Location(); got != "/redfish/v1/SessionService/Sessions/1" || len(told) != 1 || told[0] != got {
		t.Errorf("location %q, told %q", got, told)
	}
	cancel()
	noError(t, s.Close())
	if f.logins != 1 || len(f.deleted) != 1 || f.deleted[0] != told[0] {
		t.Errorf("%d logins, deleted %v", f.logins, f.deleted)
	}
	if c := s.Stats().Connections; c > 4 {
		t.Errorf("%d connections for one session", c)
	}
}

func TestExpiredSessionLogsInAgainOnce(t *testing.T) {
	f := newFake()
	s := dial(t, serve(t, f))
	f.with(func() { f.token = "gone" })
	_, err := s.Look(t.Context(), sysPath)
	noError(t, err)
	if f.logins != 2 || s.Location() != "/redfish/v1/SessionService/Sessions/2" {
		t.Errorf("%d logins, location %q", f.logins, s.Location())
	}
	if len(f.deleted) != 1 {
		t.Errorf("the old session was not deleted: %v", f.deleted)
	}
}

func TestRefusedLoginsAreFew(t *testing.T) {
	f := newFake()
	s := dial(t, serve(t, f))
	f.hook = func(w http.ResponseWriter, r *http.Request, _ object) bool {
		complain(w, http.StatusUnauthorized, "Base.1.0.ResourceAtUriUnauthorized")
		return true
	}
	for i := range 6 {
		code := fleet.CodeBMCLoginRefused
		if i >= maxBadLogins {
			code = fleet.CodeBMCLoginsSpent
		}
		_, err := s.Look(t.Context(), sysPath)
		wantFault(t, err, code, fleet.Denied)
	}
	if f.logins > 1+maxBadLogins {
		t.Errorf("%d logins were tried", f.logins)
	}
}

// A resource that stays 401 with every new session must not lead to a login
// per request.
func TestUselessLoginsAreFew(t *testing.T) {
	f := newFake()
	s := dial(t, serve(t, f))
	f.hook = func(w http.ResponseWriter, r *http.Request, _ object) bool {
		if r.URL.Path == sysPath {
			complain(w, http.StatusUnauthorized, "Base.1.0.InsufficientPrivilege")
			return true
		}
		return false
	}
	for i := range 8 {
		code := fleet.CodeBMCLoginRefused
		if i >= maxBadLogins {
			code = fleet.CodeBMCSessionRefused
		}
		_, err := s.Look(t.Context(), sysPath)
		wantFault(t, err, code, fleet.Denied)
	}
	if f.logins > 1+maxBadLogins {
		t.Errorf("%d logins", f.logins)
	}
}

func TestBasicWhereSessionsAreNotOffered(t *testing.T) {
	for _, status := range []int{404, 405, 415, 501, 200} {
		f := newFake()
		f.hook = func(w http.ResponseWriter, r *http.Request, _ object) bool {
			if strings.HasSuffix(r.URL.Path, "/Sessions") {
				if r.Header.Get("Authorization") != "" {
					t.Error("session POST carried an Authorization header")
				}
				w.WriteHeader(status)
				return true
			}
			if user, pass, ok := r.BasicAuth(); ok && user == "admin" && pass == "secret" {
				r.Header.Set("X-Auth-Token", f.token)
			}
			return false
		}
		f.token = "basic"
		s := dial(t, serve(t, f))
		if _, err := s.Look(t.Context(), sysPath); err != nil {
			t.Errorf("%d: %v", status, err)
		}
		if s.Location() != "" {
			t.Errorf("%d: location %q", status, s.Location())
		}
	}
}

func TestLoginFaults(t *testing.T) {
	cases := []struct {
		name   string
		status int
		id     string
		code   fleet.Code
		kind   fleet.Kind
	}{
		{"wrong password", 401, "Base.1.0.ResourceAtUriUnauthorized", fleet.CodeBMCLoginRefused, fleet.Denied},
		{"session limit", 503, "Base.1.0.SessionLimitExceeded", fleet.CodeBMCSessionLimit, fleet.Transient},
		{"session limit as 400", 400, "IDRAC.2.8.RAC0218", fleet.CodeBMCSessionLimit, fleet.Transient},
		{"password change", 403, "Base.1.11.PasswordChangeRequired", fleet.CodeBMCPasswordChange, fleet.Denied},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			f := newFake()
			f.hook = func(w http.ResponseWriter, r *http.Request, body object) bool {
				if strings.HasSuffix(r.URL.Path, "/Sessions") {
					complain(w, c.status, c.id)
					return true
				}
				return false
			}
			_, err := Dial(t.Context(), serve(t, f))
			wantFault(t, err, c.code, c.kind)
			if f.logins != 1 {
				t.Errorf("%d logins", f.logins)
			}
		})
	}
}

func TestNotRedfish(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"page of HTML": func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte("<html>hello</html>")) },
		"404":          http.NotFound,
		"other JSON":   func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte(`{"hello":"world"}`)) },
	} {
		_, err := Dial(t.Context(), serve(t, h))
		if fleet.CodeOf(err) != fleet.CodeBMCNotRedfish {
			t.Errorf("%s: %v", name, err)
		}
	}
	l := serve(t, newFake())
	l.Endpoint.Address = "127.0.0.1:1"
	_, err := Dial(t.Context(), l)
	wantFault(t, err, fleet.CodeBMCUnreachable, fleet.Transient)
}

// Credentials and tokens stay with the host that showed the pinned certificate.
func TestRedirects(t *testing.T) {
	var stolen atomic.Int32
	thief := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { stolen.Add(1) }))
	defer thief.Close()
	f := newFake()
	f.hook = func(w http.ResponseWriter, r *http.Request, _ object) bool {
		switch r.URL.Path {
		case sysPath:
			http.Redirect(w, r, thief.URL+sysPath, http.StatusTemporaryRedirect)
			return true
		case "/redfish/v1/SessionService/Sessions": // trailing slash demanded, POST kept
			http.Redirect(w, r, r.URL.Path+"/", http.StatusPermanentRedirect)
			return true
		}
		return false
	}
	s := dial(t, serve(t, f))
	_, err := s.Look(t.Context(), sysPath)
	wantFault(t, err, fleet.CodeBMCAnswerInvalid, fleet.Unsupported)
	if stolen.Load() != 0 {
		t.Error("a redirect to another host was followed")
	}
}

func TestHostileAnswers(t *testing.T) {
	endless := func(w http.ResponseWriter) {
		_, _ = w.Write([]byte(`{"a":"`))
		for range maxBody/1000 + 2 {
			if _, err := w.Write([]byte(strings.Repeat("a", 1000))); err != nil {
				return
			}
		}
	}
	cases := map[string]func(http.ResponseWriter){
		"endless body": endless,
		"deep nesting": func(w http.ResponseWriter) {
			_, _ = w.Write([]byte(strings.Repeat(`{"a":`, 100000)))
		},
		"list for object": func(w http.ResponseWriter) { _, _ = w.Write([]byte(`[1]`)) },
		"cut off":         func(w http.ResponseWriter) { _, _ = w.Write([]byte(`{"a":1`)) },
	}
	for name, answer := range cases {
		t.Run(name, func(t *testing.T) {
			f := newFake()
			f.hook = func(w http.ResponseWriter, r *http.Request, _ object) bool {
				if r.URL.Path == sysPath {
					answer(w)
					return true
				}
				return false
			}
			s := dial(t, serve(t, f))
			_, err := s.Inspect(t.Context(), sysPath)
			wantFault(t, err, fleet.CodeBMCAnswerInvalid, fleet.Invalid)
		})
	}
}

func TestCollectionsAreBounded(t *testing.T) {
	f := newFake()
	f.resources[sysPath]["Processors"] = ref("/redfish/v1/loop")
	f.resources["/redfish/v1/loop"] = object{"Members": []any{}, "Members@odata.nextLink": "/redfish/v1/loop?page=1"}
	var many []any
	for range 5000 {
		many = append(many, ref("/redfish/v1/Systems/1/none"))
	}
	f.resources[sysPath]["Memory"] = ref("/redfish/v1/many")
	f.resources["/redfish/v1/many"] = object{"Members": many}
	f.resources[sysPath]["EthernetInterfaces"] = ref("https://elsewhere/redfish")
	s := dial(t, serve(t, f))
	facts, err := s.Inspect(t.Context(), sysPath)
	noError(t, err)
	text := ""
	for _, p := range facts.Problems {
		text += p.Path + " " + p.Text + "\n"
	}
	for _, want := range []string{"does not end", "only the first 2000", "leaves the BMC"} {
		if !strings.Contains(text, want) {
			t.Errorf("no problem says %q:\n%s", want, text)
		}
	}
	if n := s.Stats().Requests; n > 50 {
		t.Errorf("%d requests", n)
	}
}

func TestTimedOutActIsUncertain(t *testing.T) {
	f := newFake()
	release := make(chan struct{})
	posts := atomic.Int32{}
	l := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/Reset") {
			posts.Add(1)
			<-release
			return
		}
		f.ServeHTTP(w, r)
	}))
	defer close(release)
	l.Options.RequestTimeout = 200 * time.Millisecond
	s := dial(t, l)
	err := s.Power(t.Context(), sysPath, On)
	wantFault(t, err, fleet.CodeBMCUnreachable, fleet.UnsureKind)
	if posts.Load() != 1 {
		t.Errorf("an uncertain act was sent %d times", posts.Load())
	}
}

// A read is tried again on a new connection when the old one broke; an act is not.
func TestBrokenConnections(t *testing.T) {
	f := newFake()
	var reads, acts atomic.Int32
	l := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == sysPath && reads.Add(1) == 1:
			panic(http.ErrAbortHandler)
		case strings.HasSuffix(r.URL.Path, "/Reset"):
			acts.Add(1)
			panic(http.ErrAbortHandler)
		}
		f.ServeHTTP(w, r)
	}))
	s := dial(t, l)
	_, err := s.Look(t.Context(), sysPath)
	noError(t, err)
	wantFault(t, s.Power(t.Context(), sysPath, On), fleet.CodeBMCUnreachable, fleet.UnsureKind)
	if acts.Load() != 1 {
		t.Errorf("%d acts", acts.Load())
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	l := serve(t, newFake())
	s := dial(t, l)
	for _, text := range []string{fmt.Sprintf("%v %+v %#v %s", l, l, l, l), fmt.Sprintf("%v %+v %#v %s", s, s, s, s)} {
		if strings.Contains(text, "secret") || strings.Contains(text, "token1") {
			t.Error(text)
		}
	}
}

func TestErrorShapes(t *testing.T) {
	for body, want := range map[string]string{
		`{"error":{"@Message.ExtendedInfo":[{"MessageId":"A.1.X","Message":"one"}]}}`: "A.1.X one",
		`{"error":{"@Message.ExtendedInfo":{"MessageId":"A.1.X","Message":"one"}}}`:   "A.1.X one",
		`{"error":{"@Message.ExtendedInfo":"just text"}}`:                             "just text",
		`{"@Message.ExtendedInfo":[{"MessageId":"A.1.X","Message":"one"}]}`:           "A.1.X one",
		`{"error":{"code":"A.1.X","message":"one"}}`:                                  "A.1.X one",
		`{"error":"text"}`:     "text",
		`plain words`:          "plain words",
		`<html>nothing</html>`: "answered 400 Bad Request",
		``:                     "answered 400 Bad Request",
	} {
		r := &refusal{method: "GET", path: "/x", status: 400, messages: readMessages([]byte(body))}
		if !strings.HasSuffix(r.Error(), want) {
			t.Errorf("%s: %s", body, r.Error())
		}
	}
}
