package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/site"
	"metalrise.dev/images"
	"metalrise.dev/provision/store"
)

func bundleCommand(o *options) *cobra.Command {
	f := &imageFlags{}
	c := &cobra.Command{
		Use:   "bundle",
		Short: "Carry all that a site needs to a place without a network",
		Long: `A bundle is one file, or a folder, with the operating system image, the programs
and container images of the nodes, and the manifests that a site names; all by
digest, and signed by the site's key. Where it is used, no network is needed:

  here    metalrise bundle create -f site.yaml --to rack1.bundle
  there   metalrise bundle use rack1.bundle --signer SHA256:... -f site.yaml
          metalrise plan -f site.yaml; metalrise apply -f site.yaml

The folder form is an OCI image layout, which other tools for container images read.`,
		Args: usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	f.add(c)
	c.AddCommand(bundleCreateCommand(o), bundleVerifyCommand(o), bundleUseCommand(o, f), bundlePayloadCommand(o, f), bundleComponentCommand(o, f))
	return c
}

func bundleCreateCommand(o *options) *cobra.Command {
	var to, form string
	var manifests []string
	var force bool
	c := &cobra.Command{
		Use:   "create",
		Short: "Gather what the site file names into a bundle",
		Long: `create verifies the image, the software of the nodes and the manifests that the site
file names, and writes them to --to, signed with the site's key, which is made in the
state folder the first time. A bundle that was interrupted is continued by the same
command. It prints the key's fingerprint: carry it by another way than the bundle.
` + exitHelp,
		Example: "  metalrise bundle create -f site.yaml --to /mnt/usb/rack1.bundle\n  metalrise bundle create --to rack1 --as folder --manifest kubevirt.yaml",
		Args:    usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if to == "" || form != string(images.AsFile) && form != string(images.AsFolder) {
				return &exitError{exitUsage, errors.New("name where by --to, and --as file or folder")}
			}
			out := outFile{path: to, force: force}
			if st, err := os.Stat(to); err != nil || !st.IsDir() || form == string(images.AsFile) {
				if err := out.mayBeWritten(); err != nil {
					return err
				}
			}
			return o.createBundle(c.Context(), to, images.Form(form), manifests)
		},
	}
	c.Flags().StringVar(&to, "to", "", "file or folder to write")
	c.Flags().StringVar(&form, "as", string(images.AsFile), "file or folder")
	c.Flags().StringArrayVar(&manifests, "manifest", nil, "further manifest to carry (repeatable)")
	c.Flags().BoolVar(&force, "force", false, "replace a file that exists")
	return c
}

// bundleShown is the one JSON object of create, verify and use.
type bundleShown struct {
	Site        string       `json:"site"`
	Image       string       `json:"image"`
	Kubernetes  string       `json:"kubernetes,omitempty"`
	Images      []string     `json:"containerImages"`
	Bytes       int64        `json:"bytes"`
	Fingerprint string       `json:"signer"`
	Key         string       `json:"key"`
	Used        *images.Used `json:"used,omitempty"`
}

func shownBundle(b images.Bundle, s images.Signer) bundleShown {
	v := bundleShown{Site: b.Site, Image: b.Release.Stream + " " + b.Release.Version, Bytes: b.Bytes(), Fingerprint: s.Fingerprint(), Key: s.String(), Images: []string{}}
	if b.Payload != nil {
		v.Kubernetes = b.Payload.Version
	}
	for _, n := range b.Images {
		v.Images = append(v.Images, n.Name)
	}
	return v
}

func (o *options) printBundle(v bundleShown) error {
	if o.output == "json" {
		return o.json(v)
	}
	o.printf("site        %s\nimage       %s\n", v.Site, v.Image)
	if v.Kubernetes != "" {
		o.printf("kubernetes  %s, %d container images\n", v.Kubernetes, len(v.Images))
	}
	o.printf("size        %s\nsigned by   %s\nkey         %s\n", bytesText(v.Bytes), v.Fingerprint, v.Key)
	return nil
}

