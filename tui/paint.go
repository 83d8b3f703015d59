package tui

import (
	"slices"
	"strings"

	"github.com/charmbracelet/x/ansi"
)

// Style says what a piece of text means; Look says how that is shown.
type Style int

const (
	Plain    Style = iota
	Title          // the bar at the top
	Heading        // of a part of the screen
	Good           // as it should be
	Warn           // look at it
	Bad            // a person must act
	Busy           // under way
	Faint          // absent or less important; never the only sign of either
	Selected       // where the keys go
	Editing        // text being typed
)

// Span is text of one style.
type Span struct {
	Style Style
	Text  string
}

// Line is one line of a screen.
type Line []Span

// Point is a cell, counted from the upper left one, 0,0.
type Point struct{ X, Y int }

// Picture is a whole screen.
type Picture struct {
	Width  int // of the terminal; 0: lines end where their text does
	Lines  []Line
	Cursor *Point // nil: not shown
}

func line(style Style, text string) Line { return Line{{style, text}} }

// width counts cells; East Asian wide letters take two.
func width(s string) int {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return ansi.StringWidth(s)
		}
	}
	return len(s)
}

// clean takes out what a terminal would obey or draw nowhere: names and texts
// come from BMCs and machines, which may say anything.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case r < 0x20 || r >= 0x7f && r < 0xa0 || r >= 0x200b && r <= 0x200f || r >= 0x2028 && r <= 0x202e || r >= 0x2066 && r <= 0x2069 || r == 0xfeff || r == 0xfffd:
			return '?'
		}
		return r
	}, s)
}

// fit makes s exactly w cells wide; what is cut off shows as an ellipsis.
func fit(s string, w int) string {
	if w <= 0 {
		return ""
	}
	s = clean(s)
	n := width(s)
	if n > w {
		s = ansi.Truncate(s, w, "…")
		n = width(s)
	}
	return s + strings.Repeat(" ", w-n)
}

// fit makes a line exactly w cells wide.
func (l Line) fit(w int) Line {
	var out Line
	for i, s := range l {
		if w <= 0 {
			break
		}
		text := clean(s.Text)
		n := width(text)
		if n > w || i == len(l)-1 {
			text, n = fit(text, w), w
		}
		out = append(out, Span{s.Style, text})
		w -= n
	}
	if w > 0 {
		out = append(out, Span{Plain, strings.Repeat(" ", w)})
	}
	return out
}

// wrap breaks text into lines of at most w cells: between words, and between
// East Asian letters, but never before a mark that ends a sentence.
func wrap(s string, w int) []string {
	if w <= 0 {
		return nil
	}
	var out []string
	row, cells := "", 0
	flush := func() { out = append(out, strings.TrimRight(row, " ")); row, cells = "", 0 }
	for _, piece := range pieces(clean(s)) {
		n := width(piece)
		if blank := strings.Trim(piece, " ") == ""; cells+n > w && (blank || cells > 0) {
			flush()
			if blank {
				continue
			}
		}
		for ; n > w; n = width(piece) { // longer than a line
			head := ansi.Truncate(piece, w, "")
			if head == "" {
				head = piece
			}
			out, piece = append(out, head), piece[len(head):]
		}
		row, cells = row+piece, cells+n
	}
	flush()
	return out
}

// pieces parts a text where a line may break: words, blanks between them, and
// single wide letters with what may not stand at the beginning of a line.
func pieces(s string) []string {
	const clings = "、。，．・：；！？）」』】〕ー々ぁぃぅぇぉっゃゅょァィゥェォッャュョ,.:;!?)"
	var out []string
	last := rune(0)
	for _, r := range s {
		n := len(out) - 1
		wide := width(string(r)) > 1
		switch {
		case n >= 0 && (width(string(r)) == 0 || strings.ContainsRune(clings, r) && last != ' '),
			n >= 0 && !wide && r != ' ' && last != ' ' && width(string(last)) == 1,
			n >= 0 && r == ' ' && last == ' ':
			out[n] += string(r)
		default:
			out = append(out, string(r))
		}
		last = r
	}
	return out
}

