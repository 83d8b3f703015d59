package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"metalrise.dev/fleet"
	"metalrise.dev/tui"
)

func newTestClerk(t *testing.T) (*clerk, string) {
	t.Helper()
	dir := t.TempDir()
	var out bytes.Buffer
	return newClerk(&options{streams: &streams{in: &out, out: &out, errs: &out}, file: filepath.Join(dir, "site.yaml"), state: filepath.Join(dir, "state")}), dir
}

func TestClerkWritesEachFieldAtOnce(t *testing.T) {
	c, dir := newTestClerk(t)
	ctx := t.Context()
	s, err := c.Load(ctx)
	if err != nil || s.Exists {
		t.Fatalf("%+v %v", s, err)
	}
	if s, err = c.Create(ctx, "osaka"); err != nil || !s.Exists || s.Typed.Network.Gateway != "" {
		t.Fatalf("%+v %v", s, err)
	}
	if _, err := c.Create(ctx, "kyoto"); err == nil {
		t.Error("a site file was overwritten")
	}
	if _, err = c.Set(ctx, "network.firstAddress", "10.0.1.21/24"); err != nil {
		t.Fatal(err)
	}
	if s, err = c.Set(ctx, "network.vlan", 9999); fleet.CodeOf(err) != fleet.CodeSiteInvalid || s.Typed.Network.VLAN != 0 {
		t.Fatalf("vlan 9999: %v, %+v", err, s.Typed.Network)
	}
	s, err = c.Override(ctx, "SN1", "role", "worker")
	if err != nil || len(s.Typed.Servers) != 1 || s.Typed.Servers[0].Serial != "SN1" {
		t.Fatalf("%+v %v", s.Typed.Servers, err)
	}
	s, err = c.Override(ctx, "SN1", "role", nil)
	if err != nil || s.Typed.Servers[0].Role != "" {
		t.Fatalf("%+v %v", s.Typed.Servers, err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "site.yaml"))
	if err != nil || !strings.Contains(string(b), "firstAddress: 10.0.1.21/24") || !strings.Contains(string(b), "# The first server's address") {
		t.Fatalf("%v\n%s", err, b)
	}
	again, err := newClerk(c.o).Load(ctx)
	if err != nil || again.Typed.Network.FirstAddress != "10.0.1.21/24" {
		t.Fatalf("%+v %v", again.Typed, err)
	}
}

func TestClerkKeepsPasswordsApart(t *testing.T) {
	c, dir := newTestClerk(t)
	if _, err := c.Create(t.Context(), "osaka"); err != nil {
		t.Fatal(err)
	}
	s, err := c.Password(t.Context(), "file-is-no-prefix")
	if err != nil || s.Typed.BMCs.Password != (fleet.SecretRef{File: "osaka-bmc-password"}) {
		t.Fatalf("%+v %v", s.Typed.BMCs, err)
	}
	path := filepath.Join(dir, "osaka-bmc-password")
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v %v", info, err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "site.yaml"))
	if err != nil || strings.Contains(string(b), "file-is-no-prefix") {
		t.Fatalf("the password is in the site file: %v", err)
	}
	if s, err = c.Password(t.Context(), "env:BMC_PASSWORD"); err != nil || s.Typed.BMCs.Password != (fleet.SecretRef{Env: "BMC_PASSWORD"}) {
		t.Fatalf("%+v %v", s.Typed.BMCs, err)
	}
}

