package kube

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"time"

	"metalrise.dev/fleet"
)

const (
	// authorityVersion is the form that Marshal writes.
	authorityVersion = "metalrise.dev/authority/v1"

	// maxAuthority bounds what ParseAuthority reads, in bytes: seven keys and
	// certificates are some 6 KiB.
	maxAuthority = 64 << 10

	// backdate is how long before its making a certificate is valid already. The
	// agent sets a machine's clock, but not before it was heard, and not if the
	// clock is set back later. A clock that holds local time instead of UTC is at
	// most 14 hours off; a day covers that. What kubeadm makes on a node follows
	// the node's clock, less five minutes: that one must be set before.
	backdate = 24 * time.Hour

	// authorityLife is kubeadm's own for authorities: 10 years.
	authorityLife = 10 * 365 * 24 * time.Hour
)

// Authority is what a cluster trusts: three certificate authorities and the key
// that signs service-account tokens. It is made once, before the cluster
// begins, and whoever has it is master of the cluster. It is never changed and
// safe for use by several goroutines.
type Authority struct {
	cluster, frontProxy, etcd pair
	accounts                  *ecdsa.PrivateKey
}

// pair is an authority's certificate and its key.
type pair struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewAuthority makes the authority of the plan's cluster. All randomness comes
// from rnd: give crypto/rand.Reader. All keys are ECDSA P-256: kubeadm, the API
// server and etcd take them, and they cost a small machine far less than RSA.
func NewAuthority(now time.Time, rnd io.Reader, p fleet.Plan) (*Authority, error) {
	if p.Cluster == nil {
		return nil, fleet.NewFault(fleet.CodePlanStale, fleet.Invalid, nil, "make the authority: plan %.12s has no cluster", p.ID)
	}
	if now.IsZero() {
		return nil, errors.New("make the authority: the time is not given")
	}
	var a Authority
	for _, c := range []struct {
		name string
		into *pair
	}{{"kubernetes", &a.cluster}, {"front-proxy", &a.frontProxy}, {"etcd", &a.etcd}} {
		made, err := newPair(now, rnd, p.Site+" "+c.name)
		if err != nil {
			return nil, fmt.Errorf("make the authority %s of %s: %w", c.name, p.Site, err)
		}
		*c.into = made
	}
	var err error
	if a.accounts, err = newKey(rnd); err != nil {
		return nil, fmt.Errorf("make the service-account key of %s: %w", p.Site, err)
	}
	return &a, nil
}

func newPair(now time.Time, rnd io.Reader, name string) (pair, error) {
	key, err := newKey(rnd)
	if err != nil {
		return pair{}, err
	}
	serial, err := newSerial(rnd)
	if err != nil {
		return pair{}, err
	}
	t := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-backdate).UTC(), NotAfter: now.Add(authorityLife).UTC(),
		IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	cert, err := sign(t, key, t, key)
	return pair{cert: cert, key: key}, err
}

// sign makes a certificate. Its signature is the deterministic one of RFC 6979,
// so that equal randomness gives equal bytes.
func sign(t *x509.Certificate, key *ecdsa.PrivateKey, parent *x509.Certificate, by *ecdsa.PrivateKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(nil, t, parent, key.Public(), by)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// newKey draws a private key from rnd by rejection (FIPS 186-5, A.2.2). The
// standard library's own generator takes no source of randomness any more.
func newKey(rnd io.Reader) (*ecdsa.PrivateKey, error) {
	// A draw is out of range once in 2^32; a source that fails this often is broken.
	var raw [32]byte
	for range 8 {
		if _, err := io.ReadFull(rnd, raw[:]); err != nil {
			return nil, fmt.Errorf("read randomness: %w", err)
		}
		if key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), raw[:]); err == nil {
			return key, nil
		}
	}
	return nil, errors.New("read randomness: the source gives no usable key")
}

// newSerial draws a positive serial number of 120 bits: RFC 5280, 4.1.2.2, wants
// at most 20 bytes, and nobody to guess it.
func newSerial(rnd io.Reader) (*big.Int, error) {
	var raw [15]byte
	if _, err := io.ReadFull(rnd, raw[:]); err != nil {
		return nil, fmt.Errorf("read randomness: %w", err)
	}
	raw[0] |= 0x40 // never zero
	return new(big.Int).SetBytes(raw[:]), nil
}

