package provision

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

// world is a rack that lives on while engines die: BMCs, machines with agents,
// a journal and an archive. It runs inside a synctest bubble.
type world struct {
	engine  atomic.Pointer[Engine] // who answers calls home; nil while none runs
	servers map[fleet.ServerID]*rig
	plan    fleet.Plan

	mu         sync.Mutex
	events     []fleet.Event
	cut        int  // the append that would write this event kills the engine; 0: never
	durable    bool // the event of the cut is durable although the caller never hears of it
	kill       context.CancelFunc
	noSpace    bool // the journal cannot be written
	facts      map[fleet.ServerID]fleet.Facts
	kube       *kube // nil: the plan ends with installed hosts
	older      []fleet.Plan
	unattended bool
	seen       map[string]fleet.Facts     // by the BMC, by serial
	noArchive  bool                       // facts cannot be read
	roads      map[fleet.BootRoute]string // nil: no boot ladder
	noMinimal  string                     // why no minimal medium can be made
}

// rig is one server and its BMC.
type rig struct {
	w  *world
	id fleet.ServerID

	mu       sync.Mutex
	power    fleet.PowerState
	media    string
	bootOnce bool
	since    time.Time          // of its last start
	off      context.CancelFunc // pulls the plug of what runs
	disk     []byte             // the installed system's config; nil: not bootable

	// What was done to it, for the test to judge.
	writes, liveBoots, diskBoots, powerOffs int

	// Faults.
	dead         bool   // the BMC does not answer
	lose         string // the reply to this call is lost once, after it acted
	swapped      bool   // another machine answers
	silentLive   int    // this many live boots never call home
	badImage     bool
	agentGivesUp bool
	noReport     bool            // the installed system never reports
	wrongDisk    bool            // the planned disk was replaced
	bootsAgain   bool            // after the write it boots the medium once more
	noDrive      bool            // the BMC has no virtual drive
	noTLS        bool            // the BMC cannot load over https
	deaf         bool            // the BMC accepts any medium and never asks for it
	ignores      fleet.BootRoute // the firmware does not go where this route sends it, but to the disk
	noNet        bool            // the BMC offers no boot from the network
	netOnce      fleet.BootRoute
	netURL       string
	drive        *Resource // the medium on the USB drive that a person plugged in
	thief        bool      // somebody else shows the token first
	slowWrite    time.Duration
	link         linkToBMC

	// As a node.
	finished  map[string]bool // tasks, as the agent keeps them on its disk
	failTasks map[string]int  // by kind: how many more of them fail
	stall     string          // the kind of task in whose middle the machine loses power, once
	noKVM     bool
	toErase   bool // its live system is there to erase
	erased    int
}

var errKilled = errors.New("the engine was killed")

func newWorld(n int) *world {
	w := &world{servers: map[fleet.ServerID]*rig{}, facts: map[fleet.ServerID]fleet.Facts{}}
	w.plan = fleet.Plan{Site: "osaka", Image: fleet.ImageRef{DiskSHA256: "good"}}
	for i := range n {
		id := fleet.ServerID(fmt.Sprintf("SN%03d", i+1))
		w.servers[id] = &rig{w: w, id: id, power: fleet.PowerOn, media: "https://elsewhere/old.iso"}
		w.plan.Assignments = append(w.plan.Assignments, fleet.Assignment{
			Server: id, Identity: fleet.Identity{Serial: string(id)}, Role: fleet.Worker, Hostname: strings.ToLower(string(id)),
			BMC:         fleet.Endpoint{Address: fmt.Sprintf("127.0.0.%d:443", i+1)},
			Network:     fleet.Network{MAC: "52:54:00:00:00:01", Address: fmt.Sprintf("10.0.0.%d/24", i+1)},
			InstallDisk: fleet.DiskRef{Serial: "D-" + string(id)},
		})
	}
	if err := w.plan.Seal(); err != nil {
		panic(err)
	}
	return w
}

