package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"metalrise.dev/fleet/site"
	"metalrise.dev/images"
)

// imageFlags are shared by the commands that bring images.
type imageFlags struct {
	store     string
	config    string
	mirrors   []string
	keyrings  []string
	pins      []string
	checksums []string
}

func imagesCommand(o *options) *cobra.Command {
	f := &imageFlags{}
	c := &cobra.Command{
		Use:   "images",
		Short: "Fetch, verify and keep operating system images",
		Long: `These commands fill and tidy a store of images, one for all sites of this
computer. A site's image may then name a folder of it, as list shows them.

Nothing gets into the store that nobody vouches for: its publisher's OpenPGP
signature by a key of --keyring, a signed list of checksums, or a digest that you
pin by --pin. A checksum from the same server shows only that a file is whole.
metalrise brings no keys: get them from the publisher and compare the fingerprint.

Defaults may be kept in $XDG_CONFIG_HOME/metalrise/images.yaml:

  store: /srv/metalrise
  keyrings: [/etc/pki/rpm-gpg/RPM-GPG-KEY-fedora-44-primary]
  mirrors:
    - {from: "https://builds.coreos.fedoraproject.org", to: "https://mirror.example.org/fcos"}`,
		Args: usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	f.add(c)
	c.AddCommand(imagesListCommand(o, f), imagesFetchCommand(o, f), imagesVerifyCommand(o, f), imagesPruneCommand(o, f), imagesImportCommand(o, f))
	return c
}

// add gives a command and those below it the flags of the store.
func (f *imageFlags) add(c *cobra.Command) {
	p := c.PersistentFlags()
	p.StringVar(&f.store, "store", "", "folder of the image store (default: $XDG_DATA_HOME/metalrise/images or ~/.local/share/metalrise/images)")
	p.StringVar(&f.config, "images-config", "", "file of defaults (default: $XDG_CONFIG_HOME/metalrise/images.yaml)")
}

func (f *imageFlags) addSources(c *cobra.Command) {
	c.Flags().StringArrayVar(&f.mirrors, "mirror", nil, "FROM=TO: ask at TO for what begins with FROM; TO is a URL or an absolute folder (repeatable)")
	f.addTrust(c)
}

func (f *imageFlags) addTrust(c *cobra.Command) {
	c.Flags().StringArrayVar(&f.keyrings, "keyring", nil, "file of OpenPGP public keys that you trust (repeatable)")
	c.Flags().StringArrayVar(&f.pins, "pin", nil, "SHA-256 or SHA-512 of a file, or SHA-256 of the metadata, that you trust (repeatable)")
	c.Flags().StringArrayVar(&f.checksums, "checksums", nil, "file as sha256sum writes it, with its detached signature beside it as FILE.gpg, FILE.sig or FILE.asc (repeatable)")
}

// imagesConfig is the file of defaults.
type imagesConfig struct {
	Store    string          `yaml:"store"`
	Keyrings []string        `yaml:"keyrings"`
	Mirrors  []images.Mirror `yaml:"mirrors"`
}

func (f *imageFlags) settings() (imagesConfig, error) {
	var cfg imagesConfig
	path := f.config
	if path == "" {
		dir, err := os.UserConfigDir()
		if err != nil {
			return cfg, nil // no home: no defaults
		}
		path = filepath.Join(dir, "metalrise", "images.yaml")
	}
	text, err := readBounded(path, 1<<20)
	switch {
	case errors.Is(err, fs.ErrNotExist) && f.config == "":
		return cfg, nil
	case err != nil:
		return cfg, fmt.Errorf("defaults of images: %w", err)
	}
	d := yaml.NewDecoder(strings.NewReader(string(text)))
	d.KnownFields(true)
	if err := d.Decode(&cfg); err != nil && !errors.Is(err, io.EOF) {
		return cfg, fmt.Errorf("defaults of images %s: %w", path, err)
	}
	return cfg, nil
}

// open gives the store.
func (f *imageFlags) open() (*images.Store, error) {
	cfg, err := f.settings()
	if err != nil {
		return nil, err
	}
	dir := f.store
	if dir == "" {
		dir = cfg.Store
	}
	if dir == "" {
		base := os.Getenv("XDG_DATA_HOME")
		if base == "" {
			home, err := os.UserHomeDir()
			if err != nil {
				return nil, fmt.Errorf("image store: %w", err)
			}
			base = filepath.Join(home, ".local", "share")
		}
		dir = filepath.Join(base, "metalrise", "images")
	}
	return images.OpenStore(dir)
}

// downloader follows the mirrors of the flags, then those of the defaults.
func (f *imageFlags) downloader() (images.Downloader, error) {
	cfg, err := f.settings()
	if err != nil {
		return images.Downloader{}, err
	}
	var d images.Downloader
	for _, s := range f.mirrors {
		m, err := images.ParseMirror(s)
		if err != nil {
			return d, &exitError{exitUsage, fmt.Errorf("--mirror: %w", err)}
		}
		d.Mirrors = append(d.Mirrors, m)
	}
	for _, m := range cfg.Mirrors {
		if m, err = m.Checked(); err != nil {
			return d, err
		}
		d.Mirrors = append(d.Mirrors, m)
	}
	return d, nil
}

// trust gathers what the person believes; keys of the operating system's own
// keyring are taken where none are named.
func (f *imageFlags) trust(system images.OS) (images.Trust, error) {
	cfg, err := f.settings()
	if err != nil {
		return images.Trust{}, err
	}
	t := images.Trust{Pins: f.pins}
	for _, p := range f.pins {
		if err := images.CheckPin(p); err != nil {
			return t, &exitError{exitUsage, err}
		}
	}
	paths := append(append([]string{}, f.keyrings...), cfg.Keyrings...)
	if len(paths) == 0 {
		for _, pattern := range images.KeyPaths(system) {
			found, _ := filepath.Glob(pattern)
			paths = append(paths, found...)
		}
	}
	if t.Keys, err = images.ReadKeyring(paths...); err != nil {
		return t, err
	}
	for _, path := range f.checksums {
		if err := addChecksums(&t, path); err != nil {
			return t, err
		}
	}
	return t, nil
}

func addChecksums(t *images.Trust, path string) error {
	list, err := readBounded(path, 1<<20)
	if err != nil {
		return fmt.Errorf("--checksums: %w", err)
	}
	for _, suffix := range []string{".gpg", ".sig", ".asc"} {
		signature, err := readBounded(path+suffix, 64<<10)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("--checksums: %w", err)
		}
		return t.AddChecksums(path, list, signature)
	}
	return fmt.Errorf("--checksums %s: no signature lies beside it (%s.gpg, .sig or .asc)", path, path)
}

