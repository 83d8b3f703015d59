package main

import (
	"io"
	"strings"
)

// plainText drops terminal control sequences: what runs in a machine must not
// steer the terminal of who watches it.
type plainText struct {
	w       io.Writer
	returns bool // keep carriage returns, for progress lines of our own
	state   escapeState
}

type escapeState int

const (
	inText     escapeState = iota
	inEscape               // after ESC
	inSequence             // after ESC [, until a letter
	inString               // after ESC ] and the like, until BEL or ESC
)

func (p *plainText) Write(b []byte) (int, error) {
	out := make([]byte, 0, len(b))
	for _, c := range b {
		switch {
		case c == '\n': // a sequence that never ends hides one line at most
			p.state = inText
			out = append(out, c)
		case c >= 0x80 && c <= 0x9f && len(out) > 0 && out[len(out)-1] == 0xc2:
			out = out[:len(out)-1] // U+0080 to U+009F: some terminals take them for escapes
		case c == 0x1b:
			p.state = inEscape
		case p.state == inEscape && c == '[':
			p.state = inSequence
		case p.state == inEscape && strings.IndexByte("]PX^_", c) >= 0:
			p.state = inString
		case p.state == inEscape && c >= 0x20 && c <= 0x2f:
			// ESC ( B and the like: one more byte follows
		case p.state == inEscape, p.state == inSequence && c >= 0x40 && c <= 0x7e, p.state == inString && c == 0x07:
			p.state = inText
		case p.state == inText && (c >= 0x20 && c != 0x7f || c == '\t' || c == '\r' && p.returns):
			out = append(out, c)
		}
	}
	_, err := p.w.Write(out)
	return len(b), err
}
