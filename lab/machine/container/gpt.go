package container

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"unicode/utf16"
)

const (
	gptSector     = 512
	gptMaxEntries = 1024 // the standard asks for room for 128
)

// partition is one entry of a GUID partition table.
type partition struct {
	Number int    // from 1
	Name   string // partition label
	Start  int64  // bytes
	Size   int64  // bytes
}

// readGPT lists the partitions of a disk of the given size (UEFI
// specification, section 5.3). It believes the primary table only: a disk with
// nothing but a backup table does not boot on the machines this one plays.
func readGPT(r io.ReaderAt, size int64) ([]partition, error) {
	h := make([]byte, gptSector)
	if _, err := r.ReadAt(h, gptSector); err != nil {
		return nil, fmt.Errorf("gpt: read header: %w", err)
	}
	if string(h[:8]) != "EFI PART" {
		return nil, fmt.Errorf("gpt: no partition table")
	}
	hlen := binary.LittleEndian.Uint32(h[12:])
	if hlen < 92 || hlen > gptSector {
		return nil, fmt.Errorf("gpt: header of %d bytes", hlen)
	}
	want := binary.LittleEndian.Uint32(h[16:])
	sum := append([]byte(nil), h[:hlen]...)
	copy(sum[16:20], []byte{0, 0, 0, 0})
	if crc32.ChecksumIEEE(sum) != want {
		return nil, fmt.Errorf("gpt: header checksum is wrong")
	}
	n, esize := binary.LittleEndian.Uint32(h[80:]), binary.LittleEndian.Uint32(h[84:])
	if n > gptMaxEntries || esize < 128 || esize > 4096 {
		return nil, fmt.Errorf("gpt: %d entries of %d bytes", n, esize)
	}
	table := make([]byte, int(n)*int(esize))
	if _, err := r.ReadAt(table, int64(binary.LittleEndian.Uint64(h[72:]))*gptSector); err != nil {
		return nil, fmt.Errorf("gpt: read entries: %w", err)
	}
	if crc32.ChecksumIEEE(table) != binary.LittleEndian.Uint32(h[88:]) {
		return nil, fmt.Errorf("gpt: checksum of the entries is wrong")
	}
	var parts []partition
	for i := range int(n) {
		e := table[i*int(esize):]
		first, last := binary.LittleEndian.Uint64(e[32:]), binary.LittleEndian.Uint64(e[40:])
		if [16]byte(e[:16]) == [16]byte{} {
			continue
		}
		if first > last || last >= uint64(size/gptSector) {
			return nil, fmt.Errorf("gpt: partition %d (sectors %d to %d) leaves the disk of %d sectors", i+1, first, last, size/gptSector)
		}
		parts = append(parts, partition{Number: i + 1, Name: utf16String(e[56:128]),
			Start: int64(first) * gptSector, Size: int64(last-first+1) * gptSector})
	}
	return parts, nil
}

func utf16String(b []byte) string {
	var u []uint16
	for i := 0; i+1 < len(b); i += 2 {
		c := binary.LittleEndian.Uint16(b[i:])
		if c == 0 {
			break
		}
		u = append(u, c)
	}
	return string(utf16.Decode(u))
}

// partitionNamed returns the first partition with the given label.
func partitionNamed(parts []partition, name string) (partition, bool) {
	for _, p := range parts {
		if p.Name == name {
			return p, true
		}
	}
	return partition{}, false
}
