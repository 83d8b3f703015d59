package redfish

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"metalrise.dev/lab/machine"
)

// BMC is one running emulated BMC. Its methods may be called from anywhere.
type BMC struct {
	cfg      Config
	log      *slog.Logger
	systemID string
	cert     *tls.Certificate
	nodes    map[string]node // by path without trailing slash; never changed after creation
	faults   faults
	accounts accounts
	tasks    tasks
	writes   sync.Mutex // one PATCH at a time, so that If-Match and the change are one
	asked    atomic.Int64
	opened   atomic.Int64
	running  atomic.Int64 // requests being answered
	decoy    *decoy       // the old port of a BMC that moved

	ctx    context.Context // ends with Close: power is cut
	cancel context.CancelFunc
	work   sync.WaitGroup // power, downloads, shutdown requests
	forget func() bool    // stops waiting for the context of Start
	server *http.Server
	addr   string

	mu         sync.Mutex
	closed     bool
	power      PowerState
	run        *run // nil while Off
	wishedOn   bool // power at the end of the previous lab process
	boot       override
	slots      []*slot
	bios       map[string]any
	pending    map[string]any // BIOS attributes that act at the next boot
	httpBoot   string         // what this boot fetches by HTTP; "" is nothing
	secureBoot bool           // SecureBootEnable
	flakes     int            // changes of it that were asked for
	before     PowerState     // what was shown before the last change of power
	changed    time.Time      // when power changed last
	thaw       time.Time      // frozen until then
	freezes    int64
	assetTag   string
	progress   bootProgress
	last       lastBoot
}

// lastBoot is what the machine did most recently.
type lastBoot struct {
	boots int
	from  machine.BootSource
	stop  machine.Stop
	err   error
}

// Start brings the BMC up with its machine Off and serves until Close, or until
// ctx ends, which does the same.
func Start(ctx context.Context, cfg Config) (*BMC, error) {
	b, err := newBMC(ctx, cfg)
	if err != nil {
		return nil, err
	}
	listen := cfg.Listen
	if b.has(MovedPort) { // the address given is the one it moved away from
		host, _, _ := net.SplitHostPort(cfg.Listen)
		listen = net.JoinHostPort(host, "0")
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", listen)
	if err != nil {
		b.cancel()
		return nil, fmt.Errorf("bmc of %s: listen on %q: %w", cfg.Spec.Name, listen, err)
	}
	b.addr = ln.Addr().String()
	if err := b.secure(); err != nil {
		b.cancel()
		return nil, errors.Join(err, ln.Close())
	}
	b.server = &http.Server{
		Handler:           b,
		ReadHeaderTimeout: 30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          quiet(),
	}
	if b.has(DropsKept) {
		b.server.ConnState = dropIdle
	}
	var door net.Listener = &gate{Listener: ln, faults: &b.faults, opened: &b.opened}
	if !b.has(PlainHTTP) {
		door = tls.NewListener(door, b.tlsConfig())
	}
	go b.serve(b.server, door)
	if b.has(MovedPort) {
		if err := b.moveAway(ctx, cfg.Listen, b.addr); err != nil {
			return nil, errors.Join(fmt.Errorf("bmc of %s: listen on %q: %w", cfg.Spec.Name, cfg.Listen, err), b.Close())
		}
	}
	b.mu.Lock()
	b.forget = context.AfterFunc(ctx, func() { _ = b.Close() })
	b.mu.Unlock()
	return b, nil
}

// newBMC makes a BMC that does not listen yet.
func newBMC(ctx context.Context, cfg Config) (*BMC, error) {
	if cfg.Personality.Name == "" {
		cfg.Personality = Standard()
	}
	if cfg.Console == nil {
		cfg.Console = io.Discard
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.Limits = cfg.Limits.withDefaults()
	if err := cfg.check(); err != nil {
		return nil, err
	}
	b := &BMC{cfg: cfg, log: cfg.Log.With("bmc", cfg.Spec.Name), power: PowerOff, boot: noOverride(cfg.Spec.Firmware)}
	b.systemID = cfg.Personality.SystemID
	if b.systemID == "" {
		b.systemID = cfg.Spec.Serial
	}
	for _, s := range cfg.Personality.Slots {
		b.slots = append(b.slots, &slot{Slot: s})
	}
	b.forgetMedium()
	b.bios = b.defaultBIOS()
	b.progress.set(progressNone)
	b.accounts.init(cfg.Username, cfg.Password, cfg.Limits)
	if err := b.load(); err != nil {
		return nil, err
	}
	if err := cfg.Hardware.Clean(ctx); err != nil {
		return nil, fmt.Errorf("bmc of %s: clean up after an earlier run: %w", cfg.Spec.Name, err)
	}
	b.ctx, b.cancel = context.WithCancel(context.WithoutCancel(ctx))
	b.nodes = b.tree()
	return b, nil
}

// quiet is the log of servers whose visitors make handshake noise.
func quiet() *log.Logger { return log.New(io.Discard, "", 0) }

func (b *BMC) serve(server *http.Server, ln net.Listener) {
	if err := server.Serve(ln); err != nil && !errors.Is(err, http.ErrServerClosed) {
		b.log.Error("bmc stopped serving", "error", err)
	}
}

// gate counts connections and lets none through while an Unreachable fault acts.
type gate struct {
	net.Listener
	faults *faults
	opened *atomic.Int64
}

func (g *gate) Accept() (net.Conn, error) {
	for {
		c, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if !g.faults.hits(Unreachable) {
			g.opened.Add(1)
			return c, nil
		}
		_ = c.Close()
	}
}

// Addr is the address served, "127.0.0.1:40123". A BMC that moved to another
// port is known by its old one.
func (b *BMC) Addr() string {
	if b.decoy != nil {
		return b.decoy.addr
	}
	return b.addr
}

// Strayed lists what came to the port that the BMC moved away from, each as
// method and path with the names of headers that carry a secret.
func (b *BMC) Strayed() []string {
	if b.decoy == nil {
		return nil
	}
	b.decoy.mu.Lock()
	defer b.decoy.mu.Unlock()
	return slices.Clone(b.decoy.seen)
}

// URL is the address of the service root.
func (b *BMC) URL() string {
	if b.has(PlainHTTP) {
		return "http://" + b.addr + "/redfish/v1/"
	}
	return "https://" + b.Addr() + "/redfish/v1/"
}

// SystemID is the id of the one system.
func (b *BMC) SystemID() string { return b.systemID }

// Fingerprint is the SHA-256 of the certificate (DER) as 64 hexadecimal digits.
func (b *BMC) Fingerprint() string {
	return fmt.Sprintf("%x", sha256.Sum256(b.cert.Certificate[0]))
}

// Close cuts the machine's power, waits until it is gone and stops serving.
// Calling it again does nothing.
func (b *BMC) Close() error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		b.work.Wait()
		return nil
	}
	b.closed = true
	if b.forget != nil {
		b.forget()
	}
	b.mu.Unlock()
	b.cancel()
	var err error
	if b.server != nil {
		err = b.server.Close()
	}
	if b.decoy != nil {
		err = errors.Join(err, b.decoy.server.Close())
	}
	b.work.Wait()
	return err
}

