package iso

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
)

const (
	ignInfoPath     = "coreos/igninfo.json"
	ignDefaultPath  = "images/ignition.img"
	kargsInfoPath   = "coreos/kargs.json"
	maxInfoBytes    = 64 << 10
	maxEmbedBytes   = 64 << 20 // the area is 256 KiB on all published images
	maxKargsBytes   = 2048     // coreos-installer refuses larger areas
	maxKargsAreas   = 8        // six fit the header form
	ignHeaderBytes  = 24
	kargHeaderBytes = 72
	kargHeaderSlots = 6
)

// layout is where one ISO keeps what can be personalised; offsets from the
// start of the ISO. Everything in it has been checked against the file.
type layout struct {
	ignition extent
	kargs    []kargArea // by offset; none if the ISO has no place for them
	standard string     // the kernel arguments the image was built with, or ""

	present    []member // what the embed area holds now
	presentErr error    // why that cannot be told
	features   Features
	grow       growth
}

// findLayout reads the layout. An ISO without an embed area has a zero
// ignition extent; it is the caller who knows whether that matters.
func findLayout(v *volume) (layout, error) {
	var l layout
	var err error
	if l.ignition, err = findIgnition(v); err != nil {
		return l, err
	}
	if l.kargs, l.standard, err = findKargs(v); err != nil {
		return l, err
	}
	slices.SortFunc(l.kargs, func(a, b kargArea) int { return int(a.off - b.off) })
	used := []extent{l.ignition}
	for _, a := range l.kargs {
		used = append(used, extent{off: a.off, size: int64(a.size)})
	}
	slices.SortFunc(used, func(a, b extent) int { return int(a.off - b.off) })
	for i := 1; i < len(used); i++ {
		if used[i-1].off+used[i-1].size > used[i].off {
			return l, malformed("embed areas", "the areas at byte %d and %d overlap", used[i-1].off, used[i].off)
		}
	}
	return l, nil
}

// ignInfo is what /coreos/igninfo.json says.
type ignInfo struct {
	File   string `json:"file"`
	Offset *int64 `json:"offset,omitempty"`
	Length *int64 `json:"length,omitempty"`
}

func findIgnition(v *volume) (extent, error) {
	var info ignInfo
	b, _, err := v.readFile(ignInfoPath, maxInfoBytes)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		info.File = ignDefaultPath
	case err != nil:
		return extent{}, err
	default:
		if err := json.Unmarshal(b, &info); err != nil {
			return extent{}, malformed("/"+ignInfoPath, "%v", err)
		}
	}
	declared := err == nil
	e, err := v.file(info.File)
	if errors.Is(err, fs.ErrNotExist) && !declared {
		return ignitionHeader(v)
	}
	if err != nil {
		return extent{}, fmt.Errorf("find the Ignition embed area: %w", err)
	}
	var off int64
	if info.Offset != nil {
		off = *info.Offset
	}
	length := e.size - off
	if info.Length != nil {
		length = *info.Length
	}
	if off < 0 || length <= 0 || off > e.size || length > e.size-off || length > maxEmbedBytes {
		return extent{}, malformed("/"+ignInfoPath, "offset %d, length %d do not fit %s of %d bytes", off, length, printable(info.File), e.size)
	}
	return extent{off: e.off + off, size: length}, nil
}

// ignitionHeader reads the last 24 bytes of the system area:
// "coreiso+", offset and length as little-endian 64-bit numbers.
func ignitionHeader(v *volume) (extent, error) {
	var h [ignHeaderBytes]byte
	if err := readFull(v.r, h[:], systemArea-ignHeaderBytes); err != nil {
		return extent{}, fmt.Errorf("read the system area: %w", err)
	}
	if string(h[:8]) != "coreiso+" {
		return extent{}, nil
	}
	off, size := binary.LittleEndian.Uint64(h[8:]), binary.LittleEndian.Uint64(h[16:])
	if size == 0 || size > maxEmbedBytes || !within(off, size, v.size) {
		return extent{}, malformed("system area", "embed area of %d bytes at %d does not fit the image of %d", size, off, v.size)
	}
	return extent{off: int64(off), size: int64(size)}, nil
}

func within(off, size uint64, whole int64) bool {
	return whole >= 0 && size <= uint64(whole) && off >= systemArea && off <= uint64(whole)-size
}

// findKargs looks for the kernel argument areas in their three forms.
func findKargs(v *volume) ([]kargArea, string, error) {
	b, _, err := v.readFile(kargsInfoPath, maxInfoBytes)
	if err == nil {
		return kargsFromInfo(v, b)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, "", err
	}
	areas, standard, err := kargsFromHeader(v)
	if err != nil || len(areas) > 0 {
		return areas, standard, err
	}
	areas, err = kargsFromMarkers(v)
	return areas, "", err
}

type kargsInfo struct {
	Default string `json:"default"`
	Size    int    `json:"size"`
	Files   []struct {
		Path   string  `json:"path"`
		Offset int64   `json:"offset"`
		Pad    *string `json:"pad"`
		End    *string `json:"end"`
	} `json:"files"`
}

