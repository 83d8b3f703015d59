package container

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"

	"github.com/cavaliergopher/cpio"
	"github.com/ulikunitz/xz"
)

const (
	maxConfig     = 16 << 20 // bytes of an Ignition config; the usual area is 256 KiB
	maxEmbedArea  = 64 << 20
	newcHeaderLen = 110
)

// embedded is what an installer's tool put on a medium.
type embedded struct {
	Config   []byte            // Ignition config; nil for none
	Keyfiles map[string][]byte // NetworkManager settings by file name
}

// openArea opens an embed area: a newc cpio archive, perhaps compressed with
// gzip or xz, then zeroes. An area of nothing but zeroes holds nothing.
func openArea(area []byte) (embedded, error) {
	var e embedded
	if len(bytes.TrimLeft(area, "\x00")) == 0 {
		return e, nil
	}
	r, err := decompress(area)
	if err != nil {
		return e, fmt.Errorf("embed area: %w", err)
	}
	archive := cpio.NewReader(io.LimitReader(r, 2*maxConfig))
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return e, nil
		}
		if err != nil {
			return e, fmt.Errorf("embed area: cpio: %w", err)
		}
		name := strings.TrimLeft(h.Name, "./")
		keyfile := path.Dir(name) == "etc/coreos-firstboot-network" && path.Ext(name) == ".nmconnection"
		if name != "config.ign" && !keyfile {
			continue
		}
		if h.Size > maxConfig {
			return e, fmt.Errorf("embed area: %s has %d bytes, more than the %d it may have", name, h.Size, maxConfig)
		}
		b, err := io.ReadAll(archive)
		if err != nil {
			return e, fmt.Errorf("embed area: read %s: %w", name, err)
		}
		if !keyfile {
			e.Config = b
			continue
		}
		if e.Keyfiles == nil {
			e.Keyfiles = map[string][]byte{}
		}
		e.Keyfiles[path.Base(name)] = b
	}
}

func decompress(area []byte) (io.Reader, error) {
	var r io.Reader = bytes.NewReader(area)
	switch {
	case bytes.HasPrefix(area, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(bufio.NewReader(r))
		if err != nil {
			return nil, err
		}
		z.Multistream(false) // zeroes follow
		return z, nil
	case bytes.HasPrefix(area, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		return xz.ReaderConfig{SingleStream: true}.NewReader(r)
	}
	return r, nil
}

// firstMember finds where the bytes of a newc archive's first member lie
// (cpio(5), "New ASCII Format"): the root file system of a live image is used
// in place, never unpacked.
func firstMember(r io.ReaderAt, at int64) (name string, offset, size int64, err error) {
	h := make([]byte, newcHeaderLen)
	if _, err := r.ReadAt(h, at); err != nil {
		return "", 0, 0, fmt.Errorf("cpio: read header: %w", err)
	}
	if string(h[:6]) != "070701" {
		return "", 0, 0, fmt.Errorf("cpio: starts with %q, not a newc archive", h[:6])
	}
	field := func(i int) int64 {
		n, e := strconv.ParseUint(string(h[6+8*i:14+8*i]), 16, 32)
		if e != nil && err == nil {
			err = fmt.Errorf("cpio: header: %w", e)
		}
		return int64(n)
	}
	size = field(6)
	nameLen := field(11)
	if err != nil {
		return "", 0, 0, err
	}
	if nameLen < 2 || nameLen > 4096 {
		return "", 0, 0, fmt.Errorf("cpio: name of %d bytes", nameLen)
	}
	b := make([]byte, nameLen)
	if _, err := r.ReadAt(b, at+newcHeaderLen); err != nil {
		return "", 0, 0, fmt.Errorf("cpio: read name: %w", err)
	}
	data := newcHeaderLen + nameLen
	data += (4 - data%4) % 4
	return strings.TrimRight(string(b), "\x00"), at + data, size, nil
}
