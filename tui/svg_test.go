package tui

import (
	"fmt"
	"html"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// pictured are the screens that the README and the documents show, by the name
// of their file.
func pictured() map[string]struct {
	scene    string
	language Language
} {
	type shown = struct {
		scene    string
		language Language
	}
	return map[string]shown{
		"find.svg":     {"step-02", English},
		"disks.svg":    {"step-06", English},
		"review.svg":   {"step-10", English},
		"run.svg":      {"attach", English},
		"held.svg":     {"attach-held", English},
		"run-ja.svg":   {"attach", Japanese},
		"disks-ja.svg": {"step-06", Japanese},
	}
}

// TestPicturesShowThePresentScreens holds docs/screens to what the code draws.
// make screens draws them anew.
func TestPicturesShowThePresentScreens(t *testing.T) {
	dir := filepath.Join("..", "docs", "screens")
	all := scenes()
	for file, p := range pictured() {
		got := svg(all[p.scene](p.language, 80, 24).View(), 80)
		path := filepath.Join(dir, file)
		if *update {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if string(want) != got {
			t.Errorf("%s shows an older screen; run make screens: %s", path, firstDifference(string(want), got))
		}
	}
	known := pictured()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if _, ok := known[e.Name()]; !ok {
			t.Errorf("%s belongs to no screen", e.Name())
		}
	}
}

// Size of a cell in pixels, and where the first one is.
const (
	cellWidth  = 9
	cellHeight = 19
	margin     = 12
)

// svg draws a picture as a terminal of cols columns shows it. Every piece of
// text is stretched to its cells, so that fonts with other widths align.
func svg(p Picture, cols int) string {
	var b strings.Builder
	w, h := cols*cellWidth+2*margin, len(p.Lines)*cellHeight+2*margin
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', 'Noto Sans Mono CJK JP', monospace" font-size="15">`+"\n", w, h, w, h)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" rx="8" fill="#12171d"/>`+"\n", w, h)
	for y, l := range p.Lines {
		x := 0
		for _, s := range l {
			drawSpan(&b, s, x, y)
			x += width(s.Text)
		}
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// drawSpan draws the words of a span one by one: blanks need no text.
func drawSpan(b *strings.Builder, s Span, x, y int) {
	fill, back, weight := svgStyle(s.Style)
	left, top := margin+x*cellWidth, margin+y*cellHeight
	if back != "" {
		fmt.Fprintf(b, `<rect x="%d" y="%d" width="%d" height="%d" fill="%s"/>`+"\n", left, top, width(s.Text)*cellWidth, cellHeight, back)
	}
	at := 0
	for _, word := range strings.SplitAfter(s.Text, " ") {
		text := strings.TrimRight(word, " ")
		if text != "" {
			fmt.Fprintf(b, `<text x="%d" y="%d" textLength="%d" lengthAdjust="spacingAndGlyphs" fill="%s"%s>%s</text>`+"\n",
				left+at*cellWidth, top+cellHeight-5, width(text)*cellWidth, fill, weight, html.EscapeString(text))
		}
		at += width(word)
	}
}

func svgStyle(s Style) (fill, back, weight string) {
	const bold = ` font-weight="bold"`
	switch s {
	case Title:
		return "#ffffff", "#1f4fa3", bold
	case Heading:
		return "#ffffff", "", bold
	case Good:
		return "#5fd787", "", ""
	case Warn:
		return "#ffd75f", "", ""
	case Bad:
		return "#ff6b6b", "", bold
	case Busy:
		return "#5fd7ff", "", ""
	case Selected:
		return "#12171d", "#d0d7de", ""
	case Editing:
		return "#ffffff", "#2d3743", ""
	}
	return "#d0d7de", "", ""
}
