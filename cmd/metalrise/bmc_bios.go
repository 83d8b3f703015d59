package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"metalrise.dev/bmc"
	"metalrise.dev/fleet"
)

// biosWish are the flags of bmc bios.
type biosWish struct {
	set            []string
	virtualization bool
	all            bool
	apply          bool
	wait           time.Duration
}

func bmcBIOSCommand(o *options, h *byHand) *cobra.Command {
	var w biosWish
	c := &cobra.Command{
		Use:   "bios ADDRESS",
		Short: "Show or change BIOS settings",
		Long: `bios shows the BIOS settings that govern virtualization under their vendor's names,
with --all every setting, and what is pending for the next start.

--set stages a change for the next start; what is so already is left out. Nothing
is restarted unless --apply is given: that restarts the server and waits until the
settings are in effect. To verify later, give the same --set again: nothing is
left to change.
` + bmcLoginHelp + exitHelp,
		Example: "  metalrise bmc bios 10.0.9.11\n  metalrise bmc bios 10.0.9.11 --set SriovGlobalEnable=Enabled\n  metalrise bmc bios 10.0.9.11 --virtualization --apply",
		Args:    usage(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			want, err := w.values()
			if err != nil {
				return err
			}
			return o.change(c.Context(), args[0], h, len(want) > 0 || w.virtualization, redfishOnly(func(s *bmc.Session) error { return o.bios(c.Context(), s, w, want, h) }))
		},
	}
	f := c.Flags()
	f.StringArrayVar(&w.set, "set", nil, "NAME=VALUE to stage; may be given several times")
	f.BoolVar(&w.virtualization, "virtualization", false, "stage every known switch of virtualization as on")
	f.BoolVar(&w.all, "all", false, "show every setting")
	f.BoolVar(&w.apply, "apply", false, "restart the server and wait until the settings are in effect")
	f.DurationVar(&w.wait, "wait", 20*time.Minute, "with --apply: how long that may take")
	return c
}

func (w biosWish) values() (map[string]string, error) {
	out := map[string]string{}
	for _, s := range w.set {
		name, value, ok := strings.Cut(s, "=")
		if !ok || name == "" {
			return nil, &exitError{exitUsage, fmt.Errorf("--set %q: want NAME=VALUE", s)}
		}
		out[name] = value
	}
	return out, nil
}

// biosDone is what bios prints.
type biosDone struct {
	Address        string            `json:"address"`
	Settings       bmc.BIOSSettings  `json:"settings"`
	Virtualization []bmc.VirtSetting `json:"virtualization"`
	Changes        []bmc.BIOSChange  `json:"changes"`  // staged for the next start
	InEffect       bool              `json:"inEffect"` // everything asked for is in effect
}

func (o *options) bios(ctx context.Context, s *bmc.Session, w biosWish, want map[string]string, h *byHand) error {
	b, err := s.BIOS(ctx, h.system)
	if err != nil {
		return err
	}
	if w.virtualization {
		for name, value := range b.VirtualizationWish() {
			if _, given := want[name]; !given {
				want[name] = value
			}
		}
	}
	out := biosDone{Address: s.Address(), InEffect: true}
	if len(want) > 0 {
		if out.Changes, err = s.StageBIOS(ctx, h.system, want); err != nil {
			return err
		}
		out.InEffect = len(out.Changes) == 0
		if w.apply && !out.InEffect {
			if err := o.applyBIOS(ctx, s, want, w, h); err != nil {
				return err
			}
			out.InEffect = true
		}
		if b, err = s.BIOS(ctx, h.system); err != nil {
			return err
		}
	}
	out.Settings, out.Virtualization = b, b.Virtualization()
	if o.output == "json" {
		out.Changes = orEmpty(out.Changes)
		return o.json(out)
	}
	o.printBIOS(out, w, len(want) > 0)
	return nil
}

// applyBIOS restarts the server and waits. A restart whose answer was lost is
// not repeated: the settings tell whether it came.
func (o *options) applyBIOS(ctx context.Context, s *bmc.Session, want map[string]string, w biosWish, h *byHand) error {
	if err := s.Power(ctx, h.system, bmc.Restart); err != nil && fleet.KindOf(err) != fleet.UnsureKind {
		return err
	}
	fmt.Fprintf(o.errs, "the server restarts; waiting up to %s until the settings are in effect\n", w.wait)
	wait, cancel := context.WithTimeout(ctx, w.wait)
	defer cancel()
	return s.VerifyBIOS(wait, h.system, want)
}

