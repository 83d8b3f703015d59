package iso

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

// Reader is one reading of an image: a position and a file handle of its own, by
// which the kernel can send base bytes to a socket without their passing through
// this process. Not for concurrent use; open one for each request and close it.
type Reader struct {
	im   *Image
	file *os.File
	pos  int64
}

var (
	_ io.ReadSeekCloser = (*Reader)(nil)
	_ io.WriterTo       = (*Reader)(nil)
)

// Read reads from the position on.
func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := r.im.ReadAt(p, r.pos)
	r.pos += int64(n)
	if n > 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// Seek sets the position.
func (r *Reader) Seek(off int64, whence int) (int64, error) {
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		off += r.pos
	case io.SeekEnd:
		off += r.im.Size()
	default:
		return 0, fmt.Errorf("seek in ISO: whence %d", whence)
	}
	if off < 0 {
		return 0, fmt.Errorf("seek in ISO: position %d", off)
	}
	r.pos = off
	return off, nil
}

// Close gives the file handle back.
func (r *Reader) Close() error { return r.file.Close() }

// WriteTo writes the rest of the image.
func (r *Reader) WriteTo(w io.Writer) (int64, error) {
	return r.writeN(w, max(0, r.im.Size()-r.pos))
}

// WriteRange writes n bytes of the image from off on to w and leaves the position
// behind them. When w is a plain TCP connection, or an http.ResponseWriter on one,
// the kernel sends the base's bytes (sendfile).
func (r *Reader) WriteRange(w io.Writer, off, n int64) (int64, error) {
	if off < 0 || n < 0 {
		return 0, fmt.Errorf("write ISO: %d bytes at %d", n, off)
	}
	r.pos = off
	return r.writeN(w, n)
}

// writeN writes the next n bytes, base parts straight from the file.
func (r *Reader) writeN(w io.Writer, n int64) (int64, error) {
	if r.pos > r.im.Size() || n > r.im.Size()-r.pos {
		return 0, fmt.Errorf("write ISO: %d bytes at %d of %d: %w", n, r.pos, r.im.Size(), io.ErrUnexpectedEOF)
	}
	start, stop := r.pos, r.pos+n
	pieces := r.im.content.pieces
	for i := r.im.content.find(r.pos); i < len(pieces) && r.pos < stop; i++ {
		write := r.writeBase
		if pieces[i].from == fromMemory {
			write = r.writeHeld
		}
		if err := write(w, pieces[i].cut(r.pos, stop)); err != nil {
			return r.pos - start, err
		}
	}
	return r.pos - start, nil
}

// writeBase writes a piece of the base. The form of the source matters: what
// is recognised for sendfile is an *io.LimitedReader of an *os.File.
func (r *Reader) writeBase(w io.Writer, p piece) error {
	if _, err := r.file.Seek(p.from, io.SeekStart); err != nil {
		return fmt.Errorf("write ISO: %w", err)
	}
	n, err := io.Copy(w, &io.LimitedReader{R: r.file, N: p.size})
	r.pos += n
	if err == nil && n < p.size {
		err = fmt.Errorf("write ISO: base ends at %d: %w", p.from+n, ErrBaseChanged)
	}
	return err
}

// writeHeld writes a piece from memory.
func (r *Reader) writeHeld(w io.Writer, p piece) error {
	if len(p.data) > 0 {
		n, err := w.Write(p.data)
		r.pos += int64(n)
		if err != nil {
			return err
		}
	}
	rest := p.end() - r.pos
	if rest <= 0 {
		return nil
	}
	zeros := make([]byte, min(32<<10, rest))
	for rest > 0 {
		n, err := w.Write(zeros[:min(int64(len(zeros)), rest)])
		r.pos += int64(n)
		rest -= int64(n)
		if err != nil {
			return err
		}
	}
	return nil
}

// ServeHTTP serves the image: GET and HEAD, ranges, If-Range and conditional
// requests by ETag. It sets no Last-Modified: the bytes have no age.
func (im *Image) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
		return
	}
	r, err := im.Open()
	if err != nil {
		http.Error(w, "the image is not available", http.StatusServiceUnavailable)
		return
	}
	defer r.Close()
	h := w.Header()
	h.Set("ETag", im.ETag())
	h.Set("Content-Type", "application/octet-stream")
	http.ServeContent(direct{ResponseWriter: w, from: r}, req, "", time.Time{}, r)
}

// direct lets http.ServeContent do all of HTTP and yet have the kernel send the
// bytes: ServeContent copies a limited reader, which is recognised here.
type direct struct {
	http.ResponseWriter
	from *Reader
}

// Unwrap serves http.ResponseController.
func (d direct) Unwrap() http.ResponseWriter { return d.ResponseWriter }

// ReadFrom takes the fast way when the source is our own reader.
func (d direct) ReadFrom(src io.Reader) (int64, error) {
	if l, ok := src.(*io.LimitedReader); ok && l.R == io.Reader(d.from) {
		n, err := d.from.writeN(d.ResponseWriter, min(l.N, max(0, d.from.im.Size()-d.from.pos)))
		l.N -= n
		return n, err
	}
	return io.Copy(d.ResponseWriter, src)
}
