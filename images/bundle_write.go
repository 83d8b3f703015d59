package images

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// writeFile writes the tar as TO.partial, then renames it. The tar's bytes follow
// from the bundle alone, so what is there of an earlier call is compared, and
// writing begins where it ends or first differs.
func (k *Packing) writeFile(ctx context.Context, to string, docs []bundleDocument, p Progress) error {
	f, err := os.OpenFile(to+".partial", os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return fmt.Errorf("another command writes it: %w", err)
	}
	w := &resumed{f: f, buf: make([]byte, 1<<20)}
	if st, err := f.Stat(); err != nil {
		return err
	} else if st.Mode().IsRegular() {
		w.have = st.Size()
	}
	total := k.Bundle.Bytes()
	tell := p.of(filepath.Base(to))
	t := tar.NewWriter(w)
	for _, d := range docs {
		if err := tarText(t, d.name, d.text); err != nil {
			return err
		}
	}
	var done int64
	for _, c := range k.Bundle.Contents {
		if err := tarContent(ctx, t, c.SHA256, c.Bytes, k.open); err != nil {
			return err
		}
		done += c.Bytes
		tell(done, total)
	}
	if err := errors.Join(t.Close(), w.end(), f.Sync()); err != nil {
		return err
	}
	if err := os.Rename(to+".partial", to); err != nil {
		return err
	}
	return syncDir(filepath.Dir(to))
}

// resumed is a writer over a file whose beginning may be there.
type resumed struct {
	f        *os.File
	at, have int64
	buf      []byte
	kept     int64 // bytes that were there and right
}

func (r *resumed) Write(b []byte) (int, error) {
	n := 0
	for len(b) > 0 && r.at < r.have {
		m := min(int64(len(b)), r.have-r.at, int64(len(r.buf)))
		if _, err := io.ReadFull(r.f, r.buf[:m]); err != nil {
			return n, err
		}
		if !bytes.Equal(r.buf[:m], b[:m]) {
			if err := r.cut(r.at); err != nil {
				return n, err
			}
			break
		}
		r.at, r.kept, b, n = r.at+m, r.kept+m, b[m:], n+int(m)
	}
	m, err := r.f.Write(b)
	r.at += int64(m)
	return n + m, err
}

func (r *resumed) cut(at int64) error {
	r.have = at
	_, err := r.f.Seek(at, io.SeekStart)
	return errors.Join(err, r.f.Truncate(at))
}

// end drops what is behind the end.
func (r *resumed) end() error {
	if r.at < r.have {
		return r.cut(r.at)
	}
	return nil
}

// writeFolder writes contents that are not there, then the documents, the signature last.
func (k *Packing) writeFolder(ctx context.Context, to string, docs []bundleDocument, p Progress) error {
	if err := os.MkdirAll(filepath.Join(to, "blobs", "sha256"), 0o755); err != nil {
		return err
	}
	// A folder of an earlier bundle is no bundle while it changes.
	if err := os.Remove(filepath.Join(to, bundleSigName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	total, done := k.Bundle.Bytes(), int64(0)
	tell := p.of(filepath.Base(to))
	for _, c := range k.Bundle.Contents {
		if err := k.folderContent(ctx, filepath.Join(to, filepath.FromSlash(blobPath(c.SHA256))), c); err != nil {
			return err
		}
		done += c.Bytes
		tell(done, total)
	}
	docs = append(docs[2:], docs[0], docs[1])
	for _, d := range docs {
		path := filepath.Join(to, d.name)
		tmp := path + ".partial"
		_ = os.Remove(tmp)
		if err := writeSynced(tmp, d.text); err != nil {
			return err
		}
		if err := os.Rename(tmp, path); err != nil {
			return err
		}
	}
	return syncDir(to)
}

func (k *Packing) folderContent(ctx context.Context, path string, c BundleContent) error {
	if same, err := hasContent(ctx, path, c); same || err != nil {
		return err
	}
	in, err := k.open(c.SHA256)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(path+".partial", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	h := sha256.New()
	n, err := copyContext(ctx, io.MultiWriter(out, h), in, nil)
	if err != nil {
		return err
	}
	if got := fmt.Sprintf("%x", h.Sum(nil)); got != c.SHA256 || n != c.Bytes {
		return &CorruptError{Path: path, Want: c.SHA256, Got: got, Size: n}
	}
	if err := out.Sync(); err != nil {
		return err
	}
	return os.Rename(path+".partial", path)
}

// hasContent tells whether a file is there, whole and right.
func hasContent(ctx context.Context, path string, c BundleContent) (bool, error) {
	f, st, err := openStamped(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	if st.Size != c.Bytes {
		return false, nil
	}
	got, err := hash(ctx, f, st.Size, nil)
	return got == c.SHA256, err
}
