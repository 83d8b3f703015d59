package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"metalrise.dev/fleet"
	"metalrise.dev/provision/api"
	"metalrise.dev/provision/store"
	"metalrise.dev/tui"
)

// maxSites bounds how many other sites' journals are read for how long servers
// take: each costs a read of some thousand lines.
const maxSites = 20

// Pace implements tui.Runs. It learns from the site's own journal, but for the
// plan that runs, and from those of the sites beside it.
func (w *watcher) Pace(ctx context.Context) (tui.Pace, error) {
	dir, err := w.dir()
	if err != nil {
		return tui.Pace{}, err
	}
	p := tui.Pace{Models: map[fleet.ServerID]string{}}
	beside, _ := filepath.Glob(filepath.Join(filepath.Dir(dir), "*", "state.db")) // the pattern is fixed but for the folder's name
	for i, path := range beside {
		if other := filepath.Dir(path); other != dir && i < maxSites {
			_ = learn(ctx, &p, other, false) // another site's trouble is not ours
		}
	}
	return p, learn(ctx, &p, dir, true)
}

// learn adds one site's journal to a pace. own leaves the running plan out.
func learn(ctx context.Context, p *tui.Pace, dir string, own bool) error {
	st, err := store.OpenReader(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer st.Close()
	facts, err := st.Facts(ctx)
	if err != nil {
		return err
	}
	servers, err := st.Servers(ctx)
	if err != nil {
		return err
	}
	for place, v := range servers {
		f := facts[place]
		p.Models[v.ID] = strings.TrimSpace(f.Manufacturer.Or("") + " " + f.Model.Or(""))
	}
	running := ""
	if own {
		if running, _, err = st.LastConsent(ctx); err != nil {
			return err
		}
	}
	var all []fleet.Event
	for after := int64(0); ; {
		events, err := st.Events(ctx, after, 10_000)
		if err != nil {
			return err
		}
		all = append(all, events...)
		if len(events) == 0 || len(all) > 200_000 {
			break
		}
		after = events[len(events)-1].Seq
	}
	p.Learn(all, running)
	return nil
}

// logTail is how much of the engine's log is shown.
const logTail = 256 << 10

// EngineLog implements tui.Runs.
func (w *watcher) EngineLog(context.Context) ([]string, error) {
	dir, err := w.dir()
	if err != nil {
		return nil, err
	}
	b, err := endOf(filepath.Join(dir, "engine.log"), logTail)
	if err != nil {
		return nil, err
	}
	var out []string
	lines := bufio.NewScanner(bytes.NewReader(b))
	lines.Buffer(nil, logTail+1)
	for lines.Scan() {
		out = append(out, lines.Text())
	}
	return out, lines.Err()
}

// endOf reads the end of a file, from the beginning of a line. No file is empty.
func endOf(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	from := max(info.Size()-limit, 0)
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, limit))
	if at := bytes.IndexByte(b, '\n'); from > 0 && at >= 0 {
		b = b[at+1:]
	}
	return b, err
}

// Gather implements tui.Runs.
func (w *watcher) Gather(ctx context.Context) (string, error) {
	dir, err := w.dir()
	if err != nil {
		return "", err
	}
	path := "metalrise-report-" + time.Now().Format("20060102-150405") + ".tar.gz"
	if folder := filepath.Dir(w.o.file); folder != "." {
		path = filepath.Join(folder, path)
	}
	return path, w.o.gather(ctx, dir, path)
}

// freeState lets a new plan be kept: an engine whose servers are all done or
// held is stopped, since it alone may write while it runs. It loses nothing by
// that; the new plan starts it again. One that still moves a server stays.
func (d *clerk) freeState(ctx context.Context, client *api.Client, site string) error {
	view, err := client.Overview(ctx)
	if errors.Is(err, api.ErrNoEngine) {
		return nil
	}
	if err != nil {
		return err
	}
	if !view.Quiet {
		return fleet.NewFault(fleet.CodeSiteLocked, fleet.Conflict, nil, "plan %.12s is still being applied", view.Plan)
	}
	if err := client.Stop(ctx); err != nil && !errors.Is(err, api.ErrNoEngine) {
		return err
	}
	for end := time.Now().Add(stopTime); ; {
		st, err := d.o.writer(site)
		if err == nil {
			return st.Close()
		}
		if fleet.CodeOf(err) != fleet.CodeSiteLocked || time.Now().After(end) {
			return err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// stopTime is how long an engine may take to end: it closes its sessions to
// BMCs first, some of which are slow.
const stopTime = 30 * time.Second