// progressEvery is how often a line of progress is written: seldom enough for a
// serial console and a log.
const progressEvery = 3 * time.Second

// showProgress writes a line now and then, and one when a file is complete.
func (o *options) showProgress() images.Progress {
	var last time.Time
	return func(file string, done, total int64) {
		now := time.Now()
		if now.Sub(last) < progressEvery && (total == 0 || done != total) {
			return
		}
		last = now
		if total > 0 {
			fmt.Fprintf(o.errs, "%s: %s of %s (%d %%)\n", file, bytesText(done), bytesText(total), done*100/total)
			return
		}
		fmt.Fprintf(o.errs, "%s: %s\n", file, bytesText(done))
	}
}

func imagesListCommand(o *options, f *imageFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List what the store has",
		Long:  "list shows every release and all software of nodes in the store, with the folder that a site file may name.\n" + exitHelp,

		Example: "  metalrise images list\n  metalrise images list --output json",
		Args:    usage(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			s, err := f.open()
			if err != nil {
				return err
			}
			all, err := s.List()
			if o.output == "json" {
				return errors.Join(o.json(orEmpty(all)), err)
			}
			w := tabwriter.NewWriter(o.out, 0, 4, 2, ' ', 0)
			fmt.Fprintln(w, "KIND\tVERSION\tSIZE\tBELIEVED BY\tUSED\tFOLDER")
			for _, e := range all {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", e.Kind, e.Version, bytesText(e.Bytes), proofsOf(e), e.Used.Format(time.DateOnly), e.Folder)
			}
			return errors.Join(w.Flush(), err)
		},
	}
}

