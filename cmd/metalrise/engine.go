package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"metalrise.dev/boot"
	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
	"metalrise.dev/iso"
	"metalrise.dev/provision"
	"metalrise.dev/provision/api"
	"metalrise.dev/provision/store"
)

func engineCommand(o *options) *cobra.Command {
	stay := false
	c := &cobra.Command{
		Use:   "engine",
		Short: "Run the site's engine in the foreground (apply starts it by itself)",
		Long: `engine does the work of a site: it drives BMCs, serves media, answers machines and
keeps the journal. apply starts it in the background; run it yourself under a
service manager. Killed at any instant, it continues when it is started again.
It ends by itself ten seconds after every server is installed, and the VM platform
proven where the plan has one.

With --stay it ends only when it is stopped. Nodes can then get container images of
their software here at any time, from the registry on the engine's port: one that was
removed from a node, for example because its disk ran full, is pulled again.
` + exitHelp,
		Example: "  metalrise engine -f site.yaml\n  metalrise engine -f site.yaml --stay",
		Args:    usage(cobra.NoArgs),
		RunE:    func(c *cobra.Command, _ []string) error { return o.engine(c.Context(), stay) },
	}
	c.Flags().BoolVar(&stay, "stay", false, "go on serving nodes when every server is installed")
	return c
}

// ensureEngine starts an engine in the background unless one answers. plan is
// what a person allowed a moment ago, "" when nobody was asked.
func (o *options) ensureEngine(ctx context.Context, c *api.Client, dir, plan string) error {
	if _, err := c.Overview(ctx); !errors.Is(err, api.ErrNoEngine) {
		return err
	}
	if err := allowed(ctx, dir, plan, time.Now()); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("start engine: %w", err)
	}
	file, err := filepath.Abs(o.file)
	if err != nil {
		return fmt.Errorf("start engine: %w", err)
	}
	logPath := filepath.Join(dir, "engine.log")
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("start engine: %w", err)
	}
	defer log.Close()
	begin, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("start engine: %w", err)
	}
	// A session of its own: a lost terminal or Ctrl-C here does not reach it.
	cmd := exec.Command(self, "engine", "--file", file, "--state", dir)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start engine: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	var gone time.Time
	for {
		// Ours may have ended because another one began at the same moment: that
		// one answers when it has verified the images.
		if !gone.IsZero() && time.Since(gone) > 5*time.Second {
			return fmt.Errorf("start engine: it ended at once:\n%s", tail(logPath, begin))
		}
		if _, err := c.Overview(ctx); !errors.Is(err, api.ErrNoEngine) {
			return err
		}
		select {
		case <-ended:
			ended = nil
			gone = time.Now()
		case <-time.After(50 * time.Millisecond): // verifying images of gigabytes takes seconds
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func tail(path string, from int64) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return err.Error()
	}
	b, err := io.ReadAll(io.LimitReader(f, 4096))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// daemon is the engine with all that it needs around it.
type daemon struct {
	*provision.Engine
	ctx   context.Context // of the work
	busy  atomic.Int64    // when a plan was applied last, in nanoseconds since 1970
	stop  context.CancelFunc
	store *store.Store
	log   *slog.Logger
	door  *door
	// unattended: no BMC is driven, machines boot from the network by themselves.
	unattended bool
	stay       bool        // also when nothing is left to do
	images     *nodeImages // nil where the site has no software for nodes
	strangers  *strangers  // nil where nobody asks
	net        *netRoad    // nil where no server boots from the network
	// medium makes the ISO of a server; nil where there is none to make.
	medium func(key string, r provision.Resource) (*iso.Image, error)
}

// Apply starts work that outlives the call. It is api's way in.
func (d *daemon) Apply(c fleet.Consent) error {
	d.busy.Store(time.Now().UnixNano())
	if p, ok, err := d.store.Plan(d.ctx, c.Plan); err == nil && ok && !d.unattended {
		if err := startedByHand(p); err != nil {
			return err
		}
	}
	if err := d.Engine.Apply(d.ctx, c); err != nil {
		return err
	}
	if d.ctx.Err() != nil {
		return fleet.NewFault(fleet.CodeInterrupted, fleet.Transient, d.ctx.Err(), "the engine is ending; apply again")
	}
	return nil
}

// Stop ends the daemon. A proof under way is broken off and cleared away first.
func (d *daemon) Stop() {
	d.Engine.Halt(d.ctx)
	d.stop()
}

func (o *options) engine(ctx context.Context, stay bool) error {
	s, _, err := o.loadSite()
	if err != nil {
		return err
	}
	return o.runEngine(ctx, s, engineRun{stay: stay})
}

// engineRun is how an engine is to work.
type engineRun struct {
	unattended bool           // no BMC is driven
	consent    *fleet.Consent // to a plan that is applied at once; may be nil
	stay       bool           // also when nothing is left to do
}

// runEngine runs the site's engine until ctx ends or nothing is left to do. An
// unattended one does not end by itself.
func (o *options) runEngine(ctx context.Context, s fleet.Site, how engineRun) error {
	unattended := how.unattended
	st, err := o.writer(s.Name)
	if err != nil {
		return err
	}
	defer st.Close()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	d := &daemon{ctx: ctx, stop: stop, store: st, log: slog.New(slog.NewTextHandler(o.errs, nil)), door: newDoor(st),
		unattended: unattended, stay: how.stay || unattended, strangers: &strangers{store: st, all: map[string]fleet.Stranger{}}}
	left, err := st.AllOpened(ctx) // before this engine opens its own
	if err != nil {
		return err
	}
	server, err := d.prepare(s)
	if err != nil {
		return err
	}
	defer d.images.Close()
	defer server.Close()
	defer d.net.Close()
	if err := d.Resume(ctx); err != nil {
		return err
	}
	if how.consent != nil {
		if err := d.Apply(*how.consent); err != nil {
			stop()
			d.Wait()
			return err
		}
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return api.Serve(gctx, st.Dir(), d, st) })
	if !d.stay {
		g.Go(func() error { d.restWhenDone(gctx); return nil })
	}
	if !unattended {
		g.Go(func() error { d.closeLeft(gctx, left); return nil })
	}
	err = g.Wait()
	stop() // also when the socket failed: no engine acts that nobody can reach
	d.Wait()
	return err
}

