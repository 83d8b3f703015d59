package store

import (
	"errors"
	"io/fs"
	"os"
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
