package iso

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"metalrise.dev/fleet"
	"metalrise.dev/iso/isotest"
)

func build(tb testing.TB, o isotest.Options) string {
	tb.Helper()
	p := filepath.Join(tb.TempDir(), "base.iso")
	if err := isotest.Build(p, o); err != nil {
		tb.Fatal(err)
	}
	return p
}

func open(tb testing.TB, o isotest.Options) *Base {
	tb.Helper()
	b, err := Open(build(tb, o))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { b.Close() })
	return b
}

const config = `{"ignition":{"version":"3.4.0"},"passwd":{"users":[{"name":"core"}]}}`

var defaultKargs = []string{"coreos.liveiso=fedora-coreos-test", "ignition.firstboot", "ignition.platform.id=metal"}

// styles are all the ways an ISO tells where its areas are.
var styles = map[string]isotest.Options{
	"info":         {},
	"plain names":  {PlainNames: true},
	"header kargs": {KargStyle: isotest.KargsHeader, Embed: isotest.EmbedFile},
	"markers":      {KargStyle: isotest.KargsMarker, Embed: isotest.EmbedFile},
	"headers":      {KargStyle: isotest.KargsHeader, Embed: isotest.EmbedHeader},
}

func TestWhatIsWrittenIsReadBack(t *testing.T) {
	for name, o := range styles {
		t.Run(name, func(t *testing.T) {
			b := open(t, o)
			if b.Label() != "fedora-coreos-test" || b.EmbedSize() != 256<<10 {
				t.Errorf("label %q, embed area %d", b.Label(), b.EmbedSize())
			}
			extra := []string{"console=ttyS0,115200n8", "ip=[fd00::2]::[fd00::1]:64:n1:eno1:none"}
			im, err := b.Personalise(Personal{Ignition: []byte(config), AppendKargs: extra})
			if err != nil {
				t.Fatal(err)
			}
			c, err := Inspect(im, im.Size())
			if err != nil {
				t.Fatal(err)
			}
			if string(c.Ignition) != config {
				t.Errorf("config read back: %q", c.Ignition)
			}
			if want := append(slices.Clone(defaultKargs), extra...); !slices.Equal(c.Kargs, want) {
				t.Errorf("kernel arguments\n got %q\nwant %q", c.Kargs, want)
			}
			ign, err := ReadIgnition(im, im.Size())
			if err != nil || string(ign) != config {
				t.Errorf("ReadIgnition: %q, %v", ign, err)
			}
			kargs, err := ReadKargs(im, im.Size())
			if err != nil || !slices.Equal(kargs, c.Kargs) {
				t.Errorf("ReadKargs: %q, %v", kargs, err)
			}
		})
	}
}

// TestEveryAreaIsWritten looks at the boot loader configurations as text.
func TestEveryAreaIsWritten(t *testing.T) {
	for name, o := range styles {
		b := open(t, o)
		im, err := b.Personalise(Personal{AppendKargs: []string{"console=ttyS7"}})
		if err != nil {
			t.Fatal(name, err)
		}
		v, err := openVolume(im, im.Size())
		if err != nil {
			t.Fatal(name, err)
		}
		for _, p := range []string{"EFI/fedora/grub.cfg", "isolinux/isolinux.cfg"} {
			text, _, err := v.readFile(p, 1<<20)
			if err != nil {
				t.Fatal(name, err)
			}
			_, after, _ := strings.Cut(string(text), "ignition.platform.id=metal console=ttyS7\n")
			line, _, _ := strings.Cut(after, "\n")
			if !strings.HasPrefix(line, "#") || strings.Trim(line, "#") != " COREOS_KARG_EMBED_AREA" {
				t.Errorf("%s: %s: the line after the arguments is %.40q…", name, p, line)
			}
		}
	}
}

// reads counts what a remote ISO would be asked for.
type reads struct {
	io.ReaderAt
	calls, bytes int
}

func (r *reads) ReadAt(p []byte, off int64) (int, error) {
	r.calls++
	r.bytes += len(p)
	return r.ReaderAt.ReadAt(p, off)
}

// TestInspectReadsLittle: over HTTP each read is a request, and a thousand
// machines may boot at once.
func TestInspectReadsLittle(t *testing.T) {
	im, _ := personal(t, open(t, isotest.Options{RootfsSize: 64 << 20}))
	r := &reads{ReaderAt: im}
	c, err := Inspect(r, im.Size())
	if err != nil || string(c.Ignition) != config {
		t.Fatal(c, err)
	}
	if r.calls > 4 || r.bytes > 256<<10 {
		t.Errorf("%d reads, %d bytes; want at most 4 and 256 KiB", r.calls, r.bytes)
	}
}

