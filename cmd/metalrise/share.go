package main

import (
	"context"
	"sync"

	"metalrise.dev/fleet"
)

// shared hands one session to all servers behind one BMC: some BMCs have only
// four, and four servers. The last to close it ends it.
type shared struct {
	door *door

	mu   sync.Mutex
	open map[string]*party // by address and user name
}

// party is one session and those who use it.
type party struct {
	ready chan struct{} // closed when visit or err is there
	visit *visit
	err   error
	users int
}

// guest is one user's hold on a shared session.
type guest struct {
	*visit
	leave func() error
	once  sync.Once
}

// Close gives the session back; the last one ends it on the BMC.
func (g *guest) Close() (err error) {
	g.once.Do(func() { err = g.leave() })
	return err
}

func newShared(d *door) *shared { return &shared{door: d, open: map[string]*party{}} }

// dial joins the session that is open on the BMC, or opens it. Who comes while
// it is being opened waits for it; who gets a fault gets it for this call only.
func (s *shared) dial(ctx context.Context, at fleet.Endpoint) (*guest, error) {
	key := at.Address + "\x00" + at.Username + "\x00" + at.Fingerprint
	s.mu.Lock()
	p := s.open[key]
	if p == nil {
		p = &party{ready: make(chan struct{})}
		s.open[key] = p
		p.users++
		s.mu.Unlock()
		p.visit, p.err = s.door.dial(ctx, at, false)
		close(p.ready)
	} else {
		p.users++
		s.mu.Unlock()
	}
	select {
	case <-p.ready:
	case <-ctx.Done():
		go func() { <-p.ready; _ = s.leave(key, p) }()
		return nil, ctx.Err()
	}
	if p.err != nil {
		_ = s.leave(key, p)
		return nil, p.err
	}
	return &guest{visit: p.visit, leave: func() error { return s.leave(key, p) }}, nil
}

func (s *shared) leave(key string, p *party) error {
	s.mu.Lock()
	p.users--
	last := p.users == 0
	if (last || p.err != nil) && s.open[key] == p {
		delete(s.open, key)
	}
	s.mu.Unlock()
	if last && p.visit != nil {
		return p.visit.Close()
	}
	return nil
}
