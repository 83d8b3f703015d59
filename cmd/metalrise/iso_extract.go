package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"metalrise.dev/iso"
)

// isoParts are what extract takes out of an ISO as one file.
var isoParts = map[string]string{"kernel": iso.KernelPath, "initrd": iso.InitrdPath, "rootfs": iso.RootfsPath}

func isoExtractCommand(o *options) *cobra.Command {
	var to outFile
	var rootfsURL string
	c := &cobra.Command{
		Use:   "extract ISO kernel|initrd|rootfs|pxe|minimal|ignition|keyfiles",
		Short: "Take the files of a network boot, a minimal ISO or the config out of an ISO",
		Long: `extract writes one part of an ISO:

  kernel, initrd, rootfs  the file, for a network boot
  pxe                     all three, into a folder (default: here), and if the ISO was
                          personalised custom.img: its archive, to be loaded as one
                          more initrd
  minimal                 the ISO without its root file system, for slow links; it needs
                          --rootfs-url
  ignition                the embedded Ignition config (default: to standard output)
  keyfiles                the embedded network keyfiles, into a folder (default: here)
` + exitHelp,
		Example: "  metalrise iso extract live.iso pxe --to /srv/tftp\n  metalrise iso extract live.iso minimal --rootfs-url https://10.0.0.5/rootfs.img --to small.iso",
		Args:    usage(cobra.ExactArgs(2)),
		RunE: func(_ *cobra.Command, args []string) error {
			return o.extractISO(args[0], args[1], rootfsURL, to)
		},
	}
	to.add(c, "file or folder to write to (- is standard output)")
	c.Flags().StringVar(&rootfsURL, "rootfs-url", "", "where a minimal ISO fetches its root file system from")
	return c
}

func (o *options) extractISO(path, what, rootfsURL string, to outFile) error {
	if (what == "minimal") != (rootfsURL != "") {
		return &exitError{exitUsage, errors.New("--rootfs-url is given with minimal, and only then")}
	}
	switch what {
	case "minimal":
		return o.customizeISO(path, &isoWish{rootfsURL: rootfsURL, to: to})
	case "ignition", "keyfiles":
		return o.extractEmbedded(path, what, to)
	case "kernel", "initrd", "rootfs", "pxe":
	default:
		return &exitError{exitUsage, fmt.Errorf("there is no part %q: want kernel, initrd, rootfs, pxe, minimal, ignition or keyfiles", what)}
	}
	b, err := iso.Open(path)
	if err != nil {
		return err
	}
	defer b.Close()
	part := func(name string, to outFile) error {
		return o.write(to, func(w io.Writer) error {
			_, err := b.Extract(isoParts[name], w)
			return err
		})
	}
	if what != "pxe" {
		if to.path == "" {
			return &exitError{exitUsage, fmt.Errorf("--to is missing: where should the %s go?", what)}
		}
		return part(what, to)
	}
	dir := to.path
	for _, name := range []string{"kernel", "initrd", "rootfs"} {
		to.path = filepath.Join(dir, filepath.Base(isoParts[name]))
		if err := part(name, to); err != nil {
			return err
		}
		o.printf("%s\n", to.path)
	}
	return o.extractCustom(path, filepath.Join(dir, "custom.img"), to.force)
}

// extractCustom writes what the ISO was personalised with as an initrd.
func (o *options) extractCustom(path, to string, force bool) error {
	c, err := contents(path)
	if err != nil || c.Ignition == nil && len(c.Files) == 0 {
		return err
	}
	data, err := iso.Archive(iso.Personal{Ignition: c.Ignition, Files: c.Files})
	if err != nil {
		return err
	}
	if err := o.writeBytes(outFile{to, force}, data); err != nil {
		return err
	}
	o.printf("%s\n", to)
	return nil
}

func (o *options) extractEmbedded(path, what string, to outFile) error {
	c, err := contents(path)
	if err != nil {
		return err
	}
	if what == "ignition" {
		if c.Ignition == nil {
			return fmt.Errorf("%s: %w", path, iso.ErrNoIgnition)
		}
		if to.path == "" || to.path == "-" { // text: a terminal may show it
			_, err := o.out.Write(c.Ignition)
			return err
		}
		return o.writeBytes(to, c.Ignition)
	}
	dir, found := to.path, false
	for _, f := range c.Files {
		name, ok := strings.CutPrefix(f.Name, iso.KeyfileDir+"/")
		if !ok {
			continue
		}
		found = true
		if !filepath.IsLocal(name) || strings.Contains(name, "/") {
			return fmt.Errorf("%s: keyfile with the name %q: not written", path, name)
		}
		to.path = filepath.Join(dir, name)
		if err := o.writeBytes(to, f.Data); err != nil {
			return err
		}
		o.printf("%s\n", to.path)
	}
	if !found {
		return fmt.Errorf("%s has no network keyfiles embedded", path)
	}
	return nil
}

func contents(path string) (*iso.Contents, error) {
	f, size, err := openISO(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return iso.Inspect(f, size)
}

func (o *options) writeBytes(to outFile, data []byte) error {
	return o.write(to, func(w io.Writer) error {
		_, err := io.Copy(w, bytes.NewReader(data))
		return err
	})
}
