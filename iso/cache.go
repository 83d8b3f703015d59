package iso

import (
	"container/list"
	"crypto/sha256"
	"sync"
)

// Cache keeps images that were made, because a BMC reads one medium in hundreds
// of requests and each rendering costs a compression. It is bounded by number and
// by memory; the image asked for longest ago goes first, and is made again when
// it is asked for again: an image is the same bytes every time. Readers of an
// image that went are not disturbed. It is safe for concurrent use.
type Cache struct {
	maxImages int
	maxBytes  int64

	mu    sync.Mutex
	byKey map[[sha256.Size]byte]*list.Element
	order *list.List // of *entry, newest first
	held  int64
}

type entry struct {
	key  [sha256.Size]byte
	once sync.Once
	im   *Image
	err  error
	held int64 // 0 until made
}

// NewCache makes a cache of at most maxImages images that hold at most maxBytes
// of memory together. The image asked for last is always kept.
func NewCache(maxImages int, maxBytes int64) *Cache {
	return &Cache{maxImages: max(1, maxImages), maxBytes: maxBytes, byKey: map[[sha256.Size]byte]*list.Element{}, order: list.New()}
}

// Image gives the image of a key, by render if there is none. Callers of one key
// share one rendering; those of other keys do not wait for it. Errors of render
// are given to all who waited and not kept. Keys may be secrets: they are looked
// up by their digest, so that time tells nothing of them.
func (c *Cache) Image(key string, render func() (*Image, error)) (*Image, error) {
	e := c.entry(sha256.Sum256([]byte(key)))
	e.once.Do(func() {
		e.im, e.err = render()
		c.made(e)
	})
	return e.im, e.err
}

// Drop forgets a key: what it stands for changed, or is over.
func (c *Cache) Drop(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if el := c.byKey[sha256.Sum256([]byte(key))]; el != nil {
		c.removeLocked(el)
	}
}

// Len is the number of images kept, and Held the memory they hold, in bytes.
func (c *Cache) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.order.Len()
}

// Held is the memory that the kept images hold, in bytes.
func (c *Cache) Held() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.held
}

func (c *Cache) entry(key [sha256.Size]byte) *entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	if el := c.byKey[key]; el != nil {
		c.order.MoveToFront(el)
		return el.Value.(*entry)
	}
	e := &entry{key: key}
	c.byKey[key] = c.order.PushFront(e)
	c.evictLocked()
	return e
}

// made counts an image that is ready. It may have been evicted meanwhile.
func (c *Cache) made(e *entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	el := c.byKey[e.key]
	if el == nil || el.Value.(*entry) != e {
		return
	}
	if e.err != nil || e.im == nil {
		c.removeLocked(el)
		return
	}
	e.held = e.im.Held()
	c.held += e.held
	c.evictLocked()
}

func (c *Cache) evictLocked() {
	for c.order.Len() > 1 && (c.order.Len() > c.maxImages || c.held > c.maxBytes) {
		c.removeLocked(c.order.Back())
	}
}

func (c *Cache) removeLocked(el *list.Element) {
	e := c.order.Remove(el).(*entry)
	delete(c.byKey, e.key)
	c.held -= e.held
}
