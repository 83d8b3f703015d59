package iso

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
)

// Bounds on what is believed of a volume. A CoreOS live ISO has about ten
// directories of under 20 entries each; these leave two orders of magnitude.
const (
	sectorSize     = 2048
	systemArea     = 16 * sectorSize // bytes before the first volume descriptor
	maxDescriptors = 64
	maxDirBytes    = 1 << 20
	maxDepth       = 16
)

// extent is a run of bytes of the ISO: a file or a directory.
type extent struct {
	off, size int64
	dir       bool
}

// volume is an ISO 9660 volume (ECMA-119), with Rock Ridge names where present.
// Lookups walk down from the root along a given path, never across the whole
// tree, so directory loops on the medium cannot trap it.
type volume struct {
	r     io.ReaderAt
	size  int64
	label string
	root  extent
}

// openVolume finds the primary volume descriptor.
func openVolume(r io.ReaderAt, size int64) (*volume, error) {
	var d [sectorSize]byte
	for i := range int64(maxDescriptors) {
		at := systemArea + i*sectorSize
		if at+sectorSize > size {
			break
		}
		if err := readFull(r, d[:], at); err != nil {
			return nil, fmt.Errorf("read volume descriptor %d: %w", i, err)
		}
		if string(d[1:6]) != "CD001" {
			return nil, malformed("volume descriptors", "descriptor %d has no CD001 mark: not an ISO 9660 image", i)
		}
		switch d[0] {
		case 1:
			return primaryVolume(r, size, d[:])
		case 255:
			return nil, malformed("volume descriptors", "no primary volume descriptor before the terminator")
		}
	}
	return nil, malformed("volume descriptors", "no primary volume descriptor in %d bytes: not an ISO 9660 image", size)
}

func primaryVolume(r io.ReaderAt, size int64, d []byte) (*volume, error) {
	if bs := binary.LittleEndian.Uint16(d[128:]); bs != sectorSize {
		return nil, malformed("primary volume descriptor", "logical block size %d, want %d", bs, sectorSize)
	}
	if space := int64(binary.LittleEndian.Uint32(d[80:])) * sectorSize; space > size {
		return nil, malformed("primary volume descriptor", "volume of %d bytes in a file of %d bytes: the file is incomplete, fetch it again", space, size)
	}
	v := &volume{r: r, size: size, label: printable(strings.TrimRight(string(d[40:72]), " \x00"))}
	rec, err := parseRecord(d[156:190])
	if err != nil {
		return nil, malformed("primary volume descriptor", "root directory: %v", err)
	}
	if v.root, err = v.extentOf(rec, "root directory"); err != nil {
		return nil, err
	}
	if !v.root.dir {
		return nil, malformed("primary volume descriptor", "the root is not a directory")
	}
	return v, nil
}

// lookup finds a path ("a/b/c", a leading slash is allowed). A missing one is
// an error that wraps fs.ErrNotExist.
func (v *volume) lookup(path string) (extent, error) {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	if len(parts) > maxDepth {
		return extent{}, malformed("path "+printable(path), "deeper than %d directories", maxDepth)
	}
	at := v.root
	for _, want := range parts {
		if !at.dir || want == "" {
			return extent{}, &fs.PathError{Op: "find in ISO", Path: path, Err: fs.ErrNotExist}
		}
		entries, err := v.readDir(at)
		if err != nil {
			return extent{}, fmt.Errorf("find %s in ISO: %w", printable(path), err)
		}
		rec, ok := match(entries, want)
		if !ok {
			return extent{}, &fs.PathError{Op: "find in ISO", Path: path, Err: fs.ErrNotExist}
		}
		if at, err = v.extentOf(rec, printable(path)); err != nil {
			return extent{}, err
		}
	}
	return at, nil
}

// file is lookup for a regular file.
func (v *volume) file(path string) (extent, error) {
	e, err := v.lookup(path)
	if err == nil && e.dir {
		err = fmt.Errorf("find %s in ISO: is a directory", printable(path))
	}
	return e, err
}

// readFile reads a whole file of at most limit bytes.
func (v *volume) readFile(path string, limit int64) ([]byte, extent, error) {
	e, err := v.file(path)
	if err != nil {
		return nil, e, err
	}
	if e.size > limit {
		return nil, e, malformed(printable(path), "%d bytes, more than the %d this file may have", e.size, limit)
	}
	b := make([]byte, e.size)
	if err := readFull(v.r, b, e.off); err != nil {
		return nil, e, fmt.Errorf("read %s of ISO: %w", printable(path), err)
	}
	return b, e, nil
}

// record is one directory record, undigested.
type record struct {
	block, size uint32
	flags       byte
	iso, rock   string // the ISO 9660 name without version, the Rock Ridge name or ""
}

const (
	flagDir         = 0x02
	flagMultiExtent = 0x80
)

