package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"metalrise.dev/boot/netboot"
	"metalrise.dev/fleet"
	"metalrise.dev/provision/store"
)

func serveCommand(o *options) *cobra.Command {
	erase, id := -1, ""
	c := &cobra.Command{
		Use:   "serve",
		Short: "Install servers as they are switched on, by booting them from the network",
		Long: `serve is for servers that somebody else switches on, or that have no BMC to speak of.
It runs in the foreground and answers, on the interface of serving.netboot, the
servers of the plan when they boot from the network by themselves: known by MAC
address or system UUID, each ends up where the plan says. It also answers machines
that were started from the site's medium (metalrise iso build); for those alone
serving.netboot is not needed. No BMC is asked for
anything. Before its disk is written, the live system's serial, UUID and disks are
compared with the plan, as always; a server that was installed gets no answer any
more and boots its disk.

A machine that the plan does not name is never installed; metalrise status lists it,
and the journal keeps when it was seen first. Where the site file has rules, one that
asks from the site's medium and matches exactly one of them is enrolled with its facts:
stop serve, look at what metalrise plan makes of it, and serve again with the number
of disks. Without a plan, serve enrols and installs nothing.

The number of disks that the plan erases is asked for, or given with --erase-disks.
serve does not end by itself: stop it with Ctrl-C or metalrise stop.
` + exitHelp,
		Example: "  metalrise serve -f site.yaml\n  metalrise serve -f site.yaml --erase-disks 12",
		Args:    usage(cobra.NoArgs),
		RunE:    func(c *cobra.Command, _ []string) error { return o.serve(c.Context(), id, erase) },
	}
	c.Flags().IntVar(&erase, "erase-disks", -1, "the number of disks that the plan erases, instead of typing it")
	c.Flags().StringVar(&id, "plan", "", "start of the plan's id (default: the latest plan)")
	return c
}

func (o *options) serve(ctx context.Context, id string, erase int) error {
	s, _, err := o.loadSite()
	if err != nil {
		return err
	}
	if s.Serving.Netboot == "" && s.Serving.Port == 0 {
		return fleet.NewFault(fleet.CodeSiteInvalid, fleet.Invalid, nil, "neither serving.netboot nor serving.port is set: name the interface on which servers boot from the network, or the port that the site's medium (metalrise iso build) asks on")
	}
	dir, err := o.stateDir(s.Name)
	if err != nil {
		return err
	}
	now := time.Now()
	p, consented, err := findPlan(ctx, dir, id, now)
	if err != nil && fleet.CodeOf(err) == fleet.CodePlanUnknown && id == "" && len(s.Rules) > 0 {
		fmt.Fprintln(o.errs, "no plan was made yet: machines that match a rule are enrolled and shown, and nothing is installed")
		return o.runEngine(ctx, s, engineRun{unattended: true})
	}
	if err != nil {
		return err
	}
	if p.Blocked() {
		o.printFindings(p.Findings)
		if id == "" && len(s.Rules) > 0 { // else a plan made too early would keep every machine out for good
			fmt.Fprintln(o.errs, "the latest plan has blockers: machines that match a rule are enrolled and shown, and nothing is begun under that plan")
			return o.runEngine(ctx, s, engineRun{unattended: true})
		}
		return fleet.NewFault(fleet.CodePlanBlocked, fleet.Invalid, nil, "plan %.12s", p.ID)
	}
	n := len(p.ErasedDisks())
	if !consented {
		if n, err = o.consent(p, erase); err != nil {
			return err
		}
	}
	if err := allowed(ctx, dir, p.ID, now); err != nil {
		return err
	}
	return o.runEngine(ctx, s, engineRun{unattended: true, consent: &fleet.Consent{Plan: p.ID, EraseDisks: n, By: who(erase >= 0), At: now}})
}

