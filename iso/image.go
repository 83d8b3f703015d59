package iso

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"sort"

	"metalrise.dev/fleet"
)

// Personal is what makes an ISO one server's own.
type Personal struct {
	// Ignition is the config for the live system. It may hold secrets: it is
	// kept in memory only and never printed. Empty leaves the base's area as it is.
	Ignition []byte
	// AppendKargs are kernel arguments put after those of the base, each one
	// word that CheckKarg accepts.
	AppendKargs []string
}

// String gives sizes, not content.
func (p Personal) String() string {
	return fmt.Sprintf("personal{ignition: %d bytes, kargs: %d}", len(p.Ignition), len(p.AppendKargs))
}

// GoString keeps %#v from printing content.
func (p Personal) GoString() string { return p.String() }

// Image is one server's ISO: the base with a few segments laid over it. It is
// immutable, safe for any number of readers at once, and holds only the bytes
// that differ from the base.
type Image struct {
	base *Base
	segs []segment // by offset, not overlapping
	etag string
}

// segment replaces size bytes of the base at off: by data, then by zeros.
type segment struct {
	off, size int64
	data      []byte
}

func (s segment) end() int64 { return s.off + s.size }

// Personalise makes one server's ISO. It reads nothing and writes nothing; cost
// is that of compressing the config. Errors are faults: IMG-002 around a
// *TooLargeError; IMG-001 around ErrBaseChanged; without a code of their own and
// never worth a retry, around a *KargError for each refused argument, or
// ErrNoKargsArea.
func (b *Base) Personalise(p Personal) (*Image, error) {
	if err := b.unchanged(b.file); err != nil {
		return nil, fmt.Errorf("personalise: %w", err)
	}
	im := &Image{base: b}
	if err := im.lay(p); err != nil {
		code := fleet.CodeUnexpected
		var tooLarge *TooLargeError
		if errors.As(err, &tooLarge) {
			code = fleet.CodeIgnitionTooLarge
		}
		return nil, fleet.NewFault(code, fleet.Invalid, err, "personalise %s", b.path)
	}
	sort.Slice(im.segs, func(i, j int) bool { return im.segs[i].off < im.segs[j].off })
	im.etag = im.makeETag()
	return im, nil
}

// lay puts one server's bytes over the base.
func (im *Image) lay(p Personal) error {
	b := im.base
	var wrong []error
	for _, k := range p.AppendKargs {
		if err := CheckKarg(k); err != nil {
			wrong = append(wrong, err)
		}
	}
	if len(p.AppendKargs) > 0 && len(b.layout.kargs) == 0 {
		wrong = append(wrong, ErrNoKargsArea)
	}
	if len(wrong) == 0 && len(p.AppendKargs) > 0 {
		for _, a := range b.layout.kargs {
			data, err := a.with(p.AppendKargs)
			if err != nil {
				wrong = append(wrong, err)
				break // all areas of one ISO say the same
			}
			im.segs = append(im.segs, segment{off: a.off, size: int64(a.size), data: data})
		}
	}
	if len(p.Ignition) > 0 {
		area := b.layout.ignition
		data, err := b.packer.pack(p.Ignition, area.size)
		if err != nil {
			wrong = append(wrong, err)
		}
		im.segs = append(im.segs, segment{off: area.off, size: area.size, data: data})
	}
	return errors.Join(wrong...)
}

func (im *Image) makeETag() string {
	h := sha256.New()
	fmt.Fprintf(h, "metalrise iso 1\n%s\n", im.base.identity())
	for _, s := range im.segs {
		fmt.Fprintf(h, "%d %d %d\n", s.off, s.size, len(s.data))
		h.Write(s.data)
	}
	return `"` + hex.EncodeToString(h.Sum(nil)[:16]) + `"`
}

// ETag is a strong HTTP entity tag: it changes with any byte of the image. It
// gives away nothing of the content.
func (im *Image) ETag() string { return im.etag }

// Size is the size of the image in bytes.
func (im *Image) Size() int64 { return im.base.Size() }

// ReadAt reads from the image as io.ReaderAt promises.
func (im *Image) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("read ISO: negative offset")
	}
	n, err := im.base.file.ReadAt(p, off)
	p = p[:n]
	for _, s := range im.segs {
		lo, hi := max(off, s.off), min(off+int64(n), s.end())
		if lo < hi {
			s.copyTo(p[lo-off:hi-off], lo-s.off)
		}
	}
	return n, err
}

// copyTo fills p with the segment's bytes from at on.
func (s segment) copyTo(p []byte, at int64) {
	n := 0
	if at < int64(len(s.data)) {
		n = copy(p, s.data[at:])
	}
	clear(p[n:])
}

// Open gives a reader of the image. It fails with a fault around ErrBaseChanged
// when the base file was replaced or written to.
func (im *Image) Open() (*Reader, error) {
	f, err := os.Open(im.base.path)
	if err != nil {
		return nil, fleet.NewFault(fleet.CodeImageMissing, fleet.Invalid, err, "open ISO")
	}
	if err := im.base.unchanged(f); err != nil {
		f.Close()
		return nil, err
	}
	return &Reader{im: im, file: f}, nil
}

// WriteRange writes n bytes of the image from off on to w, by a Reader opened for
// it. To write many ranges to one receiver, keep a Reader.
func (im *Image) WriteRange(w io.Writer, off, n int64) (int64, error) {
	r, err := im.Open()
	if err != nil {
		return 0, err
	}
	defer r.Close()
	return r.WriteRange(w, off, n)
}