// boot starts an engine on the world and gives the way to kill it.
func (w *world) boot(ctx context.Context) (*Engine, error) {
	ctx, kill := context.WithCancel(ctx)
	w.mu.Lock()
	w.kill = kill
	w.mu.Unlock()
	var roads Roads
	if w.roads != nil {
		roads = w
	}
	e, err := NewEngine(Config{Site: "osaka", Journal: w, Archive: w, BMCs: w, Configs: w, Routes: w, Roads: roads, Unattended: w.unattended, Media: w,
		Secret: []byte("0123456789abcdef0123456789abcdef"), Image: callhome.Image{SHA256: "good", Format: "raw.zst"},
		Limits: Limits{BootTimeout: 10 * time.Minute}, Clusters: w.clusters()})
	if err != nil {
		return nil, err
	}
	if err := e.Resume(ctx); err != nil {
		return nil, err
	}
	w.engine.Store(e)
	if err := e.Apply(ctx, fleet.Consent{Plan: w.plan.ID, EraseDisks: len(w.plan.ErasedDisks()), By: "test"}); err != nil {
		return nil, err
	}
	return e, nil
}

func (w *world) Append(ctx context.Context, events ...fleet.Event) ([]fleet.Event, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if w.noSpace {
		return nil, fleet.NewFault(fleet.CodeStoreFailed, fleet.Transient, nil, "no space left on device")
	}
	cut := w.cut > 0 && len(w.events) < w.cut && len(w.events)+len(events) >= w.cut
	if cut {
		w.engine.Store(nil)
		w.kill()
		if !w.durable {
			w.cut = 0
			return nil, errKilled
		}
		w.cut = 0
	}
	for i := range events {
		events[i].Seq = int64(len(w.events) + 1)
		w.events = append(w.events, events[i])
	}
	if cut {
		return nil, errKilled
	}
	return events, nil
}

func (w *world) Events(_ context.Context, after int64, limit int) ([]fleet.Event, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	rest := w.events[min(int(after), len(w.events)):]
	return append([]fleet.Event(nil), rest[:min(limit, len(rest))]...), nil
}

func (w *world) full(now bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.noSpace = now
}

// journal is a copy of all events.
func (w *world) journal() []fleet.Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]fleet.Event(nil), w.events...)
}

func (w *world) Plan(_ context.Context, id string) (fleet.Plan, bool, error) {
	for _, p := range w.older {
		if p.ID == id {
			return p, true, nil
		}
	}
	return w.plan, id == w.plan.ID, nil
}

func (w *world) KeepFacts(_ context.Context, s fleet.ServerID, f fleet.Facts) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.facts[s] = f
	return nil
}

func (w *world) OutOfBand(ctx context.Context, id fleet.Identity) (fleet.Facts, bool, error) {
	if w.noArchive {
		<-ctx.Done() // a disk that hangs
		return fleet.Facts{}, false, ctx.Err()
	}
	f, ok := w.seen[id.Serial]
	return f, ok, nil
}

func (w *world) Towards(host string) (string, error) { return "https://10.0.0.250:8443", nil }

func (w *world) Unserved(r fleet.BootRoute) string { return w.roads[r] }

func (w *world) Plain(host string) (string, error) { return "http://10.0.0.250:8080", nil }

func (w *world) Digest(fleet.Assignment) (string, error) { return "", nil }

func (w *world) Live(_ fleet.Assignment, t callhome.Ticket, _ string) ([]byte, error) {
	return json.Marshal(t)
}

func (w *world) Installed(_ fleet.Assignment, t callhome.Ticket, _ string) ([]byte, []string, error) {
	b, err := json.Marshal(t)
	return b, nil, err
}

func (w *world) Open(ctx context.Context, at fleet.Endpoint) (BMC, error) {
	for _, a := range w.plan.Assignments {
		if a.BMC.Address == at.Address {
			r := w.servers[a.Server]
			return r, r.call(ctx, "open", func() error { return nil })
		}
	}
	return nil, errors.New("no such BMC")
}

