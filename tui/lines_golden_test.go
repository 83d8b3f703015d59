package tui

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestGoldenLines keeps what is told on every step, in every language.
func TestGoldenLines(t *testing.T) {
	for _, l := range Languages() {
		var b strings.Builder
		k := newTalk(t, l, sampleSheet(5))
		tell := func(title string) { fmt.Fprintf(&b, "=== %s\n%s\n", title, k.a.Said()) }
		tell("begin")
		for s := range stepHandOff + 1 {
			k.goes(s)
			tell(fmt.Sprint("step ", int(s)+1))
			if s == stepRun {
				run := sampleRun(5)
				run.Overview.At = k.now
				k.step(Input{Watched: &run})
				tell("run")
				k.says("?")
				tell("run help")
				k.says("2")
				tell("held")
			}
		}
		k.goes(stepFind)
		for _, line := range []string{"?", "p", "3", "?", "", "s", "", "q", ""} {
			k.says(line)
			tell("answer " + line)
		}
		path := filepath.Join("testdata", "lines-"+string(l)+".golden")
		if *update {
			if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if string(want) != b.String() {
			t.Errorf("differs from %s: %s", path, firstDifference(string(want), b.String()))
		}
	}
}

// TestLinesOnAnASCIITerminal holds that every mark has an ASCII one.
func TestLinesOnAnASCIITerminal(t *testing.T) {
	k := newTalk(t, English, sampleSheet(5))
	for s := range stepHandOff + 1 {
		k.goes(s)
		for _, r := range plainMarks(k.a.Said()) {
			if r > 0x7e {
				t.Errorf("step %d: %q", s+1, r)
			}
		}
	}
}
