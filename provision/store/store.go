// Package store keeps a site's state on disk: the lock that makes one engine
// its only writer, the journal of events, what was found and seen, the plans,
// and the site's secrets. It never interprets what it keeps and never hands a
// secret to anything but its caller.
//
// Everything but the secrets lies in one SQLite database in write-ahead mode
// with full synchronisation: what Append returned survives a power cut. Any
// number of readers in other processes may look while one writer writes.
package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"sync"

	"golang.org/x/sys/unix"
	_ "modernc.org/sqlite" // the database driver "sqlite"

	"metalrise.dev/fleet"
)

// schemaVersion is kept in the database as user_version. A higher one than
// ours was written by a newer metalrise and is refused.
const schemaVersion = 1

const schema = `
CREATE TABLE IF NOT EXISTS events (
	seq    INTEGER PRIMARY KEY,
	server TEXT NOT NULL,
	body   TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS things (
	kind TEXT NOT NULL,
	key  TEXT NOT NULL,
	body TEXT NOT NULL,
	PRIMARY KEY (kind, key)
) STRICT;
`

// Store is the state of one site.
type Store struct {
	dir    string
	db     *sql.DB
	lock   *os.File // nil for a reader
	writes chan *batch

	closing sync.Once
	done    chan struct{} // closed when the writing goroutine ended

	mu      sync.Mutex
	changed chan struct{} // closed and renewed after each commit
}

// Open opens the state in dir for writing, creating it when it is missing. It
// fails with fleet.CodeSiteLocked while another process has it open so.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("state folder: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock of state folder: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = lock.Close()
		return nil, fleet.NewFault(fleet.CodeSiteLocked, fleet.Conflict, err, "state folder %s is in use", dir)
	}
	// SQLite takes the mode of an existing file for all that it makes beside it.
	f, err := os.OpenFile(filepath.Join(dir, "state.db"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("state database: %w", err)
	}
	_ = f.Close()
	s, err := open(dir, "rwc")
	if err != nil {
		_ = lock.Close()
		return nil, err
	}
	s.lock = lock
	if err := s.migrate(); err != nil {
		_ = s.Close()
		return nil, err
	}
	s.writes = make(chan *batch, 256)
	s.done = make(chan struct{})
	go s.write()
	return s, nil
}

// OpenReader opens the state in dir for looking only. A folder without state, or with
// one that is only being made, gives an error that is fs.ErrNotExist.
func OpenReader(dir string) (*Store, error) {
	if _, err := os.Stat(filepath.Join(dir, "state.db")); err != nil {
		return nil, fmt.Errorf("state of site: %w", err)
	}
	s, err := open(dir, "ro")
	if err != nil {
		return nil, err
	}
	have := 0
	if err = s.db.QueryRow("PRAGMA user_version").Scan(&have); err != nil {
		err = fmt.Errorf("read state database: %w", err)
	} else if have == 0 { // the mark is made last
		err = fmt.Errorf("state of site in %s is being made: %w", dir, fs.ErrNotExist)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func open(dir, mode string) (*Store, error) {
	q := url.Values{"mode": {mode}, "_pragma": {"journal_mode(WAL)", "synchronous(FULL)", "busy_timeout(10000)"}}
	if mode == "ro" {
		q["_pragma"] = []string{"busy_timeout(10000)", "query_only(1)"}
	}
	name := (&url.URL{Scheme: "file", Opaque: url.PathEscape(filepath.Join(dir, "state.db")), RawQuery: q.Encode()}).String()
	db, err := sql.Open("sqlite", name)
	if err != nil {
		return nil, fmt.Errorf("open state database: %w", err)
	}
	db.SetMaxOpenConns(4)
	return &Store{dir: dir, db: db, changed: make(chan struct{})}, nil
}

func (s *Store) migrate() error {
	var have int
	if err := s.db.QueryRow("PRAGMA user_version").Scan(&have); err != nil {
		return fmt.Errorf("read state database: %w", err)
	}
	if have > schemaVersion {
		return fmt.Errorf("state database has version %d, this metalrise knows up to %d: use the newer metalrise", have, schemaVersion)
	}
	if _, err := s.db.Exec(schema); err != nil {
		return fmt.Errorf("create state database: %w", err)
	}
	if _, err := s.db.Exec(fmt.Sprintf("PRAGMA user_version = %d", schemaVersion)); err != nil {
		return fmt.Errorf("mark state database: %w", err)
	}
	return nil
}

// Close ends writing, after what was handed to Append is durable, and frees the
// lock.
func (s *Store) Close() error {
	var err error
	s.closing.Do(func() {
		if s.writes != nil {
			s.writes <- nil
			<-s.done
		}
		err = s.db.Close()
		if s.lock != nil {
			err = errors.Join(err, s.lock.Close())
		}
	})
	return err
}

// Dir is the folder of the state.
func (s *Store) Dir() string { return s.dir }

// Put keeps v under kind and key, durable on return.
func (s *Store) Put(ctx context.Context, kind, key string, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %s %s: %w", kind, key, err)
	}
	return s.submit(ctx, &batch{things: []thing{{kind, key, body}}})
}

// Remove forgets what Put kept, durable on return. That there is none is no error.
func (s *Store) Remove(ctx context.Context, kind, key string) error {
	return s.submit(ctx, &batch{things: []thing{{kind: kind, key: key}}})
}

// Get reads what Put kept into v; false when there is none.
func (s *Store) Get(ctx context.Context, kind, key string, v any) (bool, error) {
	var body []byte
	err := s.db.QueryRowContext(ctx, "SELECT body FROM things WHERE kind = ? AND key = ?", kind, key).Scan(&body)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read %s %s: %w", kind, key, err)
	}
	if err := json.Unmarshal(body, v); err != nil {
		return false, fmt.Errorf("decode %s %s: %w", kind, key, err)
	}
	return true, nil
}

