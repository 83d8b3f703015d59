package nodeimage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// content is everything a build is made from besides packages and modules: the
// files it places, and the code that places them.
//
//go:embed all:files disk.go initramfs.go iso.go nodeimage.go tree.go
var content embed.FS

// builder carries what every step of one build needs.
type builder struct {
	ctx      context.Context
	cacheDir string
	progress func(string)
}

func newBuilder(ctx context.Context, cacheDir string, progress func(string)) (*builder, error) {
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
	return &builder{ctx: ctx, cacheDir: dir, progress: progress}, nil
}

func (b *builder) say(step string) { b.progress(step) }

// cached returns cacheDir/NAME-KEY, making it first if it is missing. fill
// makes out, may use work as it likes, and both are on the cache's file system.
// A result appears by one rename, so that an interrupted build leaves none;
// what an interrupted build did leave is removed by the next one. The lock lets
// one builder of a name work at a time, in this process or another.
func (b *builder) cached(name, key string, fill func(out, work string) error) (string, error) {
	final := filepath.Join(b.cacheDir, name+"-"+key)
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
	temp := filepath.Join(b.cacheDir, "."+name+".build")
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
	if err := b.ctx.Err(); err != nil {
		return "", err
	}
	if err := os.Rename(out, final); err != nil {
		return "", err
	}
	return final, nil
}

// lock waits for the exclusive lock of one name of the cache.
func (b *builder) lock(name string) (unlock func(), err error) {
	path := filepath.Join(b.cacheDir, "."+name+".lock")
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
			b.say("waiting for another builder of the " + name)
			told = true
		}
		select {
		case <-b.ctx.Done():
			f.Close()
			return nil, b.ctx.Err()
		case <-tick.C:
		}
	}
}

// command is one program run of a build.
type command struct {
	dir   string
	name  string
	args  []string
	env   []string // nil: the caller's
	stdin []byte
	// private gives the program its own mount namespace, so that nothing it
	// mounts can outlive it.
	private bool
}

// run executes c and reports the end of its output if it ends badly.
func (b *builder) run(c command) error {
	_, err := b.output(c)
	return err
}

// output is run that returns what the program wrote to its standard output.
// The whole process group ends with the context.
func (b *builder) output(c command) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(b.ctx, c.name, c.args...)
	cmd.Dir, cmd.Env = c.dir, c.env
	cmd.Stdin = bytes.NewReader(c.stdin)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if c.private {
		cmd.SysProcAttr.Unshareflags = syscall.CLONE_NEWNS
	}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	if ctxErr := b.ctx.Err(); ctxErr != nil {
		return "", fmt.Errorf("%s: %w", c.name, ctxErr)
	}
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", c.name, strings.Join(c.args, " "), err, tail(stdout.String()+stderr.String(), 2000))
	}
	return stdout.String(), nil
}

func tail(s string, n int) string {
	s = strings.TrimSpace(s)
	if len(s) <= n {
		return s
	}
	return "…" + s[len(s)-n:]
}

// key is the digest of everything that a result is made from.
type key struct{ h hash.Hash }

func newKey() key { return key{sha256.New()} }

// add takes in a named list, so that no two different lists can look the same.
func (k key) add(name string, values ...string) {
	fmt.Fprintf(k.h, "%q=%q\n", name, values)
}

// addFiles takes in an embedded file, or all files of an embedded directory.
func (k key) addFiles(root string) error {
	return fs.WalkDir(content, root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := content.ReadFile(path)
		k.add(path, string(data))
		return err
	})
}

// sum is short enough for a directory name; 64 bits do not collide by chance
// among the handful of results a cache holds.
func (k key) sum() string { return hex.EncodeToString(k.h.Sum(nil))[:16] }
