package images

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"metalrise.dev/fleet"
)

// Verifier compares files with their promised digests and remembers what it
// found, so that an engine that starts again does not read gigabytes again.
type Verifier struct {
	// Cache is a folder for what was found, made if missing with access for its
	// owner alone: who can write there can have a wrong file trusted. Empty
	// remembers nothing.
	Cache string
}

// Verified is an artifact whose file has the promised digest. Only Verify makes
// one, so a function that takes it cannot be handed a file nobody hashed.
type Verified struct {
	artifact Artifact
	stamp    stamp
}

// Artifact is what was verified.
func (v Verified) Artifact() Artifact { return v.artifact }

// ErrChanged: the file is not the one that was verified any more. Verify again.
var ErrChanged = errors.New("the file changed since it was verified")

// Open opens the very file that was verified, or says ErrChanged.
func (v Verified) Open() (*os.File, error) {
	f, now, err := openStamped(v.artifact.Path)
	if err != nil {
		return nil, fleet.NewFault(fleet.CodeImageMissing, fleet.Invalid, err, "open image %s", v.artifact.Path)
	}
	if now != v.stamp {
		f.Close()
		return nil, fleet.NewFault(fleet.CodeImageCorrupt, fleet.Conflict, ErrChanged, "open image %s", v.artifact.Path)
	}
	return f, nil
}

// stamp is what tells one state of a file from another without reading it. The
// change time is in it because, unlike the modification time, no program can
// set it back.
type stamp struct {
	Path   string `json:"path"`
	Device uint64 `json:"device"`
	Inode  uint64 `json:"inode"`
	Size   int64  `json:"size"`
	Mtime  int64  `json:"mtime"` // nanoseconds since 1970
	Ctime  int64  `json:"ctime"` // nanoseconds since 1970
}

func openStamped(path string) (*os.File, stamp, error) {
	// Without O_NONBLOCK the opening of a named pipe would wait for ever.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, stamp{}, err
	}
	s, err := stampOf(f, path)
	if err != nil {
		f.Close()
		return nil, stamp{}, err
	}
	return f, s, nil
}

func stampOf(f *os.File, path string) (stamp, error) {
	info, err := f.Stat()
	if err != nil {
		return stamp{}, err
	}
	if !info.Mode().IsRegular() {
		return stamp{}, fmt.Errorf("%s is not a regular file", path)
	}
	sys, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return stamp{}, fmt.Errorf("%s: the file system gives no inode", path)
	}
	return stamp{
		Path: path, Device: uint64(sys.Dev), Inode: sys.Ino, Size: info.Size(),
		Mtime: info.ModTime().UnixNano(), Ctime: sys.Ctim.Nano(),
	}, nil
}

// Verify hashes the artifact's file unless it is known unchanged since the last
// time, and compares. progress may be nil; it is called from this goroutine with
// bytes done and in all, at least once when the file is read.
//
// Memory is one buffer of a MiB. Errors are faults: IMG-001 around a
// *CorruptError or ErrChanged (the file was written to meanwhile), PLAN-017 when
// it cannot be read; an ended ctx is returned as it is.
func (v Verifier) Verify(ctx context.Context, a Artifact, progress func(done, total int64)) (Verified, error) {
	got, err := v.verify(ctx, a, progress)
	var corrupt *CorruptError
	switch {
	case err == nil:
		return got, nil
	case ctx.Err() != nil:
		return Verified{}, fmt.Errorf("verify image %s: %w", a.Path, err)
	case errors.As(err, &corrupt):
		err = fleet.NewFault(fleet.CodeImageCorrupt, fleet.Invalid, err, "verify image %s", a.Path)
	case errors.Is(err, ErrChanged):
		err = fleet.NewFault(fleet.CodeImageCorrupt, fleet.Conflict, err, "verify image %s", a.Path)
	default:
		err = fleet.NewFault(fleet.CodeImageMissing, fleet.Invalid, err, "verify image %s", a.Path)
	}
	return Verified{}, err
}

func (v Verifier) verify(ctx context.Context, a Artifact, progress func(done, total int64)) (Verified, error) {
	if !isSHA256(a.SHA256) {
		return Verified{}, errors.New("no sha256 is known for it")
	}
	f, before, err := openStamped(a.Path)
	if err != nil {
		return Verified{}, err
	}
	defer f.Close()
	got, known := v.recall(before)
	if !known {
		if got, err = hash(ctx, f, before.Size, progress); err != nil {
			return Verified{}, err
		}
		after, err := stampOf(f, a.Path)
		if err != nil {
			return Verified{}, err
		}
		if after != before {
			return Verified{}, ErrChanged
		}
	}
	if got != a.SHA256 {
		return Verified{}, &CorruptError{Path: a.Path, Want: a.SHA256, Got: got, Size: before.Size}
	}
	if !known {
		if err := v.remember(before, got); err != nil {
			return Verified{}, fmt.Errorf("remember the result: %w", err)
		}
	}
	a.Size = before.Size
	return Verified{artifact: a, stamp: before}, nil
}

func hash(ctx context.Context, r io.Reader, total int64, progress func(done, total int64)) (string, error) {
	h := sha256.New()
	buf := make([]byte, 1<<20)
	var done int64
	for {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		n, err := r.Read(buf)
		h.Write(buf[:n])
		done += int64(n)
		if progress != nil {
			progress(done, total)
		}
		if errors.Is(err, io.EOF) {
			return hex.EncodeToString(h.Sum(nil)), nil
		}
		if err != nil {
			return "", err
		}
	}
}

// memory is one record of the cache.
type memory struct {
	Version int    `json:"version"`
	File    stamp  `json:"file"`
	SHA256  string `json:"sha256"`
}

const (
	memoryVersion = 1
	maxMemory     = 64 << 10
)

func (v Verifier) memoryPath(s stamp) string {
	sum := sha256.Sum256([]byte(s.Path))
	return filepath.Join(v.Cache, "verified-"+hex.EncodeToString(sum[:])+".json")
}

// recall gives the digest found earlier for exactly this state of the file. A
// record that is damaged or of another state counts as none.
func (v Verifier) recall(s stamp) (string, bool) {
	if v.Cache == "" {
		return "", false
	}
	f, err := os.Open(v.memoryPath(s))
	if err != nil {
		return "", false
	}
	defer f.Close()
	var m memory
	if err := json.NewDecoder(io.LimitReader(f, maxMemory)).Decode(&m); err != nil {
		return "", false
	}
	return m.SHA256, m.Version == memoryVersion && m.File == s && isSHA256(m.SHA256)
}

// remember writes a record atomically.
func (v Verifier) remember(s stamp, digest string) error {
	if v.Cache == "" {
		return nil
	}
	if err := os.MkdirAll(v.Cache, 0o700); err != nil {
		return err
	}
	b, err := json.Marshal(memory{Version: memoryVersion, File: s, SHA256: digest})
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(v.Cache, "verified-*.tmp")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // in vain once renamed
	_, err = tmp.Write(b)
	// Not synced: a record lost in a crash costs one hashing, a torn one is refused.
	if err := errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), v.memoryPath(s))
}
