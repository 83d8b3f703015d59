package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"metalrise.dev/lab"
	"metalrise.dev/lab/redfish"
)

func labStatusCommand(l *labOptions) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show what every machine of the lab does",
		Long: `status looks at the machines themselves, not at their BMCs' services: power,
what runs, what is inserted, faults, memory, and under DATA whether the disks
that nobody may write to are kept as they were.
` + exitHelp,
		Example: "  metalrise lab status\n  metalrise lab status --output json | jq '.servers[].doing'",
		Args:    usage(cobra.NoArgs),
		RunE:    func(c *cobra.Command, _ []string) error { return l.status(c.Context()) },
	}
}

func (l *labOptions) status(ctx context.Context) error {
	client, err := l.client()
	if err != nil {
		return err
	}
	v, err := client.View(ctx)
	if err != nil {
		return labHint(err)
	}
	if l.output == "json" {
		return l.json(v)
	}
	l.printf("lab %s: %s on %s, %s\nsite file %s\n\n", v.Name, machines(len(v.Servers), v.Machine), v.Network, softwareLine(v.Software), v.Site)
	l.printf("%-4s %-7s %-18s %-11s %-15s %-7s %6s %s\n", "NAME", "SERIAL", "BMC", "POWER", "DOES", "BOOT", "MEMORY", "DATA")
	for _, s := range v.Servers {
		disks := "kept"
		if s.Touched != "" {
			disks = "WRITTEN"
		}
		l.printf("%-4s %-7s %-18s %-11s %-15s %-7s %3d MB %s\n", s.Name, s.Serial, s.BMC, s.Power, s.Doing, s.Override, s.MemoryBytes/1e6, disks)
		if s.Swaps > 0 {
			l.printf("      install disk swapped %s, now serial %s\n", times(s.Swaps), s.InstallDisk)
		}
		for _, m := range s.Media {
			l.printf("      medium from %s\n", m)
		}
		for _, f := range s.Faults {
			l.printf("      fault %s\n", f)
		}
		for _, text := range []string{s.Touched, s.Error} {
			if text != "" {
				l.printf("      %s\n", text)
			}
		}
	}
	return nil
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

func labConsoleCommand(l *labOptions) *cobra.Command {
	var follow, raw bool
	c := &cobra.Command{
		Use:   "console SERVER",
		Short: "Print the serial console of a machine",
		Long: `console prints the last megabyte or two of a machine's serial console. With
--follow it goes on until Ctrl-C. Terminal control sequences are left out unless
--raw is given.
` + exitHelp,
		Example: "  metalrise lab console n1 --follow",
		Args:    usage(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			client, err := l.client()
			if err != nil {
				return err
			}
			var out io.Writer = &plainText{w: l.out}
			if raw {
				out = l.tty
			}
			return labHint(client.Console(c.Context(), args[0], follow, out))
		},
	}
	c.Flags().BoolVar(&follow, "follow", false, "go on with what comes")
	c.Flags().BoolVar(&raw, "raw", false, "pass control sequences on to this terminal")
	return c
}

func labFaultCommand(l *labOptions) *cobra.Command {
	var clearAll, list bool
	c := &cobra.Command{
		Use:   "fault SERVER [FAULT]",
		Short: "Make a BMC misbehave, or behave again",
		Long:  "fault makes the BMC of a server misbehave; SERVER may be all. Faults add up.\n\n" + faultsText() + exitHelp,
		Example: `  metalrise lab fault n1 "unreachable for=30s"
  metalrise lab fault all "answer method=POST path=*Reset status=500 times=1"
  metalrise lab fault n1 --clear
  metalrise lab fault --list`,
		Args: usage(func(_ *cobra.Command, args []string) error {
			switch {
			case list && len(args) == 0, clearAll && !list && len(args) == 1, !clearAll && !list && len(args) >= 2:
				return nil
			}
			return errors.New("want SERVER and FAULT, or SERVER --clear, or --list")
		}),
		RunE: func(c *cobra.Command, args []string) error {
			if list {
				return l.listFaults(c.Context())
			}
			text := strings.Join(args[1:], " ")
			if !clearAll {
				if _, err := redfish.ParseFault(text); err != nil {
					return &exitError{exitUsage, err}
				}
			}
			client, err := l.client()
			if err != nil {
				return err
			}
			return labHint(client.Fault(c.Context(), args[0], text))
		},
	}
	c.Flags().BoolVar(&clearAll, "clear", false, "clear all faults of the server")
	c.Flags().BoolVar(&list, "list", false, "list the faults that act now")
	return c
}

func faultsText() string {
	var b strings.Builder
	for _, k := range redfish.FaultKinds() {
		b.WriteString("  " + k.Usage + "\n")
		for text := k.Text; text != ""; {
			line := text
			if i := strings.LastIndexByte(text[:min(len(text), 74)], ' '); len(text) > 74 && i > 0 {
				line = text[:i]
			}
			text = strings.TrimSpace(text[len(line):])
			b.WriteString("      " + line + "\n")
		}
	}
	b.WriteString("\nEvery fault takes nth=N (first time it acts), times=N and for=DURATION.\n")
	return b.String()
}

func (l *labOptions) listFaults(ctx context.Context) error {
	client, err := l.client()
	if err != nil {
		return err
	}
	v, err := client.View(ctx)
	if err != nil {
		return labHint(err)
	}
	faults := map[string][]string{}
	for _, s := range v.Servers {
		faults[s.Name] = s.Faults
		for _, f := range s.Faults {
			if l.output != "json" {
				l.printf("%-5s %s\n", s.Name, f)
			}
		}
	}
	if l.output == "json" {
		return l.json(faults)
	}
	return nil
}

func labPowerCommand(l *labOptions) *cobra.Command {
	return &cobra.Command{
		Use:   "power SERVER on|off|press",
		Short: "Use the power button of a machine",
		Long: `power uses the button of a machine; SERVER may be all. off holds it, which cuts
the power; press asks a running system to shut down, and switches one on that is
off.
` + exitHelp,
		Example: "  metalrise lab power n1 on\n  metalrise lab power all off",
		Args:    usage(cobra.ExactArgs(2)),
		RunE: func(c *cobra.Command, args []string) error {
			client, err := l.client()
			if err != nil {
				return err
			}
			return labHint(client.Power(c.Context(), args[0], lab.Button(args[1])))
		},
	}
}
