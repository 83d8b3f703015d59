package images

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// Bundles and reports are signed in the format of OpenSSH (PROTOCOL.sshsig): one Ed25519 key, a
// namespace, SHA-512 of the message. So `ssh-keygen -Y verify` can check a bundle where
// metalrise is not yet trusted.
const (
	bundleNamespace = "metalrise-bundle"
	reportNamespace = "metalrise-report"
	sshMagic        = "SSHSIG"
	sshKeyType      = "ssh-ed25519"
	sshHash         = "sha512"
	sshBegin        = "-----BEGIN SSH SIGNATURE-----"
	sshEnd          = "-----END SSH SIGNATURE-----"
	// maxSSHSignature: an Ed25519 signature has some 300 characters.
	maxSSHSignature = 4096
)

// BundleKey signs bundles and reports of a site.
type BundleKey struct{ private ed25519.PrivateKey }

// NewBundleKey makes the key of a seed of 32 bytes, which is the secret.
func NewBundleKey(seed []byte) (BundleKey, error) {
	if len(seed) != ed25519.SeedSize {
		return BundleKey{}, fmt.Errorf("the key of bundles has %d bytes, not %d", len(seed), ed25519.SeedSize)
	}
	return BundleKey{ed25519.NewKeyFromSeed(seed)}, nil
}

// Signer is the public half.
func (k BundleKey) Signer() Signer {
	return Signer{k.private.Public().(ed25519.PublicKey)}
}

// Signer is a public key that may sign bundles.
type Signer struct{ key ed25519.PublicKey }

// ParseSigner reads a line as in a .pub file: "ssh-ed25519 AAAA… comment".
func ParseSigner(line string) (Signer, error) {
	f := strings.Fields(line)
	if len(line) > 4096 || len(f) < 2 || f[0] != sshKeyType {
		return Signer{}, fmt.Errorf("%.80q is no public key: want a line that begins with %s", line, sshKeyType)
	}
	b, err := base64.StdEncoding.DecodeString(f[1])
	if err != nil {
		return Signer{}, fmt.Errorf("public key: %w", err)
	}
	return signerOf(b)
}

func signerOf(blob []byte) (Signer, error) {
	kind, rest, ok := sshString(blob)
	key, rest, ok2 := sshString(rest)
	if !ok || !ok2 || string(kind) != sshKeyType || len(key) != ed25519.PublicKeySize || len(rest) != 0 {
		return Signer{}, errors.New("public key: want an Ed25519 key")
	}
	return Signer{ed25519.PublicKey(key)}, nil
}

func (s Signer) blob() []byte { return appendSSH(appendSSH(nil, []byte(sshKeyType)), s.key) }

// String is the line of a .pub file.
func (s Signer) String() string {
	return sshKeyType + " " + base64.StdEncoding.EncodeToString(s.blob())
}

// Fingerprint is as ssh-keygen -l shows it.
func (s Signer) Fingerprint() string {
	sum := sha256.Sum256(s.blob())
	return "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:])
}

func appendSSH(to, b []byte) []byte {
	return append(binary.BigEndian.AppendUint32(to, uint32(len(b))), b...)
}

func sshString(b []byte) (s, rest []byte, ok bool) {
	if len(b) < 4 {
		return nil, nil, false
	}
	n := binary.BigEndian.Uint32(b)
	if uint64(n) > uint64(len(b)-4) {
		return nil, nil, false
	}
	return b[4 : 4+n], b[4+n:], true
}

// signedText is what the key signs.
func signedText(namespace string, message []byte) []byte {
	sum := sha512.Sum512(message)
	b := []byte(sshMagic)
	for _, s := range [][]byte{[]byte(namespace), nil, []byte(sshHash), sum[:]} {
		b = appendSSH(b, s)
	}
	return b
}

// SignReport signs what a site was built as. A bundle's signature is good for
// bundles only and this one for reports only: the namespaces differ.
func (k BundleKey) SignReport(report []byte) []byte { return k.signAs(reportNamespace, report) }

// CheckReport verifies a report's signature and tells whose it is. Whether that
// one is trusted is for the caller.
func CheckReport(report, armoured []byte) (Signer, error) {
	return checkAs(reportNamespace, report, armoured)
}

// sign gives the armoured signature of a bundle.
func (k BundleKey) sign(message []byte) []byte { return k.signAs(bundleNamespace, message) }

// signAs gives the armoured signature. Ed25519 signatures are the same each time.
func (k BundleKey) signAs(namespace string, message []byte) []byte {
	b := binary.BigEndian.AppendUint32([]byte(sshMagic), 1)
	signature := appendSSH(appendSSH(nil, []byte(sshKeyType)), ed25519.Sign(k.private, signedText(namespace, message)))
	for _, s := range [][]byte{k.Signer().blob(), []byte(namespace), nil, []byte(sshHash), signature} {
		b = appendSSH(b, s)
	}
	text := base64.StdEncoding.EncodeToString(b)
	var out bytes.Buffer
	out.WriteString(sshBegin + "\n")
	for len(text) > 0 {
		n := min(70, len(text))
		out.WriteString(text[:n] + "\n")
		text = text[n:]
	}
	out.WriteString(sshEnd + "\n")
	return out.Bytes()
}

var errSignature = errors.New("the signature is not good: what it signs was damaged or changed; take it again from where it was made")

// checkSSH verifies a bundle's signature and tells whose it is. Whether that one
// is trusted is for the caller.
func checkSSH(message, armoured []byte) (Signer, error) {
	return checkAs(bundleNamespace, message, armoured)
}

func checkAs(namespace string, message, armoured []byte) (Signer, error) {
	text := strings.TrimSpace(string(armoured))
	inner, ok := strings.CutPrefix(text, sshBegin)
	inner, ok2 := strings.CutSuffix(inner, sshEnd)
	if len(armoured) > maxSSHSignature || !ok || !ok2 {
		return Signer{}, fmt.Errorf("%w (no SSH signature)", errSignature)
	}
	b, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(inner), ""))
	if err != nil {
		return Signer{}, fmt.Errorf("%w (%w)", errSignature, err)
	}
	head := binary.BigEndian.AppendUint32([]byte(sshMagic), 1)
	b, ok = bytes.CutPrefix(b, head)
	var fields [5][]byte
	for i := range fields {
		if ok {
			fields[i], b, ok = sshString(b)
		}
	}
	if !ok || len(b) != 0 || string(fields[1]) != namespace || len(fields[2]) != 0 || string(fields[3]) != sshHash {
		return Signer{}, fmt.Errorf("%w (it is for something else)", errSignature)
	}
	s, err := signerOf(fields[0])
	if err != nil {
		return Signer{}, fmt.Errorf("%w (%w)", errSignature, err)
	}
	kind, rest, ok := sshString(fields[4])
	raw, rest, ok2 := sshString(rest)
	if !ok || !ok2 || len(rest) != 0 || string(kind) != sshKeyType || !ed25519.Verify(s.key, signedText(namespace, message), raw) {
		return Signer{}, errSignature
	}
	return s, nil
}
