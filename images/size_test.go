package images

import (
	"bytes"
	"testing"

	"github.com/klauspost/compress/zstd"
)

func TestZstdSize(t *testing.T) {
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	raw := bytes.Repeat([]byte("metalrise "), 100_000)
	one := enc.EncodeAll(raw, nil)
	two := append(append([]byte(nil), one...), enc.EncodeAll(raw[:777], nil)...)
	skip := append([]byte{0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3}, two...)
	for name, c := range map[string]struct {
		packed []byte
		want   int64
	}{
		"one frame": {one, 1_000_000}, "two frames": {two, 1_000_777}, "a frame to skip first": {skip, 1_000_777}, "nothing": {nil, 0},
	} {
		if got, err := zstdSize(bytes.NewReader(c.packed)); err != nil || got != c.want {
			t.Errorf("%s: %d, %v, want %d", name, got, err, c.want)
		}
	}
	var stream bytes.Buffer // a stream's header does not know what will come
	w, err := zstd.NewWriter(&stream)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(raw); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"a stream": stream.Bytes(), "cut in a block header": one[: len(one)-8 : len(one)-8][:12], "text": []byte("no zstd at all")} {
		if got, err := zstdSize(bytes.NewReader(b)); err == nil {
			t.Errorf("%s: %d, want an error", name, got)
		}
	}
}

func FuzzZstdSize(f *testing.F) {
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(enc.EncodeAll([]byte("metalrise"), nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if n, err := zstdSize(bytes.NewReader(b)); err == nil && n < 0 {
			t.Errorf("size %d", n)
		}
	})
}
