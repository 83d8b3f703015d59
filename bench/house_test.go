package bench

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"metalrise.dev/agent/agenttest"
	"metalrise.dev/bmc"
	"metalrise.dev/boot"
	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
	"metalrise.dev/fleet/site"
	"metalrise.dev/ignition"
	"metalrise.dev/images"
	"metalrise.dev/iso"
	"metalrise.dev/iso/isotest"
	"metalrise.dev/plan"
	"metalrise.dev/provision"
	"metalrise.dev/provision/store"
)

const (
	imagePad     = 256 << 10 // bytes of the image that do not compress
	programBytes = 64 << 10
)

// house is metalrise without its command line: a site's files on disk, and an
// engine that can be ended and started again on them.
type house struct {
	dir     string
	site    fleet.Site
	release images.Release
	image   []byte
	program program
	limits  provision.Limits
	tally   tally
	plan    fleet.Plan

	store  *store.Store
	ledger ledger
	lib    *library
	server *boot.Server
	engine *provision.Engine
	life   context.Context //nolint:containedctx // of the engine
	end    context.CancelFunc
}

// newHouse writes the files of a site and opens its store.
func newHouse(t testing.TB, addresses string) *house {
	t.Helper()
	h := &house{dir: t.TempDir()}
	if err := errors.Join(h.writeRelease(), h.writeSite(addresses)); err != nil {
		t.Fatal(err)
	}
	var err error
	if h.release, err = images.Load(t.Context(), h.site.Image); err != nil {
		t.Fatal(err)
	}
	if h.store, err = store.Open(h.path("state")); err != nil {
		t.Fatal(err)
	}
	h.ledger = ledger{h.store, &latency{}}
	t.Cleanup(func() { _ = h.store.Close() })
	return h
}

func (h *house) path(name string) string { return filepath.Join(h.dir, name) }