func proofsOf(e images.Entry) string {
	if e.Kind == images.KindPayload {
		return "its digest"
	}
	var out []string
	for _, f := range e.Files {
		if s := string(f.Proof); len(out) == 0 || out[len(out)-1] != s {
			out = append(out, s)
		}
	}
	return strings.Join(out, ", ")
}

func imagesFetchCommand(o *options, f *imageFlags) *cobra.Command {
	w := images.Wish{}
	var arch string
	var use bool
	c := &cobra.Command{
		Use:   "fetch OS STREAM",
		Short: "Bring a release into the store",
		Long: `fetch asks the publisher what a stream has, and brings the live ISO, the disk
image and the files of a network boot. What was interrupted goes on where it
stopped. The operating systems and their streams:

  fedora-coreos  stable, testing, next        signed by Fedora's keys
  rhcos          an OpenShift release: 4.20   signed list of checksums (--checksums), or --pin
  scos           an OpenShift release: 4.20   --pin
  flatcar        stable, beta, alpha, lts     signed by Flatcar's key

Without --version it is the newest. The digests of what was fetched are in the
store's record, in the plan, and printed.
` + exitHelp,
		Example: `  metalrise images fetch fedora-coreos stable --keyring fedora.gpg
  metalrise images fetch fedora-coreos stable --version 44.20260101.3.0 --use -f site.yaml
  metalrise images fetch rhcos 4.20 --mirror https://rhcos.mirror.openshift.com=/mnt/usb/rhcos --pin DIGEST`,
		Args: usage(cobra.ExactArgs(2)),
		RunE: func(c *cobra.Command, args []string) error {
			w.OS, w.Stream, w.Arch = images.OS(args[0]), args[1], images.Arch(arch)
			e, err := o.fetchImage(c.Context(), f, w)
			if err != nil {
				return err
			}
			return o.landed(f, e, use)
		},
	}
	f.addSources(c)
	c.Flags().StringVar(&w.Version, "version", "", "version to take instead of the newest")
	c.Flags().StringVar(&w.Metadata, "metadata", "", "URL or file to take instead of the publisher's metadata (Flatcar: a folder with version.txt)")
	c.Flags().StringVar(&arch, "arch", string(images.X86_64), "architecture")
	c.Flags().BoolVar(&use, "use", false, "write the image's folder into the site file")
	return c
}

func (o *options) fetchImage(ctx context.Context, f *imageFlags, w images.Wish) (images.Entry, error) {
	d, err := f.downloader()
	if err != nil {
		return images.Entry{}, err
	}
	t, err := f.trust(w.OS)
	if err != nil {
		return images.Entry{}, err
	}
	s, err := f.open()
	if err != nil {
		return images.Entry{}, err
	}
	offer, err := d.Offer(ctx, w)
	if err != nil {
		return images.Entry{}, err
	}
	return s.Fetch(ctx, offer, t, d, o.showProgress())
}

// landed shows an entry, and has the site file name it.
func (o *options) landed(f *imageFlags, e images.Entry, use bool) error {
	if use {
		field := "image"
		if e.Kind == images.KindPayload {
			field = "cluster.software"
		}
		if err := o.useInSite(f, map[string]string{field: e.Folder}); err != nil {
			return err
		}
	}
	if o.output == "json" {
		return o.json(e)
	}
	o.printf("%s %s %s\ndigest  %s\nfolder  %s\n", e.Kind, e.Stream, e.Version, e.Digest, e.Folder)
	for _, x := range e.Files {
		if e.Kind == images.KindRelease {
			o.printf("  %-9s %s  %s %s\n", x.Role, x.SHA256, x.Proof, x.Signer)
		}
	}
	return nil
}

// useInSite writes folders into the site file, comments kept, and has the store
// remember that file.
func (o *options) useInSite(f *imageFlags, fields map[string]string) error {
	file, findings := site.Load(o.file)
	if file == nil {
		o.printFindings(findings)
		return &exitError{code: exitFindings}
	}
	for _, field := range []string{"image", "cluster.software", "cluster.cniManifests"} {
		if v, ok := fields[field]; ok {
			if err := file.Set(field, v); err != nil {
				return err
			}
		}
	}
	if err := file.Write(); err != nil {
		return err
	}
	s, err := f.open()
	if err != nil {
		return err
	}
	return s.Remember(o.file)
}
