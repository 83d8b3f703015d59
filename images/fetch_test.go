package images

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"metalrise.dev/fleet"
)

var bg = context.Background()

func offer(t *testing.T, p *publisher, w Wish) Offer {
	t.Helper()
	if w.Arch == "" {
		w.Arch = X86_64
	}
	o, err := p.downloader(t).Offer(bg, w)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestFetchFedoraCoreOS(t *testing.T) {
	p, key, s := newPublisher(t), newSigner(t), openStore(t)
	p.fcos(t, key)
	o := offer(t, p, Wish{OS: FedoraCoreOS, Stream: "stable"})
	var last string
	e, err := s.Fetch(bg, o, Trust{Keys: key.ring}, p.downloader(t), func(file string, done, total int64) {
		if done > total {
			t.Errorf("%s: %d of %d", file, done, total)
		}
		last = file
	})
	if err != nil {
		t.Fatal(err)
	}
	if last == "" || !strings.HasPrefix(e.Name, "fedora-coreos-stable-44.20260101.3.0-x86_64-") || len(e.Files) != 5 {
		t.Errorf("%s %s", e.Name, describe(e))
	}
	for _, f := range e.Files {
		if f.Proof != BySignature || f.Signer != key.ring.Fingerprints()[0] {
			t.Errorf("%+v", f)
		}
	}
	r, err := Load(bg, e.Folder)
	if err != nil || r.Digest() != e.Digest || r.Ref().ISOSHA256 != e.Files[0].SHA256 || r.Ref().DiskSHA256 != sum([]byte("unpacked")) {
		t.Fatalf("%+v %v", r, err)
	}
	if err := s.Verify(bg, e, nil); err != nil {
		t.Error(err)
	}
	before := len(p.asks)
	again, err := s.Fetch(bg, o, Trust{Keys: key.ring}, p.downloader(t), nil)
	if err != nil || again.Name != e.Name || len(p.asks) != before {
		t.Errorf("fetched again: %v, %d requests", err, len(p.asks)-before)
	}
	// What another key vouched for is not believed by this one.
	if _, err := s.Fetch(bg, o, Trust{Keys: newSigner(t).ring}, p.downloader(t), nil); fleet.CodeOf(err) != fleet.CodeImageCorrupt {
		t.Errorf("by another key: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(s.dir, "partial", "*.part*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	// A changed content is found.
	iso := filepath.Join(e.Folder, e.Files[0].Name)
	os.Chmod(iso, 0o644)
	b, _ := os.ReadFile(iso)
	b[9] ^= 1
	put(t, iso, b)
	if err := s.Verify(bg, e, nil); fleet.CodeOf(err) != fleet.CodeImageCorrupt {
		t.Errorf("damaged: %v", err)
	}
}

// TestFetchPinnedVersion reads the other document, that of a single release.
func TestFetchPinnedVersion(t *testing.T) {
	p := newPublisher(t)
	art := func(n string) map[string]any {
		return map[string]any{"disk": map[string]any{"location": "https://builds.coreos.fedoraproject.org/" + n, "signature": "https://builds.coreos.fedoraproject.org/" + n + ".sig", "sha256": sum([]byte(n))}}
	}
	doc, _ := json.Marshal(map[string]any{"release": "43.1.2.3", "stream": "testing", "metadata": map[string]any{}, "architectures": map[string]any{
		"x86_64": map[string]any{"commit": "x", "media": map[string]any{"metal": map[string]any{"artifacts": map[string]any{"iso": art("a.iso"), "raw.xz": art("a.raw.xz")}}}}}})
	p.files["/prod/streams/testing/builds/43.1.2.3/release.json"] = doc
	o := offer(t, p, Wish{OS: FedoraCoreOS, Stream: "testing", Version: "43.1.2.3"})
	if o.Version != "43.1.2.3" || o.Stream != "testing" || len(o.Promises) != 2 || o.Promises[1].Format != FormatRawXz || o.Metadata != sum(doc) {
		t.Errorf("%+v", o)
	}
	p.fcos(t, newSigner(t))
	_, err := p.downloader(t).Offer(bg, Wish{OS: FedoraCoreOS, Stream: "stable", Version: "1.1", Arch: X86_64, Metadata: p.URL + "/streams/stable.json"})
	if fleet.CodeOf(err) != fleet.CodeImageMissing || !strings.Contains(err.Error(), "44.20260101.3.0") {
		t.Errorf("another version: %v", err)
	}
}

func TestFetchResumes(t *testing.T) {
	key := newSigner(t)
	iso := fcosDir + "live-iso.x86_64.iso"
	for name, c := range map[string]struct {
		change func(p *publisher) // between the two halves
		want   func(asks []string, tag string) bool
	}{
		"same file": {func(*publisher) {}, func(asks []string, tag string) bool {
			return len(asks) == 2 && strings.HasPrefix(asks[1], "bytes=1") && strings.HasSuffix(asks[1], tag)
		}},
		"another entity tag": {func(p *publisher) { p.etag[iso] = `"other"` }, func(asks []string, tag string) bool { return len(asks) == 2 }},
	} {
		t.Run(name, func(t *testing.T) {
			p, s := newPublisher(t), openStore(t)
			p.fcos(t, key)
			tag := p.etag[iso]
			p.cut[iso] = 1 << 20
			o, d := offer(t, p, Wish{OS: FedoraCoreOS, Stream: "stable"}), p.downloader(t)
			d.Tries = 1
			if _, err := s.Fetch(bg, o, Trust{Keys: key.ring}, d, nil); fleet.CodeOf(err) != fleet.CodeImageMissing {
				t.Fatalf("cut off: %v", err)
			}
			if e, b := s.count(t); e+b != 0 {
				t.Fatalf("%d entries and %d blobs of half a file", e, b)
			}
			c.change(p)
			if _, err := s.Fetch(bg, o, Trust{Keys: key.ring}, d, nil); err != nil {
				t.Fatal(err)
			}
			if asks := p.asked(iso); !c.want(asks, tag) {
				t.Errorf("%q", asks)
			}
		})
	}
	t.Run("within one command", func(t *testing.T) {
		p, s := newPublisher(t), openStore(t)
		p.fcos(t, key)
		p.cut[iso] = 1 << 20
		if _, err := s.Fetch(bg, offer(t, p, Wish{OS: FedoraCoreOS, Stream: "stable"}), Trust{Keys: key.ring}, p.downloader(t), nil); err != nil {
			t.Fatal(err)
		}
		if asks := p.asked(iso); len(asks) != 2 || !strings.HasPrefix(asks[1], "bytes=") {
			t.Errorf("%q", asks)
		}
	})
	t.Run("first half of something else", func(t *testing.T) {
		p, s := newPublisher(t), openStore(t)
		p.fcos(t, key)
		o := offer(t, p, Wish{OS: FedoraCoreOS, Stream: "stable"})
		part := filepath.Join(s.dir, "partial", hexSHA256([]byte(o.Promises[0].URL))[:32]+".part")
		put(t, part, big(77, 5000))
		known, _ := json.Marshal(validator{URL: o.Promises[0].URL, ETag: p.etag[iso], Total: 3 << 20})
		put(t, part+".json", known)
		if _, err := s.Fetch(bg, o, Trust{Keys: key.ring}, p.downloader(t), nil); err != nil {
			t.Fatal(err)
		}
		if asks := p.asked(iso); len(asks) != 2 || asks[1] != "" {
			t.Errorf("%q", asks)
		}
	})
}

func TestFetchRefuses(t *testing.T) {
	key, other := newSigner(t), newSigner(t)
	iso := fcosDir + "live-iso.x86_64.iso"
	for name, c := range map[string]struct {
		change func(t *testing.T, p *publisher)
		keys   *Keyring
		text   string
	}{
		"no keys":          {func(*testing.T, *publisher) {}, nil, "no keys were given"},
		"a stranger's key": {func(*testing.T, *publisher) {}, other.ring, "signature"},
		"a changed file":   {func(_ *testing.T, p *publisher) { p.files[iso] = append([]byte("x"), p.files[iso][1:]...) }, key.ring, "the metadata promises"},
		"a changed file with metadata changed too": {func(_ *testing.T, p *publisher) {
			old := sum(p.files[iso])
			p.files[iso] = append([]byte("x"), p.files[iso][1:]...)
			p.files["/streams/stable.json"] = []byte(strings.Replace(string(p.files["/streams/stable.json"]), old, sum(p.files[iso]), 1))
		}, key.ring, "signature"},
		"signature of another file": {func(t *testing.T, p *publisher) { p.files[iso+".sig"] = key.sign(t, []byte("other")) }, key.ring, "signature"},
		"signature is missing":      {func(_ *testing.T, p *publisher) { delete(p.files, iso+".sig") }, key.ring, "404"},
		"signature is nonsense":     {func(_ *testing.T, p *publisher) { p.files[iso+".sig"] = []byte("x") }, key.ring, "signature"},
		"a signature without end":   {func(_ *testing.T, p *publisher) { p.files[iso+".sig"] = make([]byte, maxSignature+1) }, key.ring, "larger"},
	} {
		t.Run(name, func(t *testing.T) {
			p, s := newPublisher(t), openStore(t)
			p.fcos(t, key)
			c.change(t, p)
			_, err := s.Fetch(bg, offer(t, p, Wish{OS: FedoraCoreOS, Stream: "stable"}), Trust{Keys: c.keys}, p.downloader(t), nil)
			if err == nil || !strings.Contains(err.Error(), c.text) {
				t.Errorf("%v", err)
			}
			if e, b := s.count(t); e+b != 0 {
				t.Errorf("%d entries, %d blobs", e, b)
			}
			if left, _ := filepath.Glob(filepath.Join(s.dir, "partial", "*.part")); len(left) > 0 {
				if st, _ := os.Stat(left[0]); st.Size() > 0 {
					t.Errorf("%d bytes left of what was refused", st.Size())
				}
			}
		})
	}
}

func TestFetchWithoutSignatures(t *testing.T) {
	for _, os := range []OS{RHCOS, CentOSStreamCoreOS} {
		p := newPublisher(t)
		meta := p.coreOS(t, string(os)+"-4.20", "9.6.20260101-0", nil)
		p.files["/release-4.20/data/data/coreos/"+string(os)+".json"] = meta
		o := offer(t, p, Wish{OS: os, Stream: "4.20"})
		key := newSigner(t)
		s := openStore(t)
		_, err := s.Fetch(bg, o, Trust{Keys: key.ring}, p.downloader(t), nil)
		var untrusted *UntrustedError
		if !errors.As(err, &untrusted) || untrusted.Metadata != sum(meta) || fleet.CodeOf(err) != fleet.CodeImageCorrupt || len(p.asks) != 1 {
			t.Fatalf("%v, asked %q", err, p.asks)
		}
		e, err := s.Fetch(bg, o, Trust{Pins: []string{sum(meta)}}, p.downloader(t), nil)
		if err != nil || e.Files[0].Proof != ByPin || !strings.HasPrefix(e.Name, string(os)+"-4.20-9.6.20260101-0") {
			t.Fatalf("%+v %v", e, err)
		}
		// Red Hat signs a list of checksums.
		var list strings.Builder
		for _, f := range o.Promises {
			fmt.Fprintf(&list, "%s  %s\n", f.SHA256, f.Name())
		}
		trust := Trust{Keys: key.ring}
		if err := trust.AddChecksums("sha256sum.txt", []byte(list.String()), key.sign(t, []byte("x"))); err == nil {
			t.Error("a bad signature of the list was taken")
		}
		if err := trust.AddChecksums("sha256sum.txt", []byte(list.String()), key.sign(t, []byte(list.String()))); err != nil {
			t.Fatal(err)
		}
		before := len(p.asks)
		e, err = s.Fetch(bg, o, trust, p.downloader(t), nil)
		if err != nil || e.Files[0].Proof != ByPin && e.Files[0].Proof != ByChecksums || len(p.asks) != before {
			t.Errorf("%s %v, %d requests for what is there", describe(e), err, len(p.asks)-before)
		}
	}
}

// TestFetchTogether: commands that want the same files at once share them.
func TestFetchTogether(t *testing.T) {
	p, key := newPublisher(t), newSigner(t)
	p.fcos(t, key)
	o := offer(t, p, Wish{OS: FedoraCoreOS, Stream: "stable"})
	dir := filepath.Join(t.TempDir(), "store")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			s, err := OpenStore(dir)
			if err == nil {
				_, err = s.Fetch(bg, o, Trust{Keys: key.ring}, p.downloader(t), nil)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	s, _ := OpenStore(dir)
	if e, b := s.count(t); e != 1 || b != 5 {
		t.Errorf("%d entries, %d blobs", e, b)
	}
	if asks := p.asked(fcosDir + "live-iso.x86_64.iso"); len(asks) != 1 {
		t.Errorf("fetched %d times", len(asks))
	}
}

func TestImportAndPrune(t *testing.T) {
	s, key := openStore(t), newSigner(t)
	dir := release(t, metadata(nil))
	_, err := s.Import(bg, dir, OtherOS, Trust{}, nil)
	var untrusted *UntrustedError
	if !errors.As(err, &untrusted) || untrusted.Metadata == "" {
		t.Fatalf("%v", err)
	}
	e, err := s.Import(bg, dir, OtherOS, Trust{Pins: []string{untrusted.Metadata}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want, _ := Load(bg, dir)
	if got, err := Load(bg, e.Folder); err != nil || got.Digest() != want.Digest() {
		t.Errorf("%v", err)
	}
	for name, b := range content {
		put(t, filepath.Join(dir, name+".sig"), key.sign(t, b))
	}
	if signed, err := s.Import(bg, dir, OtherOS, Trust{Keys: key.ring}, nil); err != nil || signed.Name != e.Name {
		t.Errorf("%v", err)
	}
	pay, err := s.ImportPayload(bg, payloadFolder(t, goodPayload()), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := LoadPayload(bg, pay.Folder); err != nil || p.Digest() != pay.Digest || p.Verify(bg, Verifier{}, nil) != nil {
		t.Errorf("%v", err)
	}
	if _, err := s.ImportPayload(bg, payloadFolder(t, goodPayload()), sum(nil), nil); fleet.CodeOf(err) != fleet.CodePayloadCorrupt {
		t.Errorf("another digest: %v", err)
	}
	later := time.Now().Add(time.Hour)
	for name, c := range map[string]struct {
		keep Keep
		want int
	}{
		"young":                {Keep{Since: time.Now().Add(-time.Hour)}, 0},
		"named by its digest":  {Keep{Since: later, Digests: map[string]bool{e.Digest: true, pay.Digest: true}}, 0},
		"named by its disk":    {Keep{Since: later, Digests: map[string]bool{want.Ref().DiskSHA256: true}}, 1},
		"a file in its folder": {Keep{Since: later, Folders: []string{filepath.Join(e.Folder, "stream.json"), pay.Folder}}, 0},
		"nothing keeps it":     {Keep{Since: later}, 2},
	} {
		if got, err := s.Prune(bg, c.keep, true); err != nil || len(got.Entries) != c.want {
			t.Errorf("%s: %d entries, %v", name, len(got.Entries), err)
		}
	}
	dry, _ := s.Prune(bg, Keep{Since: later, Digests: map[string]bool{pay.Digest: true}}, true)
	got, err := s.Prune(bg, Keep{Since: later, Digests: map[string]bool{pay.Digest: true}}, false)
	if err != nil || len(got.Entries) != 1 || len(got.Contents) != 5 || got.Bytes != dry.Bytes || len(dry.Contents) != 5 {
		t.Errorf("%+v %+v %v", got, dry, err)
	}
	if e, b := s.count(t); e != 1 || b != 4 {
		t.Errorf("%d entries, %d blobs", e, b)
	}
	put(t, filepath.Join(s.dir, "releases", "odd", recordName), []byte("{}"))
	if _, err := s.Prune(bg, Keep{Since: later}, false); err == nil {
		t.Error("removed although one entry cannot be read")
	}
}

// TestPruneWaits: nothing is removed while something is added.
func TestPruneWaits(t *testing.T) {
	s := openStore(t)
	unlock, err := s.sharing(bg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(bg, 100*time.Millisecond)
	defer stop()
	if _, err := s.Prune(ctx, Keep{}, false); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	unlock()
	if _, err := s.Prune(bg, Keep{}, false); err != nil {
		t.Error(err)
	}
}

func TestMirrors(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "streams", "stable.json"), []byte("here"))
	var m Mirrors
	for _, r := range []string{"https://a.example/=http://m.example/a", "https://a.example/x=" + dir} {
		v, err := ParseMirror(r)
		if err != nil {
			t.Fatal(err)
		}
		m = append(m, v)
	}
	for in, want := range map[string]string{
		"https://a.example/f": "http://m.example/a/f", "https://a.example.org/f": "https://a.example.org/f",
		"https://a.example/x/streams/stable.json": "file://" + dir + "/streams/stable.json", "https://a.example/xy": "http://m.example/a/xy",
	} {
		if got := m.rewrite(in); got != want {
			t.Errorf("%s: %s", in, got)
		}
	}
	if b, err := (Downloader{Mirrors: m}).small(bg, "https://a.example/x/streams/stable.json", 100); err != nil || string(b) != "here" {
		t.Errorf("%q %v", b, err)
	}
	if _, err := (Downloader{Mirrors: m, Tries: 1}).small(bg, "https://a.example/x/../../../../etc/hostname", 100); err == nil {
		t.Error("left the folder of the mirror")
	}
	for _, bad := range []string{"", "x=y", "https://a.example", "https://a=~/x", "https://a=relative", "https://a=https://u:p@b", "ftp://a=/b"} {
		if _, err := ParseMirror(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