// closeLeft closes the sessions that a killed engine left open on BMCs.
func (d *daemon) closeLeft(ctx context.Context, left map[string]store.Opened) {
	d.door.forget(ctx, left, func(o store.Opened, err error) {
		if err != nil {
			d.log.Warn("close session left open", "bmc", o.Endpoint.Address, "session", o.Location, "error", err)
			return
		}
		d.log.Info("closed a session left open", "bmc", o.Endpoint.Address, "session", o.Location)
	})
}

// prepare opens and verifies what the engine works with and starts to serve.
func (d *daemon) prepare(s fleet.Site) (*boot.Server, error) {
	lib, release, err := d.library(s.Image)
	if err != nil {
		return nil, err
	}
	authority, err := d.authority(s.Name)
	if err != nil {
		return nil, err
	}
	secret, err := d.store.Secret("tokens")
	if err != nil {
		return nil, err
	}
	server, err := d.listen(s, authority, lib)
	if err != nil {
		return nil, err
	}
	port := server.Addr().(*net.TCPAddr).Port
	way := roads{routes: routes{fixed: s.Serving.Address, port: port}, plain: server.PlainAddr().(*net.TCPAddr).Port}
	if err := d.askingRoad(s, lib, secret, string(authority.PEM()), port, way.plain); err != nil {
		return nil, errors.Join(err, server.Close())
	}
	way.net = d.netRoad(s, lib)
	if d.unattended && way.net != "" && s.Serving.Netboot != "" {
		return nil, errors.Join(errors.New(way.net), server.Close())
	}
	d.medium = lib.personal
	clusters, err := d.clusters(s, lib)
	if err != nil {
		return nil, errors.Join(err, server.Close())
	}
	d.Engine, err = provision.NewEngine(provision.Config{
		Site: s.Name, Journal: d.store, Archive: d.store, BMCs: bmcs{newShared(d.door)}, Configs: configs{agent: lib.agentFile, site: s.Name},
		Routes: way.routes, Roads: way, Media: lib, Unattended: d.unattended, Secret: secret, CA: string(authority.PEM()),
		Image: callhome.Image{Format: string(release.Disk.Format), SHA256: release.Disk.UncompressedSHA256, Bytes: release.Disk.UnpackedBytes},
		ISO:   release.ISO.SHA256, NoRelease: lib.missing, Log: d.log, Clusters: clusters,
		Unknown: (&recogniser{site: s, store: d.store, seen: d.strangers}).unknown,
	})
	if err != nil {
		return nil, errors.Join(err, server.Close())
	}
	lib.engine.Store(d.Engine)
	return server, nil
}

