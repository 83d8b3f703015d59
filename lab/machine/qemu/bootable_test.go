package qemu

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// gptWith is the beginning of a disk with one partition of a type.
func gptWith(kind [16]byte) []byte {
	b := make([]byte, 34*sectorSize)
	header := b[sectorSize:]
	copy(header, "EFI PART")
	binary.LittleEndian.PutUint64(header[72:], 2)
	binary.LittleEndian.PutUint32(header[80:], 128)
	binary.LittleEndian.PutUint32(header[84:], 128)
	copy(b[2*sectorSize+128:], kind[:])
	return b
}

func TestFirmwareLooksIntoPartitionsThatMayHoldItsFiles(t *testing.T) {
	linux := [16]byte{0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47, 0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4}
	for name, c := range map[string]struct {
		disk []byte
		want bool
	}{
		"EFI system": {gptWith(efiSystem), true},
		"basic data": {gptWith(basicData), true},
		"Linux":      {gptWith(linux), false},
		"empty disk": {make([]byte, 1<<20), false},
	} {
		if got, err := hasEFIPartition(bytes.NewReader(c.disk)); err != nil || got != c.want {
			t.Errorf("%s: %v, %v; want %v", name, got, err, c.want)
		}
	}
}
