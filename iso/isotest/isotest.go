// Package isotest builds small base ISOs of CoreOS live layout, in Go alone and
// the same bytes every time, for tests, fuzzing and benchmarks.
//
// What it builds is read by package iso, xorriso and isoinfo; it boots nothing:
// there is no boot catalogue in it and its kernel is filler.
package isotest

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"strings"
)

// KargStyle is how an ISO tells where its kernel arguments are.
type KargStyle int

const (
	KargsInfo   KargStyle = iota // /coreos/kargs.json, as all current images
	KargsHeader                  // the coreKarg header of the system area, as the first images with areas
	KargsMarker                  // nothing but COREOS_KARG_EMBED_AREA in the boot loader configurations
	NoKargs                      // no area at all
)

// EmbedStyle is how an ISO tells where its embed area is.
type EmbedStyle int

const (
	EmbedInfo   EmbedStyle = iota // /coreos/igninfo.json
	EmbedFile                     // nothing but /images/ignition.img
	EmbedHeader                   // the coreiso+ header, the area at the end of the initrd
	NoEmbed                       // no area at all
)

// Options describe an ISO; the zero value is a complete one of about 1 MiB.
type Options struct {
	Label     string // default "fedora-coreos-test"
	Kargs     string // default "coreos.liveiso=LABEL ignition.firstboot ignition.platform.id=metal"
	KargStyle KargStyle
	KargsSize int // bytes of a kernel argument area, default 1137
	Embed     EmbedStyle
	EmbedSize int64 // default 256 KiB
	// RootfsSize is the size of the root filesystem file, default 512 KiB. All
	// beyond the first MiB is a hole.
	RootfsSize int64
	// PlainNames leaves out the Rock Ridge names.
	PlainNames bool
	// Files are further files by path, or other content for the usual ones.
	Files map[string][]byte
}

const (
	sector      = 2048
	kernelPath  = "images/pxeboot/vmlinuz"
	initrdPath  = "images/pxeboot/initrd.img"
	rootfsPath  = "images/pxeboot/rootfs.img"
	embedPath   = "images/ignition.img"
	grubPath    = "EFI/fedora/grub.cfg"
	isolinux    = "isolinux/isolinux.cfg"
	ignInfo     = "coreos/igninfo.json"
	kargsInfo   = "coreos/kargs.json"
	features    = "coreos/features.json"
	filledBytes = 1 << 20
)

// Build writes an ISO to path.
func Build(path string, o Options) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return fmt.Errorf("build test ISO: %w", err)
	}
	if err := write(f, o); err != nil {
		f.Close()
		return fmt.Errorf("build test ISO %s: %w", path, err)
	}
	return f.Close()
}

// file is the content of one file: bytes, then a hole up to size.
type file struct {
	data []byte
	size int64
}

// writer is what an ISO is written into; *os.File is one.
type writer interface {
	io.WriterAt
	Truncate(size int64) error
}

func write(w writer, o Options) error {
	if o.Label == "" {
		o.Label = "fedora-coreos-test"
	}
	if o.Kargs == "" {
		o.Kargs = "coreos.liveiso=" + o.Label + " ignition.firstboot ignition.platform.id=metal"
	}
	if o.KargsSize == 0 {
		o.KargsSize = 1137
	}
	if o.EmbedSize == 0 {
		o.EmbedSize = 256 << 10
	}
	if o.RootfsSize == 0 {
		o.RootfsSize = 512 << 10
	}
	files, kargsAt, err := content(o)
	if err != nil {
		return err
	}
	t := newTree(files, !o.PlainNames)
	if err := t.place(); err != nil {
		return err
	}
	if err := w.Truncate(t.end); err != nil {
		return err
	}
	return t.write(w, o.Label, systemArea(o, t, kargsAt))
}

