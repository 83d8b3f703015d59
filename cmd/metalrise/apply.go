package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"metalrise.dev/fleet"
	"metalrise.dev/provision"
	"metalrise.dev/provision/api"
	"metalrise.dev/provision/store"
)

func applyCommand(o *options) *cobra.Command {
	var erase int
	var detach, noProbe bool
	c := &cobra.Command{
		Use:   "apply [PLAN]",
		Short: "Carry out a plan; asks for the number of disks to be erased",
		Long: `apply hands a plan to the site's engine, which is a process of its own: Ctrl-C or
a lost terminal ends only the view, never the work. Applied again, it shows the
running work, or continues it after the engine was killed. A consent lasts a day:
then apply asks again, and what it is told renews the consent of the running plan.

Before anything is erased the number of disks in question must be typed, or be
given with --erase-disks where nobody can type. PLAN is the start of a plan's id;
without it, the latest plan is meant.

Before a run begins, each BMC that was not probed for a day is asked to fetch a tiny
medium (see metalrise probe): some seconds, all BMCs at once, no power or boot order
touched. A server whose BMC did not fetch it begins on the next route of its boot
ladder, or is held with the reason. --no-probe leaves this out.
` + exitHelp,
		Example: "  metalrise apply\n  metalrise apply 4be1 --erase-disks 5\n  metalrise apply --erase-disks 5 --detach\n  metalrise apply --erase-disks 5 --no-probe",
		Args:    usage(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			id := ""
			if len(args) == 1 {
				id = args[0]
			}
			return o.apply(c.Context(), id, applyHow{erase: erase, detach: detach, noProbe: noProbe})
		},
	}
	c.Flags().IntVar(&erase, "erase-disks", -1, "the number of disks that the plan erases, instead of typing it")
	c.Flags().BoolVar(&detach, "detach", false, "return when the work has begun")
	c.Flags().BoolVar(&noProbe, "no-probe", false, "do not ask the BMCs to fetch a tiny medium first")
	return c
}

// applyHow is how a plan is to be applied.
type applyHow struct {
	erase   int // disks, or -1 to ask
	detach  bool
	noProbe bool
}

func (o *options) apply(ctx context.Context, id string, how applyHow) error {
	s, _, err := o.loadSite()
	if err != nil {
		return err
	}
	dir, err := o.stateDir(s.Name)
	if err != nil {
		return err
	}
	now := time.Now()
	p, consented, err := findPlan(ctx, dir, id, now)
	if err != nil {
		return err
	}
	if p.Blocked() {
		o.printFindings(p.Findings)
		return fleet.NewFault(fleet.CodePlanBlocked, fleet.Invalid, nil, "plan %.12s", p.ID)
	}
	if err := startedByHand(p); err != nil {
		return err
	}
	n := len(p.ErasedDisks())
	if !consented { // a plan that was consented to is only continued
		if n, err = o.consent(p, how.erase); err != nil {
			return err
		}
		if !how.noProbe {
			if err := o.probeBefore(ctx, s, dir, p); err != nil {
				return err
			}
		}
	}
	client := api.NewClient(dir)
	if err := o.ensureEngine(ctx, client, dir, p.ID); err != nil {
		return err
	}
	if err := client.Apply(ctx, fleet.Consent{Plan: p.ID, EraseDisks: n, By: who(how.erase >= 0), At: now}); err != nil {
		return err
	}
	if how.detach {
		o.printf("plan %.12s is being applied; see metalrise status\n", p.ID)
		return nil
	}
	return o.watch(ctx, dir, p)
}