// call takes a second; it acts after half of it. So a caller that gives up may
// or may not have acted.
func (r *rig) call(ctx context.Context, name string, act func() error) error {
	half := func() error {
		select {
		case <-time.After(500 * time.Millisecond):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if r.w.unattended {
		panic("a BMC was asked for " + name)
	}
	if err := half(); err != nil {
		return err
	}
	r.mu.Lock()
	if r.dead {
		r.mu.Unlock()
		return fleet.NewFault(fleet.CodeBMCUnreachable, fleet.Transient, nil, "no answer")
	}
	r.w.mustBegin(r.id, name)
	err := act()
	lost := r.lose == name
	if lost {
		r.lose = ""
	}
	r.mu.Unlock()
	if lost {
		return fleet.NewFault(fleet.CodeBMCUnreachable, fleet.UnsureKind, nil, "reply lost")
	}
	return errors.Join(err, half())
}

func (r *rig) Look(ctx context.Context) (s Sight, err error) {
	err = r.call(ctx, "look", func() error {
		s = Sight{Identity: fleet.Identity{Serial: string(r.id)}, Power: r.power, Media: r.media, BootOnce: r.bootOnce, NetOnce: r.netOnce}
		if r.swapped {
			s.Identity.Serial = "ANOTHER"
		}
		return nil
	})
	return s, err
}

func (r *rig) Insert(ctx context.Context, url string) error {
	return r.call(ctx, "insert", func() error {
		switch {
		case r.noDrive:
			return fleet.NewFault(fleet.CodeBMCUnsupported, fleet.Unsupported, nil, "no virtual drive")
		case r.noTLS && strings.HasPrefix(url, "https:"):
			return fleet.NewFault(fleet.CodeMediaLost, fleet.Transient, nil, "certificate not trusted")
		}
		r.media = url
		return nil
	})
}

func (r *rig) Eject(ctx context.Context) error {
	return r.call(ctx, "eject", func() error { r.media = ""; return nil })
}

func (r *rig) BootOnce(ctx context.Context) error {
	return r.call(ctx, "boot-once", func() error { r.bootOnce = true; return nil })
}

func (r *rig) BootNet(ctx context.Context, route fleet.BootRoute, url string) error {
	return r.call(ctx, "boot-once", func() error {
		if r.noNet {
			return fleet.NewFault(fleet.CodeBMCUnsupported, fleet.Unsupported, nil, "no boot target for %s", route)
		}
		r.netOnce, r.netURL = route, url
		return nil
	})
}

func (r *rig) Power(ctx context.Context, to fleet.PowerState) error {
	return r.call(ctx, "power", func() error {
		go r.w.kube.poke()
		time.AfterFunc(systemUp, r.w.kube.poke)
		switch {
		case to == fleet.PowerOff && r.power == fleet.PowerOn:
			r.powerOffs++
			r.power = to
			if r.off != nil {
				r.off()
			}
		case to == fleet.PowerOn && r.power == fleet.PowerOff:
			r.power = to
			r.startLocked()
		}
		return nil
	})
}

func (r *rig) Close() error { return nil }

// startLocked boots what the BMC says: the medium once, else the disk.
func (r *rig) startLocked() {
	ctx, off := context.WithCancel(context.Background())
	r.off, r.since = off, time.Now()
	if r.netOnce != "" && r.netOnce != r.ignores {
		g, ok := r.guest(r.netOnce)
		r.netOnce = ""
		if ok {
			r.liveBoots++
			go r.live(ctx, g, fmt.Sprintf("key-%s-%d", r.id, r.liveBoots), r.liveBoots)
			return
		}
	}
	r.netOnce = ""
	if r.bootOnce && r.media != "" && !r.deaf {
		r.bootOnce = false
		r.liveBoots++
		go r.live(ctx, r.media, fmt.Sprintf("key-%s-%d", r.id, r.liveBoots), r.liveBoots)
		return
	}
	r.diskBoots++
	go r.installed(ctx, r.disk)
}

// guest asks the network where to boot from, as the firmware does.
func (r *rig) guest(by fleet.BootRoute) (script string, ok bool) {
	e := r.w.engine.Load()
	if e == nil {
		return "", false
	}
	for _, g := range e.NetGuests() {
		if g.Server == r.id && g.Route == by && (by != fleet.UEFIHTTP || g.Loader == r.netURL) {
			e.Told(g)
			return g.Script, true
		}
	}
	return "", false
}

// plugIn boots the medium that a person wrote to a USB drive.
func (r *rig) plugIn(res Resource) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drive = &res
	if r.off != nil {
		r.off()
	}
	ctx, off := context.WithCancel(context.Background())
	r.power, r.off = fleet.PowerOn, off
	r.liveBoots++
	go r.live(ctx, "https://usb/m/"+res.Key, fmt.Sprintf("key-%s-%d", r.id, r.liveBoots), r.liveBoots)
}

// live is the system on the medium with its agent.
func (r *rig) live(ctx context.Context, media, key string, boot int) {
	if !pause(ctx, time.Minute) {
		return
	}
	opens := strings.Split(media, "/")[4]
	if !r.read(ctx, opens) { // the medium is read through us while it boots
		return
	}
	e := r.answering(ctx)
	if e == nil {
		return
	}
	res, ok, err := e.Open(opens)
	r.mu.Lock()
	if r.drive != nil { // it was read when it was made
		res, ok, r.drive = *r.drive, true, nil
	}
	silent := boot <= r.silentLive
	r.mu.Unlock()
	if silent {
		return
	}
	if err != nil || !ok {
		return // the medium had gone before it was booted
	}
	var t callhome.Ticket
	config, err := res.Ignition()
	if err != nil || json.Unmarshal(config, &t) != nil {
		return
	}
	c := Caller{Token: t.Token, KeyHash: key}
	if r.has(&r.thief) {
		hello := callhome.Hello{Protocol: callhome.Protocol, Stage: callhome.Live, Instance: "thief", Server: t.Server, Plan: t.Plan, Facts: r.look()}
		r.ask(ctx, "", func(e *Engine) (callhome.Orders, error) {
			return e.Hello(ctx, Caller{Token: t.Token, KeyHash: "thief"}, hello)
		})
	}
	hello := callhome.Hello{Protocol: callhome.Protocol, Stage: callhome.Live, Instance: key, Server: t.Server, Plan: t.Plan, Attempt: t.Attempt, Facts: r.look()}
	want := callhome.Go
	if r.has(&r.toErase) {
		want = callhome.Erase
	}
	o, ok := r.ask(ctx, want, func(e *Engine) (callhome.Orders, error) { return e.Hello(ctx, c, hello) })
	if !ok {
		return
	}
	if o.Erase != nil {
		r.mu.Lock()
		r.disk, r.erased = nil, r.erased+1
		r.mu.Unlock()
		r.ask(ctx, "", func(e *Engine) (callhome.Orders, error) {
			return e.Erased(ctx, c, callhome.Erased{Disk: o.Erase.Disk, Method: "zero", Bytes: 1 << 30})
		})
		return
	}
	r.mu.Lock()
	r.writes++
	r.mu.Unlock()
	for i := range 4 {
		if !pause(ctx, 10*time.Second+r.slowWrite/4) {
			return
		}
		if r.has(&r.agentGivesUp) {
			r.ask(ctx, "", func(e *Engine) (callhome.Orders, error) {
				return e.Failed(ctx, c, callhome.Failed{Cause: fleet.Cause{Code: fleet.CodeWriteFailed, Kind: fleet.Transient, Chain: []string{"input/output error"}}})
			})
			return
		}
		if _, ok := r.ask(ctx, callhome.Go, func(e *Engine) (callhome.Orders, error) {
			return e.Progress(ctx, c, callhome.Progress{Done: int64(i + 1), Total: 4})
		}); !ok {
			return
		}
	}
	r.mu.Lock()
	r.disk = o.Write.Ignition
	r.mu.Unlock()
	sum := "good"
	if r.has(&r.badImage) {
		sum = "bad"
	}
	if _, ok := r.ask(ctx, callhome.Restart, func(e *Engine) (callhome.Orders, error) {
		return e.Written(ctx, c, callhome.Written{SHA256: sum, Disk: o.Write.Disk})
	}); !ok {
		return
	}
	again := r.has(&r.bootsAgain)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case ctx.Err() != nil:
	case again:
		go r.comeBack(ctx, c, hello)
	default:
		r.startLocked()
	}
}

