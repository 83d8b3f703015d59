package images

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"metalrise.dev/fleet"
)

// Store keeps releases and software of nodes for all sites of a computer. Each
// content is there once, by its digest:
//
//	blobs/DIGEST      contents, never changed
//	releases/NAME/    a release: stream.json and its files, links to blobs. A site's image may name it
//	payloads/NAME/    software of nodes: payload.json and blobs/, links too. A site's cluster.software may name it
//	bundles/NAME/     the rest of a bundle that was used: bundle.json, its signature, manifests
//	sites/            which site files name entries
//	partial/          downloads that are not whole
//	lock              held, shared, by who adds; alone, by who removes
//
// What is under its final name was verified before it got that name.
type Store struct{ dir string }

// Kind is what an entry of the store is.
type Kind string

const (
	KindRelease Kind = "release"
	KindPayload Kind = "payload"
	KindBundle  Kind = "bundle" // what a bundle carried besides the two
)

func kinds() []Kind { return []Kind{KindRelease, KindPayload, KindBundle} }

func (k Kind) folder() string { return string(k) + "s" }

// RecordVersion is the version of record.json.
const RecordVersion = "metalrise.dev/record/v1"

// Record says what an entry is and why it is believed.
type Record struct {
	APIVersion string       `json:"apiVersion"`
	Kind       Kind         `json:"kind"`
	OS         OS           `json:"os,omitempty"`
	Stream     string       `json:"stream,omitempty"`
	Version    string       `json:"version"`
	Arch       Arch         `json:"architecture"`
	Digest     string       `json:"digest"` // Release.Digest or Payload.Digest
	Metadata   string       `json:"metadataSHA256,omitempty"`
	Added      time.Time    `json:"added"`
	Files      []RecordFile `json:"files"`
}

// RecordFile is one content of an entry.
type RecordFile struct {
	Role     Role   `json:"role,omitempty"`
	Format   Format `json:"format,omitempty"`
	Name     string `json:"name"` // below the entry's folder
	SHA256   string `json:"sha256"`
	Unpacked string `json:"unpackedSHA256,omitempty"`
	Bytes    int64  `json:"bytes"`
	From     string `json:"from,omitempty"`
	Proof    Proof  `json:"proof,omitempty"`
	Signer   string `json:"signer,omitempty"` // fingerprint of the key
	// Source is the digest of what was verified when the file was repacked.
	Source string `json:"sourceSHA256,omitempty"`
}

// Entry is a record and where it lies.
type Entry struct {
	Record
	Name   string    `json:"name"`
	Folder string    `json:"folder"`
	Bytes  int64     `json:"bytes"`
	Used   time.Time `json:"used"` // last added or used
}

// OpenStore opens a store, made if missing.
func OpenStore(dir string) (*Store, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open image store: %w", err)
	}
	dirs := []string{"blobs", "partial"}
	for _, k := range kinds() {
		dirs = append(dirs, k.folder())
	}
	for _, d := range dirs {
		if err := os.MkdirAll(filepath.Join(abs, d), 0o755); err != nil {
			return nil, fmt.Errorf("open image store: %w", err)
		}
	}
	return &Store{dir: abs}, nil
}

// Dir is the store's folder.
func (s *Store) Dir() string { return s.dir }

