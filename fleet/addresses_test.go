package fleet_test

import (
	"strings"
	"testing"
	"testing/quick"

	"metalrise.dev/fleet"
)

func TestAddressRanges(t *testing.T) {
	for in, want := range map[string]string{
		"10.0.9.11":               "10.0.9.11:443",
		"10.0.9.11:8443":          "10.0.9.11:8443",
		"10.0.9.11-13":            "10.0.9.11:443 10.0.9.12:443 10.0.9.13:443",
		"10.0.9.254-10.0.10.1":    "10.0.9.254:443 10.0.9.255:443 10.0.10.0:443 10.0.10.1:443",
		"10.0.9.11-12:99":         "10.0.9.11:99 10.0.9.12:99",
		"10.0.9.13/30":            "10.0.9.13:443 10.0.9.14:443",
		"10.0.9.12/31":            "10.0.9.12:443 10.0.9.13:443",
		"10.0.9.12/32":            "10.0.9.12:443",
		"255.255.255.254/31":      "255.255.255.254:443 255.255.255.255:443",
		"fd00::1":                 "[fd00::1]:443",
		"[fd00::1]":               "[fd00::1]:443",
		"[fd00::1]:8443":          "[fd00::1]:8443",
		"[fd00::1-fd00::2]:8443":  "[fd00::1]:8443 [fd00::2]:8443",
		"fd00::/127":              "[fd00::]:443 [fd00::1]:443", // both ends of a /127 are hosts (RFC 6164)
		"BMC1.example.org":        "bmc1.example.org:443",
		"bmc-1:8443":              "bmc-1:8443",
		"::ffff:10.0.9.1":         "10.0.9.1:443",
		"":                        "error",
		"10.0.9.300":              "error",
		"10.0.9":                  "error",
		"10.0.9.11-300":           "error",
		"10.0.9.15-11":            "error",
		"10.0.9.11-fd00::1":       "error",
		"fd00::1-5":               "error",
		"10.0.0.0/8":              "error",
		"fd00::/64":               "error",
		"fd00::-ffff::":           "error",
		"10.0.9.11:0":             "error",
		"10.0.9.11:65536":         "error",
		"10.0.9.11:":              "error",
		"[fd00::1":                "error",
		"[fd00::1]x":              "error",
		"fe80::1%eth0":            "error",
		"0.0.0.0":                 "error",
		"224.0.0.1":               "error",
		"10.0.9.1/33":             "error",
		"a b":                     "error",
		"-":                       "error",
		"https://10.0.9.1":        "error",
		strings.Repeat("a.", 200): "error",
		"10.0.9.1/24/24":          "error",
		"10.0.9.1, 10.0.9.2":      "error",
	} {
		r, err := fleet.ParseAddressRange(in)
		got := strings.Join(r.Addresses(443), " ")
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%q gives %q (%v), want %q", in, got, err, want)
		}
	}
}

func TestAddressRangeContains(t *testing.T) {
	r, err := fleet.ParseAddressRange("10.0.9.11-13")
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]bool{"10.0.9.10": false, "10.0.9.11": true, "10.0.9.13": true, "10.0.9.14": false, "::ffff:10.0.9.12": true, "fd00::1": false, "x": false, "": false} {
		if r.Contains(host) != want {
			t.Errorf("Contains(%q) is not %v", host, want)
		}
	}
	named, _ := fleet.ParseAddressRange("bmc.example.org")
	if !named.Contains("BMC.example.org") || named.Contains("10.0.9.11") || (fleet.AddressRange{}).Contains("10.0.9.11") {
		t.Error("names contain themselves, and nothing contains nothing")
	}
}

func TestAddressRangeNeverPanics(t *testing.T) {
	alphabet := "0129af.:-/[]%x "
	check := func(picks []byte) bool {
		var s strings.Builder
		for _, p := range picks {
			s.WriteByte(alphabet[int(p)%len(alphabet)])
		}
		r, err := fleet.ParseAddressRange(s.String())
		n := len(r.Addresses(443))
		return (err != nil) == (n == 0) && n <= 1<<16
	}
	if err := quick.Check(check, &quick.Config{MaxCount: 5000}); err != nil {
		t.Error(err)
	}
}

func TestValidNames(t *testing.T) {
	for s, want := range map[string]bool{"a": true, "a-b": true, "1": true, "": false, "-a": false, "a-": false, "a_b": false, "é": false, strings.Repeat("a", 63): true, strings.Repeat("a", 64): false} {
		if fleet.ValidLabel(s) != want || fleet.ValidHostname(s) != want {
			t.Errorf("%q is not %v", s, want)
		}
	}
	for s, want := range map[string]bool{"a.b": true, "a.": false, ".a": false, "a..b": false, strings.Repeat("abc.", 63) + "a": true, strings.Repeat("abc.", 64) + "a": false} {
		if fleet.ValidHostname(s) != want {
			t.Errorf("%q is not %v", s, want)
		}
	}
}

func TestCleanNames(t *testing.T) {
	for in, want := range map[string]string{
		"52:54:00:AB:cd:01": "52:54:00:ab:cd:01", "5254-00ab-cd01": "52:54:00:ab:cd:01", " 525400abcd01 ": "52:54:00:ab:cd:01",
		"01:00:5e:00:00:01": "", "00:00:00:00:00:00": "", "52:54:00:ab:cd": "", "52:54:00:ab:cd:0g": "", "": "", "52:54:00:ab:cd:01:02": "",
	} {
		if got := fleet.CleanMAC(in); got != want || fleet.CleanMAC(got) != got {
			t.Errorf("CleanMAC(%q) = %q", in, got)
		}
	}
	for in, want := range map[string]string{
		"0x5000C500A1B2C3D4": "5000c500a1b2c3d4", "naa.5000c500a1b2c3d4": "5000c500a1b2c3d4", "eui.0025388b710116ab": "0025388b710116ab",
		"wwn-0x5000c500a1b2c3d4": "5000c500a1b2c3d4", "nvme-eui.0025388b710116ab": "0025388b710116ab", "50:00:c5:00:a1:b2:c3:d4": "5000c500a1b2c3d4",
		"0000000000000000": "", "": "", "xyz": "", "0x": "", "12": "", "naa.": "",
	} {
		if got := fleet.CleanWWN(in); got != want || fleet.CleanWWN(got) != got {
			t.Errorf("CleanWWN(%q) = %q", in, got)
		}
	}
}
