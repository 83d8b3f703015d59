package tui

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"metalrise.dev/fleet"
)

var colours = regexp.MustCompile("\x1b\\[[0-9;]*(3[0-9]|4[0-9]|9[0-9]|10[0-7])m")

// TestEachTerminalGetsOnlyWhatItHas runs the program as each kind of terminal
// has it: colours only with colour, letters beyond ASCII only in UTF-8, and
// nothing beyond a VT100 where TERM names an old one.
func TestEachTerminalGetsOnlyWhatItHas(t *testing.T) {
	cases := []struct {
		env                string
		colour, ascii, old bool
	}{
		{"TERM=vt100", false, true, true},
		{"TERM=vt220 LANG=en_US.UTF-8", false, true, true},
		{"TERM=linux LANG=C.UTF-8", true, false, true},
		{"TERM=linux NO_COLOR=1 LANG=C", false, true, true},
		{"TERM=ansi", true, true, true},
		{"TERM=xterm-256color LANG=C.UTF-8", true, false, false},
		{"TERM=xterm-256color NO_COLOR=1 LANG=C.UTF-8", false, false, false},
		{"TERM=screen LC_ALL=C", true, true, false},
	}
	for _, c := range cases {
		get := func(name string) string {
			for _, kv := range strings.Fields(c.env) {
				if v, ok := strings.CutPrefix(kv, name+"="); ok {
					return v
				}
			}
			return ""
		}
		s := openScreen(t, 80, 24, Detect(get), Options{Attach: true}, &fakeRun{view: sampleRun(5).Overview})
		s.await("osaka-w5")
		raw := string(s.sent())
		if got := colours.MatchString(raw); got != c.colour {
			t.Errorf("%s: colours %v: %q", c.env, got, raw)
		}
		if c.old != vt100Only.MatchString(plainMarks(raw)) {
			t.Errorf("%s: old %v: %q", c.env, c.old, raw)
		}
		if got := !strings.ContainsFunc(raw, func(r rune) bool { return r > 0x7e }); got != c.ascii {
			t.Errorf("%s: ASCII only is %v", c.env, got)
		}
	}
}

// TestNoPopUpTakesAKeyAtOnce holds it for every pop-up of the screens.
func TestNoPopUpTakesAKeyAtOnce(t *testing.T) {
	seen := 0
	for name, make := range scenes() {
		a := make(English, 80, 24)
		if a.popup == nil {
			continue
		}
		seen++
		if a.popup.opened != noon {
			t.Errorf("%s: opened at %v", name, a.popup.opened)
		}
		for _, k := range []string{"enter", "esc", "y", "n", "q", "?", "f2", "ctrl+c"} {
			if acts := press(a, k); len(acts) != 0 || a.popup == nil {
				t.Errorf("%s takes %s at once: %+v", name, k, acts)
				break
			}
		}
		a.Step(Input{At: noon.Add(grace), Key: "esc"})
		if a.popup != nil {
			t.Errorf("%s does not close after half a second", name)
		}
	}
	if seen < 4 {
		t.Errorf("only %d pop-ups were seen", seen)
	}
}

// TestProblemsLeadToTheirField jumps from every problem that is about a field to
// that field.
func TestProblemsLeadToTheirField(t *testing.T) {
	for s := stepFind; s < stepChecks; s++ {
		for _, f := range fields(s) {
			sheet := sampleSheet(5)
			sheet.Findings = []fleet.Finding{{Code: fleet.CodeSiteInvalid, Severity: fleet.Blocker, Path: f.path, Text: "wrong", Remedy: "Change it."}}
			a := sized(Options{Sheet: &sheet}, 80, 24)
			press(a, "f2")
			a.Step(Input{At: noon.Add(time.Second), Key: "enter"})
			if it, ok := a.hub.current(); !ok || it.field == nil || it.field.path != f.path || a.hub.step != s {
				t.Errorf("%s: leads to step %d, %+v", f.path, a.hub.step, it)
			}
		}
	}
}

// TestEveryKeyHasAHint presses every key on every step of the wizard: one that
// changes the screen is named in the last line or in the help.
func TestEveryKeyHasAHint(t *testing.T) {
	names := map[string][]string{"up": {"↑"}, "down": {"↓"}, "left": {"←"}, "right": {"→"}, "enter": {"Enter"}, "esc": {"Esc"}, "tab": {"Tab"}, "shift+tab": {"Shift-Tab", "Tab"},
		"pgup": {"PgUp"}, "pgdown": {"PgDn"}, "home": {"Home"}, "end": {"End"}, "backspace": {"Backspace"}, "delete": {"Del"}, "ctrl+u": {"Ctrl-U"}, "ctrl+a": {"Ctrl-A"},
		"ctrl+e": {"Ctrl-E"}, "ctrl+c": {"Ctrl-C"}, "f1": {"F1"}, "f2": {"F2"}, "f5": {"F5"}, "f8": {"F8"}, "f9": {"F9"}, "f10": {"F10"}, " ": {"Space"}, "?": {"?"}}
	for _, r := range "abcdefghijklmnopqrstuvwxyz/" {
		names[string(r)] = []string{string(r) + ":", string(r) + " ", string(r) + ",", " " + string(r)}
	}
	for scene, make := range scenes() {
		if scene == "small" {
			continue
		}
		for k, want := range names {
			a := make(English, 80, 24)
			if a.popup != nil || a.typingText() || a.onRun() {
				continue
			}
			before := a.View().Text()
			hint := lastLine(before)
			in := keyOf(k)
			in.At = noon
			acts := a.Step(in)
			if a.View().Text() == before && len(acts) == 0 {
				continue // it does nothing here
			}
			if it, ok := a.hub.current(); !a.onRun() && ok && it.field != nil && a.typingText() {
				continue // the letter began a value
			}
			b := make(English, 80, 24)
			help := ""
			for _, l := range b.help().body {
				help += " " + plainLine(l)
			}
			if !slices.ContainsFunc(want, func(s string) bool { return strings.Contains(hint+help, s) }) {
				t.Errorf("%s: %q does something, and no hint says so:\n%s", scene, k, hint)
			}
		}
	}
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return lines[len(lines)-1]
}
