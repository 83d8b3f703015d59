package iso

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
)

// Contents is what one ISO says of itself and carries: what `iso show` prints
// and what a machine that boots the ISO would find. It holds the config itself,
// which may have secrets.
type Contents struct {
	Label        string      // volume label
	Size         int64       // bytes of the whole ISO
	EmbedOffset  int64       // of the embed area from the start of the ISO
	EmbedSize    int64       // bytes; 0 if there is none
	EmbedGrows   bool        // a larger archive finds room behind the end of the ISO
	Ignition     []byte      // the embedded config, nil if there is none
	Files        []File      // the files embedded beside it, keyfiles among them
	Kargs        []string    // the kernel arguments as they stand, nil if there is no area
	DefaultKargs string      // those the image was built with, "" if it does not say
	KargsRoom    int         // bytes that can still be added, spaces included
	KargAreas    []KargPlace // where they are
	Features     Features    // what the live system says it can do
	Firmware     []string    // what can boot it: "BIOS", "UEFI"
	Artefacts    []Artefact  // of a network boot, those that are there
}

// KargPlace is one kernel argument area.
type KargPlace struct {
	Offset int64 // from the start of the ISO
	Size   int
}

// Artefact is a file that a network boot needs.
type Artefact struct {
	Path         string
	Offset, Size int64
}

// Customised says whether the ISO carries anything that it was not built with.
func (c *Contents) Customised() bool {
	return c.Ignition != nil || len(c.Files) > 0 ||
		c.DefaultKargs != "" && strings.Join(c.Kargs, " ") != strings.Join(commandLine(c.DefaultKargs), " ")
}

// Inspect reads all of Contents from any ISO, in few reads of 64 KiB, so that r
// may be a file or a URL read by ranges.
func Inspect(r io.ReaderAt, size int64) (*Contents, error) {
	v, l, err := inspect(r, size)
	if err != nil {
		return nil, fmt.Errorf("inspect ISO: %w", err)
	}
	c := &Contents{
		Label: v.label, Size: size,
		EmbedOffset: l.ignition.off, EmbedSize: l.ignition.size,
		DefaultKargs: l.standard, Features: v.features(),
	}
	c.kargs(l)
	for _, p := range []string{KernelPath, InitrdPath, RootfsPath} {
		if e, err := v.file(p); err == nil {
			c.Artefacts = append(c.Artefacts, Artefact{Path: p, Offset: e.off, Size: e.size})
		}
	}
	if a, err := survey(v); err == nil {
		c.Firmware = firmwares(bootImages(v, a.boot))
		c.EmbedGrows = len(v.growth(l).records) > 0
	}
	members, err := v.embedded(l)
	if err != nil && !errors.Is(err, ErrNoEmbedArea) {
		return nil, fmt.Errorf("inspect ISO: %w", err)
	}
	for _, m := range members {
		switch {
		case m.mode&modeType != modeFile:
		case m.name == configName:
			c.Ignition = m.data
		default:
			c.Files = append(c.Files, File{Name: m.name, Data: m.data, Mode: fs.FileMode(m.mode & 0o777)})
		}
	}
	return c, nil
}

func (c *Contents) kargs(l layout) {
	for i, a := range l.kargs {
		room := a.size - 1 - len(a.current)
		if i == 0 {
			c.Kargs, c.KargsRoom = commandLine(a.current), room
		}
		c.KargsRoom = max(0, min(c.KargsRoom, room))
		c.KargAreas = append(c.KargAreas, KargPlace{Offset: a.off, Size: a.size})
	}
}

// ReadIgnition gives the Ignition config embedded in an ISO, at most 16 MiB.
// Errors: ErrNoEmbedArea, ErrNoIgnition, *FormatError, those of r.
func ReadIgnition(r io.ReaderAt, size int64) ([]byte, error) {
	v, l, err := inspect(r, size)
	if err != nil {
		return nil, fmt.Errorf("read Ignition of ISO: %w", err)
	}
	b, err := v.config(l)
	if err != nil {
		return nil, fmt.Errorf("read Ignition of ISO: %w", err)
	}
	return b, nil
}

// ReadKargs gives the kernel arguments the ISO boots with.
// Errors: ErrNoKargsArea, *FormatError, those of r.
func ReadKargs(r io.ReaderAt, size int64) ([]string, error) {
	_, l, err := inspect(r, size)
	if err == nil && len(l.kargs) == 0 {
		err = ErrNoKargsArea
	}
	if err != nil {
		return nil, fmt.Errorf("read kernel arguments of ISO: %w", err)
	}
	return commandLine(l.kargs[0].current), nil
}

func inspect(r io.ReaderAt, size int64) (*volume, layout, error) {
	v, err := openVolume(&blocks{r: r, size: size}, size)
	if err != nil {
		return nil, layout{}, err
	}
	l, err := findLayout(v)
	return v, l, err
}

// embedded reads the archive in the embed area.
func (v *volume) embedded(l layout) ([]member, error) {
	if l.ignition.size == 0 {
		return nil, ErrNoEmbedArea
	}
	members, err := unpack(io.NewSectionReader(v.r, l.ignition.off, l.ignition.size))
	if err != nil {
		return nil, malformed("embed area", "%v", err)
	}
	return members, nil
}

// config takes the config out of the embed area.
func (v *volume) config(l layout) ([]byte, error) {
	members, err := v.embedded(l)
	if err != nil {
		return nil, err
	}
	return ignitionIn(members)
}

func ignitionIn(members []member) ([]byte, error) {
	for _, m := range members {
		if m.name == configName && m.mode&modeType == modeFile {
			return m.data, nil
		}
	}
	return nil, ErrNoIgnition
}
