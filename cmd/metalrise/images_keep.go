package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/site"
	"metalrise.dev/images"
	"metalrise.dev/provision/store"
)

func imagesImportCommand(o *options, f *imageFlags) *cobra.Command {
	var system, pin string
	var payload, use bool
	c := &cobra.Command{
		Use:   "import FOLDER|FILE",
		Short: "Copy an image that you have into the store",
		Long: `import takes a folder with stream.json, or such a file, whose locations are files
beside it; with --payload a folder with payload.json. A file's signature is looked
for beside it, as FILE.sig. Without one, pin the digest of stream.json or of the
files (--pin): import tells it when it is missing.
` + exitHelp,
		Example: "  metalrise images import ./image --pin $(sha256sum < image/stream.json | cut -d' ' -f1) --use -f site.yaml\n  metalrise images import --payload ./software",
		Args:    usage(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := f.open()
			if err != nil {
				return err
			}
			var e images.Entry
			if payload {
				if len(f.pins) > 1 {
					return &exitError{exitUsage, errors.New("--payload takes one --pin: the digest of the software")}
				}
				if len(f.pins) == 1 {
					pin = f.pins[0]
				}
				e, err = s.ImportPayload(c.Context(), args[0], pin, o.showProgress())
			} else {
				var t images.Trust
				if t, err = f.trust(images.OS(system)); err == nil {
					e, err = s.Import(c.Context(), args[0], images.OS(system), t, o.showProgress())
				}
			}
			if err != nil {
				return err
			}
			return o.landed(f, e, use)
		},
	}
	f.addTrust(c)
	c.Flags().StringVar(&system, "os", string(images.OtherOS), "what it is: fedora-coreos, rhcos, scos, flatcar or other")
	c.Flags().BoolVar(&payload, "payload", false, "it is software of nodes")
	c.Flags().BoolVar(&use, "use", false, "write the folder into the site file")
	return c
}

func imagesVerifyCommand(o *options, f *imageFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "verify [NAME...]",
		Short: "Hash what the store has and compare",
		Long:  "verify reads every content of the named entries, or of all, and compares it with its digest.\n" + exitHelp,

		Example: "  metalrise images verify",
		RunE: func(c *cobra.Command, args []string) error {
			s, err := f.open()
			if err != nil {
				return err
			}
			var all []images.Entry
			if len(args) == 0 {
				if all, err = s.List(); err != nil {
					return err
				}
			}
			for _, name := range args {
				e, err := s.Find(name)
				if err != nil {
					return err
				}
				all = append(all, e)
			}
			var errs []error
			for _, e := range all {
				if err := s.Verify(c.Context(), e, o.showProgress()); err != nil {
					errs = append(errs, err)
					continue
				}
				if o.output != "json" {
					o.printf("good  %s\n", e.Name)
				}
			}
			if o.output == "json" && len(errs) == 0 {
				return o.json(orEmpty(all))
			}
			return errors.Join(errs...)
		},
	}
}

// pruneAge is for how long an entry that nobody names stays by itself.
const pruneAge = 7 * 24 * time.Hour

func imagesPruneCommand(o *options, f *imageFlags) *cobra.Command {
	var age time.Duration
	var dry bool
	var sites []string
	c := &cobra.Command{
		Use:   "prune",
		Short: "Remove what no site and no plan names",
		Long: `prune removes entries of the store, and contents that no entry has any more. What
stays: all that a stored plan names (of every site below the folder of states, and
of --state), all that a site file names (those that were written by --use or by
bundle use, -f, and --site), and what was added or used within --older-than. If one
of these cannot be read nothing is removed.
` + exitHelp,
		Example: "  metalrise images prune --dry-run\n  metalrise images prune --older-than 24h --site /srv/rack1/site.yaml",
		Args:    usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := f.open()
			if err != nil {
				return err
			}
			keep, err := o.keepOf(c, s, sites)
			if err != nil {
				return err
			}
			keep.Since = time.Now().Add(-age)
			p, err := s.Prune(c.Context(), keep, dry)
			if err != nil {
				return err
			}
			if o.output == "json" {
				return o.json(p)
			}
			verb := map[bool]string{true: "would be removed", false: "removed"}[dry]
			for _, e := range p.Entries {
				o.printf("%s  %s\n", verb, e.Folder)
			}
			o.printf("%d entries, %d contents, %d partial downloads %s: %s\n", len(p.Entries), len(p.Contents), len(p.Partial), verb, bytesText(p.Bytes))
			return nil
		},
	}
	c.Flags().DurationVar(&age, "older-than", pruneAge, "leave what was added or used later")
	c.Flags().BoolVar(&dry, "dry-run", false, "only say what would be removed")
	c.Flags().StringArrayVar(&sites, "site", nil, "site file that names what must stay (repeatable)")
	return c
}

// keepOf asks all plans and site files that are known.
func (o *options) keepOf(c *cobra.Command, s *images.Store, sites []string) (images.Keep, error) {
	keep := images.Keep{Digests: map[string]bool{}}
	remembered, err := s.Sites()
	if err != nil {
		return keep, err
	}
	sites = append(sites, remembered...)
	if _, err := os.Stat(o.file); err == nil || c.Flags().Changed("file") {
		sites = append(sites, o.file)
	}
	for _, path := range sites {
		file, findings := site.Load(path)
		if file == nil {
			o.printFindings(findings)
			return keep, fmt.Errorf("%s cannot be read, so what it names is not known: nothing is removed", path)
		}
		v := file.Site()
		keep.Folders = append(keep.Folders, v.Image)
		for _, p := range []string{v.Cluster.Software, v.Cluster.CNIManifests} {
			if p != "" {
				keep.Folders = append(keep.Folders, p)
			}
		}
	}
	states, err := o.allStates()
	if err != nil {
		return keep, err
	}
	for _, dir := range states {
		if err := keepPlans(c.Context(), &keep, dir); err != nil {
			return keep, fmt.Errorf("the state %s cannot be read, so what its plans name is not known: nothing is removed: %w", dir, err)
		}
	}
	return keep, nil
}

// allStates lists every state folder that may be there: that of the flag or
// the environment, and all below the default place.
func (o *options) allStates() ([]string, error) {
	named, err := o.stateDir("x") // where nothing is named, a folder that is not there
	if err != nil {
		return nil, err
	}
	base := os.Getenv("XDG_STATE_HOME")
	if base == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil, fmt.Errorf("folder of states: %w", err)
		}
		base = filepath.Join(home, ".local", "state")
	}
	more, err := filepath.Glob(filepath.Join(base, "metalrise", "*"))
	return append(more, named), err
}

// keepPlans adds what the plans of one state folder name.
func keepPlans(ctx context.Context, keep *images.Keep, dir string) error {
	st, err := store.OpenReader(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer st.Close()
	plans, err := store.All[fleet.Plan](ctx, st, "plan")
	for _, p := range plans {
		for _, d := range []string{p.Image.ISOSHA256, p.Image.DiskSHA256} {
			if d != "" {
				keep.Digests[d] = true
			}
		}
		if p.Cluster != nil && p.Cluster.PayloadDigest != "" {
			keep.Digests[p.Cluster.PayloadDigest] = true
		}
	}
	return err
}
