package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"metalrise.dev/fleet"
	"metalrise.dev/provision"
	"metalrise.dev/provision/api"
	"metalrise.dev/provision/store"
)

func stopCommand(o *options) *cobra.Command {
	var cancel bool
	c := &cobra.Command{
		Use:   "stop",
		Short: "Stop the site's engine; machines wait until it runs again",
		Long: `stop ends the engine of the site. Nothing is lost: metalrise apply continues where
it was. Machines that are writing go on writing and report when it is back.

With --cancel the consent to erase disks is taken back too: nothing is begun or
continued until a plan is consented to again. Machines in the middle of a write
stop it; their disks cannot boot then. The removal of a node that the cluster has
not forgotten yet is given up, and pods may run on that node again.
` + exitHelp,
		Example: "  metalrise stop\n  metalrise stop --cancel",
		Args:    usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			dir, err := o.siteDir()
			if err != nil {
				return err
			}
			return o.stop(c.Context(), dir, cancel)
		},
	}
	c.Flags().BoolVar(&cancel, "cancel", false, "take the consent to erase disks back")
	return c
}

func (o *options) stop(ctx context.Context, dir string, cancel bool) error {
	client := api.NewClient(dir)
	_, err := client.Overview(ctx)
	running := !errors.Is(err, api.ErrNoEngine)
	if view, err := overview(ctx, dir); cancel && err == nil && view.Plan == "" {
		// Perhaps another folder was meant: who says that it was taken back must have had it.
		o.say("no consent is in force in %s; nothing was taken back\n", dir)
		cancel = false
	}
	switch {
	case running && cancel:
		if err := client.Withdraw(ctx, who(false)); err != nil {
			return err
		}
	case cancel: // no engine: the journal is ours
		st, err := store.Open(dir)
		if err != nil {
			return err
		}
		cordoned, err := provision.Cordoned(ctx, st, st)
		if err == nil {
			err = refuseDark(ctx, st)
		}
		if err == nil {
			_, err = st.Append(ctx, fleet.Event{At: time.Now(), Action: fleet.ActWithdraw, Edge: fleet.Ended, Outcome: fleet.OK, Note: "taken back by " + who(false)})
		}
		if err := errors.Join(err, st.Close()); err != nil {
			return err
		}
		if err := o.undrain(ctx, cordoned); err != nil {
			return err
		}
	}
	if cancel {
		o.say("the consent was taken back\n")
	}
	if running {
		if err := client.Stop(ctx); err != nil {
			return err
		}
	} else {
		o.say("no engine is running\n")
	}
	if o.output == "json" {
		return o.json(map[string]bool{"stopped": running, "withdrawn": cancel})
	}
	return nil
}
