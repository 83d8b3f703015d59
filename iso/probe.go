package iso

import "fmt"

// ProbeSize is the size in bytes of the medium that Probe makes.
const ProbeSize = 27 * sectorSize

// Layout of the probe medium, in sectors. Nothing in it needs more than one.
const (
	probeBoot    = 17 // volume descriptors: 16 primary, 17 boot record, 18 end
	probeEnd     = 18
	probeLittle  = 19 // path tables in both byte orders
	probeBig     = 20
	probeRoot    = 21
	probeCatalog = 22
	probeCode    = 23
	probeText    = 24 // two more sectors are padding, which optical drives read ahead into
)

// Probe makes a valid ISO 9660 medium of 54 KiB. A BMC is asked to fetch it from
// the address that it would fetch a real one from, to learn whether it can. A
// machine that is booted from it by BIOS says so on screen and serial line and
// goes on to its next boot device; UEFI firmware finds nothing for it. The bytes
// are the same every time. The text, at most 2048 bytes of ASCII, is in its
// file README.TXT.
func Probe(text string) ([]byte, error) {
	if len(text) > sectorSize {
		return nil, fmt.Errorf("make probe ISO: text of %d bytes, at most %d fit", len(text), sectorSize)
	}
	for i := range len(text) {
		if c := text[i]; (c < 0x20 || c > 0x7e) && c != '\n' {
			return nil, fmt.Errorf("make probe ISO: byte 0x%02x at %d of the text, want printable ASCII", c, i)
		}
	}
	b := make([]byte, ProbeSize)
	at := func(sector int) []byte { return b[sector*sectorSize : (sector+1)*sectorSize] }
	root := probeRecord("\x00", probeRoot, sectorSize, flagDir)
	primary(at(systemArea/sectorSize), root)
	copy(at(probeBoot), "\x00CD001\x01EL TORITO SPECIFICATION")
	at(probeBoot)[0x47] = probeCatalog
	copy(at(probeEnd), "\xffCD001\x01")
	// one directory, the root, which is its own parent
	copy(at(probeLittle), []byte{1, 0, probeRoot, 0, 0, 0, 1, 0})
	copy(at(probeBig), []byte{1, 0, 0, 0, 0, probeRoot, 0, 1})
	dir := at(probeRoot)
	for _, r := range [][]byte{root, probeRecord("\x01", probeRoot, sectorSize, flagDir),
		probeRecord("BOOT.BIN;1", probeCode, sectorSize, 0), probeRecord("README.TXT;1", probeText, len(text), 0)} {
		dir = dir[copy(dir, r):]
	}
	catalog(at(probeCatalog))
	copy(at(probeCode), probeProgram("metalrise probe medium: nothing to boot here, next device\r\n"))
	copy(at(probeText), text)
	return b, nil
}

// probeRecord makes a directory record (ECMA-119 section 9.1).
func probeRecord(name string, sector uint32, size int, flags byte) []byte {
	n := 33 + len(name)
	b := make([]byte, n+n%2)
	b[0] = byte(len(b))
	putBoth(b[recordBlock:], sector)
	putBoth(b[recordSize:], uint32(size))
	copy(b[18:], []byte{100, 1, 1, 0, 0, 0, 0}) // 2000-01-01
	b[25] = flags
	b[28], b[31] = 1, 1 // the first volume of its set
	b[32] = byte(len(name))
	copy(b[33:], name)
	return b
}

// primary makes the primary volume descriptor (ECMA-119 section 8.4).
func primary(b, root []byte) {
	for i := range b[:813] {
		b[i] = 0
	}
	copy(b, "\x01CD001\x01")
	text := func(at, n int, s string) {
		for i := range n {
			b[at+i] = ' '
		}
		copy(b[at:at+n], s)
	}
	text(8, 32, "")
	text(40, 32, "METALRISE_PROBE")
	putBoth(b[80:], ProbeSize/sectorSize)
	for _, at := range []int{120, 124} { // one volume, the first
		copy(b[at:], []byte{1, 0, 0, 1})
	}
	copy(b[128:], []byte{0, sectorSize >> 8, sectorSize >> 8, 0})
	putBoth(b[132:], 10) // bytes of a path table
	b[140] = probeLittle
	b[151] = probeBig
	copy(b[156:], root)
	text(190, 4*128+3*37, "")
	for at := 813; at < 881; at += 17 { // four dates, none given but the first
		copy(b[at:], "0000000000000000\x00")
	}
	copy(b[813:], "2000010100000000\x00")
	b[881] = 1
}

// catalog makes an El Torito catalogue of one BIOS entry without emulation: the
// validation entry's 16-bit words add up to zero (specification 1.0, figure 2).
func catalog(b []byte) {
	b[0], b[30], b[31] = 1, 0x55, 0xaa
	sum := uint16(0)
	for i := 0; i < catalogEntry; i += 2 {
		sum += uint16(b[i]) | uint16(b[i+1])<<8
	}
	b[28], b[29] = byte(-sum), byte(-sum>>8)
	e := b[catalogEntry:]
	e[0] = entryBootable
	e[6] = 4 // sectors of 512 bytes to load
	e[entryBlock] = probeCode
}

// probeProgram is 16-bit code, loaded at 0x7c00: it writes the text to screen and
// first serial line by the BIOS, then hands on to the next boot device.
func probeProgram(text string) []byte {
	const origin = 0x7c00
	code := []byte{
		0xfc,       // cld
		0x31, 0xc0, // xor ax, ax
		0x8e, 0xd8, // mov ds, ax
		0xbe, 0, 0, // mov si, text
		0xac,       // next: lodsb
		0x84, 0xc0, // test al, al
		0x74, 0x13, // jz done
		0x88, 0xc1, // mov cl, al
		0xb4, 0x0e, // mov ah, 0x0e (teletype)
		0xbb, 0x07, 0x00, // mov bx, 7
		0xcd, 0x10, // int 0x10
		0x88, 0xc8, // mov al, cl
		0xb4, 0x01, // mov ah, 1 (send)
		0x31, 0xd2, // xor dx, dx
		0xcd, 0x14, // int 0x14
		0xeb, 0xe8, // jmp next
		0xcd, 0x18, // done: int 0x18
		0xf4,       // halt: hlt
		0xeb, 0xfd, // jmp halt
	}
	at := origin + len(code)
	code[6], code[7] = byte(at), byte(at>>8)
	return append(append(code, text...), 0)
}
