package kubernetes

import (
	"strings"
	"testing"
)

// kube-proxy reads its own rules back and compares them by these names.
func TestProtocolsHaveNames(t *testing.T) {
	f := protocols()
	if f.path != "etc/protocols" {
		t.Errorf("they lie at %s", f.path)
	}
	for name, number := range map[string]string{"tcp": "6", "udp": "17", "sctp": "132"} {
		found := false
		for line := range strings.Lines(f.text) {
			w := strings.Fields(line)
			found = found || len(w) >= 2 && w[0] == name && w[1] == number
		}
		if !found {
			t.Errorf("%s is not number %s in %q", name, number, f.text)
		}
	}
}
