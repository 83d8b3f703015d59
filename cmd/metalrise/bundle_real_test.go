package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestRealBundle installs a single node with a cluster from a bundle alone. A
// lab's machines have no way to any network but the lab's, so what they get they get
// from the bundle. Container images go through what a bundle does to them: taken apart
// into an OCI layout, and made into archives again.
func TestRealBundle(t *testing.T) {
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
