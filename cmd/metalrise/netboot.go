package main

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"metalrise.dev/boot"
	"metalrise.dev/boot/netboot"
	"metalrise.dev/fleet"
	"metalrise.dev/iso"
	"metalrise.dev/provision"
)

// netRoad answers machines that boot from the network.
type netRoad struct {
	server  *netboot.Server
	book    *guestBook
	foreign map[netip.Addr]bool // other DHCP servers that are in the journal
}

// startNetRoad begins to answer on an interface. Beside another DHCP server it
// gives no addresses.
func startNetRoad(ctx context.Context, device string, lib *library, strange *strangers, log *slog.Logger) (*netRoad, error) {
	loaders, err := netboot.ReadLoaders(netboot.LoaderDirs()...)
	if err != nil {
		return nil, err
	}
	foreign, err := netboot.Foreign(ctx, device, netboot.ForeignWait)
	if err != nil {
		return nil, fmt.Errorf("look for other DHCP servers on %s: %w", device, err)
	}
	n := &netRoad{foreign: map[netip.Addr]bool{}}
	mode := netboot.Whole
	for _, f := range foreign {
		n.neighbour(ctx, f, time.Now(), strange, log)
		if f.Gives != netboot.GivesBoot {
			mode = netboot.Beside
		}
	}
	lib.loaders = loaders
	n.book = &guestBook{engine: &lib.engine, mode: mode}
	if mode == netboot.Beside { // else nobody gives such a machine an address
		n.book.asking = lib.asking
		if lib.asking != nil {
			lib.asking.late = func(end time.Time) { strange.late(ctx, end, log) }
		}
	}
	seen := make(chan netboot.Sighting, 64)
	n.server, err = netboot.Listen(ctx, netboot.Config{Interface: device, Mode: mode, Guests: n.book, Files: loaders, Log: log, Report: func(s netboot.Sighting) {
		select {
		case seen <- s:
		default: // a flood; who is still there asks again
		}
	}})
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			select {
			case s := <-seen:
				n.note(ctx, s, strange, log)
			case <-ctx.Done():
				return
			}
		}
	}()
	return n, nil
}

// note logs what was seen on the wire, and keeps machines that nobody planned.
func (n *netRoad) note(ctx context.Context, s netboot.Sighting, strange *strangers, log *slog.Logger) {
	log.Info("network boot", "saw", s.Kind, "mac", s.Client.MAC, "uuid", s.Client.UUID, "server", s.Guest, "peer", s.Peer, "file", s.File, "why", s.Text)
	if s.Kind == netboot.SightingForeign && s.Foreign != nil {
		n.neighbour(ctx, *s.Foreign, s.At, strange, log)
	}
	e := n.book.engine.Load()
	if s.Kind != netboot.SightingUnknown || e == nil {
		return
	}
	if _, planned := e.Planned(s.Client.MAC, s.Client.UUID); planned {
		return // installed, or not to be booted now
	}
	if err := strange.see(ctx, s.Client, s.At); err != nil && ctx.Err() == nil {
		log.Warn("journal of a machine that is not planned", "mac", s.Client.MAC, "error", err)
	}
}

// neighbour journals another DHCP server, once in an engine's life: two that do
// not know of each other make machines boot by luck.
func (n *netRoad) neighbour(ctx context.Context, f netboot.ForeignServer, at time.Time, strange *strangers, log *slog.Logger) {
	if n.foreign[f.ID] || len(n.foreign) >= mostStrangers {
		return
	}
	n.foreign[f.ID] = true
	log.Warn("another DHCP server is at work", "server", f.String())
	_, err := strange.store.Append(ctx, fleet.Event{At: at, Action: fleet.ActStranger, Edge: fleet.Ended, Outcome: fleet.OK,
		Note: "another server answers where machines boot from the network: " + f.String()})
	if err != nil && ctx.Err() == nil {
		log.Warn("journal of another DHCP server", "server", f.String(), "error", err)
	}
}

// guestBook tells netboot which machines may boot from the network now.
type guestBook struct {
	engine *atomic.Pointer[provision.Engine]
	mode   netboot.Mode
	asking *askingRoad // nil where unnamed machines are not answered
}

// Guest implements netboot.Guests.
func (b *guestBook) Guest(c netboot.Client) (netboot.Guest, bool) {
	e := b.engine.Load()
	if e == nil {
		return netboot.Guest{}, false
	}
	all := e.NetGuests()
	i := slices.IndexFunc(all, func(g provision.NetGuest) bool { return g.Network.Has(c.MAC) })
	if i < 0 && c.UUID != "" {
		i = slices.IndexFunc(all, func(g provision.NetGuest) bool { return strings.EqualFold(g.Identity.UUID, c.UUID) })
	}
	if i < 0 {
		if _, planned := e.Planned(c.MAC, c.UUID); planned { // it is to boot its disk
			return netboot.Guest{}, false
		}
		return b.asking.guest(c, time.Now())
	}
	g := all[i]
	if g.Any { // whatever its firmware was set to
		if g.Route = fleet.PXE; c.Class == netboot.ClassHTTP {
			g.Route = fleet.UEFIHTTP
		}
	}
	e.Told(g)
	return netGuest(g, b.mode), true
}