// strangers are machines that asked to boot from the network and that the plan
// does not name. The same machine is journaled once in an engine's life.
type strangers struct {
	store *store.Store

	mu  sync.Mutex
	all map[string]fleet.Stranger // by MAC
}

// mostStrangers bounds what invented machines can cost.
const mostStrangers = 256

// see takes note of a machine.
func (s *strangers) see(ctx context.Context, c netboot.Client, at time.Time) error {
	s.mu.Lock()
	_, known := s.all[c.MAC]
	if !known && len(s.all) >= mostStrangers {
		s.mu.Unlock()
		return nil
	}
	s.all[c.MAC] = fleet.Stranger{MAC: c.MAC, UUID: c.UUID, Arch: string(c.Arch), At: at}
	s.mu.Unlock()
	if known {
		return nil
	}
	_, err := s.store.Append(ctx, fleet.Event{At: at, Action: fleet.ActStranger, Edge: fleet.Ended, Outcome: fleet.OK,
		Note: fmt.Sprintf("machine %s (uuid %s, %s) asked to boot from the network; the plan does not name it, so it got no answer", c.MAC, orDash(c.UUID), c.Arch)})
	return err
}

// note takes a machine that said what it is. It is journaled when what becomes of
// it changes.
func (s *strangers) note(ctx context.Context, m fleet.Stranger) error {
	key := m.MAC
	if key == "" {
		key = "serial " + m.Serial + " uuid " + m.UUID
	}
	s.mu.Lock()
	before, known := s.all[key]
	if !known && len(s.all) >= mostStrangers {
		s.mu.Unlock()
		return nil
	}
	m.Arch = before.Arch
	s.all[key] = m
	s.mu.Unlock()
	if known && before.Note == m.Note && before.Serial == m.Serial {
		return nil
	}
	_, err := s.store.Append(ctx, fleet.Event{At: m.At, Action: fleet.ActStranger, Edge: fleet.Ended, Outcome: fleet.OK,
		Note: fmt.Sprintf("machine serial %s, uuid %s (%s) asked who it is; the plan does not name it. %s", orDash(m.Serial), orDash(m.UUID), orDash(m.Model), m.Note)})
	return err
}

// late journals that a machine asked for an address of the boot of unnamed machines
// after its end.
func (s *strangers) late(ctx context.Context, end time.Time, log *slog.Logger) {
	_, err := s.store.Append(ctx, fleet.Event{At: time.Now(), Action: fleet.ActStranger, Edge: fleet.Ended, Outcome: fleet.OK,
		Note: "an address for machines that nobody named was asked for after its end and refused; it ended " + end.UTC().Format(time.RFC3339)})
	if err != nil && ctx.Err() == nil {
		log.Warn("journal of an address that ended", "error", err)
	}
}

func (s *strangers) list() []fleet.Stranger {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []fleet.Stranger
	for _, x := range s.all {
		out = append(out, x)
	}
	slices.SortFunc(out, func(a, b fleet.Stranger) int { return strings.Compare(a.MAC, b.MAC) })
	return out
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// printStrangers lists them below the servers.
func printStrangers(w io.Writer, all []fleet.Stranger) {
	for _, s := range all {
		if s.Serial != "" || s.Note != "" {
			fmt.Fprintf(w, "not in the plan: machine serial %s, uuid %s (%s) asked at %s who it is; %s\n", orDash(s.Serial), orDash(s.UUID), orDash(s.Model), s.At.Local().Format(time.DateTime), orDash(strings.TrimSpace(string(s.Code)+" "+s.Note)))
			continue
		}
		fmt.Fprintf(w, "not in the plan: machine %s (uuid %s, %s) asked to boot from the network at %s and got no answer\n", s.MAC, orDash(s.UUID), s.Arch, s.At.Local().Format(time.DateTime))
	}
}

// Overview is the engine's, with the machines that it does not know.
func (d *daemon) Overview() fleet.Overview {
	o := d.Engine.Overview()
	o.Strangers = d.strangers.list()
	return o
}
