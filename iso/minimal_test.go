package iso

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"metalrise.dev/iso/isotest"
)

// TestMinimal: another program reads every file but the root file system, and
// the result can be personalised, grown and reset as any other.
func TestMinimal(t *testing.T) {
	b, err := Open(hybridISO(t))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	m, err := b.Minimal()
	if err != nil {
		t.Fatal(err)
	}
	if gone := b.Size() - m.Size(); gone != sectors(5<<20+77)*sectorSize {
		t.Errorf("%d bytes are gone", gone)
	}
	large := noise(500_000)
	im, err := m.Personalise(Personal{Ignition: large, RootfsURL: "https://192.0.2.1:8443/m/0123/rootfs.img"})
	if err != nil {
		t.Fatal(err)
	}
	own := save(t, im)
	for _, tree := range [][]string{nil, {"-read_fs", "norock"}} {
		for path, want := range map[string][]byte{KernelPath: noise(3 << 20), InitrdPath: noise(1 << 20), "zz/last": []byte("last of all\n")} {
			if got := extracted(t, own, "/"+path, tree...); !bytes.Equal(got, want) {
				t.Errorf("%v: %s: %d bytes differ", tree, path, len(got))
			}
		}
		list := string(tool(t, nil, "xorriso", append(tree, "-indev", own, "-find", "/images/pxeboot", "-type", "f")...))
		if strings.Contains(strings.ToLower(list), "rootfs") || !strings.Contains(list, "vmlinuz") {
			t.Errorf("%v: %s", tree, list)
		}
	}
	c, err := Inspect(im, im.Size())
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(c.Kargs, " "); got != "ignition.firstboot ignition.platform.id=metal coreos.live.rootfs_url=https://192.0.2.1:8443/m/0123/rootfs.img" || strings.Contains(c.DefaultKargs, "liveiso") {
		t.Errorf("%q, default %q", got, c.DefaultKargs)
	}
	if !bytes.Equal(c.Ignition, large) || len(c.Artefacts) != 2 || strings.Join(c.Firmware, " ") != "BIOS UEFI" {
		t.Errorf("%d bytes of config, %v, %v", len(c.Ignition), c.Artefacts, c.Firmware)
	}
	checkPartitions(t, own)
	plain, err := m.Personalise(Personal{RootfsURL: "https://192.0.2.1/r"})
	if err != nil {
		t.Fatal(err)
	}
	checkPartitions(t, save(t, plain))
	report := string(tool(t, nil, "xorriso", "-abort_on", "WARNING", "-indev", own, "-report_el_torito", "plain", "-report_system_area", "plain"))
	if !strings.Contains(report, "boot-info-table isohybrid-suitable") || !strings.Contains(report, "/images/efiboot.img") {
		t.Error(report)
	}
}

func TestMinimalRefuses(t *testing.T) {
	b := open(t, isotest.Options{})
	if _, err := b.Personalise(Personal{RootfsURL: "https://x/y"}); !errors.Is(err, ErrRootfsURL) {
		t.Error(err)
	}
	m, err := b.Minimal()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Personalise(Personal{}); !errors.Is(err, ErrRootfsURL) {
		t.Error(err)
	}
	var k *KargError
	for _, u := range []string{"ftp://x/y", "https://x/y z", "/x"} {
		if _, err := m.Personalise(Personal{RootfsURL: u}); !errors.As(err, &k) {
			t.Errorf("%s: %v", u, err)
		}
	}
	for _, o := range []isotest.Options{{KargStyle: isotest.KargsMarker}, {KargStyle: isotest.NoKargs}} {
		if _, err := open(t, o).Minimal(); !errors.Is(err, ErrNoMinimal) {
			t.Error(err)
		}
	}
	if again, err := m.Minimal(); err != nil || again != m {
		t.Error(err)
	}
}
