package netboot

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
)

// Class is what speaks on a machine.
type Class string

const (
	ClassSystem Class = "system" // an operating system, or firmware that only wants an address
	ClassPXE    Class = "pxe"    // PXE firmware (option 60 PXEClient)
	ClassHTTP   Class = "http"   // UEFI's HTTP client (option 60 HTTPClient)
	ClassIPXE   Class = "ipxe"   // iPXE, from wherever it came
)

// Arch is the kind of program that firmware can start.
type Arch string

const (
	ArchUnknown  Arch = "unknown"
	ArchBIOS     Arch = "bios"
	ArchUEFIx64  Arch = "uefi-x64"
	ArchUEFIia32 Arch = "uefi-ia32"
	ArchUEFIarm  Arch = "uefi-arm64"
)

// Client is what a packet says of its sender. All of it is the sender's word.
type Client struct {
	MAC   string // lower case, colons
	UUID  string // of the system, as in fleet.Facts; "" when not told
	Class Class
	Arch  Arch
	// IPXE says what an iPXE can do.
	IPXE Features
	// Host is the host name that a system told, cut and cleaned.
	Host string
}

// Features are those of iPXE that matter here.
type Features struct {
	HTTP, HTTPS bool
}

// Sub-options of option 175, in which iPXE lists what is built in.
const (
	optIPXE      = dhcpv4.GenericOptionCode(175)
	featureHTTP  = 19
	featureHTTPS = 20
	noProxyDHCP  = 176
)

// clientOf reads the sender out of a packet; ok is false for what no machine on
// an Ethernet would send.
func clientOf(m *dhcpv4.DHCPv4) (c Client, ok bool) {
	if m.OpCode != dhcpv4.OpcodeBootRequest || m.HWType != iana.HWTypeEthernet || len(m.ClientHWAddr) != 6 {
		return Client{}, false
	}
	if m.ClientHWAddr[0]&1 != 0 || [6]byte(m.ClientHWAddr) == [6]byte{} {
		return Client{}, false // a group or nobody
	}
	c = Client{MAC: m.ClientHWAddr.String(), Class: ClassSystem, Arch: archOf(m), Host: clean(m.HostName(), 63)}
	c.UUID = uuidOf(m.GetOneOption(dhcpv4.OptionClientMachineIdentifier))
	vendor := m.ClassIdentifier()
	features := m.GetOneOption(optIPXE)
	switch {
	case features != nil || isIPXE(m.GetOneOption(dhcpv4.OptionUserClassInformation)):
		c.Class = ClassIPXE
		c.IPXE = featuresOf(features)
	case strings.HasPrefix(vendor, "HTTPClient"):
		c.Class = ClassHTTP
	case strings.HasPrefix(vendor, "PXEClient"):
		c.Class = ClassPXE
	}
	return c, true
}

// isIPXE knows the user class with and without the length byte of RFC 3004.
func isIPXE(class []byte) bool {
	return string(class) == "iPXE" || len(class) > 1 && int(class[0]) == len(class)-1 && string(class[1:]) == "iPXE"
}

// archOf reads option 93 (RFC 4578 section 2.1, and IANA's list after it).
func archOf(m *dhcpv4.DHCPv4) Arch {
	b := m.GetOneOption(dhcpv4.OptionClientSystemArchitectureType)
	if len(b) < 2 {
		return ArchUnknown
	}
	// several may be listed; firmware that does so puts its own first
	switch iana.Arch(binary.BigEndian.Uint16(b)) {
	case iana.INTEL_X86PC:
		return ArchBIOS
	// 7 and 9 are both in use for x64: the RFC's table was corrected later
	case iana.EFI_X86_64, iana.EFI_BC, iana.EFI_X86_64_HTTP, iana.EFI_BC_HTTP:
		return ArchUEFIx64
	case iana.EFI_IA32, iana.EFI_X86_HTTP:
		return ArchUEFIia32
	case iana.EFI_ARM64, iana.EFI_ARM64_HTTP:
		return ArchUEFIarm
	}
	return ArchUnknown
}

// featuresOf reads the sub-options of option 175. What is cut short ends the list.
func featuresOf(b []byte) Features {
	var f Features
	for len(b) >= 2 {
		n := int(b[1])
		if len(b) < 2+n {
			break
		}
		on := n >= 1 && b[2] != 0
		switch b[0] {
		case featureHTTP:
			f.HTTP = on
		case featureHTTPS:
			f.HTTPS = on
		}
		b = b[2+n:]
	}
	return f
}

// uuidOf reads option 97 (RFC 4578 section 2.3): type 0, then SMBIOS's 16 bytes,
// whose first three fields are little endian.
func uuidOf(b []byte) string {
	if len(b) != 17 || b[0] != 0 {
		return ""
	}
	u := b[1:]
	le := binary.LittleEndian
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", le.Uint32(u), le.Uint16(u[4:]), le.Uint16(u[6:]), u[8:10], u[10:16])
}

// clean makes text from a packet fit for a log: printable ASCII, cut.
func clean(s string, limit int) string {
	if len(s) > limit {
		s = s[:limit]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}
