package redfish

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestQuirksShow asks a BMC with one quirk for the thing in which it differs.
func TestQuirksShow(t *testing.T) {
	insertAt, ejectAt := slotPath+"/Actions/VirtualMedia.InsertMedia", slotPath+"/Actions/VirtualMedia.EjectMedia"
	iso := object{"Image": "https://192.0.2.9/live.iso"}
	boot := func(more object) object {
		out := object{"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "Cd"}
		for k, v := range more {
			out[k] = v
		}
		return object{"Boot": out}
	}
	for _, c := range []struct {
		quirk        Quirk
		method, path string
		body         any
		status       int
		id           string
	}{
		{PathsWantSlash, "POST", reset, object{"ResetType": "On"}, 308, ""},
		{RootWantsNoSlash, "GET", "/redfish/v1/", nil, 301, ""},
		{BasicOff, "GET", system, nil, 401, "NoValidSession"},
		{PasswordMustChange, "GET", system, nil, 403, "PasswordChangeRequired"},
		{NotReadySYS518, "GET", system, nil, 503, "SYS518"},
		{NotReadySWC0700, "GET", system, nil, 400, "SWC0700"},
		{NotReadyRAC0508, "GET", system, nil, 500, "RAC0508"},
		{LoginWantsDomain, "POST", pathSessions, object{"UserName": testUser, "Password": testPass}, 400, "PropertyMissing"},
		{LoginRefusesAuth, "POST", pathSessions, object{"UserName": testUser, "Password": testPass}, 415, "HeaderInvalid"},
		{NoSessions, "POST", pathSessions, object{"UserName": testUser, "Password": testPass}, 404, "ResourceMissingAtURI"},
		{RepeatIs400, "POST", reset, object{"ResetType": "ForceOff"}, 400, "GeneralError"},
		{ListedButRefused, "POST", reset, object{"ResetType": "ForceRestart"}, 400, "ActionParameterValueNotInList"},
		{FutureState, "PATCH", system, boot(nil), 400, "OperationSupportedInFutureStateURI"},
		{NoBootMode, "PATCH", system, boot(object{"BootSourceOverrideMode": "UEFI"}), 400, "PropertyUnknown"},
		{BootModeReadOnly, "PATCH", system, boot(object{"BootSourceOverrideMode": "UEFI"}), 400, "PropertyNotWritable"},
		{BootWantsAll, "PATCH", system, boot(nil), 400, "PropertyMissing"},
		{NoContinuous, "PATCH", system, boot(object{"BootSourceOverrideEnabled": "Continuous"}), 400, "PropertyValueNotInList"},
		{DisabledWithNone, "PATCH", system, boot(object{"BootSourceOverrideTarget": "None"}), 400, "PropertyValueNotInList"},
		{DisabledRefused, "PATCH", system, boot(object{"BootSourceOverrideEnabled": "Disabled"}), 400, "PropertyValueNotInList"},
		{SecureBootFlaky, "PATCH", system + "/SecureBoot", object{"SecureBootEnable": true}, 500, "InternalError"},
		{FirstSlotDead, "POST", insertAt, iso, 405, "OperationNotAllowed"},
		{InsertRefusesFlags, "POST", insertAt, object{"Image": "https://192.0.2.9/live.iso", "Inserted": true}, 400, "ActionParameterUnknown"},
		{InsertWantsProtocol, "POST", insertAt, iso, 400, "ActionParameterMissing"},
		{InsertWantsMethod, "POST", insertAt, iso, 400, "ActionParameterMissing"},
		{InsertWantsUser, "POST", insertAt, iso, 400, "PropertyMissing"},
		{EjectWantsObject, "POST", ejectAt, nil, 415, "UnsupportedMediaType"},
		{EjectEmptyRefused, "POST", ejectAt, object{}, 400, "NoVirtualMediaConnectionAvailable"},
		{MediaDetached, "POST", insertAt, iso, 500, "VRM0021"},
		{MediaJobConflict, "POST", insertAt, iso, 503, "RAC0720"},
		{LicenceDell, "POST", insertAt, iso, 400, "LIC501"},
		{LicenceHPE, "POST", insertAt, iso, 403, "LicenseKeyRequired"},
		{LicenceSupermicro, "POST", insertAt, iso, 403, "OemLicenseNotPassed"},
		{ImageWantsSuffix, "POST", insertAt, object{"Image": "https://192.0.2.9/live"}, 400, "ActionParameterValueFormatError"},
		{ImageWantsTLS, "POST", insertAt, object{"Image": "http://192.0.2.9/live.iso"}, 400, "ActionParameterValueFormatError"},
		{ImageFromFilesOnly, "POST", insertAt, iso, 400, "ActionParameterValueNotInList"},
	} {
		t.Run(string(c.quirk), func(t *testing.T) {
			r := newRig(t, nil)
			ask := func() answer {
				req := request(c.method, c.path, c.body)
				req.SetBasicAuth(testUser, testPass)
				w := httptest.NewRecorder()
				r.bmc.ServeHTTP(w, req)
				return parsed(t, w)
			}
			if err := r.bmc.SetFault(Fault{Kind: Behave, Quirk: c.quirk}); err != nil {
				t.Fatal(err)
			}
			if a := ask(); a.status != c.status || a.id() != c.id {
				t.Errorf("with it: %d %s: %s", a.status, a.id(), a.raw)
			}
			r.bmc.ClearFaults()
			if a := ask(); a.status == c.status && c.quirk != RepeatIs400 {
				t.Errorf("without it too: %d %s", a.status, a.raw)
			}
		})
	}
}

// parsed reads an answer that may be no JSON.
func parsed(t *testing.T, w *httptest.ResponseRecorder) answer {
	t.Helper()
	a := answer{status: w.Code, header: w.Header(), raw: w.Body.String()}
	if strings.HasPrefix(w.Header().Get("Content-Type"), "application/json") {
		a.body = jsonOf(t, w.Body.Bytes())
	}
	return a
}

// TestQuirkFaultIsScripted gives a quirk for the second occasion only.
func TestQuirkFaultIsScripted(t *testing.T) {
	r := newRig(t, nil)
	f, err := ParseFault("quirk name=not-ready-sys518 nth=2 times=1")
	if err != nil || f.String() != "quirk name=not-ready-sys518 nth=2 times=1" {
		t.Fatalf("%+v %q, %v", f, f, err)
	}
	if err := r.bmc.SetFault(f); err != nil {
		t.Fatal(err)
	}
	for i, status := range []int{200, 503, 200} {
		if a := r.ask("GET", system, nil); a.status != status {
			t.Errorf("request %d: %d", i+1, a.status)
		}
	}
	for _, bad := range []string{"quirk", "quirk name=nothing", "quirk name=tls-1.0-only", "busy name=basic-off"} {
		if _, err := ParseFault(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestPasswordChangeEnds(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Personality = Standard().With(PasswordMustChange) })
	r.want(403, "GET", system, nil)
	r.want(200, "PATCH", pathAccount, object{"Password": "another-secret"})
	r.want(401, "GET", system, nil)
	req := request("GET", system, nil)
	req.SetBasicAuth(testUser, "another-secret")
	if a := r.raw(req); a.status != 200 {
		t.Errorf("with the new password: %d %s", a.status, a.raw)
	}
}

func TestPowerShowsLateAndRests(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Delays.Show, c.Delays.Rest = time.Hour, time.Hour })
	r.reset(ResetOn)
	until(t, "power", func() bool { return r.power() == PowerOn })
	if a := r.ask("GET", system, nil); a.path("PowerState") != "Off" {
		t.Errorf("power shows at once: %v", a.path("PowerState"))
	}
	r.reset(ResetForceOff)
	until(t, "no power", func() bool { return r.power() == PowerOff })
	r.want(409, "POST", reset, object{"ResetType": ResetOn})
}

