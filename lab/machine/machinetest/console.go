package machinetest

import (
	"bytes"
	"strings"
	"sync"
)

// Console keeps a machine's console and knows when the unit of a Script or of
// the suite is done.
type Console struct {
	Done chan struct{} // closed when the unit printed its last line

	mu   sync.Mutex
	text []byte
	over bool
}

const (
	linePrefix = "CHECK "
	lastLine   = linePrefix + "done=yes"
)

// NewConsole returns an empty console, to be given to a machine's Boot.
func NewConsole() *Console { return &Console{Done: make(chan struct{})} }

// Write implements io.Writer.
func (c *Console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.text = append(c.text, p...)
	if !c.over && bytes.Contains(c.text, []byte(lastLine)) {
		c.over = true
		close(c.Done)
	}
	return len(p), nil
}

// Tail returns the last n bytes of what was printed.
func (c *Console) Tail(n int) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.text[max(0, len(c.text)-n):])
}

// Report is what the unit said, key to value: its lines "CHECK key=value".
type Report map[string]string

// Report returns what the unit said so far.
func (c *Console) Report() Report {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := Report{}
	for _, line := range strings.Split(string(c.text), "\n") {
		// Other writers may have left the cursor in the middle of a line.
		if at := strings.Index(line, linePrefix); at >= 0 {
			if k, v, ok := strings.Cut(strings.TrimSpace(line[at+len(linePrefix):]), "="); ok {
				r[k] = strings.TrimSpace(v)
			}
		}
	}
	return r
}
