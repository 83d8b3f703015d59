package ignition

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// The script runs for real, with real curl against a real TLS server that first
// refuses, then gives rubbish, then the agent.
func TestFetchScript(t *testing.T) {
	agent := []byte("#!/bin/sh\necho agent\n")
	var calls atomic.Int32
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch calls.Add(1) {
		case 1:
			http.Error(w, "not yet", http.StatusServiceUnavailable)
		case 2:
			w.Write(bytes.Repeat([]byte("x"), len(agent)))
		case 3:
			http.Redirect(w, r, "https://elsewhere.invalid/", http.StatusFound)
		case 4:
			w.Write(append(agent, '!'))
		default:
			w.Write(agent)
		}
	}))
	defer srv.Close()
	run, target := script(t, srv, agent)

	out, err := run(t.Context())
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	got, err := os.ReadFile(target)
	if err != nil || !bytes.Equal(got, agent) || calls.Load() != 5 {
		t.Errorf("after %d calls: %q, %v\n%s", calls.Load(), got, err, out)
	}
	if info, err := os.Stat(target); err != nil || info.Mode() != 0o755 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	for _, part := range []string{"503", "does not have the digest"} {
		if !strings.Contains(out, part) {
			t.Errorf("the output does not say %q:\n%s", part, out)
		}
	}
	if out, err := run(t.Context()); err != nil || calls.Load() != 5 {
		t.Errorf("a second run fetched again: %v\n%s", err, out)
	}
	// Damaged on the disk: fetched again.
	if err := os.WriteFile(target, []byte("half"), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := run(t.Context()); err != nil || calls.Load() != 6 {
		t.Errorf("a damaged agent stayed: %v\n%s", err, out)
	}
}

// A server with another authority gets no request, and the script goes on trying.
func TestFetchScriptTrustsOneAuthority(t *testing.T) {
	var calls atomic.Int32
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { calls.Add(1) }))
	srv.Config.ErrorLog = nil
	srv.StartTLS()
	defer srv.Close()
	run, target := script(t, srv, []byte("agent"))
	other, err := os.ReadFile("testdata/in/site-a.pem")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(target), "ca.pem"), other, 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	tries := &countdown{left: 2, done: cancel}
	if _, err := run(ctx, tries); err == nil {
		t.Error("the script ended well")
	}
	if _, err := os.Stat(target); err == nil || calls.Load() != 0 || tries.left > 0 {
		t.Errorf("target: %v, %d calls, %d tries missing", err, calls.Load(), tries.left)
	}
}

// countdown calls done after so many lines about another try.
type countdown struct {
	left int
	done func()
}

func (c *countdown) Write(p []byte) (int, error) {
	c.left -= bytes.Count(p, []byte("again in"))
	if c.left <= 0 {
		c.done()
	}
	return len(p), nil
}

// script prepares a script for srv in a directory of its own, without pauses.
func script(t *testing.T, srv *httptest.Server, agent []byte) (run func(context.Context, ...*countdown) (string, error), target string) {
	t.Helper()
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca.pem")
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	if err := os.WriteFile(ca, certificate, 0o644); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(agent)
	target = filepath.Join(dir, "agent")
	text := fetchScript(fetch{url: srv.URL + "/agent", sha256: hex.EncodeToString(sum[:]), bytes: int64(len(agent)), ca: ca, target: target})
	path := filepath.Join(dir, "fetch")
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return func(ctx context.Context, watch ...*countdown) (string, error) {
		var out bytes.Buffer
		cmd := exec.CommandContext(ctx, path)
		cmd.Stdout, cmd.Stderr = &out, &out
		for _, w := range watch {
			cmd.Stdout, cmd.Stderr = w, w
		}
		err := cmd.Run()
		return out.String(), err
	}, target
}
