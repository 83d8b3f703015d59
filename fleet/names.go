package fleet

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// CleanMAC brings the MAC address of a network port into the form of facts:
// lower case with colons. It gives "" for what is no address of one Ethernet
// port: another length than six bytes, all zeros, or the group bit set.
func CleanMAC(s string) string {
	b, err := hex.DecodeString(strings.NewReplacer(":", "", "-", "", ".", "").Replace(strings.TrimSpace(s)))
	if err != nil || len(b) != 6 || b[0]&1 != 0 || [6]byte(b) == [6]byte{} {
		return ""
	}
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3], b[4], b[5])
}

// CleanWWN brings a World Wide Name into the form of facts: lower-case
// hexadecimal without prefix ("0x5000C500…", "naa.", "eui.", "wwn-0x" and
// "nvme-eui." are taken off). It gives "" for all zeros and for what is no
// hexadecimal number of 4 to 32 digits; the longest real ones have 32.
func CleanWWN(s string) string {
	s = strings.ToLower(strings.TrimSpace(s))
	for _, prefix := range []string{"wwn-", "nvme-", "0x", "naa.", "eui."} {
		s = strings.TrimPrefix(s, prefix)
	}
	s = strings.NewReplacer(":", "", "-", "", " ", "").Replace(s)
	if len(s) < 4 || len(s) > 32 || strings.Trim(s, "0123456789abcdef") != "" || strings.Trim(s, "0") == "" {
		return ""
	}
	return s
}
