package lab

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// consoleBytes bounds one console log; the file and its predecessor together
// keep between this and twice as much.
const consoleBytes = 1 << 20

// consoleLog keeps the last of what a serial console carried, in path and
// path.old. Positions count from the first byte ever kept.
type consoleLog struct {
	path string
	max  int64

	mu    sync.Mutex
	file  *os.File
	older int64 // position of the first byte of path.old
	begin int64 // position of the first byte of path
	end   int64
}

func openConsole(path string, most int64) (*consoleLog, error) {
	l := &consoleLog{path: path, max: most}
	for _, p := range []struct {
		name string
		size *int64
	}{{path + ".old", &l.begin}, {path, &l.end}} {
		if st, err := os.Stat(p.name); err == nil {
			*p.size = st.Size()
		} else if !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("console log: %w", err)
		}
	}
	l.end += l.begin
	return l, l.open()
}

func (l *consoleLog) open() (err error) {
	if l.file, err = os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600); err != nil {
		return fmt.Errorf("console log: %w", err)
	}
	return nil
}

// Write implements io.Writer for one machine.
func (l *consoleLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return 0, os.ErrClosed
	}
	if l.end-l.begin >= l.max {
		if err := errors.Join(l.file.Close(), os.Rename(l.path, l.path+".old"), l.open()); err != nil {
			return 0, err
		}
		l.older, l.begin = l.begin, l.end
	}
	n, err := l.file.Write(b)
	l.end += int64(n)
	return n, err
}

// read returns what is kept from position at on, and the position after it.
func (l *consoleLog) read(at int64) ([]byte, int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil, at, os.ErrClosed
	}
	at = max(at, l.older)
	parts := []io.Reader{}
	if at < l.begin {
		old, err := os.Open(l.path + ".old")
		if err != nil {
			return nil, at, fmt.Errorf("console log: %w", err)
		}
		defer old.Close()
		parts = append(parts, io.NewSectionReader(old, at-l.older, l.begin-at))
		at = l.begin
	}
	parts = append(parts, io.NewSectionReader(l.file, at-l.begin, l.end-at))
	b, err := io.ReadAll(io.MultiReader(parts...))
	return b, l.end, err
}

func (l *consoleLog) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	l.file = nil
	return err
}