func (d *daemon) authority(site string) (*boot.Authority, error) {
	stored, err := d.store.SecretOr("authority", func() ([]byte, error) {
		a, err := boot.NewAuthority(site)
		if err != nil {
			return nil, err
		}
		return a.Marshal()
	})
	if err != nil {
		return nil, err
	}
	return boot.ParseAuthority(stored)
}

// listen serves on the port that machines were told before, if there is one.
func (d *daemon) listen(s fleet.Site, a *boot.Authority, lib *library) (*boot.Server, error) {
	port := s.Serving.Port
	known, err := d.store.ServingPort(d.ctx)
	if err != nil {
		return nil, err
	}
	if port == 0 {
		port = known
	}
	if known != 0 && port != known {
		if view, err := provision.Recall(d.ctx, d.store, d.store); err != nil || !settled(view) {
			return nil, errors.Join(err, fleet.NewFault(fleet.CodeSiteInvalid, fleet.Conflict, nil,
				"serving.port %d: machines of the unfinished run were told %d; finish it, or take it back with metalrise stop --cancel", port, known))
		}
	}
	plain, err := plainPort(d.ctx, d.store, s.Serving.Address)
	if err != nil {
		return nil, err
	}
	cfg := boot.Config{
		Addr: net.JoinHostPort(s.Serving.Address, strconv.Itoa(port)), PlainAddr: plain, Authority: a, Desk: desk{&lib.engine}, Library: lib, Served: lib.served, Flowed: lib.flowed, Log: d.log,
	}
	if s.Cluster.Software != "" {
		d.images = &nodeImages{pulls: desk{&lib.engine}.pulls, log: d.log}
		cfg.Registry = d.images
	}
	server, err := boot.Listen(d.ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("serve machines on port %d: %w", port, err)
	}
	if err := d.store.KeepPlainPort(d.ctx, server.PlainAddr().(*net.TCPAddr).Port); err != nil {
		return nil, errors.Join(err, server.Close())
	}
	if got := server.Addr().(*net.TCPAddr).Port; got != known {
		if err := d.store.KeepServingPort(d.ctx, got); err != nil {
			return nil, errors.Join(err, server.Close())
		}
	}
	return server, nil
}

// restWhenDone ends an engine that has nothing to do any more. With a held
// server it stays: a retry should find it.
func (d *daemon) restWhenDone(ctx context.Context) {
	const rest = 10 * time.Second
	idle, kept := time.Now(), false
	for {
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return
		}
		view := d.Overview()
		for _, s := range view.Servers {
			if s.Condition != fleet.Settled {
				idle = time.Now()
			}
		}
		if view.Stack != nil && !view.Stack.Done {
			idle = time.Now()
		}
		if !idle.Before(view.At) || view.Plan == "" {
			kept = false
		} else if !kept {
			kept = true
			if err := keepBuilt(ctx, d.store, view); err != nil {
				d.log.Error("as-built report", "error", err)
			}
		}
		if time.Since(idle) > rest && time.Since(time.Unix(0, d.busy.Load())) > rest {
			d.log.Info("nothing left to do")
			d.stop()
			return
		}
	}
}

// settled tells whether all that the plan wants is done.
func settled(view fleet.Overview) bool {
	if view.Stack != nil && !view.Stack.Done {
		return false
	}
	return !slices.ContainsFunc(view.Servers, func(s fleet.Status) bool { return s.Condition != fleet.Settled })
}

// ownProgram is this very binary, which machines run as the agent.
func ownProgram() (file agentFile, path string, err error) {
	if path, err = os.Executable(); err != nil {
		return file, "", fmt.Errorf("find own program: %w", err)
	}
	f, err := os.Open(path)
	if err != nil {
		return file, "", fmt.Errorf("read own program: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if file.bytes, err = io.Copy(h, f); err != nil {
		return file, "", fmt.Errorf("read own program: %w", err)
	}
	file.sha256 = hex.EncodeToString(h.Sum(nil))
	return file, path, nil
}
