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

	"metalrise.dev/fleet/callhome"
)

// seat is what makes one boot of a machine the same caller, also when the agent
// is restarted: the instance and the key the token is bound to. In the live
// system both are kept in memory of the machine only and die with the boot. The
// installed system keeps its key on the disk: a node that restarts on its way
// into the cluster is still the one that the token is bound to.
type seat struct {
	instance string
	cert     tls.Certificate
}

const (
	seatName     = "seat.json"     // of the live system: both; of the installed system: the key
	instanceName = "instance.json" // of the installed system
)

type seatFile struct {
	Instance string `json:"instance,omitempty"`
	Key      []byte `json:"key,omitempty"` // PKCS #8
}

// takeSeat finds the seat of this boot, or makes one.
func takeSeat(host Host, stage callhome.Stage) (*seat, error) {
	if stage != callhome.Installed {
		f, err := takePart(host.Recall, host.Keep, seatName, seatFile.whole, newInstance, newKey)
		if err != nil {
			return nil, err
		}
		return f.seat()
	}
	f, err := takePart(host.Load, host.Save, seatName, seatFile.hasKey, newKey)
	if err != nil {
		return nil, err
	}
	boot, err := takePart(host.Recall, host.Keep, instanceName, seatFile.hasInstance, newInstance)
	if err != nil {
		return nil, err
	}
	f.Instance = boot.Instance
	return f.seat()
}

func (f seatFile) hasKey() bool      { return len(f.Key) > 0 }
func (f seatFile) hasInstance() bool { return len(f.Instance) == 32 }
func (f seatFile) whole() bool       { return f.hasKey() && f.hasInstance() }

// takePart finds a part that was kept, or makes and keeps it.
func takePart(recall func(string) ([]byte, error), keep func(string, []byte) error, name string, good func(seatFile) bool, parts ...func(*seatFile) error) (seatFile, error) {
	var f seatFile
	b, err := recall(name)
	if err == nil {
		if json.Unmarshal(b, &f) != nil || !good(f) {
			return f, errors.New("read the kept client key: not in the form it was written")
		}
		return f, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return f, fmt.Errorf("read the kept client key: %w", err)
	}
	for _, part := range parts {
		if err := part(&f); err != nil {
			return f, err
		}
	}
	if b, err = json.Marshal(f); err != nil {
		return f, fmt.Errorf("write the client key: %w", err)
	}
	if err := keep(name, b); err != nil {
		return f, fmt.Errorf("keep the client key: %w", err)
	}
	return f, nil
}

func newInstance(f *seatFile) error {
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		return fmt.Errorf("make an instance: %w", err)
	}
	f.Instance = hex.EncodeToString(id[:])
	return nil
}

func newKey(f *seatFile) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make a client key: %w", err)
	}
	if f.Key, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
		return fmt.Errorf("write the client key: %w", err)
	}
	return nil
}

func (f seatFile) seat() (*seat, error) {
	key, err := x509.ParsePKCS8PrivateKey(f.Key)
	ec, ok := key.(*ecdsa.PrivateKey)
	if err != nil || !ok {
		return nil, errors.New("read the kept client key: not in the form it was written")
	}
	return newSeat(f.Instance, ec)
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
