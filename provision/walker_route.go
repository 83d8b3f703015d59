package provision

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"metalrise.dev/fleet"
)

// NetBooter is a BMC that can send the firmware to the network.
type NetBooter interface {
	// BootNet makes the next boot, and only that, go to the network: by UEFI
	// HTTP boot from url, or by PXE, where url is not used.
	BootNet(ctx context.Context, route fleet.BootRoute, url string) error
}

// meter counts what is read of the current attempt's medium. Those who serve it
// must not wait for a journal, so the walker writes down what the meter shows.
type meter struct {
	mu      sync.Mutex
	attempt int
	bytes   int64
	read    Reading
	told    time.Time // when its firmware was told where to boot from
	last    time.Time // when it was read last
	noted   time.Time // when the walker was last told to write down a time
}

// add counts bytes, 0 for a look alone, and tells whether that means something:
// more than before, or that the time of the reading is to be written down again.
func (m *meter) add(attempt int, bytes, size int64, now time.Time, each time.Duration) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if attempt < m.attempt {
		return false
	}
	m.turnLocked(attempt)
	m.bytes += bytes
	m.last = now
	enough := int64(bootable)
	if size > 0 {
		enough = min(enough, size/2)
	}
	was := m.read
	if m.read = Asked; m.bytes >= enough {
		m.read = Taken
	}
	if m.read != was {
		m.noted = now
		return true
	}
	return m.dueLocked(now, each)
}

// tell notes that the firmware was told where to boot from, and tells whether
// that is to be written down.
func (m *meter) tell(attempt int, now time.Time, each time.Duration) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if attempt < m.attempt {
		return false
	}
	m.turnLocked(attempt)
	m.told = now
	return m.dueLocked(now, each)
}

func (m *meter) turnLocked(attempt int) {
	if attempt > m.attempt {
		m.attempt, m.bytes, m.read = attempt, 0, Unasked
		m.told, m.last, m.noted = time.Time{}, time.Time{}, time.Time{}
	}
}

func (m *meter) dueLocked(now time.Time, each time.Duration) bool {
	if now.Sub(m.noted) < each {
		return false
	}
	m.noted = now
	return true
}

// times are when the firmware was told last, and when the medium was read last.
func (m *meter) times(attempt int) (told, read time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.attempt != attempt {
		return time.Time{}, time.Time{}
	}
	return m.told, m.last
}

func (m *meter) shows(attempt int) fetched {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.attempt != attempt {
		return fetched{}
	}
	return fetched{Read: m.read, Bytes: m.bytes}
}

// Fetched hears from who serves media that bytes of what key opens were read.
// size is the medium's own, or 0. It does not block.
func (e *Engine) Fetched(key string, bytes, size int64) {
	r := e.current()
	if r == nil {
		return
	}
	g, ok := r.keys.find(key)
	w := r.servers[g.server]
	if !ok || w == nil || g.kind != string(LiveMedium) && g.kind != string(NetArtefact) {
		return
	}
	if !w.flow.count(g, bytes, time.Now()) {
		size = 0 // one of several parts
	}
	if w.meter.add(g.attempt, bytes, size, time.Now(), e.noteEach()) {
		w.rouse()
	}
}

// noteReading writes down what the meter shows, as long as it can matter.
func (w *walker) noteReading(ctx context.Context) {
	w.mu.Lock()
	f, due := w.readingLocked()
	w.mu.Unlock()
	if !due {
		return
	}
	data, err := json.Marshal(f)
	if err != nil {
		return
	}
	note := "its medium was asked for"
	switch {
	case f.Told:
		note = "its firmware was told where to boot from"
	case f.Read == Taken:
		note = "its medium is being read"
	}
	w.record(ctx, fleet.Event{Action: fleet.ActFetch, Edge: fleet.Ended, Outcome: fleet.OK, Note: note, Data: data})
}

// readingLocked gives what is to be written down: that more was read than the
// journal knows of, or that the attempt still lives.
func (w *walker) readingLocked() (fetched, bool) {
	t, each := w.track, w.engine.noteEach()
	f := w.meter.shows(t.Attempt)
	told, read := w.meter.times(t.Attempt)
	if !t.Staged {
		return f, false
	}
	alive := t.Hold == nil && (!t.Arrived || w.erasesLocked())
	f.Told = alive && told.Sub(t.Route.Given) >= each
	more := t.Live.Key == "" && f.Read != t.Route.Read && f.Read != Unasked && t.Route.Read != Taken
	return f, more || f.Told || alive && read.Sub(t.Route.Sign) >= each
}

// stageOn prepares an attempt's data: its route, and where we are reached on it.
func (w *walker) stageOn(route fleet.BootRoute, missed []fleet.RouteFault) (json.RawMessage, error) {
	s := staged{Route: route, Missed: missed}
	w.mu.Lock()
	if m := w.track.Route.mediumBy(route, missed); m != fleet.FullMedium {
		s.Medium = m
	}
	w.mu.Unlock()
	bmc, machine := hostOf(w.plan.BMC.Address), hostOf(w.plan.Network.Address)
	if w.plan.BMC.IsByHand() {
		bmc = machine
	}
	var err error
	if s.ByBMC, err = w.engine.Routes.Towards(bmc); err == nil {
		s.ByMachine, err = w.engine.Routes.Towards(machine)
	}
	switch {
	case err != nil:
	case route == fleet.VirtualMediaHTTP:
		s.ByBMC, err = w.engine.Roads.Plain(bmc)
	case byNet(route):
		s.Plain, err = w.engine.Roads.Plain(machine)
	}
	if err != nil {
		return nil, fmt.Errorf("stage %s: %w", w.plan.Server, err)
	}
	return json.Marshal(s)
}

