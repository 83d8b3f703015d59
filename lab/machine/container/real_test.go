package container

import (
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"metalrise.dev/lab/machine"
	"metalrise.dev/lab/machine/machinetest"
	"metalrise.dev/lab/nodeimage"
)

func TestMain(m *testing.M) {
	MaybeInit()
	os.Exit(m.Run())
}

func TestConformance(t *testing.T) {
	machinetest.Require(t)
	dir, ignition := realParts(t)
	image := machinetest.Image{ISO: only(t, dir, "*-live.x86_64.iso"), Disk: unpack(t, only(t, dir, "*.raw.zst")), Patience: time.Minute}
	machinetest.Run(t, func(t *testing.T, spec machine.Spec) machine.Hardware {
		hw, err := New(spec, ignition)
		if err != nil {
			t.Fatal(err)
		}
		return hw
	}, image)
}

// realParts returns the node image's folder and the Ignition program.
// METALRISE_CACHE keeps them between runs; METALRISE_NODE_IMAGE names a folder
// with an image to take instead of building one.
func realParts(t testing.TB) (dir, ignition string) {
	t.Helper()
	cache := os.Getenv("METALRISE_CACHE")
	if cache == "" {
		cache = t.TempDir()
	}
	say := func(s string) { t.Log(s) }
	ignition, err := nodeimage.IgnitionBinary(t.Context(), cache, say)
	if err != nil {
		t.Fatal(err)
	}
	if dir = os.Getenv("METALRISE_NODE_IMAGE"); dir == "" {
		if dir, err = nodeimage.Ensure(t.Context(), cache, say); err != nil {
			t.Fatal(err)
		}
	}
	return dir, ignition
}

func only(t testing.TB, dir, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s in %s: got %v (%v), want one file", pattern, dir, found, err)
	}
	return found[0]
}

// unpack writes a compressed disk image out, with holes where it has zeroes.
func unpack(t testing.TB, path string) string {
	t.Helper()
	in, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	z, err := zstd.NewReader(in)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	out, err := os.Create(filepath.Join(t.TempDir(), "disk.raw"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := io.Copy(out, z); err != nil {
		t.Fatal(err)
	}
	return out.Name()
}
