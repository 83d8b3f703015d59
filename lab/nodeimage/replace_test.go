package nodeimage

import (
	"os"
	"path/filepath"
	"testing"
)

func TestPutFollowsNoLink(t *testing.T) {
	dir := t.TempDir()
	outside := filepath.Join(dir, "outside")
	if err := os.WriteFile(outside, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(outside, link); err != nil {
		t.Fatal(err)
	}
	for range 2 { // over a link, then over a file
		if err := replace(link, []byte("new"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := os.ReadFile(outside); err != nil || string(b) != "kept" {
		t.Errorf("a file outside was written: %q, %v", b, err)
	}
	if info, err := os.Stat(outside); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("a file outside changed its mode: %v, %v", info.Mode(), err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode() != 0o644 {
		t.Errorf("%v, %v, want a plain file", info.Mode(), err)
	}
}
