package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"metalrise.dev/bmc"
	"metalrise.dev/fleet"
	"metalrise.dev/fleet/site"
	"metalrise.dev/provision"
)

// discoverFlags say where to look and how.
type discoverFlags struct {
	csv, from string
	ssdp      bool
	resume    bool
	newPins   bool
	noSite    bool // nothing but SSDP says where to look
}

func discoverCommand(o *options) *cobra.Command {
	var d discoverFlags
	c := &cobra.Command{
		Use:   "discover [ADDRESS...]",
		Short: "Find BMCs by asking for their service root; no credentials are sent",
		Long: `discover asks every address of the site file (or those given) for its Redfish
service root, which needs no login, and shows who answers with which
certificate. Where nothing listens it sends the IPMI presence ping. With a site
file the certificates are pinned from then on.

An ADDRESS is 10.0.9.11, 10.0.9.11-15, 10.0.0.0/16, [fd00::1]:8443, a name,
http://10.0.9.11 for a BMC without TLS, or @FILE for a file of such lines.
Addresses are asked up to 512 at a time. Interrupted, it goes on with --resume.
` + exitHelp,
		Example: "  metalrise discover -f site.yaml\n  metalrise discover 10.0.9.0/26 --output json\n  metalrise discover 10.0.0.0/16 --state hall --resume\n  metalrise discover --csv rack.csv",
		RunE: func(c *cobra.Command, args []string) error {
			d.noSite = d.ssdp && !c.Flags().Changed("file")
			return o.discover(c.Context(), args, d)
		},
	}
	f := c.Flags()
	f.StringVar(&d.csv, "csv", "", "CSV file of BMCs, instead of a site file")
	f.StringVar(&d.from, "from", "", "file of addresses, one pattern on each line, instead of a site file")
	f.BoolVar(&d.ssdp, "ssdp", false, "ask the local network by multicast too")
	f.BoolVar(&d.resume, "resume", false, "go on where the last discover of the same addresses was interrupted (without a site file: give --state)")
	f.BoolVar(&d.newPins, "accept-new-pins", false, "take certificates that differ from the pinned ones")
	return c
}

// expandArgs expands patterns, with the files that @FILE names.
func expandArgs(args []string) ([]string, error) {
	var patterns []string
	var wrong []error
	for _, a := range args {
		path, isFile := strings.CutPrefix(a, "@")
		if !isFile {
			patterns = append(patterns, a)
			continue
		}
		list, err := site.LoadList(path)
		wrong = append(wrong, err)
		patterns = append(patterns, list...)
	}
	if err := errors.Join(wrong...); err != nil {
		return nil, err
	}
	return bmc.Expand(patterns, orPort(0))
}

// target is what one discovery asks, and where it keeps what it finds.
type target struct {
	addresses []string
	listed    []fleet.Listed
	keep      provision.Keeper
	marks     provision.Marks
	close     func() error
}

func (o *options) target(args []string, d discoverFlags) (t target, err error) {
	t.keep, t.close = forgetful{}, func() error { return nil }
	name := ""
	if len(args) > 0 || d.csv != "" || d.from != "" || d.noSite {
		if t.addresses, t.listed, err = o.typed(args, d); err != nil {
			return t, err
		}
		if o.state == "" {
			if d.resume {
				return t, &exitError{exitUsage, errors.New("--resume without a site file needs --state: a folder to remember in")}
			}
			return t, nil
		}
	} else {
		s, _, err := o.loadSite()
		if err != nil {
			return t, err
		}
		if t.addresses, err = bmc.Expand(s.BMCs.Addresses, orPort(s.BMCs.Port)); err != nil {
			return t, &exitError{exitFindings, err}
		}
		t.listed, name = s.BMCs.Listed, s.Name
	}
	st, err := o.writer(name)
	if err != nil {
		return t, err
	}
	t.keep, t.marks, t.close = st, st, st.Close
	return t, nil
}

// typed reads the addresses of the command line.
func (o *options) typed(args []string, d discoverFlags) ([]string, []fleet.Listed, error) {
	if d.from != "" {
		args = append(slices.Clone(args), "@"+d.from)
	}
	addresses, err := expandArgs(args)
	if err != nil {
		return nil, nil, &exitError{exitFindings, err}
	}
	if d.csv == "" {
		return addresses, nil, nil
	}
	listed, findings := site.LoadCSV(d.csv, orPort(0))
	if len(findings) > 0 {
		o.printFindings(findings)
		return nil, nil, &exitError{code: exitFindings}
	}
	for _, l := range listed {
		if !slices.Contains(addresses, l.Address) {
			addresses = append(addresses, l.Address)
		}
	}
	return addresses, listed, nil
}

