package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"metalrise.dev/fleet"
	"metalrise.dev/provision"
	"metalrise.dev/provision/api"
)

const siteWithoutRelease = `apiVersion: metalrise.dev/v1alpha1
kind: Site
name: oslo
bmcs:
  addresses: [127.99.99.99]
  username: admin
  password: {env: BMC_PASSWORD}
network:
  firstAddress: 10.0.1.21/24
serving: {address: 127.0.0.1}
image: /nowhere/of/metalrise
`

// TestEngineWithoutRelease starts an engine whose site has lost the folder of its
// release, and stops it by the command.
func TestEngineWithoutRelease(t *testing.T) {
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "site.yaml")
	if err := os.WriteFile(file, []byte(siteWithoutRelease), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithTimeout(t.Context(), time.Minute)
	defer end()
	var said bytes.Buffer
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"engine", "-f", file, "--state", dir, "--stay"}, strings.NewReader(""), &said, &said)
	}()
	for {
		if _, err := api.NewClient(dir).Overview(ctx); err == nil {
			break
		}
		select {
		case code := <-ended:
			t.Fatalf("the engine ended with %d:\n%s", code, said.String())
		case <-time.After(50 * time.Millisecond):
		}
	}
	var out, errs bytes.Buffer
	if code := run(ctx, []string{"stop", "-f", file, "--state", dir}, strings.NewReader(""), &out, &errs); code != exitOK {
		t.Errorf("stop: %d, %s", code, errs.String())
	}
	if code := <-ended; code != exitOK || !strings.Contains(said.String(), "nothing can be installed") {
		t.Errorf("the engine ended with %d:\n%s", code, said.String())
	}
}

// TestServesNothingWithoutRelease: what the release has is refused with its fault.
func TestServesNothingWithoutRelease(t *testing.T) {
	l := &library{missing: fleet.NewFault(fleet.CodeImageMissing, fleet.Invalid, nil, "no such folder")}
	if _, err := l.netArtefact(provision.Resource{Name: provision.NetKernel}); fleet.CodeOf(err) != fleet.CodeImageMissing {
		t.Errorf("a kernel: %v", err)
	}
	if n := l.Bytes(fleet.FullMedium); n != 0 {
		t.Errorf("a medium of %d bytes", n)
	}
}
