package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"metalrise.dev/fleet"
	"metalrise.dev/provision"
	"metalrise.dev/provision/api"
	"metalrise.dev/provision/store"
)

func statusCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show where every server is",
		Long: `status shows every server's phase, condition and current step, and the cause where
one is held. It works from any terminal, also when no engine runs.
` + exitHelp,
		Example: "  metalrise status\n  metalrise status --output json | jq '.servers[].phase'",
		Args:    usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			dir, err := o.siteDir()
			if err != nil {
				return err
			}
			return o.report(c.Context(), dir)
		},
	}
}

func eventsCommand(o *options) *cobra.Command {
	var follow bool
	var after int64
	c := &cobra.Command{
		Use:   "events",
		Short: "Print the journal, one event a line",
		Long: `events prints the site's journal. With --follow it goes on until Ctrl-C, also when
the engine is killed and started again. With --output json each line is one event.
` + exitHelp,
		Example: "  metalrise events --follow\n  metalrise events --after 120 --output json",
		Args:    usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			dir, err := o.siteDir()
			if err != nil {
				return err
			}
			names := hostnames(c.Context(), dir)
			lines := json.NewEncoder(o.out)
			return o.follow(c.Context(), dir, after, follow, func(e fleet.Event) error {
				if o.output == "json" {
					return lines.Encode(e)
				}
				printEvent(o.out, e, names)
				return nil
			})
		},
	}
	c.Flags().BoolVar(&follow, "follow", false, "go on with new events")
	c.Flags().Int64Var(&after, "after", 0, "begin after the event with this number")
	return c
}

func explainCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:     "explain [CODE]",
		Short:   "Explain a code of an error or finding; without one, list them all",
		Long:    "explain works offline: every page is in the program.\n" + exitHelp,
		Example: "  metalrise explain RUN-005\n  metalrise explain --output json",
		Args:    usage(cobra.MaximumNArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			pages := fleet.CodePages()
			if len(args) == 1 {
				p, ok := fleet.Page(fleet.Code(strings.ToUpper(args[0])))
				if !ok {
					return &exitError{exitUsage, fmt.Errorf("no code %q; metalrise explain lists them all", args[0])}
				}
				pages = []fleet.CodePage{p}
			}
			if o.output == "json" {
				return o.json(pages)
			}
			for _, p := range pages {
				if len(args) == 1 {
					o.printf("%s  %s\n\n  why         %s\n  what to do  %s\n", p.Code, p.Title, p.Why, p.Remedy)
				} else {
					o.printf("%-9s %s\n", p.Code, p.Title)
				}
			}
			return nil
		},
	}
}

func retryCommand(o *options) *cobra.Command {
	reinstall, confirm, route := false, "", ""
	platform, waive := false, []string(nil)
	c := &cobra.Command{
		Use:   "retry SERVER... | retry --platform",
		Short: "Give held servers, or the VM platform, another attempt",
		Long: `retry starts another attempt with servers that are held. A disk that was written
well is not written again: the server is only booted from it. SERVER is an id or
host name as status shows it; "all" means every held one.

A disk that was not written yet is erased by the new attempt. That needs a consent
no older than a day, else retry is refused (RUN-001, exit 4): metalrise apply PLAN,
with --erase-disks N where nobody can type, gives it again, and retry goes then.

With --reinstall the planned disk of one held server is erased and written anew:
for a system that does not come up, say after a power cut at its first boot. Its
host name must be typed, or be given with --confirm.

With --route the attempt begins with that way to boot: virtual-media,
virtual-media-http, uefi-http, pxe or usb. If it does not carry, those below it
follow. metalrise status --output json lists what the engine can serve.

With --platform what failed of the VM platform is tried again, and proofs go on
without servers that are held. --waive NAME leaves a component or proof out for
good; the hand-off and the report say who waived it.
` + exitHelp,
		Example: "  metalrise retry SN12345\n  metalrise retry --platform\n  metalrise retry --platform --waive migrate\n  metalrise retry all\n  metalrise retry oslo-w2 --reinstall --confirm oslo-w2\n  metalrise retry oslo-w2 --route pxe",
		Args: usage(func(c *cobra.Command, args []string) error {
			if platform {
				return cobra.NoArgs(c, args)
			}
			return cobra.MinimumNArgs(1)(c, args)
		}),
		RunE: func(c *cobra.Command, args []string) error {
			if platform {
				if reinstall || route != "" {
					return &exitError{exitUsage, errors.New("--platform goes with --waive alone")}
				}
				return o.retryPlatform(c.Context(), fleet.PlatformRetry{By: who(false), Waive: waive})
			}
			if len(waive) > 0 {
				return &exitError{exitUsage, errors.New("--waive goes with --platform")}
			}
			if reinstall && route != "" {
				return &exitError{exitUsage, errors.New("--reinstall and --route exclude each other")}
			}
			if reinstall {
				return o.reinstall(c.Context(), args, confirm)
			}
			return o.retry(c.Context(), args, fleet.BootRoute(route))
		},
	}
	c.Flags().BoolVar(&reinstall, "reinstall", false, "erase and write the planned disk of the server anew")
	c.Flags().BoolVar(&platform, "platform", false, "try the VM platform again instead of servers")
	c.Flags().StringSliceVar(&waive, "waive", nil, "with --platform: component or proof to leave out")
	c.Flags().StringVar(&confirm, "confirm", "", "with --reinstall: host name of the server, instead of typing it")
	c.Flags().StringVar(&route, "route", "", "way to boot that the attempt begins with; the engine chooses without it")
	return c
}

