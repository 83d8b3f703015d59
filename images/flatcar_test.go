package images

import (
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"

	"metalrise.dev/fleet"
)

// flatcarDisk is "flatcar disk " 4000 times, packed by bzip2.
const flatcarDisk = "QlpoOTFBWSZTWY/E68MANq+RgEAALSwcACAAYClUGmEIBppo0CVWQSq9BKrQJVcBKrAEqsglVwEqtglVsEquAlV0CVX4u5IpwoSEfideGA=="

func (p *publisher) flatcar(t *testing.T, key signer) {
	t.Helper()
	disk, err := base64.StdEncoding.DecodeString(flatcarDisk)
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"/amd64-usr/current/", "/amd64-usr/4081.2.0/"} {
		p.files[dir+"version.txt"] = []byte("FLATCAR_BUILD=4081\nFLATCAR_BRANCH=2\nFLATCAR_PATCH=0\nFLATCAR_VERSION=4081.2.0\nFLATCAR_VERSION_ID=4081.2.0\nFLATCAR_BUILD_ID=\"\"\nFLATCAR_SDK_VERSION=4081.0.0\n")
		for name, b := range map[string][]byte{
			"flatcar_production_iso_image.iso": big(1, 10_000), "flatcar_production_image.bin.bz2": disk,
			"flatcar_production_pxe.vmlinuz": big(2, 3000), "flatcar_production_pxe_image.cpio.gz": big(3, 9000),
		} {
			p.files[dir+name], p.files[dir+name+".sig"] = b, key.sign(t, b)
			p.files[dir+name+".DIGESTS"] = fmt.Appendf(nil, "# MD5 HASH\n%032x  %s\n# SHA1 HASH\n%040x  %s\n# SHA512 HASH\n%x  %s\n", 1, name, 2, name, sha512.Sum512(b), name)
		}
	}
}

func TestFetchFlatcar(t *testing.T) {
	p, key, s := newPublisher(t), newSigner(t), openStore(t)
	p.flatcar(t, key)
	o := offer(t, p, Wish{OS: Flatcar, Stream: "stable"})
	if o.Version != "4081.2.0" || !strings.Contains(o.Promises[0].URL, "/4081.2.0/") {
		t.Errorf("%+v", o)
	}
	e, err := s.Fetch(bg, o, Trust{Keys: key.ring}, p.downloader(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Load(bg, e.Folder)
	if err != nil || r.Digest() != e.Digest || r.Disk.Format != FormatRawZst || r.Disk.UnpackedBytes != 13*4000 ||
		r.Disk.UncompressedSHA256 != sum([]byte(strings.Repeat("flatcar disk ", 4000))) || r.PXE.Rootfs.SHA256 != "" || len(r.Artifacts()) != 4 {
		t.Fatalf("%+v %v", r, err)
	}
	if got, err := unpackedDigest(bg, r.Disk.Path, r.Disk.Format); err != nil || got != r.Disk.UncompressedSHA256 {
		t.Errorf("%s %v", got, err)
	}
	i := slices.IndexFunc(e.Files, func(f RecordFile) bool { return f.Role == RoleDisk })
	if f := e.Files[i]; f.Source != sum(p.files["/amd64-usr/4081.2.0/flatcar_production_image.bin.bz2"]) || f.Signer == "" || err != nil {
		t.Errorf("%+v", f)
	}
	pinned := offer(t, p, Wish{OS: Flatcar, Stream: "stable", Version: "4081.2.0"})
	if pinned.Metadata != o.Metadata {
		t.Error("current and the version it names differ")
	}
	p.files["/amd64-usr/4081.2.0/flatcar_production_pxe.vmlinuz"] = []byte("x")
	if _, err := openStore(t).Fetch(bg, o, Trust{Keys: key.ring}, p.downloader(t), nil); fleet.CodeOf(err) != fleet.CodeImageCorrupt || !strings.Contains(err.Error(), "sha512") {
		t.Errorf("%v", err)
	}
}

func FuzzParseStream(f *testing.F) {
	f.Add([]byte(`{"stream":"s","architectures":{"x86_64":{"artifacts":{"metal":{"release":"1","formats":{"iso":{"disk":{"location":"https://h/a.iso","sha256":""}}}}}}}}`))
	f.Add([]byte(`{"release":"1","stream":"s","architectures":{"x86_64":{"media":{"metal":{"artifacts":{}}}}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := ParseStream(b, RHCOS, X86_64)
		if err != nil {
			return
		}
		for _, p := range o.Promises {
			if !isSHA256(p.SHA256) || strings.ContainsAny(p.Name(), "/\\") || p.Name() == ".." || p.Name() == "" {
				t.Fatalf("%+v", p)
			}
		}
	})
}

func FuzzFlatcar(f *testing.F) {
	f.Add([]byte("FLATCAR_VERSION=4081.2.0\n"))
	f.Add([]byte("# SHA512 HASH\n" + strings.Repeat("a", 128) + "  f\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if v, err := ParseFlatcarVersion(b); err == nil && strings.ContainsAny(v, "/ \n%?#") {
			t.Fatalf("%q", v)
		}
		if d, err := ParseDigests(b, "f"); err == nil && !isSHA512(d) {
			t.Fatalf("%q", d)
		}
		if l, err := ParseChecksums(b); err == nil && len(l) == 0 {
			t.Fatal("no checksum and no error")
		}
	})
}
