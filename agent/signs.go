package agent

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// Signatures are looked for at these places of a disk or partition; all known
// ones lie there, or in the last piece. Reading is bounded by them.
const (
	startBytes  = 72 << 10  // up to btrfs at 64 KiB
	zfsStart    = 128 << 10 // array of uberblocks
	zfsBytes    = 128 << 10
	vmfsAt      = 1 << 20
	endBytes    = 128 << 10 // mdraid 0.90 and 1.0, firmware RAID
	maxProbed   = 64        // partitions looked into
	maxMarker   = 64 << 10
	maxLabel    = 64
	mbrEntries  = 446
	protectiveM = 0xee
)

// readContents looks at a whole disk. Nothing is mounted.
func readContents(r io.ReaderAt, size, sector int64) (Contents, error) {
	var c Contents
	head := make([]byte, min(headSize, size))
	if err := readFull(r, head, 0); err != nil {
		return c, fmt.Errorf("read the first MiB: %w", err)
	}
	table, err := parseGPT(head, sector)
	switch {
	case err == nil:
		c.table("partition table gpt", len(table.parts))
		for i, p := range table.parts {
			c.part(r, size, fmt.Sprintf("partition %d %q", i+1, p.Name), p, i < maxProbed)
		}
	case !errors.Is(err, errNoGPT):
		c.add(Data, "damaged partition table gpt (%v)", err)
	default:
		c.mbr(r, size, head)
	}
	for _, found := range probe(r, Span{0, size}) {
		c.add(found.Kind, "%s", found.Text)
	}
	if len(c.Signs) > 0 {
		return c, nil
	}
	if isZero(head) {
		c.add(Empty, "blank")
	} else {
		c.add(Empty, "nothing known")
	}
	return c, nil
}

func (c *Contents) add(kind SignKind, format string, args ...any) {
	c.Signs = append(c.Signs, Sign{Kind: kind, Text: printable(fmt.Sprintf(format, args...))})
}

func (c *Contents) table(name string, parts int) {
	if parts == 0 {
		name += " without partitions"
	}
	c.add(Empty, "%s", name)
}

// part adds one partition and what it holds.
func (c *Contents) part(r io.ReaderAt, size int64, title string, p gptPart, look bool) {
	span := p.Span
	if span.Offset >= size || span.Size <= 0 {
		c.add(Partition, "%s outside of the disk", title)
		return
	}
	span.Size = min(span.Size, size-span.Offset)
	var found []Sign
	if look {
		found = probe(r, span)
	}
	if len(found) == 0 {
		c.add(Partition, "%s", title)
	}
	for _, f := range found {
		c.add(f.Kind, "%s: %s", title, f.Text)
		if p.Name == bootPartition && strings.HasPrefix(f.Text, "ext4") && c.Owner == "" {
			c.Owner = readOwner(r, span)
		}
	}
}

// mbr adds what a master boot record lists.
func (c *Contents) mbr(r io.ReaderAt, size int64, head []byte) {
	if !isMBR(head) {
		return
	}
	parts := mbrParts(head)
	c.table("partition table mbr", len(parts))
	for i, p := range parts {
		c.part(r, size, fmt.Sprintf("partition %d %s", i+1, p.Name), p, true)
	}
}

// isMBR tells a master boot record from a FAT or NTFS boot sector, which has the
// same last two bytes, by its entries: their first byte is 0x00 or 0x80.
func isMBR(head []byte) bool {
	if len(head) < 512 || head[510] != 0x55 || head[511] != 0xaa || bootSector(head) != "" {
		return false
	}
	for i := range 4 {
		if head[mbrEntries+16*i]&0x7f != 0 {
			return false
		}
	}
	return true
}

