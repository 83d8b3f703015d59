package lab

import (
	"os"
	"strings"
	"testing"
)

func TestUntouchedSeesEveryWrite(t *testing.T) {
	c := testConfig(t.TempDir())
	s := c.spec(1)
	size := s.Disks[1].SizeBytes
	path := diskPath(s, s.Disks[1])
	for _, at := range []int64{0, 512, patternBytes - 1, patternBytes, size / 2, size - patternBytes - 1, size - patternBytes, size - 1} {
		if err := os.RemoveAll(s.Dir); err != nil {
			t.Fatal(err)
		}
		if err := makeData(s); err != nil {
			t.Fatal(err)
		}
		if err := untouched(s); err != nil {
			t.Fatalf("fresh disks: %v", err)
		}
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte{0xff}, at); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if err := untouched(s); err == nil || !strings.Contains(err.Error(), s.Disks[1].Serial) {
			t.Errorf("a byte written at %d: %v", at, err)
		}
		// A lab that comes back must not repair the evidence.
		if err := makeData(s); err != nil {
			t.Fatal(err)
		}
		if untouched(s) == nil {
			t.Errorf("the write at %d was undone", at)
		}
	}
	if err := os.Truncate(path, size-1<<20); err != nil {
		t.Fatal(err)
	}
	if untouched(s) == nil {
		t.Error("a shorter disk passed")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if untouched(s) == nil {
		t.Error("a missing disk passed")
	}
}

func TestTheFirstDiskMayBeWritten(t *testing.T) {
	c := testConfig(t.TempDir())
	s := c.spec(1)
	if err := makeData(s); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(diskPath(s, s.Disks[0]), []byte("a system"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := untouched(s); err != nil {
		t.Error(err)
	}
}