// reinstall gives one held server an attempt in which its disk is written anew.
func (o *options) reinstall(ctx context.Context, args []string, confirm string) error {
	if len(args) != 1 || args[0] == "all" {
		return &exitError{exitUsage, errors.New("--reinstall takes one server")}
	}
	dir, err := o.siteDir()
	if err != nil {
		return err
	}
	client := api.NewClient(dir)
	if err := o.ensureEngine(ctx, client, dir, ""); err != nil {
		return err
	}
	s, err := findServer(ctx, client, args[0])
	if err != nil {
		return err
	}
	if err := o.confirmHost(s, "has its install disk ERASED and written anew", confirm); err != nil {
		return err
	}
	if err := client.Reinstall(ctx, s.Server, who(confirm != "")); err != nil {
		return err
	}
	o.say("%s (%s): another attempt begins, its disk is written anew\n", s.Hostname, s.Server)
	return o.begun(s.Server)
}

func (o *options) retry(ctx context.Context, args []string, route fleet.BootRoute) error {
	dir, err := o.siteDir()
	if err != nil {
		return err
	}
	client := api.NewClient(dir)
	if err := o.ensureEngine(ctx, client, dir, ""); err != nil {
		return err
	}
	view, err := client.Overview(ctx)
	if err != nil {
		return err
	}
	var failed []error
	begun := []fleet.ServerID{}
	for _, arg := range args {
		known := false
		for _, s := range view.Servers {
			if (arg == "all" && s.Condition == fleet.Held) || arg == string(s.Server) || arg == s.Hostname {
				known = true
				if err := retryBy(ctx, client, s.Server, route); err != nil {
					failed = append(failed, err)
					continue
				}
				o.say("%s (%s): another attempt begins\n", s.Hostname, s.Server)
				begun = append(begun, s.Server)
			}
		}
		if !known {
			failed = append(failed, fleet.NewFault(fleet.CodeSiteUnknownServer, fleet.Invalid, nil, "no held server %q", arg))
		}
	}
	return errors.Join(append(failed, o.begun(begun...))...)
}

// begun tells programs with which servers another attempt begins.
func (o *options) begun(servers ...fleet.ServerID) error {
	if o.output != "json" {
		return nil
	}
	return o.json(map[string][]fleet.ServerID{"retried": servers})
}

// retryBy gives a held server another attempt; route "" leaves its way to boot
// to the engine.
func retryBy(ctx context.Context, c *api.Client, server fleet.ServerID, route fleet.BootRoute) error {
	if route == "" {
		return c.Retry(ctx, server, who(false))
	}
	return c.RetryBy(ctx, server, who(false), route)
}

