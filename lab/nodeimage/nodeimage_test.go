package nodeimage

import (
	"os"
	"testing"
	"time"
)

func ensure(t *testing.T) string {
	t.Helper()
	if os.Getenv("METALRISE_REAL") == "" {
		t.Skip("skipped: METALRISE_REAL is not set, building the image takes minutes")
	}
	if os.Getuid() != 0 {
		t.Skip("skipped: needs root")
	}
	cache := os.Getenv("METALRISE_CACHE")
	if cache == "" {
		cache = t.TempDir()
	}
	begin := time.Now()
	dir, err := Ensure(t.Context(), cache, func(s string) { t.Logf("%6.1fs %s", time.Since(begin).Seconds(), s) })
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%6.1fs done", time.Since(begin).Seconds())
	return dir
}

func TestImage(t *testing.T) {
	dir := ensure(t)
	t.Log(dir)
}