func TestOnlyTheAreasDiffer(t *testing.T) {
	b := open(t, isotest.Options{})
	im, err := b.Personalise(Personal{Ignition: []byte(config), AppendKargs: []string{"nomodeset"}})
	if err != nil {
		t.Fatal(err)
	}
	base, err := os.ReadFile(b.Path())
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(io.NewSectionReader(im, 0, im.Size()))
	if err != nil || len(got) != len(base) {
		t.Fatalf("%d bytes of %d, %v", len(got), len(base), err)
	}
	inArea := func(i int64) bool {
		for _, a := range b.layout.kargs {
			if i >= a.off && i < a.off+int64(a.size) {
				return true
			}
		}
		e := b.layout.ignition
		return i >= e.off && i < e.off+e.size
	}
	changed := 0
	for i := range got {
		if got[i] != base[i] {
			changed++
			if !inArea(int64(i)) {
				t.Fatalf("byte %d differs and lies in no area", i)
			}
		}
	}
	if changed == 0 {
		t.Fatal("nothing differs")
	}
	now, _ := os.ReadFile(b.Path())
	if !bytes.Equal(now, base) {
		t.Fatal("the base file was written to")
	}
}

func TestPersonalisingAPersonalisedISO(t *testing.T) {
	b := open(t, isotest.Options{})
	long, err := b.Personalise(Personal{Ignition: []byte(strings.Repeat(config, 99)), AppendKargs: []string{"a=1"}})
	if err != nil {
		t.Fatal(err)
	}
	p := filepath.Join(t.TempDir(), "own.iso")
	f, err := os.Create(p)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := long.WriteRange(f, 0, long.Size()); err != nil || n != long.Size() {
		t.Fatal(n, err)
	}
	f.Close()
	again, err := Open(p)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	im, err := again.Personalise(Personal{Ignition: []byte(config), AppendKargs: []string{"b=2"}})
	if err != nil {
		t.Fatal(err)
	}
	c, err := Inspect(im, im.Size())
	if err != nil {
		t.Fatal(err)
	}
	if string(c.Ignition) != config || !slices.Equal(c.Kargs, append(slices.Clone(defaultKargs), "a=1", "b=2")) {
		t.Errorf("got %q and %q", c.Ignition, c.Kargs)
	}
	if len(c.DefaultKargs) == 0 || strings.Contains(c.DefaultKargs, "a=1") {
		t.Errorf("default kernel arguments %q", c.DefaultKargs)
	}
}

// noise is a config that no compressor makes smaller.
func noise(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{7}).Read(b)
	return b
}

func TestTooLarge(t *testing.T) {
	// an area in the midst of a file cannot become longer
	b := open(t, isotest.Options{Files: map[string][]byte{"images/other.img": make([]byte, 8192),
		"coreos/igninfo.json": []byte(`{"file": "images/other.img", "offset": 0, "length": 4096}`)}})
	var tooLarge *TooLargeError
	_, err := b.Personalise(Personal{Ignition: noise(8192)})
	if fleet.CodeOf(err) != fleet.CodeIgnitionTooLarge || fleet.KindOf(err) != fleet.Invalid {
		t.Errorf("code %s, kind %s", fleet.CodeOf(err), fleet.KindOf(err))
	}
	if !errors.As(err, &tooLarge) || tooLarge.Part != PartIgnition || tooLarge.Have != 4096 || tooLarge.Raw != 8192 || tooLarge.Need <= 4096 {
		t.Errorf("Ignition: %v", err)
	}
	var many []string
	for i := range 200 {
		many = append(many, fmt.Sprintf("arg%d=value", i))
	}
	_, err = b.Personalise(Personal{AppendKargs: many})
	if !errors.As(err, &tooLarge) || tooLarge.Part != PartKargs {
		t.Errorf("kernel arguments: %v", err)
	}
}

// TestExactlyFullKargsArea: the end character needs a byte too.
func TestExactlyFullKargsArea(t *testing.T) {
	b := open(t, isotest.Options{KargsSize: 300})
	room := 299 - len(strings.Join(defaultKargs, " "))
	fits := "x=" + strings.Repeat("y", room-3)
	im, err := b.Personalise(Personal{AppendKargs: []string{fits}})
	if err != nil {
		t.Fatal(err)
	}
	got, err := ReadKargs(im, im.Size())
	if err != nil || got[len(got)-1] != fits {
		t.Fatal(got, err)
	}
	if _, err := b.Personalise(Personal{AppendKargs: []string{fits + "y"}}); err == nil {
		t.Fatal("one byte too many was accepted")
	}
}

func TestISOsWithoutAreas(t *testing.T) {
	p := build(t, isotest.Options{Embed: isotest.NoEmbed, KargStyle: isotest.NoKargs})
	if _, err := Open(p); !errors.Is(err, ErrNoEmbedArea) {
		t.Errorf("Open: %v", err)
	}
	f, err := os.Open(p)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, _ := f.Stat()
	if _, err := ReadIgnition(f, st.Size()); !errors.Is(err, ErrNoEmbedArea) {
		t.Errorf("ReadIgnition: %v", err)
	}
	if _, err := ReadKargs(f, st.Size()); !errors.Is(err, ErrNoKargsArea) {
		t.Errorf("ReadKargs: %v", err)
	}
	b := open(t, isotest.Options{KargStyle: isotest.NoKargs})
	if _, err := ReadIgnition(b, b.Size()); !errors.Is(err, ErrNoIgnition) {
		t.Errorf("pristine ISO: %v", err)
	}
	if _, err := b.Personalise(Personal{AppendKargs: []string{"x"}}); !errors.Is(err, ErrNoKargsArea) {
		t.Errorf("Personalise: %v", err)
	}
}

