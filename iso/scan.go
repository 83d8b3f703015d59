package iso

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
)

// Bounds of a walk over all directories. A CoreOS live ISO has about 30 files in
// three trees; these leave two orders of magnitude.
const (
	maxTreeDirs    = 1024
	maxTreeRecords = 16384
)

// place is one directory record and where its bytes are in the ISO.
type place struct {
	record
	at     int64 // of the record, from the start of the ISO
	length int64 // of the record
}

// atlas is all that names sectors in an ISO: the descriptors and the directory
// records of each tree (plain, Joliet, and so on).
type atlas struct {
	spaces []int64 // where each volume descriptor keeps the number of sectors
	boot   int64   // sector of the El Torito catalogue, 0 if there is none
	places []place // all records but "." and ".."
	first  uint32  // first sector behind the directories and path tables
}

// survey reads the atlas of an ISO.
func survey(v *volume) (atlas, error) {
	var a atlas
	var d [sectorSize]byte
	for i := range int64(maxDescriptors) {
		at := systemArea + i*sectorSize
		if err := readFull(v.r, d[:], at); err != nil {
			return a, err
		}
		if string(d[1:6]) != "CD001" {
			return a, malformed("volume descriptors", "descriptor %d has no CD001 mark", i)
		}
		switch d[0] {
		case 0:
			if bytes.HasPrefix(d[7:], []byte("EL TORITO SPECIFICATION")) {
				a.boot = int64(binary.LittleEndian.Uint32(d[0x47:]))
			}
		case 1, 2:
			a.spaces = append(a.spaces, at+80)
			if err := a.tree(v, d[:]); err != nil {
				return a, err
			}
		case 255:
			return a, nil
		}
	}
	return a, malformed("volume descriptors", "no terminator among the first %d", maxDescriptors)
}

// tree walks one descriptor's directories, each once.
func (a *atlas) tree(v *volume, d []byte) error {
	tableSectors := (binary.LittleEndian.Uint32(d[132:]) + sectorSize - 1) / sectorSize
	for _, table := range []uint32{binary.LittleEndian.Uint32(d[140:]), binary.LittleEndian.Uint32(d[144:]),
		binary.BigEndian.Uint32(d[148:]), binary.BigEndian.Uint32(d[152:])} {
		a.first = max(a.first, table+tableSectors)
	}
	root, err := parseRecord(d[156:190])
	if err != nil {
		return malformed("volume descriptor", "root directory: %v", err)
	}
	seen := map[uint32]bool{root.block: true}
	for todo := []record{root}; len(todo) > 0; todo = todo[1:] {
		dir, err := v.extentOf(todo[0], "directory")
		if err != nil {
			return err
		}
		a.first = max(a.first, todo[0].block+uint32((dir.size+sectorSize-1)/sectorSize))
		places, err := v.placesIn(dir)
		if err != nil {
			return err
		}
		a.places = append(a.places, places...)
		for _, p := range places {
			if p.flags&flagDir != 0 && !seen[p.block] {
				seen[p.block] = true
				todo = append(todo, p.record)
			}
		}
		if len(seen) > maxTreeDirs || len(a.places) > maxTreeRecords {
			return malformed("directories", "more than %d directories or %d files", maxTreeDirs, maxTreeRecords)
		}
	}
	return nil
}

// of gives the records of files that begin at a sector.
func (a atlas) of(block uint32) []place {
	return slices.DeleteFunc(slices.Clone(a.places), func(p place) bool {
		return p.block != block || p.size == 0 || p.flags&flagDir != 0
	})
}

// platform is what an El Torito entry is for (specification 1.0, figure 2; UEFI
// specification, section 13.3.2).
type platform byte

const (
	platformBIOS platform = 0x00
	platformUEFI platform = 0xef
)

// bootImage is one entry of the El Torito catalogue.
type bootImage struct {
	platform platform
	at       int64 // of the entry, from the start of the ISO
	block    uint32
}

const (
	catalogEntry  = 32
	entryBootable = 0x88
	headerMore    = 0x90
	headerLast    = 0x91
	entryBlock    = 8 // where an entry keeps its sector
)

// bootImages reads the first sector of the catalogue, which has room for 64
// entries. A catalogue that makes no sense has none.
func bootImages(v *volume, sector int64) []bootImage {
	if sector == 0 {
		return nil
	}
	var b [sectorSize]byte
	if readFull(v.r, b[:], sector*sectorSize) != nil || b[0] != 1 || b[30] != 0x55 || b[31] != 0xaa {
		return nil
	}
	var out []bootImage
	add := func(at int, p platform) {
		if b[at] == entryBootable {
			out = append(out, bootImage{p, sector*sectorSize + int64(at), binary.LittleEndian.Uint32(b[at+entryBlock:])})
		}
	}
	add(catalogEntry, platform(b[1]))
	for at := 2 * catalogEntry; at+catalogEntry <= len(b) && (b[at] == headerMore || b[at] == headerLast); {
		last, p, n := b[at] == headerLast, platform(b[at+1]), int(binary.LittleEndian.Uint16(b[at+2:]))
		at += catalogEntry
		for ; n > 0 && at+catalogEntry <= len(b); n-- {
			add(at, p)
			at += catalogEntry
		}
		if last {
			break
		}
	}
	return out
}

// firmwares names what can boot an ISO: "BIOS", "UEFI".
func firmwares(images []bootImage) []string {
	var out []string
	for _, i := range images {
		name := map[platform]string{platformBIOS: "BIOS", platformUEFI: "UEFI"}[i.platform]
		if name != "" && !strings.Contains(strings.Join(out, " "), name) {
			out = append(out, name)
		}
	}
	return out
}

// putBoth writes a number in both byte orders, as ECMA-119 section 7.3.3 has it.
func putBoth(b []byte, n uint32) {
	binary.LittleEndian.PutUint32(b, n)
	binary.BigEndian.PutUint32(b[4:], n)
}

func both(n uint32) []byte {
	b := make([]byte, 8)
	putBoth(b, n)
	return b
}

func sectors(bytes int64) int64 { return (bytes + sectorSize - 1) / sectorSize }
