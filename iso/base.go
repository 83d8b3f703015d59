package iso

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"metalrise.dev/fleet"
)

// Base is a base live ISO, parsed once. It is safe for concurrent use. It must
// stay open as long as an Image made of it is served.
type Base struct {
	source  *source
	content content
	label   string
	layout  layout
	packer  *packer
	reduced bool // the root file system was taken out

	mu     sync.Mutex
	digest string // sha256 in hexadecimal, "" until known
}

// source is the file that a Base, and one made of it by Minimal, reads.
type source struct {
	path string
	file *os.File
	info os.FileInfo
}

// Open parses the ISO at path. It reads a few hundred KiB of it, not all.
// Errors are faults with code PLAN-017 around ErrNoEmbedArea, a *FormatError or
// an error of the file.
func Open(path string) (*Base, error) { return OpenVerified(path, "") }

// OpenVerified is Open for a file whose sha256 (64 hexadecimal digits) the
// caller has verified already, so that it need not be hashed again.
func OpenVerified(path, sha256 string) (*Base, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fleet.NewFault(fleet.CodeImageMissing, fleet.Invalid, err, "open base ISO")
	}
	b := &Base{source: &source{path: path, file: f}, packer: &packer{}, digest: sha256}
	if err := b.open(); err != nil {
		f.Close()
		return nil, fleet.NewFault(fleet.CodeImageMissing, fleet.Invalid, err, "open base ISO %s", path)
	}
	return b, nil
}

func (b *Base) open() error {
	info, err := b.source.file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("not a regular file")
	}
	b.source.info, b.content = info, plain(info.Size())
	return b.parse()
}

// parse reads all that Personalise needs, so that it need not read the file.
func (b *Base) parse() error {
	v, err := openVolume(&blocks{r: b, size: b.Size()}, b.Size())
	if err != nil {
		return err
	}
	b.label = v.label
	if b.layout, err = findLayout(v); err != nil {
		return err
	}
	if b.layout.ignition.size == 0 {
		return ErrNoEmbedArea
	}
	b.layout.present, b.layout.presentErr = v.embedded(b.layout)
	b.layout.features = v.features()
	b.layout.grow = v.growth(b.layout)
	return nil
}

// ReadAt reads the base as io.ReaderAt promises.
func (b *Base) ReadAt(p []byte, off int64) (int, error) {
	return b.content.readAt(b.source.file, p, off)
}

// Close closes the base file, also for a Base that Minimal made of this one or
// that this one was made of. Readers that are open go on; new ones fail.
func (b *Base) Close() error { return b.source.file.Close() }

// Path is where the base was opened.
func (b *Base) Path() string { return b.source.path }

// Size is the size of the base in bytes, and of every Image made of it whose
// archive fits the embed area.
func (b *Base) Size() int64 { return b.content.size }

// Label is the volume label, which the live system looks for
// (coreos.liveiso=LABEL).
func (b *Base) Label() string { return b.label }

// EmbedSize is the size of the embed area in bytes: what a compressed Ignition
// config may have.
func (b *Base) EmbedSize() int64 { return b.layout.ignition.size }

// Digest is the sha256 of the base in hexadecimal, computed at the first call
// unless it was given to OpenVerified.
func (b *Base) Digest(ctx context.Context) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.digest != "" {
		return b.digest, nil
	}
	h := sha256.New()
	buf := make([]byte, 1<<20)
	in := io.NewSectionReader(b, 0, b.Size())
	for {
		if err := ctx.Err(); err != nil {
			return "", fmt.Errorf("hash base ISO: %w", err)
		}
		n, err := in.Read(buf)
		h.Write(buf[:n])
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", fmt.Errorf("hash base ISO: %w", err)
		}
	}
	if err := b.source.unchanged(b.source.file); err != nil {
		return "", err
	}
	b.digest = hex.EncodeToString(h.Sum(nil))
	return b.digest, nil
}

// identity names the file in an ETag: by digest when it is known, else by what
// the file system says of it, which changes whenever the file does.
func (b *Base) identity() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.digest != "" {
		return b.digest
	}
	i := b.source.info
	return fmt.Sprintf("%s %d %d", b.source.path, i.Size(), i.ModTime().UnixNano())
}

// unchanged compares an open file with the one that was parsed. Cached offsets
// applied to other bytes would give an ISO that boots into nothing.
func (b *source) unchanged(f *os.File) error {
	now, err := f.Stat()
	if err != nil {
		return fmt.Errorf("base ISO %s: %w", b.path, err)
	}
	if !os.SameFile(now, b.info) || now.Size() != b.info.Size() || !now.ModTime().Equal(b.info.ModTime()) {
		return fleet.NewFault(fleet.CodeImageCorrupt, fleet.Conflict, ErrBaseChanged, "base ISO %s", b.path)
	}
	return nil
}

// Paths of what a network boot needs, the same on every CoreOS live ISO.
const (
	KernelPath = "images/pxeboot/vmlinuz"
	InitrdPath = "images/pxeboot/initrd.img"
	RootfsPath = "images/pxeboot/rootfs.img"
)

// File gives the bytes of a file in the ISO, read in place; many readers may
// use it at once. A missing one is an error that wraps fs.ErrNotExist.
func (b *Base) File(path string) (*io.SectionReader, error) {
	v, err := openVolume(b, b.Size())
	if err != nil {
		return nil, err
	}
	e, err := v.file(path)
	if err != nil {
		return nil, err
	}
	return io.NewSectionReader(b, e.off, e.size), nil
}

// Extract copies a file of the ISO to w and gives its size.
func (b *Base) Extract(path string, w io.Writer) (int64, error) {
	r, err := b.File(path)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(w, r)
	if err == nil && n != r.Size() {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return n, fmt.Errorf("extract %s: %w", path, err)
	}
	return n, nil
}

// Features is what the live system on the base says it can do.
func (b *Base) Features() Features { return b.layout.features }
