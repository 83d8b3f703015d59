package images

import (
	"compress/bzip2"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// unpacker reads the content of a packed disk image.
func unpacker(r io.Reader, f Format) (io.ReadCloser, error) {
	switch f {
	case FormatRaw:
		return io.NopCloser(r), nil
	case FormatRawGz:
		return gzip.NewReader(r)
	case FormatRawXz:
		x, err := xz.NewReader(r)
		return io.NopCloser(x), err
	case FormatRawBz2:
		return io.NopCloser(bzip2.NewReader(r)), nil
	case FormatRawZst:
		z, err := zstd.NewReader(r, zstd.WithDecoderMaxMemory(1<<30))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	}
	return nil, fmt.Errorf("format %q is no disk image", f)
}

// maxUnpacked bounds what a small file may unpack to.
const maxUnpacked = 1 << 40

func unpackedDigest(ctx context.Context, path string, f Format) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	r, err := unpacker(file, f)
	if err != nil {
		return "", fmt.Errorf("unpack %s: %w", path, err)
	}
	defer r.Close()
	h := sha256.New()
	n, err := copyContext(ctx, h, io.LimitReader(r, maxUnpacked+1), nil)
	if err == nil && n > maxUnpacked {
		err = errTooLarge
	}
	if err != nil {
		return "", fmt.Errorf("unpack %s: %w", path, err)
	}
	return fmt.Sprintf("%x", h.Sum(nil)), nil
}

// repackPiece is one zstd frame's content: each frame says its size, so the size of the
// whole is known without unpacking it.
const repackPiece = 8 << 20

// repack turns a verified bzip2 image into a zstd one. The digest of the content
// is that of what was verified.
func (s *Store) repack(ctx context.Context, r RecordFile, part string, p Progress) (RecordFile, error) {
	in, err := os.Open(part)
	if err != nil {
		return r, err
	}
	defer in.Close()
	tmp, err := os.CreateTemp(filepath.Join(s.dir, "partial"), "repack-*.part")
	if err != nil {
		return r, err
	}
	defer os.Remove(tmp.Name()) // in vain once renamed
	defer tmp.Close()
	raw, err := unpacker(in, FormatRawBz2)
	if err != nil {
		return r, err
	}
	packed, content := sha256.New(), sha256.New()
	tell := p.of(r.Name + " (repacking)")
	size, err := repackTo(ctx, io.MultiWriter(tmp, packed), io.TeeReader(raw, content), func(n int64) { tell(n, 0) })
	if err != nil {
		return r, fmt.Errorf("repack %s: %w", r.Name, err)
	}
	r.Source, r.SHA256 = r.SHA256, fmt.Sprintf("%x", packed.Sum(nil))
	r.Unpacked, r.Bytes = fmt.Sprintf("%x", content.Sum(nil)), size
	r.Name, r.Format = strings.TrimSuffix(r.Name, ".bz2")+".zst", FormatRawZst
	if err := tmp.Sync(); err != nil {
		return r, err
	}
	if err := s.keepBlob(tmp.Name(), r.SHA256); err != nil {
		return r, err
	}
	_ = os.Remove(part + ".json")
	return r, os.Remove(part)
}

func repackTo(ctx context.Context, w io.Writer, r io.Reader, seen func(int64)) (int64, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedDefault))
	if err != nil {
		return 0, err
	}
	defer enc.Close()
	buf, out := make([]byte, repackPiece), []byte(nil)
	var done, size int64
	for {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		n, err := fill(r, buf)
		if n > 0 {
			out = enc.EncodeAll(buf[:n], out[:0])
			if _, err := w.Write(out); err != nil {
				return 0, err
			}
			done, size = done+int64(n), size+int64(len(out))
			seen(done)
		}
		if done > maxUnpacked || done == 0 {
			return 0, fmt.Errorf("the image has %d bytes", done)
		}
		if errors.Is(err, io.EOF) {
			return size, nil
		}
		if err != nil {
			return 0, err
		}
	}
}

// fill reads until buf is full or r ends; unlike io.ReadFull it tells the end of r
// from a content that is cut off.
func fill(r io.Reader, buf []byte) (int, error) {
	n := 0
	for n < len(buf) {
		m, err := r.Read(buf[n:])
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}
