package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"metalrise.dev/bmc"
	"metalrise.dev/fleet"
	"metalrise.dev/provision"
	"metalrise.dev/provision/store"
)

// adhoc are the flags of inspect without a site file.
type adhoc struct {
	username     string
	passwordFile string
	newPins      bool
	schema       bool
	legacyTLS    bool
}

func inspectCommand(o *options) *cobra.Command {
	var a adhoc
	c := &cobra.Command{
		Use:   "inspect [ADDRESS...]",
		Short: "Log in to BMCs and read the servers behind them",
		Long: `inspect logs in to every BMC that discover found and reads its servers: identity,
processors, memory, network ports, disks, virtual drives. With ADDRESS arguments
it needs no site file and keeps nothing. What turns out to be no server is listed
as such and is no failure; a login refused or an address without an answer is one.
` + exitHelp,
		Example: "  metalrise inspect -f site.yaml\n  metalrise inspect 10.0.9.11-15 --username admin --password-file pw --accept-new-pins --output json",
		RunE: func(c *cobra.Command, args []string) error {
			if a.schema {
				o.printf("%s", inspectionSchema())
				return nil
			}
			return o.inspect(c.Context(), args, a)
		},
	}
	f := c.Flags()
	f.StringVar(&a.username, "username", "", "login name, with ADDRESS arguments")
	f.StringVar(&a.passwordFile, "password-file", "", "file that holds the password, with ADDRESS arguments")
	f.BoolVar(&a.newPins, "accept-new-pins", false, "trust certificates on first use, with ADDRESS arguments")
	f.BoolVar(&a.legacyTLS, "legacy-tls", false, "let these BMCs speak outdated TLS, with ADDRESS arguments")
	f.BoolVar(&a.schema, "schema", false, "print the JSON Schema of the output and do nothing else")
	return c
}

func (o *options) inspect(ctx context.Context, args []string, a adhoc) error {
	var at []fleet.Endpoint
	var keep provision.Keeper
	d := newDoor(nil)
	if len(args) > 0 {
		addresses, err := expandArgs(args)
		if err != nil {
			return &exitError{exitFindings, err}
		}
		for _, address := range addresses {
			at = append(at, fleet.Endpoint{Address: address, Username: a.username, Password: fleet.SecretRef{File: a.passwordFile}, LegacyTLS: a.legacyTLS})
		}
	} else {
		s, _, err := o.loadSite()
		if err != nil {
			return err
		}
		st, err := o.writer(s.Name)
		if err != nil {
			return err
		}
		defer st.Close()
		found, err := st.Found(ctx)
		if err != nil {
			return err
		}
		keep, d = st, newDoor(st)
		if err := o.forgetLeft(ctx, d); err != nil {
			return err
		}
		at = endpoints(s, found)
		if len(at) == 0 {
			return fleet.NewFault(fleet.CodeNoServers, fleet.Invalid, nil, "no BMC of this site was found yet: run metalrise discover")
		}
	}
	done := 0
	all, err := provision.Inspect(ctx, surveyor{door: d, newPins: a.newPins}, keep, at, func(provision.Inspected) {
		if done++; len(at) > 16 {
			rewind(o.errs)
			fmt.Fprintf(o.errs, "%d of %d BMCs read", done, len(at))
		}
	})
	if len(at) > 16 {
		fmt.Fprintln(o.errs)
	}
	if err != nil {
		return err
	}
	return o.printInspected(all)
}

// endpoints are the BMCs of a site that were found, in the order of their
// addresses in the site file.
func endpoints(s fleet.Site, found map[string]fleet.Found) []fleet.Endpoint {
	order, err := bmc.Expand(s.BMCs.Addresses, orPort(s.BMCs.Port))
	if err != nil {
		order = slices.Sorted(maps.Keys(found))
	}
	var out []fleet.Endpoint
	for _, address := range order {
		f, ok := found[address]
		if !ok || f.What != provision.WhatRedfish {
			continue
		}
		pin := f.Fingerprint
		if p, ok := s.BMCs.Pins[address]; ok {
			pin = p
		}
		e := fleet.Endpoint{Address: address, Fingerprint: pin, Vendor: f.Vendor, Product: f.Product, LegacyTLS: s.BMCs.AllowsLegacyTLS(address)}
		logins := s.BMCs.LoginsOf(address)
		// The one that worked before goes first: each refusal counts on the BMC.
		if i := slices.IndexFunc(logins, func(c fleet.Credential) bool { return f.Username != "" && c.Username == f.Username }); i > 0 {
			logins = append([]fleet.Credential{logins[i]}, slices.Delete(slices.Clone(logins), i, i+1)...)
		}
		if len(logins) > 0 {
			e.Username, e.Password, e.Fallback = logins[0].Username, logins[0].Password, logins[1:]
		}
		out = append(out, e)
	}
	return out
}

