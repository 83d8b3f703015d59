package iso

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"metalrise.dev/fleet"
)

// Image is one server's ISO: the base with a few bytes laid over it. It is
// immutable, safe for any number of readers at once, and holds only the bytes
// that differ from the base.
type Image struct {
	base    *Base
	content content
	etag    string
}

// Personalise makes one server's ISO. It reads nothing and writes nothing; cost
// is that of compressing the config. Errors are faults: IMG-002 around a
// *TooLargeError; IMG-001 around ErrBaseChanged; without a code of their own and
// never worth a retry, around a *KargError for each refused argument, a
// *NameError for each refused file, ErrNoKargsArea, ErrNoNetwork, ErrRootfsURL.
//
// An archive that is larger than the embed area is put behind the end of the ISO,
// and the directories then say that the area's file is there: boot loaders load
// it by its name, so a config of any size up to 16 MiB reaches the machine
// without any network. Where the area is the end of a larger file, that whole file
// is: its other bytes are still read from where they were. Where the area lies in
// the midst of a file, or in one that firmware starts by its place, that cannot be
// done, and such a config is a *TooLargeError.
func (b *Base) Personalise(p Personal) (*Image, error) {
	if err := b.source.unchanged(b.source.file); err != nil {
		return nil, fmt.Errorf("personalise: %w", err)
	}
	segs, err := b.lay(p)
	if err != nil {
		code := fleet.CodeUnexpected
		var tooLarge *TooLargeError
		if errors.As(err, &tooLarge) {
			code = fleet.CodeIgnitionTooLarge
		}
		return nil, fleet.NewFault(code, fleet.Invalid, err, "personalise %s", b.source.path)
	}
	im := &Image{base: b, content: b.content.with(segs)}
	im.etag = im.makeETag()
	return im, nil
}

// lay gives the bytes that make the base one server's own.
func (b *Base) lay(p Personal) ([]segment, error) {
	members, err1 := b.members(p)
	kargs, err2 := b.kargs(p)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	var segs []segment
	if kargs != nil {
		for i, a := range b.layout.kargs {
			data, err := a.of(kargs[i])
			if err != nil {
				return nil, err
			}
			segs = append(segs, segment{off: a.off, size: int64(a.size), data: data})
		}
	}
	if p.Start == Present && !p.archived() {
		return segs, nil
	}
	more, err := b.embed(members)
	return append(segs, more...), err
}

// embed puts an archive into the embed area or, if it is too large, behind the
// end of the ISO.
func (b *Base) embed(members []member) ([]segment, error) {
	area := b.layout.ignition
	if len(members) == 0 {
		return []segment{{off: area.off, size: area.size}}, nil
	}
	data, err := b.packer.pack(members, area.size)
	if err != nil {
		return nil, err
	}
	if int64(len(data)) <= area.size {
		return []segment{{off: area.off, size: area.size, data: data}}, nil
	}
	if len(b.layout.grow.records) == 0 || int64(len(data)) > maxEmbedBytes {
		raw := 0
		for _, m := range members {
			raw += len(m.data)
		}
		return nil, &TooLargeError{Part: PartIgnition, Raw: int64(raw), Need: int64(len(data)), Have: area.size, Why: b.layout.grow.why}
	}
	return b.layout.grow.segments(data), nil
}

// makeETag hashes where every byte comes from.
func (im *Image) makeETag() string {
	h := sha256.New()
	fmt.Fprintf(h, "metalrise iso 2\n%s\n", im.base.identity())
	for _, p := range im.content.pieces {
		fmt.Fprintf(h, "%d %d %d %d\n", p.off, p.size, p.from, len(p.data))
		h.Write(p.data)
	}
	return `"` + hex.EncodeToString(h.Sum(nil)[:16]) + `"`
}

// ETag is a strong HTTP entity tag: it changes with any byte of the image. It
// gives away nothing of the content.
func (im *Image) ETag() string { return im.etag }

// Size is the size of the image in bytes.
func (im *Image) Size() int64 { return im.content.size }

// Held is how many bytes of memory the image keeps, beside those of its base.
func (im *Image) Held() int64 { return im.content.held() }

// ReadAt reads from the image as io.ReaderAt promises.
func (im *Image) ReadAt(p []byte, off int64) (int, error) {
	return im.content.readAt(im.base.source.file, p, off)
}

// Open gives a reader of the image. It fails with a fault around ErrBaseChanged
// when the base file was replaced or written to.
func (im *Image) Open() (*Reader, error) {
	f, err := os.Open(im.base.source.path)
	if err != nil {
		return nil, fleet.NewFault(fleet.CodeImageMissing, fleet.Invalid, err, "open ISO")
	}
	if err := im.base.source.unchanged(f); err != nil {
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
