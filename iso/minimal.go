package iso

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"

	"metalrise.dev/fleet"
)

const (
	rootfsKarg = "coreos.live.rootfs_url="
	labelKarg  = "coreos.liveiso="
)

// Minimal gives the base without its root file system, for BMCs with slow links:
// the live system fetches it from Personal.RootfsURL instead. Nothing is copied;
// the result reads the same file, and Close closes it for both.
//
// What is taken out is one run of sectors; what stood behind it moves forward,
// with all that names those sectors. The kernel argument coreos.liveiso goes, also
// from the defaults. A CoreOS initrd carries the checksum of the root file system
// that belongs to it (/etc/coreos-live-want-rootfs) and refuses any other.
//
// Errors wrap ErrNoMinimal, or say what is malformed.
func (b *Base) Minimal() (*Base, error) {
	if b.reduced {
		return b, nil
	}
	v, err := openVolume(&blocks{r: b, size: b.Size()}, b.Size())
	if err == nil {
		var m *Base
		if m, err = b.reduce(v); err == nil {
			return m, nil
		}
	}
	return nil, fleet.NewFault(fleet.CodeUnexpected, fleet.Invalid, err, "minimal ISO of %s", b.source.path)
}

func (b *Base) reduce(v *volume) (*Base, error) {
	root, err := v.file(RootfsPath)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoMinimal, err)
	}
	a, err := survey(v)
	if err != nil {
		return nil, err
	}
	c := cutter{v: v, lo: uint32(root.off / sectorSize), hi: uint32(root.off/sectorSize + sectors(root.size)), edits: map[int64][]byte{}}
	if c.hi == c.lo || c.lo < a.first || a.boot >= int64(c.lo) {
		return nil, fmt.Errorf("%w: its root file system lies before its directories, or is empty", ErrNoMinimal)
	}
	if len(b.layout.kargs) == 0 || b.layout.standard == "" {
		return nil, fmt.Errorf("%w: %w", ErrNoMinimal, ErrNoKargsArea)
	}
	for _, step := range []func() error{
		func() error { return c.descriptors(a) },
		func() error { return c.boot(a) },
		func() error { return c.records(a) },
		func() error { return c.defaults() },
		func() error { return c.kargs(b.layout) },
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	m := &Base{source: b.source, packer: b.packer, reduced: true}
	lo, hi := int64(c.lo)*sectorSize, int64(c.hi)*sectorSize
	segs := findHybrid(v).without(lo, hi).resize(b.Size() - (hi - lo))
	for i := range segs {
		if segs[i].off >= lo { // a place in the result; the cut comes after this
			segs[i].off += hi - lo
		}
	}
	if len(segs) > 0 && len(c.edits[0]) > 0 {
		return nil, fmt.Errorf("%w: its boot record overlaps other changes", ErrNoMinimal)
	}
	for at, data := range c.edits {
		segs = append(segs, segment{off: at, size: int64(len(data)), data: data})
	}
	m.content = b.content.with(segs).without(lo, hi)
	if err := m.parse(); err != nil {
		return nil, fmt.Errorf("read the result: %w", err)
	}
	return m, nil
}

// cutter collects the changes that taking out the sectors lo to hi asks for, by
// whole sectors of the ISO as it was.
type cutter struct {
	v      *volume
	lo, hi uint32
	edits  map[int64][]byte // sectors by their offset in bytes
}

// sector gives the sector that holds an offset, to be changed in place, and
// where the offset is in it.
func (c *cutter) sector(at int64) ([]byte, int64, error) {
	start := at - at%sectorSize
	if c.edits[start] == nil {
		b := make([]byte, sectorSize)
		if err := readFull(c.v.r, b, start); err != nil {
			return nil, 0, err
		}
		c.edits[start] = b
	}
	return c.edits[start], at - start, nil
}

