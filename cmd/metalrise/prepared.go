package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"metalrise.dev/agent"
	"metalrise.dev/fleet"
	"metalrise.dev/fleet/site"
	"metalrise.dev/ignition"
	"metalrise.dev/kube"
	"metalrise.dev/plan"
	"metalrise.dev/provision"
	"metalrise.dev/provision/store"
)

func preparedCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "prepared",
		Short: "Install this machine from the medium that iso build made",
		Long: `prepared runs on a machine that was started from a medium of iso build. On that of
a whole site it finds the machine in the list and has its agent ask the engine.

On that of a single node it runs there, and in the system that was installed from it
until that is ready. It is the engine of this one machine: it looks at it, plans by
the rules of the site file on the medium, and has the agent beside it write the disk.
What stops it is told on the console, and it looks again every half minute. It does
nothing elsewhere.

The state is ` + preparedState + `: see
  metalrise status --state ` + preparedState + `
` + exitHelp,
		Example: "  metalrise prepared",
		Args:    usage(cobra.NoArgs),
		RunE:    func(c *cobra.Command, _ []string) error { return o.prepared(c.Context()) },
	}
}

// again is how often a machine that cannot be installed as it is looks again.
const again = 30 * time.Second

func (o *options) tell(format string, args ...any) {
	o.printf("metalrise: %s\n", fmt.Sprintf(format, args...))
}

func (o *options) prepared(ctx context.Context) error {
	ref, err := readMediumRef()
	if err != nil {
		return err
	}
	_, err = os.Stat(ignition.PendingPath)
	installed := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if installed {
		if done, err := o.tidied(ctx); done || err != nil {
			return err
		}
	}
	m, err := findMedium(ctx, ref, func(text string) { o.tell("%s", text) })
	if err != nil {
		return err
	}
	defer m.Close()
	if m.Rack != nil {
		return o.oneOf(ctx, m)
	}
	f, findings := site.Read(strings.NewReader(m.Site), "site.yaml")
	if findings = withoutBMCs(findings); f == nil || len(findings) > 0 {
		o.printFindings(findings)
		return errors.New("the medium's site file is not understood by the medium's own program")
	}
	if err := os.MkdirAll(preparedState, 0o700); err != nil {
		return err
	}
	st, err := store.Open(preparedState)
	if err != nil {
		return err
	}
	defer st.Close()
	p := &preparing{options: o, ref: ref, medium: m, file: f, store: st, host: agent.NewHost("/"),
		log: slog.New(slog.NewTextHandler(o.errs, &slog.HandlerOptions{Level: slog.LevelWarn}))}
	if installed {
		return p.finish(ctx)
	}
	return p.install(ctx)
}

// withoutBMCs leaves out what a site file lacks for want of BMCs: a single node
// may have none.
func withoutBMCs(findings []fleet.Finding) []fleet.Finding {
	return slices.DeleteFunc(slices.Clone(findings), func(f fleet.Finding) bool {
		return f.Severity != fleet.Blocker || f.Path == "bmcs" || strings.HasPrefix(f.Path, "bmcs.")
	})
}

// preparing is one run of the prepared command.
type preparing struct {
	*options
	ref    mediumRef
	medium *medium
	file   *site.File
	store  *store.Store
	host   *agent.Machine
	log    *slog.Logger
}

// install is the live system's side: plan, then work until the machine restarts.
func (p *preparing) install(ctx context.Context) error {
	o := p.options
	o.tell("prepared medium %s of site %s, made %s by %s", p.ref.Build, p.file.Site().Name, p.medium.Made.Format(time.DateTime), p.medium.By)
	last, _, err := p.store.LastConsent(ctx)
	if err != nil {
		return err
	}
	consent := fleet.Consent{EraseDisks: 1, By: p.medium.By + ", when the medium was made", At: p.medium.Made}
	if last == "" { // else this program was started again within the boot, and only goes on
		if err := p.notAgain(ctx); err != nil {
			return err
		}
		if consent.Plan, err = p.decide(ctx); err != nil {
			return err
		}
	}
	own := &ownMachine{identity: p.host.Identity, agent: agentUnit{}, ticket: ticketPath}
	_, err = p.run(ctx, own, nil, consent)
	return err
}

