// Package diskimage makes small disk images for tests and benchmarks. Nothing
// boots from them; it is never used on a real machine.
package diskimage

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// Image makes a disk image with a GPT whose second partition is named "boot"
// and holds the given bytes. The first partition holds pad bytes that do not
// compress. It is what the agent accepts, but nothing boots from it.
func Image(boot []byte, pad int) []byte {
	const sector, first = 512, 2048
	padBlocks := int64(pad+sector-1) / sector
	bootBlocks := max(int64(len(boot)+sector-1)/sector, 8)
	total := first + padBlocks + bootBlocks + 33
	img := make([]byte, total*sector)
	le := binary.LittleEndian
	fill := img[first*sector : first*sector+pad]
	for x, i := uint64(88172645463325252), 0; i+8 <= len(fill); i += 8 { // xorshift: always the same bytes
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		le.PutUint64(fill[i:], x)
	}
	copy(img[(first+padBlocks)*sector:], boot)
	entries := make([]byte, 128*128)
	entry := func(i int, name string, from, to int64) {
		e := entries[i*128:]
		copy(e, "metalrise-type-0metalrise-part-"+fmt.Sprint(i))
		le.PutUint64(e[32:], uint64(from))
		le.PutUint64(e[40:], uint64(to))
		for k, r := range name {
			le.PutUint16(e[56+2*k:], uint16(r))
		}
	}
	n := 0
	if padBlocks > 0 {
		entry(n, "root", first, first+padBlocks-1)
		n++
	}
	entry(n, "boot", first+padBlocks, first+padBlocks+bootBlocks-1)
	header := func(my, other, at int64) []byte {
		h := make([]byte, 92)
		copy(h, "EFI PART")
		le.PutUint32(h[8:], 0x10000)
		le.PutUint32(h[12:], 92)
		le.PutUint64(h[24:], uint64(my))
		le.PutUint64(h[32:], uint64(other))
		le.PutUint64(h[40:], 34)
		le.PutUint64(h[48:], uint64(total-34))
		copy(h[56:], "metalrise-disk-0")
		le.PutUint64(h[72:], uint64(at))
		le.PutUint32(h[80:], 128)
		le.PutUint32(h[84:], 128)
		le.PutUint32(h[88:], crc32.ChecksumIEEE(entries))
		le.PutUint32(h[16:], crc32.ChecksumIEEE(h))
		return h
	}
	img[450], img[510], img[511] = 0xee, 0x55, 0xaa
	le.PutUint32(img[454:], 1)
	le.PutUint32(img[458:], uint32(total-1))
	copy(img[sector:], header(1, total-1, 2))
	copy(img[2*sector:], entries)
	copy(img[(total-33)*sector:], entries)
	copy(img[(total-1)*sector:], header(total-1, 1, total-33))
	return img
}

// Pack compresses an image in one of the formats of callhome.Image.
func Pack(format string, raw []byte) ([]byte, error) {
	var out bytes.Buffer
	var w interface {
		Write([]byte) (int, error)
		Close() error
	}
	var err error
	switch format {
	case "raw":
		return raw, nil
	case "raw.zst":
		// A small window, because each of a thousand agents has to keep it.
		w, err = zstd.NewWriter(&out, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(256<<10))
	case "raw.gz":
		w = gzip.NewWriter(&out)
	case "raw.xz":
		w, err = xz.NewWriter(&out)
	default:
		err = fmt.Errorf("format %q: unknown", format)
	}
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(raw); err != nil {
		return nil, err
	}
	err = w.Close()
	return out.Bytes(), err
}