// findPlan reads the plan whose id begins with prefix, and whether a person
// consented to it already, no longer before now than that lasts. The engine
// renews a consent by the same now.
func findPlan(ctx context.Context, dir, prefix string, now time.Time) (fleet.Plan, bool, error) {
	st, err := store.OpenReader(dir)
	if errors.Is(err, os.ErrNotExist) {
		return fleet.Plan{}, false, fleet.NewFault(fleet.CodePlanUnknown, fleet.Invalid, nil, "no plan was made yet: run metalrise plan")
	}
	if err != nil {
		return fleet.Plan{}, false, err
	}
	defer st.Close()
	p, ok, err := st.LatestPlan(ctx)
	if err != nil {
		return p, false, err
	}
	if prefix != "" {
		if p, ok, err = st.PlanByPrefix(ctx, prefix); err != nil {
			return p, false, err
		}
	}
	if !ok {
		return p, false, fleet.NewFault(fleet.CodePlanUnknown, fleet.Invalid, nil, "no single plan's id begins with %q", prefix)
	}
	last, at, err := st.LastConsent(ctx)
	return p, last == p.ID && now.Sub(at) < provision.ConsentLasts, err
}

// consent gets a person's word, typed or given by flag.
func (o *options) consent(p fleet.Plan, erase int) (int, error) {
	want := len(p.ErasedDisks())
	if erase >= 0 {
		if erase != want {
			return 0, fleet.NewFault(fleet.CodeConsentMismatch, fleet.Denied, nil, "--erase-disks %d, but plan %.12s erases %d disks", erase, p.ID, want)
		}
		return want, nil
	}
	printPlan(o.errs, p)
	o.printFindings(p.Findings)
	fmt.Fprintf(o.errs, "Type the number of disks to be erased to go on: ")
	line, err := bufio.NewReader(o.in).ReadString('\n')
	if err != nil && line == "" {
		return 0, fleet.NewFault(fleet.CodeConsentMissing, fleet.Denied, nil, "nobody typed the number of disks, and --erase-disks was not given")
	}
	n, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || n != want {
		return 0, fleet.NewFault(fleet.CodeConsentMismatch, fleet.Denied, nil, "typed %.20q, but plan %.12s erases %d disks; nothing was done", strings.TrimSpace(line), p.ID, want)
	}
	return n, nil
}

func who(unattended bool) string {
	name := "uid " + strconv.Itoa(os.Getuid())
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if unattended {
		return name + ", unattended"
	}
	return name
}

var (
	errQuiet = errors.New("nothing moves any more")
	errGone  = errors.New("the engine ended before the work was done; metalrise apply continues it, engine.log in the state folder may say why")
)

// attend ends a view when nothing moves any more, or when the engine is gone.
func attend(ctx context.Context, dir, plan string, stop context.CancelCauseFunc) {
	misses := 0
	for {
		select {
		case <-time.After(500 * time.Millisecond):
		case <-ctx.Done():
			return
		}
		view, err := overview(ctx, dir)
		if err != nil || view.Plan != plan {
			continue
		}
		if view.Quiet {
			stop(errQuiet)
		}
		if misses++; view.Engine {
			misses = 0
		}
		if misses >= 6 { // three seconds: not just a restart
			stop(errGone)
		}
	}
}

// watch prints events until nothing moves, then the report.
func (o *options) watch(ctx context.Context, dir string, p fleet.Plan) error {
	return o.watchFrom(ctx, dir, p, 0)
}

