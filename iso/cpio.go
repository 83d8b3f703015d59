package iso

import (
	"errors"
	"fmt"
	"io"
	"strconv"
)

// The newc form of cpio, as the kernel reads it (kernel documentation,
// driver-api/early-userspace/buffer-format): a header of 110 characters, the
// name with its NUL, the data, each padded to four bytes.
const (
	newcHeader  = 110
	newcTrailer = "TRAILER!!!"
	maxCpioName = 4096
	maxMembers  = 4096
	// maxArchive bounds an archive when unpacked. A MiB of gzip can hold a GiB of
	// zeros, and an embed area may be large.
	maxArchive = 32 << 20
)

// appendMember appends one regular file, owned by root, without times, so that
// the same input gives the same bytes.
func appendMember(b []byte, name string, mode uint32, data []byte) []byte {
	fields := [13]uint32{1: mode, 4: 1, 6: uint32(len(data)), 11: uint32(len(name) + 1)}
	b = append(b, "070701"...)
	for _, f := range fields {
		b = fmt.Appendf(b, "%08X", f)
	}
	b = append(b, name...)
	b = pad4(append(b, 0))
	return pad4(append(b, data...))
}

func pad4(b []byte) []byte {
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// archive makes an archive of one file. Mode 0644 is what coreos-installer
// writes; the archive is unpacked into the initramfs, which only root sees.
func archive(name string, data []byte) []byte {
	b := make([]byte, 0, len(data)+2*newcHeader+len(name)+len(newcTrailer)+16)
	b = appendMember(b, name, 0o100644, data)
	return appendMember(b, newcTrailer, 0, nil)
}

// errNoMember: the archive ended without the wanted file.
var errNoMember = errors.New("no such file in the archive")

// member reads one file of at most limit bytes out of a newc archive. The last
// file of a name wins, as when the kernel unpacks it.
func member(r io.Reader, name string, limit int64) ([]byte, error) {
	var found []byte
	ok := false
	in := &counted{r: r}
	for range maxMembers {
		h, err := readMember(in, limit)
		if err != nil {
			return nil, fmt.Errorf("cpio archive at byte %d: %w", in.n, err)
		}
		switch h.name {
		case newcTrailer:
			if !ok {
				return nil, errNoMember
			}
			return found, nil
		case name:
			found, ok = make([]byte, h.size), true
			if _, err := io.ReadFull(in, found); err != nil {
				return nil, fmt.Errorf("cpio archive: %s: %w", name, err)
			}
		default:
			if _, err := io.CopyN(io.Discard, in, h.size); err != nil {
				return nil, fmt.Errorf("cpio archive at byte %d: %w", in.n, err)
			}
		}
		if err := in.align(); err != nil {
			return nil, fmt.Errorf("cpio archive: %w", err)
		}
	}
	return nil, fmt.Errorf("cpio archive: more than %d files", maxMembers)
}

type memberHeader struct {
	name string
	size int64
}

// readMember reads a header and the name behind it.
func readMember(in *counted, limit int64) (memberHeader, error) {
	var h memberHeader
	var b [newcHeader]byte
	if _, err := io.ReadFull(in, b[:]); err != nil {
		return h, fmt.Errorf("header: %w", err)
	}
	if m := string(b[:6]); m != "070701" && m != "070702" {
		return h, fmt.Errorf("magic %q, want 070701 (newc)", m)
	}
	size, err := strconv.ParseUint(string(b[54:62]), 16, 32)
	if err != nil {
		return h, fmt.Errorf("file size %q: not hexadecimal", b[54:62])
	}
	nameSize, err := strconv.ParseUint(string(b[94:102]), 16, 32)
	if err != nil || nameSize < 1 || nameSize > maxCpioName {
		return h, fmt.Errorf("name size %q: want 1 to %d in hexadecimal", b[94:102], maxCpioName)
	}
	if int64(size) > limit {
		return h, fmt.Errorf("a file of %d bytes, more than the %d allowed", size, limit)
	}
	name := make([]byte, nameSize)
	if _, err := io.ReadFull(in, name); err != nil {
		return h, fmt.Errorf("name: %w", err)
	}
	h.name, h.size = string(name[:nameSize-1]), int64(size)
	return h, in.align()
}

// counted knows how far it has read, for alignment and messages.
type counted struct {
	r io.Reader
	n int64
}

func (c *counted) Read(p []byte) (int, error) {
	if c.n >= maxArchive {
		return 0, fmt.Errorf("more than %d bytes when unpacked", maxArchive)
	}
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// align skips to the next multiple of four.
func (c *counted) align() error {
	var b [4]byte
	_, err := io.ReadFull(c, b[:(4-c.n%4)%4])
	return err
}
