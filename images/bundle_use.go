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
	"slices"
	"time"

	"metalrise.dev/fleet"
)

// BundleReader reads a bundle that is signed by somebody trusted.
type BundleReader struct {
	Bundle Bundle
	Signer Signer

	path            string
	text, signature []byte
}

// UnknownSignerError says that a bundle is signed well, but by nobody who is
// trusted.
type UnknownSignerError struct{ Signer Signer }

func (e *UnknownSignerError) Error() string {
	return fmt.Sprintf("the bundle is signed by %s, who is not trusted here: compare the fingerprint with what `metalrise bundle create` printed, then give it by --signer", e.Signer.Fingerprint())
}

// OpenBundle reads bundle.json of a file or folder and verifies its signature, by a
// key that trusted says yes to. Contents are not looked at yet. Errors are faults:
// IMG-001.
func OpenBundle(path string, trusted func(Signer) bool) (*BundleReader, error) {
	r := &BundleReader{path: path}
	err := r.head()
	if err == nil {
		r.Signer, err = checkSSH(r.text, r.signature)
	}
	if err == nil && !trusted(r.Signer) {
		return nil, fleet.NewFault(fleet.CodeImageCorrupt, fleet.Denied, &UnknownSignerError{r.Signer}, "open bundle %s", path)
	}
	// Nothing of the text is read before its signature is known to be good.
	if err == nil {
		r.Bundle, err = ParseBundle(r.text)
	}
	if err != nil {
		return nil, fleet.NewFault(fleet.CodeImageCorrupt, fleet.Invalid, err, "open bundle %s", path)
	}
	return r, nil
}

func (r *BundleReader) head() error {
	st, err := os.Stat(r.path)
	if err != nil {
		return err
	}
	if st.IsDir() {
		if r.text, err = readFile(filepath.Join(r.path, bundleName), maxBundle); err != nil {
			return err
		}
		r.signature, err = readFile(filepath.Join(r.path, bundleSigName), maxSSHSignature)
		return err
	}
	f, _, err := openStamped(r.path)
	if err != nil {
		return err
	}
	defer f.Close()
	t := tar.NewReader(f)
	if r.text, err = tarDocument(t, bundleName, maxBundle); err != nil {
		return err
	}
	r.signature, err = tarDocument(t, bundleSigName, maxSSHSignature)
	return err
}

// tarDocument reads the next file of a tar, which must have that name.
func tarDocument(t *tar.Reader, name string, limit int64) ([]byte, error) {
	h, err := t.Next()
	if err != nil {
		return nil, fmt.Errorf("it is no bundle, or cut off: %s: %w", name, err)
	}
	if h.Name != name || h.Typeflag != tar.TypeReg || h.Size > limit {
		return nil, fmt.Errorf("it is no bundle: where %s should be is %.80q with %d bytes", name, h.Name, h.Size)
	}
	return io.ReadAll(io.LimitReader(t, limit))
}

// each hands out the contents in the order of bundle.json. What take does not
// read is stepped over.
func (r *BundleReader) each(ctx context.Context, take func(c BundleContent, in io.Reader) error) error {
	docs, err := r.Bundle.documents(r.text, r.signature)
	if err != nil {
		return err
	}
	if st, err := os.Stat(r.path); err != nil {
		return err
	} else if st.IsDir() {
		return r.eachOfFolder(ctx, docs, take)
	}
	f, _, err := openStamped(r.path)
	if err != nil {
		return err
	}
	defer f.Close()
	t := tar.NewReader(f)
	for _, d := range docs {
		b, err := tarDocument(t, d.name, maxBundle)
		if err == nil && !bytes.Equal(b, d.text) {
			err = fmt.Errorf("%s is not as bundle.json says", d.name)
		}
		if err != nil {
			return err
		}
	}
	for _, c := range r.Bundle.Contents {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := t.Next()
		if err != nil {
			return fmt.Errorf("content %s: the bundle is cut off: %w", c.SHA256, err)
		}
		if h.Name != blobPath(c.SHA256) || h.Typeflag != tar.TypeReg || h.Size != c.Bytes {
			return fmt.Errorf("where content %s should be is %.80q with %d bytes", c.SHA256, h.Name, h.Size)
		}
		if err := take(c, t); err != nil {
			return err
		}
	}
	if _, err := t.Next(); !errors.Is(err, io.EOF) {
		return errors.New("the bundle goes on behind its last content")
	}
	return nil
}