// watchFrom is watch without the events up to one.
func (o *options) watchFrom(ctx context.Context, dir string, p fleet.Plan, last int64) error {
	names := map[fleet.ServerID]string{}
	for _, a := range p.Assignments {
		names[a.Server] = a.Hostname
	}
	ctx, stop := context.WithCancelCause(ctx)
	go attend(ctx, dir, p.ID, stop)
	show := func(e fleet.Event) error {
		last = e.Seq
		if e.Plan == p.ID && o.output == "text" {
			printEvent(o.out, e, names)
		}
		return nil
	}
	err := o.follow(ctx, dir, last, true, show)
	cause := context.Cause(ctx)
	stop(nil)
	if errors.Is(cause, context.Canceled) {
		fmt.Fprintln(o.errs, "\nthe work goes on without this view; see metalrise status, metalrise events --follow")
		return &exitError{code: exitInterrupted}
	}
	if errors.Is(cause, errGone) {
		return cause
	}
	if err != nil && !errors.Is(cause, errQuiet) {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	if err := o.follow(ctx, dir, last, false, show); err != nil { // what came with the end
		return err
	}
	o.keepReport(ctx, dir)
	return o.report(ctx, dir)
}

// keepReport keeps the as-built report where all is done. The run is no worse
// without it: handover writes it too.
func (o *options) keepReport(ctx context.Context, dir string) {
	view, err := overview(ctx, dir)
	if err == nil {
		var st *store.Store
		if st, err = store.OpenReader(dir); err == nil {
			err = errors.Join(keepBuilt(ctx, st, view), st.Close())
		}
	}
	if err != nil {
		fmt.Fprintf(o.errs, "as-built report: %v\n", err)
	}
}

// report prints where all servers are, and fails when some are held.
func (o *options) report(ctx context.Context, dir string) error {
	view, err := overview(ctx, dir)
	if err != nil {
		return err
	}
	o.lookAtCluster(ctx, &view)
	held := 0
	for _, s := range view.Servers {
		if s.Condition == fleet.Held {
			held++
		}
	}
	if o.output == "json" {
		err = o.json(view)
	} else {
		o.printOverview(view)
	}
	if err == nil && (held > 0 || view.Stack != nil && view.Stack.Held) {
		return &exitError{code: exitHeld}
	}
	return err
}

func (o *options) printOverview(view fleet.Overview) {
	if view.Plan == "" {
		o.printf("no plan was applied yet\n")
		printStrangers(o.out, view.Strangers)
		return
	}
	engine := "engine running"
	if !view.Engine {
		engine = "no engine running; metalrise apply continues"
	}
	o.printf("\nplan %.12s, %s\n\n", view.Plan, engine)
	w := tabwriter.NewWriter(o.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "HOST\tSERVER\tROLE\tPHASE (IRONIC)\tIS\tSTEP\tFOR")
	for _, s := range view.Servers {
		step := s.Step
		if s.Done > 0 {
			step = "write " + portion(s.Done, s.Total)
		}
		if s.Phase == fleet.Installed && view.Cluster == nil {
			step = kvmText(s.KVM)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s (%s)\t%s\t%s\t%s\n", s.Hostname, s.Server, s.Role, s.Phase, s.Phase.Ironic(), s.Condition, step, age(view.At, s.Since))
	}
	_ = w.Flush()
	o.printCluster(view)
	o.printPlatform(view)
	printStrangers(o.out, view.Strangers)
	without := map[string][]string{} // host names by the reason why KVM is not usable
	for _, s := range view.Servers {
		if s.Cause != nil {
			o.printCause(s)
		}
		if kvm, ok := s.KVM.Get(); ok && !kvm.Usable {
			without[kvm.Why] = append(without[kvm.Why], s.Hostname)
		}
	}
	for _, why := range slices.Sorted(maps.Keys(without)) {
		o.printf("\n%s KVM is not usable (%s) on\n  %s\n", fleet.CodeKVMUnavailable, why, strings.Join(without[why], " "))
	}
}

func kvmText(k fleet.Maybe[fleet.KVM]) string {
	v, ok := k.Get()
	switch {
	case !ok:
		return "KVM unknown"
	case v.Usable:
		return "KVM works"
	}
	return "no KVM"
}

func (o *options) printCause(s fleet.Status) {
	page, _ := fleet.Page(s.Cause.Code)
	o.printf("\n%s is held: %s %s\n", s.Hostname, s.Cause.Code, page.Title)
	for _, c := range s.Cause.Chain {
		o.printf("    because: %s\n", c)
	}
	o.printf("    what to do: %s\n    then: metalrise retry %s\n", page.Remedy, s.Server)
}

func age(now, since time.Time) string {
	if since.IsZero() {
		return "-"
	}
	return now.Sub(since).Round(time.Second).String()
}
