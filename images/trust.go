package images

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// Proof is why a file is believed to be its publisher's.
type Proof string

const (
	// BySignature: the publisher signed the file.
	BySignature Proof = "signature"
	// ByChecksums: the publisher signed a list that has the file's SHA-256.
	ByChecksums Proof = "signed checksums"
	// ByPin: a person named the digest of the file, or of the metadata that has it.
	ByPin Proof = "pinned digest"
	// ByBundle: it came in a bundle whose signer is trusted.
	ByBundle Proof = "signed bundle"
)

// Trust is what a person believes: keys, signed lists, digests. Checksums that
// came with the file from the same place show that it is whole, not whose it is.
type Trust struct {
	Keys *Keyring
	// Pins are SHA-256 or SHA-512 in hexadecimal, of files or of metadata.
	Pins []string
	// Listed has the SHA-256 of signed lists, with the fingerprint that signed.
	Listed map[string]string
}

// UntrustedError: nothing says that a file is its publisher's.
type UntrustedError struct {
	What     string // the file's URL or path
	SHA256   string // as promised; may be empty
	Metadata string // SHA-256 of the metadata
	Signed   bool   // the publisher has a signature for it
}

func (e *UntrustedError) Error() string {
	how := "its publisher gives no signature for it"
	remedy := "compare the digest with what the publisher says elsewhere"
	if e.Signed {
		how, remedy = "it is signed, and no keys were given", "give the publisher's keys by --keyring"
	}
	s := fmt.Sprintf("%s cannot be trusted: %s; %s", e.What, how, remedy)
	if e.SHA256 != "" {
		s += ", or pin the file by --pin " + e.SHA256
	}
	if e.Metadata != "" {
		s += ", or all files of the metadata by --pin " + e.Metadata
	}
	return s
}

// judge decides, before anything is fetched, what will have to be true of a
// file. A signature that can be checked is always checked.
func (t Trust) judge(what, sha256, sha512, metadata string, signed bool) (Proof, error) {
	switch {
	case signed && !t.Keys.Empty():
		return BySignature, nil
	case t.Listed[sha256] != "":
		return ByChecksums, nil
	case slices.ContainsFunc([]string{sha256, sha512, metadata}, func(d string) bool { return d != "" && slices.Contains(t.Pins, d) }):
		return ByPin, nil
	}
	return "", &UntrustedError{What: what, SHA256: sha256, Metadata: metadata, Signed: signed}
}

// CheckPin tells whether s can be a pin.
func CheckPin(s string) error {
	if !isSHA256(s) && !isSHA512(s) {
		return fmt.Errorf("pin %.140q: want 64 (SHA-256) or 128 (SHA-512) lower-case hexadecimal digits", s)
	}
	return nil
}

// maxChecksums bounds a list of checksums and maxChecksumLines its lines.
const (
	maxChecksums     = 1 << 20
	maxChecksumLines = 10_000
)

// ParseChecksums reads a list as sha256sum writes it and gives the digests. Lines that
// are something else are faults: a signed list has none.
func ParseChecksums(text []byte) ([]string, error) {
	bad := func(value, why string) error {
		return &InvalidError{Faults: []Fault{{Path: "checksums", Value: value, Why: why, Remedy: "take the publisher's sha256sum.txt"}}}
	}
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	if len(text) > maxChecksums || len(lines) > maxChecksumLines {
		return nil, bad("", fmt.Sprintf("has more than %d bytes or %d lines", maxChecksums, maxChecksumLines))
	}
	var out []string
	for _, line := range lines {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		if len(f) != 2 || !isSHA256(f[0]) {
			return nil, bad(line, "is no line of a SHA-256 and a file name")
		}
		out = append(out, f[0])
	}
	if len(out) == 0 {
		return nil, bad("", "has no checksum")
	}
	return out, nil
}

// AddChecksums verifies the detached signature of a list and believes what it
// has.
func (t *Trust) AddChecksums(what string, list, signature []byte) error {
	if t.Keys.Empty() {
		return &UntrustedError{What: what, Signed: true}
	}
	digests, err := ParseChecksums(list)
	if err != nil {
		return err
	}
	by, err := t.Keys.verify(what, list, signature)
	if err != nil {
		return err
	}
	if t.Listed == nil {
		t.Listed = map[string]string{}
	}
	for _, d := range digests {
		t.Listed[d] = by
	}
	return nil
}

func (k *Keyring) verify(what string, content, signature []byte) (string, error) {
	s := k.check(what, signature)
	if _, err := bytes.NewReader(content).WriteTo(s); err != nil {
		s.abort()
		return "", err
	}
	return s.close()
}
