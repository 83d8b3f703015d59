package iso

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io/fs"
	"slices"
)

// growth is where the numbers are that tell how long the embed area's file and
// the volume are: what must change when the archive moves behind the end. No
// records means that it cannot.
type growth struct {
	records []int64   // of directory records, in all trees
	spaces  []int64   // of the numbers of sectors in the volume descriptors
	end     int64     // first byte behind the ISO, on a sector
	before  extent    // what of the file lies before the area
	info    []segment // an igninfo.json that does not say how long the area is
	header  bool      // the system area names the embed area
	hybrid  hybrid
	why     string // it cannot grow
}

// Places of a directory record's numbers (ECMA-119 section 9.1).
const (
	recordBlock = 2
	recordSize  = 10
)

// growth looks whether the embed area can grow: it must end the file it lies in,
// and that file must be loaded by its name. What keeps it from growing is no
// fault: most archives fit.
func (v *volume) growth(l layout) growth {
	a, err := survey(v)
	if err != nil {
		return growth{why: "the directories cannot be read"}
	}
	area := l.ignition
	i := slices.IndexFunc(a.places, func(p place) bool { // the first file: two with the same bytes are one
		return p.flags&flagDir == 0 && p.size > 0 && p.start() <= area.off && p.start()+int64(p.size) >= area.off+area.size
	})
	if i < 0 {
		return growth{why: "it lies in no file"}
	}
	host := a.places[i]
	name := printable(host.iso)
	switch {
	case host.start()+int64(host.size) != area.off+area.size:
		return growth{why: "it lies in the midst of the file " + name}
	case slices.ContainsFunc(bootImages(v, a.boot), func(b bootImage) bool { return b.block == host.block }):
		return growth{why: "it lies in " + name + ", which firmware starts by its place and not by its name"}
	}
	g := growth{spaces: a.spaces, end: sectors(v.size) * sectorSize, before: extent{off: host.start(), size: area.off - host.start()}}
	if g.info, err = v.withoutLength(); err != nil {
		return growth{why: "igninfo.json cannot be changed"}
	}
	at, err := ignitionHeader(v)
	g.header = err == nil && at == area
	for _, p := range a.of(host.block) {
		g.records = append(g.records, p.at)
	}
	g.hybrid = findHybrid(v)
	if g.header && g.hybrid.header != nil && g.hybrid.at < systemArea && g.hybrid.at+int64(len(g.hybrid.entries)) > systemArea-ignHeaderBytes {
		return growth{why: "the header that tells where it is lies in the partition table"}
	}
	return g
}

// start is where a file's bytes are, from the start of the ISO.
func (p place) start() int64 { return int64(p.block) * sectorSize }

// withoutLength gives igninfo.json without the length of the area, which is then
// all that follows the offset. It keeps its own length, filled by spaces.
func (v *volume) withoutLength() ([]segment, error) {
	text, e, err := v.readFile(ignInfoPath, maxInfoBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var info ignInfo
	if err == nil {
		err = json.Unmarshal(text, &info)
	}
	if err != nil || info.Length == nil {
		return nil, err
	}
	info.Length = nil
	out, err := json.Marshal(info)
	if err != nil || len(out) > len(text) {
		return nil, errors.Join(err, malformed("/"+ignInfoPath, "no room"))
	}
	return []segment{{off: e.off, size: e.size, data: append(out, bytes.Repeat([]byte(" "), len(text)-len(out))...)}}, nil
}

// segments gives the bytes that put data behind the end of the ISO and make it
// the end of the embed area's file.
func (g growth) segments(data []byte) []segment {
	whole := g.before.size + int64(len(data))
	size := sectors(whole) * sectorSize
	at := g.end + g.before.size
	segs := append(slices.Clone(g.info), segment{off: at, size: size - g.before.size, data: data})
	if g.before.size > 0 {
		segs = append(segs, segment{off: g.end, size: g.before.size, from: g.before.off})
	}
	if g.header {
		h := binary.LittleEndian.AppendUint64(nil, uint64(at))
		h = binary.LittleEndian.AppendUint64(h, uint64(len(data)))
		segs = append(segs, segment{off: systemArea - ignHeaderBytes + 8, size: int64(len(h)), data: h})
	}
	for _, r := range g.records {
		segs = append(segs,
			segment{off: r + recordBlock, size: 8, data: both(uint32(g.end / sectorSize))},
			segment{off: r + recordSize, size: 8, data: both(uint32(whole))})
	}
	for _, s := range g.spaces {
		segs = append(segs, segment{off: s, size: 8, data: both(uint32((g.end + size) / sectorSize))})
	}
	return append(segs, g.hybrid.resize(g.end+size+g.hybrid.tail())...)
}
