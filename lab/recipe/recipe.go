// Package recipe makes things that take long once, and keeps them by what they
// are made from: it is the common ground of the lab's builds (node image,
// cluster software), which differ in all else.
//
// It never decides that a result is stale by age: a result lives under the
// digest of everything that went into it, and a change of any of it is another
// result. Old results stay until someone removes them.
package recipe

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Builder carries what every step of one build needs.
type Builder struct {
	Ctx      context.Context // its end stops every step
	CacheDir string          // absolute; holds the results
	progress func(string)
}

// New prepares builds whose results lie in cacheDir, which is made if missing.
// progress may be nil; it is told each step in a few words.
func New(ctx context.Context, cacheDir string, progress func(step string)) (*Builder, error) {
	if progress == nil {
		progress = func(string) {}
	}
	dir, err := filepath.Abs(cacheDir)
	if err != nil {
		return nil, fmt.Errorf("cache directory %q: %w", cacheDir, err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("cache directory: %w", err)
	}
	return &Builder{Ctx: ctx, CacheDir: dir, progress: progress}, nil
}

// Say tells the caller what is being done now.
func (b *Builder) Say(step string) { b.progress(step) }

// Cached returns cacheDir/NAME-KEY, making it first if it is missing. fill
// makes out, may use work as it likes, and both are on the cache's file system.
// A result appears by one rename, so that an interrupted build leaves none;
// what an interrupted build did leave is removed by the next one. The lock lets
// one builder of a name work at a time, in this process or another.
func (b *Builder) Cached(name, key string, fill func(out, work string) error) (string, error) {
	final := filepath.Join(b.CacheDir, name+"-"+key)
	if _, err := os.Stat(final); err == nil {
		return final, nil
	}
	unlock, err := b.lock(name)
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(final); err == nil {
		return final, nil
	}
	temp := filepath.Join(b.CacheDir, "."+name+".build")
	if err := os.RemoveAll(temp); err != nil {
		return "", fmt.Errorf("remove an interrupted build: %w", err)
	}
	defer os.RemoveAll(temp)
	out, work := filepath.Join(temp, "out"), filepath.Join(temp, "work")
	for _, dir := range []string{out, work} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return "", err
		}
	}
	if err := fill(out, work); err != nil {
		return "", err
	}
	if err := b.Ctx.Err(); err != nil {
		return "", err
	}
	if err := os.Rename(out, final); err != nil {
		return "", err
	}
	return final, nil
}

// lock waits for the exclusive lock of one name of the cache.
func (b *Builder) lock(name string) (unlock func(), err error) {
	path := filepath.Join(b.CacheDir, "."+name+".lock")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	told := false
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if !told {
			b.Say("waiting for another builder of the " + name)
			told = true
		}
		select {
		case <-b.Ctx.Done():
			f.Close()
			return nil, b.Ctx.Err()
		case <-tick.C:
		}
	}
}