// content makes the files, and says where the kernel argument area begins in
// each boot loader configuration.
func content(o Options) (map[string]file, map[string]int64, error) {
	initrd := initrdPath
	if o.Embed == EmbedInfo || o.Embed == EmbedFile {
		initrd += " /" + embedPath
	}
	files := map[string]file{
		kernelPath: whole(filler("kernel", 48<<10)),
		initrdPath: whole(filler("initrd", 96<<10)),
		rootfsPath: {data: filler("rootfs", int(min(o.RootfsSize, filledBytes))), size: o.RootfsSize},
		features:   whole([]byte("{\"installer-config\":true,\"live-initrd-network\":true}\n")),
	}
	switch o.Embed {
	case EmbedInfo:
		files[ignInfo] = whole(asJSON(map[string]any{"file": embedPath}))
		files[embedPath] = file{size: o.EmbedSize}
	case EmbedFile:
		files[embedPath] = file{size: o.EmbedSize}
	case EmbedHeader:
		f := files[initrdPath]
		files[initrdPath] = file{data: f.data, size: f.size + o.EmbedSize}
	}
	grub, g := loader("set timeout=0\nmenuentry 'Live' {\n\tlinux /"+kernelPath+" ", "\tinitrd /"+initrd+"\n}\n", o)
	sys, s := loader("default linux\nlabel linux\n  kernel /"+kernelPath+"\n  append ", "", o)
	if o.KargStyle == KargsMarker { // isolinux keeps the initrd among the arguments
		sys, s = loader("default linux\nlabel linux\n  kernel /"+kernelPath+"\n  append initrd=/"+strings.ReplaceAll(initrd, " ", ",")+" ", "", o)
	}
	if len(o.Kargs) >= o.KargsSize {
		return nil, nil, fmt.Errorf("%d bytes of kernel arguments in an area of %d", len(o.Kargs), o.KargsSize)
	}
	files[grubPath], files[isolinux] = whole(grub), whole(sys)
	at := map[string]int64{grubPath: g, isolinux: s}
	if o.KargStyle == KargsInfo {
		files[kargsInfo] = whole(asJSON(map[string]any{
			"default": o.Kargs,
			"size":    o.KargsSize,
			"files":   []map[string]any{{"path": grubPath, "offset": g}, {"path": isolinux, "offset": s}},
		}))
	}
	for p, b := range maps.All(o.Files) {
		files[p] = whole(b)
	}
	return files, at, nil
}

// loader makes a boot loader configuration around a kernel argument area.
func loader(head, tail string, o Options) ([]byte, int64) {
	if o.KargStyle == NoKargs {
		return []byte(head + o.Kargs + "\n" + tail), 0
	}
	pad := strings.Repeat("#", max(0, o.KargsSize-len(o.Kargs)-1))
	return []byte(head + o.Kargs + "\n" + pad + "# COREOS_KARG_EMBED_AREA\n" + tail), int64(len(head))
}

// systemArea makes the 32 KiB before the volume descriptors, with the headers
// that the styles ask for.
func systemArea(o Options, t *tree, kargsAt map[string]int64) []byte {
	b := make([]byte, 16*sector)
	put := func(at int, magic string, numbers ...int64) {
		copy(b[at:], magic)
		for i, n := range numbers {
			binary.LittleEndian.PutUint64(b[at+8+8*i:], uint64(n))
		}
	}
	if o.Embed == EmbedHeader {
		initrd := t.offset(initrdPath)
		put(len(b)-24, "coreiso+", initrd+t.files[initrdPath].size-o.EmbedSize, o.EmbedSize)
	}
	if o.KargStyle == KargsHeader {
		grub := t.offset(grubPath) + kargsAt[grubPath]
		// The real images keep the default arguments in a place of their own;
		// here the first area, unchanged at build time, serves for both.
		put(len(b)-24-72, "coreKarg", int64(o.KargsSize), grub, grub, t.offset(isolinux)+kargsAt[isolinux])
	}
	return b
}

func whole(b []byte) file { return file{data: b, size: int64(len(b))} }

func asJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		// Only maps of strings and numbers come here, which always marshal.
		return []byte("{}")
	}
	return append(b, '\n')
}

// filler makes n bytes that depend on the seed, do not repeat within a few MiB
// and compress badly, as a kernel does (xorshift64).
func filler(seed string, n int) []byte {
	x := uint64(0x9e3779b97f4a7c15)
	for _, c := range []byte(seed) {
		x = x*31 + uint64(c)
	}
	b := make([]byte, n+8)
	for i := 0; i < n; i += 8 {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		binary.LittleEndian.PutUint64(b[i:], x)
	}
	return b[:n]
}
