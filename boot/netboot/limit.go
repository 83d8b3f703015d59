package netboot

import (
	"sync"
	"time"
)

// limiter is a token bucket for each key and one for all. A key that was not
// seen for a while is forgotten; when too many are remembered, only the bucket
// for all counts.
type limiter[K comparable] struct {
	each, all rate
	max       int // keys remembered

	mu    sync.Mutex
	keys  map[K]*bucket
	total bucket
	swept time.Time
}

// sweepEach is how often a full table is searched for what can be forgotten:
// doing it for each packet of a flood would be the flood's work.
const sweepEach = time.Second

// rate is so many per second, and so many at once.
type rate struct {
	perSecond float64
	burst     float64
}

type bucket struct {
	used float64 // what is taken out of the bucket
	at   time.Time
}

func newLimiter[K comparable](each, all rate, max int) *limiter[K] {
	return &limiter[K]{each: each, all: all, max: max, keys: map[K]*bucket{}}
}

// allow takes one.
func (l *limiter[K]) allow(key K, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.keys[key]
	if b == nil {
		if len(l.keys) >= l.max && now.Sub(l.swept) >= sweepEach {
			l.swept = now
			for k, old := range l.keys {
				if old.level(l.each, now) == 0 {
					delete(l.keys, k)
				}
			}
		}
		b = &bucket{at: now}
		if len(l.keys) < l.max {
			l.keys[key] = b
		}
	}
	// a single sender must not use up what is there for all
	return b.take(l.each, now) && l.total.take(l.all, now)
}

func (b *bucket) level(r rate, now time.Time) float64 {
	return max(0, b.used-now.Sub(b.at).Seconds()*r.perSecond)
}

func (b *bucket) take(r rate, now time.Time) bool {
	b.used, b.at = b.level(r, now), now
	if b.used+1 > r.burst {
		return false
	}
	b.used++
	return true
}
