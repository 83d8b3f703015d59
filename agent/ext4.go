package agent

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// ext4 reads just enough of a file system to fetch one small file of its root
// folder without mounting it: mounting somebody else's file system would hand
// it to the kernel and could even write to it. Format: the kernel's
// Documentation/filesystems/ext4. Every number of the disk is bounded.
type ext4 struct {
	r         io.ReaderAt
	block     int64
	inodeSize int64
	perGroup  int64
	descSize  int64
	descAt    int64
}

const (
	ext4Root      = 2
	ext4Extents   = 0x80000 // inode flag
	maxExt4Dir    = 1 << 20
	maxExtentTree = 3 // levels below the inode
	maxExtents    = 256
)

var errExt4 = errors.New("ext4: structure not understood")

// readExt4File gives the content of a file in the root folder.
func readExt4File(r io.ReaderAt, name string, limit int64) ([]byte, error) {
	e, err := openExt4(r)
	if err != nil {
		return nil, err
	}
	dir, err := e.inodeData(ext4Root, maxExt4Dir)
	if err != nil {
		return nil, fmt.Errorf("ext4 root folder: %w", err)
	}
	ino := findEntry(dir, e.block, name)
	if ino == 0 {
		return nil, fs.ErrNotExist
	}
	return e.inodeData(int64(ino), limit)
}

func openExt4(r io.ReaderAt) (*ext4, error) {
	le := binary.LittleEndian
	s := make([]byte, 1024)
	if err := readFull(r, s, 1024); err != nil {
		return nil, err
	}
	if le.Uint16(s[56:]) != 0xef53 {
		return nil, errExt4
	}
	const (
		metaBG     = 0x10
		sixtyFour  = 0x80
		understood = 0x2 | 0x4 | 0x40 | sixtyFour | 0x100 | 0x200 | 0x400 | 0x2000 | 0x4000 // filetype, recover, extents, 64bit, mmp, flex_bg, ea_inode, csum_seed, largedir
	)
	features := le.Uint32(s[96:])
	if features&^uint32(understood) != 0 || features&metaBG != 0 {
		return nil, errExt4
	}
	shift := le.Uint32(s[24:])
	if shift > 6 {
		return nil, errExt4
	}
	e := &ext4{r: r, block: 1024 << shift, perGroup: int64(le.Uint32(s[40:])), inodeSize: 128, descSize: 32}
	if le.Uint32(s[76:]) >= 1 {
		e.inodeSize = int64(le.Uint16(s[88:]))
	}
	if features&sixtyFour != 0 {
		e.descSize = int64(le.Uint16(s[254:]))
	}
	e.descAt = (int64(le.Uint32(s[20:])) + 1) * e.block
	if e.perGroup <= 0 || e.inodeSize < 128 || e.inodeSize > e.block || e.descSize < 32 || e.descSize > 1024 {
		return nil, errExt4
	}
	return e, nil
}

// inodeData reads all bytes of one inode.
func (e *ext4) inodeData(n, limit int64) ([]byte, error) {
	le := binary.LittleEndian
	if n < 1 {
		return nil, errExt4
	}
	desc := make([]byte, e.descSize)
	if err := readFull(e.r, desc, e.descAt+(n-1)/e.perGroup*e.descSize); err != nil {
		return nil, err
	}
	table := int64(le.Uint32(desc[8:]))
	if e.descSize >= 64 {
		table |= int64(le.Uint32(desc[40:])&0xffff) << 32
	}
	inode := make([]byte, 128)
	if err := readFull(e.r, inode, table*e.block+(n-1)%e.perGroup*e.inodeSize); err != nil {
		return nil, err
	}
	size := int64(le.Uint32(inode[4:]))
	if le.Uint32(inode[32:])&ext4Extents == 0 || le.Uint32(inode[108:]) != 0 || size > limit {
		return nil, errExt4
	}
	out := make([]byte, size)
	budget := maxExtents
	return out, e.extents(inode[40:100], out, maxExtentTree, &budget)
}

// extents fills out from one node of an extent tree. Holes stay zero.
func (e *ext4) extents(node, out []byte, levels int, budget *int) error {
	le := binary.LittleEndian
	if len(node) < 12 || le.Uint16(node) != 0xf30a || levels < 0 {
		return errExt4
	}
	count, depth := int(le.Uint16(node[2:])), le.Uint16(node[6:])
	if 12+count*12 > len(node) {
		return errExt4
	}
	for i := range count {
		if *budget--; *budget < 0 {
			return errExt4
		}
		x := node[12+12*i:]
		if depth > 0 {
			child := make([]byte, e.block)
			at := int64(le.Uint32(x[4:])) | int64(le.Uint16(x[8:]))<<32
			if err := readFull(e.r, child, at*e.block); err != nil {
				return err
			}
			if err := e.extents(child, out, levels-1, budget); err != nil {
				return err
			}
			continue
		}
		logical, n := int64(le.Uint32(x))*e.block, int64(le.Uint16(x[4:]))*e.block
		if le.Uint16(x[4:]) > 32768 || logical >= int64(len(out)) {
			continue // allocated but never written, or behind the end
		}
		at := (int64(le.Uint32(x[8:])) | int64(le.Uint16(x[6:]))<<32) * e.block
		if err := readFull(e.r, out[logical:min(logical+n, int64(len(out)))], at); err != nil {
			return err
		}
	}
	return nil
}

// findEntry looks a name up in a folder's blocks; 0 when it is not there.
func findEntry(dir []byte, block int64, name string) uint32 {
	le := binary.LittleEndian
	for start := 0; start+int(block) <= len(dir); start += int(block) {
		b := dir[start : start+int(block)]
		for len(b) >= 8 {
			length, n := int(le.Uint16(b[4:])), int(b[6])
			if length < 8 || length > len(b) || 8+n > length {
				break
			}
			if ino := le.Uint32(b); ino != 0 && string(b[8:8+n]) == name {
				return ino
			}
			b = b[length:]
		}
	}
	return 0
}