func kargsFromInfo(v *volume, b []byte) ([]kargArea, string, error) {
	const where = "/" + kargsInfoPath
	var info kargsInfo
	if err := json.Unmarshal(b, &info); err != nil {
		return nil, "", malformed(where, "%v", err)
	}
	if info.Size < 1 || info.Size > maxKargsBytes || len(info.Default) > info.Size {
		return nil, "", malformed(where, "size %d with %d bytes of default arguments: want 1 to %d, and the default to fit", info.Size, len(info.Default), maxKargsBytes)
	}
	if len(info.Files) < 1 || len(info.Files) > maxKargsAreas {
		return nil, "", malformed(where, "%d files, want 1 to %d", len(info.Files), maxKargsAreas)
	}
	var areas []kargArea
	for _, f := range info.Files {
		e, err := v.file(f.Path)
		if err != nil {
			return nil, "", fmt.Errorf("find the kernel argument area: %w", err)
		}
		if f.Offset < 0 || f.Offset > e.size || int64(info.Size) > e.size-f.Offset {
			return nil, "", malformed(where, "area of %d bytes at %d does not fit %s of %d bytes", info.Size, f.Offset, printable(f.Path), e.size)
		}
		pad, err1 := oneByte(f.Pad, '#')
		end, err2 := oneByte(f.End, '\n')
		if err := errors.Join(err1, err2); err != nil {
			return nil, "", malformed(where, "%s: pad and end: %v", printable(f.Path), err)
		}
		areas = append(areas, kargArea{off: e.off + f.Offset, size: info.Size, pad: pad, end: end})
	}
	return sameKargs(v.r, areas, info.Default)
}

func oneByte(s *string, otherwise byte) (byte, error) {
	switch {
	case s == nil:
		return otherwise, nil
	case len(*s) != 1 || (*s)[0] >= 0x80:
		return 0, fmt.Errorf("%.8q is not one ASCII character", *s)
	}
	return (*s)[0], nil
}

// kargsFromHeader reads the 72 bytes before the embed area's header: "coreKarg",
// the areas' length, the offset of the default arguments, then up to six
// offsets of areas, all little-endian 64-bit numbers.
func kargsFromHeader(v *volume) ([]kargArea, string, error) {
	const where = "kernel argument header of the system area"
	var h [kargHeaderBytes]byte
	if err := readFull(v.r, h[:], systemArea-ignHeaderBytes-kargHeaderBytes); err != nil {
		return nil, "", fmt.Errorf("read the system area: %w", err)
	}
	if string(h[:8]) != "coreKarg" {
		return nil, "", nil
	}
	size := binary.LittleEndian.Uint64(h[8:])
	if size < 1 || size > maxKargsBytes {
		return nil, "", malformed(where, "size %d, want 1 to %d", size, maxKargsBytes)
	}
	area := func(slot int) (kargArea, error) {
		off := binary.LittleEndian.Uint64(h[16+8*slot:])
		if off != 0 && !within(off, size, v.size) {
			return kargArea{}, malformed(where, "area of %d bytes at %d does not fit the image of %d", size, off, v.size)
		}
		return kargArea{off: int64(off), size: int(size), pad: '#', end: '\n'}, nil
	}
	first, err := area(0)
	if err != nil {
		return nil, "", err
	}
	standard, err := first.read(v.r)
	if err != nil {
		return nil, "", fmt.Errorf("default kernel arguments: %w", err)
	}
	var areas []kargArea
	for slot := 1; slot <= kargHeaderSlots; slot++ {
		a, err := area(slot)
		if err != nil {
			return nil, "", err
		}
		if a.off == 0 {
			break
		}
		areas = append(areas, a)
	}
	if len(areas) == 0 {
		return nil, "", malformed(where, "names no area")
	}
	return sameKargs(v.r, areas, standard)
}

// sameKargs reads what the areas hold now; by contract all hold the same.
func sameKargs(r io.ReaderAt, areas []kargArea, standard string) ([]kargArea, string, error) {
	for i := range areas {
		var err error
		if areas[i].current, err = areas[i].read(r); err != nil {
			return nil, "", err
		}
		if areas[i].current != areas[0].current {
			return nil, "", malformed("kernel argument areas", "those at byte %d and %d differ", areas[0].off, areas[i].off)
		}
	}
	return areas, standard, nil
}

// Features is what a live system says it can do (/coreos/features.json).
type Features struct {
	// InstallerConfig: its installer reads /etc/coreos/installer.d.
	InstallerConfig bool `json:"installer-config"`
	// LiveInitrdNetwork: its initrd takes NetworkManager keyfiles from
	// /etc/coreos-firstboot-network.
	LiveInitrdNetwork bool `json:"live-initrd-network"`
}

// features reads the file; old images have none, and an unreadable one promises
// nothing either.
func (v *volume) features() Features {
	var f Features
	b, _, err := v.readFile("coreos/features.json", maxInfoBytes)
	if err == nil && json.Unmarshal(b, &f) != nil {
		return Features{}
	}
	return f
}
