package tui

import (
	"fmt"

	"metalrise.dev/fleet"
)

// Language is one that screens can be shown in.
type Language string

const (
	English  Language = "en"
	Japanese Language = "ja"
)

// Languages lists all of them.
func Languages() []Language { return []Language{English, Japanese} }

// words gives the texts of one language. The English text is the key: what is
// read in the code is what is seen on the screen.
type words struct {
	language Language
	other    map[string]string // nil for English
	book     *book             // of the engine's sentences; nil for English
	pages    map[fleet.Code]fleet.CodePage
}

func newWords(l Language) words {
	if l == Japanese {
		other := japanese()
		return words{language: l, other: other, book: newBook(japaneseSentences(), other), pages: japanesePages()}
	}
	return words{language: English}
}

// t translates a text. One that is missing is shown in English; a test holds
// that none is.
func (w words) t(english string) string {
	if s, ok := w.other[english]; ok {
		return s
	}
	return english
}

// f translates a format and fills it in.
func (w words) f(english string, args ...any) string {
	return fmt.Sprintf(w.t(english), args...)
}

// say marks a text in a table that is translated where it is shown.
func say(english string) string { return english }

// gap is what stands between two sentences.
func (w words) gap() string {
	if w.language == Japanese {
		return ""
	}
	return " "
}
