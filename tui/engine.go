package tui

import (
	"cmp"
	"regexp"
	"slices"
	"strings"

	"metalrise.dev/fleet"
)

// The engine speaks English: codes, findings, reasons, notes and causes are made
// from fixed sentences with values in them. On other screens they are found by
// the sentence, whose verbs stand for any value, and written anew with the same
// values. What is not found, such as the words of a BMC, stays as it is.

// template is one sentence of the engine.
type template struct {
	english string
	other   string
	begin   string         // what stands before the first value
	end     string         // and after the last one
	fixed   int            // letters that are no values
	shape   *regexp.Regexp // of the whole text; one group for each value; nil until it is needed
	values  []bool         // of each value: it is a text of the engine itself
}

// book holds the sentences of one language. It remembers what it translated,
// because the same texts are drawn again and again.
type book struct {
	fixed  map[string]string
	words  map[string]string
	masks  []*template
	known  map[string]string
	inside int // how deep sentences lie in each other now
}

// maxKnown bounds what a book remembers; then it begins anew.
const maxKnown = 5000

var verb = regexp.MustCompile(`%(?:\[(\d+)\])?[-+#.0-9]*[a-zA-Z]`)

// newBook makes a book of a table from English sentences, with the verbs of
// fmt, to those of another language. %v in the English one stands for a text of
// the engine that is translated too, every other verb for a value that stays.
// words are those that the engine gives as values, such as actions and roles.
func newBook(table, words map[string]string) *book {
	b := &book{fixed: map[string]string{}, known: map[string]string{}, words: words}
	for english, other := range table {
		if at := verb.FindAllStringIndex(english, -1); at != nil {
			b.masks = append(b.masks, newTemplate(english, other, at))
		} else {
			b.fixed[english] = other
		}
	}
	// The closest sentence is to be found: those that begin with a value fit too
	// much and come last; else those with more fixed letters come first.
	slices.SortFunc(b.masks, func(x, y *template) int {
		return cmp.Or(cmp.Compare(x.late(), y.late()), cmp.Compare(y.fixed, x.fixed), strings.Compare(x.english, y.english))
	})
	return b
}

func newTemplate(english, other string, at [][]int) *template {
	plain := func(s string) string { return strings.ReplaceAll(s, "%%", "%") }
	t := &template{english: english, other: other, begin: plain(english[:at[0][0]]), end: plain(english[at[len(at)-1][1]:]), fixed: len(plain(english))}
	for _, m := range at {
		t.values = append(t.values, english[m[1]-1] == 'v')
		t.fixed -= m[1] - m[0]
	}
	return t
}

// late is 1 for a sentence that begins with a value.
func (t *template) late() int {
	if t.begin == "" {
		return 1
	}
	return 0
}

// match gives the values of a text of this sentence, nil of another one.
// Patterns are made when their sentence first comes into question: there are
// hundreds, and a session meets a few.
func (t *template) match(text string) []string {
	if len(text) < t.fixed || !strings.HasPrefix(text, t.begin) || !strings.HasSuffix(text, t.end) {
		return nil
	}
	if t.shape == nil {
		var pattern strings.Builder
		at := 0
		for _, m := range verb.FindAllStringIndex(t.english, -1) {
			pattern.WriteString(regexp.QuoteMeta(strings.ReplaceAll(t.english[at:m[0]], "%%", "%")))
			pattern.WriteString(groupOf(t.english[m[1]-1]))
			at = m[1]
		}
		t.shape = regexp.MustCompile(`(?s)^` + pattern.String() + regexp.QuoteMeta(t.end) + `$`)
	}
	m := t.shape.FindStringSubmatch(text)
	if m == nil {
		return nil
	}
	return m[1:]
}

// groupOf matches what a verb writes.
func groupOf(verb byte) string {
	switch verb {
	case 'd':
		return `(-?\d+)`
	case 'q':
		return `("(?:[^"\\]|\\.)*")`
	}
	return `(.*?)`
}

// find translates a text of the engine; false when its sentence is not known.
func (b *book) find(text string) (string, bool) {
	if s, ok := b.fixed[text]; ok {
		return s, true
	}
	if s, ok := b.words[text]; ok {
		return s, true
	}
	if s, ok := b.known[text]; ok {
		return s, s != text
	}
	if b.inside > 3 { // sentences in sentences end somewhere
		return text, false
	}
	if len(b.known) >= maxKnown {
		clear(b.known)
	}
	for _, t := range b.masks {
		if values := t.match(text); values != nil {
			out := b.fill(t, values)
			b.known[text] = out
			return out, true
		}
	}
	b.known[text] = text
	return text, false
}

// fill writes the values into the other language's sentence. %[n]s and, in
// order, %s stand for them there.
func (b *book) fill(t *template, values []string) string {
	b.inside++
	defer func() { b.inside-- }()
	next := 0
	return strings.ReplaceAll(verb.ReplaceAllStringFunc(t.other, func(v string) string {
		n := next
		if m := verb.FindStringSubmatch(v); m[1] != "" {
			n = int(m[1][0]-'0') - 1
		}
		next = n + 1
		if n >= len(values) {
			return v
		}
		if t.values[n] {
			return b.text(values[n])
		}
		return values[n]
	}), "%%", "%")
}

// text translates what may be several sentences in one text. What is not known
// stays.
func (b *book) text(s string) string {
	if out, ok := b.find(s); ok {
		return out
	}
	for _, glue := range []string{"; ", ": ", ", "} {
		first, rest, ok := strings.Cut(s, glue)
		if !ok {
			continue
		}
		x, known := b.find(first)
		if y := b.text(rest); known || y != rest {
			return x + glue + y
		}
	}
	return s
}

// engineText translates a text of the engine.
func (w words) engineText(s string) string {
	if w.book == nil || s == "" {
		return s
	}
	return w.book.text(s)
}

// causeText is a fault on one line.
func (w words) causeText(c *fleet.Cause) string {
	if w.book == nil {
		return causeText(c)
	}
	other := *c
	other.Chain = make([]string, len(c.Chain))
	for i, s := range c.Chain {
		other.Chain[i] = w.engineText(s)
	}
	return causeText(&other)
}

// page is what people should know of a code, in their language.
func (w words) page(c fleet.Code) fleet.CodePage {
	page, _ := fleet.Page(c)
	if other, ok := w.pages[c]; ok {
		return other
	}
	return page
}
