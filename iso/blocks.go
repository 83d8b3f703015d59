package iso

import (
	"io"
	"slices"
)

// blocks reads a source in aligned blocks and remembers the last few, so that
// looking into an ISO over HTTP costs a handful of range requests and not one
// per structure. It serves one reader at a time.
type blocks struct {
	r     io.ReaderAt
	size  int64
	known []block // oldest first
}

type block struct {
	off  int64
	data []byte
}

const (
	blockSize = 64 << 10
	maxBlocks = 16 // 1 MiB at most
)

func (b *blocks) ReadAt(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		at := off + int64(done)
		if at < 0 || at >= b.size {
			return done, io.EOF
		}
		data, err := b.block(at - at%blockSize)
		if err != nil {
			return done, err
		}
		done += copy(p[done:], data[at%blockSize:])
	}
	return done, nil
}

func (b *blocks) block(off int64) ([]byte, error) {
	i := slices.IndexFunc(b.known, func(k block) bool { return k.off == off })
	if i >= 0 {
		return b.known[i].data, nil
	}
	data := make([]byte, min(blockSize, b.size-off))
	if err := readFull(b.r, data, off); err != nil {
		return nil, err
	}
	if len(b.known) == maxBlocks {
		b.known = slices.Delete(b.known, 0, 1)
	}
	b.known = append(b.known, block{off: off, data: data})
	return data, nil
}
