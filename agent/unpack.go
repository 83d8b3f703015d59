package agent

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"metalrise.dev/fleet"
)

// maxWindow bounds what a decompressor may keep in memory: twice the window of
// `zstd --long=26` and of `xz -9`, which are 64 MiB.
const maxWindow = 128 << 20

// unpack gives the uncompressed bytes of an image.
func unpack(format string, r io.Reader) (io.ReadCloser, error) {
	switch format {
	case "raw":
		return io.NopCloser(r), nil
	case "raw.zst":
		d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, fmt.Errorf("decompress zstd: %w", err)
		}
		return d.IOReadCloser(), nil
	case "raw.gz":
		d, err := gzip.NewReader(r)
		if err != nil {
			return nil, fmt.Errorf("decompress gzip: %w", err)
		}
		return d, nil
	case "raw.xz":
		return unpackXZ(r)
	}
	return nil, fleet.NewFault(fleet.CodeWriteFailed, fleet.Invalid, nil, "image format %.20q: want raw, raw.zst, raw.gz or raw.xz", format)
}

func unpackXZ(r io.Reader) (io.ReadCloser, error) {
	b := bufio.NewReaderSize(r, 64<<10)
	// The decoder allocates what the first block header asks for, up to 4 GiB.
	// Stream header 12 bytes, block header at most 1024 (xz file format 1.2, section 3.1).
	head, err := b.Peek(12 + 1024)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("decompress xz: %w", err)
	}
	if size, ok := xzDictionary(head); ok && size > maxWindow {
		return nil, fleet.NewFault(fleet.CodeImageMismatch, fleet.Invalid, nil, "decompress xz: dictionary of %d bytes, at most %d", size, int64(maxWindow))
	}
	d, err := xz.NewReader(b)
	if err != nil {
		return nil, fmt.Errorf("decompress xz: %w", err)
	}
	return io.NopCloser(d), nil
}

// xzDictionary reads the dictionary size of an LZMA2 filter that stands alone,
// as every xz file made by the usual tools has it.
func xzDictionary(head []byte) (int64, bool) {
	if len(head) < 12+8 || head[12] == 0 {
		return 0, false
	}
	block := head[12:min(len(head), 12+(int(head[12])+1)*4)]
	if len(block) < 8 {
		return 0, false
	}
	flags, p := block[1], 2
	skip := 0
	for _, bit := range []byte{0x40, 0x80} { // compressed and uncompressed size, as variable-length integers
		if flags&bit != 0 {
			skip++
		}
	}
	for ; skip > 0; skip-- {
		for p < len(block) && block[p]&0x80 != 0 {
			p++
		}
		p++
	}
	if p+2 >= len(block) || block[p] != 0x21 || block[p+1] != 1 { // LZMA2, one byte of properties
		return 0, false
	}
	bits := block[p+2]
	if bits > 40 {
		return 1 << 40, true
	}
	return int64(2|(bits&1)) << (bits/2 + 11), true
}
