package redfish

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

const tlsFile = "tls.pem" // certificate and key, in Config.Dir

// secure gives the BMC its certificate: the given one, the kept one, or a new one.
func (b *BMC) secure() error {
	if b.cfg.Certificate != nil {
		b.cert = b.cfg.Certificate
		return nil
	}
	odd, err := b.oddCertificate()
	if err != nil {
		return fmt.Errorf("bmc of %s: make its certificate: %w", b.cfg.Spec.Name, err)
	}
	if odd != nil {
		b.cert = odd
		return nil
	}
	path := ""
	if b.cfg.Dir != "" {
		path = filepath.Join(b.cfg.Dir, tlsFile)
		kept, err := os.ReadFile(path)
		if err == nil {
			cert, err := tls.X509KeyPair(kept, kept)
			if err != nil {
				return fmt.Errorf("bmc of %s: read its certificate %s: %w; delete the file to get a new one", b.cfg.Spec.Name, path, err)
			}
			b.cert = &cert
			return nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("bmc of %s: %w", b.cfg.Spec.Name, err)
		}
	}
	text, err := newCertificate(b.addr, b.cfg.Spec.Serial)
	if err != nil {
		return fmt.Errorf("bmc of %s: make its certificate: %w", b.cfg.Spec.Name, err)
	}
	if path != "" {
		if err := replaceFile(path, text); err != nil {
			return fmt.Errorf("bmc of %s: keep its certificate: %w", b.cfg.Spec.Name, err)
		}
	}
	cert, err := tls.X509KeyPair(text, text)
	if err != nil {
		return fmt.Errorf("bmc of %s: load its certificate: %w", b.cfg.Spec.Name, err)
	}
	b.cert = &cert
	return nil
}

// newCertificate makes a self-signed certificate and its key, both as PEM, as a
// BMC does at the factory: ten years long, for its address.
func newCertificate(addr, serial string) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	number, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 126))
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: number.Add(number, big.NewInt(1)), // positive, as RFC 5280 4.1.2.2 demands
		Subject:      pkix.Name{CommonName: "bmc-" + serial, Organization: []string{"metalrise lab"}},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().AddDate(10, 0, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if host, _, err := net.SplitHostPort(addr); err == nil {
		if ip := net.ParseIP(host); ip != nil {
			t.IPAddresses = []net.IP{ip}
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return append(text, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})...), nil
}
