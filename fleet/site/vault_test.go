package site_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/site"
)

func TestVault(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "vault.age")
	key := site.VaultKey{Identity: filepath.Join(dir, "key")}
	v, err := site.NewVault(path, key)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(v.Set("bmc", "hunter22"), v.Set("other", "x"), v.Save()); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{path, key.Identity} {
		if info, err := os.Stat(p); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", p, info.Mode(), err)
		}
	}
	b, _ := os.ReadFile(path)
	if strings.Contains(string(b), "hunter22") || strings.Contains(string(b), "bmc") {
		t.Error("the vault is not encrypted")
	}
	v, err = site.OpenVault(path, key)
	if err != nil || !slices.Equal(v.Names(), []string{"bmc", "other"}) {
		t.Fatalf("%v, %v", v.Names(), err)
	}
	if !v.Remove("other") || v.Remove("other") {
		t.Error("remove")
	}
	if err := v.Save(); err != nil {
		t.Fatal(err)
	}
	t.Setenv(site.VaultIdentityEnv, key.Identity)
	got, err := site.ResolveSecret(fleet.SecretRef{Vault: path + "#bmc"})
	if err != nil || got != "hunter22" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := site.ResolveSecret(fleet.SecretRef{Vault: path + "#other"}); fleet.CodeOf(err) != fleet.CodeSecretUnreadable {
		t.Errorf("%v", err)
	}
	if _, err := site.NewVault(path, key); err == nil {
		t.Error("a vault was overwritten")
	}
	// Another key, damage, and what is no vault.
	other := site.VaultKey{Identity: filepath.Join(dir, "key2")}
	if _, err := site.NewVault(filepath.Join(dir, "v2"), other); err != nil {
		t.Fatal(err)
	}
	if _, err := site.OpenVault(path, other); fleet.CodeOf(err) != fleet.CodeSecretUnreadable {
		t.Errorf("another key: %v", err)
	}
	b[len(b)-1] ^= 1
	for name, text := range map[string][]byte{"damaged": b, "cut": b[:len(b)/2], "none": []byte("hello")} {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := site.OpenVault(p, key); fleet.CodeOf(err) != fleet.CodeSecretUnreadable || strings.Contains(fmt.Sprint(err), "AGE-SECRET") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if text := fmt.Sprintf("%v %+v %#v", site.VaultKey{Passphrase: "hunter22"}, site.VaultKey{Passphrase: "hunter22"}, site.VaultKey{Passphrase: "hunter22"}); strings.Contains(text, "hunter22") {
		t.Error(text)
	}
}

// A person is asked once, however many BMCs need the answer.
func TestPromptsAreAskedOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vault.age")
	v, err := site.NewVault(path, site.VaultKey{Passphrase: "open sesame"})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(v.Set("bmc", "hunter22"), v.Save()); err != nil {
		t.Fatal(err)
	}
	var asked []string
	s := &site.Secrets{Ask: func(q string) (string, error) {
		asked = append(asked, q)
		if strings.HasPrefix(q, "passphrase of ") {
			return "open sesame", nil
		}
		return "typed", nil
	}}
	done := make(chan struct{})
	for range 4 {
		go func() {
			defer func() { done <- struct{}{} }()
			a, err := s.Resolve(fleet.SecretRef{Prompt: "password"})
			b, err2 := s.Resolve(fleet.SecretRef{Vault: path + "#bmc"})
			if a != "typed" || b != "hunter22" || err != nil || err2 != nil {
				t.Errorf("%q %q %v %v", a, b, err, err2)
			}
		}()
	}
	for range 4 {
		<-done
	}
	if len(asked) != 2 {
		t.Errorf("asked %q", asked)
	}
	if _, err := s.Resolve(fleet.SecretRef{Prompt: "a", Env: "B"}); fleet.CodeOf(err) != fleet.CodeSecretUnreadable {
		t.Errorf("two places: %v", err)
	}
}

func TestLogins(t *testing.T) {
	base := template(t)
	for name, c := range map[string]struct {
		text string
		ok   bool
	}{
		"list only":          {"  credentials:\n    - {username: a, password: {env: A}}\n", true},
		"import only":        {"  import: rack.csv\n", true},
		"neither":            {"", false},
		"name alone":         {"  username: a\n  credentials:\n    - {username: b, password: {env: B}}\n", false},
		"entry without name": {"  credentials:\n    - {password: {env: A}}\n", false},
	} {
		i, j := strings.Index(base, "bmcs:\n"), strings.Index(base, "# The servers' network")
		text := base[:i] + "bmcs:\n  addresses: [192.0.2.11]\n" + c.text + base[j:]
		_, findings := site.Read(strings.NewReader(text), "s")
		if (len(findings) == 0) != c.ok {
			t.Errorf("%s: %+v", name, findings)
		}
	}
	b := fleet.BMCs{Username: "a", LegacyTLS: []string{"10.0.9.14", "10.0.9.20-21:8443"}, Credentials: []fleet.Credential{{Username: "b"}}}
	if l := b.Logins(); len(l) != 2 || l[0].Username != "a" || l[1].Username != "b" {
		t.Errorf("%+v", l)
	}
	for a, want := range map[string]bool{"10.0.9.14:443": true, "10.0.9.15:443": false, "10.0.9.21:8443": true, "10.0.9.21:443": false} {
		if b.AllowsLegacyTLS(a) != want {
			t.Errorf("%s: %v", a, !want)
		}
	}
}
