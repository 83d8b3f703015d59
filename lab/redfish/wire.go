package redfish

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// tlsConfig is what the BMC takes of TLS. Old suites and versions are there for
// the personalities that know nothing else.
func (b *BMC) tlsConfig() *tls.Config {
	c := &tls.Config{Certificates: []tls.Certificate{*b.cert}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	if b.has(TLS10Only) {
		c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS10
	}
	if b.has(RSAKeyExchangeOnly) {
		c.MaxVersion = tls.VersionTLS12
		c.CipherSuites = []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_256_GCM_SHA384}
	}
	return c
}

// has tells a quirk of the personality, for those that act from the start.
func (b *BMC) has(q Quirk) bool { return slices.Contains(b.cfg.Personality.Quirks, q) }

// oddCertificate makes the certificate of a personality that has a strange one;
// nil when it has none.
func (b *BMC) oddCertificate() (*tls.Certificate, error) {
	from := time.Now().Add(-time.Hour)
	until := from.AddDate(10, 0, 0)
	if b.has(ExpiredCertificate) {
		from = time.Date(1970, 1, 1, 0, 0, 30, 0, time.UTC)
		until = from.AddDate(1, 0, 0)
	} else if !b.has(NegativeSerial) && !b.has(RSAKeyExchangeOnly) && !b.has(TLS10Only) {
		return nil, nil
	}
	var key crypto.Signer
	var err error
	if b.has(RSAKeyExchangeOnly) || b.has(TLS10Only) { // such BMCs know no elliptic curves
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	} else {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		return nil, err
	}
	number := new(big.Int).SetBytes([]byte{0x5a, 0x17, 0x33, 0x71, 0x0b, 0x29, 0x44, 0x3d})
	t := &x509.Certificate{SerialNumber: number, Subject: pkix.Name{CommonName: "bmc-" + b.cfg.Spec.Serial}, NotBefore: from, NotAfter: until,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err == nil && b.has(NegativeSerial) {
		der, err = negate(der, number.Bytes(), key)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// negate sets the sign bit of a certificate's serial number and signs it anew:
// crypto/x509 makes no such certificate.
func negate(der, number []byte, key crypto.Signer) ([]byte, error) {
	var c struct {
		TBS       asn1.RawValue
		Algorithm asn1.RawValue
		Signature asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &c); err != nil {
		return nil, err
	}
	tbs := slices.Clone(c.TBS.FullBytes)
	for i := range tbs {
		if i+len(number) <= len(tbs) && slices.Equal(tbs[i:i+len(number)], number) {
			tbs[i] |= 0x80
			sum := sha256.Sum256(tbs)
			signature, err := key.Sign(rand.Reader, sum[:], crypto.SHA256)
			if err != nil {
				return nil, err
			}
			c.TBS = asn1.RawValue{FullBytes: tbs}
			c.Signature = asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}
			return asn1.Marshal(c)
		}
	}
	return nil, errors.New("serial number not found in the certificate")
}

// dropIdle closes connections that have nothing to do, without a word.
func dropIdle(c net.Conn, state http.ConnState) {
	if state == http.StateIdle {
		_ = c.Close()
	}
}

// decoy is the old port of a BMC that moved to another. It remembers what it was
// sent, so that a test can see whether a secret went there.
type decoy struct {
	server *http.Server
	addr   string

	mu   sync.Mutex
	seen []string // "GET /path" with the names of headers that carry a secret
}

// moveAway listens at the configured address and sends everybody to to.
func (b *BMC) moveAway(ctx context.Context, listen, to string) error {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", listen)
	if err != nil {
		return err
	}
	d := &decoy{addr: ln.Addr().String()}
	d.server = &http.Server{ReadHeaderTimeout: 30 * time.Second, ErrorLog: quiet(), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.note(r)
		w.Header().Set("Location", "https://"+to+r.URL.Path)
		w.WriteHeader(http.StatusMovedPermanently)
	})}
	b.decoy = d
	go b.serve(d.server, tls.NewListener(ln, b.tlsConfig()))
	return nil
}

func (d *decoy) note(r *http.Request) {
	line := r.Method + " " + r.URL.Path
	for _, h := range []string{"Authorization", "X-Auth-Token"} {
		if r.Header.Get(h) != "" {
			line += " " + h
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.seen = append(d.seen, line)
}

// frozen tells whether a request comes while another runs and the BMC cannot
// stand that; it then answers nobody for a moment.
func (b *BMC) frozen() (leave func(), dead bool) {
	const moment = 100 * time.Millisecond
	running := b.running.Add(1)
	leave = func() { b.running.Add(-1) }
	now := time.Now()
	b.mu.Lock()
	thawed := b.thaw
	b.mu.Unlock()
	if running > 1 && b.is(FreezesParallel) {
		b.mu.Lock()
		b.freezes++
		b.thaw = now.Add(moment)
		b.mu.Unlock()
		return leave, true
	}
	return leave, now.Before(thawed)
}

// redirected answers a request whose path the BMC wants in another form.
func (b *BMC) redirected(w http.ResponseWriter, r *http.Request) bool {
	to, status := "", http.StatusMovedPermanently
	p := r.URL.Path
	slash := p[len(p)-1] == '/'
	switch {
	case p == pathRoot && b.is(RootWantsSlash):
		to = p + "/"
	case p == pathRoot+"/" && b.is(RootWantsNoSlash):
		to = pathRoot
	case p == pathSessions && r.Method == http.MethodPost && b.is(LoginRedirectedAsGET):
		to = p + "/"
	case !slash && b.is(PathsWantSlash):
		to, status = p+"/", http.StatusPermanentRedirect
	default:
		return false
	}
	if r.URL.RawQuery != "" {
		to += "?" + r.URL.RawQuery
	}
	w.Header().Set("Location", to)
	w.Header().Set("Content-Type", "text/html")
	w.WriteHeader(status)
	_, _ = w.Write([]byte("<html><body>moved</body></html>"))
	return true
}