func (o *options) printBIOS(d biosDone, w biosWish, asked bool) {
	t := tabwriter.NewWriter(o.out, 0, 4, 2, ' ', 0)
	switch {
	case asked:
		for _, c := range d.Changes {
			state := "pending: takes effect with the next start"
			if d.InEffect {
				state = "in effect"
			}
			fmt.Fprintf(t, "%s\t%s → %s\t%s\n", c.Name, c.Now, c.Wish, state)
		}
		if len(d.Changes) == 0 {
			fmt.Fprintln(t, "all settings are as wished already")
		}
	case w.all:
		for _, name := range slices.Sorted(maps.Keys(d.Settings.Values)) {
			fmt.Fprintf(t, "%s\t%v\t%s\n", name, d.Settings.Values[name], pendingText(d.Settings, name))
		}
	default:
		for _, v := range d.Virtualization {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", v.Feature, v.Name, v.Value, pendingText(d.Settings, v.Name))
		}
		if len(d.Virtualization) == 0 {
			fmt.Fprintf(t, "none of the %d settings is known to govern virtualization; --all shows them\n", len(d.Settings.Values))
		}
	}
	_ = t.Flush()
	for _, m := range d.Settings.Messages {
		fmt.Fprintf(o.errs, "the firmware says of the last change: %s\n", m)
	}
}

func pendingText(b bmc.BIOSSettings, name string) string {
	if v, ok := b.Pending[name]; ok {
		return fmt.Sprintf("pending: %v", v)
	}
	return ""
}

// followLog is how often a BMC's log is read with --follow: it costs several
// requests, and BMCs are slow.
const followLog = 10 * time.Second

func bmcEventsCommand(o *options, h *byHand) *cobra.Command {
	limit, follow := 50, false
	c := &cobra.Command{
		Use:   "events ADDRESS",
		Short: "Show the BMC's log of a server, the newest entry last",
		Long: `events shows the newest entries of the logs that a BMC keeps about a server (system
event log, integrated management log and their like). With --follow it goes on
until Ctrl-C; with --output json each line is then one entry.
` + bmcLoginHelp + exitHelp,
		Example: "  metalrise bmc events 10.0.9.11\n  metalrise bmc events 10.0.9.11 --limit 500 --output json\n  metalrise bmc events 10.0.9.11 --follow",
		Args:    usage(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if limit < 1 || limit > 2000 {
				return &exitError{exitUsage, fmt.Errorf("--limit %d: want 1 to 2000", limit)}
			}
			return o.with(c.Context(), args[0], h, redfishOnly(func(s *bmc.Session) error {
				return o.bmcEvents(c.Context(), s, h.system, limit, follow)
			}))
		},
	}
	c.Flags().IntVar(&limit, "limit", limit, "entries to show, 1 to 2000")
	c.Flags().BoolVar(&follow, "follow", false, "go on with new entries")
	return c
}

func (o *options) bmcEvents(ctx context.Context, s *bmc.Session, system string, limit int, follow bool) error {
	list, err := s.Events(ctx, system, limit)
	if err != nil {
		return err
	}
	if o.output == "json" && !follow {
		return o.json(map[string]any{"address": s.Address(), "events": orEmpty(list)})
	}
	lines := json.NewEncoder(o.out)
	seen := map[string]bool{}
	for {
		for _, e := range list {
			if seen[e.URI] && e.URI != "" {
				continue
			}
			seen[e.URI] = true
			if o.output == "json" {
				if err := lines.Encode(e); err != nil {
					return err
				}
				continue
			}
			at := "unknown time        "
			if t, ok := e.Created.Get(); ok {
				at = t.UTC().Format(time.RFC3339)
			}
			o.printf("%s  %-8s  %s  %s\n", at, e.Severity, e.Log, firstLine(e.Message))
		}
		if !follow {
			return nil
		}
		select {
		case <-time.After(followLog):
		case <-ctx.Done():
			return ctx.Err()
		}
		if list, err = s.Events(ctx, system, limit); err != nil && fleet.KindOf(err) != fleet.Transient {
			return err
		}
	}
}
