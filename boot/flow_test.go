package boot

import (
	"sync"
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
