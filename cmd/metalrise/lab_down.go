package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"metalrise.dev/lab"
	"metalrise.dev/provision/api"
)

func labDownCommand(l *labOptions) *cobra.Command {
	var keep bool
	c := &cobra.Command{
		Use:   "down",
		Short: "Cut the power of all machines and remove the lab",
		Long: `down ends the lab and removes its bridge, interfaces, loop devices, disks and
the state of its site, also after the lab was killed. With --keep the disks,
the folder and the site's state stay, and metalrise lab up starts it again.
` + exitHelp,
		Example: "  metalrise lab down\n  metalrise lab down --name big --keep",
		Args:    usage(cobra.NoArgs),
		RunE:    func(c *cobra.Command, _ []string) error { return l.down(c.Context(), keep) },
	}
	c.Flags().BoolVar(&keep, "keep", false, "keep the lab's folder and its site's state")
	return c
}

func (l *labOptions) down(ctx context.Context, keep bool) error {
	cfg, err := l.config()
	if err != nil {
		return err
	}
	// Cutting power takes a second or two; a minute is a lab that hangs.
	wait, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := lab.NewClient(cfg).Stop(wait); err != nil && !errors.Is(err, lab.ErrDown) {
		return err
	}
	if keep {
		if err := cfg.Clean(ctx); err != nil {
			return err
		}
		l.printf("lab %s is down; its disks are kept in %s\n", cfg.Name, cfg.Dir)
		return nil
	}
	if err := l.removeLabState(wait, cfg); err != nil {
		return err
	}
	if err := cfg.Remove(ctx); err != nil {
		return err
	}
	l.printf("lab %s is down and removed\n", cfg.Name)
	return nil
}

// removeLabState ends the engine of the lab's site and removes its state. That
// it is the lab's was made sure when the lab was made: there was none then.
func (l *labOptions) removeLabState(ctx context.Context, cfg lab.Config) error {
	dir, ok, err := l.labSiteState(cfg)
	if err != nil || !ok {
		return err
	}
	client := api.NewClient(dir)
	for err := client.Stop(ctx); !errors.Is(err, api.ErrNoEngine); _, err = client.Overview(ctx) {
		if err != nil {
			return fmt.Errorf("stop the engine of site %s: %w", cfg.SiteName(), err)
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("stop the engine of site %s: %w", cfg.SiteName(), ctx.Err())
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove the state of site %s: %w", cfg.SiteName(), err)
	}
	return nil
}
