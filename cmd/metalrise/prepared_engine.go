package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"metalrise.dev/boot"
	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
	"metalrise.dev/ignition"
	"metalrise.dev/images"
	"metalrise.dev/provision"
	"metalrise.dev/provision/api"
)

const (
	ticketPath = callhome.TicketPath
	// preparedPort is where a machine's own engine answers its own agent. It is the
	// same in both systems, below what Linux and Kubernetes give out by themselves
	// (32768 and 30000 upwards).
	preparedPort = 18443
)

// run is the engine of this machine. software is the folder of the nodes'
// software, nil in the live system, where nobody asks for it yet. A consent
// without a plan continues what was consented to. It gives how the machine stands
// at the end.
func (p *preparing) run(ctx context.Context, own *ownMachine, software *string, consent fleet.Consent) (fleet.Overview, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	d := &daemon{ctx: ctx, stop: stop, store: p.store, log: p.log}
	lib := &preparedLibrary{medium: p.medium}
	own.engine = &lib.engine
	server, err := p.start(d, own, lib, software)
	if err != nil {
		return fleet.Overview{}, err
	}
	defer server.Close()
	if err := d.Resume(ctx); err != nil {
		return fleet.Overview{}, err
	}
	if consent.Plan != "" {
		if err := d.Apply(consent); err != nil {
			return fleet.Overview{}, err
		}
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return api.Serve(gctx, p.store.Dir(), d, p.store) })
	g.Go(func() error { d.restWhenDone(gctx); return nil })
	g.Go(func() error { p.narrate(gctx); return nil })
	err = g.Wait()
	stop()
	d.Wait()
	return d.Overview(), err
}

// narrate prints events as they come: the console is all that a person sees.
func (p *preparing) narrate(ctx context.Context) {
	names := hostnames(ctx, p.store.Dir())
	err := p.follow(ctx, p.store.Dir(), 0, true, func(e fleet.Event) error {
		if e.Edge != fleet.Progressed {
			printEvent(p.out, e, names)
		}
		return nil
	})
	if err != nil && ctx.Err() == nil {
		p.log.Warn("events are not shown any more", "error", err)
	}
}

// start makes the engine and serves it on the machine's own loopback only.
func (p *preparing) start(d *daemon, own *ownMachine, lib *preparedLibrary, software *string) (*boot.Server, error) {
	name := p.file.Site().Name
	authority, err := d.authority(name)
	if err != nil {
		return nil, err
	}
	secret, err := d.store.Secret("tokens")
	if err != nil {
		return nil, err
	}
	var program agentFile
	if program, lib.program, err = ownProgram(); err != nil {
		return nil, err
	}
	lib.programSHA256 = program.sha256
	var clusters *provision.Clusters
	x := &p.medium.mediumIndex
	if x.Payload != nil {
		digest, err := fleet.Digest(*x.Payload)
		if err != nil {
			return nil, err
		}
		clusters = &provision.Clusters{Flavour: kubeadm{*x.Payload}, Vault: d.store, Payload: digest}
		if software != nil && *software != "" {
			if lib.software, err = verifiedPayload(d.ctx, *software, d.store.Dir()); err != nil {
				return nil, err
			}
			clusters.Stacks = stacksOf(lib.software)
		}
	}
	server, err := boot.Listen(d.ctx, boot.Config{Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(preparedPort)), Authority: authority,
		Desk: desk{&lib.engine}, Library: lib, Log: d.log})
	if err != nil {
		return nil, fmt.Errorf("serve this machine's agent on port %d: %w", preparedPort, err)
	}
	d.Engine, err = provision.NewEngine(provision.Config{
		Site: name, Journal: d.store, Archive: d.store, BMCs: own, Configs: preparedConfigs{configs{agent: program, site: name}, p.ref.describe()},
		Routes: routes{fixed: "127.0.0.1", port: preparedPort}, Secret: secret, CA: string(authority.PEM()), Image: x.Disk, ISO: x.Image.ISOSHA256,
		Log: d.log, Clusters: clusters,
	})
	if err != nil {
		return nil, errors.Join(err, server.Close())
	}
	lib.engine.Store(d.Engine)
	return server, nil
}

// describe is the medium for package ignition, as this machine was told of it.
func (r mediumRef) describe() ignition.Medium {
	text, _ := marshalRef(r) // it was read from JSON
	return ignition.Medium{Build: r.Build, Offset: r.Offset, ProgramAt: r.Program.At,
		Program: ignition.Artefact{SHA256: r.Program.SHA256, Bytes: r.Program.Bytes}, Description: text}
}

// unpackSoftware makes the folder of the nodes' software out of the medium: here
// the root file system has its full size. What is there is not made again.
func (p *preparing) unpackSoftware(ctx context.Context) error {
	if p.medium.Payload == nil {
		return nil
	}
	list := filepath.Join(preparedSoftware, "payload.json")
	if _, err := os.Stat(list); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Join(preparedSoftware, "blobs"), 0o700); err != nil {
		return err
	}
	p.tell("unpacking the node's software from %s", p.medium.path)
	for _, c := range p.medium.Contents {
		if c.Name == contentProgram || c.Name == contentDisk {
			continue
		}
		to := filepath.Join(preparedSoftware, filepath.FromSlash(fleet.Blob(c.SHA256)))
		if info, err := os.Stat(to); err == nil && info.Size() == c.Bytes {
			continue // it was whole when it got its name; its digest is checked later
		}
		if err := p.medium.unpack(ctx, c, to); err != nil {
			if p.medium.isCopy() && ctx.Err() == nil { // the medium itself may still be in
				err = errors.Join(err, os.Remove(ignition.CarriedCopy))
			}
			return err
		}
	}
	text, err := marshalText(*p.medium.Payload)
	if err != nil {
		return err
	}
	return replaceFile(list, []byte(text), 0o600)
}

// preparedLibrary is boot's way to what is on the medium and on this machine.
type preparedLibrary struct {
	engine        atomic.Pointer[provision.Engine]
	medium        *medium
	program       string // path
	programSHA256 string
	software      *images.Payload // nil in the live system
}

// Open implements boot.Library. The disk image is not hashed here: the agent
// lets no disk boot whose bytes are not the planned ones.
func (l *preparedLibrary) Open(_ context.Context, key string) (boot.Content, error) {
	e := l.engine.Load()
	if e == nil {
		return boot.Content{}, errors.New("the engine is starting")
	}
	r, ok, err := e.Open(key)
	if err != nil {
		return boot.Content{}, err
	}
	if !ok {
		return boot.Content{}, fs.ErrNotExist
	}
	switch r.Kind {
	case provision.DiskImage:
		c, ok := l.medium.find(contentDisk)
		if !ok || l.medium.isCopy() {
			return boot.Content{}, errors.New("the disk image is not here any more")
		}
		return boot.Content{Body: l.medium.section(c), Size: c.Stored, ETag: `"` + c.SHA256 + `"`}, nil
	case provision.AgentProgram:
		f, err := os.Open(l.program)
		return fileContent(f, l.programSHA256, err)
	case provision.NodeSoftware:
		if l.software == nil {
			return boot.Content{}, errNoSoftware
		}
		f, _, err := l.software.Open(r.Digest)
		return fileContent(f, r.Digest, err)
	}
	return boot.Content{}, fmt.Errorf("a machine's own engine does not serve %s", r.Kind)
}
