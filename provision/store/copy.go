package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// CopyTo makes a state folder at dir that holds what this one holds at this
// moment: the database as one transaction sees it, and the secrets. Others may
// write meanwhile. dir must not hold a state. Making it durable is the caller's.
func (s *Store) CopyTo(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("copy state: %w", err)
	}
	to := filepath.Join(dir, "state.db")
	// A copy that was cut off is worth nothing, and SQLite writes only into a file
	// that is missing or empty; it keeps the mode of one that is there.
	if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("copy state: %w", err)
	}
	if err := os.WriteFile(to, nil, 0o600); err != nil {
		return fmt.Errorf("copy state: %w", err)
	}
	if err := s.vacuumInto(ctx, to); err != nil {
		return fmt.Errorf("copy state database: %w", err)
	}
	from := filepath.Join(s.dir, "secrets")
	entries, err := os.ReadDir(from)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("copy secrets: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "secrets"), 0o700); err != nil {
		return fmt.Errorf("copy secrets: %w", err)
	}
	for _, e := range entries {
		if !secretName.MatchString(e.Name()) {
			continue // one that is being written
		}
		b, err := os.ReadFile(filepath.Join(from, e.Name()))
		if err == nil {
			err = writeAtomic(filepath.Join(dir, "secrets", e.Name()), b)
		}
		if err != nil {
			return fmt.Errorf("copy secret %s: %w", e.Name(), err)
		}
	}
	return nil
}

// vacuumInto copies the database on a connection that may write: a reader's may
// not, though what is written is another file.
func (s *Store) vacuumInto(ctx context.Context, to string) error {
	c, err := s.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	var only int
	if err := c.QueryRowContext(ctx, "PRAGMA query_only").Scan(&only); err != nil {
		return err
	}
	if _, err := c.ExecContext(ctx, "PRAGMA query_only = 0"); err != nil {
		return err
	}
	_, err = c.ExecContext(ctx, "VACUUM INTO ?", to)
	_, back := c.ExecContext(context.WithoutCancel(ctx), fmt.Sprintf("PRAGMA query_only = %d", only))
	return errors.Join(err, back)
}