// retryPlatform tells the engine a person's word about the VM platform.
func (o *options) retryPlatform(ctx context.Context, q fleet.PlatformRetry) error {
	dir, err := o.siteDir()
	if err != nil {
		return err
	}
	client := api.NewClient(dir)
	if err := o.ensureEngine(ctx, client, dir, ""); err != nil {
		return err
	}
	if err := client.RetryPlatform(ctx, q); err != nil {
		return err
	}
	if o.output == "json" {
		return o.json(map[string]any{"platform": true, "waived": append([]string{}, q.Waive...)})
	}
	o.printf("the VM platform goes on; see metalrise status, metalrise events --follow\n")
	return nil
}

// siteDir is the state folder of the site file, which need not be valid just to
// be looked at when --state names the folder.
func (o *options) siteDir() (string, error) {
	if o.state != "" {
		return o.stateDir("")
	}
	s, _, err := o.loadSite()
	if err != nil {
		return "", err
	}
	return o.stateDir(s.Name)
}

// overview asks the engine, or reads the journal when none runs.
func overview(ctx context.Context, dir string) (fleet.Overview, error) {
	view, err := api.NewClient(dir).Overview(ctx)
	if !errors.Is(err, api.ErrNoEngine) {
		return view, err
	}
	st, err := store.OpenReader(dir)
	if errors.Is(err, os.ErrNotExist) {
		return fleet.Overview{At: time.Now(), Quiet: true, Servers: []fleet.Status{}}, nil
	}
	if err != nil {
		return view, err
	}
	defer st.Close()
	return provision.Recall(ctx, st, st)
}

// follow reads the journal itself, so that it needs no engine and survives its
// restarts. Commits of another process are found by asking four times a second:
// one read of an index, some 50 µs.
func (o *options) follow(ctx context.Context, dir string, after int64, on bool, each func(fleet.Event) error) error {
	var st *store.Store
	for {
		var err error
		if st, err = store.OpenReader(dir); err == nil {
			break
		}
		if !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if !on {
			return nil
		}
		select {
		case <-time.After(250 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	defer st.Close()
	for {
		events, err := st.Events(ctx, after, 1000)
		if err != nil {
			return err
		}
		for _, e := range events {
			if err := each(e); err != nil {
				return err
			}
			after = e.Seq
		}
		if len(events) > 0 {
			continue
		}
		if !on {
			return nil
		}
		select {
		case <-time.After(250 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// portion says how far something is; total is 0 when unknown.
func portion(done, total int64) string {
	if total <= 0 {
		return bytesText(done)
	}
	return fmt.Sprintf("%d %% of %s", 100*min(done, total)/total, bytesText(total))
}

func hostnames(ctx context.Context, dir string) map[fleet.ServerID]string {
	names := map[fleet.ServerID]string{}
	view, err := overview(ctx, dir)
	if err != nil {
		return names // events are readable without names
	}
	for _, s := range view.Servers {
		names[s.Server] = s.Hostname
	}
	return names
}

// printEvent writes one event as one line of at most 80 columns where its note
// allows.
func printEvent(w io.Writer, e fleet.Event, names map[fleet.ServerID]string) {
	name := names[e.Server]
	if name == "" {
		name = string(e.Server)
	}
	if name == "" {
		name = "site"
	}
	what := string(e.Edge)
	if e.Outcome != "" {
		what = string(e.Outcome)
	}
	if step := stepOfEvent(e); step != "" {
		e.Note = strings.TrimSuffix(step+": "+e.Note, ": ")
	}
	line := fmt.Sprintf("%5d %s %-12s %-10s %-10s", e.Seq, e.At.Local().Format("15:04:05"), name, e.Action, what)
	var p struct{ Done, Total int64 }
	if e.Edge == fleet.Progressed && json.Unmarshal(e.Data, &p) == nil && p.Done > 0 {
		line += " " + e.Note + " " + portion(p.Done, p.Total)
	} else if e.Note != "" {
		line += " " + e.Note
	}
	if e.Cause != nil {
		line += fmt.Sprintf(" %s %s", e.Cause.Code, strings.Join(e.Cause.Chain, ": "))
	}
	fmt.Fprintln(w, firstLine(line))
}
