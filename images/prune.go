package images

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Keep says what must stay.
type Keep struct {
	// Digests of releases, of software of nodes, of single files or of their
	// unpacked content: what stored plans name.
	Digests map[string]bool
	// Folders that sites name: an entry stays if one of them is its folder or
	// lies in it.
	Folders []string
	// Since: what was added or used later stays.
	Since time.Time
}

func (k Keep) entry(e Entry) bool {
	if k.Digests[e.Digest] || e.Used.After(k.Since) {
		return true
	}
	for _, f := range e.Files {
		// A plan names ISO and disk; programs of nodes are shared by many payloads.
		if e.Kind == KindRelease && (k.Digests[f.SHA256] || f.Unpacked != "" && k.Digests[f.Unpacked]) {
			return true
		}
	}
	folder := resolved(e.Folder)
	for _, f := range k.Folders {
		if f = resolved(f); f == folder || strings.HasPrefix(f, folder+string(filepath.Separator)) {
			return true
		}
	}
	return false
}

func resolved(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	return filepath.Clean(path)
}

// Pruned is what was removed, or would be.
type Pruned struct {
	Entries  []Entry  `json:"entries"`
	Contents []string `json:"contents"` // digests that no entry links to any more
	Partial  []string `json:"partial"`  // downloads that nobody continued
	Bytes    int64    `json:"bytes"`
}

// Prune removes entries that need not stay, contents that no entry has, and
// partial downloads that are older than keep.Since. It waits until nobody adds
// anything. An entry that cannot be read is an error and nothing is removed: what it
// needs is not known. With dry nothing is removed either.
func (s *Store) Prune(ctx context.Context, keep Keep, dry bool) (Pruned, error) {
	unlock, err := s.lock(ctx, lockName, syscall.LOCK_EX)
	if err != nil {
		return Pruned{}, err
	}
	defer unlock()
	all, err := s.List()
	if err != nil {
		return Pruned{}, err
	}
	out := Pruned{Entries: []Entry{}, Contents: []string{}, Partial: []string{}}
	linked := map[string]uint64{} // links that entries to be removed have
	for _, e := range all {
		if keep.entry(e) {
			continue
		}
		out.Entries = append(out.Entries, e)
		for _, f := range e.Files {
			linked[f.SHA256]++
		}
		if !dry {
			if err := removeEntry(e.Folder); err != nil {
				return out, err
			}
		}
	}
	if dry {
		return out, s.sweepContents(&out, keep.Since, func(digest string, links uint64) bool { return links <= 1+linked[digest] }, nil)
	}
	if err := s.sweepLeftovers(); err != nil {
		return out, err
	}
	return out, s.sweepContents(&out, keep.Since, func(_ string, links uint64) bool { return links <= 1 }, os.Remove)
}

// removeEntry takes the name away first, so that no half-removed entry is seen.
func removeEntry(folder string) error {
	gone := filepath.Join(filepath.Dir(folder), ".new-gone-"+filepath.Base(folder))
	if err := os.Rename(folder, gone); err != nil {
		return err
	}
	return os.RemoveAll(gone)
}

// sweepLeftovers removes folders of commands that were killed.
func (s *Store) sweepLeftovers() error {
	for _, kind := range kinds() {
		left, err := filepath.Glob(filepath.Join(s.dir, kind.folder(), ".new-*"))
		if err != nil {
			return err
		}
		for _, l := range left {
			if err := os.RemoveAll(l); err != nil {
				return err
			}
		}
	}
	return nil
}

// sweepContents goes through blobs and partial downloads. Links are counted by
// the file system itself.
func (s *Store) sweepContents(out *Pruned, since time.Time, unused func(digest string, links uint64) bool, remove func(string) error) error {
	return errors.Join(
		s.files("blobs", func(path string, st fs.FileInfo, links uint64) error {
			// A content without an entry may be of a download that goes on later.
			if !unused(filepath.Base(path), links) || st.ModTime().After(since) {
				return nil
			}
			out.Contents = append(out.Contents, filepath.Base(path))
			out.Bytes += st.Size()
			return apply(remove, path)
		}),
		s.files("partial", func(path string, st fs.FileInfo, _ uint64) error {
			if st.ModTime().After(since) {
				return nil
			}
			out.Partial = append(out.Partial, filepath.Base(path))
			out.Bytes += st.Size()
			return apply(remove, path)
		}))
}

func apply(remove func(string) error, path string) error {
	if remove == nil {
		return nil
	}
	return remove(path)
}

func (s *Store) files(sub string, each func(path string, st fs.FileInfo, links uint64) error) error {
	list, err := os.ReadDir(filepath.Join(s.dir, sub))
	if err != nil {
		return err
	}
	var errs []error
	for _, d := range list {
		st, err := d.Info()
		if err != nil || !st.Mode().IsRegular() {
			continue
		}
		sys, ok := st.Sys().(*syscall.Stat_t)
		if !ok {
			continue
		}
		errs = append(errs, each(filepath.Join(s.dir, sub, d.Name()), st, uint64(sys.Nlink)))
	}
	return errors.Join(errs...)
}
