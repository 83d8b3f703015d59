package bmc

import "strings"

// BootOverride is what the BMC will do at the next start.
type BootOverride struct {
	Enabled string `json:"enabled"` // "Once", "Continuous", "Disabled" or ""
	Target  string `json:"target"`  // the BMC's word: "Cd", "UsbCd", "None", …
	Mode    string `json:"mode,omitempty"`
	HTTPURI string `json:"httpURI,omitempty"` // of UEFI HTTP boot
}

func readOverride(n node) BootOverride {
	b := n.object("Boot")
	return BootOverride{
		Enabled: b.str("BootSourceOverrideEnabled"), Target: b.str("BootSourceOverrideTarget"),
		Mode: b.str("BootSourceOverrideMode"), HTTPURI: b.str("HttpBootUri"),
	}
}

// IsSet tells whether the next start is overridden.
func (b BootOverride) IsSet() bool {
	enabled := strings.EqualFold(b.Enabled, "Once") || strings.EqualFold(b.Enabled, "Continuous")
	return enabled && b.Target != "" && !strings.EqualFold(b.Target, "None")
}

// GoesTo tells whether the next start goes to the target, whatever the BMC calls
// that. A BMC that shows Once as Continuous is believed.
func (b BootOverride) GoesTo(t Target) bool {
	return b.IsSet() && contains(t.words(node{}), b.Target)
}

// Lasts tells that the BMC shows the override as lasting. It may only be shown
// so; if it is, the server boots the same again until it is cleared.
func (b BootOverride) Lasts() bool { return b.IsSet() && strings.EqualFold(b.Enabled, "Continuous") }
