package main

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"metalrise.dev/fleet"
	"metalrise.dev/provision/api"
	"metalrise.dev/provision/store"
)

// idleEngine holds a site's state until it is told to stop.
type idleEngine struct {
	api.Engine // what is not asked here
	quiet      bool
	state      *store.Store
	end        context.CancelFunc
	stopped    bool
}

func (e *idleEngine) Overview() fleet.Overview {
	return fleet.Overview{Site: "osaka", Plan: "4be1c9d2a7f04be1c9d2a7f0", Quiet: e.quiet}
}

// Stop ends it a little later, as a real one does.
func (e *idleEngine) Stop() {
	e.stopped = true
	time.AfterFunc(200*time.Millisecond, func() {
		_ = e.state.Close()
		e.end()
	})
}

// TestFreeStateStopsOnlyAnIdleEngine: the state is free after an engine without
// work was stopped; one that moves a server stays, and says why.
func TestFreeStateStopsOnlyAnIdleEngine(t *testing.T) {
	for _, quiet := range []bool{true, false} {
		dir := filepath.Join(t.TempDir(), "state")
		d := newClerk(&options{state: dir})
		client := api.NewClient(dir)
		if err := d.freeState(t.Context(), client, "osaka"); err != nil {
			t.Fatalf("without an engine: %v", err)
		}
		st, err := d.o.writer("osaka")
		if err != nil {
			t.Fatal(err)
		}
		ctx, end := context.WithCancel(t.Context())
		e := &idleEngine{quiet: quiet, state: st, end: end}
		served := make(chan error, 1)
		go func() { served <- api.Serve(ctx, dir, e, nil) }()
		for {
			if _, err := client.Overview(ctx); !errors.Is(err, api.ErrNoEngine) {
				break
			}
			time.Sleep(time.Millisecond)
		}
		err = d.freeState(t.Context(), client, "osaka")
		if quiet {
			if err != nil || !e.stopped {
				t.Fatalf("an idle engine: %v, stopped %v", err, e.stopped)
			}
			again, err := d.o.writer("osaka")
			if err != nil {
				t.Fatalf("the state is not free: %v", err)
			}
			if err := again.Close(); err != nil {
				t.Error(err)
			}
		} else {
			if fleet.CodeOf(err) != fleet.CodeSiteLocked || e.stopped {
				t.Errorf("an engine at work: %v, stopped %v", err, e.stopped)
			}
			if err := st.Close(); err != nil {
				t.Error(err)
			}
		}
		end()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}
}
