package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// apart is set in a process that has a network namespace of its own.
const apart = "METALRISE_TEST_APART"

// nowhere runs the calling test once more in a network namespace that has nothing
// but lo, and reports whether that is where we are. Parts of the lab that have to
// be fetched are made before.
func nowhere(t *testing.T) bool {
	t.Helper()
	if os.Getenv(apart) != "" {
		if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		b, err := os.ReadFile("/proc/self/net/dev")
		if lines := strings.Split(strings.TrimSpace(string(b)), "\n"); err != nil || len(lines) != 3 || !strings.HasPrefix(strings.TrimSpace(lines[2]), "lo:") {
			t.Fatalf("the namespace has more than lo: %s %v", b, err)
		}
		return true
	}
	r := builtRack(t, "")
	r.must("lab", "payload")
	again := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=20m")
	again.Env = append(os.Environ(), apart+"=1")
	again.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGTERM}
	out, err := again.CombinedOutput()
	t.Logf("without a network: %v\n%s", err, out)
	if err != nil {
		t.Fail()
	}
	return false
}

// TestRealBundle installs a single node with a cluster from a bundle alone, in a
// network namespace that has no other network. Container images go through what a
// bundle does to them: taken apart into an OCI layout, and made into archives again.
func TestRealBundle(t *testing.T) {
	if !nowhere(t) {
		return
	}
	r := newRack(t, "realbundle", 1, "--kubernetes")
	bundle, store := filepath.Join(t.TempDir(), "rack.bundle"), filepath.Join(t.TempDir(), "store")
	begin := time.Now()
	var made bundleShown
	if err := json.Unmarshal([]byte(r.must("bundle", "create", "--to", bundle, "--output", "json")), &made); err != nil {
		t.Fatal(err)
	}
	t.Logf("made a bundle of %s with %d container images after %s", bytesText(made.Bytes), len(made.Images), time.Since(begin).Round(time.Second))
	begin = time.Now()
	r.must("bundle", "use", bundle, "--signer", made.Fingerprint, "--store", store)
	t.Logf("used it after %s", time.Since(begin).Round(time.Second))
	if err := os.Remove(bundle); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(r.site)
	if err != nil || strings.Count(string(text), store+"/") != 2 {
		t.Fatalf("the site does not name the store:\n%s", text)
	}
	r.planned(1)
	begin = time.Now()
	r.must("apply", "--erase-disks", "1")
	t.Logf("a single node from a bundle: ready after %s", time.Since(begin).Round(time.Second))
	if !allReady(r.overview()) {
		t.Fatalf("%+v", r.overview())
	}
	r.ready(1)
	r.servesWorkload(2)
}
