package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"metalrise.dev/bmc"
	"metalrise.dev/fleet"
	"metalrise.dev/fleet/site"
	"metalrise.dev/provision/api"
	"metalrise.dev/provision/store"
)

func nodeCommand(o *options) *cobra.Command {
	c := &cobra.Command{
		Use:   "node",
		Short: "The cluster's nodes: list, add, replace, remove",
		Args:  usage(cobra.NoArgs),
	}
	c.AddCommand(nodeListCommand(o), nodeAddCommand(o), nodeReplaceCommand(o), nodeRemoveCommand(o))
	return c
}

func nodeListCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the nodes with every check of them",
		Long: `list shows each node of the cluster with its checks: what is true, since when, and
what is missing. Where no engine watches the cluster, its API is asked once.
` + exitHelp,
		Example: "  metalrise node list\n  metalrise node list --output json | jq '.servers[].checks'",
		Args:    usage(cobra.NoArgs),
		RunE:    func(c *cobra.Command, _ []string) error { return o.nodeList(c.Context()) },
	}
}

func (o *options) nodeList(ctx context.Context) error {
	dir, err := o.siteDir()
	if err != nil {
		return err
	}
	view, err := overview(ctx, dir)
	if err != nil {
		return err
	}
	o.lookAtCluster(ctx, &view)
	if o.output == "json" {
		return o.json(view)
	}
	w := tabwriter.NewWriter(o.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "NODE\tROLE\tPHASE\tCHECK\tIS\tFOR\tMISSING")
	for _, s := range view.Servers {
		if len(s.Checks) == 0 {
			fmt.Fprintf(w, "%s\t%s\t%s\t-\t\t\t%s\n", s.Hostname, s.Role, s.Phase, s.Step)
		}
		for i, k := range s.Checks {
			name, role, phase := s.Hostname, string(s.Role), string(s.Phase)
			if i > 0 {
				name, role, phase = "", "", ""
			}
			is := "true"
			if !k.OK {
				is = "NOT TRUE"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", name, role, phase, k.Name, is, age(view.At, k.Since), k.Missing)
		}
	}
	return w.Flush()
}

func nodeAddCommand(o *options) *cobra.Command {
	erase := -1
	c := &cobra.Command{
		Use:   "add ADDRESS...",
		Short: "Add servers to the cluster by the addresses of their BMCs",
		Long: `add writes the addresses to the site file, finds and inspects the servers, plans
with all that is there kept as it is, and applies the plan: it asks for the number
of disks to be erased, those of the new servers. Interrupted, the same command
goes on.

The role of a new server is the one the site file says, else worker; three control
planes become five with cluster.controlPlanes: 5.
` + exitHelp,
		Example: "  metalrise node add 10.0.9.16\n  metalrise node add 10.0.9.16-17 --erase-disks 2",
		Args:    usage(cobra.MinimumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if err := o.addAddresses(args); err != nil {
				return err
			}
			return o.survey(c.Context(), erase)
		},
	}
	c.Flags().IntVar(&erase, "erase-disks", -1, "the number of disks that the plan erases, instead of typing it")
	return c
}

// addAddresses writes those addresses to the site file that it does not cover.
func (o *options) addAddresses(args []string) error {
	f, _, err := o.siteFile()
	if err != nil {
		return err
	}
	s := f.Typed()
	known, err := bmc.Expand(s.BMCs.Addresses, orPort(s.BMCs.Port))
	if err != nil {
		return err
	}
	have := map[string]bool{}
	for _, a := range known {
		have[a] = true
	}
	addresses := append([]string(nil), s.BMCs.Addresses...)
	for _, arg := range args {
		each, err := bmc.Expand([]string{arg}, orPort(s.BMCs.Port))
		if err != nil {
			return &exitError{exitUsage, err}
		}
		for _, a := range each {
			if !have[a] {
				addresses = append(addresses, arg)
				break
			}
		}
	}
	if len(addresses) > len(s.BMCs.Addresses) {
		if err := f.Set("bmcs.addresses", addresses); err != nil {
			return err
		}
	}
	if err := o.include(f, args); err != nil {
		return err
	}
	return f.Write()
}

// include takes back the exclusion of servers that are known to stand behind
// these addresses: who adds them wants them.
func (o *options) include(f *site.File, args []string) error {
	s := f.Typed()
	dir, err := o.stateDir(s.Name)
	if err != nil {
		return err
	}
	st, err := store.OpenReader(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer st.Close()
	enrolled, err := st.Servers(context.Background())
	if err != nil {
		return err
	}
	wanted, err := bmc.Expand(args, orPort(s.BMCs.Port))
	if err != nil {
		return err
	}
	keep := slices.DeleteFunc(slices.Clone(s.Servers), func(v fleet.Override) bool {
		if v.Role != fleet.Excluded {
			return false
		}
		for _, e := range enrolled {
			if slices.Contains(wanted, e.BMC.Address) && (v.Serial != "" && v.Serial == e.Identity.Serial || v.Serial == "" && v.UUID == e.Identity.UUID) {
				return true
			}
		}
		return false
	})
	switch {
	case len(keep) == len(s.Servers):
		return nil
	case len(keep) == 0:
		return f.Set("servers", nil)
	}
	return f.Set("servers", keep)
}

// survey looks at all servers anew, plans and applies.
func (o *options) survey(ctx context.Context, erase int) error {
	dir, err := o.siteDir()
	if err != nil {
		return err
	}
	view, err := overview(ctx, dir)
	if err != nil {
		return err
	}
	if view.Plan != "" && !view.Quiet { // an earlier call of this command got that far
		fmt.Fprintf(o.errs, "plan %.12s is being applied already; it goes on\n", view.Plan)
		return o.apply(ctx, view.Plan, applyHow{erase: erase})
	}
	if err := o.restEngine(ctx); err != nil {
		return err
	}
	if err := o.discover(ctx, nil, discoverFlags{}); err != nil {
		return err
	}
	if err := o.inspect(ctx, nil, adhoc{}); err != nil {
		return err
	}
	if err := o.plan(ctx, false); err != nil {
		return err
	}
	return o.apply(ctx, "", applyHow{erase: erase})
}

// restEngine ends an engine that has nothing to do, so that the state can be
// written. One that works is left alone.
func (o *options) restEngine(ctx context.Context) error {
	dir, err := o.siteDir()
	if err != nil {
		return err
	}
	client := api.NewClient(dir)
	for asked := false; ; {
		view, err := client.Overview(ctx)
		switch {
		case errors.Is(err, api.ErrNoEngine):
			return nil
		case err != nil && !asked:
			return err
		case err == nil && !view.Quiet:
			return fleet.NewFault(fleet.CodeSiteLocked, fleet.Conflict, nil, "plan %.12s is still being applied; wait for it or take it back with metalrise stop --cancel", view.Plan)
		case err == nil && !asked:
			if err := client.Stop(ctx); err != nil {
				return err
			}
			asked = true
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// removeFlags say how a server is taken away.
type removeFlags struct {
	fleet.Removal
	confirm string
}

func (r *removeFlags) add(c *cobra.Command) {
	c.Flags().BoolVar(&r.Force, "force", false, "the server is dead or gone: do not drain it, do not ask its BMC, do not insist on the majority")
	c.Flags().StringVar(&r.confirm, "confirm", "", "host name of the server, instead of typing it")
}

func nodeRemoveCommand(o *options) *cobra.Command {
	var r removeFlags
	c := &cobra.Command{
		Use:   "remove NODE",
		Short: "Take a server out of the cluster and switch it off",
		Long: `remove drains the node, takes it out of etcd and of the cluster, switches the
server off through its BMC and notes in the site file that it is excluded. A
control plane whose loss would cost the majority is refused. With --erase its
install disk is erased too, and the journal says what was erased.

A server that is not erased and is switched on again comes back as a node. The
host name must be typed, or be given with --confirm. Interrupted, the same
command goes on.
` + exitHelp,
		Example: "  metalrise node remove oslo-w2\n  metalrise node remove oslo-w2 --erase --confirm oslo-w2\n  metalrise node remove oslo-cp2 --force",
		Args:    usage(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := o.removeNode(c.Context(), args[0], r)
			if err != nil {
				return err
			}
			return o.exclude(s)
		},
	}
	c.Flags().BoolVar(&r.Erase, "erase", false, "erase its install disk as well")
	r.add(c)
	return c
}

func nodeReplaceCommand(o *options) *cobra.Command {
	var r removeFlags
	erase, with, again := -1, "", false
	c := &cobra.Command{
		Use:   "replace NODE",
		Short: "Install a node anew: after a disk was swapped, or on another server",
		Long: `replace takes the node out of the cluster as remove does, then inspects, plans and
installs again: the same server, whose disk may be a new one, or the one behind
the BMC at --with. Give --force when the old server is dead. Interrupted, the
same command goes on.

Once the node is ready again the same command erases nothing more: it says when
the node was replaced and ends well, so that whoever repeats commands may repeat
this one. If the node is not ready now, it is refused (RUN-001, exit 4). With
--again a node that was replaced before is replaced once more; give that once, by
a person's decision, and not from what repeats commands.
` + exitHelp,
		Example: "  metalrise node replace oslo-w2 --force\n  metalrise node replace oslo-cp3 --with 10.0.9.17\n  metalrise node replace oslo-w2 --confirm oslo-w2 --erase-disks 1\n  metalrise node replace oslo-w2 --again",
		Args:    usage(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if !again {
				if done, err := o.alreadyReplaced(c.Context(), args[0], with); done || err != nil {
					return err
				}
			}
			switch done, err := o.replaced(c.Context(), args[0], with); {
			case err != nil:
				return err
			case done:
				return o.survey(c.Context(), erase)
			}
			r.Replace = with == ""
			s, busy, err := o.comesBack(c.Context(), args[0])
			if err == nil && !busy {
				s, err = o.removeNode(c.Context(), args[0], r)
			}
			if err != nil {
				return err
			}
			if with != "" {
				if err := errors.Join(o.exclude(s), o.addAddresses([]string{with})); err != nil {
					return err
				}
			}
			return o.survey(c.Context(), erase)
		},
	}
	c.Flags().BoolVar(&again, "again", false, "also when the node was replaced before and came back: erase and install it once more")
	c.Flags().StringVar(&with, "with", "", "address of the BMC of the server that takes its place")
	c.Flags().IntVar(&erase, "erase-disks", -1, "the number of disks that the plan erases, instead of typing it")
	r.add(c)
	return c
}