// notAgain holds a machine that this very medium installed already: it must never
// erase twice.
func (p *preparing) notAgain(ctx context.Context) error {
	for {
		installed := slices.ContainsFunc(p.host.Markers(), func(m agent.Marker) bool { return m.Medium == p.ref.Build })
		if !installed {
			return nil
		}
		p.tell("this machine was installed from this medium already, and is not installed again. Take the medium out, or put the disk before it in the boot order, and restart. To install anew, make another medium.")
		if err := pause(ctx, 10*again); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// decide looks and plans until nothing stands against the plan, and keeps it.
func (p *preparing) decide(ctx context.Context) (string, error) {
	said := ""
	for {
		facts, err := p.look(ctx)
		if err != nil {
			return "", err
		}
		planned, err := p.plan(facts)
		if err != nil {
			return "", err
		}
		if !planned.Blocked() {
			server := fleet.Server{ID: facts.Identity.ID(), Identity: facts.Identity, BMC: ownEndpoint()}
			err := errors.Join(
				p.store.KeepServers(ctx, ownEndpoint().Address, []fleet.Server{server}, []fleet.Facts{facts}),
				p.store.KeepPlan(ctx, planned))
			if err == nil {
				_, err = p.store.Append(ctx, fleet.Event{At: time.Now(), Plan: planned.ID, Action: fleet.ActPlan, Edge: fleet.Ended, Outcome: fleet.OK, Note: "planned on the machine itself"})
			}
			printPlan(p.out, planned)
			p.printFindings(planned.Findings)
			return planned.ID, err
		}
		var text bytes.Buffer
		for _, f := range planned.Findings {
			if f.Severity == fleet.Blocker {
				fmt.Fprintf(&text, "%s %s: %s\n    what to do: %s\n", f.Code, f.Path, f.Text, f.Remedy)
			}
		}
		if text.String() != said { // a console is small: the same is said once
			said = text.String()
			p.tell("this machine is not installed, because:\n%s", said)
		}
		if err := pause(ctx, again); err != nil {
			return "", err
		}
	}
}

// settling is for how long the links of the ports must not change before they are
// believed, and how long that is waited for. Ports of 10 Gbit/s need some seconds.
const (
	settling    = 5 * time.Second
	settlesIn   = time.Minute
	settleEvery = time.Second
)

// look gives the facts of this machine once its ports are up, as far as they have
// a cable.
func (p *preparing) look(ctx context.Context) (fleet.Facts, error) {
	begin, since, before := time.Now(), time.Now(), ""
	for {
		facts := p.host.Look(ctx)
		// The medium is where a BMC's virtual drive would be: it booted already.
		facts.VirtualMedia = []fleet.MediaSlot{{URI: p.medium.path, MediaTypes: []string{"CD"}, How: "action"}}
		links, up := "", false
		for _, n := range facts.NICs {
			link, known := n.Link.Get()
			links += fmt.Sprint(n.MAC, link, known, " ")
			up = up || link
		}
		if links != before {
			before, since = links, time.Now()
		}
		if up && time.Since(since) > settling || time.Since(begin) > settlesIn {
			return facts, nil
		}
		if err := pause(ctx, settleEvery); err != nil {
			return facts, err
		}
	}
}

// ownEndpoint stands in a plan where the address of a BMC stands else.
func ownEndpoint() fleet.Endpoint {
	return fleet.Endpoint{Address: "127.0.0.1:443", Product: "this machine itself"}
}

func (p *preparing) plan(facts fleet.Facts) (fleet.Plan, error) {
	return planSingle(p.file, &p.medium.mediumIndex, facts)
}

// planSingle decides as metalrise plan does, with one machine as the only server.
func planSingle(f *site.File, x *mediumIndex, facts fleet.Facts) (fleet.Plan, error) {
	id := facts.Identity
	in := plan.Input{Site: f.Site(), Facts: map[fleet.ServerID]fleet.Facts{id.ID(): facts}, Now: time.Now(), IgnitionDigest: ignition.Digest,
		Servers: []fleet.Server{{ID: id.ID(), Identity: id, BMC: ownEndpoint()}}, Image: x.Image, Payload: x.Payload, Manifests: x.Manifests}
	var err error
	if in.SiteDigest, err = f.Digest(); err != nil {
		return fleet.Plan{}, err
	}
	out := plan.Make(in)
	if out.Cluster != nil && in.Payload != nil {
		out.Findings = append(out.Findings, kube.Validate(out, *in.Payload)...)
	}
	if x.Server.ID() != "" && !x.Server.Match(id) {
		out.Findings = append(out.Findings, fleet.Finding{Code: fleet.CodeIdentityMismatch, Severity: fleet.Blocker, Server: id.ID(), Path: "servers",
			Text:   fmt.Sprintf("the medium was made for serial %q uuid %q, this machine has serial %q uuid %q", x.Server.Serial, x.Server.UUID, id.Serial, id.UUID),
			Remedy: "Start the right machine from it, or make a medium for this one."})
	}
	return out, out.Seal()
}

// finish is the installed system's side: work until it is ready, then tidy up.
func (p *preparing) finish(ctx context.Context) error {
	if err := p.adopt(ctx); err != nil {
		return err
	}
	if err := p.unpackSoftware(ctx); err != nil {
		return err
	}
	own := &ownMachine{identity: p.host.Identity, ticket: ticketPath}
	software := ""
	if p.medium.Payload != nil {
		software = preparedSoftware
	}
	view, err := p.run(ctx, own, &software, fleet.Consent{})
	if err != nil || !settled(view) || len(view.Servers) == 0 {
		return err // stopped by hand, or going down: the next start goes on
	}
	return p.tidy(ctx, view)
}

// adopt closes what the state says was under way when the live system handed it
// over: the write. Only a disk that was written and verified as a whole boots, and
// the marker on it says under which plan.
func (p *preparing) adopt(ctx context.Context) error {
	id, _, err := p.store.LastConsent(ctx)
	if err != nil {
		return err
	}
	planned, ok, err := p.store.Plan(ctx, id)
	if err != nil || !ok || len(planned.Assignments) != 1 {
		return errors.Join(err, fmt.Errorf("the state that was taken along has no plan of one server"))
	}
	server := planned.Assignments[0].Server
	track := provision.NewTrack(server, planned.ID)
	for after := int64(0); ; {
		const page = 1000
		events, err := p.store.Events(ctx, after, page)
		if err != nil {
			return err
		}
		for _, e := range events {
			track.Fold(e)
			after = e.Seq
		}
		if len(events) < page {
			break
		}
	}
	if track.Written {
		return nil
	}
	if !slices.ContainsFunc(p.host.Markers(), func(m agent.Marker) bool {
		return m.Plan == planned.ID && m.Server == server && m.Medium == p.ref.Build
	}) {
		return fleet.NewFault(fleet.CodeWrongBoot, fleet.Conflict, nil, "no disk of this machine carries the marker of plan %.12s", planned.ID)
	}
	_, err = p.store.Append(ctx, fleet.Event{At: time.Now(), Server: server, Plan: planned.ID, Attempt: track.Attempt, Action: fleet.ActWrite,
		Edge: fleet.Ended, Outcome: fleet.Adopted, Note: "this system runs from the disk that was written and verified"})
	return err
}

// tidied finishes a machine whose power was cut when all but the tidying was done.
func (o *options) tidied(ctx context.Context) (bool, error) {
	st, err := store.OpenReader(preparedState)
	if err != nil {
		return false, err
	}
	view, err := provision.Recall(ctx, st, st)
	if err = errors.Join(err, st.Close()); err != nil || !settled(view) || len(view.Servers) == 0 {
		return false, err
	}
	return true, o.tidy(ctx, view)
}

// showHandOff prints the page on the console. The machine is done without it too:
// what keeps it from being shown is told, and ends nothing.
func (o *options) showHandOff(ctx context.Context) {
	own := *o
	own.state = preparedState
	h, view, err := own.handOff(ctx, preparedState)
	if err != nil {
		o.tell("the hand-off page cannot be shown now: %v", err)
		return
	}
	own.printHandOff(h, view)
}

// tidy removes what only the install needed, and says where the rest is. What
// says that the install is not over goes last.
func (o *options) tidy(ctx context.Context, view fleet.Overview) error {
	for _, path := range []string{preparedSoftware, ignition.CarriedCopy, ignition.PendingPath} {
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("tidy up: %w", err)
		}
	}
	for _, s := range view.Servers {
		o.tell("%s (%s) is %s", s.Hostname, s.Server, s.Phase)
	}
	if c := view.Cluster; c != nil {
		o.tell("the API of its cluster is %s, the administrator's kubeconfig %s", c.Endpoint, store.KubeconfigPath(preparedState))
	}
	if s := view.Stack; s != nil {
		o.tell("VM platform: %s", platformText(*s))
		o.showHandOff(ctx)
		o.tell("to see this page again: metalrise handover --state %s", preparedState)
	}
	o.tell("what was done: metalrise events --state %s", preparedState)
	o.tell("this machine is done; the medium can be taken out")
	return nil
}