// beginLocked registers background work; false once the BMC is closing.
func (b *BMC) beginLocked() bool {
	if b.closed {
		return false
	}
	b.work.Add(1)
	return true
}

// Status is a BMC as a lab shows it, without asking over Redfish.
type Status struct {
	Name       string
	Addr       string
	Power      PowerState
	WishedOn   bool // the machine was on when the previous lab process ended
	Override   string
	SecureBoot bool     // as it is set for the next boot
	Media      []Medium // inserted ones
	Boots      int      // boot attempts since Start
	LastBoot   machine.BootSource
	LastStop   machine.Stop // "" while running
	Err        error        // last fault of the lab itself, nil if none
	Sessions   int
	// Since Start: requests that came, and TCP connections that carried them.
	Requests, Connections int64
	Freezes               int64 // moments in which the quirk freezes-parallel answered nobody
	Faults                []Fault
}

// Medium is one inserted image.
type Medium struct {
	Slot string
	URL  string
	File string // "" in Lazy mode
}

// Status tells the present state.
func (b *BMC) Status() Status {
	sessions := b.accounts.count()
	faults := b.Faults()
	b.mu.Lock()
	defer b.mu.Unlock()
	s := Status{
		Name: b.cfg.Spec.Name, Addr: b.Addr(), Power: b.power, WishedOn: b.wishedOn,
		Override: b.boot.String(), SecureBoot: b.secureBoot, Boots: b.last.boots, LastBoot: b.last.from, LastStop: b.last.stop,
		Err: b.last.err, Sessions: sessions, Requests: b.asked.Load(), Connections: b.opened.Load(), Freezes: b.freezes, Faults: faults,
	}
	for _, sl := range b.slots {
		if sl.medium != nil {
			s.Media = append(s.Media, Medium{Slot: sl.ID, URL: sl.medium.Image, File: b.mediumPath(sl.medium)})
		}
	}
	return s
}
