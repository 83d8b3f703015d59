package iso

import (
	"errors"
	"io"
	"slices"
	"sort"
)

// content says where each byte of an image comes from: from the base file, or
// from memory. Its pieces lie end to end and cover the whole image. It is never
// changed after it was made.
type content struct {
	size   int64
	pieces []piece
}

// piece is one run of bytes of an image.
type piece struct {
	off, size int64
	from      int64  // where the bytes are in the base file; fromMemory if they are not
	data      []byte // bytes in memory; zeros follow up to size
}

const fromMemory = -1

func (p piece) end() int64 { return p.off + p.size }

// cut gives the part of a piece between two offsets of the image; its size is 0
// if there is none.
func (p piece) cut(lo, hi int64) piece {
	lo, hi = max(lo, p.off), min(hi, p.end())
	if lo >= hi {
		return piece{off: lo, from: fromMemory}
	}
	out := piece{off: lo, size: hi - lo, from: fromMemory}
	if p.from != fromMemory {
		out.from = p.from + lo - p.off
		return out
	}
	have := int64(len(p.data))
	out.data = p.data[min(have, lo-p.off):min(have, hi-p.off)]
	return out
}

// plain is the content of a whole file.
func plain(size int64) content {
	return content{size: size, pieces: []piece{{size: size}}}
}

// segment replaces size bytes of an image at off: by data, then by zeros, or by
// what the image has at from.
type segment struct {
	off, size int64
	data      []byte
	from      int64 // 0: data
}

func (s segment) end() int64 { return s.off + s.size }

// with lays segments over a content. They must not overlap each other; they may
// lie behind the end, which then moves, with zeros in any gap.
func (c content) with(segs []segment) content {
	segs = slices.Clone(segs)
	sort.Slice(segs, func(i, j int) bool { return segs[i].off < segs[j].off })
	out := content{size: c.size, pieces: make([]piece, 0, len(c.pieces)+2*len(segs))}
	at := int64(0)
	for _, s := range segs {
		out.copy(c, at, s.off)
		if s.from != 0 {
			first := len(out.pieces)
			out.copy(c, s.from, s.from+s.size)
			for i := first; i < len(out.pieces); i++ {
				out.pieces[i].off += s.off - s.from
			}
		} else {
			out.pieces = append(out.pieces, piece{off: s.off, size: s.size, from: fromMemory, data: s.data})
		}
		at = s.end()
	}
	out.copy(c, at, c.size)
	out.size = max(c.size, at)
	return out
}

// copy appends what lies between two offsets of another content.
func (c *content) copy(from content, lo, hi int64) {
	for _, p := range from.pieces {
		if q := p.cut(lo, hi); q.size > 0 {
			c.pieces = append(c.pieces, q)
		}
	}
	if gap := max(lo, from.size); gap < hi {
		c.pieces = append(c.pieces, piece{off: gap, size: hi - gap, from: fromMemory})
	}
}

// without takes a run of bytes out; what follows moves forward.
func (c content) without(lo, hi int64) content {
	out := content{size: c.size - (hi - lo)}
	out.copy(c, 0, lo)
	first := len(out.pieces)
	out.copy(c, hi, c.size)
	for i := first; i < len(out.pieces); i++ {
		out.pieces[i].off -= hi - lo
	}
	return out
}

// find gives the index of the piece that holds an offset.
func (c content) find(off int64) int {
	return sort.Search(len(c.pieces), func(i int) bool { return c.pieces[i].end() > off })
}

// held counts the bytes kept in memory.
func (c content) held() int64 {
	var n int64
	for _, p := range c.pieces {
		n += int64(len(p.data))
	}
	return n
}

var errNegative = errors.New("read ISO: negative offset")

// readAt is io.ReaderAt over a content of a file.
func (c content) readAt(file io.ReaderAt, b []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errNegative
	}
	done := 0
	for i := c.find(off); i < len(c.pieces) && done < len(b); i++ {
		p := c.pieces[i].cut(off+int64(done), off+int64(len(b)))
		into := b[done : done+int(p.size)]
		if p.from != fromMemory {
			n, err := file.ReadAt(into, p.from)
			if n < len(into) {
				if err == nil || errors.Is(err, io.EOF) {
					err = io.ErrUnexpectedEOF // the file became shorter
				}
				return done + n, err
			}
		} else {
			clear(into[copy(into, p.data):])
		}
		done += len(into)
	}
	if done < len(b) {
		return done, io.EOF
	}
	return done, nil
}
