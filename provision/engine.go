package provision

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

// Config is what an engine works with.
type Config struct {
	Site    string // name
	Journal Journal
	Archive Archive
	BMCs    BMCs
	Configs Configs
	Routes  Routes
	// Unattended drives no BMC: servers are switched on by somebody else, and boot
	// from the network by themselves.
	Unattended bool
	Roads      Roads          // nil: virtual media over HTTPS is the only rung of the ladder
	Media      Media          // nil: full media only
	Secret     []byte         // of the site; tokens and keys derive from it
	CA         string         // PEM of the authority that machines trust
	Image      callhome.Image // the release's disk image; Path is set by the engine
	ISO        string         // SHA-256 of the release's live ISO
	NoRelease  error          // why the release cannot be served; nil when it can
	Limits     Limits
	Log        *slog.Logger
	// Unknown hears of a machine that asked who it is and that the plan does not
	// name, and says more about it, for its console. It may be nil.
	Unknown func(ctx context.Context, f fleet.Facts) string
	// Clusters is nil where plans end with installed hosts.
	Clusters *Clusters
}

// Engine runs the plan of one site. Make it with NewEngine, then Resume, then
// any of its other methods from any goroutine.
type Engine struct {
	Config
	started time.Time
	seats   seats

	applying chan struct{} // one change of the plan, or retry, at a time; taken before mu
	mu       sync.Mutex
	run      *run
	walkers  sync.WaitGroup
}

// run is one plan being applied.
type run struct {
	plan     fleet.Plan
	allowed  time.Time // when a person consented to it last; changed and read by who holds applying
	keys     *keyring
	servers  map[fleet.ServerID]*walker
	order    []fleet.ServerID   // of the plan
	cluster  *cluster           // nil where the plan has none
	platform *platform          // nil where it ends with ready nodes
	shelf    shelf              // what all servers share
	ctx      context.Context    // of its walkers
	end      context.CancelFunc // of ctx
}

