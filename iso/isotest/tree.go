package isotest

import (
	"encoding/binary"
	"fmt"
	"path"
	"slices"
	"strings"
)

// tree is an ISO 9660 directory tree (ECMA-119) on its way to a file.
type tree struct {
	files map[string]file
	rock  bool
	dirs  []string            // parents before children, "" is the root
	in    map[string][]string // the entries of a directory, in the order of their ISO names
	at    map[string]int64    // first sector of each directory and file
	end   int64               // size of the image in bytes
}

const (
	firstDir  = 20 // descriptors in 16 and 17, path tables in 18 and 19
	dirBytes  = sector
	dirFlag   = 2
	namedSelf = "\x00"
	namedUp   = "\x01"
)

func newTree(files map[string]file, rock bool) *tree {
	t := &tree{files: files, rock: rock, in: map[string][]string{}, at: map[string]int64{}}
	t.addDir("")
	names := make([]string, 0, len(files))
	for p := range files {
		names = append(names, p)
	}
	slices.Sort(names)
	for _, p := range names {
		t.addTo(p)
	}
	for d := range t.in {
		slices.SortFunc(t.in[d], func(a, b string) int { return strings.Compare(t.isoName(a), t.isoName(b)) })
	}
	return t
}

func (t *tree) addDir(d string) {
	if slices.Contains(t.dirs, d) {
		return
	}
	if d != "" {
		t.addTo(d)
	}
	t.dirs = append(t.dirs, d)
	if t.in[d] == nil {
		t.in[d] = []string{}
	}
}

// addTo puts a file or directory into its parent.
func (t *tree) addTo(p string) {
	up := path.Dir(p)
	if up == "." {
		up = ""
	}
	t.addDir(up)
	t.in[up] = append(t.in[up], p)
}

func (t *tree) isDir(p string) bool { _, ok := t.in[p]; return ok }

// place gives every directory and file its sectors.
func (t *tree) place() error {
	next := int64(firstDir)
	for _, d := range t.dirs {
		if n := len(t.dirRecords(d)); n > dirBytes {
			return fmt.Errorf("directory %q needs %d bytes, one sector has %d", d, n, dirBytes)
		}
		t.at[d] = next
		next++
		for i := 1; i < len(t.in[d]); i++ {
			if t.isoName(t.in[d][i]) == t.isoName(t.in[d][i-1]) {
				return fmt.Errorf("%q and %q have one ISO 9660 name", t.in[d][i-1], t.in[d][i])
			}
		}
	}
	names := make([]string, 0, len(t.files))
	for p := range t.files {
		names = append(names, p)
	}
	slices.Sort(names)
	for _, p := range names {
		if t.isDir(p) {
			return fmt.Errorf("%q is a file and a directory", p)
		}
		t.at[p] = next
		next += (t.files[p].size + sector - 1) / sector
	}
	t.end = next * sector
	return nil
}

func (t *tree) offset(p string) int64 { return t.at[p] * sector }

// isoName is the name as ISO 9660 level 1 has it: 8+3 upper case characters.
func (t *tree) isoName(p string) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' {
			return r
		}
		return '_'
	}, strings.ToUpper(path.Base(p)))
	stem, ext, _ := strings.Cut(name, ".")
	stem, ext = stem[:min(8, len(stem))], ext[:min(3, len(ext))]
	if t.isDir(p) {
		return stem
	}
	return stem + "." + ext + ";1"
}

// both writes a number in both byte orders, as ISO 9660 wants it.
func both(b []byte, n int64) {
	binary.LittleEndian.PutUint32(b, uint32(n))
	binary.BigEndian.PutUint32(b[4:], uint32(n))
}

// rec makes one directory record.
func (t *tree) rec(name, p string, system []byte) []byte {
	size, flags := t.files[p].size, byte(0)
	if t.isDir(p) {
		size, flags = dirBytes, dirFlag
	}
	n := 33 + len(name)
	n += n % 2
	b := make([]byte, n, n+len(system)+1)
	both(b[2:], t.at[p])
	both(b[10:], size)
	copy(b[18:], []byte{100, 1, 1, 0, 0, 0, 0}) // 2000-01-01
	b[25] = flags
	b[28], b[31] = 1, 1
	b[32] = byte(len(name))
	copy(b[33:], name)
	b = append(b, system...)
	if len(b)%2 == 1 {
		b = append(b, 0)
	}
	b[0] = byte(len(b))
	return b
}

