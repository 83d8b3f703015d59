// Package api is the local socket by which commands and screens talk to a
// running engine: HTTP with JSON over a Unix socket in the state folder, which
// only its owner may enter. It never decides anything and never leaves the
// machine.
//
//	GET  /v1/overview            fleet.Overview
//	GET  /v1/events?after=N      fleet.Event, one a line; &follow=1 goes on until the caller leaves
//	GET  /v1/medium?server=ID    the live medium of a server that waits for it
//	POST /v1/apply               fleet.Consent
//	POST /v1/retry               RetryRequest
//	POST /v1/platform            fleet.PlatformRetry
//	POST /v1/withdraw            WithdrawRequest
//	POST /v1/stop                the engine ends; machines go on by themselves and wait for the next one
package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"metalrise.dev/fleet"
)

// Engine is what the socket gives access to.
type Engine interface {
	// Overview tells where every server is.
	Overview() fleet.Overview
	// Apply starts a plan; the work outlives the call.
	Apply(c fleet.Consent) error
	// Retry gives a held server another attempt.
	Retry(ctx context.Context, id fleet.ServerID, by string) error
	// RetryBy is Retry with an attempt that begins with this way to boot.
	RetryBy(ctx context.Context, id fleet.ServerID, by string, route fleet.BootRoute) error
	// Reinstall is Retry with the planned disk erased and written anew.
	Reinstall(ctx context.Context, id fleet.ServerID, by string) error
	// RetryPlatform has failed steps of the VM platform tried again, or what else
	// the person says.
	RetryPlatform(ctx context.Context, q fleet.PlatformRetry) error
	// Remove takes a server away from the cluster; the work outlives the call.
	Remove(ctx context.Context, id fleet.ServerID, r fleet.Removal) error
	// Withdraw takes the consent of the running plan back.
	Withdraw(ctx context.Context, by string) error
	// Medium answers with the live medium of a server's current attempt, or
	// fails and writes nothing.
	Medium(w http.ResponseWriter, r *http.Request, id fleet.ServerID) error
	// Stop ends the engine soon.
	Stop()
}

// Journal is what followers read.
type Journal interface {
	// Events reads up to limit events with a sequence number above after.
	Events(ctx context.Context, after int64, limit int) ([]fleet.Event, error)
	// Changed gives a channel that closes when there may be more.
	Changed() <-chan struct{}
}

// RetryRequest asks for another attempt with a held server.
type RetryRequest struct {
	Server fleet.ServerID `json:"server"`
	By     string         `json:"by"`
	// Route is the way to boot that the attempt begins with; "" leaves it to the
	// engine. It is for /v1/retry alone.
	Route fleet.BootRoute `json:"route,omitempty"`
}

// RemoveRequest asks to take a server away.
type RemoveRequest struct {
	Server  fleet.ServerID `json:"server"`
	Removal fleet.Removal  `json:"removal"`
}

// WithdrawRequest takes a consent back.
type WithdrawRequest struct {
	By string `json:"by"`
}

// Refusal is the body of an answer that is not 200.
type Refusal struct {
	Cause fleet.Cause `json:"cause"`
}

const maxBody = 1 << 20

// SocketPath is where the engine of a state folder listens.
func SocketPath(stateDir string) string { return filepath.Join(stateDir, "engine.sock") }

// Serve answers on the socket of stateDir until ctx ends. The caller holds the
// lock of the state, so a socket file that is there already is a dead one's.
func Serve(ctx context.Context, stateDir string, e Engine, j Journal) error {
	path := SocketPath(stateDir)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("engine socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("engine socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return errors.Join(err, l.Close())
	}
	srv := &http.Server{Handler: handler(e, j), ReadHeaderTimeout: 5 * time.Second, BaseContext: func(net.Listener) context.Context { return ctx }}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("engine socket: %w", err)
	}
	return nil
}

