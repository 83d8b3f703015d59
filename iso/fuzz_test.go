package iso

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"metalrise.dev/iso/isotest"
)

// FuzzISO changes what a small ISO says of itself at a few places and reads all
// there is to read. Nothing may panic, read outside or take much memory, and an
// image that still opens must keep its promises.
func FuzzISO(f *testing.F) {
	var bases [][]byte
	for _, o := range []isotest.Options{{}, {KargStyle: isotest.KargsMarker, Embed: isotest.EmbedFile}, {KargStyle: isotest.KargsHeader, Embed: isotest.EmbedHeader}} {
		o.EmbedSize, o.RootfsSize = 4096, 100
		o.Files = map[string][]byte{KernelPath: []byte("k"), InitrdPath: []byte("i")}
		b, err := os.ReadFile(build(f, o))
		if err != nil {
			f.Fatal(err)
		}
		bases = append(bases, b)
	}
	f.Add(byte(0), []byte{})
	f.Add(byte(1), patch(16*sectorSize+158, 0xffffffff))
	f.Add(byte(2), patch(systemArea-16, 0xfffffff0))
	f.Add(byte(0), patch(20*sectorSize, 0))
	f.Add(byte(0), append(patch(16*sectorSize+166, 0xfffffff0), patch(22*sectorSize+10, 1<<31)...))
	f.Fuzz(func(t *testing.T, which byte, patches []byte) {
		iso := bytes.Clone(bases[int(which)%len(bases)])
		for ; len(patches) >= 8; patches = patches[8:] {
			at := int64(binary.LittleEndian.Uint32(patches)) % int64(len(iso)-3)
			copy(iso[at:], patches[4:8])
		}
		r, size := bytes.NewReader(iso), int64(len(iso))
		c, err := Inspect(r, size)
		if err == nil && (c.EmbedOffset < 0 || c.EmbedOffset+c.EmbedSize > size || len(c.Ignition) > maxConfig) {
			t.Fatalf("area at %d of %d bytes, config of %d, in %d", c.EmbedOffset, c.EmbedSize, len(c.Ignition), size)
		}
		_, ignErr := ReadIgnition(r, size)
		_, kargErr := ReadKargs(r, size)
		if err == nil && ignErr != nil && !errors.Is(ignErr, ErrNoIgnition) && !errors.Is(ignErr, ErrNoEmbedArea) {
			t.Fatalf("Inspect read it, ReadIgnition did not: %v", ignErr)
		}
		if err == nil && kargErr != nil && !errors.Is(kargErr, ErrNoKargsArea) {
			t.Fatalf("Inspect read it, ReadKargs did not: %v", kargErr)
		}
		if v, err := openVolume(r, size); err == nil {
			for _, p := range []string{KernelPath, "a/b/c", "EFI", "."} {
				if e, err := v.lookup(p); err == nil && (e.off < 0 || e.size < 0 || e.off+e.size > size) {
					t.Fatalf("%s at %d of %d bytes in %d", p, e.off, e.size, size)
				}
			}
		}
	})
}

// patch is one change for FuzzISO: a number at a place.
func patch(at, value uint32) []byte {
	return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, at), value)
}

// FuzzUnpack reads anything as the content of an embed area.
func FuzzUnpack(f *testing.F) {
	f.Add(archive([]member{{configName, 0o100644, []byte(config)}}))
	var p packer
	z, err := p.pack([]member{{configName, 0o100644, []byte(config)}}, 1<<20)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append(z, 0, 0, 0, 0))
	f.Add([]byte("\xfd7zXZ\x00\x00\x01"))
	f.Add(make([]byte, 8))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := unpack(bytes.NewReader(b))
		if err != nil {
			return
		}
		total := 0
		for _, m := range got {
			total += len(m.data)
		}
		if total > maxArchive {
			t.Fatalf("%d bytes", total)
		}
		if slices.ContainsFunc(got, func(m member) bool {
			return strings.Contains(m.name, "\x00") || m.name == "" || len(m.name) >= maxCpioName
		}) {
			return // names that no archive of ours has
		}
		// What was read can be written, and read again: all of it, with folders.
		again, err := unpack(bytes.NewReader(archive(got)))
		if err != nil {
			t.Fatalf("%v of %v", err, got)
		}
		for _, m := range got {
			if !slices.ContainsFunc(again, func(a member) bool { return a.name == m.name && bytes.Equal(a.data, m.data) }) && m.mode&modeType != modeDir {
				t.Fatalf("%q is lost in %v", m.name, again)
			}
		}
	})
}

// FuzzCheckKarg: an accepted word has nothing in it that a boot loader could
// take for the end of the word, and survives the way through an area.
func FuzzCheckKarg(f *testing.F) {
	for _, s := range []string{"quiet", "console=ttyS0,115200n8", "ip=[fd00::2]:::64:n1:eno1:none", "a=b c", "a=$b", "x=#", "\n", "a=\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if CheckKarg(s) != nil {
			return
		}
		if len(strings.Fields(s)) != 1 || strings.ContainsAny(s, " \t\r\n\"'`\\$;{}|&<>#*?()!~^") || strings.IndexFunc(s, func(r rune) bool { return r < 0x21 || r > 0x7e }) >= 0 {
			t.Fatalf("%q was accepted", s)
		}
		a := kargArea{size: 1100, pad: '#', end: '\n'}
		b, err := a.of([]string{"first", s})
		if err != nil || len(b) != a.size {
			t.Fatalf("%q: %d bytes, %v", s, len(b), err)
		}
		got, err := a.read(bytes.NewReader(b))
		if err != nil || got != "first "+s {
			t.Fatalf("%q read back as %q, %v", s, got, err)
		}
	})
}