// match picks the record meant by a name: the Rock Ridge name first, then the
// ISO 9660 name, then the ISO 9660 name as cut to 8+3 characters (how
// igninfo.json becomes IGNINFO.JSO). Case never matters.
func match(entries []record, want string) (record, bool) {
	short := shortName(want)
	best, rank := record{}, 0
	for _, e := range entries {
		r := 0
		switch {
		case e.rock != "" && strings.EqualFold(e.rock, want):
			return e, true
		case strings.EqualFold(e.iso, want):
			r = 2
		case strings.EqualFold(e.iso, short):
			r = 1
		}
		if r > rank {
			best, rank = e, r
		}
	}
	return best, rank > 0
}

func shortName(name string) string {
	stem, ext, dotted := strings.Cut(name, ".")
	stem, ext = stem[:min(len(stem), 8)], ext[:min(len(ext), 3)]
	if !dotted {
		return stem
	}
	return stem + "." + ext
}

// readDir lists a directory without its "." and "..".
func (v *volume) readDir(dir extent) ([]record, error) {
	places, err := v.placesIn(dir)
	out := make([]record, 0, len(places))
	for _, p := range places {
		out = append(out, p.record)
	}
	return out, err
}

// placesIn is readDir with the place of each record.
func (v *volume) placesIn(dir extent) ([]place, error) {
	where := fmt.Sprintf("directory at byte %d", dir.off)
	if dir.size > maxDirBytes {
		return nil, malformed(where, "%d bytes, more than %d", dir.size, maxDirBytes)
	}
	b := make([]byte, dir.size)
	if err := readFull(v.r, b, dir.off); err != nil {
		return nil, fmt.Errorf("read %s: %w", where, err)
	}
	var out []place
	for at := 0; at < len(b); {
		if b[at] == 0 { // records do not cross sectors: the rest of this one is empty
			at = (at/sectorSize + 1) * sectorSize
			continue
		}
		length := int(b[at])
		rec, err := parseRecord(b[at:min(len(b), at+length)])
		if err == nil && at%sectorSize+length > sectorSize {
			err = errShortRecord
		}
		if err != nil {
			return nil, malformed(where, "record at byte %d: %v", at, err)
		}
		if rec.iso != "\x00" && rec.iso != "\x01" {
			out = append(out, place{record: rec, at: dir.off + int64(at), length: int64(length)})
		}
		at += length
	}
	return out, nil
}

// extentOf checks where a record points to.
func (v *volume) extentOf(rec record, where string) (extent, error) {
	e := extent{off: int64(rec.block) * sectorSize, size: int64(rec.size), dir: rec.flags&flagDir != 0}
	switch {
	case rec.flags&flagMultiExtent != 0:
		return e, malformed(where, "stored in several extents (4 GiB or more), which a live ISO never needs")
	case e.off+e.size > v.size:
		return e, malformed(where, "bytes %d to %d lie beyond the end of the image at %d", e.off, e.off+e.size, v.size)
	}
	return e, nil
}

var (
	errShortRecord = errors.New("cut off")
	errInterleaved = errors.New("interleaved or with extended attributes, which nobody writes")
)

// parseRecord reads one directory record (ECMA-119 section 9.1) from exactly
// its bytes.
func parseRecord(b []byte) (record, error) {
	if len(b) < 34 || int(b[0]) > len(b) || 33+int(b[32]) > len(b) {
		return record{}, errShortRecord
	}
	if b[1] != 0 || b[26] != 0 || b[27] != 0 {
		return record{}, errInterleaved
	}
	name := b[33 : 33+int(b[32])]
	rec := record{
		block: binary.LittleEndian.Uint32(b[2:]),
		size:  binary.LittleEndian.Uint32(b[10:]),
		flags: b[25],
		iso:   string(name),
	}
	if stem, _, ok := strings.Cut(rec.iso, ";"); ok {
		rec.iso = strings.TrimRight(stem, ".")
	}
	use := 33 + len(name) + (1+len(name))%2
	if use < len(b) {
		rec.rock = rockName(b[use:])
	}
	return rec, nil
}

// rockName joins the NM entries of a system use field (SUSP 1.12, RRIP 1.12
// section 4.1.4). Continuation areas are not followed: only names over about
// 150 bytes are put there, and those still have their ISO 9660 name.
func rockName(use []byte) string {
	var name bytes.Buffer
	for len(use) >= 4 {
		n := int(use[2])
		if n < 4 || n > len(use) {
			break
		}
		if use[0] == 'N' && use[1] == 'M' && n >= 5 {
			name.Write(use[5:n])
		}
		use = use[n:]
	}
	return name.String()
}

// readFull reads len(b) bytes at off or says why not.
func readFull(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%d of %d bytes at %d: %w", n, len(b), off, err)
}

// printable makes text from a medium fit for a message.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e {
			return '?'
		}
		return r
	}, s)
	return s[:min(len(s), 200)]
}