// lock takes a file lock, waiting while others hold it: LOCK_SH or LOCK_EX of flock(2).
// The kernel drops it with the process.
func (s *Store) lock(ctx context.Context, name string, how int) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(s.dir, name), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock of image store: %w", err)
	}
	for {
		err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			f.Close()
			return nil, fmt.Errorf("lock of image store: %w", err)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("wait for the lock of image store %s: %w", s.dir, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

const lockName = "lock"

func (s *Store) sharing(ctx context.Context) (func(), error) {
	return s.lock(ctx, lockName, syscall.LOCK_SH)
}

func (s *Store) blob(sha256 string) string { return filepath.Join(s.dir, "blobs", sha256) }

func (s *Store) hasBlob(sha256 string) bool {
	st, err := os.Lstat(s.blob(sha256))
	return err == nil && st.Mode().IsRegular()
}

// keepBlob gives a verified file its final name. Another process may have been
// faster: then its copy stays.
func (s *Store) keepBlob(path, sha256 string) error {
	if s.hasBlob(sha256) {
		return os.Remove(path)
	}
	if err := os.Chmod(path, 0o444); err != nil {
		return err
	}
	if err := os.Rename(path, s.blob(sha256)); err != nil {
		return err
	}
	return syncDir(filepath.Join(s.dir, "blobs"))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// keepCopy copies a content into the store while it is hashed. It must have the
// digest; begin may check a signature too.
func (s *Store) keepCopy(ctx context.Context, r io.Reader, what, want string, begin func() *signed, seen func(int64)) (signer string, err error) {
	tmp, err := os.CreateTemp(filepath.Join(s.dir, "partial"), "copy-*.part")
	if err != nil {
		return "", err
	}
	defer os.Remove(tmp.Name()) // in vain once renamed
	defer tmp.Close()
	sums := newSums(demand{begin: begin})
	defer sums.abort()
	if _, err := copyContext(ctx, io.MultiWriter(tmp, sums), r, seen); err != nil {
		return "", err
	}
	if got := fmt.Sprintf("%x", sums.short.Sum(nil)); got != want {
		return "", &CorruptError{Path: what, Want: want, Got: got, Size: sums.n}
	}
	if sig := sums.sig; sig != nil {
		sums.sig = nil
		if signer, err = sig.close(); err != nil {
			return "", err
		}
	}
	if err := tmp.Sync(); err != nil {
		return "", err
	}
	return signer, s.keepBlob(tmp.Name(), want)
}

// land puts an entry under its name, whole or not at all. documents are written
// beside the links.
func (s *Store) land(r Record, name string, documents map[string][]byte) (Entry, error) {
	parent := filepath.Join(s.dir, r.Kind.folder())
	tmp, err := os.MkdirTemp(parent, ".new-")
	if err != nil {
		return Entry{}, err
	}
	defer os.RemoveAll(tmp) // in vain once renamed
	if err := os.Chmod(tmp, 0o755); err != nil {
		return Entry{}, err
	}
	for _, f := range r.Files {
		to := filepath.Join(tmp, filepath.FromSlash(f.Name))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return Entry{}, err
		}
		if err := os.Link(s.blob(f.SHA256), to); err != nil {
			return Entry{}, err
		}
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return Entry{}, err
	}
	if err := writeSynced(filepath.Join(tmp, recordName), text); err != nil {
		return Entry{}, err
	}
	for n, b := range documents {
		if err := writeSynced(filepath.Join(tmp, n), b); err != nil {
			return Entry{}, err
		}
	}
	to := filepath.Join(parent, name)
	if err := errors.Join(syncDir(tmp), os.Rename(tmp, to)); err != nil {
		if !errors.Is(err, fs.ErrExist) && !errors.Is(err, syscall.ENOTEMPTY) {
			return Entry{}, err
		}
		now := time.Now() // it was there already: its name carries its digest
		if err := os.Chtimes(filepath.Join(to, recordName), now, now); err != nil {
			return Entry{}, err
		}
	}
	return s.entry(r.Kind, name)
}

func writeSynced(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

const (
	recordName = "record.json"
	// maxRecord: some hundred files of 500 bytes.
	maxRecord = 1 << 20
)

// entry reads what lies under a name.
func (s *Store) entry(kind Kind, name string) (Entry, error) {
	folder := filepath.Join(s.dir, kind.folder(), name)
	path := filepath.Join(folder, recordName)
	b, err := readFile(path, maxRecord)
	if err != nil {
		return Entry{}, err
	}
	e := Entry{Name: name, Folder: folder}
	if err := json.Unmarshal(b, &e.Record); err != nil {
		return Entry{}, fmt.Errorf("%s: %w", path, err)
	}
	if e.APIVersion != RecordVersion || e.Kind != kind || !isSHA256(e.Digest) {
		return Entry{}, fmt.Errorf("%s is no record of a %s (%.80q)", path, kind, e.APIVersion)
	}
	seen := map[string]bool{}
	for _, f := range e.Files {
		if !isSHA256(f.SHA256) || !filepath.IsLocal(filepath.FromSlash(f.Name)) {
			return Entry{}, fmt.Errorf("%s lists a file %.80q that cannot be", path, f.Name)
		}
		if !seen[f.SHA256] {
			seen[f.SHA256] = true
			e.Bytes += f.Bytes
		}
	}
	st, err := os.Stat(path)
	if err != nil {
		return Entry{}, err
	}
	e.Used = st.ModTime()
	return e, nil
}

// List gives all entries, releases first, by name. Those that cannot be read are
// errors, joined; the others are there too.
func (s *Store) List() ([]Entry, error) {
	var out []Entry
	var errs []error
	for _, kind := range kinds() {
		names, err := os.ReadDir(filepath.Join(s.dir, kind.folder()))
		if err != nil {
			errs = append(errs, err)
		}
		for _, n := range names {
			if strings.HasPrefix(n.Name(), ".") {
				continue
			}
			e, err := s.entry(kind, n.Name())
			if err != nil {
				errs = append(errs, err)
				continue
			}
			out = append(out, e)
		}
	}
	return out, errors.Join(errs...)
}

// Find gives the entry of a name, or of the beginning of a digest or name if it
// fits one entry only.
func (s *Store) Find(name string) (Entry, error) {
	all, err := s.List()
	var fit []Entry
	for _, e := range all {
		if e.Name == name || e.Digest == name {
			return e, nil
		}
		if strings.HasPrefix(e.Name, name) || len(name) >= 8 && strings.HasPrefix(e.Digest, name) {
			fit = append(fit, e)
		}
	}
	switch len(fit) {
	case 0:
		err = errors.Join(fmt.Errorf("the store %s has no %.80q", s.dir, name), err)
	case 1:
		return fit[0], nil
	default:
		names := []string{}
		for _, e := range fit {
			names = append(names, e.Name)
		}
		slices.Sort(names)
		err = fmt.Errorf("%.80q fits several: %s", name, strings.Join(names, ", "))
	}
	return Entry{}, fleet.NewFault(fleet.CodeImageMissing, fleet.Invalid, err, "find an image")
}

// Verify hashes every content of an entry anew.
func (s *Store) Verify(ctx context.Context, e Entry, progress func(name string, done, total int64)) error {
	seen := map[string]bool{}
	for _, f := range e.Files {
		if seen[f.SHA256] {
			continue
		}
		seen[f.SHA256] = true
		a := Artifact{Path: filepath.Join(e.Folder, filepath.FromSlash(f.Name)), SHA256: f.SHA256}
		_, err := Verifier{}.Verify(ctx, a, func(done, total int64) {
			if progress != nil {
				progress(f.Name, done, total)
			}
		})
		if err != nil {
			return err
		}
	}
	switch e.Kind {
	case KindBundle:
		return nil
	case KindPayload:
		p, err := LoadPayload(ctx, e.Folder)
		if err == nil && p.Digest() != e.Digest {
			err = fleet.NewFault(fleet.CodePayloadCorrupt, fleet.Invalid, nil, "verify %s: payload.json is not the recorded one", e.Folder)
		}
		return err
	}
	r, err := Load(ctx, e.Folder)
	if err == nil && r.Digest() != e.Digest {
		err = fleet.NewFault(fleet.CodeImageCorrupt, fleet.Invalid, nil, "verify %s: stream.json is not the recorded one", e.Folder)
	}
	return err
}
