package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"metalrise.dev/fleet"
	"metalrise.dev/provision/store"
)

func asBuiltCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "as-built [FOLDER]",
		Short: "Write what the site was built as: JSON, Markdown and HTML, signed",
		Long: `as-built writes as-built.json with its signature, as-built.md and as-built.html into
a folder: servers with serials, firmware, ports and addresses, disks that were
erased, versions, how long each step took, the proofs and what they saw, what was
waived, and by whom. There are no secrets in it. The signature is of OpenSSH's form:

  ssh-keygen -Y verify -n metalrise-report -f ALLOWED -I SITE -s as-built.json.sig < as-built.json
` + exitHelp,
		Example: "  metalrise report as-built /srv/papers/osaka",
		Args:    usage(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			to := "."
			if len(args) == 1 {
				to = args[0]
			}
			return o.asBuilt(c.Context(), to)
		},
	}
}

func (o *options) asBuilt(ctx context.Context, to string) error {
	dir, err := o.siteDir()
	if err != nil {
		return err
	}
	view, err := overview(ctx, dir)
	if err != nil {
		return err
	}
	st, err := store.OpenReader(dir)
	if err != nil {
		return fleet.NewFault(fleet.CodePlanUnknown, fleet.Invalid, err, "nothing was built for this site yet")
	}
	defer st.Close()
	if err := keepBuilt(ctx, st, view); err != nil {
		return err
	}
	b, err := readBuilt(filepath.Join(dir, builtJSON))
	if err != nil || b.Plan != view.Plan { // not handed over yet
		if b, err = build(ctx, st, view, time.Now()); err != nil {
			return err
		}
	}
	seed, err := st.Secret("bundle-key")
	if err != nil {
		return err
	}
	files, err := signReport(b, seed)
	if err != nil {
		return err
	}
	if err := writeReport(to, files, 0o644); err != nil {
		return err
	}
	o.printf("wrote %s, %s, %s and %s in %s\n", builtJSON, builtSignature, builtMarkdown, builtHTML, to)
	if b.HandedOver.IsZero() {
		o.printf("not everything that the plan wants is done: the report says so\n")
	}
	return nil
}

func reportVerifyCommand(o *options) *cobra.Command {
	signers := &signerFlags{}
	c := &cobra.Command{
		Use:   "verify FILE",
		Short: "Check the signature of an as-built report",
		Long: `verify checks that as-built.json is what was signed (its signature lies beside it, as
FILE.sig), and by whom. It needs no state and no network.
` + exitHelp,
		Example: "  metalrise report verify as-built.json\n  metalrise report verify as-built.json --signer SHA256:...",
		Args:    usage(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			trusted, err := signers.trusted(o)
			if err != nil {
				return err
			}
			b, signer, err := checkBuilt(args[0])
			if err != nil {
				return err
			}
			if !trusted(signer) {
				return fmt.Errorf("report %s is whole, but was signed by %s, which is not known here: name who signs with --signer", args[0], signer.Fingerprint())
			}
			if o.output == "json" {
				return o.json(map[string]any{"site": b.Site, "plan": b.Plan, "handedOver": b.HandedOver, "signer": signer.Fingerprint()})
			}
			o.printf("report of site %s, handed over %s, signed by %s\n", b.Site, stamp(b.HandedOver), signer.Fingerprint())
			return nil
		},
	}
	signers.add(c)
	return c
}
