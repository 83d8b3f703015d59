package netboot

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"
)

// Item is one thing, for one machine and one purpose, until a time.
type Item struct {
	// Name is the last part of the address and the item's purpose: "boot.ipxe",
	// "vmlinuz", "initrd.img", "snponly.efi", "live.iso". The key opens this name
	// and no other.
	Name  string
	Guest string // the server's name, for sightings
	// Open is called for each request.
	Open  func() (Content, error)
	Until time.Time
	// Peer, when set, is the only address that may read the item.
	Peer netip.Addr
}

// Content is what a request reads. It is closed after it.
type Content struct {
	// Body of an *os.File must belong to this Content alone; it is then sent by
	// the kernel.
	Body io.ReaderAt
	Size int64
	// ETag is quoted as in HTTP and changes with the bytes.
	ETag    string
	ModTime time.Time
	Close   func() error // may be nil
}

// OfBytes is the content of an item in memory.
func OfBytes(b []byte) func() (Content, error) {
	sum := sha256.Sum256(b)
	tag := `"` + hex.EncodeToString(sum[:16]) + `"`
	return func() (Content, error) {
		return Content{Body: bytes.NewReader(b), Size: int64(len(b)), ETag: tag}, nil
	}
}

// OfFile is the content of a regular file. The digest, in hexadecimal, is what the
// caller verified; while size or time of the file differ from now on, it is not
// served.
func OfFile(path, digest string) (func() (Content, error), error) {
	was, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !was.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	return func() (Content, error) {
		f, err := os.Open(path)
		if err != nil {
			return Content{}, err
		}
		info, err := f.Stat()
		if err == nil && (info.Size() != was.Size() || !info.ModTime().Equal(was.ModTime())) {
			err = fmt.Errorf("%s was changed since it was verified", path)
		}
		if err != nil {
			_ = f.Close()
			return Content{}, err
		}
		return Content{Body: f, Size: info.Size(), ETag: `"` + clean(digest, 64) + `"`, ModTime: info.ModTime(), Close: f.Close}, nil
	}, nil
}

// Shelf holds items by key. It is a Library and a Files.
type Shelf struct {
	mu    sync.RWMutex
	items map[[sha256.Size]byte]Item
}

// maxItems bounds a shelf: ten items for each of 6,000 machines.
const maxItems = 1 << 16

// NewShelf makes an empty shelf.
func NewShelf() *Shelf { return &Shelf{items: map[[sha256.Size]byte]Item{}} }

// NewKey is an unguessable key: 128 random bits as 32 hexadecimal digits.
func NewKey() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// Put lays an item under a key, of NewKey or derived from a secret with the same
// strength, in place of what was there. now lets what has expired fall off.
func (s *Shelf) Put(key string, it Item, now time.Time) error {
	switch {
	case !isKey(key):
		return errors.New("shelf: a key has 32 to 64 hexadecimal digits in lower case")
	case !fileName(it.Name) || len(it.Name) > maxItemName:
		return fmt.Errorf("shelf: %q is not a name of at most %d bytes", it.Name, maxItemName)
	case it.Open == nil || !now.Before(it.Until):
		return fmt.Errorf("shelf: %s has no content or no time left", it.Name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.items) >= maxItems {
		for k, old := range s.items {
			if !now.Before(old.Until) {
				delete(s.items, k)
			}
		}
		if len(s.items) >= maxItems {
			return fmt.Errorf("shelf: %d items are the most", maxItems)
		}
	}
	s.items[sha256.Sum256([]byte(key))] = it
	return nil
}

// Drop takes what lies under a key away.
func (s *Shelf) Drop(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.items, sha256.Sum256([]byte(key)))
}

// Item implements Library.
func (s *Shelf) Item(key, name string, peer netip.Addr, now time.Time) (Item, error) {
	s.mu.RLock()
	// looking up the digest tells nothing by the time it takes
	it, ok := s.items[sha256.Sum256([]byte(key))]
	s.mu.RUnlock()
	if !ok || it.Name != name || !now.Before(it.Until) || it.Peer.IsValid() && it.Peer != peer {
		return Item{}, fs.ErrNotExist
	}
	return it, nil
}

// File implements Files: the name is the key, a dot, and the item's name, as
// TFTPName makes it.
func (s *Shelf) File(name string, peer netip.Addr, now time.Time) (File, error) {
	key, rest, _ := strings.Cut(name, ".")
	if !isKey(key) {
		return File{}, fs.ErrNotExist
	}
	it, err := s.Item(key, rest, peer, now)
	if err != nil {
		return File{}, err
	}
	c, err := it.Open()
	if err != nil {
		return File{}, fmt.Errorf("open %s: %w", it.Name, err)
	}
	return File{Name: it.Name, Guest: it.Guest, Body: c.Body, Size: c.Size, Close: c.Close}, nil
}

const (
	minKey = 32 // hexadecimal digits: 128 bits
	maxKey = 64
	// maxItemName keeps names for TFTP, with the key, within maxName, which fits
	// the field of DHCP's header.
	maxItemName = maxName - maxKey - 2
)

// TFTPName is the name of an item for TFTP.
func TFTPName(key, name string) string { return key + "." + name }

// Path is the path of an item over HTTP.
func Path(key, name string) string { return pathPrefix + key + "/" + name }

const pathPrefix = "/b/"

func isKey(s string) bool {
	return len(s) >= minKey && len(s) <= maxKey && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'f')
	})
}
