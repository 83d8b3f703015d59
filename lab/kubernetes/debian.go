package kubernetes

import (
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// debianPackages are those that programs are taken from.
func debianPackages() []string {
	return []string{"conntrack", "containerd", "keepalived", "nftables", "runc"}
}

// loader is the dynamic loader that programs for x86-64 name (System V ABI, AMD64
// supplement); in an image it lies where they look for it.
const loader = "lib64/ld-linux-x86-64.so.2"

// libraryFolders are where Debian keeps libraries. In an image they all go to
// the first.
func libraryFolders() []string {
	return []string{"usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"}
}

// debian is a tree of Debian packages, unpacked.
type debian struct{ root string }

// program returns a program of the tree and every library it needs, as files of
// an image. path is the program's place, in the tree and in the image.
func (d debian) program(path string) ([]imageFile, error) {
	files := []imageFile{{path: path, source: filepath.Join(d.root, path)}}
	seen := map[string]bool{}
	for next := []string{files[0].source}; len(next) > 0; {
		file := next[0]
		next = next[1:]
		needed, err := neededLibraries(file)
		if err != nil {
			return nil, fmt.Errorf("libraries of %s: %w", path, err)
		}
		for _, name := range needed {
			if seen[name] {
				continue
			}
			seen[name] = true
			source, err := d.library(name)
			if err != nil {
				return nil, fmt.Errorf("libraries of %s: %w", path, err)
			}
			target := filepath.Join(libraryFolders()[0], name)
			if name == filepath.Base(loader) {
				target = loader
			}
			files = append(files, imageFile{path: target, source: source})
			next = append(next, source)
		}
	}
	if !seen[filepath.Base(loader)] {
		source, err := d.library(filepath.Base(loader))
		if err != nil {
			return nil, err
		}
		files = append(files, imageFile{path: loader, source: source})
	}
	return files, nil
}

func neededLibraries(file string) ([]string, error) {
	f, err := elf.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.ImportedLibraries()
}

// library returns the path of the file that a library's name leads to.
func (d debian) library(name string) (string, error) {
	if strings.ContainsRune(name, '/') {
		return "", fmt.Errorf("%q: a path where a name was expected", name)
	}
	for _, dir := range append(slices.Clone(libraryFolders()), filepath.Dir(loader)) {
		path, err := d.resolve(filepath.Join(dir, name))
		if err == nil {
			return path, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	return "", fmt.Errorf("no package of %v holds %s", debianPackages(), name)
}

// resolve follows links of the tree inside of the tree.
func (d debian) resolve(path string) (string, error) {
	for range 8 {
		full := filepath.Join(d.root, path)
		target, err := os.Readlink(full)
		if err != nil {
			_, err = os.Stat(full)
			return full, err
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(path), target)
		}
		path = filepath.Join("/", target)
	}
	return "", fmt.Errorf("%s: too many links", path)
}
