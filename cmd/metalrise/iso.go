package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"metalrise.dev/fleet"
	"metalrise.dev/iso"
)

// isoCommand is work on a live ISO by hand. None of it needs a site.
func isoCommand(o *options) *cobra.Command {
	c := &cobra.Command{
		Use:   "iso",
		Short: "Show, personalise and take apart a CoreOS live ISO",
		Long: `These commands work on one live ISO of Fedora CoreOS, RHCOS, CentOS Stream CoreOS
or of the lab, by hand. An install needs none of them: there each server's ISO is
made while it is streamed, and nothing is written.`,
		Args: usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(isoShowCommand(o), isoCustomizeCommand(o), isoExtractCommand(o), isoBuildCommand(o))
	return c
}

// isoShown is what show prints. Of the embedded config and files it tells size
// and digest only: they may hold secrets.
type isoShown struct {
	Label        string        `json:"label"`
	Size         int64         `json:"size"`
	Firmware     []string      `json:"firmware"`
	Customised   bool          `json:"customised"`
	Embed        isoArea       `json:"embedArea"`
	Ignition     *isoFile      `json:"ignition,omitempty"`
	Files        []isoFile     `json:"files,omitempty"`
	Kargs        []string      `json:"kernelArguments"`
	DefaultKargs string        `json:"defaultKernelArguments,omitempty"`
	KargsRoom    int           `json:"kernelArgumentBytesLeft"`
	KargAreas    []isoArea     `json:"kernelArgumentAreas,omitempty"`
	Features     iso.Features  `json:"features"`
	Artefacts    []isoArtefact `json:"artefacts,omitempty"`
}

type isoArea struct {
	Offset int64 `json:"offset"`
	Size   int64 `json:"size"`
	Grows  bool  `json:"grows,omitempty"`
}

type isoFile struct {
	Name   string `json:"name,omitempty"`
	Size   int    `json:"size"`
	SHA256 string `json:"sha256"`
}

type isoArtefact struct {
	Path   string `json:"path"`
	Offset int64  `json:"offset"`
	Size   int64  `json:"size"`
}

func isoShowCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "show ISO",
		Short: "Show what an ISO holds and where it can be personalised",
		Long: `show reads the volume label, what can boot the ISO, the embed area and the kernel
argument areas with their places, the files of a network boot, and whether it
was personalised: then the digest of its Ignition config, never the config
(extract prints that).
` + exitHelp,
		Example: "  metalrise iso show fedora-coreos-live.iso",
		Args:    usage(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := showISO(args[0])
			if err != nil {
				return err
			}
			if o.output == "json" {
				return o.json(s)
			}
			o.printISO(s)
			return nil
		},
	}
}

func showISO(path string) (isoShown, error) {
	f, size, err := openISO(path)
	if err != nil {
		return isoShown{}, err
	}
	defer f.Close()
	c, err := iso.Inspect(f, size)
	if err != nil {
		return isoShown{}, fleet.NewFault(fleet.CodeImageCorrupt, fleet.Invalid, err, "show %s", path)
	}
	s := isoShown{Label: c.Label, Size: c.Size, Firmware: c.Firmware, Customised: c.Customised(),
		Embed: isoArea{c.EmbedOffset, c.EmbedSize, c.EmbedGrows}, Kargs: c.Kargs, DefaultKargs: c.DefaultKargs,
		KargsRoom: c.KargsRoom, Features: c.Features}
	if c.Ignition != nil {
		s.Ignition = &isoFile{Size: len(c.Ignition), SHA256: hexDigest(c.Ignition)}
	}
	for _, f := range c.Files {
		s.Files = append(s.Files, isoFile{f.Name, len(f.Data), hexDigest(f.Data)})
	}
	for _, a := range c.KargAreas {
		s.KargAreas = append(s.KargAreas, isoArea{Offset: a.Offset, Size: int64(a.Size)})
	}
	for _, a := range c.Artefacts {
		s.Artefacts = append(s.Artefacts, isoArtefact(a))
	}
	return s, nil
}

