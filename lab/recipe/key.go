package recipe

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io/fs"
)

// Key is the digest of everything that a result is made from.
type Key struct{ h hash.Hash }

// NewKey returns the key of nothing.
func NewKey() Key { return Key{sha256.New()} }

// Add takes in a named list, so that no two different lists can look the same.
func (k Key) Add(name string, values ...string) {
	fmt.Fprintf(k.h, "%q=%q\n", name, values)
}

// AddFiles takes in a file, or all files of a directory, with their names.
func (k Key) AddFiles(content fs.FS, root string) error {
	return fs.WalkDir(content, root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(content, path)
		k.Add(path, string(data))
		return err
	})
}

// Sum is short enough for a directory name; 64 bits do not collide by chance
// among the handful of results a cache holds.
func (k Key) Sum() string { return hex.EncodeToString(k.h.Sum(nil))[:16] }
