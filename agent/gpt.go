package agent

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"unicode/utf16"
)

// gpt is a partition table as UEFI 2.10, section 5.3, describes it. Only what
// is needed to find a partition and to move the backup is read.
type gpt struct {
	sector   int64
	header   []byte // as found, with its own checksum
	entries  []byte
	entryLBA int64
	parts    []gptPart
}

type gptPart struct {
	Name string
	Span Span
}

const (
	gptSignature   = "EFI PART"
	maxGPTEntries  = 1024
	maxGPTEntry    = 1024
	gptHeaderSize  = 92
	offHeaderSize  = 12
	offHeaderCRC   = 16
	offMyLBA       = 24
	offOtherLBA    = 32
	offLastUsable  = 48
	offEntryLBA    = 72
	offEntryCount  = 80
	offEntrySize   = 84
	offEntriesCRC  = 88
	offEntryFirst  = 32
	offEntryLast   = 40
	offEntryName   = 56
	entryNameBytes = 72
)

// errNoGPT is the one error that does not speak of damage.
var errNoGPT = errors.New("no partition table of kind GPT")

// parseGPT reads the primary table out of a disk's first bytes.
func parseGPT(head []byte, sector int64) (*gpt, error) {
	if sector < 512 || sector > 4096 || int64(len(head)) < 2*sector || string(head[sector:sector+8]) != gptSignature {
		return nil, errNoGPT
	}
	le := binary.LittleEndian
	block := head[sector : 2*sector]
	size := int64(le.Uint32(block[offHeaderSize:]))
	if size < gptHeaderSize || size > sector {
		return nil, fmt.Errorf("gpt: header of %d bytes", size)
	}
	t := &gpt{sector: sector, header: bytes.Clone(block[:size])}
	if headerCRC(t.header) != le.Uint32(block[offHeaderCRC:]) {
		return nil, errors.New("gpt: checksum of the header is wrong")
	}
	count, entry := int64(le.Uint32(block[offEntryCount:])), int64(le.Uint32(block[offEntrySize:]))
	lba := le.Uint64(block[offEntryLBA:])
	if count > maxGPTEntries || entry < 128 || entry > maxGPTEntry || entry%8 != 0 || lba < 2 || lba > uint64(len(head)) {
		return nil, fmt.Errorf("gpt: %d entries of %d bytes at block %d", count, entry, lba)
	}
	start := int64(lba) * sector
	if start+count*entry > int64(len(head)) {
		return nil, fmt.Errorf("gpt: entries end at byte %d, behind the first %d", start+count*entry, len(head))
	}
	t.entryLBA, t.entries = int64(lba), bytes.Clone(head[start:start+count*entry])
	if crc32.ChecksumIEEE(t.entries) != le.Uint32(block[offEntriesCRC:]) {
		return nil, errors.New("gpt: checksum of the entries is wrong")
	}
	return t, t.readParts(entry)
}

func (t *gpt) readParts(entry int64) error {
	le := binary.LittleEndian
	var unused [16]byte
	for o := int64(0); o+entry <= int64(len(t.entries)); o += entry {
		e := t.entries[o : o+entry]
		if bytes.Equal(e[:16], unused[:]) {
			continue
		}
		first, last := le.Uint64(e[offEntryFirst:]), le.Uint64(e[offEntryLast:])
		if first > last || last >= 1<<50 { // 2^50 blocks is more than any disk and safe to multiply
			return fmt.Errorf("gpt: partition from block %d to %d", first, last)
		}
		units := make([]uint16, 0, entryNameBytes/2)
		for i := 0; i < entryNameBytes; i += 2 {
			u := le.Uint16(e[offEntryName+i:])
			if u == 0 {
				break
			}
			units = append(units, u)
		}
		t.parts = append(t.parts, gptPart{
			Name: strings.TrimSpace(printable(string(utf16.Decode(units)))),
			Span: Span{Offset: int64(first) * t.sector, Size: int64(last-first+1) * t.sector},
		})
	}
	return nil
}

// find gives the one partition of a name.
func (t *gpt) find(name string) (Span, error) {
	var found []Span
	for _, p := range t.parts {
		if p.Name == name {
			found = append(found, p.Span)
		}
	}
	if len(found) != 1 {
		return Span{}, fmt.Errorf("gpt: %d partitions named %q, want one", len(found), name)
	}
	return found[0], nil
}

// moveBackup makes the table fit a disk of size bytes. It changes head, which
// holds the disk's first bytes, and gives the backup table and its place.
func (t *gpt) moveBackup(head []byte, size int64) (tail []byte, at int64, err error) {
	le := binary.LittleEndian
	last := size/t.sector - 1
	blocks := (int64(len(t.entries)) + t.sector - 1) / t.sector
	usable := last - blocks - 1
	for _, p := range t.parts {
		if end := (p.Span.Offset + p.Span.Size) / t.sector; end-1 > usable {
			return nil, 0, fmt.Errorf("gpt: partition %q ends at block %d, the disk's last usable one is %d", p.Name, end-1, usable)
		}
	}
	set := func(my, other, entries int64) []byte {
		h := bytes.Clone(t.header)
		le.PutUint64(h[offMyLBA:], uint64(my))
		le.PutUint64(h[offOtherLBA:], uint64(other))
		le.PutUint64(h[offLastUsable:], uint64(usable))
		le.PutUint64(h[offEntryLBA:], uint64(entries))
		le.PutUint32(h[offHeaderCRC:], headerCRC(h))
		return h
	}
	copy(head[t.sector:], set(1, last, t.entryLBA))
	fitProtective(head, last)
	tail = make([]byte, (blocks+1)*t.sector)
	copy(tail, t.entries)
	copy(tail[blocks*t.sector:], set(last, 1, last-blocks))
	return tail, (last - blocks) * t.sector, nil
}

// fitProtective lets the protective MBR cover the whole disk (UEFI 2.10, section 5.2.3).
func fitProtective(head []byte, last int64) {
	for i := range 4 {
		e := head[446+16*i : 446+16*(i+1)]
		if e[4] == 0xee {
			binary.LittleEndian.PutUint32(e[12:], uint32(min(last, 0xffffffff)))
		}
	}
}

// headerCRC is the checksum of a header with its own checksum taken as zero.
func headerCRC(h []byte) uint32 {
	c := bytes.Clone(h)
	clear(c[offHeaderCRC : offHeaderCRC+4])
	return crc32.ChecksumIEEE(c)
}
