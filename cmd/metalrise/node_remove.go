package main

import (
	"bufio"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"metalrise.dev/bmc"
	"metalrise.dev/fleet"
	"metalrise.dev/fleet/site"
	"metalrise.dev/provision/api"
	"metalrise.dev/provision/store"
)

// comesBack tells whether an earlier replace of the server is under way: it was
// removed, and is being installed again.
func (o *options) comesBack(ctx context.Context, name string) (fleet.Status, bool, error) {
	dir, err := o.siteDir()
	if err != nil {
		return fleet.Status{}, false, err
	}
	view, err := overview(ctx, dir)
	if err != nil {
		return fleet.Status{}, false, err
	}
	for _, s := range view.Servers {
		if name == s.Hostname || name == string(s.Server) {
			fresh := s.Phase == fleet.Planned || s.Phase == fleet.Staged || s.Phase == fleet.Booted || s.Phase == fleet.Installed
			return s, fresh && s.Condition != fleet.Held && s.Condition != fleet.Settled, nil
		}
	}
	return fleet.Status{}, false, nil
}

// replaced tells whether an earlier call got so far that the plan has the server
// behind the BMC at with, and the node that it replaces no more.
func (o *options) replaced(ctx context.Context, name, with string) (bool, error) {
	if with == "" {
		return false, nil
	}
	f, _, err := o.siteFile()
	if err != nil {
		return false, err
	}
	wanted, err := bmc.Expand([]string{with}, orPort(f.Typed().BMCs.Port))
	if err != nil {
		return false, &exitError{exitUsage, err}
	}
	if len(wanted) != 1 {
		return false, &exitError{exitUsage, fmt.Errorf("--with %s names %d servers, want one", with, len(wanted))}
	}
	dir, err := o.siteDir()
	if err != nil {
		return false, err
	}
	view, err := overview(ctx, dir)
	if err != nil {
		return false, err
	}
	there := false
	for _, s := range view.Servers {
		if name == s.Hostname || name == string(s.Server) {
			return false, nil
		}
		there = there || s.BMC == wanted[0]
	}
	return there, nil
}

// removeNode has the engine take a server away and waits for it.
func (o *options) removeNode(ctx context.Context, name string, r removeFlags) (fleet.Status, error) {
	dir, err := o.siteDir()
	if err != nil {
		return fleet.Status{}, err
	}
	client := api.NewClient(dir)
	if err := o.ensureEngine(ctx, client, dir, ""); err != nil {
		return fleet.Status{}, err
	}
	s, err := findServer(ctx, client, name)
	if err != nil {
		return s, err
	}
	if s.Condition == fleet.Settled && s.Phase == fleet.Inspected {
		return s, nil // an earlier call got that far
	}
	if err := o.confirmRemoval(s, r); err != nil {
		return s, err
	}
	r.By = who(r.confirm != "")
	if err := client.Remove(ctx, s.Server, r.Removal); err != nil {
		return s, err
	}
	last := ""
	for {
		s, err = findServer(ctx, client, string(s.Server))
		switch {
		case err != nil:
			return s, err
		case s.Condition == fleet.Held:
			o.printCause(s)
			return s, &exitError{code: exitHeld}
		case s.Condition == fleet.Settled && s.Phase == fleet.Inspected:
			fmt.Fprintf(o.errs, "%s (%s): removed\n", s.Hostname, s.Server)
			return s, nil
		case s.Step != last:
			last = s.Step
			fmt.Fprintf(o.errs, "%s: %s\n", s.Hostname, last)
		}
		select {
		case <-time.After(300 * time.Millisecond):
		case <-ctx.Done():
			return s, ctx.Err()
		}
	}
}

func findServer(ctx context.Context, client *api.Client, name string) (fleet.Status, error) {
	view, err := client.Overview(ctx)
	if err != nil {
		return fleet.Status{}, err
	}
	for _, s := range view.Servers {
		if name == s.Hostname || name == string(s.Server) {
			return s, nil
		}
	}
	return fleet.Status{}, fleet.NewFault(fleet.CodeSiteUnknownServer, fleet.Invalid, nil, "no server %q in plan %.12s; metalrise status lists them", name, view.Plan)
}

func (o *options) confirmRemoval(s fleet.Status, r removeFlags) error {
	what := "is drained, taken out of the cluster and switched off"
	if r.Erase {
		what += ", and its install disk is ERASED"
	}
	return o.confirmHost(s, what, r.confirm)
}

// confirmHost wants the host name of a server typed, or given by flag.
func (o *options) confirmHost(s fleet.Status, what, given string) error {
	if given == "" {
		fmt.Fprintf(o.errs, "%s (%s, %s) %s.\nType its host name to go on: ", s.Hostname, s.Server, s.Role, what)
		line, err := bufio.NewReader(o.in).ReadString('\n')
		if err != nil && line == "" {
			return fleet.NewFault(fleet.CodeConsentMissing, fleet.Denied, nil, "nobody typed the host name, and --confirm was not given")
		}
		given = strings.TrimSpace(line)
	}
	if given != s.Hostname {
		return fleet.NewFault(fleet.CodeConsentMismatch, fleet.Denied, nil, "%.60q is not the host name %s; nothing was done", given, s.Hostname)
	}
	return nil
}

// exclude notes in the site file that a server is not to be touched any more.
func (o *options) exclude(s fleet.Status) error {
	f, _, err := o.siteFile()
	if err != nil {
		return err
	}
	id, err := o.identityOf(f, s.Server)
	if err != nil {
		return err
	}
	servers := append([]fleet.Override(nil), f.Typed().Servers...)
	at := slices.IndexFunc(servers, func(v fleet.Override) bool {
		return v.Serial != "" && v.Serial == id.Serial || v.Serial == "" && v.UUID == id.UUID
	})
	if at < 0 {
		servers = append(servers, fleet.Override{})
		at = len(servers) - 1
	}
	if servers[at].Role == fleet.Excluded {
		return nil
	}
	servers[at] = fleet.Override{Serial: id.Serial, Role: fleet.Excluded}
	if id.Serial == "" {
		servers[at].UUID = id.UUID
	}
	if err := f.Set("servers", servers); err != nil {
		return err
	}
	if err := f.Write(); err != nil {
		return err
	}
	o.printf("%s is excluded in %s from now on\n", s.Server, f.Path())
	return nil
}

// identityOf finds the identity of an enrolled server.
func (o *options) identityOf(f *site.File, server fleet.ServerID) (fleet.Identity, error) {
	dir, err := o.stateDir(f.Typed().Name)
	if err != nil {
		return fleet.Identity{}, err
	}
	st, err := store.OpenReader(dir)
	if err != nil {
		return fleet.Identity{}, err
	}
	defer st.Close()
	enrolled, err := st.Servers(context.Background())
	if err != nil {
		return fleet.Identity{}, err
	}
	for _, e := range enrolled {
		if e.ID == server {
			return e.Identity, nil
		}
	}
	return fleet.Identity{}, fleet.NewFault(fleet.CodeSiteUnknownServer, fleet.Invalid, nil, "server %q is not enrolled", server)
}
