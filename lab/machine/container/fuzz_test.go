package container

import (
	"bytes"
	"strings"
	"testing"
)

// Media and disks are written by the systems under test: whatever they hold,
// reading them ends, and with an error at worst.

func FuzzGRUB(f *testing.F) {
	f.Add(firstBootGRUB, `set kargs="a b"`)
	f.Add("menuentry x {\nlinux /k a\n}\n", "")
	f.Add("if [ ! -f ${x} ]; then source /y; else . /z; fi", "set y='${a}'")
	f.Fuzz(func(t *testing.T, cfg, other string) {
		if len(cfg)+len(other) > 4096 {
			t.Skip("skipped: longer inputs find nothing new")
		}
		e, err := runGRUB(cfg, func(p string) bool { return len(p)%2 == 0 }, func(string) (string, error) { return other, nil })
		if err == nil && e.Kernel == "" {
			t.Errorf("a kernel without a name")
		}
		for _, a := range e.Args {
			if strings.ContainsAny(a, " \t\n") {
				t.Errorf("argument %q holds blanks", a)
			}
		}
	})
}

func FuzzImage(f *testing.F) {
	f.Add(gptDisk([]partition{{1, "boot", 4096, 4096}}, 65536))
	iso := make([]byte, 20*isoSector)
	copy(iso[16*isoSector:], "\x01CD001")
	iso[16*isoSector+156] = 34
	f.Add(iso)
	f.Add([]byte("070701" + strings.Repeat("00000001", 13) + "a\x00"))
	f.Add([]byte{0x1f, 0x8b, 8, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		if parts, err := readGPT(r, int64(len(data))); err == nil {
			for _, p := range parts {
				if p.Start < 0 || p.Size <= 0 || p.Start+p.Size > int64(len(data)) {
					t.Errorf("partition %+v leaves the disk of %d bytes", p, len(data))
				}
			}
		}
		if img, err := openISO(r); err == nil {
			_, _ = mediaKernel(img, "uefi")
			_, _ = mediaKernel(img, "bios")
			_, _ = mediaArea(img)
		}
		_, _ = openArea(data)
		_, _, _, _ = firstMember(r, 0)
	})
}
