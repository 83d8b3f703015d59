package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"metalrise.dev/bmc"
	"metalrise.dev/boot"
	"metalrise.dev/boot/netboot"
	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
	"metalrise.dev/ignition"
	"metalrise.dev/images"
	"metalrise.dev/iso"
	"metalrise.dev/provision"
)

var _ provision.NetBooter = (*controller)(nil)

// bmcs is provision's way to package bmc.
type bmcs struct{ sessions *shared }

func (b bmcs) Open(ctx context.Context, at fleet.Endpoint) (provision.BMC, error) {
	s, err := b.sessions.dial(ctx, at)
	if err != nil {
		return nil, err
	}
	return &controller{s, at.SystemURI}, nil
}

// powerShows is how long a BMC may take to show a power state that it accepted:
// slow ones need a minute after a cold start.
const powerShows = 2 * time.Minute

// controller is one server behind an open BMC session.
type controller struct {
	session *guest
	system  string
}

func (c *controller) Look(ctx context.Context) (provision.Sight, error) {
	s, err := c.session.Look(ctx, c.system)
	if err != nil {
		return provision.Sight{}, err
	}
	out := provision.Sight{Identity: s.Identity, Power: s.Power.Or(fleet.PowerOther), BootOnce: s.BootOverride.GoesTo(bmc.Cd)}
	switch {
	case s.BootOverride.GoesTo(bmc.UefiHTTP):
		out.NetOnce = fleet.UEFIHTTP
	case s.BootOverride.GoesTo(bmc.Pxe):
		out.NetOnce = fleet.PXE
	}
	for _, m := range s.Media {
		if !m.Inserted {
			continue
		}
		if out.Media = m.Image; out.Media == "" {
			out.Media = "unknown"
		}
	}
	return out, nil
}

func (c *controller) Insert(ctx context.Context, url string) error {
	return c.session.Insert(ctx, c.system, url)
}

func (c *controller) Eject(ctx context.Context) error { return c.session.Eject(ctx, c.system) }

func (c *controller) BootOnce(ctx context.Context) error {
	return c.session.BootOnce(ctx, c.system, bmc.Cd)
}

// BootNet implements provision.NetBooter. Where a BMC takes no address for UEFI
// HTTP boot, the firmware is told it by DHCP.
func (c *controller) BootNet(ctx context.Context, route fleet.BootRoute, url string) error {
	if route == fleet.PXE {
		return c.session.BootOnce(ctx, c.system, bmc.Pxe)
	}
	err := c.session.BootHTTP(ctx, c.system, url)
	if fleet.KindOf(err) == fleet.Unsupported {
		return c.session.BootOnce(ctx, c.system, bmc.UefiHTTP)
	}
	return err
}

func (c *controller) Power(ctx context.Context, to fleet.PowerState) error {
	wish := bmc.On
	if to == fleet.PowerOff {
		wish = bmc.ForceOff
	}
	if err := c.session.Power(ctx, c.system, wish); err != nil {
		return err
	}
	shown, cancel := context.WithTimeout(ctx, powerShows)
	defer cancel()
	err := c.session.WaitPower(shown, c.system, to)
	if err != nil && shown.Err() != nil && ctx.Err() == nil {
		return fleet.NewFault(fleet.CodePowerStuck, fleet.Transient, err, "wait %s for power %s", powerShows, to)
	}
	return err
}

func (c *controller) Close() error { return c.session.Close() }

// agentFile is the program that machines fetch.
type agentFile struct {
	sha256 string
	bytes  int64
}

// configs is provision's way to package ignition.
type configs struct {
	agent agentFile
	site  string
}

func (c configs) artefact(path string) ignition.Artefact {
	return ignition.Artefact{Path: path, SHA256: c.agent.sha256, Bytes: c.agent.bytes}
}

func (configs) Digest(a fleet.Assignment) (string, error) { return ignition.Digest(a) }

func (c configs) Live(a fleet.Assignment, t callhome.Ticket, agentPath string) ([]byte, error) {
	return ignition.Live(ignition.LiveInput{Assignment: a, Ticket: t, Agent: c.artefact(agentPath)})
}

// Keyfiles are those of the system's own network: the live system on the medium
// has them from its config too, but its initial RAM disk needs them sooner.
func (configs) Keyfiles(a fleet.Assignment) ([]provision.Keyfile, error) {
	files, err := ignition.LiveFiles(a)
	var out []provision.Keyfile
	for _, f := range files {
		if name := path.Base(f.Path); strings.HasSuffix(name, ".nmconnection") {
			out = append(out, provision.Keyfile{Name: name, Text: f.Text})
		}
	}
	return out, err
}