// NewEngine makes an engine that does nothing yet.
func NewEngine(c Config) (*Engine, error) {
	if c.Journal == nil || c.Archive == nil || c.BMCs == nil || c.Configs == nil || c.Routes == nil || len(c.Secret) < 16 {
		return nil, errors.New("engine: a part is missing")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.Limits = c.Limits.withDefaults()
	return &Engine{Config: c, started: time.Now(), applying: make(chan struct{}, 1), seats: seats{free: c.Limits.BMCSessions}}, nil
}

// Resume continues the plan that was consented to last, if there is one. Call
// it once, before the engine is reachable by machines. ctx ends all work.
func (e *Engine) Resume(ctx context.Context) error {
	events, err := allEvents(ctx, e.Journal)
	if err != nil {
		return err
	}
	id := consented(events)
	if id == "" {
		return nil
	}
	p, ok, err := e.Archive.Plan(ctx, id)
	if err != nil {
		return err
	}
	if !ok {
		return fleet.NewFault(fleet.CodePlanUnknown, fleet.Invalid, nil, "plan %s of the journal is not stored", id)
	}
	// What is done needs neither the release nor the software it was made of.
	todo := map[fleet.ServerID]bool{}
	for id, w := range e.newRun(p, events).servers {
		todo[id] = !w.track.Settled && !w.track.Node.Kept && !w.track.Node.Joined
		if n := &w.track.Node; n.Removal != nil && n.Removal.Erase && !n.Erased && !n.Removed {
			if err := e.released("erase the disk of " + string(id)); err != nil {
				return err
			}
		}
	}
	if err := e.check(p, todo); err != nil {
		return err
	}
	return e.start(ctx, p, events)
}

// check makes sure that a stored plan is whole, and that what would be done now
// is what it says: people consented to that and nothing else. todo are the
// servers with which something is to be done still.
func (e *Engine) check(p fleet.Plan, todo map[fleet.ServerID]bool) error {
	stale := func(format string, args ...any) error {
		return fleet.NewFault(fleet.CodePlanStale, fleet.Conflict, nil, "plan %.12s: %s", p.ID, fmt.Sprintf(format, args...))
	}
	again := p
	again.Assignments = slices.Clone(p.Assignments)
	if err := again.Seal(); err != nil || again.ID != p.ID {
		return stale("its content does not have its digest")
	}
	if p.Site != e.Site {
		return stale("it is for site %s, this is %s", p.Site, e.Site)
	}
	some := slices.Contains(slices.Collect(maps.Values(todo)), true)
	if some && e.NoRelease != nil {
		return e.released("install servers")
	}
	if some && (p.Image.DiskSHA256 != e.Image.SHA256 || p.Image.ISOSHA256 != e.ISO) {
		return stale("it was made for release %s %s, and the site's image is another one now", p.Image.Stream, p.Image.Version)
	}
	if err := e.checkCluster(p, some); err != nil {
		return err
	}
	seen := map[fleet.ServerID]bool{}
	for _, a := range p.Assignments {
		if a.Role == fleet.Excluded {
			continue
		}
		if seen[a.Server] {
			return stale("server %s stands in it twice", a.Server)
		}
		seen[a.Server] = true
		if a.Ignition == "" || !todo[a.Server] { // what was installed is not rendered again
			continue
		}
		bare := a
		bare.Ignition = ""
		if d, err := e.Configs.Digest(bare); err != nil || d != a.Ignition {
			return stale("the config of %s would not be the planned one", a.Server)
		}
	}
	return nil
}

// checkCluster makes sure that a plan's cluster can be brought up with what this
// engine has. With nothing to be done any other build of the software will do.
func (e *Engine) checkCluster(p fleet.Plan, todo bool) error {
	if p.Cluster == nil {
		return nil
	}
	if e.Clusters == nil || todo && e.Clusters.Payload != p.Cluster.PayloadDigest {
		return fleet.NewFault(fleet.CodePlanStale, fleet.Conflict, nil, "plan %.12s: it was made for other software of the nodes than the site has now", p.ID)
	}
	initial := 0
	for _, a := range p.Assignments {
		if a.Role != fleet.Excluded && a.Node == nil {
			return fleet.NewFault(fleet.CodePlanStale, fleet.Conflict, nil, "plan %.12s: server %s has no part in the cluster", p.ID, a.Server)
		}
		if a.Node != nil && a.Node.Initial {
			initial++
		}
	}
	if initial != 1 {
		return fleet.NewFault(fleet.CodePlanStale, fleet.Conflict, nil, "plan %.12s: %d servers are to begin the cluster, want one", p.ID, initial)
	}
	return nil
}

func allEvents(ctx context.Context, j Journal) ([]fleet.Event, error) {
	const page = 10_000
	var out []fleet.Event
	for after := int64(0); ; {
		events, err := j.Events(ctx, after, page)
		if err != nil {
			return nil, err
		}
		out = append(out, events...)
		if len(events) < page {
			return out, nil
		}
		after = events[len(events)-1].Seq
	}
}

// Apply starts a plan. Consent names the plan and the number of disks that it
// erases. Applying the plan that runs already changes nothing, but renews a
// consent that lasts no longer. ctx ends the work that it starts, not only the
// call.
func (e *Engine) Apply(ctx context.Context, c fleet.Consent) error {
	select {
	case e.applying <- struct{}{}:
		defer func() { <-e.applying }()
	case <-ctx.Done():
		return ctx.Err()
	}
	p, ok, err := e.Archive.Plan(ctx, c.Plan)
	if err != nil {
		return err
	}
	if !ok {
		return fleet.NewFault(fleet.CodePlanUnknown, fleet.Invalid, nil, "no plan %q is stored for this site", c.Plan)
	}
	if p.Blocked() {
		return fleet.NewFault(fleet.CodePlanBlocked, fleet.Invalid, nil, "plan %.12s has blockers", p.ID)
	}
	if n := len(p.ErasedDisks()); c.EraseDisks != n {
		return fleet.NewFault(fleet.CodeConsentMismatch, fleet.Denied, nil, "consent is for %d disks, the plan erases %d", c.EraseDisks, n)
	}
	running := e.current()
	if running != nil && running.plan.ID == p.ID {
		return e.renew(ctx, running, c)
	}
	todo := map[fleet.ServerID]bool{}
	for _, a := range p.Assignments {
		todo[a.Server] = a.Role != fleet.Excluded && a.Kept == ""
	}
	if err := e.check(p, todo); err != nil {
		return err
	}
	if running != nil {
		if !running.quiet() {
			return fleet.NewFault(fleet.CodeSiteLocked, fleet.Conflict, nil, "plan %.12s is still being applied", running.plan.ID)
		}
	}
	if standing, ok, err := StandingOf(ctx, e.Journal, e.Archive); err != nil {
		return err
	} else if ok {
		if err := standing.fits(p); err != nil {
			return err
		}
	}
	if _, err := e.consent(ctx, c); err != nil {
		return err
	}
	events, err := allEvents(ctx, e.Journal)
	if err != nil {
		return err
	}
	return e.start(ctx, p, events)
}

// newRun folds the journal into one walker for each server of a plan.
func (e *Engine) newRun(p fleet.Plan, events []fleet.Event) *run {
	r := &run{plan: p, keys: newKeyring(e.Secret, p.ID), servers: map[fleet.ServerID]*walker{}}
	if p.Cluster != nil {
		r.cluster = newCluster(p)
		r.keys.keepApart(r.cluster.order)
	}
	if p.Cluster != nil && p.Stack != nil {
		r.platform = newPlatform(e, r)
	}
	for _, a := range p.Assignments {
		if a.Role == fleet.Excluded {
			continue
		}
		r.order = append(r.order, a.Server)
		if a.Kept != "" && a.Node != nil { // its agent may still wait, with the token of that plan
			r.keys.adopt(newKeyring(e.Secret, a.Kept).derive(installedGrant(a.Server)), installedGrant(a.Server))
		}
		r.servers[a.Server] = newWalker(e, r, a)
	}
	now := time.Now()
	for _, ev := range events {
		if ev.At.After(now) { // the clock was set back
			ev.At = now
		}
		if ev.Plan == p.ID && ev.Action == fleet.ActConsent {
			r.allowed = ev.At
		}
		if ev.Plan == p.ID && isSign(ev) {
			r.shelf.signed(ev.At)
		}
		if w := r.servers[ev.Server]; w != nil {
			w.recall(ev)
		}
		if r.platform != nil {
			r.platform.track.Fold(ev)
		}
		if ev.Action == fleet.ActWithdraw {
			for _, w := range r.servers {
				w.track.giveUpRemoval()
			}
		}
	}
	if r.cluster != nil {
		for _, w := range r.servers {
			r.cluster.note(w.track)
		}
	}
	return r
}

// start sets a walker in motion on each server of the plan.
func (e *Engine) start(ctx context.Context, p fleet.Plan, events []fleet.Event) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.run != nil && e.run.plan.ID == p.ID {
		return nil
	}
	if e.run != nil { // it is quiet: no walker of it may ever act again
		e.run.end()
		e.walkers.Wait()
	}
	e.run = e.newRun(p, events)
	e.run.ctx, e.run.end = context.WithCancel(ctx)
	e.run.keys.allow(grant{kind: string(DiskImage)})
	e.run.keys.allow(grant{kind: string(AgentProgram)})
	for _, id := range e.run.order {
		w := e.run.servers[id]
		w.authorise()
		w.setOff()
	}
	if r := e.run; r.cluster != nil {
		e.walkers.Go(func() { e.follow(r.ctx, r) })
		if r.platform != nil {
			e.walkers.Go(func() { r.platform.walk(r.ctx) })
		}
	}
	return nil
}

