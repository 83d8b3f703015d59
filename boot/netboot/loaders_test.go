package netboot

import (
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestLoaders(t *testing.T) {
	dir := t.TempDir()
	if _, err := ReadLoaders(dir); err == nil || !strings.Contains(err.Error(), "Debian package ipxe") {
		t.Errorf("an empty folder: %v", err)
	}
	for name, content := range map[string]string{LoaderBIOS: "bios", "other": "x", authorityFile: "A\nCERTIFICATE\nB\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l, err := ReadLoaders(dir)
	if err != nil || len(l.Names()) != 1 || !l.Trust([]byte("CERTIFICATE\n")) || l.Trust([]byte("ANOTHER")) || l.Trust(nil) {
		t.Errorf("loaders %v, %v", l.Names(), err)
	}
	if _, err := l.File("other", netip.Addr{}, time.Now()); err != fs.ErrNotExist {
		t.Errorf("a file that is no loader: %v", err)
	}
	if err := os.Mkdir(filepath.Join(dir, LoaderUEFI), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadLoaders(dir); err == nil {
		t.Error("a folder in place of a loader was taken")
	}
}