func (c configs) Installed(a fleet.Assignment, t callhome.Ticket, agentPath string) ([]byte, []string, error) {
	b, err := ignition.Installed(ignition.InstalledInput{Assignment: a, Ticket: &t, Agent: c.artefact(agentPath), Site: c.site})
	return b, nil, err // the config carries the kernel arguments itself
}

// routes finds our own address as a host reaches it: the one that the kernel
// would answer it from. No packet is sent to find out.
type routes struct {
	fixed string // address from the site file; "" asks the kernel
	port  int
}

func (r routes) Towards(host string) (string, error) {
	address, err := r.address(host)
	if err != nil {
		return "", err
	}
	return "https://" + net.JoinHostPort(address, strconv.Itoa(r.port)), nil
}

func (r routes) address(host string) (string, error) {
	if r.fixed != "" {
		return r.fixed, nil
	}
	c, err := net.Dial("udp", net.JoinHostPort(host, "9"))
	if err != nil {
		return "", fleet.NewFault(fleet.CodeBMCUnreachable, fleet.Transient, err, "find a route to %s", host)
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).IP.String(), nil
}

// desk is boot's way to the engine.
type desk struct {
	engine *atomic.Pointer[provision.Engine]
}

// The engine is wired after the listener, whose port it must know. Machines
// that call in between come again.
func (d desk) ready() (*provision.Engine, error) {
	if e := d.engine.Load(); e != nil {
		return e, nil
	}
	return nil, fleet.NewFault(fleet.CodeUnexpected, fleet.Transient, nil, "the engine is starting")
}

func caller(c boot.Caller) provision.Caller {
	return provision.Caller{Token: c.Token, KeyHash: c.KeyHash, Address: c.Addr.Addr().Unmap().String()}
}

func (d desk) Admit(c boot.Caller) error {
	e, err := d.ready()
	if err != nil {
		return err
	}
	return e.Admit(caller(c))
}

func (d desk) Who(ctx context.Context, c boot.Caller, m callhome.Who) (callhome.Orders, error) {
	e, err := d.ready()
	if err != nil {
		return callhome.Orders{}, err
	}
	return e.Who(ctx, caller(c), m)
}

func (d desk) Hello(ctx context.Context, c boot.Caller, m callhome.Hello) (callhome.Orders, error) {
	e, err := d.ready()
	if err != nil {
		return callhome.Orders{}, err
	}
	return e.Hello(ctx, caller(c), m)
}

func (d desk) Progress(ctx context.Context, c boot.Caller, m callhome.Progress) (callhome.Orders, error) {
	e, err := d.ready()
	if err != nil {
		return callhome.Orders{}, err
	}
	return e.Progress(ctx, caller(c), m)
}

func (d desk) Written(ctx context.Context, c boot.Caller, m callhome.Written) (callhome.Orders, error) {
	e, err := d.ready()
	if err != nil {
		return callhome.Orders{}, err
	}
	return e.Written(ctx, caller(c), m)
}

func (d desk) Failed(ctx context.Context, c boot.Caller, m callhome.Failed) (callhome.Orders, error) {
	e, err := d.ready()
	if err != nil {
		return callhome.Orders{}, err
	}
	return e.Failed(ctx, caller(c), m)
}

func (d desk) Erased(ctx context.Context, c boot.Caller, m callhome.Erased) (callhome.Orders, error) {
	e, err := d.ready()
	if err != nil {
		return callhome.Orders{}, err
	}
	return e.Erased(ctx, caller(c), m)
}

func (d desk) Task(ctx context.Context, c boot.Caller, m callhome.TaskReport) (callhome.Orders, error) {
	e, err := d.ready()
	if err != nil {
		return callhome.Orders{}, err
	}
	return e.Task(ctx, caller(c), m)
}

// pulls is the registry's way.
func (d desk) pulls(server fleet.ServerID, password string) error {
	e, err := d.ready()
	if err != nil {
		return err
	}
	return e.Pulls(server, password)
}

// library is boot's way to what the engine's keys open.
type library struct {
	engine    atomic.Pointer[provision.Engine]
	missing   error // why there is no release, and neither base nor disk; nil when there is
	base      *iso.Base
	minimal   *iso.Base // base without its root file system; nil where that cannot be
	noMinimal string    // why
	disk      images.Verified
	agentFile agentFile
	agentPath string
	software  *images.Payload // nil where the site has no cluster

	loaders *netboot.Loaders // nil where nothing boots from the network
	asking  *askingRoad      // nil where unnamed machines are not answered

	media *iso.Cache // by key: BMCs read one medium in hundreds of requests
}

// served tells the engine how much of a medium was read.
func (l *library) served(key string, _ netip.Addr, bytes int64) {
	if e := l.engine.Load(); e != nil {
		e.Fetched(key, bytes, l.size())
	}
}