func (e *Engine) current() *run {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.run
}

// Wait returns when every walker has ended: all servers settled, or the
// context of the run ended.
func (e *Engine) Wait() { e.walkers.Wait() }

// Quiet tells whether nothing moves: no plan, or each server settled or held.
func (e *Engine) Quiet() bool {
	r := e.current()
	return r == nil || r.quiet()
}

func (r *run) quiet() bool {
	for _, w := range r.servers {
		if s := w.status(time.Now()); s.Condition != fleet.Settled && s.Condition != fleet.Held && !w.stuck() {
			return false
		}
	}
	return r.platform == nil || r.platform.quiet()
}

// Retry gives a held server another attempt. A disk that was written well is not
// written again; one that was not is written only while the consent to erase it
// lasts, see ConsentLasts (RUN-001).
func (e *Engine) Retry(ctx context.Context, id fleet.ServerID, by string) error {
	return e.retry(ctx, id, by, again{})
}

// Reinstall gives a held server that is not part of the cluster another attempt
// in which its planned disk is erased and written anew.
func (e *Engine) Reinstall(ctx context.Context, id fleet.ServerID, by string) error {
	return e.retry(ctx, id, by, again{Reinstall: true})
}

func (e *Engine) retry(ctx context.Context, id fleet.ServerID, by string, a again) error {
	select {
	case e.applying <- struct{}{}:
		defer func() { <-e.applying }()
	case <-ctx.Done():
		return ctx.Err()
	}
	r := e.current()
	if r == nil {
		return fleet.NewFault(fleet.CodePlanUnknown, fleet.Invalid, nil, "no plan is being applied")
	}
	w := r.servers[id]
	if w == nil {
		return fleet.NewFault(fleet.CodeSiteUnknownServer, fleet.Invalid, nil, "server %q is not part of the plan", id)
	}
	if a.Reinstall {
		if err := e.released("install " + string(id)); err != nil {
			return err
		}
	}
	return w.retry(ctx, by, a)
}

// Overview tells where every server of the current plan is, in plan order.
func (e *Engine) Overview() fleet.Overview {
	o := fleet.Overview{Site: e.Site, At: time.Now(), Quiet: e.Quiet(), Servers: []fleet.Status{}}
	if r := e.current(); r != nil {
		o.Plan = r.plan.ID
		for _, id := range r.order {
			o.Servers = append(o.Servers, r.servers[id].status(o.At))
		}
		if r.cluster != nil {
			o.Cluster = r.cluster.status()
		}
		if r.platform != nil {
			o.Stack = r.platform.status()
		}
	}
	return o
}

// Recall gives the same overview from a journal alone, when no engine runs.
func Recall(ctx context.Context, j Journal, a Archive) (fleet.Overview, error) {
	e := &Engine{Config: Config{Limits: Limits{}.withDefaults()}, started: time.Now()}
	events, err := allEvents(ctx, j)
	if err != nil {
		return fleet.Overview{}, err
	}
	if id := consented(events); id != "" {
		p, ok, err := a.Plan(ctx, id)
		if err != nil || !ok {
			return fleet.Overview{}, fmt.Errorf("plan %s of the journal: %w", id, errors.Join(err, errors.New("not stored")))
		}
		e.Site = p.Site
		e.run = e.newRun(p, events)
	}
	return e.Overview(), nil
}

// consented gives the plan that a person allowed last and did not take back.
func consented(events []fleet.Event) string {
	for _, ev := range slices.Backward(events) {
		switch ev.Action {
		case fleet.ActConsent:
			return ev.Plan
		case fleet.ActWithdraw:
			return ""
		}
	}
	return ""
}
