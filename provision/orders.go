package provision

import (
	"fmt"
	"time"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

// ordersLocked is what the bound live system has to do, by the track alone: the
// same call gets the same answer, also from a restarted engine.
func (w *walker) ordersLocked() (callhome.Orders, error) {
	t := w.track
	o := callhome.Orders{Verb: callhome.Wait, After: 2 * time.Second, Now: time.Now()}
	switch {
	case t.Hold != nil:
		o.Verb, o.After, o.Why = callhome.Hold, 10*time.Second, describe(Hold{*t.Hold})
	case t.Node.Removal != nil:
		o.Verb, o.After, o.Why = callhome.Hold, 10*time.Second, "this server is being taken away"
		if m, begun := t.Marks[fleet.ActErase]; begun && !m.OK && m.Cause == nil {
			o.Verb, o.After, o.Why = callhome.Erase, 0, ""
			o.Erase = &callhome.EraseOrder{Disk: w.plan.InstallDisk, Owner: w.engine.Site}
		}
	case !t.Staged: // between a retry and its attempt nothing may be begun
	case t.Marks[fleet.ActRestart].OK:
		o.Verb, o.After = callhome.Restart, 0
	case t.Written:
		o.Why = "waiting until the medium is ejected"
	case t.Marks[fleet.ActWrite].Cause != nil: // failed; the walker is about to hold the server
		o.Verb, o.After = callhome.Hold, 10*time.Second
	case t.Granted:
		write, err := w.writeLocked()
		if err != nil {
			return callhome.Orders{}, err
		}
		o.Verb, o.After, o.Write = callhome.Go, 0, write
	}
	return o, nil
}

func (w *walker) writeLocked() (*callhome.Write, error) {
	e, keys := w.engine, w.run.keys
	ticket := w.ticketLocked(callhome.Installed, keys.derive(installedGrant(w.plan.Server)))
	config, kargs, err := e.Configs.Installed(w.plan, ticket, w.agentPath())
	if err != nil {
		return nil, fmt.Errorf("config of %s: %w", w.plan.Server, err)
	}
	image := e.Image
	image.Path = mediaPath(keys.derive(grant{kind: string(DiskImage)}), "disk."+image.Format)
	return &callhome.Write{Disk: w.plan.InstallDisk, Image: image, Ignition: config, KernelArguments: kargs, Foreign: w.plan.Foreign, Owner: e.Site}, nil
}

func (w *walker) ticketLocked(stage callhome.Stage, token string) callhome.Ticket {
	return callhome.Ticket{
		Protocol: callhome.Protocol, URL: w.track.Reached.ByMachine, CA: w.engine.CA, Token: token, Stage: stage, Site: w.engine.Site,
		Server: w.plan.Server, Identity: w.plan.Identity, Plan: w.run.plan.ID, Attempt: w.track.Attempt,
	}
}

func (w *walker) agentPath() string {
	return mediaPath(w.run.keys.derive(grant{kind: string(AgentProgram)}), "metalrise")
}

// Resource is what an unguessable key opens.
type Resource struct {
	Kind   ResourceKind
	Key    string         // set by Medium alone
	Server fleet.ServerID // of a LiveMedium
	Digest string         // of a NodeSoftware
	Name   string         // of a NetArtefact
	// Ended is when an address ended that opens nothing any more for that reason
	// alone; else zero.
	Ended time.Time
	// Address gives where another artefact of the same boot is.
	Address func(name string) string
	// Medium is what a LiveMedium is; Keyfiles gives the network that a minimal one
	// needs for the rest.
	Medium   fleet.Medium
	Keyfiles func() ([]Keyfile, error)
	// Ignition renders the config of a LiveMedium or NetArtefact. BMCs ask for one medium in
	// thousands of ranges, and rendering costs half a millisecond: call it once.
	Ignition func() ([]byte, error)
}

// Open resolves a key of a media address; false when it opens nothing now. That
// somebody asks for what has ended is journaled.
func (e *Engine) Open(key string) (Resource, bool, error) {
	r := e.current()
	if r == nil { // starting: what the key opens is not known yet, which is not "nothing"
		return Resource{}, false, fleet.NewFault(fleet.CodePlanUnknown, fleet.Transient, nil, "no plan is being applied")
	}
	g, ok := r.keys.find(key)
	if !ok {
		return Resource{}, false, nil
	}
	now, kind := time.Now(), ResourceKind(g.kind)
	var end time.Time
	ended := false
	switch kind {
	case DiskImage, AgentProgram, NodeSoftware:
		end, ended = e.sharedEnded(r, kind, now)
	case LiveMedium, NetArtefact:
		w := r.servers[g.server]
		w.mu.Lock()
		if end, ended = w.endedLocked(now); ended {
			w.lateLocked(kind, end, now)
		}
		w.mu.Unlock()
	}
	if ended {
		return Resource{Kind: kind, Server: g.server, Name: g.name, Ended: end}, false, nil
	}
	return e.resource(r, g)
}

// resource is what a grant opens, whether its time is over or not.
func (e *Engine) resource(r *run, g grant) (Resource, bool, error) {
	switch kind := ResourceKind(g.kind); kind {
	case DiskImage, AgentProgram:
		return Resource{Kind: kind}, true, nil
	case NodeSoftware:
		return Resource{Kind: kind, Digest: g.name}, true, nil
	case LiveMedium, NetArtefact:
		w := r.servers[g.server]
		w.mu.Lock()
		ticket := w.ticketLocked(callhome.Live, r.keys.derive(liveGrant(g.server, g.attempt)))
		plain, medium := w.track.Reached.Plain, w.track.Route.medium()
		if medium == fleet.MinimalMedium { // what is fetched then is checked by its digest, whoever brings it
			plain = w.track.Reached.ByMachine
		}
		w.mu.Unlock()
		render := func() ([]byte, error) { return e.Configs.Live(w.plan, ticket, w.agentPath()) }
		keyfiles := func() ([]Keyfile, error) { return e.Configs.Keyfiles(w.plan) }
		address := func(name string) string { return plain + r.keys.netPath(g.server, g.attempt, name) }
		return Resource{Kind: kind, Server: g.server, Name: g.name, Ignition: render, Address: address, Medium: medium, Keyfiles: keyfiles}, true, nil
	}
	return Resource{}, false, nil // a call-home token opens no medium
}
