package tui

import (
	"regexp"
	"strings"

	"metalrise.dev/fleet"
)

// The engine speaks English: codes, findings, reasons, notes and causes are made
// from fixed sentences with values in them. On other screens they are found by
// the sentence, whose verbs stand for any value, and written anew with the same
// values. What is not found, such as the words of a BMC, stays as it is.

// template is one sentence of the engine.
type template struct {
	english *regexp.Regexp // of the whole text; one group for each value
	other   string         // with $1, $2, … for the values
	values  []bool         // of each value: it is a text of the engine itself
}

// book holds the sentences of one language. It remembers what it translated,
// because the same texts are drawn again and again.
type book struct {
	fixed  map[string]string
	masks  []template
	known  map[string]string
	inside int // how deep sentences lie in each other now
}

// maxKnown bounds what a book remembers; then it begins anew.
const maxKnown = 5000

var verb = regexp.MustCompile(`%(?:\[(\d+)\])?[-+#.0-9]*[a-zA-Z]`)

// newBook makes a book of a table from English sentences, with the verbs of
// fmt, to those of another language. %v in the English one stands for a text of
// the engine that is translated too, every other verb for a value that stays.
func newBook(table map[string]string) *book {
	b := &book{fixed: map[string]string{}, known: map[string]string{}}
	var order []string
	for english, other := range table {
		if !verb.MatchString(english) {
			b.fixed[english] = other
			continue
		}
		order = append(order, english)
	}
	sortBySpecific(order)
	for _, english := range order {
		b.masks = append(b.masks, newTemplate(english, table[english]))
	}
	return b
}

func newTemplate(english, other string) template {
	var pattern strings.Builder
	var t template
	at := 0
	for _, m := range verb.FindAllStringIndex(english, -1) {
		pattern.WriteString(regexp.QuoteMeta(strings.ReplaceAll(english[at:m[0]], "%%", "%")))
		pattern.WriteString(groupOf(english[m[1]-1]))
		t.values = append(t.values, english[m[1]-1] == 'v')
		at = m[1]
	}
	pattern.WriteString(regexp.QuoteMeta(strings.ReplaceAll(english[at:], "%%", "%")))
	t.english = regexp.MustCompile(`(?s)^` + pattern.String() + `$`)
	t.other = other
	return t
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

// sortBySpecific puts sentences with more fixed letters first, so that the
// closest one is found. Equals go by alphabet.
func sortBySpecific(all []string) {
	fixed := func(s string) int { return len(verb.ReplaceAllString(s, "")) }
	for i := 1; i < len(all); i++ {
		for j := i; j > 0; j-- {
			x, y := fixed(all[j]), fixed(all[j-1])
			if x < y || x == y && all[j] >= all[j-1] {
				break
			}
			all[j], all[j-1] = all[j-1], all[j]
		}
	}
}

// find translates a text of the engine; false when its sentence is not known.
func (b *book) find(text string) (string, bool) {
	if s, ok := b.fixed[text]; ok {
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
		if m := t.english.FindStringSubmatch(text); m != nil {
			out := b.fill(t, m[1:])
			b.known[text] = out
			return out, true
		}
	}
	b.known[text] = text
	return text, false
}

// fill writes the values into the other language's sentence. %[n]s and, in
// order, %s stand for them there.
func (b *book) fill(t template, values []string) string {
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
			s, _ := b.find(values[n])
			return s
		}
		return values[n]
	}), "%%", "%")
}

// engineText translates a text of the engine.
func (w words) engineText(s string) string {
	if w.book == nil || s == "" {
		return s
	}
	if out, ok := w.book.find(s); ok {
		return out
	}
	for _, glue := range []string{"; ", ": "} { // several sentences in one text
		if first, rest, ok := strings.Cut(s, glue); ok {
			x, known := w.book.find(first)
			if y := w.engineText(rest); known || y != rest {
				return x + glue + y
			}
		}
	}
	return s
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
