package images

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"metalrise.dev/fleet"
)

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// files of a complete release; the disk's content is not packed really, which
// nothing here looks at.
var content = map[string][]byte{
	"live.iso":    []byte("iso"),
	"disk.zst":    []byte("packed disk"),
	"disk.gz":     []byte("disk packed otherwise"),
	"pxe/kernel":  []byte("kernel"),
	"pxe/initrd":  []byte("initrd"),
	"pxe/rootfs":  []byte("rootfs"),
	"outside/own": []byte("x"),
}

func entry(location string) map[string]any {
	return map[string]any{"location": location, "sha256": sum(content[location])}
}

// metadata is a complete stream with one change made to its formats.
func metadata(change func(formats map[string]any)) map[string]any {
	disk := func(location string) map[string]any {
		e := entry(location)
		e["uncompressed-sha256"] = sum([]byte("disk"))
		return map[string]any{"disk": e}
	}
	formats := map[string]any{
		"iso":     map[string]any{"disk": entry("live.iso")},
		"raw.gz":  disk("disk.gz"),
		"raw.zst": disk("disk.zst"),
		"pxe":     map[string]any{"kernel": entry("pxe/kernel"), "initramfs": entry("pxe/initrd"), "rootfs": entry("pxe/rootfs")},
	}
	if change != nil {
		change(formats)
	}
	return map[string]any{
		"stream":   "stable",
		"metadata": map[string]any{"last-modified": "2026-01-01T00:00:00Z"},
		"architectures": map[string]any{"x86_64": map[string]any{"artifacts": map[string]any{
			"metal": map[string]any{"release": "44.20260101.3.0", "formats": formats},
		}}},
	}
}

