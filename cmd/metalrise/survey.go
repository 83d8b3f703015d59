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
	"metalrise.dev/fleet/site"
	"metalrise.dev/provision"
)

func discoverCommand(o *options) *cobra.Command {
	var newPins bool
	c := &cobra.Command{
		Use:   "discover [ADDRESS...]",
		Short: "Find BMCs by asking for their service root; no credentials are sent",
		Long: `discover asks every address of the site file (or those given) for its Redfish
service root, which needs no login, and shows who answers with which
certificate. With a site file the certificates are pinned from then on.

An ADDRESS is 10.0.9.11, 10.0.9.11-15, 10.0.9.0/28, [fd00::1]:8443 or a name.
` + exitHelp,
		Example: "  metalrise discover -f site.yaml\n  metalrise discover 10.0.9.0/26 --output json",
		RunE: func(c *cobra.Command, args []string) error {
			return o.discover(c.Context(), args, newPins)
		},
	}
	c.Flags().BoolVar(&newPins, "accept-new-pins", false, "take certificates that differ from the pinned ones")
	return c
}

func (o *options) discover(ctx context.Context, args []string, newPins bool) error {
	var keep provision.Keeper = forgetful{}
	patterns, port := args, 0
	if len(args) == 0 {
		s, _, err := o.loadSite()
		if err != nil {
			return err
		}
		patterns, port = s.BMCs.Addresses, s.BMCs.Port
		st, err := o.writer(s.Name)
		if err != nil {
			return err
		}
		defer st.Close()
		keep = st
	}
	addresses, err := bmc.Expand(patterns, orPort(port))
	if err != nil {
		return &exitError{exitFindings, err}
	}
	var all []fleet.Found
	findings, err := provision.Discover(ctx, surveyor{}, keep, addresses, newPins, func(f fleet.Found) {
		all = append(all, f)
		if len(addresses) > 16 {
			fmt.Fprintf(o.errs, "\r%d of %d addresses asked", len(all), len(addresses))
		}
	})
	if len(addresses) > 16 {
		fmt.Fprintln(o.errs)
	}
	if err != nil {
		return err
	}
	slices.SortFunc(all, func(a, b fleet.Found) int {
		return slices.Index(addresses, a.Address) - slices.Index(addresses, b.Address)
	})
	if o.output == "json" {
		err = o.json(map[string]any{"found": all, "findings": orEmpty(findings)})
	} else {
		o.printFound(all)
		o.printFindings(findings)
	}
	if len(findings) > 0 && err == nil {
		return &exitError{code: exitFindings}
	}
	return err
}

func (o *options) printFound(all []fleet.Found) {
	w := tabwriter.NewWriter(o.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "ADDRESS\tWHAT\tVENDOR\tPRODUCT\tREDFISH\tCERTIFICATE")
	silent := 0
	for _, f := range all {
		if f.What == string(bmc.NoAnswer) && len(all) > 32 {
			silent++
			continue
		}
		pin := f.Fingerprint
		if len(pin) > 16 {
			pin = pin[:16] + "…"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", f.Address, f.What, f.Vendor, f.Product, f.Redfish, pin)
	}
	_ = w.Flush()
	if silent > 0 {
		o.printf("%d addresses did not answer\n", silent)
	}
}

// adhoc are the flags of inspect without a site file.
type adhoc struct {
	username     string
	passwordFile string
	newPins      bool
	schema       bool
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
	f.BoolVar(&a.schema, "schema", false, "print the JSON Schema of the output and do nothing else")
	return c
}

func (o *options) inspect(ctx context.Context, args []string, a adhoc) error {
	var at []fleet.Endpoint
	var keep provision.Keeper
	if len(args) > 0 {
		addresses, err := bmc.Expand(args, orPort(0))
		if err != nil {
			return &exitError{exitFindings, err}
		}
		for _, address := range addresses {
			at = append(at, fleet.Endpoint{Address: address, Username: a.username, Password: fleet.SecretRef{File: a.passwordFile}})
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
		keep = st
		at = endpoints(s, found)
		if len(at) == 0 {
			return fleet.NewFault(fleet.CodeNoServers, fleet.Invalid, nil, "no BMC of this site was found yet: run metalrise discover")
		}
	}
	done := 0
	all, err := provision.Inspect(ctx, surveyor{newPins: a.newPins}, keep, at, func(provision.Inspected) {
		if done++; len(at) > 16 {
			fmt.Fprintf(o.errs, "\r%d of %d BMCs read", done, len(at))
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
		if !ok {
			continue
		}
		pin := f.Fingerprint
		if p, ok := s.BMCs.Pins[address]; ok {
			pin = p
		}
		out = append(out, fleet.Endpoint{Address: address, Fingerprint: pin, Username: s.BMCs.Username, Password: s.BMCs.Password, Vendor: f.Vendor, Product: f.Product})
	}
	return out
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

// surveyor is provision's way to package bmc.
type surveyor struct{ newPins bool }

func (surveyor) Probe(ctx context.Context, address string) fleet.Found {
	f, err := bmc.Probe(ctx, address)
	out := fleet.Found{Address: address, Fingerprint: f.Fingerprint, Vendor: f.Vendor, Product: f.Product, Redfish: f.RedfishVersion,
		UUID: f.UUID, What: string(f.What), Why: f.Why}
	if err != nil {
		out.Why = firstLine(err.Error())
	}
	return out
}

func (s surveyor) Inspect(ctx context.Context, at fleet.Endpoint) (provision.Behind, error) {
	session, err := dial(ctx, at, s.newPins)
	if err != nil {
		return provision.Behind{}, err
	}
	defer session.Close()
	b := provision.Behind{Fingerprint: session.Fingerprint()}
	systems, err := session.Systems(ctx)
	if err != nil {
		return b, err
	}
	for _, sys := range systems {
		if sys.Kind != bmc.IsServer {
			b.Others = append(b.Others, provision.Other{Address: at.Address, URI: sys.URI, Kind: string(sys.Kind), Why: sys.Why})
			continue
		}
		facts, err := session.Inspect(ctx, sys.URI)
		if err != nil {
			return b, err
		}
		b.Servers = append(b.Servers, facts)
	}
	b.Requests = int(session.Stats().Requests)
	return b, nil
}

func dial(ctx context.Context, at fleet.Endpoint, newPins bool) (*bmc.Session, error) {
	password, findings, err := resolveSecret(at.Password)
	if err != nil {
		return nil, err
	}
	_ = findings // said once, by plan
	return bmc.Dial(ctx, bmc.Login{Endpoint: at, Password: password, Options: bmc.Options{AcceptNewPin: newPins}})
}

func resolveSecret(ref fleet.SecretRef) (string, []fleet.Finding, error) {
	s, err := site.ResolveSecret(ref)
	return s, nil, err
}

// forgetful is a keeper for surveys without a site: it keeps nothing.
type forgetful struct{}

func (forgetful) Append(_ context.Context, e ...fleet.Event) ([]fleet.Event, error) { return e, nil }
func (forgetful) Events(context.Context, int64, int) ([]fleet.Event, error)         { return nil, nil }
func (forgetful) KeepFound(context.Context, fleet.Found) error                      { return nil }
func (forgetful) Found(context.Context) (map[string]fleet.Found, error)             { return nil, nil }
func (forgetful) KeepServer(context.Context, fleet.Server, fleet.Facts) error       { return nil }
