package agent

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"time"
)

// seat is what makes one boot of a machine the same caller, also when the agent
// is restarted: the instance and the key the token is bound to. It is kept in
// memory of the machine only and dies with the boot.
type seat struct {
	instance string
	cert     tls.Certificate
}

const seatName = "seat.json"

type seatFile struct {
	Instance string `json:"instance"`
	Key      []byte `json:"key"` // PKCS #8
}

// takeSeat finds the seat of this boot, or makes one.
func takeSeat(host Host) (*seat, error) {
	kept, err := host.Recall(seatName)
	if err == nil {
		var f seatFile
		if json.Unmarshal(kept, &f) == nil {
			if key, err := x509.ParsePKCS8PrivateKey(f.Key); err == nil {
				if ec, ok := key.(*ecdsa.PrivateKey); ok && len(f.Instance) == 32 {
					return newSeat(f.Instance, ec)
				}
			}
		}
		return nil, errors.New("read the kept client key: not in the form it was written")
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the kept client key: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a client key: %w", err)
	}
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		return nil, fmt.Errorf("make an instance: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("write the client key: %w", err)
	}
	f := seatFile{Instance: hex.EncodeToString(id[:]), Key: der}
	b, err := json.Marshal(f)
	if err != nil {
		return nil, fmt.Errorf("write the client key: %w", err)
	}
	if err := host.Keep(seatName, b); err != nil {
		return nil, fmt.Errorf("keep the client key: %w", err)
	}
	return newSeat(f.Instance, key)
}

func newSeat(instance string, key *ecdsa.PrivateKey) (*seat, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "metalrise agent " + instance},
		// Only the key counts, so the certificate may always be valid.
		NotBefore:   time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:    time.Date(2099, 12, 31, 0, 0, 0, 0, time.UTC),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign the client certificate: %w", err)
	}
	return &seat{instance: instance, cert: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}}, nil
}
