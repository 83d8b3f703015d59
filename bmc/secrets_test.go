package bmc

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"metalrise.dev/fleet"
)

// Refused logins are counted over sessions, and at the same time.
func TestLedgerHoldsOverSessions(t *testing.T) {
	f := newFake()
	f.hook = func(w http.ResponseWriter, r *http.Request, _ object) bool {
		if strings.HasSuffix(r.URL.Path, "/Sessions") {
			complain(w, http.StatusUnauthorized, "Base.1.0.ResourceAtUriUnauthorized")
			return true
		}
		return false
	}
	l := serve(t, f)
	l.Options.Ledger = NewLedger()
	var group sync.WaitGroup
	for range 12 {
		group.Go(func() {
			if _, err := Dial(t.Context(), l); fleet.KindOf(err) != fleet.Denied {
				t.Errorf("%v", err)
			}
		})
	}
	group.Wait()
	if f.logins != maxBadLogins {
		t.Errorf("%d logins, want %d", f.logins, maxBadLogins)
	}
	_, err := Dial(t.Context(), l)
	wantFault(t, err, fleet.CodeBMCLoginsSpent, fleet.Denied)
	l.Password = "another" // corrected: another set of credentials
	_, err = Dial(t.Context(), l)
	wantFault(t, err, fleet.CodeBMCLoginRefused, fleet.Denied)
	if f.logins != maxBadLogins+1 {
		t.Errorf("%d logins", f.logins)
	}
}

func TestLockoutIsReadAndHeeded(t *testing.T) {
	f := newFake()
	f.resources["/redfish/v1"]["AccountService"] = ref("/redfish/v1/AccountService")
	f.resources["/redfish/v1/AccountService"] = object{"AccountLockoutThreshold": 2}
	s := dial(t, serve(t, f))
	v, err := s.Lockout(t.Context())
	noError(t, err)
	if v.Or(-1) != 2 || s.limit != 1 {
		t.Errorf("threshold %v, limit %d", v, s.limit)
	}
	f.with(func() {
		f.hook = func(w http.ResponseWriter, r *http.Request, _ object) bool {
			complain(w, http.StatusUnauthorized, "Base.1.0.ResourceAtUriUnauthorized")
			return true
		}
	})
	for range 4 {
		_, _ = s.Look(t.Context(), sysPath)
	}
	if f.logins != 2 {
		t.Errorf("%d logins on a BMC that locks after two refused ones", f.logins)
	}
	f = newFake()
	if v, err := dial(t, serve(t, f)).Lockout(t.Context()); err != nil || v.IsKnown() {
		t.Errorf("not offered: %v, %v", v, err)
	}
}

// Some BMCs open a session that is good for nothing but a new password.
func TestPasswordChangeNamesTheAccount(t *testing.T) {
	f := newFake()
	f.hook = func(w http.ResponseWriter, r *http.Request, _ object) bool {
		if !strings.HasSuffix(r.URL.Path, "/Sessions") {
			return false
		}
		f.token = "half"
		w.Header().Set("X-Auth-Token", f.token)
		w.Header().Set("Location", "/redfish/v1/SessionService/Sessions/9")
		complain(w, http.StatusCreated, "Base.1.11.PasswordChangeRequired", "/redfish/v1/AccountService/Accounts/3")
		return true
	}
	_, err := Dial(t.Context(), serve(t, f))
	wantFault(t, err, fleet.CodeBMCPasswordChange, fleet.Denied)
	if !strings.Contains(fmt.Sprint(err), "/redfish/v1/AccountService/Accounts/3") || len(f.deleted) != 1 {
		t.Errorf("%v; deleted %v", err, f.deleted)
	}
}

// What a BMC repeats of a medium's address is a key; no error may carry it.
func TestMediaAddressesAreNotRepeated(t *testing.T) {
	const key = "0123456789abcdef0123456789abcdef"
	f := newFake()
	f.hook = func(w http.ResponseWriter, r *http.Request, _ object) bool {
		if strings.HasSuffix(r.URL.Path, "/Insert") {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = fmt.Fprintf(w, `{"error":{"@Message.ExtendedInfo":[{"MessageId":"Base.1.0.GeneralError","Message":"cannot load https://10.0.0.1:8443/m/%s/live.iso (/m/%s/live.iso)","MessageArgs":["/m/%s/live.iso"]}]}}`, key, key, key)
			return true
		}
		return false
	}
	s := dial(t, serve(t, f))
	for _, path := range []string{"/m/" + key + "/live.iso", "/media/" + key + ".iso"} {
		err := s.Insert(t.Context(), sysPath, "https://10.0.0.1:8443"+path)
		if err == nil {
			t.Fatal("no error")
		}
		all := fmt.Sprint(err, fleet.CauseOf(err))
		if strings.Contains(all, key) && strings.Contains(path, "/m/") {
			t.Errorf("the key is in %s", all)
		}
		if strings.Contains(all, path) {
			t.Errorf("the path is in %s", all)
		}
	}
}

func TestHidingKeepsTheChain(t *testing.T) {
	var h veil
	h.add("hunter22")
	in := fmt.Errorf("insert hunter22: %w", fleet.NewFault(fleet.CodeMediaLost, fleet.Transient, fmt.Errorf("hunter22 is gone: %w", context.Canceled), "lost hunter22"))
	out := h.errors(in)
	c := fleet.CauseOf(out)
	if strings.Contains(fmt.Sprint(out, c), "hunter22") {
		t.Errorf("%v %v", out, c)
	}
	if c.Code != fleet.CodeMediaLost || c.Kind != fleet.Transient || len(c.Chain) != len(fleet.CauseOf(in).Chain) {
		t.Errorf("%+v", c)
	}
}

// A login whose connection died may have been a refused one: it counts when the
// next is refused.
func TestLostLoginsCountAsRefused(t *testing.T) {
	f := newFake()
	f.hook = func(w http.ResponseWriter, r *http.Request, _ object) bool {
		if !strings.HasSuffix(r.URL.Path, "/Sessions") {
			return false
		}
		if f.logins == 1 {
			panic(http.ErrAbortHandler)
		}
		complain(w, http.StatusUnauthorized, "Base.1.0.ResourceAtUriUnauthorized")
		return true
	}
	l := serve(t, f)
	l.Options.Ledger = NewLedger()
	for range 4 {
		if _, err := Dial(t.Context(), l); fleet.KindOf(err) != fleet.Denied {
			t.Errorf("%v", err)
		}
	}
	if f.logins != maxBadLogins {
		t.Errorf("%d logins", f.logins)
	}
}
