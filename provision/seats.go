package provision

import (
	"context"
	"slices"
	"sync"
)

// rank orders who waits for a seat.
type rank int

const (
	underWay rank = iota // its machine waits for the next step
	waiting              // nothing was begun with it
	ranks
)

// seats bounds the BMC sessions that are open at once. Free ones go by rank,
// then by time of asking: what is begun is finished first.
type seats struct {
	mu    sync.Mutex
	free  int
	queue [ranks][]chan struct{}
}

// take waits for a seat; false when ctx ended first.
func (s *seats) take(ctx context.Context, r rank) bool {
	s.mu.Lock()
	if s.free > 0 {
		s.free--
		s.mu.Unlock()
		return true
	}
	mine := make(chan struct{})
	s.queue[r] = append(s.queue[r], mine)
	s.mu.Unlock()
	select {
	case <-mine:
		return true
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.queue[r], mine); i >= 0 {
		s.queue[r] = slices.Delete(s.queue[r], i, i+1)
	} else {
		s.giveLocked() // it came together with the end of ctx
	}
	return false
}

func (s *seats) give() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.giveLocked()
}

func (s *seats) giveLocked() {
	for r, q := range s.queue {
		if len(q) > 0 {
			s.queue[r] = q[1:]
			close(q[0])
			return
		}
	}
	s.free++
}