func (o *options) discover(ctx context.Context, args []string, d discoverFlags) error {
	t, err := o.target(args, d)
	if err != nil {
		return err
	}
	defer t.close()
	if d.ssdp {
		more, err := bmc.SSDP(ctx, 3*time.Second)
		if err != nil {
			fmt.Fprintf(o.errs, "no answer can be had by multicast: %v\n", err)
		}
		for _, a := range more {
			if !slices.Contains(t.addresses, a) {
				t.addresses = append(t.addresses, a)
			}
		}
	}
	s := sight{o: o, total: len(t.addresses), listed: map[string]fleet.Listed{}, order: map[string]int{}}
	for i, a := range t.addresses {
		s.order[a] = i
	}
	for _, l := range t.listed {
		s.listed[l.Address] = l
	}
	findings, err := provision.Discovery{
		Surveyor: surveyor{door: newDoor(nil)}, Keeper: t.keep, Marks: t.marks, Resume: d.resume, NewPins: d.newPins, Skipped: s.skip,
	}.Run(ctx, t.addresses, s.see)
	s.end()
	if err := s.before(ctx, t.keep); err != nil {
		return err
	}
	return errors.Join(s.print(findings), s.interrupted(err, t.marks != nil))
}

// sight gathers what a discovery sees. Silent addresses are only counted when
// there are many.
type sight struct {
	o                    *options
	total, asked, silent int
	resumed              bool
	found                []fleet.Found
	listed               map[string]fleet.Listed
	order                map[string]int
	shown                time.Time
}

// fewAddresses is how many silent addresses are still worth a line each.
const fewAddresses = 32

func (s *sight) skip(n int, others map[string]fleet.Found) {
	s.asked, s.resumed = n, n > 0
	for _, f := range others {
		f.Position = s.listed[f.Address].Position
		s.found = append(s.found, f)
	}
	if n > 0 {
		fmt.Fprintf(s.o.errs, "%d of %d addresses were asked before\n", n, s.total)
	}
}

func (s *sight) see(f fleet.Found) {
	s.asked++
	f.Position = s.listed[f.Address].Position
	if f.What == string(bmc.NoAnswer) && s.total > fewAddresses {
		s.silent++
	} else {
		s.found = append(s.found, f)
	}
	if s.total > 16 && time.Since(s.shown) > 200*time.Millisecond {
		s.shown = time.Now()
		rewind(s.o.errs)
		fmt.Fprintf(s.o.errs, "%d of %d addresses asked, %d answer", s.asked, s.total, len(s.found))
	}
}

func (s *sight) end() {
	if s.total > 16 {
		rewind(s.o.errs)
		fmt.Fprintf(s.o.errs, "%d of %d addresses asked, %d answer\n", s.asked, s.total, len(s.found))
	}
}

// before adds what is known from earlier: what logins told, and what the part
// of a resumed discovery found that ran before.
func (s *sight) before(ctx context.Context, k provision.Keeper) error {
	known, err := k.Found(context.WithoutCancel(ctx))
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for i, f := range s.found {
		seen[f.Address] = true
		if b := known[f.Address]; b.Behind != "" {
			s.found[i].Behind, s.found[i].Lockout, s.found[i].Username = b.Behind, b.Lockout, b.Username
		}
	}
	if s.resumed {
		for a, f := range known {
			if _, ours := s.order[a]; ours && !seen[a] {
				s.found = append(s.found, f)
			}
		}
	}
	slices.SortFunc(s.found, func(a, b fleet.Found) int { return s.order[a.Address] - s.order[b.Address] })
	return nil
}

func (s *sight) print(findings []fleet.Finding) error {
	var err error
	if s.o.output == "json" {
		err = s.o.json(map[string]any{"found": orEmpty(s.found), "silent": s.silent, "asked": s.asked, "findings": orEmpty(findings)})
	} else {
		s.o.printFound(s.found)
		if s.silent > 0 {
			s.o.printf("%d addresses did not answer\n", s.silent)
		}
		s.o.printFindings(findings)
	}
	if len(findings) > 0 && err == nil {
		return &exitError{code: exitFindings}
	}
	return err
}

// interrupted says how to go on.
func (s *sight) interrupted(err error, marked bool) error {
	if errors.Is(err, context.Canceled) {
		if marked {
			fmt.Fprintln(s.o.errs, "the same command with --resume goes on from here")
		}
		return context.Canceled
	}
	return err
}

func (o *options) printFound(all []fleet.Found) {
	w := tabwriter.NewWriter(o.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "ADDRESS\tWHAT\tVENDOR\tPRODUCT\tREDFISH\tUUID\tCERTIFICATE\tHOW KNOWN")
	for _, f := range all {
		pin := f.Fingerprint
		if len(pin) > 16 {
			pin = pin[:16] + "…"
		}
		what, why := f.What, firstLine(f.Why)
		if f.Behind != "" {
			what, why = f.Behind, "seen after login"
		}
		if f.Outdated != "" {
			why += fmt.Sprintf(" (%s: a login needs legacyTLS)", f.Outdated)
		}
		if f.Position != "" {
			why = f.Position + ": " + why
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", f.Address, what, f.Vendor, f.Product, f.Redfish, f.UUID, pin, why)
	}
	_ = w.Flush()
}
