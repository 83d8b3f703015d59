package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"metalrise.dev/iso/isotest"
)

// ran is what one command did.
type ran struct {
	code      int
	out, errs string
}

func runISO(stdin string, args ...string) ran {
	var out, errs bytes.Buffer
	code := run(context.Background(), append([]string{"iso"}, args...), strings.NewReader(stdin), &out, &errs)
	return ran{code, out.String(), errs.String()}
}

func (r ran) want(t *testing.T, code int, out ...string) ran {
	t.Helper()
	if r.code != code {
		t.Errorf("exit code %d, want %d: %s%s", r.code, code, r.out, r.errs)
	}
	for _, s := range out {
		if !strings.Contains(r.out+r.errs, s) {
			t.Errorf("no %q in\n%s%s", s, r.out, r.errs)
		}
	}
	return r
}

const smallConfig = `{"ignition":{"version":"3.4.0"},"passwd":{"users":[{"name":"core","passwordHash":"hunter22"}]}}`

// isoBench is a folder with a base ISO and what is put into it.
func isoBench(t *testing.T) func(name string) string {
	t.Helper()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := isotest.Build(at("base.iso"), isotest.Options{Files: map[string][]byte{"images/pxeboot/vmlinuz": []byte("the kernel")}}); err != nil {
		t.Fatal(err)
	}
	// the digits of a chain of digests compress to a little more than half
	var large strings.Builder
	large.WriteString(`{"ignition":{"version":"3.4.0"},"x":"`)
	for last := "x"; large.Len() < 800_000; {
		last = hexDigest([]byte(last))
		large.WriteString(last)
	}
	for name, text := range map[string]string{"n.ign": smallConfig, "large.ign": large.String() + `"}`, "eno1.nmconnection": "[connection]\n", "bad.ign": "{}", "extra": "#!/bin/sh\n"} {
		if err := os.WriteFile(at(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return at
}

func TestISOCustomizeShowExtract(t *testing.T) {
	at := isoBench(t)
	runISO("", "show", at("base.iso")).want(t, 0, "as it was built", "262144 bytes at", "images/pxeboot/vmlinuz, 10 bytes", "ignition   none")
	runISO("", "customize", at("base.iso"), "--ignition", at("n.ign"), "--keyfile", at("eno1.nmconnection"), "--initrd-file", "/etc/extra="+at("extra"),
		"--append-karg", "console=ttyS0", "--delete-karg", "ignition.firstboot", "--to", at("n.iso")).want(t, 0)
	shown := runISO("", "show", at("n.iso")).want(t, 0, "personalised", hexDigest([]byte(smallConfig)), "eno1.nmconnection", "etc/extra", "ignition.platform.id=metal console=ttyS0 (room")
	if strings.Contains(shown.out, "hunter22") {
		t.Error("show prints the config")
	}
	var s isoShown
	if err := json.Unmarshal([]byte(runISO("", "show", at("n.iso"), "-o", "json").want(t, 0).out), &s); err != nil || !s.Customised || s.Ignition == nil || len(s.Files) != 2 || len(s.KargAreas) != 2 {
		t.Errorf("%+v, %v", s, err)
	}
	if info, err := os.Stat(at("n.iso")); err != nil || info.Mode().Perm() != 0o600 {
		t.Error("an ISO with secrets is readable by others", err)
	}
	if got := runISO("", "extract", at("n.iso"), "ignition").want(t, 0); got.out != smallConfig {
		t.Errorf("%q", got.out)
	}
	if err := os.Mkdir(at("pxe"), 0o755); err != nil {
		t.Fatal(err)
	}
	runISO("", "extract", at("n.iso"), "pxe", "--to", at("pxe")).want(t, 0, "vmlinuz", "initrd.img", "rootfs.img", "custom.img")
	if b, err := os.ReadFile(at("pxe/vmlinuz")); string(b) != "the kernel" {
		t.Errorf("%q, %v", b, err)
	}
	runISO("", "extract", at("n.iso"), "keyfiles", "--to", at("pxe")).want(t, 0, "pxe/eno1.nmconnection")
	// back to what it was built with, on top of itself
	runISO("", "customize", at("n.iso"), "--reset", "--to", at("n.iso"), "--force").want(t, 0)
	base, err1 := os.ReadFile(at("base.iso"))
	again, err2 := os.ReadFile(at("n.iso"))
	if err := errors.Join(err1, err2); err != nil || !bytes.Equal(base, again) {
		t.Error("a reset ISO is not the base", err)
	}
}

func TestISOLargeMinimalAndStream(t *testing.T) {
	at := isoBench(t)
	large, err := os.ReadFile(at("large.ign"))
	if err != nil {
		t.Fatal(err)
	}
	streamed := runISO(string(large), "customize", at("base.iso"), "--ignition", "-", "--to", "-").want(t, 0)
	if err := os.WriteFile(at("large.iso"), []byte(streamed.out), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := runISO("", "extract", at("large.iso"), "ignition", "--to", "-").want(t, 0); got.out != string(large) {
		t.Errorf("%d bytes of %d", len(got.out), len(large))
	}
	runISO("", "extract", at("large.iso"), "minimal", "--rootfs-url", "https://10.0.0.5/rootfs.img", "--to", at("small.iso")).want(t, 0)
	shown := runISO("", "show", at("small.iso")).want(t, 0, "coreos.live.rootfs_url=https://10.0.0.5/rootfs.img", hexDigest(large))
	if strings.Contains(shown.out, "rootfs.img, ") || strings.Contains(shown.out, "coreos.liveiso") {
		t.Error(shown.out)
	}
}

func TestISORefuses(t *testing.T) {
	at := isoBench(t)
	for want, args := range map[string][]string{
		"--to is missing":         {"customize", at("base.iso")},
		"no ignition.version":     {"customize", at("base.iso"), "--ignition", at("bad.ign"), "--to", at("x")},
		"n.ign exists":            {"customize", at("base.iso"), "--to", at("n.ign")},
		"want PATH=FILE":          {"customize", at("base.iso"), "--initrd-file", "x", "--to", at("x")},
		"there is no part":        {"extract", at("base.iso"), "nothing"},
		"given with minimal":      {"extract", at("base.iso"), "minimal"},
		"no such file":            {"customize", at("base.iso"), "--keyfile", at("none"), "--to", at("x")},
		"where should the kernel": {"extract", at("base.iso"), "kernel"},
	} {
		runISO("", args...).want(t, exitUsage, want)
	}
	for want, args := range map[string][]string{
		"is no name of a keyfile":  {"customize", at("base.iso"), "--keyfile", at("extra"), "--to", at("x")},
		"a=b;c":                    {"customize", at("base.iso"), "--append-karg", "a=b;c", "--to", at("x")},
		"cannot be deleted":        {"customize", at("base.iso"), "--delete-karg", "quiet", "--to", at("x")},
		"not an ISO 9660 image":    {"show", at("large.ign")},
		"holds no Ignition config": {"extract", at("base.iso"), "ignition"},
		"no network keyfiles":      {"extract", at("base.iso"), "keyfiles"},
		"PLAN-017":                 {"customize", at("none.iso"), "--to", at("x")},
	} {
		runISO("", args...).want(t, exitFailed, want)
	}
	if _, err := os.Stat(at("x")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a refused wish left a file", err)
	}
}

// TestDriveIsNoFile: --force replaces files. Over the name of a drive it would
// leave a file in /dev, and nothing on the drive.
func TestDriveIsNoFile(t *testing.T) {
	at := isoBench(t)
	drive, link := at("sdx"), at("by-id")
	if err := unix.Mkfifo(drive, 0o600); err != nil { // as little a file as a drive, and made by anybody
		t.Fatal(err)
	}
	if err := os.Symlink(drive, link); err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{drive, link} {
		runISO("", "customize", at("base.iso"), "--ignition", at("n.ign"), "--to", to, "--force").want(t, exitUsage, "is no file but a device")
		if info, err := os.Stat(to); err != nil || info.Mode().IsRegular() {
			t.Errorf("%s became %v, %v", to, info, err)
		}
	}
}
