package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"metalrise.dev/fleet"
)

// testRoot is the tree of commands, without anybody who types.
func testRoot() *cobra.Command {
	root := newRoot(&streams{in: strings.NewReader(""), out: io.Discard, errs: io.Discard, tty: io.Discard})
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	return root
}

// everyCommand calls do for each command that people see, with its words.
func everyCommand(c *cobra.Command, do func(words []string, c *cobra.Command)) {
	for _, sub := range c.Commands() {
		if sub.Hidden || sub.Name() == "help" || sub.Name() == "completion" {
			continue
		}
		do(strings.Fields(sub.CommandPath())[1:], sub)
		everyCommand(sub, do)
	}
}

// TestHelpOfEveryCommand wants an example and the exit codes in the help of each
// command that does something.
func TestHelpOfEveryCommand(t *testing.T) {
	n := 0
	everyCommand(testRoot(), func(words []string, c *cobra.Command) {
		if c.HasSubCommands() && c.Name() != "report" { // a group only lists
			return
		}
		n++
		if !strings.Contains(c.Long, exitHelp) {
			t.Errorf("%s: its help has no exit codes", c.CommandPath())
		}
		if !strings.Contains(c.Example, "metalrise "+strings.Join(words, " ")) {
			t.Errorf("%s: its help has no example of itself", c.CommandPath())
		}
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: its line is %q", c.CommandPath(), c.Short)
		}
	})
	if n < 50 {
		t.Errorf("only %d commands were looked at", n)
	}
}

// TestMistypedCommand wants exit code 2 wherever a word is no command: a script
// must not take the list of commands for a deed that succeeded.
func TestMistypedCommand(t *testing.T) {
	t.Chdir(t.TempDir())
	groups := [][]string{{}}
	everyCommand(testRoot(), func(words []string, c *cobra.Command) {
		if c.HasSubCommands() {
			groups = append(groups, words)
		}
	})
	if len(groups) < 9 {
		t.Fatalf("only %d groups: %v", len(groups), groups)
	}
	for _, words := range groups {
		if slices.Equal(words, []string{"report"}) { // it takes files itself
			continue
		}
		var out, errs bytes.Buffer
		code := run(t.Context(), append(slices.Clone(words), "remvoe"), strings.NewReader(""), &out, &errs)
		if code != exitUsage || !strings.Contains(errs.String(), "remvoe") || out.Len() > 0 {
			t.Errorf("metalrise %s remvoe: exit code %d, want %d; it wrote %.80q and %.80q", strings.Join(words, " "), code, exitUsage, out.String(), errs.String())
		}
		if len(words) == 0 {
			continue
		}
		out.Reset()
		if code := run(t.Context(), words, strings.NewReader(""), &out, &errs); code != exitOK || !strings.Contains(out.String(), "Available Commands") {
			t.Errorf("metalrise %s: exit code %d, want the list of commands, got %.80q", strings.Join(words, " "), code, out.String())
		}
	}
}

var (
	fenced = regexp.MustCompile("(?s)```.*?```")
	inline = regexp.MustCompile("`[^`\n]+`")
	typed  = regexp.MustCompile(`(?:^|bin/|[\s$("` + "`" + `])metalrise ((?:[^\n` + "`" + `;|&#)"]|\\\n)+)`)
	// word is what a command or a flag can look like; anything else is an argument.
	word = regexp.MustCompile(`^[a-z][a-z-]*$`)
)

// mentions gives the words after each "metalrise " of a text of code.
func mentions(text string) [][]string {
	var out [][]string
	for _, m := range typed.FindAllStringSubmatch(text, -1) {
		out = append(out, strings.Fields(strings.ReplaceAll(m[1], "\\\n", " ")))
	}
	return out
}

// unknownWord gives the first word that is no command or flag, "" when all are.
// In prose a first word that is no command is no mistake.
func unknownWord(root *cobra.Command, words []string, prose bool) string {
	c := root
	for i, w := range words {
		w = strings.TrimRight(strings.Trim(w, "[]'"), ".,:…")
		switch {
		case i > 1 && words[0] == "cluster" && words[1] == "kubectl": // what follows is kubectl's
			return ""
		case strings.HasPrefix(w, "-"):
			name, _, _ := strings.Cut(strings.TrimLeft(w, "-"), "=")
			if name == "" || name == "help" || name == "h" || name == "version" {
				continue
			}
			short := len(name) == 1 && !strings.HasPrefix(w, "--")
			known := c.Flags().Lookup(name) != nil || c.InheritedFlags().Lookup(name) != nil || c.PersistentFlags().Lookup(name) != nil
			if short {
				known = c.Flags().ShorthandLookup(name) != nil || c.InheritedFlags().ShorthandLookup(name) != nil || c.PersistentFlags().ShorthandLookup(name) != nil
			}
			if !known {
				return w
			}
		case c.HasSubCommands():
			next, _, err := c.Find([]string{w})
			if err == nil && next != c {
				c = next
				continue
			}
			if word.MatchString(w) && c.Name() != "report" && !(prose && i == 0) && (i == 0 || !strings.HasPrefix(words[i-1], "-")) {
				return w
			}
			if prose {
				return ""
			}
		}
	}
	return ""
}

// TestPagesNameWhatIsThere holds every command and flag that README, docs, help
// and the pages of codes show against the program.
func TestPagesNameWhatIsThere(t *testing.T) {
	root := testRoot()
	looked := 0
	check := func(where, text string, prose bool) {
		for _, words := range mentions(text) {
			looked++
			if bad := unknownWord(root, words, prose); bad != "" {
				t.Errorf("%s: metalrise %s: there is no %s", where, strings.Join(words, " "), bad)
			}
		}
	}
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(pages) < 15 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	more, _ := filepath.Glob("../../docs/*/*.md")
	for _, page := range append(append(pages, more...), "../../README.md", "../../CONTRIBUTING.md") {
		b, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		text := string(b)
		for _, block := range fenced.FindAllString(text, -1) {
			check(page, block, true) // beside commands there are drawings and output
		}
		for _, span := range inline.FindAllString(fenced.ReplaceAllString(text, ""), -1) {
			check(page, span, false)
		}
	}
	everyCommand(root, func(_ []string, c *cobra.Command) {
		check("help of "+c.CommandPath(), c.Example, false)
		check("help of "+c.CommandPath(), c.Long, true)
	})
	for _, p := range fleet.CodePages() {
		check("page of "+string(p.Code), p.Why+"\n"+p.Remedy, true)
	}
	if looked < 200 {
		t.Errorf("only %d mentions were looked at", looked)
	}
}