// mbrParts reads the four primary entries of a master boot record.
func mbrParts(head []byte) []gptPart {
	if !isMBR(head) {
		return nil
	}
	var parts []gptPart
	for i := range 4 {
		e := head[mbrEntries+16*i:]
		if e[4] != 0 && e[4] != protectiveM {
			first, n := binary.LittleEndian.Uint32(e[8:]), binary.LittleEndian.Uint32(e[12:])
			parts = append(parts, gptPart{Name: fmt.Sprintf("type %#02x", e[4]), Span: Span{int64(first) * 512, int64(n) * 512}})
		}
	}
	return parts
}

// probe names the file systems and memberships found in one span. Pieces that
// cannot be read hold nothing known.
func probe(r io.ReaderAt, span Span) []Sign {
	piece := func(off, n int64) []byte {
		if off < 0 || off >= span.Size {
			return nil
		}
		p := make([]byte, min(n, span.Size-off))
		if readFull(r, p, span.Offset+off) != nil {
			return nil
		}
		return p
	}
	start := piece(0, startBytes)
	out := probeStart(start)
	if zfs(piece(zfsStart, zfsBytes)) {
		out = append(out, Sign{Member, "ZFS member"})
	}
	if v := piece(vmfsAt, 512); len(v) >= 4 && binary.LittleEndian.Uint32(v) == 0xc001d00d {
		out = append(out, Sign{Member, "VMFS volume"})
	}
	endAt := max(0, span.Size-endBytes)
	out = append(out, probeEnd(piece(endAt, endBytes), span.Size, endAt)...)
	return out
}

// magic is a signature at a fixed place near the start.
type magic struct {
	at    int
	bytes string
	kind  SignKind
	text  string
	label int // offset of a label, 0: none
	size  int
}

// magics lists them. Sources: the on-disk format descriptions of each project;
// the offsets are the same as in util-linux's libblkid.
func magics() []magic {
	return []magic{
		{0, "XFSB", Data, "xfs", 108, 12},
		{0, "LUKS\xba\xbe", Data, "LUKS encrypted volume", 0, 0},
		{0, "bluestore block device", Member, "Ceph bluestore", 0, 0},
		{0, "hsqs", Data, "squashfs", 0, 0},
		{3, "NTFS    ", Data, "ntfs", 0, 0},
		{3, "EXFAT   ", Data, "exfat", 0, 0},
		{3, "ReFS\x00\x00\x00\x00", Data, "refs", 0, 0},
		{3, "-FVE-FS-", Data, "BitLocker volume", 0, 0},
		{4086, "SWAPSPACE2", Data, "swap", 1052, 16},
		{4086, "SWAP-SPACE", Data, "swap", 0, 0},
		{4120, "\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81", Member, "bcache member", 0, 0},
		{32769, "CD001", Data, "iso9660", 32808, 32},
		{65600, "_BHRfS_M", Data, "btrfs", 65835, maxLabel},
	}
}

func probeStart(b []byte) []Sign {
	var out []Sign
	for _, m := range magics() {
		if len(b) >= m.at+len(m.bytes) && string(b[m.at:m.at+len(m.bytes)]) == m.bytes {
			out = append(out, Sign{m.kind, withLabel(m.text, b, m.label, m.size)})
		}
	}
	if fat := bootSector(b); fat == "vfat" {
		at := 43
		if len(b) > 90 && string(b[82:87]) == "FAT32" {
			at = 71
		}
		out = append(out, Sign{Data, withLabel(fat, b, at, 11)})
	}
	if len(b) >= 2048 && binary.LittleEndian.Uint16(b[1080:]) == 0xef53 {
		out = append(out, Sign{Data, withLabel(extKind(b[1024:]), b, 1144, 16)})
	}
	for s := 0; s < 4 && len(b) >= s*512+32; s++ {
		if l := b[s*512:]; string(l[:8]) == "LABELONE" && string(l[24:32]) == "LVM2 001" {
			out = append(out, Sign{Member, "LVM physical volume"})
			break
		}
	}
	for _, at := range []int{0, 4096} {
		if len(b) >= at+4 && binary.LittleEndian.Uint32(b[at:]) == mdMagic {
			out = append(out, Sign{Member, "Linux RAID member"})
		}
	}
	return out
}