// FuzzMarkedAreas reads anything as a boot loader configuration.
func FuzzMarkedAreas(f *testing.F) {
	f.Add([]byte("\tlinux /vmlinuz a=1\n####### COREOS_KARG_EMBED_AREA\n"))
	f.Add([]byte("append initrd=/x\n##### COREOS_KARG_EMBED_AREA\nappend\n## COREOS_KARG_EMBED_AREA"))
	f.Fuzz(func(t *testing.T, b []byte) {
		areas, err := markedAreas(b)
		if err != nil {
			return
		}
		for _, a := range areas {
			if a.off < 0 || a.size < 0 || a.off+int64(a.size) > int64(len(b)) {
				t.Fatalf("area at %d of %d bytes in %d", a.off, a.size, len(b))
			}
			if data, err := a.of([]string{"x=1"}); err == nil && len(data) != a.size {
				t.Fatalf("%d bytes for an area of %d", len(data), a.size)
			}
		}
	})
}

// FuzzCpio reads anything as an archive, and what it gave again from one of ours.
func FuzzCpio(f *testing.F) {
	one := archive([]member{{configName, modeFile | 0o644, []byte(config)}, {"etc/x/y", modeFile | 0o600, []byte("z")}, {"etc/l", 0o120777, []byte("x/y")}})
	f.Add(one)
	f.Add(one[:len(one)-20])
	f.Add(bytes.Replace(one, []byte("00000001"), []byte("FFFFFFFF"), 1))
	f.Add([]byte("070702"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := readMembers(bytes.NewReader(b), 1<<20)
		if err != nil {
			return
		}
		total := 0
		for _, m := range got {
			total += len(m.data)
		}
		if total > len(b) || len(got) > maxMembers {
			t.Fatalf("%d bytes in %d members out of %d bytes", total, len(got), len(b))
		}
	})
}

// FuzzChange changes what a small ISO says of itself and asks for all changes
// that can be asked for. Nothing may panic; what comes out is read again, and
// holds what was put in.
func FuzzChange(f *testing.F) {
	// Only the interesting part changes: descriptors, boot catalogue, directories,
	// partition tables.
	const part = 64 * sectorSize
	var files []*os.File
	var parts [][]byte
	for _, path := range []string{build(f, isotest.Options{EmbedSize: 4096, RootfsSize: 5000, Files: map[string][]byte{KernelPath: []byte("k"), InitrdPath: []byte("i")}}), hybridISO(f)} {
		file, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			f.Fatal(err)
		}
		f.Cleanup(func() { file.Close() })
		b := make([]byte, part)
		n, err := file.ReadAt(b, 0)
		if err != nil && !errors.Is(err, io.EOF) {
			f.Fatal(err)
		}
		files, parts = append(files, file), append(parts, b[:n])
	}
	f.Add(byte(0), []byte{})
	f.Add(byte(1), []byte{})
	f.Add(byte(1), patch(17*sectorSize+0x47, 20))          // the boot catalogue
	f.Add(byte(1), patch(512+72, 0xffff))                  // where the partitions are
	f.Add(byte(0), patch(16*sectorSize+140, 0xffffffff))   // the path table
	f.Add(byte(1), patch(18*sectorSize+156+2, 0x00100000)) // the second tree
	f.Fuzz(func(t *testing.T, which byte, patches []byte) {
		file, head := files[int(which)%len(files)], bytes.Clone(parts[int(which)%len(parts)])
		for ; len(patches) >= 8; patches = patches[8:] {
			copy(head[int64(binary.LittleEndian.Uint32(patches))%int64(len(head)-3):], patches[4:8])
		}
		if _, err := file.WriteAt(head, 0); err != nil {
			t.Fatal(err)
		}
		b, err := Open(file.Name())
		if err != nil {
			return
		}
		defer b.Close()
		large := noise(9000)
		personal := Personal{Start: Defaults, Ignition: large, Files: []File{{Name: "a/b", Data: []byte("c")}}}
		check := func(b *Base, p Personal) {
			im, err := b.Personalise(p)
			if err != nil {
				return
			}
			// Areas that overlap what describes them give an ISO that cannot be read;
			// one that can be read has what was put in.
			if got, err := ReadIgnition(im, im.Size()); err == nil && !bytes.Equal(got, large) {
				t.Fatalf("%d bytes of config became %d", len(large), len(got))
			}
		}
		check(b, personal)
		if m, err := b.Minimal(); err == nil {
			if m.Size() >= b.Size() {
				t.Fatal("nothing was taken out")
			}
			personal.RootfsURL = "http://x/y"
			check(m, personal)
		}
	})
}
