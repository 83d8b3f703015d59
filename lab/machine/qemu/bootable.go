package qemu

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"

	"metalrise.dev/lab/machine"
)

const sectorSize = 512

// bootOrder returns the disks that the firmware could boot, in the order of the
// spec. QEMU's BIOS tries one disk only, so it has to be told the right one.
func (m *Machine) bootOrder() ([]int, error) {
	var order []int
	for i, d := range m.spec.Disks {
		ok, err := inspect(m.diskPath(d), hasBootLoader[m.spec.Firmware])
		if err != nil {
			return nil, err
		}
		if ok {
			order = append(order, i)
		}
	}
	return order, nil
}

// nothingToBoot reports whether the firmware would end at its prompt.
func (m *Machine) nothingToBoot(from machine.BootSource, order []int) (bool, error) {
	if from.Kind == machine.FromNet {
		return false, nil
	}
	if from.Kind == machine.FromDisk {
		return len(order) == 0, nil
	}
	ok, err := inspect(from.ISO, hasElTorito)
	return !ok, err
}

func inspect(path string, look func(io.ReaderAt) (bool, error)) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	ok, err := look(f)
	if errors.Is(err, io.EOF) { // too short to hold what was looked for
		return false, nil
	}
	return ok, err
}

// hasBootLoader looks at a disk as the kind of firmware does.
var hasBootLoader = map[string]func(io.ReaderAt) (bool, error){
	"bios": hasBootSector,
	"uefi": hasEFIPartition,
}

// hasBootSector looks for code in the first sector. A protective MBR alone has
// the signature too, but no code.
func hasBootSector(r io.ReaderAt) (bool, error) {
	sector := make([]byte, sectorSize)
	if _, err := r.ReadAt(sector, 0); err != nil {
		return false, err
	}
	signed := sector[510] == 0x55 && sector[511] == 0xaa
	return signed && !bytes.Equal(sector[:440], make([]byte, 440)), nil
}

// efiSystem is the partition type C12A7328-F81F-11D2-BA4B-00A0C93EC93B as it
// lies on a disk (UEFI 2.10, 5.3.3).
var efiSystem = [16]byte{0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b}

// basicData is the partition type EBD0A0A2-B9E5-4433-87C0-68B6B72699C7. Media
// that boot both as optical and as fixed disks carry their EFI files in such a
// partition, and firmware reads any file system it knows.
var basicData = [16]byte{0xa2, 0xa0, 0xd0, 0xeb, 0xe5, 0xb9, 0x33, 0x44, 0x87, 0xc0, 0x68, 0xb6, 0xb7, 0x26, 0x99, 0xc7}

// hasEFIPartition looks for a GPT with a partition that firmware looks into.
func hasEFIPartition(r io.ReaderAt) (bool, error) {
	header := make([]byte, sectorSize)
	if _, err := r.ReadAt(header, sectorSize); err != nil {
		return false, err
	}
	if string(header[:8]) != "EFI PART" {
		return false, nil
	}
	first := binary.LittleEndian.Uint64(header[72:])
	count := binary.LittleEndian.Uint32(header[80:])
	size := binary.LittleEndian.Uint32(header[84:])
	// every partitioner writes 128 entries of 128 bytes
	if first > 1<<40 || count > 1024 || size < 128 || size > 4096 {
		return false, nil
	}
	entries := make([]byte, int(count)*int(size))
	if _, err := r.ReadAt(entries, int64(first)*sectorSize); err != nil {
		return false, err
	}
	for ; len(entries) >= int(size); entries = entries[size:] {
		if kind := [16]byte(entries[:16]); kind == efiSystem || kind == basicData {
			return true, nil
		}
	}
	return false, nil
}

// hasElTorito looks for the boot record of an optical medium, which both kinds
// of firmware read (El Torito 1.0, section 2.0: sector 17).
func hasElTorito(r io.ReaderAt) (bool, error) {
	record := make([]byte, 2048)
	if _, err := r.ReadAt(record, 17*2048); err != nil {
		return false, err
	}
	return string(record[1:6]) == "CD001" && bytes.HasPrefix(record[7:], []byte("EL TORITO SPECIFICATION")), nil
}