// roads asks the engine's parts which rungs can be served now.
func (e *Engine) roads() map[fleet.BootRoute]string {
	if e.Roads == nil {
		return nil
	}
	out := map[fleet.BootRoute]string{}
	for _, r := range fleet.BootRoutes() {
		out[r] = e.Roads.Unserved(r)
	}
	return out
}

// bootOnce sends the next boot to where the attempt's route leads.
func (w *walker) bootOnce(ctx context.Context, bmc BMC) error {
	w.mu.Lock()
	route, plain, attempt := w.track.Route.Now, w.track.Reached.Plain, w.track.Attempt
	w.mu.Unlock()
	if !byNet(route) {
		return bmc.BootOnce(ctx)
	}
	net, ok := bmc.(NetBooter)
	if !ok {
		return fleet.NewFault(fleet.CodeBMCUnsupported, fleet.Unsupported, nil, "this way to the BMC cannot send the firmware to the network")
	}
	return net.BootNet(ctx, route, plain+w.run.keys.netPath(w.plan.Server, attempt, NetLoader))
}

// The artefacts of a boot from the network; each has an address of its own.
const (
	NetLoader   = "boot.efi"     // iPXE, for UEFI HTTP boot
	NetScript   = "boot.ipxe"    // what iPXE does
	NetKernel   = "vmlinuz"      //
	NetInitrd   = "initrd.img"   // of the release
	NetPersonal = "personal.img" // the server's own, with its Ignition config
	NetRootfs   = "rootfs.img"   //
)

func netArtefacts() []string {
	return []string{NetLoader, NetScript, NetKernel, NetInitrd, NetPersonal, NetRootfs}
}

func netGrant(s fleet.ServerID, attempt int, name string) grant {
	return grant{kind: string(NetArtefact), server: s, attempt: attempt, name: name}
}

func (k *keyring) netPath(s fleet.ServerID, attempt int, name string) string {
	return mediaPath(k.derive(netGrant(s, attempt, name)), name)
}

// NetGuest is a server whose current attempt boots from the network.
type NetGuest struct {
	Server   fleet.ServerID
	Hostname string
	Identity fleet.Identity
	Network  fleet.Network
	Route    fleet.BootRoute
	Attempt  int
	Any      bool      // on whichever route its firmware asks
	Script   string    // address of its iPXE script
	Loader   string    // address of iPXE as an EFI program
	Until    time.Time // nothing is answered afterwards
}

// NetGuests lists the servers that may boot from the network now: those whose
// attempt is on such a route, until its time is over or its disk is written.
func (e *Engine) NetGuests() []NetGuest {
	r := e.current()
	if r == nil {
		return nil
	}
	var out []NetGuest
	for _, id := range r.order {
		if g, ok := r.servers[id].netGuest(); ok {
			out = append(out, g)
		}
	}
	return out
}

func (w *walker) netGuest() (NetGuest, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.track
	if !t.Staged || !byNet(t.Route.Now) || t.Hold != nil || t.Arrived && !w.erasesLocked() || t.Written && !w.erasesLocked() {
		return NetGuest{}, false
	}
	since := time.Now()
	if m := t.Marks[fleet.ActPowerOn]; m.OK {
		since = later(m.At, w.heard)
	}
	address := func(name string) string {
		return t.Reached.Plain + w.run.keys.netPath(w.plan.Server, t.Attempt, name)
	}
	return NetGuest{
		Server: w.plan.Server, Attempt: t.Attempt, Hostname: w.plan.Hostname, Identity: w.plan.Identity, Network: w.plan.Network, Route: t.Route.Now, Any: w.engine.Unattended,
		Script: address(NetScript), Loader: address(NetLoader), Until: since.Add(w.engine.Limits.BootTimeout),
	}, true
}

// Medium gives the live medium of a server's current attempt, for a person to
// write to a USB drive. Faults: RUN-003 when no attempt of it waits to be booted.
func (e *Engine) Medium(id fleet.ServerID) (Resource, error) {
	r := e.current()
	if r == nil {
		return Resource{}, fleet.NewFault(fleet.CodePlanUnknown, fleet.Invalid, nil, "no plan is being applied")
	}
	w := r.servers[id]
	if w == nil {
		return Resource{}, fleet.NewFault(fleet.CodeSiteUnknownServer, fleet.Invalid, nil, "server %q is not part of the plan", id)
	}
	w.mu.Lock()
	attempt, waits := w.track.Attempt, w.track.Staged && w.track.Live.Key == "" && (w.track.Hold == nil || w.track.awaitsHand())
	w.mu.Unlock()
	g := mediumGrant(id, attempt)
	key := r.keys.derive(g)
	// Its address may have ended meanwhile: a person who carries a drive needs none.
	if _, ok := r.keys.find(key); !ok || !waits {
		return Resource{}, fleet.NewFault(fleet.CodePlanUnknown, fleet.Conflict, nil, "server %s does not wait for its live system now", id)
	}
	res, _, err := e.resource(r, g)
	res.Key = key
	return res, err
}

// Planned finds the server of the current plan to whom a MAC address or a system
// UUID belongs, whatever becomes of it.
func (e *Engine) Planned(mac, uuid string) (fleet.ServerID, bool) {
	r := e.current()
	if r == nil {
		return "", false
	}
	for _, id := range r.order {
		if w := r.servers[id]; w.plan.Network.Has(mac) || uuid != "" && strings.EqualFold(w.plan.Identity.UUID, uuid) {
			return id, true
		}
	}
	return "", false
}