func TestUnreadableSiteFileIsSaidAndLeftAlone(t *testing.T) {
	c, dir := newTestClerk(t)
	path := filepath.Join(dir, "site.yaml")
	if err := os.WriteFile(path, []byte("\tno yaml: ["), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := c.Load(t.Context())
	if err != nil || s.Exists || s.Unreadable == "" {
		t.Fatalf("%+v %v", s, err)
	}
	a := tui.New(tui.Options{Sheet: &s})
	if text := a.View().Text(); !strings.Contains(text, "move it away") {
		t.Errorf("not said:\n%s", text)
	}
}

func TestSSHKeys(t *testing.T) {
	file := filepath.Join(t.TempDir(), "id.pub")
	if err := os.WriteFile(file, []byte("# mine\nssh-ed25519 AAAA a\n\nssh-rsa BBBB\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	private := file + "-private"
	if err := os.WriteFile(private, []byte("-----BEGIN OPENSSH PRIVATE KEY-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string][]string{
		"ssh-ed25519 AAAA a b":            {"ssh-ed25519 AAAA a b"},
		"ssh-ed25519 AAAA a ssh-rsa BBBB": {"ssh-ed25519 AAAA a", "ssh-rsa BBBB"},
		file:                              {"ssh-ed25519 AAAA a", "ssh-rsa BBBB"},
		private:                           nil,
		"/nowhere":                        nil,
	} {
		got, err := sshKeys(text)
		if !slices.Equal(got, want) || (err == nil) != (want != nil) {
			t.Errorf("%q: %q %v", text, got, err)
		}
	}
}

func TestWithoutTerminalThereAreNoScreens(t *testing.T) {
	for _, args := range [][]string{{}, {"attach"}} {
		var out, errs bytes.Buffer
		code := run(t.Context(), args, &bytes.Buffer{}, &out, &errs)
		if strings.Contains(out.String(), "\x1b") || !strings.Contains(out.String()+errs.String(), "metalrise status") {
			t.Errorf("metalrise %v: exit %d\n%s%s", args, code, out.String(), errs.String())
		}
		if want := map[bool]int{true: exitOK, false: exitUsage}[len(args) == 0]; code != want {
			t.Errorf("metalrise %v: exit %d, want %d", args, code, want)
		}
	}
}

func TestReplayPrintsScreens(t *testing.T) {
	file := filepath.Join(t.TempDir(), "record")
	var text bytes.Buffer
	if _, err := tui.NewRecorder(&text, tui.Options{Language: tui.English}); err != nil {
		t.Fatal(err)
	}
	text.WriteString(`{"at":"2026-03-04T12:00:00Z","done":{"do":"load","sheet":{"path":"site.yaml","revision":1}}}` + "\n")
	if err := os.WriteFile(file, text.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"tui", "--replay", file}, nil, &out, &errs); code != exitOK || !strings.Contains(out.String(), "Site name") {
		t.Errorf("exit %d\n%s%s", code, out.String(), errs.String())
	}
}

// TestEveryFieldOfTheWizardCanBeSaved writes a value into every field that the
// wizard asks for, as it does.
func TestEveryFieldOfTheWizardCanBeSaved(t *testing.T) {
	c, dir := newTestClerk(t)
	if _, err := c.Create(t.Context(), "osaka"); err != nil {
		t.Fatal(err)
	}
	values := map[string]any{
		"bmcs.addresses": []string{"10.0.9.11-12"}, "bmcs.username": "root", "bmcs.port": 8443, "bmcs.legacyTLS": []string{"10.0.9.11"}, "bmcs.slowLinks": []string{"10.0.9.12"}, "serving.medium": "minimal",
		"cluster.controlPlanes": 1, "cluster.domain": "example.org", "cluster.controlPlaneWorkloads": true, "cluster.vip": "10.0.1.20",
		"cluster.vrrp": 20, "cluster.cni": "flannel", "cluster.podCIDR": "10.244.0.0/16", "cluster.serviceCIDR": "10.96.0.0/16", "cluster.software": "software",
		"cluster.flavour": "kubeadm", "network.firstAddress": "10.0.1.21/24", "network.gateway": "10.0.1.1", "network.dns": []string{"10.0.1.2"}, "network.ntp": []string{"10.0.1.3"},
		"network.vlan": 12, "network.mtu": 9000, "network.bond": "active-backup", "disks.minSizeGiB": 100, "disks.media": "ssd", "disks.model": "PM9",
		"virtualization.profile": "passthrough", "virtualization.nested": true, "virtualization.hugepagesGiB": 4, "virtualization.dedicatedCPUs": true,
		"virtualization.reservedCPUs": 2, "virtualization.reservedMemoryMiB": 4096, "virtualization.emulation": true, "image": "release", "serving.address": "10.0.9.2", "serving.port": 8443, "serving.netboot": "eth1",
		"platform.cpuModel": "EPYC", "platform.memoryOvercommit": 120, "platform.none": true, "platform.components": []string{"descheduler"}, "platform.without": []string{"cdi"},
		"platform.skipProofs": []string{"fence"}, "platform.storage.class": "ceph", "platform.storage.shared": true,
		"bmcs.import": nil, "cluster.loadBalancer": nil, "cluster.cniManifests": nil, "access.sshKeys": nil, "access.caCertificates": nil,
	}
	for _, path := range tui.Paths() {
		value, ok := values[path]
		if !ok && path != "bmcs.password" {
			t.Errorf("%s: no value in this test", path)
			continue
		}
		if s, err := c.Set(t.Context(), path, value); err != nil && value != nil {
			t.Errorf("%s = %v: %v", path, value, err)
		} else if value != nil && tui.ValueAt(s.Typed, path) == "" {
			t.Errorf("%s was saved but does not show", path)
		}
	}
	b, err := os.ReadFile(filepath.Join(dir, "site.yaml"))
	if err != nil || !strings.Contains(string(b), "# Where the servers' BMCs answer.") {
		t.Errorf("the comments are gone: %v\n%s", err, b)
	}
}
