package bmc

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"strings"
	"time"

	"metalrise.dev/fleet"
)

// handshake is how one client speaks TLS.
type handshake struct {
	host   string // for SNI; an IP address is not sent
	legacy bool   // takes what is outdated too; a person allowed it for this BMC
	wait   time.Duration
	pin    *pin
	cache  tls.ClientSessionCache
	dial   func(ctx context.Context, network, addr string) (net.Conn, error)
	met    *outdated // filled with what was met; may be nil
}

// outdated says what about a TLS connection is not good practice any more.
type outdated struct {
	code fleet.Code // "" when nothing is
	text string
}

// config is that of one connection. BMC certificates are self-signed and often
// expired, so nobody's signature is asked for: the pin decides.
func (h *handshake) config() *tls.Config {
	c := &tls.Config{
		ServerName:         h.host,
		InsecureSkipVerify: true,
		MinVersion:         tls.VersionTLS12,
		// A full handshake takes a BMC's small processor a second or two;
		// VerifyConnection sees resumed connections too.
		ClientSessionCache: h.cache,
		VerifyConnection:   h.verify,
	}
	if h.legacy {
		c.MinVersion, c.CipherSuites = tls.VersionTLS10, legacySuites()
	}
	return c
}

// legacySuites are all that Go knows but RC4, the good ones first.
func legacySuites() []uint16 {
	var out []uint16
	for _, s := range tls.CipherSuites() {
		out = append(out, s.ID)
	}
	for _, s := range tls.InsecureCipherSuites() {
		if !strings.Contains(s.Name, "RC4") {
			out = append(out, s.ID)
		}
	}
	return out
}

func (h *handshake) verify(s tls.ConnectionState) error {
	if len(s.PeerCertificates) == 0 {
		return errors.New("no certificate")
	}
	bad := judge(s)
	if h.met != nil {
		*h.met = bad
	}
	if bad.code != "" && !h.legacy {
		return bad.fault(nil)
	}
	return h.pin.check(s.PeerCertificates[0].Raw)
}

// judge tells what is outdated about a connection. RSA key exchange is all
// suites of TLS 1.2 and below whose name begins with TLS_RSA.
func judge(s tls.ConnectionState) outdated {
	suite := tls.CipherSuiteName(s.CipherSuite)
	switch {
	case s.Version < tls.VersionTLS12:
		return outdated{fleet.CodeBMCTLSVersion, "speaks " + tls.VersionName(s.Version) + " at most"}
	case strings.HasPrefix(suite, "TLS_RSA_") || strings.Contains(suite, "3DES"):
		return outdated{fleet.CodeBMCTLSCipher, "speaks " + tls.VersionName(s.Version) + " with " + suite + " at best"}
	case len(s.PeerCertificates) > 0 && s.PeerCertificates[0].SerialNumber.Sign() < 0:
		return outdated{fleet.CodeBMCTLSSerial, "shows a certificate with the serial number " + s.PeerCertificates[0].SerialNumber.String()}
	}
	return outdated{}
}

func (o outdated) fault(err error) error {
	return fleet.NewFault(o.code, fleet.Unsupported, err, "the BMC %s", o.text)
}

// connect opens a TLS connection. When the two sides do not agree it looks what
// the BMC would have agreed to, and says that; nothing is sent over such a
// connection.
func (h *handshake) connect(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := h.try(ctx, network, addr)
	if err == nil || h.legacy || isSlow(err) {
		return c, negative(err)
	}
	var said *fleet.Fault
	var plain tls.RecordHeaderError
	if errors.As(err, &plain) && string(plain.RecordHeader[:]) == "HTTP/" {
		return nil, fleet.NewFault(fleet.CodeBMCUnreachable, fleet.Unsupported, err,
			"%s speaks HTTP without TLS; nothing was sent there. Should its password travel in the open, give the address as %s%s", addr, plainPrefix, addr)
	}
	if errors.As(err, &said) || errors.As(err, &plain) || !isHandshake(err) {
		return nil, err
	}
	var met outdated
	look := *h
	look.legacy, look.met, look.cache, look.pin = true, &met, nil, &pin{accept: true}
	if c, again := look.try(ctx, network, addr); again == nil {
		_ = c.Close()
		if met.code != "" {
			return nil, met.fault(err)
		}
	}
	return nil, negative(err)
}

// handshakeError is what went wrong after TCP was there.
type handshakeError struct{ err error }

func (e *handshakeError) Error() string { return "tls: " + strings.TrimPrefix(e.err.Error(), "tls: ") }
func (e *handshakeError) Unwrap() error { return e.err }

func isHandshake(err error) bool {
	var h *handshakeError
	return errors.As(err, &h)
}

func (h *handshake) try(ctx context.Context, network, addr string) (net.Conn, error) {
	raw, err := h.dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, h.wait)
	defer cancel()
	c := tls.Client(raw, h.config())
	if err := c.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, &handshakeError{err}
	}
	return c, nil
}

func isSlow(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) || errors.Is(err, os.ErrDeadlineExceeded)
}

// negative recognises a certificate that Go does not read because of its serial
// number. There is no type for that error. The program itself reads such
// certificates (docs/decisions/0011-legacy-tls-per-host.md); others that use
// this package may not.
func negative(err error) error {
	if err == nil || !strings.Contains(err.Error(), "negative serial number") {
		return err
	}
	var said *fleet.Fault
	if errors.As(err, &said) {
		return err
	}
	return outdated{fleet.CodeBMCTLSSerial, "shows a certificate with a negative serial number"}.fault(err)
}
