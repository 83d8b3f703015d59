package lab

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"metalrise.dev/lab/machine"
	"metalrise.dev/lab/machine/container"
	"metalrise.dev/lab/machine/fake"
	"metalrise.dev/lab/machine/qemu"
	"metalrise.dev/lab/redfish"
)

// Lab is a running rack.
type Lab struct {
	cfg     Config
	log     *slog.Logger
	lock    *os.File
	bridged bool

	mu      sync.Mutex // over servers and cfg.Swaps once the lab is up
	servers []Server
}

// Server is one server of a running lab.
type Server struct {
	Name     string
	Spec     machine.Spec
	BMC      *redfish.BMC
	Hardware machine.Hardware
	Swaps    int // how often its install disk was swapped

	console *consoleLog
}

// ErrRunning says that another process runs the lab in this folder.
var ErrRunning = errors.New("the lab is running already")

// Start brings a lab up with all machines off: it takes the folder's lock,
// removes what a killed lab left, makes the bridge, the disks and the BMCs, and
// writes the site file. Disks that are there are kept. log may be nil.
//
// It needs root for everything but fake machines on a port above 1023. A program
// that starts container machines calls container.MaybeInit first in main.
func Start(ctx context.Context, cfg Config, log *slog.Logger) (_ *Lab, err error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if cfg.Dir, err = filepath.Abs(cfg.Dir); err != nil {
		return nil, fmt.Errorf("lab %s: %w", cfg.Name, err)
	}
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("lab %s: %w", cfg.Name, err)
	}
	l := &Lab{cfg: cfg, log: log}
	if l.lock, err = cfg.takeLock(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	if err := cfg.Save(); err != nil {
		return nil, err
	}
	if err := l.network(); err != nil {
		return nil, err
	}
	password, err := l.cfg.password()
	if err != nil {
		return nil, err
	}
	var addresses []string
	for n := 1; n <= cfg.Servers; n++ {
		s, err := l.server(ctx, n, password)
		if err != nil {
			return nil, fmt.Errorf("lab %s: %w", cfg.Name, err)
		}
		l.servers = append(l.servers, s)
		addresses = append(addresses, s.BMC.Addr())
	}
	if err := l.cfg.write(siteFile, []byte(l.cfg.site(addresses)), 0o644); err != nil {
		return nil, err
	}
	log.Info("lab is up", "lab", cfg.Name, "servers", cfg.Servers, "network", l.cfg.Network)
	return l, nil
}

// network makes the bridge anew: one that is there is a killed lab's, because
// its name belongs to this folder, whose lock is held.
func (l *Lab) network() error {
	if l.cfg.Machine == machine.Fake {
		l.cfg.Network = l.cfg.networks()[0] // for the site file only
		return nil
	}
	if err := l.cfg.deleteBridges(); err != nil {
		return err
	}
	used, err := usedNetworks()
	if err != nil {
		return err
	}
	if l.cfg.Network, err = l.cfg.chooseNetwork(used); err != nil {
		return err
	}
	// The choice is kept: addresses must not change under an installed rack.
	if err := l.cfg.Save(); err != nil {
		return err
	}
	l.bridged = true
	return l.cfg.addBridges()
}

func (l *Lab) server(ctx context.Context, n int, password string) (Server, error) {
	spec := l.cfg.spec(n)
	if err := removeSwapped(spec); err != nil {
		return Server{}, err
	}
	if err := makeData(spec); err != nil {
		return Server{}, err
	}
	hw, err := l.cfg.hardware(spec)
	if err != nil {
		return Server{}, err
	}
	console, err := openConsole(filepath.Join(spec.Dir, "console.log"), consoleBytes)
	if err != nil {
		return Server{}, err
	}
	personality, err := redfish.ParsePersonality(l.cfg.Personality)
	if err != nil {
		return Server{}, errors.Join(err, console.Close())
	}
	dir := filepath.Join(spec.Dir, "bmc")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Server{}, errors.Join(err, console.Close())
	}
	bmc, err := redfish.Start(ctx, redfish.Config{
		Listen:   net.JoinHostPort(l.cfg.bmcAddress(n).String(), strconv.Itoa(l.cfg.BMCPort)),
		Username: username, Password: password, Spec: spec, Hardware: hw, Dir: dir,
		Delays: l.cfg.Delays, Personality: personality, Console: console, Log: l.log,
	})
	if err != nil {
		return Server{}, errors.Join(err, console.Close())
	}
	return Server{Name: spec.Name, Spec: spec, BMC: bmc, Hardware: hw, Swaps: l.cfg.Swaps[spec.Name], console: console}, nil
}

