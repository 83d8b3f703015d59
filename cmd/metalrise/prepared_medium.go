package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/klauspost/compress/zstd"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
	"metalrise.dev/ignition"
)

// A prepared medium is a live ISO with an appendix that begins at a place known
// from the ISO's Ignition config:
//
//	"metalrise BUILD", zeros up to appendixHead
//	contents, one after the other; the disk image is the last
//	the index, JSON
//
// Nothing of it is secret.

const (
	appendixHead = 4096
	// appendixRoom lies between the base ISO and the appendix, for a config that
	// does not fit the embed area.
	appendixRoom = 1 << 20
	maxIndex     = 8 << 20
	maxContent   = 1 << 40

	contentProgram = "program"
	contentDisk    = "disk"
)

// content is one content of the appendix.
type content struct {
	Name   string `json:"name"` // contentProgram, contentDisk, or a digest of the nodes' software
	At     int64  `json:"at"`   // from the appendix's start
	Stored int64  `json:"stored"`
	Packed bool   `json:"packed,omitempty"` // by zstd
	SHA256 string `json:"sha256"`           // unpacked
	Bytes  int64  `json:"bytes"`            // unpacked
}

// indexRef is where the index is.
type indexRef struct {
	At     int64  `json:"at"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// mediumRef is ignition.MediumPath: what a machine must know to use a medium.
type mediumRef struct {
	Build   string   `json:"build"`
	Offset  int64    `json:"offset"`
	Program content  `json:"program"`
	Index   indexRef `json:"index"`
}

// mediumIndex is all that is decided when a medium is made.
type mediumIndex struct {
	Build     string         `json:"build"`
	Made      time.Time      `json:"made"`
	By        string         `json:"by"`     // who consented
	Site      string         `json:"site"`   // text of the site file
	Server    fleet.Identity `json:"server"` // zero: any machine
	Image     fleet.ImageRef `json:"image"`
	Disk      callhome.Image `json:"disk"` // without a path
	Payload   *fleet.Payload `json:"payload,omitempty"`
	Manifests string         `json:"manifests,omitempty"`
	Rack      *rackMedium    `json:"rack,omitempty"` // of a medium for a whole site; then nothing but site and program is set
	Contents  []content      `json:"contents"`
}

func (x *mediumIndex) find(name string) (content, bool) {
	for _, c := range x.Contents {
		if c.Name == name {
			return c, true
		}
	}
	return content{}, false
}

// carried is the length of the part that an installed system takes along: all
// but the disk image, which is the last content.
func (x *mediumIndex) carried() int64 {
	if c, ok := x.find(contentDisk); ok {
		return c.At
	}
	return 0
}

// appendix writes contents one after the other.
type appendix struct {
	out   io.WriterAt
	start int64 // of the appendix in out
	at    int64 // next free byte, from start
	list  []content
}

func newAppendix(out io.WriterAt, start int64, build string) (*appendix, error) {
	head := make([]byte, appendixHead)
	copy(head, "metalrise "+build)
	if _, err := out.WriteAt(head, start); err != nil {
		return nil, err
	}
	return &appendix{out: out, start: start, at: appendixHead}, nil
}

// add appends what r gives. sum and size, where known, must be its own; "" and -1
// are not compared.
func (a *appendix) add(ctx context.Context, name string, r io.Reader, sum string, size int64, pack bool) error {
	to := io.NewOffsetWriter(a.out, a.start+a.at)
	counted := &counter{w: to}
	var into io.Writer = counted
	var packer *zstd.Encoder
	if pack {
		var err error
		if packer, err = zstd.NewWriter(counted, zstd.WithEncoderConcurrency(2)); err != nil {
			return fmt.Errorf("pack %s: %w", name, err)
		}
		into = packer
	}
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(into, h), &stopping{ctx, r})
	if packer != nil {
		err = errors.Join(err, packer.Close())
	}
	if err != nil {
		return fmt.Errorf("append %s: %w", name, err)
	}
	got := hex.EncodeToString(h.Sum(nil))
	if sum != "" && got != sum || size >= 0 && n != size {
		return fleet.NewFault(fleet.CodeImageCorrupt, fleet.Conflict, nil, "append %s: %d bytes with sha256 %s, want %d with %s: it changed since it was verified", name, n, got, size, sum)
	}
	a.list = append(a.list, content{Name: name, At: a.at, Stored: counted.n, Packed: pack, SHA256: got, Bytes: n})
	a.at = (a.at + counted.n + appendixHead - 1) / appendixHead * appendixHead
	return nil
}

// close appends the index and fills up to whole sectors of optical media.
func (a *appendix) close(x *mediumIndex) (indexRef, int64, error) {
	x.Contents = a.list
	b, err := json.Marshal(x)
	if err != nil {
		return indexRef{}, 0, fmt.Errorf("encode the medium's index: %w", err)
	}
	ref := indexRef{At: a.at, Bytes: int64(len(b)), SHA256: hexDigest(b)}
	const sector = 2048
	b = append(b, make([]byte, (sector-len(b)%sector)%sector)...)
	_, err = a.out.WriteAt(b, a.start+a.at)
	return ref, a.start + a.at + int64(len(b)), err
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// stopping is a reader that ends with its context.
type stopping struct {
	ctx context.Context
	r   io.Reader
}

func (s *stopping) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	return s.r.Read(p)
}

// medium is an open prepared medium, or the copy of one.
type medium struct {
	file  *os.File
	path  string
	start int64 // of the appendix
	index []byte
	mediumIndex
}

func (m *medium) Close() error { return m.file.Close() }

// isCopy tells whether this is what an installed system took along.
func (m *medium) isCopy() bool { return m.start == 0 }

// section gives a content as it is stored.
func (m *medium) section(c content) *io.SectionReader {
	return io.NewSectionReader(m.file, m.start+c.At, c.Stored)
}

// unpack writes a content to a file, whole and right or not at all.
func (m *medium) unpack(ctx context.Context, c content, to string) error {
	var r io.Reader = m.section(c)
	if c.Packed {
		d, err := zstd.NewReader(r, zstd.WithDecoderMaxMemory(256<<20))
		if err != nil {
			return fmt.Errorf("unpack %s: %w", c.Name, err)
		}
		defer d.Close()
		r = d
	}
	f, err := os.CreateTemp(filepath.Dir(to), ".new-")
	if err != nil {
		return fmt.Errorf("unpack %s: %w", c.Name, err)
	}
	defer os.Remove(f.Name())
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, h), io.LimitReader(&stopping{ctx, r}, c.Bytes+1))
	if err == nil && (n != c.Bytes || hex.EncodeToString(h.Sum(nil)) != c.SHA256) {
		err = fleet.NewFault(fleet.CodePayloadCorrupt, fleet.Conflict, nil, "%s gives %d bytes with another digest, want %d", m.path, n, c.Bytes)
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("unpack %s: %w", c.Name, err)
	}
	return os.Rename(f.Name(), to)
}

// readMediumRef reads the description that the system was configured with.
func readMediumRef() (mediumRef, error) {
	var ref mediumRef
	b, err := readBounded(ignition.MediumPath, 64<<10)
	if err != nil {
		return ref, fmt.Errorf("this system did not come from a prepared medium: %w", err)
	}
	if err := json.Unmarshal(b, &ref); err != nil {
		return ref, fmt.Errorf("read %s: %w", ignition.MediumPath, err)
	}
	return ref, nil
}

// openMedium opens what lies at path if it is the medium.
func openMedium(path string, start int64, ref mediumRef) (*medium, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	m := &medium{file: f, path: path, start: start}
	if err := m.read(ref); err != nil {
		return nil, errors.Join(fmt.Errorf("medium %s: %w", path, err), f.Close())
	}
	return m, nil
}

func (m *medium) read(ref mediumRef) error {
	head := []byte("metalrise " + ref.Build + "\x00")
	got := make([]byte, len(head))
	if _, err := m.file.ReadAt(got, m.start); err != nil || !bytes.Equal(got, head) {
		return errors.New("is another one")
	}
	at := ref.Index
	if at.Bytes <= 0 || at.Bytes > maxIndex {
		return fmt.Errorf("index of %d bytes", at.Bytes)
	}
	index := io.NewSectionReader(m.file, m.start+at.At, at.Bytes)
	if m.isCopy() { // the index does not lie where it did
		info, err := m.file.Stat()
		if err != nil {
			return err
		}
		index = io.NewSectionReader(m.file, info.Size()-at.Bytes, at.Bytes)
	}
	b, err := io.ReadAll(index)
	if err != nil {
		return fmt.Errorf("read the index: %w", err)
	}
	if int64(len(b)) != at.Bytes || hexDigest(b) != at.SHA256 {
		return errors.New("the index does not have its digest")
	}
	m.index = b
	if err := json.Unmarshal(b, &m.mediumIndex); err != nil {
		return fmt.Errorf("decode the index: %w", err)
	}
	for _, c := range m.Contents {
		if c.At < appendixHead || c.Stored < 0 || c.Stored > maxContent || c.Bytes < 0 || c.Bytes > maxContent {
			return fmt.Errorf("content %.80q at %d of %d bytes makes no sense", c.Name, c.At, c.Stored)
		}
	}
	return nil
}

// mediumDevices lists the places where a medium may be, the copy first.
func mediumDevices() []string {
	var out []string
	for _, pattern := range []string{"/dev/sr[0-9]*", "/dev/sd[a-z]", "/dev/sd[a-z][a-z]", "/dev/vd[a-z]", "/dev/nvme[0-9]*n[0-9]", "/dev/mmcblk[0-9]"} {
		found, err := filepath.Glob(pattern)
		if err == nil { // only a bad pattern gives an error
			out = append(out, found...)
		}
	}
	return out
}

// findMedium finds the medium, or waits until it is there.
func findMedium(ctx context.Context, ref mediumRef, tell func(string)) (*medium, error) {
	for said := false; ; said = true {
		if m, err := openMedium(ignition.CarriedCopy, 0, ref); err == nil {
			return m, nil
		}
		for _, device := range mediumDevices() {
			if m, err := openMedium(device, ref.Offset, ref); err == nil {
				return m, nil
			}
		}
		if !said {
			tell(fmt.Sprintf("the medium this machine is installed from (%s) is not here: put it back in", ref.Build))
		}
		select {
		case <-time.After(5 * time.Second):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