// release writes a folder with the files and the metadata.
func release(t *testing.T, meta any) string {
	t.Helper()
	dir := t.TempDir()
	for name, b := range content {
		p := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, b, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	b, ok := meta.([]byte)
	if !ok {
		var err error
		if b, err = json.Marshal(meta); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "stream.json"), b, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestLoad(t *testing.T) {
	dir := release(t, metadata(nil))
	for _, ref := range []string{dir, filepath.Join(dir, "stream.json"), dir + "/"} {
		r, err := Load(context.Background(), ref)
		if err != nil {
			t.Fatal(ref, err)
		}
		if r.Stream != "stable" || r.Version != "44.20260101.3.0" || r.Arch != X86_64 {
			t.Errorf("%s: %+v", ref, r)
		}
		want := Artifact{Path: filepath.Join(dir, "disk.zst"), SHA256: sum(content["disk.zst"]), UncompressedSHA256: sum([]byte("disk")), Size: 11, Format: FormatRawZst}
		if r.Disk != want {
			t.Errorf("disk %+v, want %+v", r.Disk, want)
		}
		if r.ISO.Path != filepath.Join(dir, "live.iso") || r.ISO.Format != FormatISO || r.PXE == nil || r.PXE.Rootfs.Size != 6 {
			t.Errorf("%s: %+v", ref, r)
		}
	}
	t.Chdir(dir)
	if r, err := Load(context.Background(), "stream.json"); err != nil || !filepath.IsAbs(r.ISO.Path) {
		t.Errorf("bare file name: %+v, %v", r.ISO, err)
	}
}

func TestLoadWithoutPXEAndPacking(t *testing.T) {
	r, err := Load(context.Background(), release(t, metadata(func(f map[string]any) {
		delete(f, "pxe")
		delete(f, "raw.zst")
		delete(f, "raw.gz")
		f["raw"] = map[string]any{"disk": entry("disk.gz")}
	})))
	if err != nil {
		t.Fatal(err)
	}
	if r.PXE != nil || r.Disk.Format != FormatRaw || r.Disk.UncompressedSHA256 != r.Disk.SHA256 {
		t.Errorf("%+v", r)
	}
	want := fleet.ImageRef{Stream: "stable", Version: "44.20260101.3.0", ISOSHA256: sum(content["live.iso"]),
		DiskSHA256: sum(content["disk.gz"]), DiskBytes: int64(len(content["disk.gz"]))}
	if r.Ref() != want {
		t.Errorf("ref %+v, want %+v", r.Ref(), want)
	}
}

func TestDigestIsOfContentNotOfPlace(t *testing.T) {
	load := func(meta any) Release {
		t.Helper()
		r, err := Load(context.Background(), release(t, meta))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	one := load(metadata(nil))
	if other := load(metadata(nil)); one.Digest() != other.Digest() || one.ISO.Path == other.ISO.Path {
		t.Error("the same release in another folder has another digest")
	}
	seen := map[string]string{"": one.Digest()}
	change := map[string]func(r *Release){
		"stream": func(r *Release) { r.Stream = "next" }, "version": func(r *Release) { r.Version = "1" },
		"iso": func(r *Release) { r.ISO.SHA256 = "" }, "disk": func(r *Release) { r.Disk.UncompressedSHA256 = "" },
		"format": func(r *Release) { r.Disk.Format = FormatRaw }, "pxe": func(r *Release) { r.PXE = nil },
	}
	for name, f := range change {
		r := one
		f(&r)
		if d := r.Digest(); slices.Contains(slices.Collect(maps.Values(seen)), d) {
			t.Errorf("digest does not depend on %s", name)
		} else {
			seen[name] = d
		}
	}
}

func TestAllFaultsAtOnce(t *testing.T) {
	dir := release(t, metadata(func(f map[string]any) {
		f["iso"] = map[string]any{"disk": map[string]any{"location": "https://example.org/live.iso", "sha256": "ABC"}}
		f["raw.zst"] = map[string]any{"disk": entry("disk.zst")} // no digest of the unpacked disk
		f["pxe"] = map[string]any{
			"kernel":    map[string]any{"location": "../../etc/passwd", "sha256": sum(nil)},
			"initramfs": map[string]any{"location": "pxe/none", "sha256": sum(nil)},
		}
	}))
	_, err := Load(context.Background(), dir)
	var invalid *InvalidError
	if !errors.As(err, &invalid) || fleet.CodeOf(err) != fleet.CodeImageMissing || fleet.KindOf(err) != fleet.Invalid {
		t.Fatal(err)
	}
	at := "architectures.x86_64.artifacts.metal.formats."
	want := []string{at + "iso.disk.location", at + "iso.disk.sha256", at + "pxe.initramfs.location", at + "pxe.kernel.location", at + "pxe.rootfs", at + "raw.zst.disk.uncompressed-sha256"}
	var got []string
	for _, f := range invalid.Faults {
		got = append(got, f.Path)
		if f.Why == "" || f.Remedy == "" {
			t.Errorf("%+v has no reason or remedy", f)
		}
		if (f.Reason == Remote) != (f.Path == at+"iso.disk.location") {
			t.Errorf("%s: reason %q", f.Path, f.Reason)
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("faults at\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestNoWayOutOfTheFolder(t *testing.T) {
	for _, location := range []string{"../live.iso", "/etc/passwd", "a/../../x", "link", "linkdir/passwd", "outside", "file:///etc/passwd"} {
		dir := release(t, metadata(func(f map[string]any) {
			f["iso"] = map[string]any{"disk": map[string]any{"location": location, "sha256": sum(nil)}}
		}))
		if err := errors.Join(os.Symlink("/etc/passwd", filepath.Join(dir, "link")), os.Symlink("/etc", filepath.Join(dir, "linkdir"))); err != nil {
			t.Fatal(err)
		}
		var invalid *InvalidError
		if _, err := Load(context.Background(), dir); !errors.As(err, &invalid) || len(invalid.Faults) != 1 {
			t.Errorf("%s: %v", location, err)
		}
	}
}

func TestHostileMetadata(t *testing.T) {
	for name, b := range map[string][]byte{
		"empty": {}, "not JSON": []byte("<html>"), "null": []byte("null"), "list": []byte("[]"), "no architecture": []byte(`{"stream":"x"}`),
		"no metal":   []byte(`{"stream":"x","architectures":{"x86_64":{}}}`),
		"null disk":  []byte(`{"stream":"x","architectures":{"x86_64":{"artifacts":{"metal":{"release":"1","formats":{"iso":{"disk":null}}}}}}}`),
		"too large":  bytes.Repeat([]byte(" "), maxMetadata+1),
		"wrong type": []byte(`{"stream":1}`),
	} {
		if r, err := Load(context.Background(), release(t, b)); err == nil {
			t.Errorf("%s: loaded %+v", name, r)
		}
	}
	if _, err := Load(context.Background(), filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing folder: %v", err)
	}
	var invalid *InvalidError
	if _, err := Load(context.Background(), "https://example.org/stable.json"); !errors.As(err, &invalid) || invalid.Faults[0].Reason != Remote {
		t.Errorf("URL: %v", err)
	}
}

// verifying gives an artifact of 3 MiB and a bit, and counts hashings.
func verifying(t *testing.T) (v Verifier, a Artifact, verify func() (Verified, error), hashed *int) {
	b := bytes.Repeat([]byte("0123456789abcdef"), 200_001)
	p := filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(p, b, 0o644); err != nil {
		t.Fatal(err)
	}
	v = Verifier{Cache: filepath.Join(t.TempDir(), "cache")}
	a = Artifact{Path: p, SHA256: sum(b), Format: FormatRaw}
	hashed = new(int)
	return v, a, func() (Verified, error) {
		return v.Verify(context.Background(), a, func(done, total int64) {
			if total != int64(len(b)) {
				t.Errorf("progress says %d of %d", done, total)
			}
			if done == total {
				*hashed++
			}
		})
	}, hashed
}

func TestVerifyHashesOnce(t *testing.T) {
	v, a, verify, hashed := verifying(t)
	got, err := verify()
	if err != nil || *hashed == 0 {
		t.Fatal(err, *hashed)
	}
	if got.Artifact().Size != 3200016 {
		t.Errorf("size %d", got.Artifact().Size)
	}
	f, err := got.Open()
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	*hashed = 0
	if _, err := verify(); err != nil || *hashed != 0 {
		t.Errorf("second time: %v, hashed %d times", err, *hashed)
	}
	// A promise of another digest is not met by what is remembered.
	b := a
	b.SHA256 = sum(nil)
	var corrupt *CorruptError
	if _, err := v.Verify(context.Background(), b, nil); !errors.As(err, &corrupt) || corrupt.Got != a.SHA256 {
		t.Errorf("other digest: %v", err)
	}
}

func TestCorruptFileIsNoticed(t *testing.T) {
	_, a, verify, hashed := verifying(t)
	good, err := verify()
	if err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(a.Path)
	if err != nil {
		t.Fatal(err)
	}
	*hashed = 0
	f, err := os.OpenFile(a.Path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	// One flipped byte, size and modification time as before.
	time.Sleep(20 * time.Millisecond) // beyond the granularity of change times
	_, err = f.WriteAt([]byte("!"), 1<<20)
	if err := errors.Join(err, f.Close(), os.Chtimes(a.Path, st.ModTime(), st.ModTime())); err != nil {
		t.Fatal(err)
	}
	var corrupt *CorruptError
	if _, err := verify(); !errors.As(err, &corrupt) || corrupt.Want != a.SHA256 || corrupt.Got == a.SHA256 || *hashed == 0 {
		t.Errorf("corrupt file: %v, hashed %d times", err, *hashed)
	} else if fleet.CodeOf(err) != fleet.CodeImageCorrupt || fleet.KindOf(err) != fleet.Invalid {
		t.Errorf("corrupt file: code %s, kind %s", fleet.CodeOf(err), fleet.KindOf(err))
	}
	if _, err := good.Open(); !errors.Is(err, ErrChanged) {
		t.Errorf("Open: %v", err)
	}
	if _, err := verify(); !errors.As(err, &corrupt) {
		t.Errorf("second look at the corrupt file: %v", err)
	}
}

func TestFileWrittenWhileHashed(t *testing.T) {
	v, a, _, _ := verifying(t)
	_, err := v.Verify(context.Background(), a, func(done, _ int64) {
		if done == 1<<20 {
			f, err := os.OpenFile(a.Path, os.O_WRONLY|os.O_APPEND, 0)
			if err == nil {
				_, err = f.Write([]byte("more"))
				f.Close()
			}
			if err != nil {
				t.Error(err)
			}
		}
	})
	if !errors.Is(err, ErrChanged) {
		t.Errorf("got %v", err)
	}
}

func TestDamagedMemoryIsNotBelieved(t *testing.T) {
	v, _, verify, hashed := verifying(t)
	if _, err := verify(); err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(v.Cache, "*"))
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	whole, _ := os.ReadFile(names[0])
	for _, b := range [][]byte{nil, whole[:len(whole)/2], []byte("{}"), bytes.Replace(whole, []byte(`"size":3200016`), []byte(`"size":3200015`), 1)} {
		if err := os.WriteFile(names[0], b, 0o600); err != nil {
			t.Fatal(err)
		}
		*hashed = 0
		if _, err := verify(); err != nil || *hashed == 0 {
			t.Errorf("record %.30q: %v, hashed %d times", b, err, *hashed)
		}
	}
	if st, err := os.Stat(v.Cache); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("cache folder: %v, %v", st.Mode(), err)
	}
}

func TestVerifyStops(t *testing.T) {
	v, a, _, _ := verifying(t)
	ctx, cancel := context.WithCancel(context.Background())
	_, err := v.Verify(ctx, a, func(int64, int64) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	for _, p := range []string{t.TempDir(), "/dev/zero", filepath.Join(t.TempDir(), "none")} {
		a.Path = p
		if _, err := v.Verify(context.Background(), a, nil); err == nil {
			t.Errorf("%s was verified", p)
		}
	}
	if _, err := v.Verify(context.Background(), Artifact{Path: a.Path}, nil); err == nil {
		t.Error("a file without promised digest was verified")
	}
}
