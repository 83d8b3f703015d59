package images

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

const (
	// maxKeyring: the keys of all Fedora releases together have some 200 KiB.
	maxKeyring = 16 << 20
	// maxSignature: a detached signature has some 600 bytes.
	maxSignature = 64 << 10
)

// Keyring holds OpenPGP keys of publishers that a person trusts.
type Keyring struct {
	keys openpgp.EntityList
	now  func() time.Time
}

// ReadKeyring reads files of public keys, armoured or binary, as gpg --export
// writes them. A file without a key is an error.
func ReadKeyring(paths ...string) (*Keyring, error) {
	k := &Keyring{now: time.Now}
	for _, p := range paths {
		f, err := os.Open(p)
		if err != nil {
			return nil, fmt.Errorf("read keys: %w", err)
		}
		b, err := io.ReadAll(io.LimitReader(f, maxKeyring+1))
		f.Close()
		if err == nil && len(b) > maxKeyring {
			err = fmt.Errorf("more than %d bytes", maxKeyring)
		}
		if err == nil {
			err = k.add(b)
		}
		if err != nil {
			return nil, fmt.Errorf("read keys %s: %w", p, err)
		}
	}
	return k, nil
}

func (k *Keyring) add(b []byte) error {
	read := openpgp.ReadKeyRing
	if bytes.Contains(b[:min(len(b), 4096)], []byte("-----BEGIN PGP")) {
		read = openpgp.ReadArmoredKeyRing
	}
	keys, err := read(bytes.NewReader(b))
	if err != nil {
		return fmt.Errorf("no OpenPGP keys: %w", err)
	}
	if len(keys) == 0 {
		return errors.New("no OpenPGP keys")
	}
	k.keys = append(k.keys, keys...)
	return nil
}

// Empty tells that no key is there.
func (k *Keyring) Empty() bool { return k == nil || len(k.keys) == 0 }

// Fingerprints lists the keys, in hexadecimal.
func (k *Keyring) Fingerprints() []string {
	if k == nil {
		return nil
	}
	out := []string{}
	for _, e := range k.keys {
		out = append(out, hex.EncodeToString(e.PrimaryKey.Fingerprint))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// SignatureError says that a signature is not good, or not by a trusted key.
type SignatureError struct {
	What string // file or URL that was signed
	Why  string
}

func (e *SignatureError) Error() string {
	return fmt.Sprintf("the signature of %s %s: it is not used; check the keys given by --keyring, then fetch again", e.What, e.Why)
}

// signed checks a detached signature while the content goes by: write the
// content, then call close once.
type signed struct {
	what string
	w    *io.PipeWriter
	done chan struct{}
	by   string
	err  error
}

// check begins. The reading of the content happens in a goroutine that ends with
// close or abort.
func (k *Keyring) check(what string, signature []byte) *signed {
	r, w := io.Pipe()
	s := &signed{what: what, w: w, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		config := &packet.Config{Time: k.now}
		var e *openpgp.Entity
		var err error
		if text := bytes.TrimSpace(signature); bytes.HasPrefix(text, []byte("-----BEGIN PGP")) {
			e, err = openpgp.CheckArmoredDetachedSignature(k.keys, r, bytes.NewReader(signature), config)
		} else {
			e, err = openpgp.CheckDetachedSignature(k.keys, r, bytes.NewReader(signature), config)
		}
		// The writer must not wait for a reader that gave up.
		_, _ = io.Copy(io.Discard, r)
		if s.err = err; err == nil {
			s.by = hex.EncodeToString(e.PrimaryKey.Fingerprint)
		}
	}()
	return s
}

func (s *signed) Write(b []byte) (int, error) { return s.w.Write(b) }

// close gives the fingerprint of the key that signed.
func (s *signed) close() (string, error) {
	_ = s.w.Close()
	<-s.done
	if s.err != nil {
		return "", &SignatureError{What: s.what, Why: "is not good (" + strings.TrimPrefix(s.err.Error(), "openpgp: ") + ")"}
	}
	return s.by, nil
}

func (s *signed) abort() {
	_ = s.w.CloseWithError(errors.New("stopped"))
	<-s.done
}