// flowed tells the engine how fast a reader's link takes a medium.
func (l *library) flowed(key string, f boot.Flow) {
	if e := l.engine.Load(); e != nil {
		e.Flowed(key, f.Bytes, f.Busy)
	}
}

// Unmade implements provision.Media.
func (l *library) Unmade(m fleet.Medium) string {
	if m == fleet.MinimalMedium {
		return l.noMinimal
	}
	return ""
}

// Bytes implements provision.Media.
func (l *library) Bytes(m fleet.Medium) int64 {
	if m == fleet.MinimalMedium && l.minimal != nil {
		return l.minimal.Size()
	}
	return l.size()
}

// findMinimal looks whether a minimal medium can be made of the base: it must let
// its root file system be taken out, and take the network that it then needs.
func (l *library) findMinimal() {
	minimal, err := l.base.Minimal()
	switch {
	case err != nil:
		l.noMinimal = err.Error()
	case !l.base.Features().LiveInitrdNetwork:
		l.noMinimal = "the release's initial RAM disk takes no network settings"
	default:
		l.minimal = minimal
	}
}

// A cached medium is what is laid over the base: some 10 KiB, as long as no site
// adds much to it. So a thousand servers fit well.
const (
	mostMedia      = 4096
	mostMediaBytes = 512 << 20
)

func (l *library) Open(_ context.Context, key string) (boot.Content, error) {
	r, ok, err := l.asking.open(key, time.Now())
	if err != nil {
		return boot.Content{}, err
	}
	if !ok {
		e := l.engine.Load()
		if e == nil {
			return boot.Content{}, errors.New("the engine is starting")
		}
		if r, ok, err = e.Open(key); err != nil {
			return boot.Content{}, err
		}
	}
	if !ok && !r.Ended.IsZero() {
		return boot.Content{}, boot.ErrEnded
	}
	if !ok {
		return boot.Content{}, fs.ErrNotExist
	}
	switch r.Kind {
	case provision.LiveMedium:
		return l.medium(key, r)
	case provision.NetArtefact:
		return l.netArtefact(r)
	case provision.DiskImage:
		if l.missing != nil {
			return boot.Content{}, l.missing
		}
		f, err := l.disk.Open()
		return fileContent(f, l.disk.Artifact().SHA256, err)
	case provision.AgentProgram:
		f, err := os.Open(l.agentPath)
		return fileContent(f, l.agentFile.sha256, err)
	case provision.NodeSoftware:
		if l.software == nil {
			return boot.Content{}, errNoSoftware
		}
		f, _, err := l.software.Open(r.Digest)
		return fileContent(f, r.Digest, err)
	}
	return boot.Content{}, fmt.Errorf("no way to serve %s", r.Kind)
}

func (l *library) medium(key string, r provision.Resource) (boot.Content, error) {
	im, err := l.personal(key, r)
	if err != nil {
		return boot.Content{}, fmt.Errorf("medium of %s: %w", r.Server, err)
	}
	rd, err := im.Open()
	if err != nil {
		return boot.Content{}, fmt.Errorf("medium of %s: %w", r.Server, err)
	}
	return boot.Content{Body: im, Size: im.Size(), ETag: im.ETag(), WriteRange: rd.WriteRange, Close: rd.Close, Alive: func() bool {
		e := l.engine.Load()
		return e == nil || e.Serves(key)
	}}, nil
}

// personal lays one server's config over the base, once for each medium.
func (l *library) personal(key string, r provision.Resource) (*iso.Image, error) {
	return l.media.Image(key, func() (*iso.Image, error) {
		if l.missing != nil {
			return nil, l.missing
		}
		config, err := r.Ignition()
		if err != nil {
			return nil, err
		}
		if r.Medium != fleet.MinimalMedium {
			return l.base.Personalise(iso.Personal{Ignition: config})
		}
		if l.minimal == nil {
			return nil, fmt.Errorf("minimal medium: %s", l.noMinimal)
		}
		p := iso.Personal{Ignition: config, RootfsURL: r.Address(provision.NetRootfs)}
		files, err := r.Keyfiles()
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			p.Keyfiles = append(p.Keyfiles, iso.File{Name: f.Name, Data: []byte(f.Text)})
		}
		return l.minimal.Personalise(p)
	})
}

func fileContent(f *os.File, sum string, err error) (boot.Content, error) {
	if err != nil {
		return boot.Content{}, err
	}
	info, err := f.Stat()
	if err != nil {
		return boot.Content{}, errors.Join(err, f.Close())
	}
	return boot.Content{Body: f, Size: info.Size(), ModTime: info.ModTime(), ETag: `"` + sum + `"`, Close: f.Close}, nil
}