func TestRefusedKargsAreAllReported(t *testing.T) {
	b := open(t, isotest.Options{})
	_, err := b.Personalise(Personal{AppendKargs: []string{"good=1", "two words", "x;reboot"}})
	var k *KargError
	if !errors.As(err, &k) || !strings.Contains(err.Error(), "two words") || !strings.Contains(err.Error(), "x;reboot") {
		t.Fatal(err)
	}
}

func TestCheckKarg(t *testing.T) {
	for _, s := range []string{"quiet", "console=ttyS0,115200n8", "ignition.config.url=https://10.0.0.1:8443/a/b_c-d", "intel_iommu=on",
		"hugepagesz=1G", "ip=10.0.0.2::10.0.0.1:255.255.255.0:n1:eno1:none", "nameserver=[fd00::1]", "a=", "bond=bond0:em1,em2:mode=802.3ad", "x=50%"} {
		if err := CheckKarg(s); err != nil {
			t.Errorf("%q refused: %v", s, err)
		}
	}
	for _, s := range []string{"", "=x", "1x", "-x", "a b", "a\n", "a=\"b\"", "a='b'", "a=$b", "a=b;c", "a={b}", "a=b|c", "a=b&c", "a=<b>", "a=`b`", "a=b\\",
		"a=#b", "#a", "a=*", "a=b?c", "a=é", "a=\x00", "a=\x7f", "ä=1", "x/y", "a=" + strings.Repeat("x", maxKarg)} {
		var k *KargError
		if err := CheckKarg(s); !errors.As(err, &k) {
			t.Errorf("%q accepted", s)
		}
	}
}

func TestExtract(t *testing.T) {
	kernel := bytes.Repeat([]byte("kernel "), 10000)
	b := open(t, isotest.Options{Files: map[string][]byte{KernelPath: kernel}})
	var out bytes.Buffer
	if n, err := b.Extract("/"+KernelPath, &out); err != nil || n != int64(len(kernel)) || !bytes.Equal(out.Bytes(), kernel) {
		t.Errorf("%d bytes, %v", n, err)
	}
	if _, err := b.Extract("images/none", io.Discard); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	if _, err := b.Extract("images", io.Discard); err == nil {
		t.Error("a directory was extracted")
	}
}

func TestDigest(t *testing.T) {
	b := open(t, isotest.Options{})
	raw, _ := os.ReadFile(b.Path())
	sum := sha256.Sum256(raw)
	got, err := b.Digest(context.Background())
	if err != nil || got != hex.EncodeToString(sum[:]) {
		t.Errorf("digest %s, %v", got, err)
	}
	given, err := OpenVerified(b.Path(), "abc")
	if err != nil {
		t.Fatal(err)
	}
	defer given.Close()
	if got, _ := given.Digest(context.Background()); got != "abc" {
		t.Errorf("given digest: %s", got)
	}
	stopped, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := open(t, isotest.Options{}).Digest(stopped); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestETagFollowsTheBytes(t *testing.T) {
	b := open(t, isotest.Options{})
	tag := func(p Personal) string {
		im, err := b.Personalise(p)
		if err != nil {
			t.Fatal(err)
		}
		return im.ETag()
	}
	one := tag(Personal{Ignition: []byte(config)})
	if one != tag(Personal{Ignition: []byte(config)}) {
		t.Error("the same bytes have two tags")
	}
	if one == tag(Personal{Ignition: []byte(config + " ")}) || one == tag(Personal{Ignition: []byte(config), AppendKargs: []string{"x"}}) {
		t.Error("other bytes have the same tag")
	}
}

func TestChangedBaseIsNoticed(t *testing.T) {
	b := open(t, isotest.Options{})
	im, err := b.Personalise(Personal{Ignition: []byte(config)})
	if err != nil {
		t.Fatal(err)
	}
	later := time.Now().Add(time.Hour)
	if err := os.Chtimes(b.Path(), later, later); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Personalise(Personal{}); !errors.Is(err, ErrBaseChanged) {
		t.Errorf("Personalise: %v", err)
	}
	if _, err := im.Open(); !errors.Is(err, ErrBaseChanged) {
		t.Errorf("Open: %v", err)
	}
	if err := os.Rename(build(t, isotest.Options{}), b.Path()); err != nil {
		t.Fatal(err)
	}
	if _, err := im.WriteRange(io.Discard, 0, 10); !errors.Is(err, ErrBaseChanged) {
		t.Errorf("WriteRange after the file was replaced: %v", err)
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	p := Personal{Ignition: []byte("hunter2")}
	if s := fmt.Sprintf("%v %+v %#v %s", p, p, p, p); strings.Contains(s, "hunter2") || strings.Contains(s, "104") {
		t.Error(s)
	}
}