func (o *options) createBundle(ctx context.Context, to string, form images.Form, manifests []string) error {
	s, _, err := o.loadSite()
	if err != nil {
		return err
	}
	state, err := o.stateDir(s.Name)
	if err != nil {
		return err
	}
	key, err := bundleKey(state)
	if err != nil {
		return err
	}
	w := images.Wanted{Site: s.Name, Image: s.Image, Payload: s.Cluster.Software}
	add := func(kind images.FileKind, path string, limit int64) error {
		text, err := readBounded(path, limit)
		if err == nil {
			w.Files = append(w.Files, images.WantedFile{Kind: kind, Path: path, Text: text})
		}
		return err
	}
	err = add(images.SiteFile, o.file, mostManifests)
	if err == nil && s.Cluster.CNIManifests != "" {
		err = add(images.CNIManifest, s.Cluster.CNIManifests, mostManifests)
	}
	for _, m := range manifests {
		if err == nil {
			err = add(images.ManifestFile, m, 16*mostManifests)
		}
	}
	if err != nil {
		return fmt.Errorf("create bundle: %w", err)
	}
	k, err := images.Pack(ctx, w, images.Verifier{Cache: filepath.Join(state, "verified")}, o.showProgress())
	if err != nil {
		return err
	}
	defer k.Close()
	if err := k.Write(ctx, to, form, key, o.showProgress()); err != nil {
		return err
	}
	return o.printBundle(shownBundle(k.Bundle, key.Signer()))
}

// bundleKey reads the site's key, or makes it. An engine that runs does not
// hinder it: the key lies in a file of its own.
func bundleKey(state string) (images.BundleKey, error) {
	st, err := store.Open(state)
	if fleet.CodeOf(err) == fleet.CodeSiteLocked {
		st, err = store.OpenReader(state)
	}
	if err != nil {
		return images.BundleKey{}, err
	}
	defer st.Close()
	seed, err := st.Secret("bundle-key")
	if err != nil {
		return images.BundleKey{}, err
	}
	return images.NewBundleKey(seed)
}

// signerFlags say whose bundles are taken.
type signerFlags struct{ signers []string }

func (f *signerFlags) add(c *cobra.Command) {
	c.Flags().StringArrayVar(&f.signers, "signer", nil, "whose bundles are taken: a fingerprint (SHA256:...), a public key, or a file with public keys (repeatable; default: this site's own key)")
}

// trusted gives the rule. Without a flag it is the key in this site's state.
func (f *signerFlags) trusted(o *options) (func(images.Signer) bool, error) {
	known := map[string]bool{}
	for _, s := range f.signers {
		if strings.HasPrefix(s, "SHA256:") {
			known[s] = true
			continue
		}
		lines := s
		if !strings.HasPrefix(s, "ssh-") {
			text, err := readBounded(s, 1<<20)
			if err != nil {
				return nil, fmt.Errorf("--signer: %w", err)
			}
			lines = string(text)
		}
		for _, line := range strings.Split(lines, "\n") {
			if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			key, err := images.ParseSigner(line)
			if err != nil {
				return nil, &exitError{exitUsage, fmt.Errorf("--signer %s: %w", s, err)}
			}
			known[key.Fingerprint()] = true
		}
	}
	if len(f.signers) == 0 {
		if key, ok := o.ownBundleKey(); ok {
			known[key] = true
		}
	}
	return func(s images.Signer) bool { return known[s.Fingerprint()] }, nil
}

// ownBundleKey is the fingerprint of this site's key, if there is a site file
// and a key; none is made.
func (o *options) ownBundleKey() (string, bool) {
	file, _ := site.Load(o.file)
	if file == nil {
		return "", false
	}
	state, err := o.stateDir(file.Site().Name)
	if err != nil {
		return "", false
	}
	seed, err := readBounded(filepath.Join(state, "secrets", "bundle-key"), 64)
	if err != nil {
		return "", false
	}
	key, err := images.NewBundleKey(seed)
	if err != nil {
		return "", false
	}
	return key.Signer().Fingerprint(), true
}

