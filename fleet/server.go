package fleet

import (
	"strconv"
	"strings"
)

// ServerID names a server for ever: its serial number, or its system UUID where
// the serial is missing or a placeholder. It never holds an address.
type ServerID string

// Identity is what makes a server itself. Both parts are compared before
// anything is done to a machine.
type Identity struct {
	UUID   string `json:"uuid,omitempty"`   // lower case, RFC 4122 form; "" when unknown
	Serial string `json:"serial,omitempty"` // trimmed; "" when unknown
}

// NewIdentity cleans what a BMC or a machine says of itself. Placeholders that
// vendors leave in ("Default string", "....", all zeros) count as unknown.
func NewIdentity(uuid, serial string) Identity {
	return Identity{UUID: cleanUUID(uuid), Serial: cleanSerial(serial)}
}

// ID is the name of the server, or "" when nothing identifies it.
func (i Identity) ID() ServerID {
	if i.Serial != "" {
		return ServerID(i.Serial)
	}
	return ServerID(i.UUID)
}

// Match compares what was enrolled with what is seen now. Each part that both
// sides know must be equal, and at least one part must be known to both.
func (i Identity) Match(seen Identity) bool {
	compared := false
	if i.UUID != "" && seen.UUID != "" {
		if i.UUID != seen.UUID && swapUUID(i.UUID) != seen.UUID {
			return false
		}
		compared = true
	}
	if i.Serial != "" && seen.Serial != "" {
		if i.Serial != seen.Serial {
			return false
		}
		compared = true
	}
	return compared
}

// swapUUID reverses the bytes of the first three groups. SMBIOS before 2.6 did
// not say in which order they are, so a BMC and the system it controls may show
// the same UUID in the two forms (DMTF DSP0134, 7.2.1).
func swapUUID(u string) string {
	if len(u) != 36 {
		return u
	}
	rev := func(s string) string {
		var out string
		for i := len(s); i >= 2; i -= 2 {
			out += s[i-2 : i]
		}
		return out
	}
	return rev(u[:8]) + "-" + rev(u[9:13]) + "-" + rev(u[14:18]) + u[18:]
}

func cleanUUID(s string) string {
	s = strings.ToLower(strings.TrimSpace(s))
	plain := strings.ReplaceAll(s, "-", "")
	if len(plain) != 32 || strings.Trim(plain, "0") == "" || strings.Trim(plain, "f") == "" {
		return ""
	}
	for _, r := range plain {
		if !strings.ContainsRune("0123456789abcdef", r) {
			return ""
		}
	}
	switch plain { // what boards show whose maker set none, in both byte orders
	case "03000200040005000006000700080009", "00020003000400050006000700080009":
		return ""
	}
	return plain[:8] + "-" + plain[8:12] + "-" + plain[12:16] + "-" + plain[16:20] + "-" + plain[20:]
}

func cleanSerial(s string) string {
	s = strings.TrimSpace(s)
	if len(s) > 64 {
		return ""
	}
	for _, r := range s {
		if r < 0x21 || r > 0x7e {
			return "" // a serial with blanks or control characters inside is no serial
		}
	}
	switch strings.ToLower(s) {
	case "defaultstring", "none", "unknown", "n/a", "na", "null", "tobefilledbyo.e.m.", "systemserialnumber", "0123456789":
		return ""
	}
	if strings.Trim(s, ".-_0xX") == "" {
		return ""
	}
	return s
}

// Server is one enrolled machine and the BMC through which it is driven.
type Server struct {
	ID       ServerID `json:"id"`
	Identity Identity `json:"identity"`
	BMC      Endpoint `json:"bmc"`
}

// Endpoint is how a server's BMC is reached. It holds the name of a secret,
// never a secret.
type Endpoint struct {
	Address string `json:"address"` // host:port
	// Fingerprint pins the BMC's TLS certificate: SHA-256 over its DER form,
	// lower-case hexadecimal. It is taken at enrolment.
	Fingerprint string    `json:"fingerprint"`
	Username    string    `json:"username"`
	Password    SecretRef `json:"password"`
	// SystemURI is the Redfish path of this server behind the BMC.
	SystemURI string `json:"systemURI,omitempty"`
	Vendor    string `json:"vendor,omitempty"`
	Product   string `json:"product,omitempty"`
	// LegacyTLS allows this BMC alone to speak outdated TLS, because a person
	// named it under bmcs.legacyTLS.
	LegacyTLS bool `json:"legacyTLS,omitempty"`
	// Fallback are logins to be tried in this order when the BMC refuses the one
	// above. They matter while nobody knows which one is right, and are not kept.
	Fallback []Credential `json:"-"`
}

// Credential is one login to be tried on BMCs.
type Credential struct {
	Username string    `json:"username" yaml:"username"`
	Password SecretRef `json:"password" yaml:"password"`
}

// SecretRef says where a secret is found: exactly one field is set.
type SecretRef struct {
	File string `json:"file,omitempty" yaml:"file,omitempty"` // path of a file that holds the secret and nothing else
	Env  string `json:"env,omitempty" yaml:"env,omitempty"`   // name of an environment variable
	// Vault is the name of an entry of an age-encrypted file: NAME in vault.age
	// beside the site file, or FILE#NAME.
	Vault string `json:"vault,omitempty" yaml:"vault,omitempty"`
	// Prompt is what a person at the terminal is asked, once in each run.
	Prompt string `json:"prompt,omitempty" yaml:"prompt,omitempty"`
}

// IsZero tells whether no place is named.
func (r SecretRef) IsZero() bool { return r == SecretRef{} }

// String names the place, not the secret.
func (r SecretRef) String() string {
	switch {
	case r.File != "":
		return "file " + r.File
	case r.Env != "":
		return "environment variable " + r.Env
	case r.Vault != "":
		return "vault entry " + r.Vault
	case r.Prompt != "":
		return "prompt " + strconv.Quote(r.Prompt)
	}
	return "no secret named"
}
