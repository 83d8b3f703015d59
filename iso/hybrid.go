package iso

import "encoding/binary"

// hybrid is what an ISO says of itself as a disk: the partition tables that
// isohybrid puts into the system area, so that it boots from a USB stick too.
type hybrid struct {
	table   [4 * mbrEntry]byte // of the master boot record
	present bool
	gpt     bool
}

const (
	mbrTable  = 446
	mbrEntry  = 16
	mbrMark   = 510
	gptHeader = 512
	lbaSize   = 512
)

func findHybrid(v *volume) hybrid {
	var h hybrid
	var b [2 * lbaSize]byte
	if readFull(v.r, b[:], 0) != nil || b[mbrMark] != 0x55 || b[mbrMark+1] != 0xaa {
		return h
	}
	h.present = true
	copy(h.table[:], b[mbrTable:])
	h.gpt = string(b[gptHeader:gptHeader+8]) == "EFI PART"
	return h
}

// without moves the partitions that lie behind a run of bytes taken out.
func (h hybrid) without(lo, hi int64) hybrid {
	for at := 0; at < len(h.table); at += mbrEntry {
		start := h.table[at+8 : at+12]
		if n := int64(binary.LittleEndian.Uint32(start)) * lbaSize; n >= hi {
			binary.LittleEndian.PutUint32(start, uint32((n-(hi-lo))/lbaSize))
		}
	}
	return h
}

// resize fits the partition tables to another size of the image in bytes: each
// partition that began at its first sector ends with it. A GPT would need new
// checksums and a copy at the new end; it is unmarked instead, and firmware takes
// the master boot record, which names the EFI partition too.
func (h hybrid) resize(size int64) []segment {
	if !h.present {
		return nil
	}
	table := h.table
	for at := 0; at < len(table); at += mbrEntry {
		start, n := binary.LittleEndian.Uint32(table[at+8:]), binary.LittleEndian.Uint32(table[at+12:])
		if n != 0 && start == 0 {
			binary.LittleEndian.PutUint32(table[at+12:], uint32(size/lbaSize))
		}
	}
	segs := []segment{{off: mbrTable, size: int64(len(table)), data: table[:]}}
	if h.gpt {
		segs = append(segs, segment{off: gptHeader, size: 8})
	}
	return segs
}
