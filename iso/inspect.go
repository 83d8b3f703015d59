package iso

import (
	"errors"
	"fmt"
	"io"
)

// Contents is what one ISO says of itself and carries: what `iso show` prints
// and what a machine that boots the ISO would find.
type Contents struct {
	Label        string   // volume label
	Size         int64    // bytes of the whole ISO
	EmbedOffset  int64    // of the embed area from the start of the ISO
	EmbedSize    int64    // bytes; 0 if there is none
	Ignition     []byte   // the embedded config, nil if there is none
	Kargs        []string // the kernel arguments as they stand, nil if there is no area
	DefaultKargs string   // those the image was built with, "" if it does not say
	KargsRoom    int      // bytes that can still be added, spaces included
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
		DefaultKargs: l.standard,
	}
	if len(l.kargs) > 0 {
		a := l.kargs[0]
		c.Kargs = commandLine(a.current)
		c.KargsRoom = a.size - 1 - len(a.current)
		for _, other := range l.kargs {
			c.KargsRoom = max(0, min(c.KargsRoom, other.size-1-len(other.current)))
		}
	}
	c.Ignition, err = v.config(l)
	if err != nil && !errors.Is(err, ErrNoIgnition) && !errors.Is(err, ErrNoEmbedArea) {
		return nil, fmt.Errorf("inspect ISO: %w", err)
	}
	return c, nil
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

// config takes the config out of the embed area.
func (v *volume) config(l layout) ([]byte, error) {
	if l.ignition.size == 0 {
		return nil, ErrNoEmbedArea
	}
	b, err := unpack(io.NewSectionReader(v.r, l.ignition.off, l.ignition.size))
	if err != nil && !errors.Is(err, ErrNoIgnition) {
		return nil, malformed("embed area", "%v", err)
	}
	return b, err
}