// bootSector tells a FAT or NTFS boot sector from a master boot record.
func bootSector(b []byte) string {
	if len(b) < 512 || b[510] != 0x55 || b[511] != 0xaa {
		return ""
	}
	switch {
	case string(b[82:87]) == "FAT32", string(b[54:57]) == "FAT":
		return "vfat"
	case string(b[3:7]) == "NTFS", string(b[3:8]) == "EXFAT", string(b[3:11]) == "-FVE-FS-":
		return "other"
	}
	return ""
}

func extKind(super []byte) string {
	const extents, journal = 0x40, 0x4 // feature_incompat, feature_compat
	switch {
	case binary.LittleEndian.Uint32(super[96:])&extents != 0:
		return "ext4"
	case binary.LittleEndian.Uint32(super[92:])&journal != 0:
		return "ext3"
	}
	return "ext2"
}

const mdMagic = 0xa92b4efc

func zfs(b []byte) bool {
	const uberblock = 0x00bab10c
	for at := 0; at+8 <= len(b); at += 1024 {
		if binary.LittleEndian.Uint64(b[at:]) == uberblock || binary.BigEndian.Uint64(b[at:]) == uberblock {
			return true
		}
	}
	return false
}

// probeEnd looks at the last piece of a span, which begins at byte at of size.
func probeEnd(b []byte, size, at int64) []Sign {
	word := func(off int64) uint32 {
		if off < at || off-at+4 > int64(len(b)) {
			return 0
		}
		return binary.LittleEndian.Uint32(b[off-at:])
	}
	var out []Sign
	// mdraid 1.0: 8 KiB before the end, aligned to 4 KiB. 0.90: in the last full 64 KiB.
	if word((size-8192)&^4095) == mdMagic || word(size&^65535-65536) == mdMagic {
		out = append(out, Sign{Member, "Linux RAID member"})
	}
	if bytes.Contains(b, []byte("Intel Raid ISM Cfg Sig.")) || word(size-512) == 0x11de11de {
		out = append(out, Sign{Member, "firmware RAID member"})
	}
	return out
}

// withLabel appends a label in quotes, when there is one.
func withLabel(text string, b []byte, at, n int) string {
	if at == 0 || len(b) < at+n {
		return text
	}
	label, _, _ := bytes.Cut(b[at:at+n], []byte{0})
	s := strings.TrimSpace(strings.ToValidUTF8(printable(string(label)), ""))
	if s == "" || s == "NO NAME" {
		return text
	}
	return text + " label " + s
}

// readOwner reads out of a boot partition whose disk it is.
func readOwner(r io.ReaderAt, span Span) string {
	m, _ := readMarker(r, span)
	return printable(m.Site)
}

// readMarker reads our marker out of a boot partition; false when there is none.
func readMarker(r io.ReaderAt, span Span) (Marker, bool) {
	var m Marker
	b, err := readExt4File(io.NewSectionReader(r, span.Offset, span.Size), markerName, maxMarker)
	if err != nil || json.Unmarshal(b, &m) != nil || len(m.Site) > 256 {
		return Marker{}, false
	}
	return m, true
}

// Markers reads the markers of this machine's disks. Disks without one, or that
// cannot be read, give none.
func (m *Machine) Markers() []Marker {
	var out []Marker
	for _, d := range m.disks() {
		if found, ok := m.markerOf(d); ok {
			out = append(out, found)
		}
	}
	return out
}

func (m *Machine) markerOf(d seenDisk) (Marker, bool) {
	f, err := os.Open(m.path(d.disk.Source))
	if err != nil {
		return Marker{}, false
	}
	defer func() { _ = f.Close() }()
	head := make([]byte, headSize)
	if readFull(f, head, 0) != nil {
		return Marker{}, false
	}
	table, err := parseGPT(head, d.sector)
	if err != nil {
		return Marker{}, false
	}
	part, err := table.find(bootPartition)
	if err != nil {
		return Marker{}, false
	}
	return readMarker(f, part)
}
