package bench

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"metalrise.dev/bmc"
	"metalrise.dev/boot"
	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
	"metalrise.dev/fleet/site"
	"metalrise.dev/ignition"
	"metalrise.dev/images"
	"metalrise.dev/iso"
	"metalrise.dev/provision"
)

// tally counts what a run costs others.
type tally struct {
	calls atomic.Int64 // of agents
	bytes atomic.Int64 // of media, images and programs
}

// surveyor and drivers are the program's ways from provision to bmc.
type surveyor struct{}

func (surveyor) Probe(ctx context.Context, address string) fleet.Found {
	f, err := bmc.Probe(ctx, address)
	out := fleet.Found{Address: address, Fingerprint: f.Fingerprint, Vendor: f.Vendor, Product: f.Product, Redfish: f.RedfishVersion,
		UUID: f.UUID, What: string(f.What), Why: f.Why}
	if err != nil {
		out.Why = err.Error()
	}
	return out
}

func (surveyor) Inspect(ctx context.Context, at fleet.Endpoint) (provision.Behind, error) {
	s, err := dial(ctx, at)
	if err != nil {
		return provision.Behind{}, err
	}
	defer s.Close()
	b := provision.Behind{Fingerprint: s.Fingerprint()}
	systems, err := s.Systems(ctx)
	if err != nil {
		return b, err
	}
	for _, sys := range systems {
		facts, err := s.Inspect(ctx, sys.URI)
		if err != nil {
			return b, err
		}
		b.Servers = append(b.Servers, facts)
	}
	b.Requests = int(s.Stats().Requests)
	return b, nil
}

func dial(ctx context.Context, at fleet.Endpoint) (*bmc.Session, error) {
	password, err := site.ResolveSecret(at.Password)
	if err != nil {
		return nil, err
	}
	return bmc.Dial(ctx, bmc.Login{Endpoint: at, Password: password})
}

type drivers struct{}

func (drivers) Open(ctx context.Context, at fleet.Endpoint) (provision.BMC, error) {
	s, err := dial(ctx, at)
	if err != nil {
		return nil, err
	}
	return &driver{s, at.SystemURI}, nil
}

type driver struct {
	*bmc.Session
	system string
}

func (d *driver) Look(ctx context.Context) (provision.Sight, error) {
	s, err := d.Session.Look(ctx, d.system)
	if err != nil {
		return provision.Sight{}, err
	}
	once := strings.EqualFold(s.BootOverride.Enabled, "Once") && strings.EqualFold(s.BootOverride.Target, "Cd")
	out := provision.Sight{Identity: s.Identity, Power: s.Power.Or(fleet.PowerOther), BootOnce: once}
	for _, m := range s.Media {
		if m.Inserted {
			out.Media = m.Image
		}
	}
	return out, nil
}

func (d *driver) Insert(ctx context.Context, url string) error {
	return d.Session.Insert(ctx, d.system, url)
}
func (d *driver) Eject(ctx context.Context) error { return d.Session.Eject(ctx, d.system) }
func (d *driver) BootOnce(ctx context.Context) error {
	return d.Session.BootOnce(ctx, d.system, bmc.Cd)
}

func (d *driver) Power(ctx context.Context, to fleet.PowerState) error {
	wish := bmc.On
	if to == fleet.PowerOff {
		wish = bmc.ForceOff
	}
	if err := d.Session.Power(ctx, d.system, wish); err != nil {
		return err
	}
	return d.WaitPower(ctx, d.system, to)
}

// program is a file that stands for the agent program.
type program struct {
	path, sum string
	bytes     int64
}

// configs is the program's way from provision to ignition.
type configs struct {
	program program
	site    string
}

func (c configs) artefact(path string) ignition.Artefact {
	return ignition.Artefact{Path: path, SHA256: c.program.sum, Bytes: c.program.bytes}
}

func (configs) Digest(a fleet.Assignment) (string, error) { return ignition.Digest(a) }

func (c configs) Live(a fleet.Assignment, t callhome.Ticket, path string) ([]byte, error) {
	return ignition.Live(ignition.LiveInput{Assignment: a, Ticket: t, Agent: c.artefact(path)})
}

// Keyfiles are for minimal media, and all that is measured here is whole.
func (configs) Keyfiles(fleet.Assignment) ([]provision.Keyfile, error) { return nil, nil }

func (c configs) Installed(a fleet.Assignment, t callhome.Ticket, path string) ([]byte, []string, error) {
	b, err := ignition.Installed(ignition.InstalledInput{Assignment: a, Ticket: &t, Agent: c.artefact(path), Site: c.site})
	return b, nil, err
}

type route string

func (r route) Towards(string) (string, error) { return string(r), nil }