// netGuest says in netboot's words what a server is to be told.
func netGuest(g provision.NetGuest, mode netboot.Mode) netboot.Guest {
	host, _, _ := strings.Cut(g.Hostname, ".")
	out := netboot.Guest{Name: string(g.Server), Host: host, Road: netboot.RoadPXE, Script: g.Script, Until: g.Until}
	if g.Route == fleet.UEFIHTTP {
		out.Road, out.Image = netboot.RoadUEFIHTTP, g.Loader
	}
	if mode == netboot.Beside {
		return out
	}
	// What cannot be read stays zero, and netboot reports the guest as invalid.
	out.Address, _ = netip.ParsePrefix(g.Network.Address)
	out.Gateway, _ = netip.ParseAddr(g.Network.Gateway)
	for _, d := range g.Network.DNS {
		if a, err := netip.ParseAddr(d); err == nil && a.Is4() {
			out.DNS = append(out.DNS, a)
		}
	}
	return out
}

// netArtefact serves one part of a server's boot from the network.
func (l *library) netArtefact(r provision.Resource) (boot.Content, error) {
	if l.missing != nil {
		return boot.Content{}, l.missing
	}
	switch r.Name {
	case provision.NetLoader:
		if l.loaders == nil {
			return boot.Content{}, fs.ErrNotExist
		}
		b, ok := l.loaders.Bytes(netboot.LoaderUEFI)
		if !ok {
			return boot.Content{}, fmt.Errorf("no %s among the loaders", netboot.LoaderUEFI)
		}
		return held(b, "application/efi"), nil
	case provision.NetScript:
		b, err := l.netScript(r)
		return held(b, "text/plain; charset=us-ascii"), err
	case provision.NetPersonal:
		config, err := r.Ignition()
		if err != nil {
			return boot.Content{}, err
		}
		b, err := iso.Archive(iso.Personal{Ignition: config})
		return held(b, ""), err
	}
	path, ok := map[string]string{provision.NetKernel: iso.KernelPath, provision.NetInitrd: iso.InitrdPath, provision.NetRootfs: iso.RootfsPath}[r.Name]
	if !ok {
		return boot.Content{}, fs.ErrNotExist
	}
	f, err := l.base.File(path)
	if err != nil {
		return boot.Content{}, err
	}
	return boot.Content{Body: f, Size: f.Size(), ETag: `"` + r.Name + `"`}, nil
}

func held(b []byte, kind string) boot.Content {
	return boot.Content{Body: bytes.NewReader(b), Size: int64(len(b)), Type: kind}
}

// netScript is what iPXE does: the release's kernel with its own arguments, where
// the medium is replaced by the address of the root file system.
func (l *library) netScript(r provision.Resource) ([]byte, error) {
	words, err := iso.ReadKargs(l.base, l.base.Size())
	if err != nil {
		return nil, fmt.Errorf("kernel arguments of the live system: %w", err)
	}
	words = slices.DeleteFunc(words, func(w string) bool { return strings.HasPrefix(w, "coreos.liveiso=") })
	for _, w := range []string{"ignition.firstboot", "ignition.platform.id=metal"} {
		if !slices.Contains(words, w) {
			words = append(words, w)
		}
	}
	args, err := netboot.ParseArgs(words...)
	if err != nil {
		return nil, err
	}
	root, err := netboot.LiveRootFS(r.Address(provision.NetRootfs))
	if err != nil {
		return nil, err
	}
	return netboot.Script{
		Kernel:  r.Address(provision.NetKernel),
		Initrds: []string{r.Address(provision.NetInitrd), r.Address(provision.NetPersonal)},
		Args:    append(args, root),
	}.Render()
}

// netRoad starts to serve boots from the network where the site names an
// interface. It gives the reason why none can be, "" when they can: the other rungs
// do without.
func (d *daemon) netRoad(s fleet.Site, lib *library) string {
	if s.Serving.Netboot == "" {
		return "serving.netboot names no interface to boot from"
	}
	n, err := startNetRoad(d.ctx, s.Serving.Netboot, lib, d.strangers, d.log)
	if err != nil {
		d.log.Error("no server can boot from the network", "interface", s.Serving.Netboot, "error", err)
		return "booting from the network on " + s.Serving.Netboot + ": " + err.Error()
	}
	d.net = n
	return ""
}

// Close ends what a nil netRoad never began.
func (n *netRoad) Close() error {
	if n == nil {
		return nil
	}
	return n.server.Close()
}
