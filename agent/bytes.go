package agent

import (
	"bytes"
	"hash/crc32"
	"io"
)

// castagnoli is the polynomial processors compute by themselves.
func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

func isZero(p []byte) bool {
	var zeros [4096]byte
	for len(p) > 0 {
		n := min(len(p), len(zeros))
		if !bytes.Equal(p[:n], zeros[:n]) {
			return false
		}
		p = p[n:]
	}
	return true
}

// readFull reads all of p; the end of the file right behind it is no error.
func readFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// fill reads until p is full or r ends: then the error is io.EOF itself.
// io.ReadFull would not tell a decompressor's io.ErrUnexpectedEOF from a short
// last piece.
func fill(r io.Reader, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var k int
		k, err = r.Read(p[n:])
		n += k
	}
	if n == len(p) {
		return n, nil
	}
	return n, err
}
