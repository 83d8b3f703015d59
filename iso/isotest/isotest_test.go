package isotest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestBuildIsTheSameEveryTime(t *testing.T) {
	dir := t.TempDir()
	var got [2][]byte
	for i := range got {
		p := filepath.Join(dir, "x.iso")
		if err := Build(p, Options{}); err != nil {
			t.Fatal(err)
		}
		var err error
		if got[i], err = os.ReadFile(p); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(got[0], got[1]) {
		t.Fatal("two builds of the same options differ")
	}
	if n := len(got[0]); n < 512<<10 || n > 2<<20 {
		t.Fatalf("size %d, want about 1 MiB", n)
	}
}

func TestBuildRefusesNamesThatCollide(t *testing.T) {
	err := Build(filepath.Join(t.TempDir(), "x.iso"), Options{Files: map[string][]byte{"coreos/igninfo.jsx": nil, "coreos/igninfo.jsonp": nil}})
	if err == nil || !strings.Contains(err.Error(), "one ISO 9660 name") {
		t.Fatalf("error %v, want one about the name", err)
	}
}

// TestXorrisoReadsIt checks the image with another reader: names, content and
// label. xorriso is among the packages that the lab needs.
func TestXorrisoReadsIt(t *testing.T) {
	tool, err := exec.LookPath("xorriso")
	if err != nil {
		t.Fatal("xorriso is missing: run `make deps`, or apt-get install xorriso")
	}
	dir := t.TempDir()
	for _, plain := range []bool{false, true} {
		iso, out := filepath.Join(dir, "x.iso"), filepath.Join(dir, "out")
		if err := Build(iso, Options{PlainNames: plain, Files: map[string][]byte{"hello.txt": []byte("hi\n")}}); err != nil {
			t.Fatal(err)
		}
		want, file := "/hello.txt", "/images/pxeboot/initrd.img"
		if plain {
			want, file = "/HELLO.TXT", "/IMAGES/PXEBOOT/INITRD.IMG"
		}
		cmd := exec.Command(tool, "-report_about", "WARNING", "-abort_on", "WARNING", "-indev", iso,
			"-pvd_info", "-find", "/", "-exec", "echo", "--", "-osirrox", "on", "-extract", file, out)
		got, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("xorriso: %v\n%s", err, got)
		}
		for _, s := range []string{want, file, "fedora-coreos-test"} {
			if !bytes.Contains(got, []byte(s)) {
				t.Errorf("xorriso does not show %q:\n%s", s, got)
			}
		}
		b, err := os.ReadFile(out)
		if err != nil || !bytes.Equal(b, filler("initrd", 96<<10)) {
			t.Errorf("extracted initrd differs (%d bytes, %v)", len(b), err)
		}
		os.Remove(out)
	}
}
