package iso

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/ulikunitz/xz/lzma"
)

const (
	configName = "config.ign"
	// maxConfig bounds a config taken from an embed area. Ignition itself sets
	// no limit; an area of 256 KiB of gzip cannot sensibly hold more.
	maxConfig = 16 << 20
)

// packer makes embed area archives; it keeps compressors between uses, each
// about a MiB.
type packer struct{ fast, small sync.Pool }

// pack makes a gzip-compressed archive. Speed comes first: only what does not
// fit into have bytes is compressed again, harder. What does not fit even then is
// given all the same; it is the caller who knows of other places.
func (p *packer) pack(members []member, have int64) ([]byte, error) {
	raw := archive(members)
	b, err := deflate(&p.fast, gzip.BestSpeed, raw)
	if err == nil && int64(len(b)) > have {
		b, err = deflate(&p.small, gzip.BestCompression, raw)
	}
	if err != nil {
		return nil, fmt.Errorf("compress the embedded archive: %w", err)
	}
	return b, nil
}

func deflate(pool *sync.Pool, level int, raw []byte) ([]byte, error) {
	out := bytes.NewBuffer(make([]byte, 0, len(raw)/3+64))
	z, ok := pool.Get().(*gzip.Writer)
	if ok {
		z.Reset(out)
	} else {
		var err error
		if z, err = gzip.NewWriterLevel(out, level); err != nil {
			return nil, err
		}
	}
	defer pool.Put(z)
	if _, err := z.Write(raw); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// unpack reads the archive of an embed area, whichever of the forms that
// coreos-installer has written over time it is in: gzip, xz, or plain cpio. An
// area of zeros has none.
func unpack(area io.Reader) ([]member, error) {
	var magic [6]byte
	n, err := io.ReadFull(area, magic[:])
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, err
	}
	in := io.MultiReader(bytes.NewReader(magic[:n]), area)
	switch {
	case bytes.Count(magic[:], []byte{0}) == len(magic):
		return nil, nil
	case magic[0] == 0x1f && magic[1] == 0x8b:
		z, err := gzip.NewReader(in)
		if err != nil {
			return nil, err
		}
		z.Multistream(false) // zeros follow
		in = z
	case string(magic[:]) == "\xfd7zXZ\x00":
		if in, err = xzBlock(in); err != nil {
			return nil, err
		}
	}
	return readMembers(in, maxConfig)
}

// xzBlock reads the first block of an xz stream, which is all that a
// coreos-installer area has. The dictionary is bounded by what a config may
// have, whatever the header asks for; the block's checksum is left unread.
// Layout: xz file format 1.2.1, sections 2.1.1 and 3.1.
func xzBlock(r io.Reader) (io.Reader, error) {
	var head [12 + 1]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, fmt.Errorf("xz header: %w", err)
	}
	if head[12] == 0 {
		return nil, errors.New("xz: no block")
	}
	rest := make([]byte, (int(head[12])+1)*4-1) // less the size byte; ends in a CRC32
	if _, err := io.ReadFull(r, rest); err != nil {
		return nil, fmt.Errorf("xz block header: %w", err)
	}
	flags, fields := rest[0], rest[1:len(rest)-4]
	if flags&0x3f != 0 { // low bits: number of filters less one, then reserved
		return nil, fmt.Errorf("xz block flags 0x%02x: only LZMA2 alone is understood", flags)
	}
	for _, has := range []byte{0x40, 0x80} { // compressed size, uncompressed size
		if flags&has != 0 {
			_, n := binary.Uvarint(fields)
			if n <= 0 {
				return nil, errors.New("xz block header: bad size")
			}
			fields = fields[n:]
		}
	}
	if len(fields) < 3 || fields[0] != 0x21 || fields[1] != 1 {
		return nil, errors.New("xz block: only LZMA2 alone is understood")
	}
	dict, err := lzma.DecodeDictCap(fields[2])
	if err != nil {
		return nil, fmt.Errorf("xz dictionary: %w", err)
	}
	return lzma.Reader2Config{DictCap: int(max(min(dict, maxConfig), lzma.MinDictCap))}.NewReader2(r)
}
