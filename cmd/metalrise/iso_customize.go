package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"metalrise.dev/iso"
)

// maxGiven bounds a file named on the command line, in bytes: what an archive
// takes.
const maxGiven = 16 << 20

// isoWish is what customize is asked for.
type isoWish struct {
	ignition  string
	keyfiles  []string
	files     []string // PATH=FILE
	append    []string
	delete    []string
	rootfsURL string
	reset     bool
	to        outFile
}

func isoCustomizeCommand(o *options) *cobra.Command {
	w := &isoWish{}
	c := &cobra.Command{
		Use:   "customize ISO --to FILE",
		Short: "Make one server's own ISO of a live ISO",
		Long: `customize writes an ISO that carries an Ignition config, network keyfiles, further
files for the initrd and other kernel arguments for the live system. The base is
not changed. What the base was personalised with before stays where no flag says
otherwise; --reset starts from what it was built with.

A config that is too large for the embed area is put behind the end of the ISO.
With --rootfs-url the ISO is a minimal one, without the root file system: the
live system fetches it from that address.
` + exitHelp,
		Example: `  metalrise iso customize live.iso --ignition n1.ign --to n1.iso
  metalrise iso customize live.iso --keyfile eno1.nmconnection --append-karg rd.neednet=1 --to n1.iso
  metalrise iso customize n1.iso --reset --to live.iso`,
		Args: usage(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error { return o.customizeISO(args[0], w) },
	}
	f := c.Flags()
	f.StringVar(&w.ignition, "ignition", "", "Ignition config for the live system (- reads standard input)")
	f.StringArrayVar(&w.keyfiles, "keyfile", nil, "NetworkManager keyfile NAME.nmconnection for the live system; may be repeated")
	f.StringArrayVar(&w.files, "initrd-file", nil, "further file for the live system's initrd, as PATH=FILE; may be repeated")
	f.StringArrayVar(&w.append, "append-karg", nil, "kernel argument to append; may be repeated")
	f.StringArrayVar(&w.delete, "delete-karg", nil, "kernel argument to take out; may be repeated")
	f.StringVar(&w.rootfsURL, "rootfs-url", "", "make a minimal ISO that fetches its root file system from here")
	f.BoolVar(&w.reset, "reset", false, "drop all that the base was personalised with")
	w.to.add(c, "file to write the ISO to (- is standard output)")
	return c
}

func (o *options) customizeISO(path string, w *isoWish) error {
	if w.to.path == "" {
		return &exitError{exitUsage, errors.New("--to is missing: where should the ISO go?")}
	}
	p, err := o.personal(w)
	if err != nil {
		return err
	}
	base, err := iso.Open(path)
	if err != nil {
		return err
	}
	defer base.Close()
	from := base
	if w.rootfsURL != "" {
		if from, err = base.Minimal(); err != nil {
			return err
		}
	}
	im, err := from.Personalise(p)
	if err != nil {
		return err
	}
	err = o.write(w.to, func(out io.Writer) error {
		_, err := im.WriteRange(out, 0, im.Size())
		return err
	})
	if err == nil && w.to.path != "-" && o.output == "text" {
		o.printf("%s: %d bytes, %d of them its own\n", w.to.path, im.Size(), im.Held())
	}
	return err
}

// personal reads the files that a wish names.
func (o *options) personal(w *isoWish) (iso.Personal, error) {
	p := iso.Personal{AppendKargs: w.append, DeleteKargs: w.delete, RootfsURL: w.rootfsURL}
	if w.reset {
		p.Start = iso.Defaults
	}
	var wrong []error
	if w.ignition != "" {
		b, err := o.given(w.ignition)
		if err == nil {
			err = checkIgnition(b)
		}
		if err != nil {
			wrong = append(wrong, fmt.Errorf("--ignition %s: %w", w.ignition, err))
		}
		p.Ignition = b
	}
	for _, k := range w.keyfiles {
		b, err := o.given(k)
		wrong = append(wrong, err)
		p.Keyfiles = append(p.Keyfiles, iso.File{Name: filepath.Base(k), Data: b})
	}
	for _, f := range w.files {
		name, from, ok := strings.Cut(f, "=")
		if !ok {
			wrong = append(wrong, fmt.Errorf("--initrd-file %s: want PATH=FILE", f))
			continue
		}
		b, err := o.given(from)
		wrong = append(wrong, err)
		mode := os.FileMode(0)
		if info, err := os.Stat(from); err == nil {
			mode = info.Mode().Perm()
		}
		p.Files = append(p.Files, iso.File{Name: strings.TrimPrefix(name, "/"), Data: b, Mode: mode})
	}
	if err := errors.Join(wrong...); err != nil {
		return p, &exitError{exitUsage, err}
	}
	return p, nil
}

// given reads a file named on the command line.
func (o *options) given(path string) ([]byte, error) {
	in := o.in
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxGiven+1))
	if err == nil && len(b) > maxGiven {
		err = fmt.Errorf("read %s: more than %d bytes", path, maxGiven)
	}
	return b, err
}

// checkIgnition keeps out what Ignition would not even begin to read: the
// machine's console is a bad place to learn that a wrong file was named.
func checkIgnition(b []byte) error {
	var c struct {
		Ignition struct {
			Version string `json:"version"`
		} `json:"ignition"`
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return fmt.Errorf("no Ignition config: %w", err)
	}
	if c.Ignition.Version == "" {
		return errors.New("no Ignition config: it has no ignition.version")
	}
	return nil
}
