package provision_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"metalrise.dev/fleet"
	"metalrise.dev/provision"
	"metalrise.dev/provision/store"
)

// street answers at every hundredth address.
type street struct {
	mu    sync.Mutex
	asked map[string]int
	stop  func()
	after int
}

func (s *street) Probe(_ context.Context, address string) fleet.Found {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked[address]++
	if len(s.asked) == s.after {
		s.stop()
	}
	f := fleet.Found{What: "no answer"}
	if address[len(address)-2:] == "50" {
		f.What = "ipmi only"
	}
	if address[len(address)-2:] == "00" {
		f.What, f.Fingerprint = provision.WhatRedfish, "f-"+address
	}
	return f
}

func (s *street) Inspect(context.Context, fleet.Endpoint) (provision.Behind, error) {
	return provision.Behind{}, errors.New("a discovery logs in")
}

// An interrupted sweep goes on where it ended, also in another process, and
// asks everything once but for the few that were being asked.
func TestDiscoveryResumes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	var addresses []string
	for i := range 8000 {
		addresses = append(addresses, fmt.Sprintf("bmc%04d", i))
	}
	s := &street{asked: map[string]int{}, after: 5000}
	skipped := -1
	var others map[string]fleet.Found
	pass := func(list []string) error {
		st, err := store.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		s.stop = cancel
		d := provision.Discovery{Surveyor: s, Keeper: st, Marks: st, Resume: true, Skipped: func(n int, o map[string]fleet.Found) { skipped, others = n, o }}
		_, err = d.Run(ctx, list, func(fleet.Found) {})
		return err
	}
	if err := pass(addresses); !errors.Is(err, context.Canceled) || skipped != 0 {
		t.Fatalf("%v, skipped %d", err, skipped)
	}
	if err := pass(addresses); err != nil {
		t.Fatal(err)
	}
	// Up to 512 more were on their way when the sweep was stopped at 5000.
	if len(others) < 40 || len(others) > 56 || others["bmc0150"].What != "ipmi only" {
		t.Errorf("%d others are remembered", len(others))
	}
	if skipped < 4000 || skipped > 5000+512 {
		t.Errorf("the second pass skipped %d", skipped)
	}
	again := 0
	for _, a := range addresses {
		if s.asked[a] == 0 {
			t.Fatalf("%s was never asked", a)
		}
		again += s.asked[a] - 1
	}
	if again > 512 {
		t.Errorf("%d addresses were asked again", again)
	}
	st, err := store.OpenReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	if found, err := st.Found(t.Context()); err != nil || len(found) != 80 {
		t.Errorf("%d found, %v", len(found), err)
	}
	// A finished sweep begins anew, and so does one of other addresses.
	for _, list := range [][]string{addresses[:10], addresses} {
		if err := pass(list); err != nil || skipped != 0 || len(others) != 0 {
			t.Errorf("%v, skipped %d, %d others", err, skipped, len(others))
		}
	}
}
