package iso

import (
	"encoding/binary"
	"hash/crc32"
	"slices"
)

// hybrid is what an ISO says of itself as a disk: the partition tables that
// isohybrid puts into the system area, so that it boots from a USB stick too.
type hybrid struct {
	mbr     []byte // the four entries of the master boot record, nil if it has none
	header  []byte // of the GUID partition table, nil if it has none
	entries []byte // its partitions
	at      int64  // where they are, in bytes
}

const (
	mbrTable = 446
	mbrEntry = 16
	mbrMark  = 510
	lbaSize  = 512
)

// Fields of a GPT header and of an entry (UEFI specification, sections 5.3.2 and
// 5.3.3).
const (
	gptHeaderSize = 12
	gptHeaderSum  = 16
	gptSelf       = 24
	gptOther      = 32
	gptLastUsable = 48
	gptEntriesAt  = 72
	gptEntries    = 80
	gptEntrySize  = 84
	gptEntriesSum = 88
	gptHeaderEnd  = 92
	entryFirst    = 32
	entryLast     = 40
)

func findHybrid(v *volume) hybrid {
	var h hybrid
	var b [systemArea]byte
	if readFull(v.r, b[:], 0) != nil || b[mbrMark] != 0x55 || b[mbrMark+1] != 0xaa {
		return h
	}
	h.mbr = slices.Clone(b[mbrTable:mbrMark])
	g := b[lbaSize : 2*lbaSize]
	n, size, at := binary.LittleEndian.Uint32(g[gptEntries:]), binary.LittleEndian.Uint32(g[gptEntrySize:]), binary.LittleEndian.Uint64(g[gptEntriesAt:])
	if string(g[:8]) != "EFI PART" || binary.LittleEndian.Uint32(g[gptHeaderSize:]) != gptHeaderEnd ||
		size != 128 || n == 0 || n > systemArea/128 || at < 2 || at*lbaSize+uint64(n*size) > systemArea {
		return h
	}
	h.header, h.at = slices.Clone(g), int64(at)*lbaSize
	h.entries = slices.Clone(b[h.at : h.at+int64(n*size)])
	return h
}

// tail is what the copy of the partition table needs at the end of the image.
func (h hybrid) tail() int64 {
	if h.header == nil {
		return 0
	}
	return sectors(int64(len(h.entries))+2*lbaSize) * sectorSize
}

// without moves the partitions that lie behind a run of bytes taken out.
func (h hybrid) without(lo, hi int64) hybrid {
	h.mbr, h.entries = slices.Clone(h.mbr), slices.Clone(h.entries)
	gone := (hi - lo) / lbaSize
	for e := range slices.Chunk(h.mbr, mbrEntry) {
		if n := binary.LittleEndian.Uint32(e[8:]); int64(n)*lbaSize >= hi {
			binary.LittleEndian.PutUint32(e[8:], n-uint32(gone))
		}
	}
	for e := range slices.Chunk(h.entries, 128) {
		for _, field := range []int{entryFirst, entryLast} {
			if n := binary.LittleEndian.Uint64(e[field:]); n >= uint64(hi)/lbaSize {
				binary.LittleEndian.PutUint64(e[field:], n-uint64(gone))
			}
		}
	}
	return h
}

// resize fits the partition tables to another size of the image in bytes: each
// partition that began at its first sector ends with it.
func (h hybrid) resize(size int64) []segment {
	if h.mbr == nil {
		return nil
	}
	mbr := slices.Clone(h.mbr)
	for e := range slices.Chunk(mbr, mbrEntry) {
		if binary.LittleEndian.Uint32(e[8:]) == 0 && binary.LittleEndian.Uint32(e[12:]) != 0 {
			binary.LittleEndian.PutUint32(e[12:], uint32(size/lbaSize))
		}
	}
	segs := []segment{{off: mbrTable, size: int64(len(mbr)), data: mbr}}
	if h.header == nil {
		return segs
	}
	last := uint64(size/lbaSize) - 1
	usable := last - uint64(len(h.entries)+lbaSize-1)/lbaSize - 1
	entries := slices.Clone(h.entries)
	for e := range slices.Chunk(entries, 128) {
		if binary.LittleEndian.Uint64(e[entryFirst:]) == 0 && binary.LittleEndian.Uint64(e[entryLast:]) != 0 {
			binary.LittleEndian.PutUint64(e[entryLast:], usable-1) // as xorriso has it
		}
	}
	first := h.gpt(entries, 1, last, uint64(h.at/lbaSize), usable)
	second := h.gpt(entries, last, 1, usable+1, usable)
	return append(segs,
		segment{off: lbaSize, size: lbaSize, data: first},
		segment{off: h.at, size: int64(len(entries)), data: entries},
		segment{off: int64(usable+1) * lbaSize, size: int64(len(entries)), data: entries},
		segment{off: int64(last) * lbaSize, size: lbaSize, data: second})
}

// gpt makes a header for a place, with its checksums.
func (h hybrid) gpt(entries []byte, self, other, entriesAt, usable uint64) []byte {
	g := slices.Clone(h.header)
	binary.LittleEndian.PutUint64(g[gptSelf:], self)
	binary.LittleEndian.PutUint64(g[gptOther:], other)
	binary.LittleEndian.PutUint64(g[gptEntriesAt:], entriesAt)
	binary.LittleEndian.PutUint64(g[gptLastUsable:], usable)
	binary.LittleEndian.PutUint32(g[gptEntriesSum:], crc32.ChecksumIEEE(entries))
	binary.LittleEndian.PutUint32(g[gptHeaderSum:], 0)
	binary.LittleEndian.PutUint32(g[gptHeaderSum:], crc32.ChecksumIEEE(g[:gptHeaderEnd]))
	return g
}
