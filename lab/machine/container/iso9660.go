package container

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"path"
	"strings"
)

const (
	isoSector = 2048
	// A directory of a boot medium has a few dozen entries of about 100 bytes.
	isoMaxDir = 1 << 20
)

// isoEntry is one file or directory of an ISO 9660 image: where its bytes lie
// in the image file.
type isoEntry struct {
	name   string
	offset int64 // bytes from the start of the image
	size   int64 // bytes
	dir    bool
}

// isoImage finds files in an ISO 9660 image (ECMA-119) without mounting it:
// the machine's host needs no iso9660 in its kernel, and what is looked up is
// six small files.
type isoImage struct {
	r     io.ReaderAt
	root  isoEntry
	Label string // volume identifier
}

func openISO(r io.ReaderAt) (*isoImage, error) {
	d := make([]byte, isoSector)
	if _, err := r.ReadAt(d, 16*isoSector); err != nil {
		return nil, fmt.Errorf("iso: read volume descriptor: %w", err)
	}
	if d[0] != 1 || string(d[1:6]) != "CD001" {
		return nil, fmt.Errorf("iso: no primary volume descriptor in sector 16")
	}
	root, _, err := parseISORecord(d[156:190])
	if err != nil {
		return nil, fmt.Errorf("iso: root directory: %w", err)
	}
	return &isoImage{r: r, root: root, Label: strings.TrimRight(string(d[40:72]), " \x00")}, nil
}

// parseISORecord reads one directory record (ECMA-119 section 9.1), preferring
// its Rock Ridge name; length is the record's own length.
func parseISORecord(b []byte) (e isoEntry, length int, err error) {
	length = int(b[0])
	if length < 34 || length > len(b) || 33+int(b[32]) > length {
		return e, 0, fmt.Errorf("directory record of %d bytes is damaged", length)
	}
	e.offset = int64(binary.LittleEndian.Uint32(b[2:])) * isoSector
	e.size = int64(binary.LittleEndian.Uint32(b[10:]))
	e.dir = b[25]&2 != 0
	nameLen := int(b[32])
	e.name, _, _ = strings.Cut(string(b[33:33+nameLen]), ";")
	e.name = strings.TrimRight(e.name, ".")
	susp := 33 + nameLen
	susp += susp % 2 // the name is padded so that what follows starts evenly
	if susp < length {
		if n := rockRidgeName(b[susp:length]); n != "" {
			e.name = n
		}
	}
	return e, length, nil
}

func rockRidgeName(area []byte) string {
	var name []byte
	for len(area) >= 5 {
		n := int(area[2])
		if n < 5 || n > len(area) {
			break
		}
		if area[0] == 'N' && area[1] == 'M' && area[4]&6 == 0 {
			name = append(name, area[5:n]...)
		}
		area = area[n:]
	}
	return string(name)
}

func (i *isoImage) list(dir isoEntry) ([]isoEntry, error) {
	if !dir.dir || dir.size > isoMaxDir {
		return nil, fmt.Errorf("iso: %q is no directory of at most %d bytes", dir.name, isoMaxDir)
	}
	b := make([]byte, dir.size)
	if _, err := i.r.ReadAt(b, dir.offset); err != nil && err != io.EOF {
		return nil, fmt.Errorf("iso: read directory %q: %w", dir.name, err)
	}
	var all []isoEntry
	for o := 0; o < len(b); {
		if b[o] == 0 { // records never cross sectors: the rest of this one is empty
			o = (o/isoSector + 1) * isoSector
			continue
		}
		e, n, err := parseISORecord(b[o:])
		if err != nil {
			return nil, fmt.Errorf("iso: directory %q: %w", dir.name, err)
		}
		o += n
		if e.name != "\x00" && e.name != "\x01" && e.name != "" {
			all = append(all, e)
		}
	}
	return all, nil
}

// find looks a path up, not minding case. "*" as a component stands for the
// first directory in which the rest of the path exists.
func (i *isoImage) find(p string) (isoEntry, error) {
	e, err := i.walk(i.root, strings.Split(strings.Trim(path.Clean(p), "/"), "/"))
	if err != nil {
		return isoEntry{}, fmt.Errorf("iso: find %s: %w", p, err)
	}
	return e, nil
}

func (i *isoImage) walk(at isoEntry, rest []string) (isoEntry, error) {
	if len(rest) == 0 {
		return at, nil
	}
	entries, err := i.list(at)
	if err != nil {
		return isoEntry{}, err
	}
	for _, e := range entries {
		if !strings.EqualFold(e.name, rest[0]) && (rest[0] != "*" || !e.dir) {
			continue
		}
		found, err := i.walk(e, rest[1:])
		if err == nil || rest[0] != "*" {
			return found, err
		}
	}
	return isoEntry{}, fmt.Errorf("%q is not there", rest[0])
}

// read returns a whole file of at most limit bytes.
func (i *isoImage) read(p string, limit int64) ([]byte, error) {
	e, err := i.find(p)
	if err != nil {
		return nil, err
	}
	if e.dir || e.size > limit {
		return nil, fmt.Errorf("iso: %s has %d bytes, more than the %d it may have", p, e.size, limit)
	}
	var b bytes.Buffer
	if _, err := io.Copy(&b, io.NewSectionReader(i.r, e.offset, e.size)); err != nil {
		return nil, fmt.Errorf("iso: read %s: %w", p, err)
	}
	return b.Bytes(), nil
}
