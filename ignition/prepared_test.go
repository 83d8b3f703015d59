package ignition

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"metalrise.dev/fleet"
)

func testMedium(program string) Medium {
	sum := sha256.Sum256([]byte(program))
	return Medium{
		Build: "00112233445566778899aabbccddeeff", Offset: 2048, ProgramAt: 4096,
		Program: Artefact{SHA256: hex.EncodeToString(sum[:]), Bytes: int64(len(program))}, Description: "{}\n",
	}
}

func TestPreparedLive(t *testing.T) {
	m := testMedium("program")
	raw, err := PreparedLive(m, fleet.Access{SSHKeys: nil}, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{preparedUnit, AgentService, MediumPath} {
		if !strings.Contains(string(raw), want) {
			t.Errorf("the config has no %s", want)
		}
	}
	if strings.Contains(string(raw), "/dev/disk") || strings.Contains(string(raw), "\"disks\"") {
		t.Error("the live config touches disks")
	}
	for name, change := range map[string]func(*Medium){
		"build":   func(m *Medium) { m.Build = "x'; reboot; '" },
		"offset":  func(m *Medium) { m.Offset = 7 },
		"program": func(m *Medium) { m.ProgramAt = 0 },
		"digest":  func(m *Medium) { m.Program.SHA256 = "0" },
		"size":    func(m *Medium) { m.Program.Bytes = 0 },
		"text":    func(m *Medium) { m.Description = "" },
	} {
		bad := m
		change(&bad)
		if _, err := PreparedLive(bad, fleet.Access{}, ""); fleet.CodeOf(err) != fleet.CodeSiteInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestPreparedScript runs the real script on a file in place of the medium: a
// damaged program is never run.
func TestPreparedScript(t *testing.T) {
	dir := t.TempDir()
	program := "#!/bin/sh\necho ran with \"$@\"\n"
	m := testMedium(program)
	script := preparedScript(m)
	medium, target := filepath.Join(dir, "medium"), filepath.Join(dir, "metalrise")
	for from, to := range map[string]string{CarriedCopy: medium, "/usr/local/bin/metalrise'": target + "'", "sleep 5": "exit 9", "restorecon": "true"} {
		if !strings.Contains(script, from) {
			t.Fatalf("the script has no %q:\n%s", from, script)
		}
		script = strings.ReplaceAll(script, from, to)
	}
	run := func(content string) (string, error) {
		b := make([]byte, 4096)
		copy(b, "metalrise "+m.Build)
		if err := os.WriteFile(medium, append(b, content...), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("/bin/sh", "-c", script).CombinedOutput()
		return string(out), err
	}
	if out, err := run(strings.Replace(program, "ran", "bad", 1)); err == nil || strings.Contains(out, "bad") || !strings.Contains(out, "is not here") {
		t.Errorf("a damaged program: %q, %v", out, err)
	}
	if out, err := run(program + "more of the medium"); err != nil || out != "ran with prepared\n" {
		t.Errorf("%q, %v", out, err)
	}
	if out, err := run("gone"); err != nil || out != "ran with prepared\n" {
		t.Errorf("the program is there already, and then: %q, %v", out, err)
	}
}