func (r *BundleReader) eachOfFolder(ctx context.Context, docs []bundleDocument, take func(c BundleContent, in io.Reader) error) error {
	for _, d := range docs {
		b, err := readFile(filepath.Join(r.path, d.name), maxBundle)
		if err == nil && !bytes.Equal(b, d.text) {
			err = fmt.Errorf("%s is not as bundle.json says", d.name)
		}
		if err != nil {
			return err
		}
	}
	for _, c := range r.Bundle.Contents {
		if err := ctx.Err(); err != nil {
			return err
		}
		f, st, err := openStamped(filepath.Join(r.path, filepath.FromSlash(blobPath(c.SHA256))))
		if err != nil {
			return err
		}
		if st.Size != c.Bytes {
			f.Close()
			return fmt.Errorf("content %s has %d bytes, not %d", c.SHA256, st.Size, c.Bytes)
		}
		if err := errors.Join(take(c, f), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

func (r *BundleReader) fault(ctx context.Context, err error, verb string) error {
	if err == nil {
		return nil
	}
	return imageFault(ctx, &bundleError{err}, "%s bundle %s", verb, r.path)
}

// bundleError counts as a damaged image, whatever is wrong.
type bundleError struct{ err error }

func (e *bundleError) Error() string { return e.err.Error() }
func (e *bundleError) Unwrap() error { return e.err }

// Verify reads all contents and compares them with their digests.
func (r *BundleReader) Verify(ctx context.Context, p Progress) error {
	tell, done, total := p.of(filepath.Base(r.path)), int64(0), r.Bundle.Bytes()
	err := r.each(ctx, func(c BundleContent, in io.Reader) error {
		h := sha256.New()
		_, err := copyContext(ctx, h, in, func(n int64) { tell(done+n, total) })
		if err != nil {
			return err
		}
		done += c.Bytes
		if got := fmt.Sprintf("%x", h.Sum(nil)); got != c.SHA256 {
			return &CorruptError{Path: r.path + ": " + blobPath(c.SHA256), Want: c.SHA256, Got: got, Size: c.Bytes}
		}
		return nil
	})
	return r.fault(ctx, err, "verify")
}

// Used is where a bundle's things are in the store.
type Used struct {
	Release Entry        `json:"release"`
	Payload *Entry       `json:"payload,omitempty"`
	Bundle  Entry        `json:"bundle"`          // bundle.json, its signature and its files
	Files   []BundleFile `json:"files,omitempty"` // below Bundle.Folder
}

// Path is where a file of that kind is, "" if there is none.
func (u Used) Path(kind FileKind) string {
	i := slices.IndexFunc(u.Files, func(f BundleFile) bool { return f.Kind == kind })
	if i < 0 {
		return ""
	}
	return filepath.Join(u.Bundle.Folder, u.Files[i].Name)
}

// UseBundle copies a bundle into the store while it is verified; what is there
// already is not copied again. It touches no network.
func (s *Store) UseBundle(ctx context.Context, r *BundleReader, p Progress) (Used, error) {
	unlock, err := s.sharing(ctx)
	if err != nil {
		return Used{}, err
	}
	defer unlock()
	u, err := s.useBundle(ctx, r, p)
	return u, r.fault(ctx, err, "use")
}

func (s *Store) useBundle(ctx context.Context, r *BundleReader, p Progress) (Used, error) {
	tell, done, total := p.of(filepath.Base(r.path)), int64(0), r.Bundle.Bytes()
	err := r.each(ctx, func(c BundleContent, in io.Reader) error {
		if s.hasBlob(c.SHA256) {
			done += c.Bytes
			return nil
		}
		_, err := s.keepCopy(ctx, in, r.path+": "+blobPath(c.SHA256), c.SHA256, nil, func(n int64) { tell(done+n, total) })
		done += c.Bytes
		return err
	})
	if err != nil {
		return Used{}, err
	}
	var u Used
	rel := r.Bundle.Release.record()
	rel.Added, rel.Files = time.Now().UTC(), slices.Clone(rel.Files)
	for i := range rel.Files {
		rel.Files[i].Proof, rel.Files[i].Signer = ByBundle, r.Signer.Fingerprint()
	}
	if u.Release, err = s.landRelease(rel); err != nil {
		return u, err
	}
	if r.Bundle.Payload != nil {
		for _, a := range r.Bundle.Archives {
			if err := s.makeArchive(ctx, r.Bundle, a, p); err != nil {
				return u, err
			}
		}
		digest, err := fleet.Digest(*r.Bundle.Payload)
		if err != nil {
			return u, err
		}
		e, err := s.landPayload(*r.Bundle.Payload, digest)
		if err != nil {
			return u, err
		}
		u.Payload = &e
	}
	u.Files = r.Bundle.Files
	rec := Record{APIVersion: RecordVersion, Kind: KindBundle, Version: r.Bundle.Site, Digest: hexSHA256(r.text), Added: time.Now().UTC()}
	for _, f := range r.Bundle.Files {
		rec.Files = append(rec.Files, RecordFile{Name: f.Name, SHA256: f.SHA256, Bytes: f.Bytes, Proof: ByBundle, Signer: r.Signer.Fingerprint()})
	}
	u.Bundle, err = s.land(rec, entryName(r.Bundle.Site, rec.Digest[:8]), map[string][]byte{bundleName: r.text, bundleSigName: r.signature})
	return u, err
}

// makeArchive makes what nodes import out of contents of the store.
func (s *Store) makeArchive(ctx context.Context, b Bundle, a BundleArchive, p Progress) error {
	if s.hasBlob(a.Digest) {
		return nil
	}
	tell := p.of("container images " + a.Digest[:12])
	r, w := io.Pipe()
	go func() {
		w.CloseWithError(b.recipe(a).write(ctx, w, func(digest string) (io.ReadCloser, error) { return os.Open(s.blob(digest)) }))
	}()
	_, err := s.keepCopy(ctx, r, "container images", a.Digest, nil, func(n int64) { tell(n, a.Bytes) })
	r.CloseWithError(errors.New("stopped"))
	return err
}