func openISO(path string) (*os.File, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, fleet.NewFault(fleet.CodeImageMissing, fleet.Invalid, err, "open ISO")
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("open ISO %s: not a regular file", path)
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}

func hexDigest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func (o *options) printISO(s isoShown) {
	state := "as it was built"
	if s.Customised {
		state = "personalised"
	}
	o.printf("label      %s, %d bytes, %s\n", s.Label, s.Size, state)
	boots := strings.Join(s.Firmware, ", ")
	if boots == "" {
		boots = "nothing (no boot catalogue)"
	}
	o.printf("boots by   %s\n", boots)
	switch {
	case s.Embed.Size == 0:
		o.printf("embed area none: this is no CoreOS live ISO\n")
	case s.Embed.Grows:
		o.printf("embed area %d bytes at %d; more goes behind the end of the ISO\n", s.Embed.Size, s.Embed.Offset)
	default:
		o.printf("embed area %d bytes at %d; cannot become larger\n", s.Embed.Size, s.Embed.Offset)
	}
	if s.Ignition != nil {
		o.printf("ignition   %d bytes, sha256 %s\n", s.Ignition.Size, s.Ignition.SHA256)
	} else {
		o.printf("ignition   none\n")
	}
	for _, f := range s.Files {
		o.printf("file       %s, %d bytes, sha256 %s\n", f.Name, f.Size, f.SHA256)
	}
	for _, a := range s.KargAreas {
		o.printf("kargs area %d bytes at %d\n", a.Size, a.Offset)
	}
	if len(s.KargAreas) > 0 {
		o.printf("kargs      %s (room for %d more bytes)\n", strings.Join(s.Kargs, " "), s.KargsRoom)
	}
	if s.DefaultKargs != "" {
		o.printf("  built as %s\n", s.DefaultKargs)
	}
	o.printf("keyfiles   taken by the live system: %s\n", map[bool]string{true: "yes", false: "no"}[s.Features.LiveInitrdNetwork])
	for _, a := range s.Artefacts {
		o.printf("holds      %s, %d bytes at %d\n", a.Path, a.Size, a.Offset)
	}
}

// outFile is where a command writes one file.
type outFile struct {
	path  string // "-" is standard output
	force bool
}

func (t *outFile) add(c *cobra.Command, what string) {
	c.Flags().StringVar(&t.path, "to", "", what)
	c.Flags().BoolVar(&t.force, "force", false, "replace a file that exists")
}

// mayBeWritten refuses what is there already. A device is refused also with
// --force: a file would take its name, and nothing would be on the drive.
func (t *outFile) mayBeWritten() error {
	if at, err := os.Stat(t.path); err == nil && at.Mode()&(os.ModeDevice|os.ModeNamedPipe|os.ModeSocket) != 0 {
		return &exitError{exitUsage, fmt.Errorf("%s is no file but a device or the like: write a file, and copy that onto the drive, for example with dd", t.path)}
	}
	if _, err := os.Lstat(t.path); err == nil && !t.force {
		return &exitError{exitUsage, fmt.Errorf("%s exists: remove it, or say --force", t.path)}
	}
	return nil
}

// write has fill write a file whole or not at all, readable by its owner only:
// it may hold secrets.
func (o *options) write(t outFile, fill func(io.Writer) error) error {
	if t.path == "-" {
		if f, ok := o.tty.(*os.File); ok {
			if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 && f.Name() != os.DevNull {
				return &exitError{exitUsage, errors.New("will not write a medium to a terminal: redirect it, or name a file by --to")}
			}
		}
		return fill(o.tty)
	}
	if err := t.mayBeWritten(); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(t.path), ".metalrise-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", t.path, err)
	}
	defer os.Remove(f.Name())
	err = fill(f)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", t.path, err)
	}
	return os.Rename(f.Name(), t.path)
}
