package nodeimage

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestIgnitionVersionIsTheProducts(t *testing.T) {
	for _, path := range []string{"../../go.mod", "files/ignition/go.mod.txt"} {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if want := ignitionModule + " v" + ignitionVersion + "\n"; !strings.Contains(string(data), want) {
			t.Errorf("%s does not require %q", path, want)
		}
	}
}

// The real program, from the real module, applies a config to a bare directory.
func TestIgnitionBinaryRuns(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("skipped: needs root")
	}
	cache := os.Getenv("METALRISE_CACHE")
	if cache == "" {
		cache = t.TempDir()
	}
	binary, err := IgnitionBinary(t.Context(), cache, func(s string) { t.Log(s) })
	if err != nil {
		t.Fatal(err)
	}
	root, etc := t.TempDir(), t.TempDir()
	config := `{"ignition":{"version":"3.4.0"},"storage":{"files":[{"path":"/etc/greeting","contents":{"source":"data:,hello"}}]}}`
	write := func(path, text string) string {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write(filepath.Join(etc, "user.ign"), config)
	cmdline := write(filepath.Join(etc, "cmdline"), "ignition.firstboot ignition.platform.id=metal")
	for _, stage := range []string{"fetch-offline", "files"} {
		cmd := exec.Command(binary, "--platform", "metal", "--stage", stage, "--root", root, "--log-to-stdout",
			"--config-cache", filepath.Join(etc, "cache.json"), "--neednet", filepath.Join(etc, "neednet"))
		cmd.Env = append(os.Environ(), "IGNITION_SYSTEM_CONFIG_DIR="+etc, "IGNITION_KERNEL_CMDLINE_PATH="+cmdline)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", stage, err, out)
		}
	}
	got, err := os.ReadFile(filepath.Join(root, "etc/greeting"))
	if err != nil || string(got) != "hello" {
		t.Errorf("greeting = %q, %v", got, err)
	}
}
