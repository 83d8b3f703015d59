package node

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// place is a path below an opened folder that cannot be left: os.Root resolves
// every link itself and refuses those that lead outside.
type place struct {
	*os.Root
	full string // the folder's path on the machine, links resolved
	rel  string // the path below it, "." for the folder itself
}

// dir is the path's folder below the root.
func (p *place) dir() string { return path.Dir(p.rel) }

// beside is a path in the same folder.
func (p *place) beside(name string) string { return path.Join(p.dir(), name) }

// open opens the folder below which want lies. The way to the folder may go
// through links of the system (/opt is one on CoreOS), but the folder itself may
// be none, and not lie in a forbidden place. With mayMake missing folders up to
// it are made.
func (s System) open(root, want string, mayMake bool) (*place, error) {
	parent, err := resolve(s.Root, path.Dir(root))
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", root, err)
	}
	full := path.Join(parent, path.Base(root))
	if target, err := os.Readlink(filepath.Join(s.Root, full)); err == nil {
		return nil, fmt.Errorf("%s is a link to %s, and is not followed", root, target)
	}
	if bad, ok := rootOf(full, forbidden()); ok {
		return nil, fmt.Errorf("%s leads into %s, where nothing may be changed", root, bad)
	}
	p := &place{full: full, rel: "."}
	if want != root {
		p.rel = strings.TrimPrefix(want, root+"/")
	}
	at := filepath.Join(s.Root, full)
	if mayMake {
		if err := os.MkdirAll(at, 0o755); err != nil {
			return nil, err
		}
	}
	if p.Root, err = os.OpenRoot(at); err != nil {
		return nil, err
	}
	return p, nil
}

// resolve follows the links of a path on the machine whose files begin at root.
// What is missing is taken as it is written.
func resolve(root, p string) (string, error) {
	const mostLinks = 40 // as the kernel
	done, todo := "/", strings.Split(strings.Trim(p, "/"), "/")
	for links := 0; len(todo) > 0; {
		name := todo[0]
		todo = todo[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			done = path.Dir(done)
			continue
		}
		next := path.Join(done, name)
		target, err := os.Readlink(filepath.Join(root, next))
		if err != nil { // no link, or nothing there
			done = next
			continue
		}
		if links++; links > mostLinks {
			return "", fmt.Errorf("%s: more than %d links", p, mostLinks)
		}
		if path.IsAbs(target) {
			done = "/"
		}
		todo = append(strings.Split(strings.Trim(target, "/"), "/"), todo...)
	}
	return done, nil
}

// parents makes the folders above the path.
func (p *place) parents() error { return p.MkdirAll(p.dir(), 0o755) }

// fresh gives a name beside the path under which nothing lies. It is always the
// same one, so that tries that were cut off leave no more than one behind.
func (p *place) fresh() (string, error) {
	if err := p.parents(); err != nil {
		return "", err
	}
	part := p.beside("." + path.Base(p.rel) + ".new")
	if err := p.Remove(part); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	return part, nil
}

// syncDir flushes the folder that holds the path, so that a rename outlives a
// power cut.
func (p *place) syncDir() error {
	d, err := p.Open(p.dir())
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// write puts content in place, whole or not at all.
func (p *place) write(data []byte, mode fs.FileMode) error {
	part, err := p.fresh()
	if err != nil {
		return err
	}
	f, err := p.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, finish(f, mode)); err != nil {
		return errors.Join(err, p.Remove(part))
	}
	return p.settle(part)
}

// finish gives a new file its mode, flushes and closes it.
func finish(f *os.File, mode fs.FileMode) error {
	return errors.Join(f.Chmod(mode), f.Sync(), f.Close())
}

// settle renames a finished file into its place.
func (p *place) settle(part string) error {
	if err := p.Rename(part, p.rel); err != nil {
		return errors.Join(err, p.Remove(part))
	}
	return p.syncDir()
}

// link puts a symbolic link in place.
func (p *place) link(target string) error {
	if old, err := p.Readlink(p.rel); err == nil && old == target {
		return nil
	}
	part, err := p.fresh()
	if err != nil {
		return err
	}
	// Root.Symlink takes any target: whether it may lead there was checked.
	if err := p.Symlink(target, part); err != nil {
		return err
	}
	return p.settle(part)
}

// holds tells whether a regular file with that content is there. Its mode is
// put right when nothing else differs.
func (p *place) holds(sum string, size int64, mode fs.FileMode) (bool, error) {
	info, err := p.Lstat(p.rel)
	if err != nil || !info.Mode().IsRegular() || info.Size() != size {
		return false, nil //nolint:nilerr // what cannot be looked at is not there, and writing says why
	}
	f, err := p.Open(p.rel)
	if err != nil {
		return false, nil //nolint:nilerr // as above
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	if _, err := io.Copy(h, io.LimitReader(f, size+1)); err != nil || hex.EncodeToString(h.Sum(nil)) != sum {
		return false, nil //nolint:nilerr // a file that cannot be read is written anew
	}
	if info.Mode().Perm() != mode {
		return true, f.Chmod(mode)
	}
	return true, nil
}

// holdsData is holds for content that is at hand.
func (p *place) holdsData(data []byte, mode fs.FileMode) (bool, error) {
	sum := sha256.Sum256(data)
	return p.holds(hex.EncodeToString(sum[:]), int64(len(data)), mode)
}

// mounts lists the mount points at or below a path of the machine.
func (s System) mounts(below string) ([]string, error) {
	b, err := os.ReadFile(filepath.Join(s.Root, "proc/self/mountinfo"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []string
	for line := range bytes.Lines(b) {
		f := bytes.Fields(line)
		if len(f) < 5 {
			continue
		}
		// Blank, tab, newline and backslash are written in octal (proc_pid_mountinfo(5)).
		at := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(string(f[4]))
		if within(at, below) {
			out = append(out, at)
		}
	}
	return out, nil
}