// desk is the program's way from boot to the engine. Its calls end with the
// engine's life, as they do when a process ends.
type desk struct {
	engine *atomic.Pointer[provision.Engine]
	life   context.Context //nolint:containedctx // that of the engine, not of a call
	tally  *tally
}

func through[M any](d desk, ctx context.Context, c boot.Caller, m M,
	to func(*provision.Engine, context.Context, provision.Caller, M) (callhome.Orders, error)) (callhome.Orders, error) {
	d.tally.calls.Add(1)
	e := d.engine.Load()
	if e == nil || d.life.Err() != nil {
		return callhome.Orders{}, fleet.NewFault(fleet.CodeUnexpected, fleet.Transient, nil, "the engine is not there")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(d.life, cancel)()
	return to(e, ctx, provision.Caller{Token: c.Token, KeyHash: c.KeyHash, Address: c.Addr.Addr().Unmap().String()}, m)
}

func (d desk) Admit(c boot.Caller) error {
	e := d.engine.Load()
	if e == nil || d.life.Err() != nil {
		return fleet.NewFault(fleet.CodeUnexpected, fleet.Transient, nil, "the engine is not there")
	}
	return e.Admit(provision.Caller{Token: c.Token, KeyHash: c.KeyHash})
}
func (d desk) Who(ctx context.Context, c boot.Caller, m callhome.Who) (callhome.Orders, error) {
	return through(d, ctx, c, m, (*provision.Engine).Who)
}
func (d desk) Hello(ctx context.Context, c boot.Caller, m callhome.Hello) (callhome.Orders, error) {
	return through(d, ctx, c, m, (*provision.Engine).Hello)
}
func (d desk) Progress(ctx context.Context, c boot.Caller, m callhome.Progress) (callhome.Orders, error) {
	return through(d, ctx, c, m, (*provision.Engine).Progress)
}
func (d desk) Written(ctx context.Context, c boot.Caller, m callhome.Written) (callhome.Orders, error) {
	return through(d, ctx, c, m, (*provision.Engine).Written)
}
func (d desk) Failed(ctx context.Context, c boot.Caller, m callhome.Failed) (callhome.Orders, error) {
	return through(d, ctx, c, m, (*provision.Engine).Failed)
}
func (d desk) Erased(ctx context.Context, c boot.Caller, m callhome.Erased) (callhome.Orders, error) {
	return through(d, ctx, c, m, (*provision.Engine).Erased)
}
func (d desk) Task(ctx context.Context, c boot.Caller, m callhome.TaskReport) (callhome.Orders, error) {
	return through(d, ctx, c, m, (*provision.Engine).Task)
}

// library is the program's way from boot to what is served.
type library struct {
	engine  atomic.Pointer[provision.Engine]
	base    *iso.Base
	disk    images.Verified
	program program

	mu    sync.Mutex
	media map[string]*iso.Image
}

func (l *library) Open(_ context.Context, key string) (boot.Content, error) {
	e := l.engine.Load()
	if e == nil {
		return boot.Content{}, errors.New("the engine is not there")
	}
	r, ok, err := e.Open(key)
	if err != nil {
		return boot.Content{}, err
	}
	if !ok {
		return boot.Content{}, fs.ErrNotExist
	}
	switch r.Kind {
	case provision.LiveMedium:
		return l.medium(key, r.Ignition)
	case provision.DiskImage:
		f, err := l.disk.Open()
		return content(f, l.disk.Artifact().SHA256, err)
	default:
		f, err := os.Open(l.program.path)
		return content(f, l.program.sum, err)
	}
}

func (l *library) medium(key string, render func() ([]byte, error)) (boot.Content, error) {
	l.mu.Lock()
	im := l.media[key]
	if im == nil {
		config, err := render()
		if err != nil {
			l.mu.Unlock()
			return boot.Content{}, err
		}
		if im, err = l.base.Personalise(iso.Personal{Ignition: config}); err != nil {
			l.mu.Unlock()
			return boot.Content{}, err
		}
		l.media[key] = im
	}
	l.mu.Unlock()
	r, err := im.Open()
	if err != nil {
		return boot.Content{}, err
	}
	return boot.Content{Body: im, Size: im.Size(), ETag: im.ETag(), WriteRange: r.WriteRange, Close: r.Close}, nil
}

func content(f *os.File, sum string, err error) (boot.Content, error) {
	if err != nil {
		return boot.Content{}, err
	}
	info, err := f.Stat()
	if err != nil {
		return boot.Content{}, errors.Join(err, f.Close())
	}
	return boot.Content{Body: f, Size: info.Size(), ETag: `"` + sum + `"`, Close: f.Close}, nil
}
