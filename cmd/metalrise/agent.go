package main

import (
	"github.com/spf13/cobra"

	"metalrise.dev/agent"
	"metalrise.dev/fleet/callhome"
)

func agentCommand(o *options) *cobra.Command {
	var ticket string
	var carries bool
	c := &cobra.Command{
		Use:   "agent",
		Short: "Work on the machine itself, in the system that metalrise booted",
		Long: `agent runs on a server, started by the system that metalrise booted there. It says
what it sees, writes the planned disk when told to, and reports the installed
system. It does nothing without the ticket that was made for that server.
` + exitHelp,
		Example: "  metalrise agent",
		Args:    usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			cfg := agent.Config{TicketPath: ticket, Log: o.out}
			if carries {
				var err error
				if cfg.Carry, err = carry(func(text string) { o.printf("metalrise: %s\n", text) }); err != nil {
					return err
				}
			}
			return agent.Run(c.Context(), cfg)
		},
	}
	c.Flags().StringVar(&ticket, "ticket", callhome.TicketPath, "the ticket")
	c.Flags().BoolVar(&carries, "carry", false, "give the written system what a prepared medium's engine needs")
	return c
}
