package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	pageLink = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading  = regexp.MustCompile(`(?m)^#+\s+(.*)$`)
	unwanted = regexp.MustCompile(`[^\p{L}\p{N}_\- ]`)
	sourceIn = regexp.MustCompile("`((?:[a-z]+/)+[a-z_0-9]+\\.go)`")
	testIn   = regexp.MustCompile(`\bTest[A-Z]\w+`)
)

// anchors are the places of a page that a link may name, as GitHub makes them
// of headings.
func anchors(text string) map[string]bool {
	out := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(text, -1) {
		out[strings.ReplaceAll(strings.TrimSpace(unwanted.ReplaceAllString(strings.ToLower(m[1]), "")), " ", "-")] = true
	}
	return out
}

// sources is all Go code of the module as one text.
func sources(t *testing.T, root string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		text, err := os.ReadFile(path)
		b.Write(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestPagesLeadSomewhere follows the links of README and docs within the
// project, and looks for the files and tests that they name.
func TestPagesLeadSomewhere(t *testing.T) {
	const root = "../.."
	code := sources(t, root)
	var pages []string
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/*/*.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, found...)
	}
	links, named := 0, 0
	for _, page := range pages {
		b, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		text := string(b)
		for _, m := range pageLink.FindAllStringSubmatch(text, -1) {
			file, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(file, "://") {
				continue
			}
			links++
			to := page
			if file != "" {
				to = filepath.Join(filepath.Dir(page), file)
			}
			there, err := os.Stat(to)
			if err != nil {
				t.Errorf("%s: the link to %s leads nowhere", page, m[1])
				continue
			}
			if anchor == "" || there.IsDir() {
				continue
			}
			if b, err := os.ReadFile(to); err != nil || !anchors(string(b))[anchor] {
				t.Errorf("%s: %s has no heading for #%s", page, to, anchor)
			}
		}
		for _, m := range sourceIn.FindAllStringSubmatch(text, -1) {
			named++
			if _, err := os.Stat(filepath.Join(root, m[1])); err != nil {
				t.Errorf("%s names %s, which is not there", page, m[1])
			}
		}
		for _, name := range testIn.FindAllString(text, -1) {
			named++
			if !strings.Contains(code, "func "+name) { // or the beginning of several names
				t.Errorf("%s names %s: there is no such test", page, name)
			}
		}
	}
	if links < 80 || named < 60 {
		t.Errorf("only %d links and %d names were looked at", links, named)
	}
}
