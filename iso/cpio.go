package iso

import (
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

// member is one file, directory or other node of an archive.
type member struct {
	name string
	mode uint32 // as in stat: type and permissions
	data []byte
}

const (
	modeType = 0o170000
	modeDir  = 0o040000
	modeFile = 0o100000
)

// archive makes an archive of members. It puts the directories that a member
// lies in before it, because the kernel makes none by itself.
func archive(members []member) []byte {
	size := 2 * newcHeader
	for _, m := range members {
		size += 2*(newcHeader+len(m.name)+4) + len(m.data)
	}
	b := make([]byte, 0, size)
	made := map[string]bool{}
	for _, m := range members {
		for i := range m.name {
			if up := m.name[:i]; m.name[i] == '/' && !made[up] {
				made[up] = true
				b = appendMember(b, up, modeDir|0o755, nil)
			}
		}
		if m.mode&modeType == modeDir {
			if made[m.name] {
				continue
			}
			made[m.name] = true
		}
		b = appendMember(b, m.name, m.mode, m.data)
	}
	return appendMember(b, newcTrailer, 0, nil)
}

// readMembers reads a newc archive to its trailer. The last file of a name wins,
// as when the kernel unpacks it; each stands where its name came first.
func readMembers(r io.Reader, limit int64) ([]member, error) {
	var out []member
	at := map[string]int{}
	in := &counted{r: r}
	for range maxMembers {
		h, err := readMember(in, limit)
		if err != nil {
			return nil, fmt.Errorf("cpio archive at byte %d: %w", in.n, err)
		}
		if h.name == newcTrailer {
			return out, nil
		}
		// not make([]byte, h.size): the size is only believed as data comes
		data, err := io.ReadAll(io.LimitReader(in, h.size))
		if err == nil && int64(len(data)) < h.size {
			err = io.ErrUnexpectedEOF
		}
		if err == nil {
			err = in.align()
		}
		if err != nil {
			return nil, fmt.Errorf("cpio archive: %s: %w", printable(h.name), err)
		}
		m := member{name: h.name, mode: h.mode, data: data}
		if i, ok := at[h.name]; ok {
			out[i] = m
			continue
		}
		at[h.name] = len(out)
		out = append(out, m)
	}
	return nil, fmt.Errorf("cpio archive: more than %d files", maxMembers)
}

type memberHeader struct {
	name string
	mode uint32
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
	mode, err := strconv.ParseUint(string(b[14:22]), 16, 32)
	if err != nil {
		return h, fmt.Errorf("mode %q: not hexadecimal", b[14:22])
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
	h.name, h.mode, h.size = string(name[:nameSize-1]), uint32(mode), int64(size)
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