// comeBack is the live system once more, where the installed one should be.
func (r *rig) comeBack(ctx context.Context, c Caller, hello callhome.Hello) {
	c.KeyHash += " again"
	for pause(ctx, time.Minute) {
		if e := r.w.engine.Load(); e != nil {
			if _, err := e.Hello(ctx, c, hello); fleet.KindOf(err) == fleet.Denied {
				return
			}
		}
	}
}

func (r *rig) installed(ctx context.Context, config []byte) {
	var t callhome.Ticket
	if !pause(ctx, time.Minute) || r.has(&r.noReport) || json.Unmarshal(config, &t) != nil {
		return
	}
	hello := callhome.Hello{Protocol: callhome.Protocol, Stage: callhome.Installed, Server: t.Server, Plan: t.Plan, Facts: r.look()}
	c := Caller{Token: t.Token, KeyHash: "installed"}
	call := func(e *Engine) (callhome.Orders, error) { return e.Hello(ctx, c, hello) }
	for ctx.Err() == nil {
		o, ok := r.ask(ctx, "", call)
		switch {
		case !ok || o.Verb == callhome.Done:
			return
		case o.Verb != callhome.Work:
			pause(ctx, max(o.After, time.Second))
			call = func(e *Engine) (callhome.Orders, error) { return e.Hello(ctx, c, hello) }
		default:
			report := r.work(ctx, c, *o.Task)
			call = func(e *Engine) (callhome.Orders, error) { return e.Task(ctx, c, report) }
		}
	}
}

