package main

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"metalrise.dev/boot"
	"metalrise.dev/boot/netboot"
	"metalrise.dev/fleet"
	"metalrise.dev/iso"
	"metalrise.dev/provision/store"
)

func probeCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "probe [SERVER...]",
		Short: "Ask each BMC to fetch a tiny medium, to learn which routes will carry",
		Long: `probe tries the boot ladder's media before a run. Each BMC that inspect knows is asked
to insert an ISO of 54 KiB from the address that it would really use, over HTTPS and
over HTTP; our own server tells whether it was fetched, and from where; then it is
ejected. Power and boot order are never touched, and a drive that holds something
is left alone. For the network routes it tells what the BMC offers.

apply does the same by itself before a run, where the last probe is older than a day.
The result is kept in the journal; a run begins on the first route that works.

It ends with code 3 if a server has no medium that was fetched.
` + exitHelp,
		Example: "  metalrise probe -f site.yaml\n  metalrise probe -f site.yaml SN12345 --output json",
		RunE:    func(c *cobra.Command, args []string) error { return o.probe(c.Context(), args) },
	}
}

// probeState is how a route stood the probe.
type probeState string

const (
	probeWorks     probeState = "works"       // the BMC fetched the medium
	probeUnfetched probeState = "not-fetched" // it took the medium and did not fetch it: it may do so only when the server boots
	probeFailed    probeState = "failed"
	probeOffered   probeState = "offered" // the BMC lists the boot target; it was not tried
	probeLacking   probeState = "not-offered"
	probeUnknown   probeState = "unknown" // the BMC does not say
	probeLeft      probeState = "left-alone"
)

// routeProbe is the result of one route of one server.
type routeProbe struct {
	Route   fleet.BootRoute `json:"route"`
	State   probeState      `json:"state"`
	Seconds float64         `json:"seconds,omitempty"` // insert until it was fetched, or given up
	From    string          `json:"from,omitempty"`    // who fetched it
	Bytes   int64           `json:"bytes,omitempty"`
	Cause   *fleet.Cause    `json:"cause,omitempty"`
}

type serverProbe struct {
	Server fleet.ServerID `json:"server"`
	BMC    string         `json:"bmc"`
	Routes []routeProbe   `json:"routes"`
}

// Bounds of one probe: BMCs take some seconds to mount what they fetched. Before a
// run nobody wants to wait for the slowest of them.
const (
	probeInsert  = 2 * time.Minute
	probeFetch   = 10 * time.Second
	probeHurry   = 20 * time.Second // for one BMC, before a run
	probeAtOnce  = 32
	probeSecond  = 100 * time.Millisecond
	probeMessage = "This medium was inserted by metalrise probe. It may be ejected.\n"
)

// prober serves the probe medium and remembers who fetched it.
type prober struct {
	sessions *shared
	way      roads
	body     []byte
	targets  map[fleet.ServerID][]string // boot targets that the BMCs list
	// hurry probes the second route only where the first one does not work, and
	// leaves out what only a boot can try.
	hurry bool

	mu   sync.Mutex
	seen map[string]*routeProbe // by key
}

// Open implements boot.Library.
func (p *prober) Open(_ context.Context, key string) (boot.Content, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.seen[key] == nil {
		return boot.Content{}, fs.ErrNotExist
	}
	return boot.Content{Body: bytes.NewReader(p.body), Size: int64(len(p.body)), ETag: `"probe-1"`}, nil
}

func (p *prober) served(key string, from netip.Addr, n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r := p.seen[key]; r != nil {
		r.From, r.Bytes = from.String(), r.Bytes+n
	}
}

func (o *options) probe(ctx context.Context, only []string) error {
	s, _, err := o.loadSite()
	if err != nil {
		return err
	}
	st, err := o.writer(s.Name)
	if err != nil {
		return err
	}
	defer st.Close()
	servers, targets, err := o.probeWhom(ctx, st, only)
	if err != nil {
		return err
	}
	p := &prober{targets: targets, seen: map[string]*routeProbe{}}
	all, err := o.probeAll(ctx, s, st, p, servers)
	if err != nil {
		return err
	}
	return o.printProbes(all)
}

