package kubernetes

import (
	"os"
	"testing"
	"time"

	"metalrise.dev/lab/machine/container"
)

// cacheDir is where what takes long to make is kept between runs.
func cacheDir(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv("METALRISE_CACHE"); dir != "" {
		return dir
	}
	return t.TempDir()
}

// payload returns the folder of a payload, built if need be.
func payload(t *testing.T) string {
	t.Helper()
	if os.Getenv("METALRISE_REAL") != "1" {
		t.Skip("skipped: heavy; set METALRISE_REAL=1")
	}
	if os.Getuid() != 0 {
		t.Skip("skipped: needs root")
	}
	begin := time.Now()
	dir, err := Build(t.Context(), cacheDir(t), func(s string) { t.Logf("%6.1fs %s", time.Since(begin).Seconds(), s) })
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// Container machines begin as copies of this program.
func TestMain(m *testing.M) {
	container.MaybeInit()
	os.Exit(m.Run())
}