// forgetLeft closes the sessions that an earlier process left open.
func (o *options) forgetLeft(ctx context.Context, d *door) error {
	left, err := d.book.AllOpened(ctx)
	if err != nil {
		return err
	}
	d.forget(ctx, left, func(s store.Opened, err error) {
		if err != nil {
			fmt.Fprintf(o.errs, "session %s that was left open on %s: %v\n", s.Location, s.Endpoint.Address, err)
		}
	})
	return nil
}

func (o *options) printInspected(all []provision.Inspected) error {
	all = sortOut(all)
	findings := append(provision.Failures(all), provision.NoIdentity(all)...)
	if o.output == "json" {
		if err := o.json(inspection(all, findings)); err != nil {
			return err
		}
	} else {
		w := tabwriter.NewWriter(o.out, 0, 4, 2, ' ', 0)
		fmt.Fprintln(w, "SERVER\tBMC\tMODEL\tPOWER\tCPU\tMEMORY\tPORTS\tDISKS")
		for _, r := range all {
			for _, f := range r.Behind.Servers {
				fmt.Fprintf(w, "%s\t%s\t%s %s\t%s\t%s\t%s\t%d\t%s\n", f.Identity.ID(), r.Endpoint.Address, f.Manufacturer.Or(""), f.Model,
					f.Power, f.CPU.Threads, gib(f.MemoryMiB), len(f.NICs), diskSummary(f.Disks))
			}
		}
		_ = w.Flush()
		for _, r := range all {
			if n, ok := r.Behind.Lockout.Get(); ok && n > 0 {
				o.printf("%s: locks an account after %d refused logins\n", r.Endpoint.Address, n)
			}
			if len(r.Behind.Servers) > 1 {
				o.printf("%s: %s (%s)\n", r.Endpoint.Address, r.Behind.What, r.Behind.Why)
			}
			for _, x := range r.Behind.Others {
				o.printf("%s %s: %s (%s)\n", x.Address, x.URI, x.Kind, x.Why)
			}
		}
		o.printFindings(findings)
	}
	if len(provision.Failures(all)) > 0 {
		return &exitError{code: exitFailed}
	}
	return nil
}

func gib(mib fleet.Maybe[int64]) string {
	if v, ok := mib.Get(); ok {
		return fmt.Sprintf("%.3g GiB", float64(v)/1024)
	}
	return "unknown"
}

func diskSummary(disks []fleet.Disk) string {
	var out []string
	for _, d := range disks {
		size := "?"
		if b, ok := d.SizeBytes.Get(); ok {
			size = bytesText(b)
		}
		name := d.Serial
		if name == "" {
			name = d.WWN
		}
		out = append(out, fmt.Sprintf("%s %s %s", name, size, d.Media))
	}
	return strings.Join(out, ", ")
}

// bytesText writes a size as vendors do, in powers of ten.
func bytesText(b int64) string {
	units := []string{"B", "kB", "MB", "GB", "TB", "PB"}
	v := float64(b)
	i := 0
	for v >= 1000 && i < len(units)-1 {
		v /= 1000
		i++
	}
	return fmt.Sprintf("%.3g %s", v, units[i])
}

func orPort(p int) int {
	if p == 0 {
		return 443
	}
	return p
}

func orEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// forgetful is a keeper for surveys without a site: it keeps nothing.
type forgetful struct{}

func (forgetful) Append(_ context.Context, e ...fleet.Event) ([]fleet.Event, error) { return e, nil }
func (forgetful) Events(context.Context, int64, int) ([]fleet.Event, error)         { return nil, nil }
func (forgetful) KeepFound(context.Context, fleet.Found) error                      { return nil }
func (forgetful) Found(context.Context) (map[string]fleet.Found, error)             { return nil, nil }
func (forgetful) KeepServers(context.Context, string, []fleet.Server, []fleet.Facts) error {
	return nil
}
