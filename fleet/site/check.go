package site

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"unicode"

	"metalrise.dev/fleet"
)

// Each check judges one typed value and says what is wrong with it. Errors may
// show the value except where it could be a secret.

func checkName(s string) error {
	if !fleet.ValidLabel(s) || s != strings.ToLower(s) {
		return fmt.Errorf("%q is not made of 1 to 63 lower-case letters, digits and inner hyphens", s)
	}
	if len(s) > 40 {
		return fmt.Errorf("%q has %d characters; 40 leave room for host names", s, len(s))
	}
	return nil
}

func checkRange(s string) error {
	_, err := fleet.ParseAddressRange(s)
	return err
}

func checkUsername(s string) error {
	if strings.ContainsAny(s, ":\r\n\x00") { // RFC 7617, section 2: no colon in a basic-auth user name
		return errors.New("a login name has no colon or line break")
	}
	return nil
}

func checkFilePath(s string) error {
	if strings.ContainsAny(s, "\x00\r\n") {
		return errors.New("a path has no line break")
	}
	return nil
}

func checkEnvName(s string) error {
	if !regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`).MatchString(s) {
		// The value is not shown: it may be the secret itself.
		return errors.New("this is not the name of an environment variable")
	}
	return nil
}

// checkVaultName wants NAME or FILE#NAME. The value is not shown: it may be the
// secret itself.
func checkVaultName(s string) error {
	file, name, ok := strings.Cut(s, "#")
	if !ok {
		file, name = "vault.age", s
	}
	if !vaultEntry(name) || file == "" || strings.ContainsAny(file, "\x00\r\n") {
		return errors.New("this is not the name of a vault entry: NAME or FILE#NAME, where NAME has 1 to 64 letters, digits, dots, hyphens and underscores")
	}
	return nil
}

func checkPrompt(s string) error {
	if len(s) > 100 || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return errors.New("this is no question of at most 100 printable characters")
	}
	return nil
}

func checkFingerprint(s string) error {
	if b, err := hex.DecodeString(strings.ReplaceAll(s, ":", "")); err != nil || len(b) != 32 {
		return fmt.Errorf("%q is not 64 hexadecimal digits", s)
	}
	return nil
}

func checkDomain(s string) error {
	if !fleet.ValidHostname(s) {
		return fmt.Errorf("%q is no DNS domain", s)
	}
	return nil
}

func checkHostname(s string) error {
	if !fleet.ValidHostname(s) || len(s) > 64 {
		return fmt.Errorf("%q is no host name of at most 64 characters", s)
	}
	return nil
}

// checkInterface is for names that Linux allows (dev_valid_name in its net/core/dev.c).
func checkInterface(s string) error {
	if s == "" || len(s) > 15 || s == "." || s == ".." || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == '/' || r == ':' }) {
		return fmt.Errorf("%q is no name of a network interface", s)
	}
	return nil
}

func checkPrefix(s string) error {
	if _, err := netip.ParsePrefix(s); err != nil {
		return fmt.Errorf("%q is no address with a prefix length", s)
	}
	return nil
}

func checkIP(s string) error {
	if _, err := netip.ParseAddr(s); err != nil {
		return fmt.Errorf("%q is no IP address", s)
	}
	return nil
}

func checkIPOrName(s string) error {
	if checkIP(s) != nil && (!fleet.ValidHostname(s) || regexp.MustCompile(`^[0-9.]+$`).MatchString(s)) {
		return fmt.Errorf("%q is neither an IP address nor a DNS name", s)
	}
	return nil
}

// checkHost wants one address that a host may have.
func checkHost(s string) error {
	a, err := netip.ParseAddr(s)
	switch {
	case err != nil:
		return fmt.Errorf("%q is no IP address", s)
	case a.Zone() != "" || a.Is4In6() || !a.IsGlobalUnicast(): // also unspecified, loopback, multicast, link-local and broadcast
		return fmt.Errorf("%s is no address that hosts elsewhere can reach", s)
	}
	return nil
}

// checkHostPort wants an address or DNS name with a port; IPv6 in brackets.
func checkHostPort(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" {
		return fmt.Errorf("%q is no host with a port", s)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%q is no port from 1 to 65535", port)
	}
	if checkHost(host) == nil {
		return nil
	}
	if checkIP(host) == nil {
		return checkHost(host)
	}
	return checkIPOrName(host)
}

// checkCIDR wants a network, with nothing set beyond its prefix: 10.244.1.0/16
// may be a slip of either number.
func checkCIDR(s string) error {
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return fmt.Errorf("%q is no network with a prefix length", s)
	case p.Addr().Is4In6():
		return fmt.Errorf("%s is an IPv4 network in IPv6 form", s)
	case p != p.Masked():
		return fmt.Errorf("%s is the address of a host; its network is %s", s, p.Masked())
	}
	return nil
}

func checkUUID(s string) error {
	if fleet.NewIdentity(s, "").UUID == "" {
		return fmt.Errorf("%q is no UUID of a machine", s)
	}
	return nil
}

func checkMAC(s string) error {
	if fleet.CleanMAC(s) == "" {
		return fmt.Errorf("%q is no MAC of a network port", s)
	}
	return nil
}

func checkWWN(s string) error {
	if fleet.CleanWWN(s) == "" {
		return fmt.Errorf("%q is no World Wide Name", s)
	}
	return nil
}

// checkSSHKey wants an authorized_keys line: options, type, base64, comment
// (sshd(8), AUTHORIZED_KEYS FILE FORMAT). The type is repeated inside the key
// (RFC 4253, section 6.6), which finds cut-off lines.
func checkSSHKey(s string) error {
	if strings.Contains(s, "PRIVATE KEY") {
		return errors.New("this is a private key; it must not be here")
	}
	if strings.ContainsAny(s, "\r\n") {
		return errors.New("the key spans several lines")
	}
	words := strings.Fields(s)
	for i, w := range words {
		if i+1 == len(words) {
			break
		}
		blob, err := base64.StdEncoding.DecodeString(words[i+1])
		if err != nil || len(blob) < 4 {
			continue
		}
		n := binary.BigEndian.Uint32(blob)
		if uint64(n)+4 < uint64(len(blob)) && string(blob[4:4+n]) == w {
			return nil
		}
	}
	return errors.New("this is no complete public SSH key")
}

func checkCertificate(s string) error {
	if strings.Contains(s, "PRIVATE KEY") {
		return errors.New("this is a private key; it must not be here")
	}
	rest, n := []byte(s), 0
	for len(bytes.TrimSpace(rest)) > 0 {
		block, after := pem.Decode(rest)
		if block == nil || block.Type != "CERTIFICATE" {
			return errors.New("this is no certificate in PEM form")
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return fmt.Errorf("certificate %d cannot be read: %w", n+1, err)
		}
		rest, n = after, n+1
	}
	if n == 0 {
		return errors.New("there is no certificate")
	}
	return nil
}