// TestOddCertificates wants what crypto/x509 would not make by itself.
func TestOddCertificates(t *testing.T) {
	for _, q := range []Quirk{NegativeSerial, ExpiredCertificate, RSAKeyExchangeOnly, TLS10Only} {
		b, err := newBMC(t.Context(), Config{Username: "u", Password: "p", Spec: testSpec(), Hardware: &board{}, Media: Lazy, Personality: Standard().With(q)})
		if err != nil {
			t.Fatal(err)
		}
		cert, err := b.oddCertificate()
		if err != nil || cert == nil {
			t.Fatalf("%s: %v, %v", q, cert, err)
		}
		parsed, err := x509.ParseCertificate(cert.Certificate[0])
		switch {
		case q == NegativeSerial:
			if err == nil || !strings.Contains(err.Error(), "negative serial") {
				t.Errorf("%s: parsed as %v, %v", q, parsed, err)
			}
		case err != nil:
			t.Errorf("%s: %v", q, err)
		case q == ExpiredCertificate && parsed.NotAfter.Year() > 1971:
			t.Errorf("it ends %s", parsed.NotAfter)
		}
		b.cert = cert
		if c := b.tlsConfig(); q == TLS10Only && c.MaxVersion != tls.VersionTLS10 {
			t.Errorf("%s: up to %x", q, c.MaxVersion)
		}
		b.cancel()
	}
}

func TestReshape(t *testing.T) {
	r := newRig(t, func(c *Config) {
		c.Reshape = func(path string, body map[string]any) map[string]any {
			switch path {
			case system:
				body["Model"] = "another"
			case system + "/Bios":
				return nil
			case "/redfish/v1/Odd":
				return object{"Id": "Odd"}
			}
			return body
		}
	})
	if a := r.ask("GET", system, nil); a.path("Model") != "another" {
		t.Errorf("model %v", a.path("Model"))
	}
	r.want(http.StatusNotFound, "GET", system+"/Bios", nil)
	if a := r.want(http.StatusOK, "GET", "/redfish/v1/Odd", nil); a.path("Id") != "Odd" {
		t.Errorf("odd %s", a.raw)
	}
	r.want(http.StatusNotFound, "GET", "/redfish/v1/Nothing", nil)
}
