package recipe

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

func testBuilder(t *testing.T, ctx context.Context, cache string) *Builder {
	t.Helper()
	b, err := New(ctx, cache, nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestCachedBuildsOnceForAll(t *testing.T) {
	cache := t.TempDir()
	var built atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		b := testBuilder(t, t.Context(), cache)
		all.Go(func() {
			dir, err := b.Cached("thing", "k1", func(out, work string) error {
				built.Add(1)
				return os.WriteFile(filepath.Join(out, "file"), []byte("x"), 0o644)
			})
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := os.Stat(filepath.Join(dir, "file")); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := built.Load(); n != 1 {
		t.Errorf("built %d times", n)
	}
}

// A build that fails or is cut leaves nothing that looks like a result, and what
// a killed one left is gone before the next one starts.
func TestCachedLeavesNoHalves(t *testing.T) {
	cache := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	b := testBuilder(t, ctx, cache)
	failure := errors.New("no")
	if _, err := b.Cached("thing", "k1", func(string, string) error { return failure }); !errors.Is(err, failure) {
		t.Errorf("got %v", err)
	}
	if _, err := b.Cached("thing", "k1", func(string, string) error { cancel(); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(cache, "thing*")); left != nil {
		t.Errorf("left %v", left)
	}
	put(t, filepath.Join(cache, ".thing.build/out/half"), "x")
	dir, err := testBuilder(t, t.Context(), cache).Cached("thing", "k1", func(string, string) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "half")); err == nil {
		t.Error("took over what a killed build left")
	}
}

// A command's whole family ends with the context.
func TestCommandEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	b := testBuilder(t, ctx, t.TempDir())
	fifo := filepath.Join(t.TempDir(), "f")
	done := make(chan error, 1)
	go func() {
		done <- b.Run(Command{Name: "sh", Args: []string{"-c", `mkfifo "$1"; sleep 600 & echo up > "$1"; wait`, "sh", fifo}})
	}()
	for {
		if data, err := os.ReadFile(fifo); err == nil && len(data) > 0 {
			break
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestCommandReportsItsOutput(t *testing.T) {
	b := testBuilder(t, t.Context(), t.TempDir())
	err := b.Run(Command{Name: "sh", Args: []string{"-c", "echo the reason >&2; exit 3"}})
	if err == nil || !strings.Contains(err.Error(), "the reason") {
		t.Errorf("got %v", err)
	}
}

func TestKeyTellsListsApart(t *testing.T) {
	a, b := NewKey(), NewKey()
	a.Add("x", "a", "b")
	b.Add("x", "a b")
	if a.Sum() == b.Sum() {
		t.Error("two lists, one key")
	}
}

func TestCommandTellsEachLine(t *testing.T) {
	b := testBuilder(t, t.Context(), t.TempDir())
	var said []string
	out, err := b.Output(Command{Name: "sh", Args: []string{"-c", "echo result; printf 'one\ntwo\nrest' >&2"},
		Each: func(l string) { said = append(said, l) }})
	if err != nil || out != "result\n" || strings.Join(said, "|") != "one|two" {
		t.Errorf("got %q, %q, %v", out, said, err)
	}
}