// writeRelease makes an operating system release: a small ISO of CoreOS layout
// and a disk image that the agent accepts.
func (h *house) writeRelease() error {
	h.image = agenttest.Image([]byte("boot partition"), imagePad)
	packed, err := agenttest.Pack("raw.zst", h.image)
	if err != nil {
		return err
	}
	if err := os.Mkdir(h.path("image"), 0o755); err != nil {
		return err
	}
	if err := isotest.Build(h.path("image/live.iso"), isotest.Options{}); err != nil {
		return err
	}
	live, err := os.ReadFile(h.path("image/live.iso"))
	if err != nil {
		return err
	}
	filler := make([]byte, programBytes)
	h.program = program{path: h.path("agent"), sum: sum(filler), bytes: programBytes}
	type object = map[string]any
	stream, err := json.Marshal(object{
		"stream": "bench", "metadata": object{"last-modified": "2026-01-01T00:00:00Z"},
		"architectures": object{"x86_64": object{"artifacts": object{"metal": object{"release": "1.0.0", "formats": object{
			"iso":     object{"disk": object{"location": "live.iso", "sha256": sum(live)}},
			"raw.zst": object{"disk": object{"location": "disk.zst", "sha256": sum(packed), "uncompressed-sha256": sum(h.image)}},
		}}}}},
	})
	return errors.Join(err, os.WriteFile(h.program.path, filler, 0o600),
		os.WriteFile(h.path("image/disk.zst"), packed, 0o600), os.WriteFile(h.path("image/stream.json"), stream, 0o600))
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

func (h *house) writeSite(addresses string) error {
	if err := os.WriteFile(h.path("password"), []byte(rackPassword), 0o600); err != nil {
		return err
	}
	text := fmt.Sprintf(`apiVersion: metalrise.dev/v1alpha1
kind: Site
name: bench
bmcs:
  addresses: [%s]
  port: %d
  username: %s
  password: {file: %s}
network:
  firstAddress: 10.64.1.1/16
  gateway: 10.64.0.1
image: %s
serving: {address: 127.0.0.1}
access:
  sshKeys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJlbmNoYmVuY2hiZW5jaGJlbmNoYmVuY2hiZW5jaGJl bench"]
`, addresses, rackPort, rackUser, h.path("password"), h.path("image"))
	if err := os.WriteFile(h.path("site.yaml"), []byte(text), 0o600); err != nil {
		return err
	}
	f, findings := site.Load(h.path("site.yaml"))
	for _, x := range findings {
		if x.Severity == fleet.Blocker {
			return fmt.Errorf("site: %s %s: %s", x.Code, x.Path, x.Text)
		}
	}
	if f == nil {
		return errors.New("site: not readable")
	}
	h.site = f.Site()
	return nil
}

// survey discovers and inspects the rack, as the commands of these names do.
func (h *house) survey(ctx context.Context) (discovered time.Time, err error) {
	addresses, err := bmc.Expand(h.site.BMCs.Addresses, h.site.BMCs.Port)
	if err != nil {
		return discovered, err
	}
	findings, err := provision.Discover(ctx, surveyor{}, h.ledger, addresses, false, func(fleet.Found) {})
	if err != nil || len(findings) > 0 {
		return discovered, errors.Join(err, fmt.Errorf("discover: %d findings", len(findings)))
	}
	discovered = time.Now()
	found, err := h.store.Found(ctx)
	if err != nil {
		return discovered, err
	}
	var at []fleet.Endpoint
	for _, a := range addresses {
		f := found[a]
		at = append(at, fleet.Endpoint{Address: a, Fingerprint: f.Fingerprint, Username: h.site.BMCs.Username, Password: h.site.BMCs.Password, Vendor: f.Vendor, Product: f.Product})
	}
	all, err := provision.Inspect(ctx, surveyor{}, h.ledger, at, func(provision.Inspected) {})
	if err != nil {
		return discovered, err
	}
	for _, r := range all {
		err = errors.Join(err, r.Err)
	}
	return discovered, err
}

// decide makes the plan from what the store holds.
func (h *house) decide(ctx context.Context) error {
	servers, err := h.store.Servers(ctx)
	if err != nil {
		return err
	}
	facts, err := h.store.Facts(ctx)
	if err != nil {
		return err
	}
	in := plan.Input{Site: h.site, Facts: map[fleet.ServerID]fleet.Facts{}, Now: time.Now(), Image: h.release.Ref(), IgnitionDigest: ignition.Digest}
	for id, v := range servers {
		in.Servers = append(in.Servers, v)
		in.Facts[v.ID] = facts[id]
	}
	if in.SiteDigest, err = fleet.Digest(h.site); err != nil {
		return err
	}
	h.plan = plan.Make(in)
	for _, f := range h.plan.Findings {
		if f.Severity == fleet.Blocker {
			return fmt.Errorf("plan: %s %s %s: %s", f.Code, f.Server, f.Path, f.Text)
		}
	}
	return h.store.KeepPlan(ctx, h.plan)
}

// open starts what the engine process starts, on what is on disk. journal may
// wrap the store; nil is the store itself.
func (h *house) open(ctx context.Context, journal provision.Journal) error {
	if journal == nil {
		journal = h.ledger
	}
	h.life, h.end = context.WithCancel(ctx)
	h.lib = &library{program: h.program, media: map[string]*iso.Image{}}
	var err error
	if h.lib.disk, err = (images.Verifier{Cache: h.path("state/verified")}).Verify(ctx, h.release.Disk, nil); err != nil {
		return err
	}
	if h.lib.base, err = iso.OpenVerified(h.release.ISO.Path, h.release.ISO.SHA256); err != nil {
		return err
	}
	authority, err := h.authority()
	if err != nil {
		return err
	}
	secret, err := h.store.Secret("tokens")
	if err != nil {
		return err
	}
	port, err := h.listen(ctx, authority)
	if err != nil {
		return err
	}
	h.engine, err = provision.NewEngine(provision.Config{
		Site: h.site.Name, Journal: journal, Archive: h.ledger, BMCs: drivers{}, Configs: configs{h.program, h.site.Name},
		Routes: route("https://127.0.0.1:" + strconv.Itoa(port)), Secret: secret, CA: string(authority.PEM()), Limits: h.limits,
		Image: callhome.Image{Format: string(h.release.Disk.Format), SHA256: h.release.Disk.UncompressedSHA256},
		ISO:   h.release.ISO.SHA256,
	})
	if err != nil {
		return err
	}
	if err := h.engine.Resume(h.life); err != nil {
		return err
	}
	h.lib.engine.Store(h.engine)
	return nil
}

func (h *house) authority() (*boot.Authority, error) {
	stored, err := h.store.SecretOr("authority", func() ([]byte, error) {
		a, err := boot.NewAuthority(h.site.Name)
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

func (h *house) listen(ctx context.Context, a *boot.Authority) (int, error) {
	port, err := h.store.ServingPort(ctx)
	if err != nil {
		return 0, err
	}
	h.server, err = boot.Listen(ctx, boot.Config{
		Addr: net.JoinHostPort(h.site.Serving.Address, strconv.Itoa(port)), Authority: a, Library: h.lib,
		Desk: desk{&h.lib.engine, h.life, &h.tally}, Served: func(_ string, _ netip.Addr, n int64) { h.tally.bytes.Add(n) },
	})
	if err != nil {
		return 0, err
	}
	port = h.server.Addr().(*net.TCPAddr).Port
	return port, h.store.KeepServingPort(ctx, port)
}

// close ends the engine and what serves for it. The store stays open.
func (h *house) close() error {
	h.end()
	h.engine.Wait()
	return errors.Join(h.server.Close(), h.lib.base.Close())
}

func (h *house) consent() fleet.Consent {
	return fleet.Consent{Plan: h.plan.ID, EraseDisks: len(h.plan.ErasedDisks()), By: "unattended", At: time.Now()}
}

// settle waits until every server is settled. A held one is an error at once.
func (h *house) settle(ctx context.Context) error {
	done := make(chan struct{})
	engine := h.engine
	go func() { engine.Wait(); close(done) }()
	for {
		select {
		case <-done:
		case <-time.After(time.Second):
		case <-ctx.Done():
			return ctx.Err()
		}
		settled := 0
		view := engine.Overview()
		for _, s := range view.Servers {
			switch s.Condition {
			case fleet.Held:
				return fmt.Errorf("server %s is held: %+v", s.Server, s.Cause)
			case fleet.Settled:
				if s.Phase != fleet.Installed {
					return fmt.Errorf("server %s is settled in phase %s", s.Server, s.Phase)
				}
				settled++
			}
		}
		if settled == len(view.Servers) {
			return nil
		}
		if h.life.Err() != nil {
			return h.life.Err()
		}
	}
}

// checkJournal reads the journal: each server was granted one write, and one
// write ended with the release's digest. It gives the number of events.
func (h *house) checkJournal(ctx context.Context) (int, error) {
	began, ended, finished := map[fleet.ServerID]int{}, map[fleet.ServerID]int{}, map[fleet.ServerID]int{}
	n := 0
	for after := int64(0); ; {
		events, err := h.store.Events(ctx, after, 10_000)
		if err != nil {
			return n, err
		}
		if len(events) == 0 {
			break
		}
		n += len(events)
		after = events[len(events)-1].Seq
		for _, e := range events {
			switch {
			case e.Action == fleet.ActWrite && e.Edge == fleet.Began:
				began[e.Server]++
			case e.Action == fleet.ActWrite && e.Edge == fleet.Ended:
				if e.Outcome == fleet.OK && strings.Contains(string(e.Data), sum(h.image)) {
					ended[e.Server]++
				}
			case e.Action == fleet.ActFinish:
				finished[e.Server]++
			}
		}
	}
	var errs []error
	for _, a := range h.plan.Assignments {
		if began[a.Server] != 1 || ended[a.Server] != 1 || finished[a.Server] != 1 {
			errs = append(errs, fmt.Errorf("journal of %s: %d writes granted, %d ended with the right digest, %d finishes", a.Server, began[a.Server], ended[a.Server], finished[a.Server]))
		}
	}
	return n, errors.Join(errs...)
}
