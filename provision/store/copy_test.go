package store

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"metalrise.dev/fleet"
)

// TestCopyTo copies a state that somebody has open for writing, by a reader, and
// a second time over the first.
func TestCopyTo(t *testing.T) {
	dir, to := t.TempDir(), filepath.Join(t.TempDir(), "copy")
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	secret, err := s.Secret("tokens")
	if err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 2; n++ {
		if _, err := s.Append(t.Context(), fleet.Event{At: time.Now(), Server: "SN1", Plan: "p", Action: fleet.ActStage, Edge: fleet.Ended, Outcome: fleet.OK}); err != nil {
			t.Fatal(err)
		}
		r, err := OpenReader(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.CopyTo(t.Context(), to); err != nil {
			t.Fatal(err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		c, err := Open(to)
		if err != nil {
			t.Fatal(err)
		}
		events, err := c.Events(t.Context(), 0, 10)
		same, secretErr := c.Secret("tokens")
		if err != nil || secretErr != nil || len(events) != n || string(same) != string(secret) {
			t.Errorf("copy %d: %d events, same secret %v, %v %v", n, len(events), string(same) == string(secret), err, secretErr)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"state.db", "secrets/tokens"} {
			info, err := os.Stat(filepath.Join(to, name))
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v %v", name, info.Mode(), err)
			}
		}
	}
}