func bundleVerifyCommand(o *options) *cobra.Command {
	signers := &signerFlags{}
	c := &cobra.Command{
		Use:   "verify FILE|FOLDER",
		Short: "Check a bundle's signature and every byte of it",
		Long:  "verify checks whose bundle it is, then hashes every content. It writes nothing.\n" + exitHelp,

		Example: "  metalrise bundle verify /mnt/usb/rack1.bundle --signer SHA256:...",
		Args:    usage(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			r, err := o.openBundle(args[0], signers)
			if err != nil {
				return err
			}
			if err := r.Verify(c.Context(), o.showProgress()); err != nil {
				return err
			}
			return o.printBundle(shownBundle(r.Bundle, r.Signer))
		},
	}
	signers.add(c)
	return c
}

func (o *options) openBundle(path string, signers *signerFlags) (*images.BundleReader, error) {
	trusted, err := signers.trusted(o)
	if err != nil {
		return nil, err
	}
	return images.OpenBundle(path, trusted)
}

func bundleUseCommand(o *options, f *imageFlags) *cobra.Command {
	signers := &signerFlags{}
	var keep bool
	c := &cobra.Command{
		Use:   "use FILE|FOLDER",
		Short: "Copy a bundle into the store and have the site file name it",
		Long: `use verifies a bundle while it copies it into the image store, then writes the
folders into the site file: image, cluster.software and cluster.cniManifests. If there
is no site file, the one that the bundle carries is written first. It asks no network.
Then plan: archives of container images are made anew here, so software that was not
made by bundle payload has another digest than before, and an older plan does not fit.
` + exitHelp,
		Example: "  metalrise bundle use /mnt/usb/rack1.bundle --signer SHA256:... -f site.yaml",
		Args:    usage(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			r, err := o.openBundle(args[0], signers)
			if err != nil {
				return err
			}
			return o.useBundle(c.Context(), f, r, keep)
		},
	}
	signers.add(c)
	c.Flags().BoolVar(&keep, "keep-site", false, "leave the site file as it is")
	return c
}

func (o *options) useBundle(ctx context.Context, f *imageFlags, r *images.BundleReader, keep bool) error {
	s, err := f.open()
	if err != nil {
		return err
	}
	u, err := s.UseBundle(ctx, r, o.showProgress())
	if err != nil {
		return err
	}
	if !keep {
		if err := o.carriedSite(u); err != nil {
			return err
		}
		fields := map[string]string{"image": u.Release.Folder}
		if u.Payload != nil {
			fields["cluster.software"] = u.Payload.Folder
		}
		if p := u.Path(images.CNIManifest); p != "" {
			fields["cluster.cniManifests"] = p
		}
		if err := o.useInSite(f, fields); err != nil {
			return err
		}
	}
	v := shownBundle(r.Bundle, r.Signer)
	v.Used = &u
	if err := o.printBundle(v); err != nil || o.output == "json" {
		return err
	}
	o.printf("image in    %s\n", u.Release.Folder)
	if u.Payload != nil {
		o.printf("software in %s\n", u.Payload.Folder)
	}
	for _, x := range u.Files {
		o.printf("%-11s %s\n", x.Kind, filepath.Join(u.Bundle.Folder, x.Name))
	}
	return nil
}

// carriedSite writes the bundle's site file where none is.
func (o *options) carriedSite(u images.Used) error {
	if _, err := os.Lstat(o.file); err == nil {
		return nil
	}
	from := u.Path(images.SiteFile)
	if from == "" {
		return nil // useInSite says that there is none
	}
	text, err := readBounded(from, mostManifests)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(o.file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	return errors.Join(err, file.Sync(), file.Close())
}