func (c Config) hardware(s machine.Spec) (machine.Hardware, error) {
	switch c.Machine {
	case machine.Container:
		return container.New(s, c.Ignition)
	case machine.QEMU:
		m, err := qemu.New(s)
		if err == nil {
			m.Clock = time.Duration(c.Clock)
		}
		return m, err
	}
	return fake.New(s, nil), nil
}

// Servers lists all servers in their order.
func (l *Lab) Servers() []Server {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.servers)
}

// Config tells how the lab was made; Network is set.
func (l *Lab) Config() Config {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cfg
}

// SitePath is the site file that points the product at the lab.
func (l *Lab) SitePath() string { return l.cfg.SitePath() }

// Untouched reports every disk besides a server's first that was written to.
func (l *Lab) Untouched() error {
	var all []error
	for _, s := range l.Servers() {
		all = append(all, untouched(s.Spec))
	}
	return errors.Join(all...)
}

// Close cuts the power of all machines, stops the BMCs and removes everything
// but the folder. Calling it again does nothing.
func (l *Lab) Close() error {
	if l.lock == nil {
		return nil
	}
	var g errgroup.Group
	for _, s := range l.Servers() {
		g.Go(func() error { return errors.Join(s.BMC.Close(), s.console.Close()) })
	}
	err := g.Wait()
	if l.bridged {
		err = errors.Join(err, l.cfg.deleteBridges())
	}
	err = errors.Join(err, l.lock.Close())
	l.lock = nil
	if err != nil {
		return fmt.Errorf("lab %s: close: %w", l.cfg.Name, err)
	}
	return nil
}

const lockFile = "lock"

// takeLock is held until the file is closed, also by a kill -9.
func (c Config) takeLock() (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(c.Dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lab %s: %w", c.Name, err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = ErrRunning
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lab %s: %w", c.Name, err), f.Close())
	}
	return f, nil
}

// Clean removes what a killed lab may have left outside its folder: loop devices,
// control groups, interfaces. It answers ErrRunning where one runs.
func (c Config) Clean(ctx context.Context) error {
	lock, err := c.takeLock()
	if err != nil {
		return err
	}
	defer lock.Close()
	return c.clean(ctx)
}

func (c Config) clean(ctx context.Context) error {
	var all []error
	for n := 1; n <= c.Servers; n++ {
		hw, err := c.hardware(c.spec(n))
		if err == nil {
			err = hw.Clean(ctx)
		}
		all = append(all, err)
	}
	if c.Machine != machine.Fake {
		all = append(all, c.deleteBridges())
	}
	return errors.Join(all...)
}

// Remove cleans and then deletes the lab's files and, if nothing else is in it,
// its folder.
func (c Config) Remove(ctx context.Context) error {
	lock, err := c.takeLock()
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := c.clean(ctx); err != nil {
		return err
	}
	// lab.json goes last: while it is there, removing can be tried again.
	for _, name := range []string{"servers", siteFile, passwordFile, logFile, socketFile, lockFile, configFile} {
		if err := os.RemoveAll(filepath.Join(c.Dir, name)); err != nil {
			return fmt.Errorf("lab %s: remove: %w", c.Name, err)
		}
	}
	if err := os.Remove(c.Dir); err != nil && !errors.Is(err, unix.ENOTEMPTY) {
		return fmt.Errorf("lab %s: remove: %w", c.Name, err)
	}
	return nil
}
