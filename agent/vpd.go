package agent

import (
	"encoding/hex"
	"strings"
)

// parseVPD80 reads the unit serial number page (SPC-5, section 7.7.19).
func parseVPD80(page []byte) string {
	if len(page) < 4 || page[1] != 0x80 {
		return ""
	}
	n := int(page[2])<<8 | int(page[3])
	return cleanName(string(page[4:min(len(page), 4+n)]))
}

// parseVPD83 reads the device identification page (SPC-5, section 7.7.6) and
// gives the name of the logical unit: its NAA name, else its EUI-64.
func parseVPD83(page []byte) string {
	if len(page) < 4 || page[1] != 0x83 {
		return ""
	}
	n := int(page[2])<<8 | int(page[3])
	rest := page[4:min(len(page), 4+n)]
	best, rank := "", 0
	for len(rest) >= 4 {
		size := int(rest[3])
		if 4+size > len(rest) {
			break
		}
		codeSet, association, kind := rest[0]&0xf, rest[1]>>4&0x3, rest[1]&0xf
		id := rest[4 : 4+size]
		rest = rest[4+size:]
		if association != 0 || codeSet != 1 { // the logical unit's own, in binary
			continue
		}
		r := 0
		switch {
		case kind == 3 && (size == 8 || size == 16):
			r = 2
		case kind == 2 && (size == 8 || size == 12 || size == 16):
			r = 1
		}
		if r > rank && !isZero(id) {
			best, rank = hex.EncodeToString(id), r
		}
	}
	return best
}

// cleanWWN gives a world-wide name as lower-case hexadecimal without prefix, ""
// when the text is none: kernels also report vendor texts ("t10.…") there.
func cleanWWN(s string) string {
	s = strings.ToLower(strings.TrimSpace(s))
	for _, prefix := range []string{"naa.", "eui.", "0x", "uuid."} {
		if rest, ok := strings.CutPrefix(s, prefix); ok {
			s = rest
			break
		}
	}
	s = strings.ReplaceAll(s, "-", "")
	if len(s) < 16 || len(s) > 32 || strings.Trim(s, "0") == "" {
		return ""
	}
	for _, r := range s {
		if (r < '0' || r > '9') && (r < 'a' || r > 'f') {
			return ""
		}
	}
	return s
}

// cleanName gives a serial number without padding, "" when it has characters no
// serial has.
func cleanName(s string) string {
	s = strings.Trim(s, " \t\r\n\x00")
	if len(s) > 128 {
		return ""
	}
	for _, r := range s {
		if r < 0x20 || r > 0x7e {
			return ""
		}
	}
	return s
}