// bar draws how much of a whole is done, w cells wide.
func bar(part float64, w int) string {
	full := min(max(int(part*float64(w)+0.5), 0), w)
	return strings.Repeat("█", full) + strings.Repeat("░", w-full)
}

// Text gives the picture without any style, for tests and records.
func (p Picture) Text() string {
	var b strings.Builder
	for _, l := range p.Lines {
		var row strings.Builder
		for _, s := range l {
			row.WriteString(s.Text)
		}
		b.WriteString(strings.TrimRight(row.String(), " ") + "\n")
	}
	return b.String()
}

// Paint turns a picture into text with the terminal's own sequences.
func (k Look) Paint(p Picture) string {
	var b strings.Builder
	for i, l := range p.Lines {
		if i > 0 {
			b.WriteByte('\n')
		}
		room := 0
		if k.Old {
			l, room = trimmed(l, p.Width)
		}
		for _, s := range l {
			text := s.Text
			if !k.Unicode {
				text = plainMarks(text)
			}
			if code := k.sgr(s.Style); code != "" && text != "" {
				b.WriteString("\x1b[" + code + "m" + text + "\x1b[m")
			} else {
				b.WriteString(text)
			}
		}
		b.WriteString(anchored(room))
	}
	return b.String()
}

// anchor is a blank that is a link. The sieve takes the link away; what matters
// is that Bubble Tea cannot clear such a cell.
const anchor = "\x1b]8;;.\x07 \x1b]8;;\x07"

// anchored fills a line with blanks to the last column. Where a line ends in
// blanks, Bubble Tea shifts its text by deleting and inserting characters, which
// a VT100 cannot do. A last cell that cannot be cleared makes it write what
// differs and nothing else.
func anchored(room int) string {
	if room < 1 {
		return ""
	}
	return strings.Repeat(" ", room-1) + anchor
}

// trimmed takes the blanks that look like nothing off a line's end and tells how
// many cells are left.
func trimmed(l Line, w int) (Line, int) {
	l = slices.Clone(l)
	for n := len(l) - 1; n >= 0; n-- {
		if l[n].Style == Title { // drawn over its whole width
			break
		}
		if l[n].Text = strings.TrimRight(l[n].Text, " "); l[n].Text != "" {
			break
		}
	}
	for _, s := range l {
		w -= width(s.Text)
	}
	return l, w
}

// plainMarks swaps every mark for an ASCII one of the same width.
func plainMarks(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r < 0x80:
			b.WriteRune(r)
		default:
			b.WriteString(plainMark(r))
		}
	}
	return b.String()
}

func plainMark(r rune) string {
	switch r {
	case '✓':
		return "v"
	case '✗':
		return "x"
	case '█':
		return "#"
	case '░', '─':
		return "-"
	case '│':
		return "|"
	case '▸', '→':
		return ">"
	case '↑':
		return "^"
	case '↓':
		return "v"
	case '…':
		return "~"
	case '·':
		return "."
	case '●':
		return "*"
	case '–', '—':
		return "-"
	}
	return strings.Repeat("?", max(ansi.StringWidth(string(r)), 0))
}

// sgr gives the parameters that show a style.
func (k Look) sgr(s Style) string {
	if !k.Attributes || k.Old && (s == Selected || s == Editing) {
		return "" // mark and cursor say it in a few bytes; drawing a line anew costs forty
	}
	if !k.Colour {
		switch s {
		case Title, Selected:
			return "7"
		case Heading, Bad, Warn:
			return "1"
		case Editing:
			return "4"
		}
		return ""
	}
	switch s {
	case Title:
		return "1;37;44"
	case Heading:
		return "1"
	case Good:
		return "32"
	case Warn:
		return "33"
	case Bad:
		return "1;31"
	case Busy:
		return "36"
	case Selected:
		return "7"
	case Editing:
		return "4"
	}
	return "" // Faint too: grey is hard to read on many consoles
}
