package images

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Remember notes that a site file names entries of the store, so that Prune can
// be told to look there. The file may be gone later.
func (s *Store) Remember(site string) error {
	abs, err := filepath.Abs(site)
	if err != nil {
		return err
	}
	dir := filepath.Join(s.dir, "sites")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // in vain once renamed
	_, err = tmp.WriteString(abs + "\n")
	if err := errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), filepath.Join(dir, hexSHA256([]byte(abs))[:32]))
}

// Sites lists the site files that were remembered and still exist.
func (s *Store) Sites() ([]string, error) {
	dir := filepath.Join(s.dir, "sites")
	list, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []string
	for _, d := range list {
		if strings.HasPrefix(d.Name(), ".") {
			continue
		}
		b, err := readFile(filepath.Join(dir, d.Name()), 8<<10)
		if err != nil {
			return nil, err
		}
		path := strings.TrimSuffix(string(b), "\n")
		if _, err := os.Lstat(path); err == nil && filepath.IsAbs(path) {
			out = append(out, path)
		}
	}
	return out, nil
}
