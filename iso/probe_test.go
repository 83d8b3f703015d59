package iso

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestProbe(t *testing.T) {
	b, err := Probe("fetched by a BMC\n")
	if err != nil {
		t.Fatal(err)
	}
	if len(b) > 64<<10 || len(b)%sectorSize != 0 {
		t.Errorf("%d bytes", len(b))
	}
	path := filepath.Join(t.TempDir(), "probe.iso")
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	if got := extracted(t, path, "/README.TXT"); string(got) != "fetched by a BMC\n" {
		t.Errorf("%q", got)
	}
	report := string(tool(t, nil, "xorriso", "-abort_on", "WARNING", "-indev", path, "-pvd_info", "-report_el_torito", "plain"))
	for _, want := range []string{"METALRISE_PROBE", "BIOS  y   none"} {
		if !strings.Contains(report, want) {
			t.Errorf("no %q in\n%s", want, report)
		}
	}
	v, err := openVolume(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	a, err := survey(v)
	if err != nil || strings.Join(firmwares(bootImages(v, a.boot)), " ") != "BIOS" {
		t.Error(a, err)
	}
	for _, text := range []string{strings.Repeat("x", sectorSize+1), "\x00", "é"} {
		if _, err := Probe(text); err == nil {
			t.Errorf("%.9q was accepted", text)
		}
	}
}
