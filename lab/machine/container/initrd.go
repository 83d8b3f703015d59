package container

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
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

// embeddedConfig takes the Ignition config out of an embed area: a newc cpio
// archive with the member config.ign, perhaps compressed with gzip or xz, then
// zeroes. An area of nothing but zeroes holds none, and nil is returned.
func embeddedConfig(area []byte) ([]byte, error) {
	if len(bytes.TrimLeft(area, "\x00")) == 0 {
		return nil, nil
	}
	var r io.Reader = bytes.NewReader(area)
	switch {
	case bytes.HasPrefix(area, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(bufio.NewReader(r))
		if err != nil {
			return nil, fmt.Errorf("embed area: gzip: %w", err)
		}
		z.Multistream(false) // zeroes follow
		r = z
	case bytes.HasPrefix(area, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		z, err := xz.ReaderConfig{SingleStream: true}.NewReader(r)
		if err != nil {
			return nil, fmt.Errorf("embed area: xz: %w", err)
		}
		r = z
	}
	archive := cpio.NewReader(io.LimitReader(r, 2*maxConfig))
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("embed area: cpio: %w", err)
		}
		if strings.TrimLeft(h.Name, "./") != "config.ign" {
			continue
		}
		if h.Size > maxConfig {
			return nil, fmt.Errorf("embed area: config.ign has %d bytes, more than the %d it may have", h.Size, maxConfig)
		}
		return io.ReadAll(archive)
	}
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
