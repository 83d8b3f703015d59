package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"metalrise.dev/bmc"
	"metalrise.dev/fleet"
)

func bmcPowerCommand(o *options, h *byHand) *cobra.Command {
	var a powerAsk
	c := &cobra.Command{
		Use:   "power ADDRESS [status|on|off|cycle|reset]",
		Short: "Show or change a server's power",
		Long: `power shows whether a server is on, or switches it and waits until the BMC shows
it. off pulls the plug; with --graceful it asks the running system. cycle is off
and on again; reset restarts without taking the power away. Both switch a server
on that is off. A BMC that has no word for one of them gets off and on.
` + bmcLoginHelp + exitHelp,
		Example: "  metalrise bmc power 10.0.9.11\n  metalrise bmc power 10.0.9.11 off --graceful\n  metalrise bmc power 10.0.9.11 reset --username admin --password-file pw --accept-new-pins",
		Args:    usage(cobra.RangeArgs(1, 2)),
		RunE: func(c *cobra.Command, args []string) error {
			var err error
			a.what, err = wanted(args, "status", "on", "off", "cycle", "reset")
			if err != nil {
				return err
			}
			return o.change(c.Context(), args[0], h, a.what != "status", func(s hand) error {
				return o.power(c.Context(), s, h.system, a)
			})
		},
	}
	c.Flags().BoolVar(&a.graceful, "graceful", false, "with off: ask the running system, which may refuse")
	c.Flags().DurationVar(&a.wait, "wait", powerShows, "how long the BMC may take to show it")
	return c
}

// powerAsk is what power was told.
type powerAsk struct {
	what     string
	graceful bool
	wait     time.Duration
}

// powerDone is what power prints.
type powerDone struct {
	Address string           `json:"address"`
	Was     fleet.PowerState `json:"was"`
	Power   fleet.PowerState `json:"power"`
}

func (o *options) power(ctx context.Context, s hand, system string, a powerAsk) error {
	before, err := s.Look(ctx, system)
	if err != nil {
		return err
	}
	out := powerDone{Address: s.Address(), Was: before.Power.Or(fleet.PowerOther)}
	out.Power = out.Was
	if a.what != "status" {
		if out.Power, err = o.switchPower(ctx, s, system, a); err != nil {
			return err
		}
	}
	if o.output == "json" {
		return o.json(out)
	}
	o.printf("%s is %s\n", out.Address, out.Power)
	return nil
}

func (o *options) switchPower(ctx context.Context, s hand, system string, a powerAsk) (fleet.PowerState, error) {
	wish := map[string]bmc.Wish{"on": bmc.On, "off": bmc.ForceOff, "cycle": bmc.Cycle, "reset": bmc.Restart}[a.what]
	to := fleet.PowerOn
	if a.what == "off" {
		to = fleet.PowerOff
		if a.graceful {
			wish = bmc.GracefulOff
		}
	}
	err := s.Power(ctx, system, wish)
	shown := func() error {
		wait, cancel := context.WithTimeout(ctx, max(a.wait, time.Second))
		defer cancel()
		return s.WaitPower(wait, system, to)
	}
	if a.what == "on" || a.what == "off" {
		err = o.uncertain(err, func() bool { return shown() == nil })
	}
	if err != nil {
		return fleet.PowerOther, err
	}
	return to, shown()
}
