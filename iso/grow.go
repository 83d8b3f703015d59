package iso

// growth is where the numbers are that tell how long the embed area's file and
// the volume are: what must change when the archive moves behind the end. No
// records means that it cannot.
type growth struct {
	records []int64 // of directory records, in all trees
	spaces  []int64 // of the numbers of sectors in the volume descriptors
	end     int64   // first byte behind the ISO, on a sector
	hybrid  hybrid
}

// Places of a directory record's numbers (ECMA-119 section 9.1).
const (
	recordBlock = 2
	recordSize  = 10
)

// growth looks whether the embed area can grow. What keeps it from growing is no
// fault: most archives fit.
func (v *volume) growth(l layout) growth {
	if !l.whole {
		return growth{}
	}
	a, err := survey(v)
	if err != nil {
		return growth{}
	}
	g := growth{spaces: a.spaces, end: sectors(v.size) * sectorSize}
	for _, p := range a.of(uint32(l.ignition.off / sectorSize)) {
		g.records = append(g.records, p.at)
	}
	g.hybrid = findHybrid(v)
	return g
}

// segments gives the bytes that put data behind the end of the ISO and make it
// the embed area's file.
func (g growth) segments(data []byte) []segment {
	size := sectors(int64(len(data))) * sectorSize
	segs := []segment{{off: g.end, size: size, data: data}}
	for _, at := range g.records {
		segs = append(segs,
			segment{off: at + recordBlock, size: 8, data: both(uint32(g.end / sectorSize))},
			segment{off: at + recordSize, size: 8, data: both(uint32(len(data)))})
	}
	for _, at := range g.spaces {
		segs = append(segs, segment{off: at, size: 8, data: both(uint32((g.end + size) / sectorSize))})
	}
	return append(segs, g.hybrid.resize(g.end+size+g.hybrid.tail())...)
}
