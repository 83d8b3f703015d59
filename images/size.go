package images

import (
	"errors"
	"io"

	"github.com/klauspost/compress/zstd"
)

// unpackedSize tells how large a disk image is when unpacked, without unpacking
// it: 0 when the file does not say. The plan compares disks with it and progress
// is shown against it; whether the right bytes were written is decided by their
// digest.
func (l *loader) unpackedSize(local string, f Format, size int64) int64 {
	switch f {
	case FormatRaw:
		return size
	case FormatRawZst:
		file, err := l.root.Open(local)
		if err != nil {
			return 0
		}
		defer file.Close()
		n, err := zstdSize(file)
		if err != nil {
			return 0
		}
		return n
	}
	return 0 // gzip keeps it modulo 4 GiB, which says nothing; xz keeps it in an index of its own
}

var errUnknownSize = errors.New("a frame does not say its size")

// zstdSize adds up the content sizes of all frames (RFC 8878, 3.1). Blocks are
// stepped over by their headers: some 8 bytes are read for each 128 KiB.
func zstdSize(r io.ReadSeeker) (int64, error) {
	var total int64
	for frames := 0; frames < 1<<20; frames++ {
		head := make([]byte, zstd.HeaderMaxSize)
		n, err := io.ReadFull(r, head)
		if n == 0 && errors.Is(err, io.EOF) {
			return total, nil
		}
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			return 0, err
		}
		var h zstd.Header
		if err := h.Decode(head[:n]); err != nil {
			return 0, err
		}
		if h.Skippable {
			if _, err := r.Seek(int64(h.HeaderSize)+int64(h.SkippableSize)-int64(n), io.SeekCurrent); err != nil {
				return 0, err
			}
			continue
		}
		if !h.HasFCS || h.FrameContentSize > 1<<50 {
			return 0, errUnknownSize
		}
		total += int64(h.FrameContentSize)
		if _, err := r.Seek(int64(h.HeaderSize)-int64(n), io.SeekCurrent); err != nil {
			return 0, err
		}
		if err := skipBlocks(r, h.HasCheckSum); err != nil {
			return 0, err
		}
	}
	return 0, errUnknownSize
}

// skipBlocks goes to the end of one frame (RFC 8878, 3.1.1.2).
func skipBlocks(r io.ReadSeeker, checksum bool) error {
	const rle, reserved = 1, 3
	var h [3]byte
	for {
		if _, err := io.ReadFull(r, h[:]); err != nil {
			return err
		}
		v := uint32(h[0]) | uint32(h[1])<<8 | uint32(h[2])<<16
		last, kind, size := v&1 != 0, v>>1&3, int64(v>>3)
		switch kind {
		case rle:
			size = 1
		case reserved:
			return errUnknownSize
		}
		if last && checksum {
			size += 4
		}
		if _, err := r.Seek(size, io.SeekCurrent); err != nil {
			return err
		}
		if last {
			return nil
		}
	}
}
