package tui

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"metalrise.dev/fleet"
)

var update = flag.Bool("update", false, "write the golden files anew")

// scenes are all screens, each as a person gets there.
func scenes() map[string]func(l Language, w, h int) *App {
	wizard := func(l Language, w, h int, keys ...string) *App {
		s := sampleSheet(5)
		a := sized(Options{Language: l, Sheet: &s}, w, h)
		press(a, keys...)
		return a
	}
	attach := func(l Language, w, h int, run Watched, keys ...string) *App {
		a := sized(Options{Language: l, Attach: true}, w, h)
		a.Step(at(Input{Watched: &run}))
		press(a, keys...)
		return a
	}
	type made = func(Language, int, int) *App
	out := map[string]made{
		"fresh": func(l Language, w, h int) *App {
			a := sized(Options{Language: l}, w, h)
			a.Step(at(Input{Done: &Done{Do: DoLoad, Sheet: &Sheet{Path: "site.yaml", Revision: 1}}}))
			return a
		},
		"help":     func(l Language, w, h int) *App { return wizard(l, w, h, "esc", "down", "enter", "?") },
		"problems": func(l Language, w, h int) *App { return wizard(l, w, h, "f2") },
		"quit":     func(l Language, w, h int) *App { return wizard(l, w, h, "ctrl+c") },
		"card": func(l Language, w, h int) *App {
			return wizard(l, w, h, "esc", "down", "down", "enter", "down", "down", "enter")
		},
		"editing": func(l Language, w, h int) *App {
			a := wizard(l, w, h, "esc", "down", "enter")
			typeText(a, "10.0.9.11, 大阪.example")
			return a
		},
		"refused": func(l Language, w, h int) *App {
			a := wizard(l, w, h, "esc", "down", "down", "down", "down", "enter", "down", "down", "down", "down")
			typeText(a, "many")
			press(a, "enter")
			return a
		},
		"found": func(l Language, w, h int) *App {
			s := sampleSheet(5)
			s.Typed.Image, s.Offers = "image", map[string]string{"image": "release", "cluster.software": "software"}
			a := sized(Options{Language: l, Sheet: &s}, w, h)
			press(a, "esc", "down", "down", "down", "down", "down", "down", "down", "enter")
			return a
		},
		"more-settings": func(l Language, w, h int) *App {
			a := wizard(l, w, h, "esc", "down", "down", "down", "down", "enter")
			a.hub.cursor[stepNetwork] = len(a.hub.items()) - 1
			press(a, "enter")
			return a
		},
		"platform": func(l Language, w, h int) *App { return platformScene(l, w, h, stepSoftware) },
		"platform-card": func(l Language, w, h int) *App {
			a := platformScene(l, w, h, stepSoftware)
			a.hub.cursor[stepSoftware] = len(a.hub.items()) - 1
			press(a, "enter")
			return a
		},
		"platform-room": func(l Language, w, h int) *App { return platformScene(l, w, h, stepVirt) },
		"small":         func(l Language, _, _ int) *App { return wizard(l, 40, 10) },
		"attach":        func(l Language, w, h int) *App { return attach(l, w, h, sampleRun(5)) },
		"attach-many":   func(l Language, w, h int) *App { return attach(l, w, h, sampleRun(1000), "pgdown", "pgdown") },
		"attach-held":   func(l Language, w, h int) *App { return attach(l, w, h, sampleRun(5), "h", "enter") },
		"attach-log":    func(l Language, w, h int) *App { return attach(l, w, h, sampleRun(5), "l") },
		"attach-help":   func(l Language, w, h int) *App { return attach(l, w, h, sampleRun(5), "?") },
		"run-cluster":   func(l Language, w, h int) *App { return attach(l, w, h, sampleCluster(5)) },
		"run-checks":    func(l Language, w, h int) *App { return attach(l, w, h, sampleCluster(5), "down", "enter") },
		"run-route":     func(l Language, w, h int) *App { return attach(l, w, h, sampleRun(5), "down", "b") },
		"run-boot":      func(l Language, w, h int) *App { return attach(l, w, h, sampleCluster(5), "b") },
		"run-console": func(l Language, w, h int) *App {
			a := onRun(l, w, h, sampleCluster(5))
			press(a, "o")
			return a
		},
		"run-filter": func(l Language, w, h int) *App {
			a := attach(l, w, h, sampleRun(5), "l", "/")
			typeText(a, "SN00002")
			return a
		},
		"run-engine-log": func(l Language, w, h int) *App {
			a := attach(l, w, h, sampleRun(5), "l", "w")
			a.Step(at(Input{Done: &Done{Do: DoLog, Lines: []string{"time=12:00 level=INFO msg=\"engine ready\" port=8443"}}}))
			return a
		},
		"run-change": func(l Language, w, h int) *App {
			a := onRun(l, w, h, heldBy(fleet.CodeDiskChanged))
			press(a, "h", "c")
			return a
		},
		"run-change-password": func(l Language, w, h int) *App {
			a := onRun(l, w, h, heldBy(fleet.CodeBMCLoginRefused))
			press(a, "h", "c", "enter")
			typeText(a, "hunter2")
			return a
		},
		"run-consent": func(l Language, w, h int) *App {
			a, _ := changedDisk(l, w, h)
			return a
		},
		"run-fault": func(l Language, w, h int) *App {
			a := attach(l, w, h, sampleRun(5), "h", "r")
			a.Step(at(Input{Done: &Done{Do: DoRetry, Err: &fleet.Cause{Code: fleet.CodeImageMissing, Kind: fleet.Invalid,
				Chain: []string{"start engine", "load image /srv/releases/image: stat /srv/releases/image: no such file or directory"}}}}))
			return a
		},
		"run-exclude": func(l Language, w, h int) *App {
			a := onRun(l, w, h, sampleCluster(5))
			press(a, "down", "down", "x")
			return a
		},
		"hand-off-cluster": func(l Language, w, h int) *App {
			a := onRun(l, w, h, readyCluster(5))
			a.hub.go_(stepHandOff)
			return a
		},
		"run-platform": func(l Language, w, h int) *App { return attach(l, w, h, provenCluster(5, true)) },
		"hand-off-platform": func(l Language, w, h int) *App {
			a := onRun(l, w, h, provenCluster(5, false))
			a.hub.go_(stepHandOff)
			return a
		},
		"hand-off-platform-held": func(l Language, w, h int) *App {
			a := onRun(l, w, h, provenCluster(5, true))
			a.hub.go_(stepHandOff)
			return a
		},
		"hand-off-commands": func(l Language, w, h int) *App {
			a := onRun(l, w, h, readyCluster(5))
			a.hub.go_(stepHandOff)
			press(a, "enter")
			return a
		},
		"attach-no-engine": func(l Language, w, h int) *App {
			run := sampleRun(5)
			run.Overview.Engine = false
			return attach(l, w, h, run)
		},
		"attach-nothing": func(l Language, w, h int) *App {
			return attach(l, w, h, Watched{Overview: fleet.Overview{Quiet: true}})
		},
	}
	for s := stepWelcome; s <= stepHandOff; s++ {
		out[fmt.Sprintf("step-%02d", int(s)+1)] = func(l Language, w, h int) *App {
			a := wizard(l, w, h, "esc")
			for range s {
				press(a, "down")
			}
			if s >= stepRun {
				run := sampleRun(5)
				a.Step(at(Input{Watched: &run}))
			}
			press(a, "enter")
			return a
		}
	}
	return out
}

