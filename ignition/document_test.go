package ignition

import (
	"errors"
	"strings"
	"testing"

	"metalrise.dev/fleet"
)

// Warnings of Ignition's validator refuse a config as errors do, all listed.
func TestRenderRefusesWarnings(t *testing.T) {
	d := newDocument()
	d.unit("a.service", "[Service]\nExecStart=/bin/true\n", true) // enabled without [Install]
	d.file("relative", 0o644, "x")
	d.file("/same", 0o644, "x")
	d.file("/same", 0o644, "y")
	_, err := d.render(Spec34)
	var invalid *Invalid
	if !errors.As(err, &invalid) {
		t.Fatalf("got %v", err)
	}
	for _, part := range []string{"$.systemd.units.0", "$.storage.files.0.path", "$.storage.files.2"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%s is missing in %v", part, err)
		}
	}
	if fleet.KindOf(err) != fleet.Invalid || fleet.CodeOf(err) != fleet.CodeUnexpected {
		t.Errorf("kind %s, code %s", fleet.KindOf(err), fleet.CodeOf(err))
	}
	d = newDocument()
	d.unit("a.service", "[Service]\nExecStart=/bin/true\n", true)
	if _, err := d.render(Spec35); err == nil || !strings.Contains(err.Error(), "warning") {
		t.Errorf("a warning alone passed: %v", err)
	}
}
