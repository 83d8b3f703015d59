package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"metalrise.dev/fleet"
	"metalrise.dev/provision/api"
)

func mediumCommand(o *options) *cobra.Command {
	var to outFile
	c := &cobra.Command{
		Use:   "medium SERVER --to FILE",
		Short: "Write the live medium of a server that only a person can boot",
		Long: `medium writes the ISO of one server's current attempt, for a USB drive: the last rung
of the boot ladder. The engine must be running, and the server waiting for its live
system. Copy the file onto a USB drive as it is (for example with dd), boot the
server from the drive once, and take it out when the server restarts: the
installed system must come up from its disk.

The ISO carries a token for this one server and this one attempt. Booted on another
machine it does nothing: the engine compares serial, UUID and disk first.
` + exitHelp,
		Example: "  metalrise medium SN12345 --to sn12345.iso",
		Args:    usage(cobra.ExactArgs(1)),
		RunE:    func(c *cobra.Command, args []string) error { return o.writeMedium(c.Context(), args[0], to) },
	}
	to.add(c, "file to write the ISO to (- is standard output)")
	_ = c.MarkFlagRequired("to")
	return c
}

func (o *options) writeMedium(ctx context.Context, server string, to outFile) error {
	s, _, err := o.loadSite()
	if err != nil {
		return err
	}
	dir, err := o.stateDir(s.Name)
	if err != nil {
		return err
	}
	body, err := api.NewClient(dir).Medium(ctx, fleet.ServerID(server))
	if err != nil {
		return err
	}
	defer body.Close()
	return o.write(to, func(w io.Writer) error {
		_, err := io.Copy(w, body)
		return err
	})
}
