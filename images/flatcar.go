package images

import (
	"fmt"
	"strings"
)

// Flatcar publishes no JSON: version.txt names the version of a channel's
// folder, and beside each file lie FILE.sig (a detached OpenPGP signature) and
// FILE.DIGESTS (checksums, of which SHA-512 is used here).
const (
	// maxFlatcar bounds version.txt and DIGESTS: both have a few hundred bytes.
	maxFlatcar = 64 << 10
	// maxFlatcarLines bounds their lines.
	maxFlatcarLines = 1000
)

// flatcarFiles are those that are fetched, by role.
func flatcarFiles() []struct {
	role   Role
	name   string
	format Format
} {
	return []struct {
		role   Role
		name   string
		format Format
	}{
		{RoleISO, "flatcar_production_iso_image.iso", FormatISO},
		{RoleDisk, "flatcar_production_image.bin.bz2", FormatRawBz2},
		{RoleKernel, "flatcar_production_pxe.vmlinuz", FormatPXE},
		{RoleInitramfs, "flatcar_production_pxe_image.cpio.gz", FormatPXE},
	}
}

// ParseFlatcarVersion reads version.txt, lines of NAME=VALUE, and gives
// FLATCAR_VERSION, such as "4081.2.0". The error is an *InvalidError.
func ParseFlatcarVersion(text []byte) (string, error) {
	bad := func(value, why string) error {
		return &InvalidError{Faults: []Fault{{Path: "version.txt", Value: value, Why: why, Remedy: "check the URL or the mirror: it must lead to a folder of Flatcar's release server"}}}
	}
	lines, ok := boundedLines(text)
	if !ok {
		return "", bad("", fmt.Sprintf("has more than %d bytes or %d lines", maxFlatcar, maxFlatcarLines))
	}
	found := ""
	for _, line := range lines {
		name, value, ok := strings.Cut(line, "=")
		if !ok || strings.TrimSpace(name) != "FLATCAR_VERSION" {
			continue
		}
		value = strings.Trim(strings.TrimSpace(value), `"`)
		if found != "" && found != value {
			return "", bad(value, "names two versions")
		}
		if !isFlatcarVersion(value) {
			return "", bad(value, "names no version such as 4081.2.0")
		}
		found = value
	}
	if found == "" {
		return "", bad("", "has no line FLATCAR_VERSION=")
	}
	return found, nil
}

func boundedLines(text []byte) ([]string, bool) {
	if len(text) > maxFlatcar {
		return nil, false
	}
	lines := strings.Split(string(text), "\n")
	return lines, len(lines) <= maxFlatcarLines
}

// isFlatcarVersion takes three numbers with points, and at most one suffix
// after a hyphen or plus sign.
func isFlatcarVersion(s string) bool {
	core := s
	if i := strings.IndexAny(s, "-+"); i >= 0 {
		core = s[:i]
		if !isWord(s[i+1:], 64, "+") {
			return false
		}
	}
	parts := strings.Split(core, ".")
	if len(parts) != 3 {
		return false
	}
	for _, n := range parts {
		if n == "" || len(n) > 9 || strings.Trim(n, "0123456789") != "" {
			return false
		}
	}
	return true
}

// ParseDigests reads a DIGESTS file: sections begun by a comment such as
// "# SHA512 HASH", with lines of checksum and file name. It gives the SHA-512 of
// one file. Weaker checksums are not used. The error is an *InvalidError.
func ParseDigests(text []byte, name string) (string, error) {
	bad := func(value, why string) error {
		return &InvalidError{Faults: []Fault{{Path: name + ".DIGESTS", Value: value, Why: why, Remedy: "check the URL or the mirror; take the publisher's own file"}}}
	}
	lines, ok := boundedLines(text)
	if !ok {
		return "", bad("", fmt.Sprintf("has more than %d bytes or %d lines", maxFlatcar, maxFlatcarLines))
	}
	section, found := "", ""
	for _, line := range lines {
		line = strings.TrimSpace(line)
		if title, ok := strings.CutPrefix(line, "#"); ok {
			section, _, _ = strings.Cut(strings.TrimSpace(title), " ")
			continue
		}
		f := strings.Fields(line)
		if section != "SHA512" || len(f) != 2 || strings.TrimPrefix(f[1], "*") != name {
			continue
		}
		if !isSHA512(f[0]) {
			return "", bad(f[0], "is no SHA-512")
		}
		if found != "" && found != f[0] {
			return "", bad(f[0], "has two SHA-512 for the file")
		}
		found = f[0]
	}
	if found == "" {
		return "", bad("", "has no SHA-512 of the file")
	}
	return found, nil
}
