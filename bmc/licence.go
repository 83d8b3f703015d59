package bmc

import "strings"

// isLicence recognises a missing licence: by message id (the DMTF License
// registry, Dell's LIC messages, iLO's LicenseKeyRequired and its kin,
// Supermicro's OemLicenseNotPassed), or, where a BMC only gives a text, by its
// words.
func (r *refusal) isLicence() bool {
	for _, m := range r.messages {
		key := m.key()
		if strings.HasPrefix(m.id, "License.") || strings.Contains(key, "License") || strings.HasPrefix(key, "LIC0") || strings.HasPrefix(key, "LIC5") {
			return true
		}
		if r.status < 500 && wantsLicence(m.text) {
			return true
		}
	}
	return false
}

// wantsLicence reads a BMC's sentence, such as "This feature requires a
// license." or Supermicro's "SFT-DCMS-SINGLE license is not activated".
func wantsLicence(text string) bool {
	t := strings.ToLower(text)
	if !strings.Contains(t, "licens") && !strings.Contains(t, "licenc") {
		return false
	}
	for _, word := range []string{"requir", "need", "not ", "missing", "expired", "invalid", "without", "no "} {
		if strings.Contains(t, word) {
			return true
		}
	}
	return false
}
