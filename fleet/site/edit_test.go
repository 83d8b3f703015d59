package site_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/site"
)

func load(t *testing.T, text string) (*site.File, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "site.yaml")
	if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
	f, findings := site.Load(path)
	if len(findings) > 0 {
		t.Fatal(findings)
	}
	return f, path
}

// TestSetKeepsTheRest changes one field at a time and looks which lines differ.
func TestSetKeepsTheRest(t *testing.T) {
	for _, c := range []struct {
		path  string
		value any
		gone  []string
		added []string
	}{
		{"network.gateway", "198.51.100.9", []string{"  gateway: 198.51.100.1"}, []string{"  gateway: 198.51.100.9"}},
		{"name", "bergen", []string{"name: oslo"}, []string{"name: bergen"}},
		{"cluster.controlPlanes", 3, nil, []string{"cluster:", "  controlPlanes: 3"}},
		{"network.vlan", 7, nil, []string{"  vlan: 7"}},
		{"network.dns[1]", "198.51.100.3", nil, []string{"    - 198.51.100.3"}},
		{"network.dns", nil, []string{"  dns:", "    - 198.51.100.2"}, nil},
		{"bmcs.password", fleet.SecretRef{Env: "PW"}, []string{"    file: bmc-password"}, []string{"    env: PW"}},
		{`bmcs.pins["10.0.9.11:443"]`, strings.Repeat("ab", 32), nil, []string{"  pins:", `    10.0.9.11:443: ` + strings.Repeat("ab", 32)}},
		{"servers[0]", fleet.Override{Serial: "0815", Disk: fleet.DiskRef{WWN: "5000c500a1b2c3d4"}}, nil, []string{"servers:", `  - serial: "0815"`, "    disk:", `      wwn: 5000c500a1b2c3d4`}},
	} {
		t.Run(c.path, func(t *testing.T) {
			f, path := load(t, template(t))
			if err := f.Set(c.path, c.value); err != nil {
				t.Fatal(err)
			}
			if err := f.Write(); err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			compareLines(t, template(t), string(b), c.gone, c.added)
			if again, findings := site.Load(path); again == nil || len(findings) > 0 {
				t.Errorf("written file has faults: %v", findings)
			}
			if info, _ := os.Stat(path); info.Mode().Perm() != 0o640 {
				t.Errorf("mode is %o", info.Mode().Perm())
			}
		})
	}
}

// compareLines checks which lines went and came, and that the others kept their order.
func compareLines(t *testing.T, before, after string, gone, added []string) {
	t.Helper()
	drop := func(text string, lines []string) string {
		for _, l := range lines {
			rest := strings.Replace("\n"+text, "\n"+l+"\n", "\n", 1)
			if rest == "\n"+text {
				t.Errorf("line %q not found in:\n%s", l, text)
			}
			text = rest[1:]
		}
		return text
	}
	squeeze := func(text string) string { return strings.TrimSpace(strings.ReplaceAll(text, "\n\n", "\n")) }
	left, right := drop(before, gone), drop(after, added)
	if squeeze(left) != squeeze(right) {
		t.Errorf("something else changed. Before:\n%s\nAfter:\n%s", left, right)
	}
	if strings.Count(before, "\n\n") > strings.Count(after, "\n\n") {
		t.Errorf("empty lines were lost:\n%s", after)
	}
}

func TestSetRefuses(t *testing.T) {
	for path, value := range map[string]any{
		"network.firstAdress": "10.0.1.21/24", "network.vlan": 5000, "bmcs.password": "hunter2", "network.firstAddress": nil,
		"servers[1].role": "worker", "name.first": "a", "": 1, "a..b": 1, "servers[x]": 1, "[0]": 1, `bmcs.pins["a`: 1,
		"network.dns[0]x": "1.2.3.4", "name": func() {}, "servers[0].role": "worker", "cluster": []int{1},
	} {
		f, path2 := load(t, template(t))
		before, _ := f.Bytes()
		err := f.Set(path, value)
		if err == nil || fleet.CodeOf(err) != fleet.CodeSiteInvalid {
			t.Errorf("Set(%q, %v): %v", path, value, err)
			continue
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the secret is shown: %v", err)
		}
		if after, _ := f.Bytes(); string(after) != string(before) {
			t.Errorf("Set(%q) failed and changed the file %s", path, path2)
		}
	}
}

