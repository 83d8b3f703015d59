package iso

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"strings"
	"testing"

	"metalrise.dev/iso/isotest"
)

// TestAreaInsideAnotherFile: where the embed area is the end of the initrd, that
// file moves behind the end with a config that is too large; its own bytes are
// still those of the base. Where it cannot be so, the refusal says why.
func TestAreaInsideAnotherFile(t *testing.T) {
	const room = 256 << 10
	own := noise(1<<20 + 4)
	withArea := func(path, info string, tail []byte) func(map[string][]byte) {
		return func(files map[string][]byte) {
			delete(files, "images/ignition.img")
			delete(files, "coreos/igninfo.json")
			files[path] = append(append(bytes.Clone(own), make([]byte, room)...), tail...)
			if info != "" {
				files["coreos/igninfo.json"] = []byte(info)
			}
		}
	}
	for name, c := range map[string]struct {
		change func(map[string][]byte)
		header bool   // the system area names it
		why    string // it cannot grow
	}{
		"offset and length":           {withArea(InitrdPath, `{"file": "images/pxeboot/initrd.img", "offset": 1048580, "length": 262144}`, nil), false, ""},
		"offset":                      {withArea(InitrdPath, `{"file": "images/pxeboot/initrd.img", "offset": 1048580}`, nil), false, ""},
		"header in a partition table": {withArea(InitrdPath, "", nil), true, "lies in the partition table"},
		"in the midst":                {withArea("images/cdboot.img", `{"file": "images/cdboot.img", "offset": 1048580, "length": 262144}`, own[:999]), false, "midst of the file CDBOOT.IMG"},
		"boot image":                  {withArea("images/efiboot.img", `{"file": "images/efiboot.img", "offset": 1048580, "length": 262144}`, nil), false, "EFIBOOT.IMG, which firmware starts by its place"},
		"whole file, with length": {func(files map[string][]byte) {
			files["coreos/igninfo.json"] = []byte(`{"file": "images/ignition.img", "offset": 0, "length": 262144}`)
		}, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			path := changedISO(t, c.change)
			if c.header {
				writeHeader(t, path, int64(len(own)), room)
			}
			b, err := Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			small, err := b.Personalise(Personal{Ignition: []byte(`{"small":1}`)})
			if err != nil || small.Size() != b.Size() {
				t.Fatalf("small config: %v", err)
			}
			large := noise(700_000)
			im, err := b.Personalise(Personal{Ignition: large})
			if c.why != "" {
				var e *TooLargeError
				if !errors.As(err, &e) || !strings.Contains(err.Error(), c.why) || !strings.Contains(err.Error(), "ignition.config.merge") {
					t.Fatalf("%v, want %q", err, c.why)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if held := im.Held(); held > 900_000 {
				t.Errorf("%d bytes are in memory: the file's own are to be read from the base", held)
			}
			saved := save(t, im)
			file, before := "/"+InitrdPath, own
			if strings.Contains(name, "whole") {
				file, before = "/images/ignition.img", nil
			}
			for _, tree := range [][]string{nil, {"-read_fs", "norock"}} {
				got := extracted(t, saved, file, tree...)
				if !bytes.HasPrefix(got, before) {
					t.Fatalf("%v: the file's own bytes are others", tree)
				}
				if m, err := unpack(bytes.NewReader(got[len(before):])); err != nil || len(m) != 1 || !bytes.Equal(m[0].data, large) {
					t.Errorf("%v: %d bytes, %v", tree, len(got), err)
				}
			}
			again, err := Open(saved)
			if err != nil {
				t.Fatal(err)
			}
			defer again.Close()
			if seen, err := Inspect(again, again.Size()); err != nil || !bytes.Equal(seen.Ignition, large) || !seen.EmbedGrows {
				t.Errorf("we read %d bytes, %v", len(seen.Ignition), err)
			}
			larger := noise(900_000)
			im, err = again.Personalise(Personal{Ignition: larger})
			if err != nil {
				t.Fatal(err)
			}
			if seen, err := Inspect(im, im.Size()); err != nil || !bytes.Equal(seen.Ignition, larger) {
				t.Errorf("once more: %v", err)
			}
			if strings.Contains(name, "length") { // an area with a stated end
				return
			}
			if m, err := again.Minimal(); err != nil || m.Size() >= again.Size()-5<<20 {
				t.Errorf("without its root file system: %v", err)
			}
		})
	}
}

// TestAreaOfTheOldestImages: a header of the system area tells where it is.
func TestAreaOfTheOldestImages(t *testing.T) {
	b := open(t, isotest.Options{Embed: isotest.EmbedHeader, EmbedSize: 4096})
	var initrd bytes.Buffer
	if _, err := b.Extract(InitrdPath, &initrd); err != nil {
		t.Fatal(err)
	}
	large := noise(70_000)
	im, err := b.Personalise(Personal{Ignition: large})
	if err != nil {
		t.Fatal(err)
	}
	again, err := Open(save(t, im))
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if seen, err := Inspect(again, again.Size()); err != nil || !bytes.Equal(seen.Ignition, large) {
		t.Errorf("we read %d bytes, %v", len(seen.Ignition), err)
	}
	var moved bytes.Buffer
	own := initrd.Len() - 4096
	if _, err := again.Extract(InitrdPath, &moved); err != nil || moved.Len() < own+len(large) || !bytes.Equal(moved.Bytes()[:own], initrd.Bytes()[:own]) {
		t.Errorf("initrd of %d bytes, was %d: %v", moved.Len(), initrd.Len(), err)
	}
}

// writeHeader names an area of an ISO in its system area, as the oldest images do.
func writeHeader(t *testing.T, path string, offset, size int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	v, err := openVolume(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	e, err := v.file(InitrdPath)
	if err != nil {
		t.Fatal(err)
	}
	h := append([]byte("coreiso+"), make([]byte, 16)...)
	binary.LittleEndian.PutUint64(h[8:], uint64(e.off+offset))
	binary.LittleEndian.PutUint64(h[16:], uint64(size))
	_, err = f.WriteAt(h, systemArea-ignHeaderBytes)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}
