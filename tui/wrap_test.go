package tui

import (
	"slices"
	"strings"
	"testing"
)

func TestWrap(t *testing.T) {
	for _, c := range []struct {
		text string
		w    int
		want []string
	}{
		{"one two three", 7, []string{"one two", "three"}},
		{"  indented text", 10, []string{"  indented", "text"}},
		{"osaka-cp2 を計画から除外、します。", 14, []string{"osaka-cp2 を計", "画から除外、し", "ます。"}},
		{"ああああ。い", 8, []string{"あああ", "あ。い"}},
		{"abcdefghij", 4, []string{"abcd", "efgh", "ij"}},
		{"", 5, []string{""}},
		{"a  b", 3, []string{"a", "b"}},
	} {
		if got := wrap(c.text, c.w); !slices.Equal(got, c.want) {
			t.Errorf("%q in %d: %q, want %q", c.text, c.w, got, c.want)
		}
	}
	for _, s := range []string{"👩‍👩‍👧 大阪 e\u0301 日本語ABC、", strings.Repeat("、", 40), "日" + strings.Repeat("x", 50)} {
		for w := 2; w < 20; w++ {
			for _, l := range wrap(s, w) {
				if width(l) > w && len([]rune(l)) > 2 {
					t.Errorf("%q in %d: %q is %d wide", s, w, l, width(l))
				}
			}
		}
	}
}
