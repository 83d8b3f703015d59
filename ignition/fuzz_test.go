package ignition_test

import (
	"net/url"
	"regexp"
	"strings"
	"testing"

	"metalrise.dev/fleet"
	"metalrise.dev/ignition"
)

// Whatever stands in a site file or comes from a BMC is either refused or stays
// the value it is: every file keeps the lines and keys it has with plain values.
func FuzzNothingBreaksOut(f *testing.F) {
	f.Add("n1", "52:54:00:00:00:0a", "10.0.1.21/24", "10.0.1.1", "10.0.1.2", "time.example.net", "https://10.0.1.5:8443", "/agent")
	f.Add("n1\nroot", "52:54:00:00:00:0a\nmtu=1", "10.0.1.21/24\n[x]", "10.0.1.1\n", "10.0.1.2;x", "a\nallow all", "https://a';reboot;'", "/a'b")
	f.Add("%n", "0:0:0:0:0:0", "::ffff:10.0.0.1/96", "fe80::1%\n", "::", "time.example.net iburst", "https://a%0ab", "/$(reboot)")
	f.Add("n1", "52-54-00-00-00-0a", "fd00::1/64", "fe80::1", "fd00::2", "fd00::4", "https://[fd00::5]", "/v1/a.b_c-d")
	f.Fuzz(func(t *testing.T, host, mac, address, gateway, dns, ntp, base, path string) {
		in := installedInput(t, fleet.Worker, "port", fleet.ProfileGeneral)
		want := skeletons(t, in)
		in.Assignment.Hostname = host
		in.Assignment.Network = fleet.Network{MAC: mac, Address: address, Gateway: gateway, DNS: []string{dns}, NTP: []string{ntp, "10.0.1.4"}}
		in.Ticket.URL, in.Agent.Path = base, path
		if _, err := ignition.Installed(in); err != nil || gateway == "" {
			return // refused; without a gateway there is one line less
		}
		got := skeletons(t, in)
		for name, text := range want {
			// The family without an address is off, whichever it is.
			sort := strings.NewReplacer("[ipv4]", "[ip]", "[ipv6]", "[ip]")
			if sort.Replace(got[name]) != sort.Replace(text) {
				t.Errorf("%s became\n%s\nwant\n%s", name, got[name], text)
			}
		}
		if len(got) != len(want) {
			t.Errorf("%d files, want %d", len(got), len(want))
		}
	})
}

// value is what may differ: all after the first '=' or blank, but not quotes.
var value = regexp.MustCompile(`[^'"\n]*`)

// skeletons are the files with the values taken out of their lines.
func skeletons(t *testing.T, in ignition.InstalledInput) map[string]string {
	t.Helper()
	raw, err := ignition.Installed(in)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, f := range parse(t, raw).Storage.Files {
		text, err := url.PathUnescape(strings.TrimPrefix(f.Contents.Source, "data:,"))
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		for line := range strings.Lines(text) {
			if f.Path == "/etc/hostname" {
				line = "=" + line
			}
			at := strings.IndexAny(line, "= ")
			if at < 0 {
				b.WriteString(line)
				continue
			}
			b.WriteString(line[:at] + value.ReplaceAllString(line[at:], ""))
		}
		out[f.Path] = b.String()
	}
	return out
}