// All reads every thing of one kind in the order of its keys.
func All[T any](ctx context.Context, s *Store, kind string) (map[string]T, error) {
	rows, err := s.db.QueryContext(ctx, "SELECT key, body FROM things WHERE kind = ? ORDER BY key", kind)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", kind, err)
	}
	defer rows.Close()
	out := map[string]T{}
	for rows.Next() {
		var key string
		var body []byte
		if err := rows.Scan(&key, &body); err != nil {
			return nil, fmt.Errorf("read %s: %w", kind, err)
		}
		var v T
		if err := json.Unmarshal(body, &v); err != nil {
			return nil, fmt.Errorf("decode %s %s: %w", kind, key, err)
		}
		out[key] = v
	}
	return out, rows.Err()
}

var secretName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,40}$`)

// Secret gives the secret of that name: 32 random bytes made at the first call,
// in a file of their own with mode 0600.
func (s *Store) Secret(name string) ([]byte, error) {
	return s.SecretOr(name, func() ([]byte, error) {
		b := make([]byte, 32)
		_, err := rand.Read(b)
		return b, err
	})
}

// SecretOr gives the secret of that name, made by mk at the first call.
func (s *Store) SecretOr(name string, mk func() ([]byte, error)) ([]byte, error) {
	if !secretName.MatchString(name) {
		return nil, fmt.Errorf("secret name %q: want lower-case letters, digits and dashes", name)
	}
	dir := filepath.Join(s.dir, "secrets")
	path := filepath.Join(dir, name)
	b, err := os.ReadFile(path)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return b, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("secret %s: %w", name, err)
	}
	if b, err = mk(); err != nil {
		return nil, fmt.Errorf("secret %s: %w", name, err)
	}
	return b, writeAtomic(path, b)
}

// KeepKubeconfig stores the administrator's way into the cluster, mode 0600,
// and gives its path.
func (s *Store) KeepKubeconfig(content []byte) (string, error) {
	path := KubeconfigPath(s.dir)
	if err := writeAtomic(path, content); err != nil {
		return "", fmt.Errorf("keep kubeconfig: %w", err)
	}
	return path, nil
}

// KubeconfigPath is where KeepKubeconfig stores in a state folder.
func KubeconfigPath(stateDir string) string { return filepath.Join(stateDir, "kubeconfig") }

func writeAtomic(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if _, err = f.Write(b); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
