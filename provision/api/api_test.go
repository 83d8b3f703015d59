package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"metalrise.dev/fleet"
)

type engine struct {
	mu      sync.Mutex
	applied []fleet.Consent
	stop    context.CancelFunc
}

func (e *engine) Overview() fleet.Overview { return fleet.Overview{Site: "osaka"} }
func (e *engine) Apply(c fleet.Consent) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c.EraseDisks != 5 {
		return fleet.NewFault(fleet.CodeConsentMismatch, fleet.Denied, errors.New("five"), "count")
	}
	e.applied = append(e.applied, c)
	return nil
}
func (e *engine) Retry(context.Context, fleet.ServerID, string) error { return nil }
func (e *engine) RetryBy(_ context.Context, _ fleet.ServerID, _ string, r fleet.BootRoute) error {
	if r != fleet.PXE {
		return fleet.NewFault(fleet.CodeNoVirtualMedia, fleet.Invalid, nil, "no route %s", r)
	}
	return nil
}
func (e *engine) Reinstall(context.Context, fleet.ServerID, string) error { return nil }
func (e *engine) RetryPlatform(_ context.Context, q fleet.PlatformRetry) error {
	if len(q.Waive) != 1 || len(q.Prove) != 1 || q.By != "anna" {
		return fleet.NewFault(fleet.CodePlatformInvalid, fleet.Invalid, nil, "not what was asked: %+v", q)
	}
	return nil
}
func (e *engine) Remove(context.Context, fleet.ServerID, fleet.Removal) error { return nil }
func (e *engine) Withdraw(context.Context, string) error                      { return nil }
func (e *engine) Medium(w http.ResponseWriter, _ *http.Request, id fleet.ServerID) error {
	if id != "SN 1" {
		return fleet.NewFault(fleet.CodeSiteUnknownServer, fleet.Invalid, nil, "no server %s", id)
	}
	_, err := io.WriteString(w, "an ISO")
	return err
}
func (e *engine) Stop() { e.stop() }

type journal struct {
	mu      sync.Mutex
	events  []fleet.Event
	changed chan struct{}
}

func (j *journal) Events(_ context.Context, after int64, limit int) ([]fleet.Event, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]fleet.Event(nil), j.events[after:]...), nil
}

func (j *journal) Changed() <-chan struct{} {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.changed
}

func (j *journal) add(n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for range n {
		j.events = append(j.events, fleet.Event{Seq: int64(len(j.events) + 1), Action: fleet.ActHello})
	}
	close(j.changed)
	j.changed = make(chan struct{})
}

func TestSocket(t *testing.T) {
	dir := t.TempDir()
	ctx, stop := context.WithCancel(t.Context())
	e := &engine{stop: stop}
	j := &journal{changed: make(chan struct{})}
	c := NewClient(dir)
	if _, err := c.Overview(ctx); !errors.Is(err, ErrNoEngine) {
		t.Fatalf("without an engine: %v, want ErrNoEngine", err)
	}
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, dir, e, j) }()
	for {
		o, err := c.Overview(ctx)
		if err == nil {
			if !o.Engine || o.Site != "osaka" {
				t.Errorf("overview %+v", o)
			}
			break
		}
		time.Sleep(time.Millisecond)
	}
	err := c.Apply(ctx, fleet.Consent{EraseDisks: 4})
	if fleet.CodeOf(err) != fleet.CodeConsentMismatch || fleet.KindOf(err) != fleet.Denied {
		t.Errorf("refusal lost its code or kind: %v", err)
	}
	if err := c.Apply(ctx, fleet.Consent{EraseDisks: 5}); err != nil || len(e.applied) != 1 {
		t.Errorf("apply: %v, %d applied", err, len(e.applied))
	}

	if err := c.RetryBy(ctx, "SN1", "test", fleet.PXE); err != nil {
		t.Errorf("retry by PXE: %v", err)
	}
	if err := c.RetryBy(ctx, "SN1", "test", "floppy"); fleet.CodeOf(err) != fleet.CodeNoVirtualMedia {
		t.Errorf("retry by a route that is none: %v", err)
	}

	q := fleet.PlatformRetry{By: "anna", Waive: []string{"migrate"}, Prove: []fleet.Proof{fleet.ProofStart}}
	if err := c.RetryPlatform(ctx, q); err != nil {
		t.Errorf("retry of the platform: %v", err)
	}
	if err := c.RetryPlatform(ctx, fleet.PlatformRetry{}); fleet.CodeOf(err) != fleet.CodePlatformInvalid {
		t.Errorf("a refused retry of the platform: %v", err)
	}

	j.add(3)
	seen := 0
	errEnough := errors.New("enough")
	err = c.Events(ctx, 0, true, func(ev fleet.Event) error {
		seen++
		if ev.Seq != int64(seen) {
			t.Errorf("event %d out of order as number %d", ev.Seq, seen)
		}
		switch seen {
		case 3:
			j.add(2)
		case 5:
			return errEnough
		}
		return nil
	})
	if !errors.Is(err, errEnough) {
		t.Errorf("follow ended with %v after %d events", err, seen)
	}
	if err := c.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestMediumIsStreamed(t *testing.T) {
	dir := t.TempDir()
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, dir, &engine{stop: stop}, &journal{changed: make(chan struct{})}) }()
	defer func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	c := NewClient(dir)
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := c.Overview(t.Context()); err == nil || time.Now().After(end) {
			break
		}
	}
	body, err := c.Medium(t.Context(), "SN 1")
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if b, err := io.ReadAll(body); err != nil || string(b) != "an ISO" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := c.Medium(t.Context(), "SN2"); fleet.CodeOf(err) != fleet.CodeSiteUnknownServer {
		t.Errorf("an unknown server's medium: %v", err)
	}
}
