//go:debug x509negativeserial=1

package bmc

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"metalrise.dev/fleet"
)

// oldServer serves h with a TLS of its own.
func oldServer(t *testing.T, h http.Handler, c *tls.Config) Login {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.TLS = c
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return Login{
		Endpoint: fleet.Endpoint{Address: strings.TrimPrefix(srv.URL, "https://"), Username: "admin"}, Password: "secret",
		Options: Options{AcceptNewPin: true, Poll: time.Millisecond, Settle: time.Second},
	}
}

func rsaCertificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	noError(t, err)
	form := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "bmc"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, form, form, &key.PublicKey, key)
	noError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// negativeCertificate has the serial number -5. Go does not make such ones, so
// the number is changed afterwards; nobody checks the signature.
func negativeCertificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	noError(t, err)
	form := &x509.Certificate{SerialNumber: big.NewInt(5), Subject: pkix.Name{CommonName: "bmc"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, form, form, &key.PublicKey, key)
	noError(t, err)
	five, err := asn1.Marshal(big.NewInt(5))
	noError(t, err)
	changed := strings.Replace(string(der), string(five), "\x02\x01\xfb", 1)
	if changed == string(der) {
		t.Fatal("no serial number to change")
	}
	return tls.Certificate{Certificate: [][]byte{[]byte(changed)}, PrivateKey: key}
}

func TestOutdatedTLS(t *testing.T) {
	cert := rsaCertificate(t)
	cases := map[fleet.Code]*tls.Config{
		fleet.CodeBMCTLSCipher:  {Certificates: []tls.Certificate{cert}, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA}},
		fleet.CodeBMCTLSVersion: {Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11},
		fleet.CodeBMCTLSSerial:  {Certificates: []tls.Certificate{negativeCertificate(t)}},
	}
	for code, c := range cases {
		t.Run(string(code), func(t *testing.T) {
			f := newFake()
			l := oldServer(t, f, c)
			_, err := Dial(t.Context(), l)
			wantFault(t, err, code, fleet.Unsupported)
			if f.logins != 0 {
				t.Errorf("%d logins over outdated TLS that nobody allowed", f.logins)
			}
			found, err := Probe(t.Context(), l.Endpoint.Address)
			noError(t, err)
			if found.Outdated != code || found.What != RedfishService || len(found.Fingerprint) != 64 {
				t.Errorf("a sweep finds %+v", found)
			}
			l.Endpoint.LegacyTLS = true
			s := dial(t, l)
			_, err = s.Look(t.Context(), sysPath)
			noError(t, err)
			if s.Fingerprint() != found.Fingerprint {
				t.Errorf("pin %s, found %s", s.Fingerprint(), found.Fingerprint)
			}
			l.Endpoint.Fingerprint = strings.Repeat("0", 64)
			_, err = Dial(t.Context(), l)
			wantFault(t, err, fleet.CodeBMCPinChanged, fleet.Conflict)
		})
	}
}

// Allowing outdated TLS does not use it where the BMC knows better.
func TestLegacyTLSTakesTheBest(t *testing.T) {
	var met outdated
	l := serve(t, newFake())
	l.Options.LegacyTLS, l.Options.met = true, &met
	dial(t, l)
	if met.code != "" {
		t.Errorf("met %+v", met)
	}
}

func TestPlainHTTPOnlyWhenTyped(t *testing.T) {
	f := newFake()
	srv := httptest.NewServer(f)
	defer srv.Close()
	host := strings.TrimPrefix(srv.URL, "http://")
	l := Login{Endpoint: fleet.Endpoint{Address: host, Username: "admin"}, Password: "secret", Options: Options{AcceptNewPin: true}}
	if _, err := Dial(t.Context(), l); err == nil || f.logins != 0 {
		t.Errorf("plain HTTP without being asked: %v, %d logins", err, f.logins)
	}
	l.Endpoint.Address, l.Options.AcceptNewPin = srv.URL, false
	s := dial(t, l)
	_, err := s.Look(t.Context(), sysPath)
	noError(t, err)
	if s.Fingerprint() != "" {
		t.Errorf("fingerprint %q", s.Fingerprint())
	}
}