// moved gives the new place of a sector.
func (c *cutter) moved(block uint32) uint32 {
	if block >= c.hi {
		return block - (c.hi - c.lo)
	}
	return block
}

func (c *cutter) descriptors(a atlas) error {
	for _, at := range a.spaces {
		b, i, err := c.sector(at)
		if err != nil {
			return err
		}
		if n := binary.LittleEndian.Uint32(b[i:]); n >= c.hi {
			putBoth(b[i:], c.moved(n))
		}
	}
	return nil
}

// boot moves the boot images. One for BIOS tells its loader where it is by a
// table in itself (mkisofs -boot-info-table) and in the boot record.
func (c *cutter) boot(a atlas) error {
	for _, image := range bootImages(c.v, a.boot) {
		if image.block < c.lo {
			continue
		}
		if image.block < c.hi || image.platform == platformBIOS {
			return fmt.Errorf("%w: its boot image for %s lies behind the root file system", ErrNoMinimal, firmwares([]bootImage{image}))
		}
		b, i, err := c.sector(image.at)
		if err != nil {
			return err
		}
		binary.LittleEndian.PutUint32(b[i+entryBlock:], c.moved(image.block))
	}
	return nil
}

// records moves the files, and takes the root file system out of its directories.
func (c *cutter) records(a atlas) error {
	var gone []place
	for _, p := range a.places {
		switch {
		case p.block < c.lo || p.size == 0:
		case p.block == c.lo:
			gone = append(gone, p)
		case p.block < c.hi:
			return malformed("directories", "%s lies within the root file system", printable(p.iso))
		default:
			b, i, err := c.sector(p.at)
			if err != nil {
				return err
			}
			putBoth(b[i+recordBlock:], c.moved(p.block))
		}
	}
	// From the last one on: taking one out moves those behind it in its sector.
	for i := len(gone) - 1; i >= 0; i-- {
		b, at, err := c.sector(gone[i].at)
		if err != nil {
			return err
		}
		n := copy(b[at:], b[at+gone[i].length:])
		clear(b[at+int64(n):])
	}
	return nil
}

// defaults takes the label out of the default kernel arguments in kargs.json, which keeps its
// length: the gap is filled by spaces, which JSON allows.
func (c *cutter) defaults() error {
	text, e, err := c.v.readFile(kargsInfoPath, maxInfoBytes)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoMinimal, err)
	}
	var info map[string]json.RawMessage
	var old string
	if err := json.Unmarshal(text, &info); err != nil {
		return malformed("/"+kargsInfoPath, "%v", err)
	}
	if err := json.Unmarshal(info["default"], &old); err != nil {
		return malformed("/"+kargsInfoPath, "default: %v", err)
	}
	if info["default"], err = json.Marshal(strings.Join(withoutLabel(old), " ")); err != nil {
		return err
	}
	out, err := json.Marshal(info)
	if err != nil {
		return err
	}
	if len(out) > len(text) {
		return fmt.Errorf("%w: no room in its /%s", ErrNoMinimal, kargsInfoPath)
	}
	return c.write(e.off, append(out, bytes.Repeat([]byte(" "), len(text)-len(out))...))
}

// kargs takes the label out of the kernel argument areas.
func (c *cutter) kargs(l layout) error {
	for _, a := range l.kargs {
		data, err := a.of(withoutLabel(a.current))
		if err != nil {
			return err
		}
		if err := c.write(a.off, data); err != nil {
			return err
		}
	}
	return nil
}

// write changes bytes at any place.
func (c *cutter) write(at int64, data []byte) error {
	for len(data) > 0 {
		b, i, err := c.sector(at)
		if err != nil {
			return err
		}
		n := copy(b[i:], data)
		at, data = at+int64(n), data[n:]
	}
	return nil
}

func withoutLabel(kargs string) []string {
	var out []string
	for _, w := range strings.Fields(kargs) {
		if !strings.HasPrefix(w, labelKarg) {
			out = append(out, w)
		}
	}
	return out
}
