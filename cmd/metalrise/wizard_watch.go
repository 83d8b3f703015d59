package main

import (
	"context"
	"errors"
	"os"
	"sync"

	"metalrise.dev/fleet"
	"metalrise.dev/provision/api"
	"metalrise.dev/provision/store"
)

// watcher is what the run screen looks through: the engine's socket, or its
// journal when none runs.
type watcher struct {
	o   *options
	dir func() (string, error)

	mu     sync.Mutex
	reader *store.Store // of the journal; nil until there is one
	at     string       // folder of reader
}

// Watch implements tui.Runs.
func (w *watcher) Watch(ctx context.Context, after int64) (fleet.Overview, []fleet.Event, error) {
	dir, err := w.dir()
	if err != nil {
		return fleet.Overview{}, nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	view, err := overview(ctx, dir)
	if err != nil {
		return view, nil, err
	}
	if w.at != dir && w.reader != nil {
		w.close()
	}
	if w.reader == nil {
		st, err := store.OpenReader(dir)
		if errors.Is(err, os.ErrNotExist) {
			return view, nil, nil
		}
		if err != nil {
			return view, nil, err
		}
		w.reader, w.at = st, dir
	}
	events, err := w.reader.Events(ctx, after, 1000)
	return view, events, err
}

// Retry implements tui.Runs.
func (w *watcher) Retry(ctx context.Context, server fleet.ServerID, route fleet.BootRoute) error {
	dir, err := w.dir()
	if err != nil {
		return err
	}
	client := api.NewClient(dir)
	if err := w.o.ensureEngine(ctx, client, dir, ""); err != nil {
		return err
	}
	if server == "" {
		return client.RetryPlatform(ctx, fleet.PlatformRetry{By: who(false)})
	}
	return retryBy(ctx, client, server, route)
}

// StartEngine implements tui.Runs.
func (w *watcher) StartEngine(ctx context.Context) error {
	dir, err := w.dir()
	if err != nil {
		return err
	}
	return w.o.ensureEngine(ctx, api.NewClient(dir), dir, "")
}

// Close ends reading.
func (w *watcher) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.close()
}

func (w *watcher) close() error {
	if w.reader == nil {
		return nil
	}
	err := w.reader.Close()
	w.reader = nil
	return err
}