// has reads a fault that a test may change meanwhile.
func (r *rig) has(fault *bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return *fault
}

func (r *rig) written() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.writes
}

func (r *rig) look() fleet.Facts {
	disk := "D-" + string(r.id)
	if r.has(&r.wrongDisk) {
		disk = "ANOTHER"
	}
	return fleet.Facts{Identity: fleet.Identity{Serial: string(r.id)}, KVM: fleet.Known(fleet.KVM{Usable: !r.has(&r.noKVM), Why: "no /dev/kvm"}), NICs: []fleet.NIC{{MAC: "52:54:00:00:00:01"}}, Disks: []fleet.Disk{{Serial: disk}}}
}

// ask repeats a call to whatever engine runs until it answers with want, as an
// agent does: it knows nothing of engines that die. "" is any answer.
func (r *rig) ask(ctx context.Context, want callhome.Verb, call func(*Engine) (callhome.Orders, error)) (callhome.Orders, bool) {
	for {
		if e := r.w.engine.Load(); e != nil {
			if o, err := call(e); err == nil && (o.Verb == want || want == "") {
				return o, true
			}
		}
		if !pause(ctx, 2*time.Second) {
			return callhome.Orders{}, false
		}
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// unplug ends every machine, so that a bubble can end.
func (w *world) unplug() {
	for _, r := range w.servers {
		r.mu.Lock()
		if r.off != nil {
			r.off()
		}
		r.mu.Unlock()
	}
}

// mustBegin panics when the world is changed although the journal's last word
// on the server is not that this very action began.
func (w *world) mustBegin(id fleet.ServerID, call string) {
	if call == "open" || call == "look" {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range slices.Backward(w.events) {
		switch {
		case e.Server != id || e.Action == fleet.ActHello || e.Action == fleet.ActWrite || e.Action == fleet.ActProgress || e.Action == fleet.ActFetch:
			continue
		case e.Edge == fleet.Began && strings.HasPrefix(string(e.Action), call):
			return
		}
		panic(fmt.Sprintf("%s of %s, but the journal says last: %s %s", call, id, e.Action, e.Edge))
	}
	panic(call + " of " + string(id) + " with an empty journal")
}

func (r *rig) isOn() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.power == fleet.PowerOn
}
