package boot

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"time"
)

// Authority is the certificate authority of one site. Machines of the site
// trust it and nothing else. It is safe for use by several goroutines.
type Authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewAuthority makes a site's authority with a fresh ECDSA P-256 key. The caller
// keeps it with Marshal.
func NewAuthority(site string) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the key of the site authority: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "metalrise site " + site},
		NotBefore:             validFrom(),
		NotAfter:              validUntil(),
		IsCA:                  true,
		MaxPathLenZero:        true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign the site authority: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read back the site authority: %w", err)
	}
	return &Authority{cert: cert, key: key}, nil
}

const (
	pemCert = "CERTIFICATE"
	pemKey  = "PRIVATE KEY"
)

// Marshal gives certificate and private key as PEM. It is a secret: keep it in
// a file of mode 0600.
func (a *Authority) Marshal() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		return nil, fmt.Errorf("write the key of the site authority: %w", err)
	}
	return append(a.PEM(), pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: der})...), nil
}

// ParseAuthority reads what Marshal gave. Errors never hold any of the bytes.
func ParseAuthority(stored []byte) (*Authority, error) {
	var a Authority
	for rest := stored; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		switch block.Type {
		case pemCert:
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("read the certificate of the site authority: %w", err)
			}
			a.cert = cert
		case pemKey:
			key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			if err != nil {
				return nil, errors.New("read the key of the site authority: not a PKCS #8 key")
			}
			var ok bool
			if a.key, ok = key.(*ecdsa.PrivateKey); !ok {
				return nil, fmt.Errorf("read the key of the site authority: a %T, want ECDSA", key)
			}
		}
	}
	if a.cert == nil || a.key == nil {
		return nil, errors.New("read the site authority: certificate or key is missing from its file")
	}
	if !a.key.PublicKey.Equal(a.cert.PublicKey) {
		return nil, errors.New("read the site authority: its key does not belong to its certificate")
	}
	return &a, nil
}

// PEM is the certificate alone, as a ticket carries it.
func (a *Authority) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: pemCert, Bytes: a.cert.Raw})
}

// Equal tells whether both are the same authority.
func (a *Authority) Equal(b *Authority) bool { return bytes.Equal(a.cert.Raw, b.cert.Raw) }

// issue makes a server certificate for the given addresses and names.
func (a *Authority) issue(addrs []netip.Addr, names []string) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a server key: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "metalrise"},
		NotBefore:    validFrom(),
		NotAfter:     validUntil(),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:     names,
	}
	for _, addr := range addrs {
		template.IPAddresses = append(template.IPAddresses, addr.WithZone("").AsSlice())
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, fmt.Errorf("sign a server certificate: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{der, a.cert.Raw}, PrivateKey: key}, nil
}

// validFrom is the first second a machine without a working clock may believe in.
func validFrom() time.Time { return time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC) }

func validUntil() time.Time { return time.Date(2099, 12, 31, 23, 59, 59, 0, time.UTC) }

func newSerial() (*big.Int, error) {
	// 127 bits: positive and at most 20 octets (RFC 5280, section 4.1.2.2).
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("make a certificate serial: %w", err)
	}
	return n.Add(n, big.NewInt(1)), nil
}