// rockRidge makes the system use entries of a record: mode and name.
func (t *tree) rockRidge(p, name string) []byte {
	if !t.rock {
		return nil
	}
	mode, links := int64(0o100644), int64(1)
	if t.isDir(p) {
		mode, links = 0o40755, 2
	}
	px := append([]byte("PX"), make([]byte, 34)...)
	px[2], px[3] = 36, 1
	both(px[4:], mode)
	both(px[12:], links)
	if name == "" {
		return px
	}
	nm := append([]byte{'N', 'M', byte(5 + len(name)), 1, 0}, name...)
	return append(px, nm...)
}

func (t *tree) dirRecords(d string) []byte {
	up := path.Dir(d)
	if up == "." {
		up = ""
	}
	self := t.rockRidge(d, "")
	if d == "" && t.rock { // the root announces the extension
		self = append([]byte{'S', 'P', 7, 1, 0xbe, 0xef, 0}, self...)
		self = append(self, append([]byte{'E', 'R', 18, 1, 10, 0, 0, 1}, "RRIP_1991A"...)...)
	}
	b := t.rec(namedSelf, d, self)
	b = append(b, t.rec(namedUp, up, t.rockRidge(up, ""))...)
	for _, p := range t.in[d] {
		b = append(b, t.rec(t.isoName(p), p, t.rockRidge(p, path.Base(p)))...)
	}
	return b
}

// pathTable lists the directories by number, breadth first.
func (t *tree) pathTable(order binary.ByteOrder) []byte {
	dirs := slices.Clone(t.dirs)
	depth := func(d string) int { return strings.Count(d, "/") }
	slices.SortStableFunc(dirs, func(a, b string) int {
		switch {
		case a == "" || b == "":
			return len(a) - len(b)
		case depth(a) != depth(b):
			return depth(a) - depth(b)
		}
		return strings.Compare(a, b)
	})
	var out []byte
	for _, d := range dirs {
		name, up := t.isoName(d), path.Dir(d)
		if d == "" {
			name = namedSelf
		}
		if up == "." {
			up = ""
		}
		b := make([]byte, 8+len(name)+len(name)%2)
		b[0] = byte(len(name))
		order.PutUint32(b[2:], uint32(t.at[d]))
		order.PutUint16(b[6:], uint16(slices.Index(dirs, up)+1))
		copy(b[8:], name)
		out = append(out, b...)
	}
	return out
}

func (t *tree) write(w writer, label string, system []byte) error {
	small, big := t.pathTable(binary.LittleEndian), t.pathTable(binary.BigEndian)
	end := make([]byte, sector)
	copy(end, "\xffCD001\x01")
	parts := []struct {
		at int64
		b  []byte
	}{{0, system}, {16, t.descriptor(label, int64(len(small)))}, {17, end}, {18, small}, {19, big}}
	for _, d := range t.dirs {
		parts = append(parts, struct {
			at int64
			b  []byte
		}{t.at[d], t.dirRecords(d)})
	}
	for _, p := range parts {
		if _, err := w.WriteAt(p.b, p.at*sector); err != nil {
			return err
		}
	}
	for p, f := range t.files {
		if _, err := w.WriteAt(f.data, t.offset(p)); err != nil {
			return err
		}
	}
	return nil
}

func (t *tree) descriptor(label string, table int64) []byte {
	b := make([]byte, sector)
	copy(b, "\x01CD001\x01")
	text := func(at, n int, s string) { copy(b[at:at+n], s+strings.Repeat(" ", n)) }
	text(8, 32, "")
	text(40, 32, label)
	both(b[80:], t.end/sector)
	for _, at := range []int{120, 124} { // one volume, the first
		copy(b[at:], []byte{1, 0, 0, 1})
	}
	copy(b[128:], []byte{0, 8, 8, 0}) // 2048
	both(b[132:], table)
	binary.LittleEndian.PutUint32(b[140:], 18)
	binary.BigEndian.PutUint32(b[148:], 19)
	copy(b[156:], t.rec(namedSelf, "", nil))
	text(190, 128*4, "")
	text(702, 37*3, "")
	for at := 813; at < 881; at += 17 { // four dates
		copy(b[at:], "2000010100000000\x00")
	}
	b[881] = 1
	return b
}
