package boot

import (
	"context"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestFlow: what a reader confirmed is counted once, over TLS and without, and a
// reader that pauses between requests is not slow.
func TestFlow(t *testing.T) {
	content := make([]byte, 3<<20)
	for _, parts := range []bool{false, true} {
		var mu sync.Mutex
		var sum Flow
		r := newRig(t, testLibrary{content: content, parts: parts}, func(c *Config) {
			c.PlainAddr = "127.0.0.1:0"
			c.Flowed = func(k string, f Flow) {
				mu.Lock()
				defer mu.Unlock()
				if k != key || f.Bytes < 0 || f.Busy < 0 {
					t.Errorf("%q flows %+v", k, f)
				}
				sum.Bytes, sum.Busy = sum.Bytes+f.Bytes, sum.Busy+f.Busy
			}
		})
		for _, base := range []string{r.url(""), "http://" + r.PlainAddr().String()} {
			mu.Lock()
			sum = Flow{}
			mu.Unlock()
			begin := time.Now()
			url := base + MediaPath(key, "boot.iso")
			const pauses = 4
			for range pauses { // one connection: what the last answer left is told by the next
				r.get(t, "GET", url, "")
				time.Sleep(200 * time.Millisecond)
			}
			r.get(t, "HEAD", url, "")
			took := time.Since(begin)
			mu.Lock()
			got := sum
			mu.Unlock()
			if want := int64(pauses * len(content)); got.Bytes < want || got.Bytes > want+want/10 {
				t.Errorf("%s: %d bytes flowed, want %d and little more", base, got.Bytes, want)
			}
			if most := took - pauses*100*time.Millisecond; got.Busy <= 0 || got.Busy > most {
				t.Errorf("%s: busy for %s, of %s without the pauses", base, got.Busy, most)
			}
		}
	}
}

// ending is a library whose content may not be served any more after some steps.
type ending struct {
	testLibrary
	steps atomic.Int64 // that are left
}

func (l *ending) Open(ctx context.Context, k string) (Content, error) {
	c, err := l.testLibrary.Open(ctx, k)
	c.Alive = func() bool { return l.steps.Add(-1) >= 0 }
	return c, err
}

// TestTransferIsCut: what ended while it was read does not come to its end.
func TestTransferIsCut(t *testing.T) {
	lib := &ending{testLibrary: testLibrary{content: make([]byte, 5<<20), parts: true}}
	r := newRig(t, lib.testLibrary, func(c *Config) { c.Library, c.PlainAddr = lib, "127.0.0.1:0" })
	for _, base := range []string{r.url(""), "http://" + r.PlainAddr().String()} {
		for steps, whole := range map[int64]bool{2: false, 100: true} {
			lib.steps.Store(steps)
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+MediaPath(key, "boot.iso"), nil)
			if err != nil {
				t.Fatal(err)
			}
			res, err := r.client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			n, err := io.Copy(io.Discard, res.Body)
			res.Body.Close()
			if (err == nil) != whole || (n == 5<<20) != whole || !whole && n > 2<<20 {
				t.Errorf("%s, %d steps: %d bytes, %v", base, steps, n, err)
			}
		}
	}
}
