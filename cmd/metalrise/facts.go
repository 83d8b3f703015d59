package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"metalrise.dev/fleet"
	"metalrise.dev/provision/store"
)

func factsCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "facts [SERVER]",
		Short: "Show what is known of the servers, and who saw it when",
		Long: `facts shows what BMCs told (by inspect) and what agents saw on the machines
themselves (during apply), side by side. It asks nobody.
` + exitHelp,
		Example: "  metalrise facts\n  metalrise facts SN12345 --output json",
		Args:    usage(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			dir, err := o.siteDir()
			if err != nil {
				return err
			}
			only := ""
			if len(args) == 1 {
				only = args[0]
			}
			return o.facts(c.Context(), dir, only)
		},
	}
}

func (o *options) facts(ctx context.Context, dir, only string) error {
	st, err := store.OpenReader(dir)
	if errors.Is(err, os.ErrNotExist) {
		return fleet.NewFault(fleet.CodeNoServers, fleet.Invalid, nil, "no server was inspected yet: run metalrise discover and metalrise inspect")
	}
	if err != nil {
		return err
	}
	defer st.Close()
	told, err := st.Facts(ctx)
	if err != nil {
		return err
	}
	seen, err := st.InBand(ctx)
	if err != nil {
		return err
	}
	all := []fleet.Facts{}
	for _, place := range slices.Sorted(maps.Keys(told)) {
		id := string(told[place].Identity.ID())
		if only != "" && only != id {
			continue
		}
		all = append(all, told[place])
		if f, ok := seen[id]; ok {
			all = append(all, f)
		}
	}
	if only != "" && len(all) == 0 {
		return fleet.NewFault(fleet.CodeSiteUnknownServer, fleet.Invalid, nil, "no server %q was inspected", only)
	}
	if o.output == "json" {
		return o.json(all)
	}
	w := tabwriter.NewWriter(o.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "SERVER\tSEEN BY\tAGO\tCPU\tFLAGS\tMEMORY\tPORTS\tDISKS\tKVM")
	for _, f := range all {
		kvm := "-"
		if f.KVM.IsKnown() {
			kvm = kvmText(f.KVM)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\t%s\n", f.Identity.ID(), f.Source, age(time.Now(), f.At), f.CPU.Threads,
			strings.Join(f.CPU.Flags, " "), gib(f.MemoryMiB), len(f.NICs), len(f.Disks), kvm)
	}
	return w.Flush()
}