// probeAll probes servers, as many at once as may be, and writes down how they
// stood it.
func (o *options) probeAll(ctx context.Context, s fleet.Site, st *store.Store, p *prober, servers []fleet.Server) ([]serverProbe, error) {
	d := newDoor(st)
	if err := o.forgetLeft(ctx, d); err != nil {
		return nil, err
	}
	p.sessions = newShared(d)
	var err error
	if p.body, err = iso.Probe(probeMessage); err != nil {
		return nil, err
	}
	server, err := p.listen(ctx, s, &daemon{ctx: ctx, store: st, log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	defer server.Close()
	all := make([]serverProbe, len(servers))
	var g errgroup.Group
	g.SetLimit(probeAtOnce)
	for i, srv := range servers {
		g.Go(func() error { all[i] = p.server(ctx, srv); return nil })
	}
	_ = g.Wait()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	var events []fleet.Event
	for _, r := range all {
		e, err := r.event(time.Now())
		if err != nil {
			return nil, err
		}
		events = append(events, e)
	}
	_, err = st.Append(ctx, events...)
	return all, err
}

// probeWhom finds the servers, in the order of their BMCs.
func (o *options) probeWhom(ctx context.Context, st *store.Store, only []string) ([]fleet.Server, map[fleet.ServerID][]string, error) {
	known, err := st.Servers(ctx)
	if err != nil {
		return nil, nil, err
	}
	facts, err := st.Facts(ctx)
	if err != nil {
		return nil, nil, err
	}
	var out []fleet.Server
	targets := map[fleet.ServerID][]string{}
	for place, s := range known {
		targets[s.ID] = facts[place].BootTargets
		if s.BMC.IsByHand() { // there is nobody to ask
			continue
		}
		if len(only) == 0 || slices.Contains(only, string(s.ID)) {
			out = append(out, s)
		}
	}
	for _, name := range only {
		if !slices.ContainsFunc(out, func(s fleet.Server) bool { return string(s.ID) == name }) {
			return nil, nil, fleet.NewFault(fleet.CodeSiteUnknownServer, fleet.Invalid, nil, "no server %q was inspected", name)
		}
	}
	if len(out) == 0 {
		return nil, nil, fleet.NewFault(fleet.CodeNoServers, fleet.Invalid, nil, "no server of this site was inspected yet: run metalrise inspect")
	}
	slices.SortFunc(out, func(a, b fleet.Server) int {
		if c := fleet.CompareNames(a.BMC.Address, b.BMC.Address); c != 0 {
			return c
		}
		return strings.Compare(string(a.ID), string(b.ID))
	})
	return out, targets, nil
}

// listen serves where the engine would, with the same certificate: firewalls and
// BMCs must not tell the two apart.
func (p *prober) listen(ctx context.Context, s fleet.Site, d *daemon) (*boot.Server, error) {
	authority, err := d.authority(s.Name)
	if err != nil {
		return nil, err
	}
	port := s.Serving.Port
	if port == 0 {
		if port, err = d.store.ServingPort(ctx); err != nil {
			return nil, err
		}
	}
	plain, err := plainPort(ctx, d.store, s.Serving.Address)
	if err != nil {
		return nil, err
	}
	server, err := boot.Listen(ctx, boot.Config{Addr: net.JoinHostPort(s.Serving.Address, strconv.Itoa(port)), PlainAddr: plain,
		Authority: authority, Desk: desk{&(&library{}).engine}, Library: p, Served: p.served, Log: d.log})
	if err != nil {
		return nil, fmt.Errorf("serve the probe on port %d: %w", port, err)
	}
	p.way = roads{routes: routes{fixed: s.Serving.Address, port: server.Addr().(*net.TCPAddr).Port}, plain: server.PlainAddr().(*net.TCPAddr).Port}
	return server, nil
}

// server probes all routes of one server.
func (p *prober) server(ctx context.Context, s fleet.Server) serverProbe {
	out := serverProbe{Server: s.ID, BMC: s.BMC.Address}
	fail := func(err error) serverProbe {
		for _, r := range []fleet.BootRoute{fleet.VirtualMedia, fleet.VirtualMediaHTTP} {
			out.Routes = append(out.Routes, routeProbe{Route: r, State: probeFailed, Cause: fleet.CauseOf(err)})
		}
		out.Routes = append(out.Routes, p.offers(s)...)
		return out
	}
	ctx, cancel := context.WithTimeout(ctx, p.patience())
	defer cancel()
	session, err := p.sessions.dial(ctx, s.BMC)
	if err != nil {
		return fail(err)
	}
	defer session.Close()
	c := &controller{session, s.BMC.SystemURI}
	sight, err := c.Look(ctx)
	switch {
	case err != nil:
		return fail(err)
	case !s.Identity.Match(sight.Identity):
		return fail(fleet.NewFault(fleet.CodeIdentityMismatch, fleet.Conflict, nil, "inspected serial %q uuid %q, found serial %.80q uuid %.80q",
			s.Identity.Serial, s.Identity.UUID, sight.Identity.Serial, sight.Identity.UUID))
	}
	for _, r := range []fleet.BootRoute{fleet.VirtualMedia, fleet.VirtualMediaHTTP} {
		if sight.Media != "" {
			out.Routes = append(out.Routes, routeProbe{Route: r, State: probeLeft,
				Cause: &fleet.Cause{Code: fleet.CodeBMCBusy, Kind: fleet.Conflict, Chain: []string{"the virtual drive holds a medium already; eject it with metalrise bmc media " + s.BMC.Address + " eject"}}})
			continue
		}
		out.Routes = append(out.Routes, p.insert(ctx, c, s, r))
		if p.hurry && out.works() {
			break
		}
	}
	out.Routes = append(out.Routes, p.offers(s)...)
	return out
}

// patience is for how long one BMC is waited for.
func (p *prober) patience() time.Duration {
	if p.hurry {
		return probeHurry
	}
	return 5 * probeInsert // two routes, in and out
}

// insert has the BMC fetch the probe on one route and takes it out again.
func (p *prober) insert(ctx context.Context, c *controller, s fleet.Server, route fleet.BootRoute) routeProbe {
	towards := p.way.Towards
	if route == fleet.VirtualMediaHTTP {
		towards = p.way.Plain
	}
	host, _ := fleet.SplitAddress(s.BMC.Address)
	base, err := towards(host)
	if err != nil {
		return routeProbe{Route: route, State: probeFailed, Cause: fleet.CauseOf(err)}
	}
	key := netboot.NewKey()
	p.mu.Lock()
	p.seen[key] = &routeProbe{Route: route}
	p.mu.Unlock()
	shows := func() routeProbe {
		p.mu.Lock()
		defer p.mu.Unlock()
		return *p.seen[key]
	}
	begin := time.Now()
	limited, cancel := context.WithTimeout(ctx, probeInsert)
	err = c.Insert(limited, base+boot.MediaPath(key, "boot.iso"))
	cancel()
	for err == nil && shows().From == "" && time.Since(begin) < probeInsert && ctx.Err() == nil {
		if time.Sleep(probeSecond); time.Since(begin) > probeFetch {
			break
		}
	}
	r := shows()
	r.Seconds = time.Since(begin).Round(time.Millisecond).Seconds()
	// also when the command was interrupted: nothing of ours stays in a drive
	out, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.patience())
	defer cancel()
	ejected := c.Eject(out)
	switch {
	case err != nil:
		r.State, r.Cause = probeFailed, fleet.CauseOf(err)
	case r.From == "":
		r.State = probeUnfetched
	default:
		r.State = probeWorks
	}
	if err == nil && ejected != nil {
		r.Cause = fleet.CauseOf(fmt.Errorf("eject the probe: %w", ejected))
	}
	p.mu.Lock()
	delete(p.seen, key)
	p.mu.Unlock()
	return r
}

// offers tells what the BMC lists for the routes that only a boot can try.
func (p *prober) offers(s fleet.Server) []routeProbe {
	targets := p.targets[s.ID]
	var out []routeProbe
	if p.hurry {
		return out
	}
	for route, word := range map[fleet.BootRoute]string{fleet.UEFIHTTP: "UefiHttp", fleet.PXE: "Pxe"} {
		r := routeProbe{Route: route, State: probeLacking}
		switch {
		case len(targets) == 0:
			r.State = probeUnknown
		case slices.Contains(targets, word):
			r.State = probeOffered
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b routeProbe) int { return strings.Compare(string(b.Route), string(a.Route)) })
	return out
}

func (o *options) printProbes(all []serverProbe) error {
	lacking := 0
	for _, s := range all {
		if !s.works() {
			lacking++
		}
	}
	if o.output == "json" {
		if err := o.json(map[string][]serverProbe{"servers": all}); err != nil {
			return err
		}
	} else {
		w := tabwriter.NewWriter(o.out, 0, 4, 2, ' ', 0)
		fmt.Fprintln(w, "SERVER\tBMC\tROUTE\tRESULT\tSECONDS\tWHY")
		for _, s := range all {
			for _, r := range s.Routes {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%.3g\t%s\n", s.Server, s.BMC, r.Route, r.State, r.Seconds, r.why())
			}
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	if lacking > 0 {
		return &exitError{exitFindings, fmt.Errorf("%d of %d servers fetched no medium", lacking, len(all))}
	}
	return nil
}

func (r routeProbe) why() string {
	switch {
	case r.Cause != nil:
		return string(r.Cause.Code) + " " + firstLine(strings.Join(r.Cause.Chain, ": "))
	case r.State == probeWorks:
		return fmt.Sprintf("%d bytes fetched from %s", r.Bytes, r.From)
	case r.State == probeUnfetched:
		return "taken, but not fetched: some BMCs do that only when the server boots"
	}
	return ""
}
