package main

import (
	"errors"

	"github.com/spf13/cobra"

	"metalrise.dev/lab"
)

func labSwapDiskCommand(l *labOptions) *cobra.Command {
	return &cobra.Command{
		Use:   "swap-disk SERVER",
		Short: "Put a new, empty disk in place of a server's install disk",
		Long: `swap-disk does what a technician does with a broken disk: the first disk of the
server goes out with all that is on it, and an empty one of the same size with
another serial number and WWN comes in. The server must be off. SERVER may be
all. The BMC shows the new disk at once.
` + exitHelp,
		Example: `  metalrise lab power n4 off
  metalrise lab swap-disk n4
  metalrise lab power n4 on`,
		Args: usage(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			client, err := l.client()
			if err != nil {
				return err
			}
			err = client.SwapDisk(c.Context(), args[0])
			if errors.Is(err, lab.ErrPoweredOn) {
				return &exitError{exitDenied, err}
			}
			return labHint(err)
		},
	}
}
