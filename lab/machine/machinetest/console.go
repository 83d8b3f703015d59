package machinetest

import (
	"bytes"
	"strings"
	"sync"
)

// consoleLog keeps a machine's console and knows when the suite's unit is done.
type consoleLog struct {
	mu   sync.Mutex
	text []byte
	done chan struct{} // closed when the unit printed its last line
	over bool
}

const (
	linePrefix = "CHECK "
	lastLine   = linePrefix + "done=yes"
)

func newConsole() *consoleLog { return &consoleLog{done: make(chan struct{})} }

func (c *consoleLog) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.text = append(c.text, p...)
	if !c.over && bytes.Contains(c.text, []byte(lastLine)) {
		c.over = true
		close(c.done)
	}
	return len(p), nil
}

func (c *consoleLog) tail(n int) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.text[max(0, len(c.text)-n):])
}

// report is what the suite's unit said: key to value.
type report map[string]string

func (c *consoleLog) report() report {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := report{}
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
