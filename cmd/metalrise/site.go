package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/site"
)

func siteCommand(o *options) *cobra.Command {
	c := &cobra.Command{Use: "site", Short: "Make and check site files"}
	c.AddCommand(
		&cobra.Command{
			Use:     "init NAME",
			Short:   "Write a first site file, with every field explained",
			Long:    "init writes the file named by --file and refuses to overwrite one.\n" + exitHelp,
			Example: "  metalrise site init osaka -f osaka.yaml",
			Args:    usage(cobra.ExactArgs(1)),
			RunE:    func(_ *cobra.Command, args []string) error { return o.initSite(args[0]) },
		},
		&cobra.Command{
			Use:     "check",
			Short:   "Check the site file; report all problems at once",
			Long:    "check reads the file only; it asks nobody.\n" + exitHelp,
			Example: "  metalrise site check -f osaka.yaml",
			Args:    usage(cobra.NoArgs),
			RunE: func(*cobra.Command, []string) error {
				s, findings, err := o.loadSite()
				if err != nil {
					return err
				}
				if o.output == "json" {
					return o.json(map[string]any{"site": s, "findings": orEmpty(findings)})
				}
				o.printFindings(findings)
				o.printf("%s: site %s is valid\n", o.file, s.Name)
				return nil
			},
		},
		&cobra.Command{
			Use:     "schema",
			Short:   "Print the JSON Schema of site files",
			Long:    "schema prints what editors need to complete and check a site file.\n" + exitHelp,
			Example: "  metalrise site schema > site.schema.json",
			Args:    usage(cobra.NoArgs),
			RunE: func(*cobra.Command, []string) error {
				b, err := site.Schema()
				if err == nil {
					_, err = o.out.Write(b)
				}
				return err
			},
		},
	)
	return c
}

func (o *options) initSite(name string) error {
	text, err := site.New(name)
	if err != nil {
		return fleet.NewFault(fleet.CodeSiteInvalid, fleet.Invalid, err, "site name")
	}
	f, err := os.OpenFile(o.file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("write site file: %w", err)
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write site file %s: %w", o.file, err)
	}
	o.printf("wrote %s; fill it in, then run metalrise discover\n", o.file)
	return nil
}