func TestWrite(t *testing.T) {
	f, path := load(t, template(t))
	if err := f.Set("name", "bergen"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(template(t)+"# mine\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var fault *fleet.Fault
	if err := f.Write(); !errors.As(err, &fault) || fault.Kind != fleet.Conflict {
		t.Errorf("another's change was overwritten: %v", err)
	}
	other := filepath.Join(filepath.Dir(path), "new.yaml")
	if err := f.WriteTo(other); err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Stat(other); info.Mode().Perm() != 0o600 {
		t.Errorf("a new file has mode %o", info.Mode().Perm())
	}
	link := filepath.Join(filepath.Dir(path), "link.yaml")
	if err := os.Symlink(other, link); err != nil {
		t.Fatal(err)
	}
	l, _ := site.Load(link)
	if err := errors.Join(l.Set("name", "a"), l.Write(), l.Set("name", "b"), l.Write()); err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Lstat(link); info.Mode()&os.ModeSymlink == 0 {
		t.Error("the link became a file")
	}
	if b, _ := os.ReadFile(other); !strings.Contains(string(b), "name: b\n") {
		t.Error("the file behind the link was not written")
	}
	left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".*"))
	if len(left) > 0 {
		t.Errorf("temporary files are left: %v", left)
	}
	if err := f.WriteTo(filepath.Join(path, "below-a-file")); err == nil {
		t.Error("a file below a file was written")
	}
	if err := read(t, template(t)).Write(); err == nil {
		t.Error("a site from no file was written somewhere")
	}
}

func TestResolveSecret(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string, mode os.FileMode) fleet.SecretRef {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return fleet.SecretRef{File: p}
	}
	t.Setenv("MR_TEST_SECRET", "from env")
	t.Setenv("MR_TEST_EMPTY", "")
	for _, c := range []struct {
		ref  fleet.SecretRef
		want string // "" means refused
	}{
		{put("plain", "hunter2", 0o600), "hunter2"},
		{put("unix", "hunter2\n", 0o600), "hunter2"},
		{put("dos", "hunter2\r\n", 0o600), "hunter2"},
		{put("spaces", " hunter2 ", 0o600), " hunter2 "},
		{put("two", "hunter2\nhunter2\n", 0o600), ""},
		{put("empty", "\n", 0o600), ""},
		{put("nul", "hunter2\x00", 0o600), ""},
		{put("long", strings.Repeat("hunter2", 1000), 0o600), ""},
		{fleet.SecretRef{File: dir}, ""},
		{fleet.SecretRef{File: filepath.Join(dir, "none")}, ""},
		{fleet.SecretRef{File: "/dev/zero"}, ""},
		{fleet.SecretRef{Env: "MR_TEST_SECRET"}, "from env"},
		{fleet.SecretRef{Env: "MR_TEST_EMPTY"}, ""},
		{fleet.SecretRef{Env: "MR_TEST_NONE"}, ""},
		{fleet.SecretRef{}, ""},
		{fleet.SecretRef{File: "a", Env: "b"}, ""},
	} {
		got, err := site.ResolveSecret(c.ref)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: %q, %v", c.ref, got, err)
		}
		if err != nil && (strings.Contains(err.Error(), "hunter2") || fleet.CodeOf(err) != fleet.CodeSecretUnreadable) {
			t.Errorf("%s: error %v", c.ref, err)
		}
	}
}

func TestCheckSecrets(t *testing.T) {
	f, path := load(t, template(t))
	secret := filepath.Join(filepath.Dir(path), "bmc-password")
	if got := f.CheckSecrets(); len(got) != 1 || got[0].Severity != fleet.Blocker {
		t.Errorf("missing file: %+v", got)
	}
	if err := os.WriteFile(secret, []byte("hunter2\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := f.CheckSecrets(); len(got) != 1 || got[0].Severity != fleet.Warning || strings.Contains(got[0].Text, "hunter2") {
		t.Errorf("open file: %+v", got)
	}
	if err := os.Chmod(secret, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := f.CheckSecrets(); len(got) != 0 {
		t.Errorf("good file: %+v", got)
	}
}

func TestMistypedPasswordIsNotShown(t *testing.T) {
	for _, value := range []string{"hunter2", "*hunter2", "&hunter2", "!hunter2", "[hunter2]", "'hunter2", "@hunter2", "%hunter2", "{hunter2}", "|\n hunter2"} {
		text := strings.Replace(template(t), "password:\n    file: bmc-password", "password: "+value, 1)
		_, findings := site.Read(strings.NewReader(text), "s")
		if len(findings) == 0 {
			t.Errorf("%q was accepted", value)
		}
		for _, f := range findings {
			if strings.Contains(f.Text+f.Path+f.Remedy, "hunter2") {
				t.Errorf("%q is shown: %+v", value, f)
			}
		}
	}
}