func handler(e Engine, j Journal) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/overview", func(w http.ResponseWriter, _ *http.Request) {
		o := e.Overview()
		o.Engine = true
		reply(w, o, nil)
	})
	mux.HandleFunc("GET /v1/events", func(w http.ResponseWriter, r *http.Request) { stream(w, r, j) })
	mux.HandleFunc("GET /v1/medium", func(w http.ResponseWriter, r *http.Request) {
		if err := e.Medium(w, r, fleet.ServerID(r.URL.Query().Get("server"))); err != nil {
			reply(w, nil, err)
		}
	})
	mux.HandleFunc("POST /v1/apply", func(w http.ResponseWriter, r *http.Request) {
		var c fleet.Consent
		if err := read(r, &c); err != nil {
			reply(w, nil, err)
			return
		}
		reply(w, struct{}{}, e.Apply(c))
	})
	mux.HandleFunc("POST /v1/retry", func(w http.ResponseWriter, r *http.Request) {
		var q RetryRequest
		if err := read(r, &q); err != nil {
			reply(w, nil, err)
			return
		}
		if q.Route != "" {
			reply(w, struct{}{}, e.RetryBy(r.Context(), q.Server, q.By, q.Route))
			return
		}
		reply(w, struct{}{}, e.Retry(r.Context(), q.Server, q.By))
	})
	mux.HandleFunc("POST /v1/reinstall", func(w http.ResponseWriter, r *http.Request) {
		var q RetryRequest
		if err := read(r, &q); err != nil {
			reply(w, nil, err)
			return
		}
		reply(w, struct{}{}, e.Reinstall(r.Context(), q.Server, q.By))
	})
	mux.HandleFunc("POST /v1/platform", func(w http.ResponseWriter, r *http.Request) {
		var q fleet.PlatformRetry
		if err := read(r, &q); err != nil {
			reply(w, nil, err)
			return
		}
		reply(w, struct{}{}, e.RetryPlatform(r.Context(), q))
	})
	mux.HandleFunc("POST /v1/remove", func(w http.ResponseWriter, r *http.Request) {
		var q RemoveRequest
		if err := read(r, &q); err != nil {
			reply(w, nil, err)
			return
		}
		reply(w, struct{}{}, e.Remove(r.Context(), q.Server, q.Removal))
	})
	mux.HandleFunc("POST /v1/withdraw", func(w http.ResponseWriter, r *http.Request) {
		var q WithdrawRequest
		if err := read(r, &q); err != nil {
			reply(w, nil, err)
			return
		}
		reply(w, struct{}{}, e.Withdraw(r.Context(), q.By))
	})
	mux.HandleFunc("POST /v1/stop", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, struct{}{}, nil)
		_ = http.NewResponseController(w).Flush() // before the connection ends with the engine
		e.Stop()
	})
	return mux
}

func read(r *http.Request, v any) error {
	d := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxBody))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fleet.NewFault(fleet.CodeUnexpected, fleet.Invalid, err, "decode request")
	}
	return nil
}

func reply(w http.ResponseWriter, v any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		w.WriteHeader(http.StatusConflict)
		v = Refusal{*fleet.CauseOf(err)}
	}
	_ = json.NewEncoder(w).Encode(v) // a caller that left is no fault of ours
}

// stream writes events as lines. A follower that is slow reads from the journal
// at its own pace: nothing is dropped and nothing piles up.
func stream(w http.ResponseWriter, r *http.Request, j Journal) {
	after, err := strconv.ParseInt(r.URL.Query().Get("after"), 10, 64)
	if err != nil && r.URL.Query().Has("after") {
		reply(w, nil, fleet.NewFault(fleet.CodeUnexpected, fleet.Invalid, err, "after"))
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := json.NewEncoder(w)
	flush := http.NewResponseController(w)
	for {
		changed := j.Changed()
		events, err := j.Events(r.Context(), after, 1000)
		if err != nil {
			return
		}
		for _, e := range events {
			if out.Encode(e) != nil {
				return
			}
			after = e.Seq
		}
		if flush.Flush() != nil {
			return
		}
		if len(events) > 0 {
			continue
		}
		if r.URL.Query().Get("follow") == "" {
			return
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}
