package bmc

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"metalrise.dev/fleet"
)

func TestExpand(t *testing.T) {
	cases := []struct {
		in   []string
		want []string
	}{
		{[]string{"10.0.9.11"}, []string{"10.0.9.11:443"}},
		{[]string{" 10.0.9.11:8443 "}, []string{"10.0.9.11:8443"}},
		{[]string{"10.0.9.11-13"}, []string{"10.0.9.11:443", "10.0.9.12:443", "10.0.9.13:443"}},
		{[]string{"10.0.9.255-10.0.10.1"}, []string{"10.0.9.255:443", "10.0.10.0:443", "10.0.10.1:443"}},
		{[]string{"10.0.9.11-12:8000"}, []string{"10.0.9.11:8000", "10.0.9.12:8000"}},
		{[]string{"10.0.9.1/30"}, []string{"10.0.9.1:443", "10.0.9.2:443"}},
		{[]string{"10.0.9.0/31"}, []string{"10.0.9.0:443", "10.0.9.1:443"}},
		{[]string{"10.0.9.7/32"}, []string{"10.0.9.7:443"}},
		{[]string{"fd00::1"}, []string{"[fd00::1]:443"}},
		{[]string{"[fd00::1]"}, []string{"[fd00::1]:443"}},
		{[]string{"[fd00::1]:8443"}, []string{"[fd00::1]:8443"}},
		{[]string{"fd00::f-fd00::10"}, []string{"[fd00::f]:443", "[fd00::10]:443"}},
		{[]string{"fd00::/127"}, []string{"[fd00::]:443", "[fd00::1]:443"}},
		{[]string{"BMC-7.example", "bmc-7.example:443"}, []string{"bmc-7.example:443"}},
		{[]string{"10.0.9.11", "10.0.9.10-12"}, []string{"10.0.9.11:443", "10.0.9.10:443", "10.0.9.12:443"}},
		{[]string{"255.255.255.254-255"}, []string{"255.255.255.254:443", "255.255.255.255:443"}},
	}
	for _, c := range cases {
		got, err := Expand(c.in, 0)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%v: %v, %v; want %v", c.in, got, err, c.want)
		}
	}
	if got, err := Expand([]string{"10.0.0.0/16"}, 8443); err != nil || len(got) != 65534 || got[0] != "10.0.0.1:8443" {
		t.Errorf("/16: %d addresses, %v", len(got), err)
	}
}

func TestExpandReportsAllAtOnce(t *testing.T) {
	bad := []string{"", "10.0.9.300", "10.0.9.20-11", "10.0.9.1-300", "10.0.0.0/8", "10.0.9.1:0", "10.0.9.1:x", "fd00::/64",
		"10.0.9.1-fd00::1", "[fd00::1", "[fd00::1]x", "host name", "-bmc", "ftp://10.0.9.1", "10.0.0.1-10.9.0.1", "1.2.3"}
	_, err := Expand(append(bad, "10.0.9.1"), 443)
	if err == nil || fleet.CodeOf(err) != fleet.CodeSiteInvalid {
		t.Fatalf("got %v", err)
	}
	for _, p := range bad {
		if !strings.Contains(err.Error(), fmt.Sprintf("%q", p)) {
			t.Errorf("%q is not reported", p)
		}
	}
	if _, err := Expand([]string{"10.0.0.0/17", "10.1.0.0/17", "10.2.0.0/17"}, 443); err == nil {
		t.Error("three /17 are more than the limit")
	}
}

func TestSweep(t *testing.T) {
	var secrets atomic.Int32
	f := newFake()
	watch := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" || r.Header.Get("X-Auth-Token") != "" || r.Method != http.MethodGet {
			secrets.Add(1)
		}
		f.ServeHTTP(w, r)
	})
	bmc, page := serve(t, watch).Endpoint.Address, serve(t, http.NotFoundHandler()).Endpoint.Address
	legacy := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/rest/v1" {
			http.NotFound(w, r)
			return
		}
		fmt.Fprint(w, `{"Type":"ServiceRoot.0.9.5"}`)
	})).Endpoint.Address
	enclosure := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"RedfishVersion":"1.4.0","Chassis":{"@odata.id":"/redfish/v1/Chassis"}}`)
	})).Endpoint.Address
	got := map[string]Found{}
	err := Sweep(t.Context(), []string{bmc, page, legacy, enclosure, "127.0.0.1:1"}, 3, func(f Found) { got[f.Address] = f })
	noError(t, err)
	for address, want := range map[string]What{bmc: RedfishService, page: NotBMC, legacy: LegacyRedfish, enclosure: EnclosureController, "127.0.0.1:1": NoAnswer} {
		if got[address].What != want {
			t.Errorf("%s: %+v, want %s", address, got[address], want)
		}
	}
	if g := got[bmc]; g.Vendor != "Contoso" || g.OEM != "Contoso" || len(g.Fingerprint) != 64 || g.RedfishVersion != "1.9.0" {
		t.Errorf("found: %+v", g)
	}
	if secrets.Load() > 0 || f.logins > 0 {
		t.Error("a sweep sent credentials")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Sweep(ctx, []string{bmc}, 1, func(Found) {}); err == nil {
		t.Error("a cancelled sweep reports no error")
	}
}
