package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"metalrise.dev/fleet"
)

// batch is what one caller wants durable at once.
type batch struct {
	events []fleet.Event
	things []thing
	reply  chan error
}

type thing struct {
	kind, key string
	body      []byte // nil: to be removed
}

var errClosed = errors.New("state is closed")

// Append adds events to the journal and returns them with their sequence
// numbers once they are durable. Callers that come together share one commit:
// a synchronous write costs about a millisecond on common disks, so a thousand
// servers that start at once would else wait a second for their turn.
func (s *Store) Append(ctx context.Context, events ...fleet.Event) ([]fleet.Event, error) {
	b := &batch{events: events}
	if err := s.submit(ctx, b); err != nil {
		return nil, err
	}
	return b.events, nil
}

func (s *Store) submit(ctx context.Context, b *batch) error {
	if s.writes == nil {
		return errors.New("state is open for reading only")
	}
	b.reply = make(chan error, 1)
	select {
	case s.writes <- b:
	case <-s.done:
		return errClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	// From here on the batch is written whether or not the caller waits.
	select {
	case err := <-b.reply:
		return err
	case <-s.done:
		select {
		case err := <-b.reply:
			return err
		default:
			return errClosed
		}
	}
}

// write is the one goroutine that orders all events.
func (s *Store) write() {
	defer close(s.done)
	for b := range s.writes {
		batches, last := gather(b, s.writes)
		if len(batches) > 0 {
			err := s.commit(batches)
			if err != nil {
				err = fleet.NewFault(fleet.CodeStoreFailed, fleet.Transient, err, "write journal")
			}
			for _, b := range batches {
				b.reply <- err
			}
			s.notify()
		}
		if last {
			return
		}
	}
}

// gather takes what waits already, up to a bound that keeps one commit short.
func gather(first *batch, more <-chan *batch) (batches []*batch, last bool) {
	for b := first; ; {
		if b == nil {
			return batches, true
		}
		if batches = append(batches, b); len(batches) == 512 {
			return batches, false
		}
		select {
		case b = <-more:
		default:
			return batches, false
		}
	}
}

func (s *Store) commit(batches []*batch) error {
	tx, err := s.db.Begin()
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	var seq int64
	if err := tx.QueryRow("SELECT coalesce(max(seq), 0) FROM events").Scan(&seq); err != nil {
		return err
	}
	event, err := tx.Prepare("INSERT INTO events (seq, server, body) VALUES (?, ?, ?)")
	if err != nil {
		return err
	}
	defer event.Close()
	for _, b := range batches {
		for i := range b.events {
			seq++
			b.events[i].Seq = seq
			body, err := json.Marshal(b.events[i])
			if err != nil {
				return fmt.Errorf("encode event: %w", err)
			}
			if _, err := event.Exec(seq, string(b.events[i].Server), string(body)); err != nil {
				return err
			}
		}
		for _, t := range b.things {
			if t.body == nil {
				if _, err := tx.Exec("DELETE FROM things WHERE kind = ? AND key = ?", t.kind, t.key); err != nil {
					return err
				}
				continue
			}
			if _, err := tx.Exec("INSERT INTO things (kind, key, body) VALUES (?, ?, ?) ON CONFLICT (kind, key) DO UPDATE SET body = excluded.body", t.kind, t.key, string(t.body)); err != nil {
				return err
			}
		}
	}
	return tx.Commit()
}

// Events reads up to limit events with a sequence number above after.
func (s *Store) Events(ctx context.Context, after int64, limit int) ([]fleet.Event, error) {
	rows, err := s.db.QueryContext(ctx, "SELECT body FROM events WHERE seq > ? ORDER BY seq LIMIT ?", after, limit)
	if err != nil {
		return nil, fmt.Errorf("read journal: %w", err)
	}
	defer rows.Close()
	var out []fleet.Event
	for rows.Next() {
		var body []byte
		if err := rows.Scan(&body); err != nil {
			return nil, fmt.Errorf("read journal: %w", err)
		}
		var e fleet.Event
		if err := json.Unmarshal(body, &e); err != nil {
			return nil, fmt.Errorf("decode event: %w", err)
		}
		out = append(out, e)
	}
	return out, rows.Err()
}

// LastEvent is the sequence number of the newest event, 0 when there is none.
func (s *Store) LastEvent(ctx context.Context) (int64, error) {
	var seq int64
	if err := s.db.QueryRowContext(ctx, "SELECT coalesce(max(seq), 0) FROM events").Scan(&seq); err != nil {
		return 0, fmt.Errorf("read journal: %w", err)
	}
	return seq, nil
}

// Changed gives a channel that closes at the next commit of this process.
func (s *Store) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

func (s *Store) notify() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.changed)
	s.changed = make(chan struct{})
}
