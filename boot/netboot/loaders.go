package netboot

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// LoaderDirs is where Debian's ipxe package has its programs; the second holds
// what links of the first point to.
func LoaderDirs() []string { return []string{"/usr/lib/ipxe", "/boot"} }

// loaderNames are all that is ever taken from a folder of loaders.
func loaderNames() []string { return []string{LoaderBIOS, LoaderUEFI, LoaderEFI, LoaderARM64} }

const (
	maxLoader = 8 << 20
	// authorityFile beside the loaders holds the certificates, in PEM, that they
	// were built to trust.
	authorityFile = "authority.pem"
)

// Loaders are iPXE programs, held in memory (together about 1 MiB). They are the
// same for all machines and no secret, so their names are fixed.
type Loaders struct {
	files     map[string][]byte
	authority []byte
}

// ReadLoaders reads the loaders from the folders, each from the first that has
// it. That none is found is an error that tells what to install.
func ReadLoaders(dirs ...string) (*Loaders, error) {
	l := &Loaders{files: map[string][]byte{}}
	for _, dir := range dirs {
		for _, name := range loaderNames() {
			if l.files[name] != nil {
				continue
			}
			b, err := readBounded(filepath.Join(dir, name), maxLoader)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("read loader: %w", err)
			}
			if len(b) > 0 {
				l.files[name] = b
			}
		}
		if b, err := readBounded(filepath.Join(dir, authorityFile), 1<<20); err == nil && l.authority == nil {
			l.authority = b
		}
	}
	if len(l.files) == 0 {
		return nil, fmt.Errorf("no iPXE program in %q: install the Debian package ipxe, or name a folder that has %s and %s", dirs, LoaderBIOS, LoaderUEFI)
	}
	return l, nil
}

// Names lists what was found, sorted.
func (l *Loaders) Names() []string {
	var names []string
	for n := range l.files {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// Trust says whether the loaders were built to trust a certificate (in PEM), so
// that their scripts may lead to HTTPS. Debian's trust iPXE's own authority only.
func (l *Loaders) Trust(certificate []byte) bool {
	c := bytes.TrimSpace(certificate)
	return len(c) > 0 && bytes.Contains(l.authority, c)
}

// Bytes is the content of a loader.
func (l *Loaders) Bytes(name string) ([]byte, bool) {
	b, ok := l.files[name]
	return b, ok
}

// File implements Files.
func (l *Loaders) File(name string, _ netip.Addr, _ time.Time) (File, error) {
	b, ok := l.files[name]
	if !ok {
		return File{}, fs.ErrNotExist
	}
	return File{Name: name, Body: bytes.NewReader(b), Size: int64(len(b))}, nil
}

// readBounded reads a regular file that must not be larger than limit bytes.
func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(fmt.Errorf("%s is not a regular file", path), err)
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%s has more than %d bytes", path, limit)
	}
	return b, err
}