func TestGoldenScreens(t *testing.T) {
	for name, make := range scenes() {
		var b strings.Builder
		for _, l := range Languages() {
			for _, size := range []Size{{80, 24}, {120, 40}} {
				a := make(l, size.Width, size.Height)
				p := a.View()
				checkPicture(t, name, a, p)
				fmt.Fprintf(&b, "=== %s %dx%d\n%s", l, size.Width, size.Height, p.Text())
				fmt.Fprintf(&b, "=== %s %dx%d colour\n%s\n", l, size.Width, size.Height, strings.ReplaceAll(Look{Colour: true, Attributes: true, Unicode: true}.Paint(p), "\x1b", "␛"))
			}
			p := make(l, 80, 24).View()
			if l == English {
				ascii := Look{Attributes: true}.Paint(p)
				for _, r := range ascii {
					if r > 0x7e && name != "editing" {
						t.Errorf("%s: %q on an ASCII terminal", name, r)
					}
				}
				fmt.Fprintf(&b, "=== vt100\n%s\n", strings.ReplaceAll(ascii, "\x1b", "␛"))
			}
		}
		path := filepath.Join("testdata", name+".golden")
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
			t.Errorf("%s differs from %s:\n%s", name, path, firstDifference(string(want), b.String()))
		}
	}
}

func firstDifference(want, got string) string {
	x, y := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return fmt.Sprintf("line %d\nwant %s\ngot  %s", i+1, x[i], y[i])
		}
	}
	return fmt.Sprintf("want %d lines, got %d", len(x), len(y))
}

// checkPicture holds that a picture fills the terminal exactly.
func checkPicture(t *testing.T, name string, a *App, p Picture) {
	t.Helper()
	if a.width < minWidth || a.height < minHeight {
		if len(p.Lines) > a.height {
			t.Fatalf("%s: %d lines on %d", name, len(p.Lines), a.height)
		}
		return
	}
	if len(p.Lines) != a.height {
		t.Fatalf("%s: %d lines on a terminal of %d", name, len(p.Lines), a.height)
	}
	for i, l := range p.Lines {
		n := 0
		for _, s := range l {
			n += width(s.Text)
		}
		if n != a.width {
			t.Fatalf("%s: line %d is %d cells wide, the terminal %d: %v", name, i, n, a.width, l)
		}
	}
	if c := p.Cursor; c != nil && (c.X < 0 || c.X >= a.width || c.Y < 0 || c.Y >= a.height) {
		t.Fatalf("%s: cursor at %v", name, *c)
	}
}

// TestKeysAreShownWhole holds that no hint of a key is cut off at 80 columns.
func TestKeysAreShownWhole(t *testing.T) {
	for name, make := range scenes() {
		for _, l := range Languages() {
			if name == "small" {
				continue
			}
			lines := strings.Split(strings.TrimRight(make(l, 80, 24).View().Text(), "\n"), "\n")
			if last := lines[len(lines)-1]; strings.Contains(last, "…") {
				t.Errorf("%s in %s: %q", name, l, last)
			}
		}
	}
}
