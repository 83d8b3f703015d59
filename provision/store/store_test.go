package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"metalrise.dev/fleet"
)

func TestAppendNumbersWithoutGapsAndSurvivesReopen(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() {
			for range 5 {
				if _, err := s.Append(t.Context(), fleet.Event{Server: "A", Action: fleet.ActHello, Edge: fleet.Ended}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := OpenReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	events, err := r.Events(t.Context(), 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	if len(events) != 200 {
		t.Fatalf("%d events, want 200", len(events))
	}
	for i, e := range events {
		if e.Seq != int64(i+1) {
			t.Fatalf("event %d has sequence number %d", i, e.Seq)
		}
	}
	if _, err := r.Append(t.Context(), fleet.Event{}); err == nil {
		t.Error("a reader could append")
	}
}

func TestSecondWriterIsRefusedReadersAreNot(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); fleet.CodeOf(err) != fleet.CodeSiteLocked {
		t.Errorf("second writer: %v, want code %s", err, fleet.CodeSiteLocked)
	}
	if err := s.Put(t.Context(), "server", "A", fleet.Server{ID: "A"}); err != nil {
		t.Fatal(err)
	}
	r, err := OpenReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	all, err := All[fleet.Server](t.Context(), r, "server")
	if err != nil || all["A"].ID != "A" {
		t.Errorf("reader sees %v, %v", all, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, err = Open(dir)
	if err != nil {
		t.Fatalf("after close: %v", err)
	}
	_ = s.Close()
}

func TestReaderWithoutStateSaysNotExist(t *testing.T) {
	if _, err := OpenReader(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want fs.ErrNotExist", err)
	}
}

// TestReaderOfAStateThatIsBeingMade finds the file before the tables are in it.
func TestReaderOfAStateThatIsBeingMade(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "state.db"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenReader(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an empty file: %v, want fs.ErrNotExist", err)
	}
	s, err := open(dir, "rwc")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.db.Exec(schema); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenReader(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without the mark: %v, want fs.ErrNotExist", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	w, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	r, err := OpenReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	_ = r.Close()
}

func TestSecretIsKeptAndPrivate(t *testing.T) {
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	a, err := s.Secret("tokens")
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.Secret("tokens")
	if err != nil || string(a) != string(b) || len(a) != 32 {
		t.Errorf("second read differs: %v", err)
	}
	info, err := os.Stat(s.Dir() + "/secrets/tokens")
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, err := s.Secret("../x"); err == nil {
		t.Error("a path was taken as a name")
	}
}

func TestChangedTellsCommits(t *testing.T) {
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c := s.Changed()
	if _, err := s.Append(t.Context(), fleet.Event{}); err != nil {
		t.Fatal(err)
	}
	<-c
}

func BenchmarkAppend(b *testing.B) {
	for name, parallel := range map[string]int{"one": 1, "thousand": 500} {
		b.Run(name, func(b *testing.B) {
			s, err := Open(b.TempDir())
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			b.SetParallelism(parallel)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := s.Append(b.Context(), fleet.Event{Server: "A", Action: fleet.ActInsert, Edge: fleet.Began}); err != nil {
						b.Error(err)
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// TestDurability holds the settings on which every promise of resuming rests.
func TestDurability(t *testing.T) {
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var mode string
	var sync int
	if err := s.db.QueryRow("PRAGMA journal_mode").Scan(&mode); err != nil || mode != "wal" {
		t.Errorf("journal mode %q, %v, want wal", mode, err)
	}
	if err := s.db.QueryRow("PRAGMA synchronous").Scan(&sync); err != nil || sync != 2 {
		t.Errorf("synchronous %d, %v, want 2 (full)", sync, err)
	}
	if err := s.Put(t.Context(), "x", "y", 1); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"state.db", "state.db-wal", "lock"} {
		if info, err := os.Stat(s.Dir() + "/" + name); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v: others can read it", name, info.Mode(), err)
		}
	}
}

func TestFailedCommitIsToldToItsCallers(t *testing.T) {
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.db.Exec("DROP TABLE events"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Append(t.Context(), fleet.Event{}); fleet.CodeOf(err) != fleet.CodeStoreFailed {
		t.Errorf("append without a table: %v, want %s", err, fleet.CodeStoreFailed)
	}
}

func TestNewerStateIsRefused(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.db.Exec("PRAGMA user_version = 99"); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); err == nil {
		t.Error("the state of a newer metalrise was opened")
	}
}

func TestLastConsent(t *testing.T) {
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	want := func(plan string) {
		t.Helper()
		if got, _, err := s.LastConsent(t.Context()); err != nil || got != plan {
			t.Errorf("%q, %v, want %q", got, err, plan)
		}
	}
	add := func(a fleet.Action, plan string) {
		t.Helper()
		if _, err := s.Append(t.Context(), fleet.Event{Action: a, Plan: plan}); err != nil {
			t.Fatal(err)
		}
	}
	want("")
	add(fleet.ActConsent, "A")
	add(fleet.ActPlan, "B")
	want("A")
	add(fleet.ActConsent, "B")
	want("B")
	add(fleet.ActWithdraw, "B")
	want("")
}

// TestServersAreKeptByPlace: two servers with one serial are two, and a BMC that
// shows another server now does not show the old one any more.
func TestServersAreKeptByPlace(t *testing.T) {
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	keep := func(address string, ids ...fleet.ServerID) {
		t.Helper()
		var servers []fleet.Server
		for i, id := range ids {
			servers = append(servers, fleet.Server{ID: id, BMC: fleet.Endpoint{Address: address, SystemURI: "/redfish/v1/Systems/" + string(rune('a'+i))}})
		}
		if err := s.KeepServers(t.Context(), address, servers, make([]fleet.Facts, len(ids))); err != nil {
			t.Fatal(err)
		}
	}
	want := func(n int) {
		t.Helper()
		servers, err := s.Servers(t.Context())
		if err != nil || len(servers) != n {
			t.Errorf("%d servers, %v, want %d", len(servers), err, n)
		}
		if facts, err := s.Facts(t.Context()); err != nil || len(facts) != n {
			t.Errorf("%d facts, %v, want %d", len(facts), err, n)
		}
	}
	keep("10.0.0.1:443", "SAME")
	keep("10.0.0.2:443", "SAME")
	want(2)
	keep("10.0.0.11:443", "X", "Y")
	keep("10.0.0.1:4430", "Z")
	want(5)
	keep("10.0.0.1:443", "OTHER")
	want(5)
	keep("10.0.0.11:443")
	want(3)
}
