package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// plainText takes the steering out of what is written for people: what BMCs and
// machines say must not steer the terminal of who reads it.
type plainText struct {
	w       io.Writer
	visible bool // show what steers, as in "\u001b"; else it is dropped with its whole sequence
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
	show := p.dropped
	if p.visible {
		show = shown
	}
	_, err := p.w.Write(show(b))
	return len(b), err
}

// rewind begins a progress line of our own anew, over what stands there.
func rewind(w io.Writer) {
	if p, ok := w.(*plainText); ok {
		w = p.w
	}
	_, _ = io.WriteString(w, "\r") // a progress line that is lost is no fault
}

// shown writes each character that steers as its number, in the form of JSON so
// that JSON stays what it is. The end of a line of DOS is the end of a line.
func shown(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		switch {
		case r == '\r' && len(b) > 1 && b[1] == '\n':
		case steers(r):
			out = fmt.Appendf(out, "\\u%04x", r)
		default:
			out = append(out, b[:n]...)
		}
		b = b[n:]
	}
	return out
}

// steers tells whether a character acts on a terminal, or on the direction in
// which the text around it is read.
func steers(r rune) bool {
	return r < 0x20 && r != '\n' && r != '\t' || r >= 0x7f && r <= 0x9f || r == 0x061c || r == 0x200e || r == 0x200f ||
		r >= 0x2028 && r <= 0x202e || r >= 0x2066 && r <= 0x2069
}

// dropped leaves escape sequences and control characters out.
func (p *plainText) dropped(b []byte) []byte {
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
		case p.state == inText && (c >= 0x20 && c != 0x7f || c == '\t'):
			out = append(out, c)
		}
	}
	return out
}