// stored is the form of Marshal: certificates and keys as PEM.
type stored struct {
	APIVersion string     `json:"apiVersion"`
	Cluster    storedPair `json:"kubernetes"`
	FrontProxy storedPair `json:"frontProxy"`
	Etcd       storedPair `json:"etcd"`
	Accounts   string     `json:"serviceAccounts"`
}

type storedPair struct {
	Certificate string `json:"certificate"`
	Key         string `json:"key"`
}

// Marshal gives all of it, as JSON. It is a secret: keep it in a file of mode 0600.
func (a *Authority) Marshal() ([]byte, error) {
	s := stored{APIVersion: authorityVersion}
	for _, v := range []struct {
		from pair
		into *storedPair
	}{{a.cluster, &s.Cluster}, {a.frontProxy, &s.FrontProxy}, {a.etcd, &s.Etcd}} {
		key, err := keyPEM(v.from.key)
		if err != nil {
			return nil, err
		}
		*v.into = storedPair{Certificate: string(certPEM(v.from.cert)), Key: string(key)}
	}
	key, err := keyPEM(a.accounts)
	if err != nil {
		return nil, err
	}
	s.Accounts = string(key)
	return json.MarshalIndent(s, "", "  ")
}

// ParseAuthority reads what Marshal gave. It refuses authorities that are none,
// and keys that do not belong to their certificates. Errors never hold any of
// the bytes.
func ParseAuthority(data []byte) (*Authority, error) {
	if len(data) > maxAuthority {
		return nil, fmt.Errorf("read the cluster's authority: %d bytes, at most %d are possible", len(data), maxAuthority)
	}
	var s stored
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if d.Decode(&s) != nil || d.More() {
		return nil, errors.New("read the cluster's authority: it is not in the form that was written")
	}
	if s.APIVersion != authorityVersion {
		return nil, fmt.Errorf("read the cluster's authority: its version is not %s", authorityVersion)
	}
	var a Authority
	for _, v := range []struct {
		name string
		from storedPair
		into *pair
	}{{"kubernetes", s.Cluster, &a.cluster}, {"frontProxy", s.FrontProxy, &a.frontProxy}, {"etcd", s.Etcd, &a.etcd}} {
		p, err := parsePair(v.from)
		if err != nil {
			return nil, fmt.Errorf("read the cluster's authority: %s: %w", v.name, err)
		}
		*v.into = p
	}
	var err error
	if a.accounts, err = parseKey(s.Accounts); err != nil {
		return nil, fmt.Errorf("read the cluster's authority: serviceAccounts: %w", err)
	}
	return &a, nil
}

func parsePair(s storedPair) (pair, error) {
	block, rest := pem.Decode([]byte(s.Certificate))
	if block == nil || block.Type != pemCert || len(bytes.TrimSpace(rest)) != 0 {
		return pair{}, errors.New("the certificate is not one block of PEM")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return pair{}, errors.New("the certificate cannot be read")
	}
	if !cert.IsCA || !cert.BasicConstraintsValid {
		return pair{}, errors.New("the certificate is none of an authority")
	}
	key, err := parseKey(s.Key)
	if err != nil {
		return pair{}, err
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return pair{}, errors.New("the key does not belong to the certificate")
	}
	return pair{cert: cert, key: key}, nil
}

func parseKey(text string) (*ecdsa.PrivateKey, error) {
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != pemKey || len(bytes.TrimSpace(rest)) != 0 {
		return nil, errors.New("the key is not one block of PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("the key is no PKCS #8 key")
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok || ec.Curve != elliptic.P256() {
		return nil, errors.New("the key is none of ECDSA P-256")
	}
	return ec, nil
}

const (
	pemCert   = "CERTIFICATE"
	pemKey    = "PRIVATE KEY"
	pemPublic = "PUBLIC KEY"
)

func certPEM(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: pemCert, Bytes: c.Raw})
}

func keyPEM(k *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, fmt.Errorf("write a key of the cluster's authority: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: der}), nil
}

// PinHash is how a joining node knows the cluster's authority: the SHA-256 of
// its public key (RFC 7469, 2.4), as "sha256:" and hexadecimal digits.
func (a *Authority) PinHash() string {
	sum := sha256.Sum256(a.cluster.cert.RawSubjectPublicKeyInfo)
	return "sha256:" + hex.EncodeToString(sum[:])
}
