package tui

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"metalrise.dev/fleet"
)

// TestRetryOfThePlatform: r asks for the VM platform where no server is held.
func TestRetryOfThePlatform(t *testing.T) {
	a := onRun(English, 80, 24, provenCluster(5, true))
	if acts := press(a, "r"); len(acts) != 1 || acts[0].Do != DoRetry || acts[0].Server != "" {
		t.Errorf("asked for %+v", acts)
	}
	a = onRun(English, 80, 24, provenCluster(5, false))
	if acts := press(a, "r"); len(acts) != 0 {
		t.Errorf("a platform that is done is tried again: %+v", acts)
	}
}

func TestStartNeedsTheTypedNumber(t *testing.T) {
	s := sampleSheet(5)
	a := New(Options{Sheet: &s})
	a.hub.go_(stepReview)
	press(a, "down")
	if acts := press(a, "enter"); len(acts) != 0 {
		t.Fatalf("started without consent: %+v", acts)
	}
	press(a, "up", "4", "enter")
	if acts := press(a, "down", "enter"); len(acts) != 0 {
		t.Fatalf("started with the wrong number: %+v", acts)
	}
	press(a, "up", "ctrl+u", "5", "enter")
	a.hub.cursor[stepReview] = 0
	press(a, "enter", "ctrl+u", "5", "enter")
	if acts := press(a, "enter"); len(acts) != 0 {
		t.Fatalf("an Enter at the same moment started it: %+v", acts)
	}
	acts := a.Step(Input{At: noon.Add(time.Second), Key: "enter"})
	if len(acts) != 1 || acts[0].Do != DoApply || acts[0].Disks != 5 || acts[0].Plan != s.Plan.ID {
		t.Fatalf("actions %+v\n%s", acts, a.View().Text())
	}
	if again := press(a, "enter"); len(again) != 0 {
		t.Fatalf("started twice: %+v", again)
	}
}

func TestAnotherPlanNeedsAnotherConsent(t *testing.T) {
	s := sampleSheet(5)
	a := New(Options{Sheet: &s})
	a.hub.go_(stepReview)
	press(a, "5", "enter")
	other := sampleSheet(5)
	other.Plan.ID, other.Revision = "ffff", 2
	a.Step(at(Input{Done: &Done{Do: DoSet, Sheet: &other}}))
	if acts := press(a, "enter"); len(acts) != 0 {
		t.Fatalf("the consent for %s was used for another plan: %+v", s.Plan.ID, acts)
	}
}

func TestBlockersStopTheStart(t *testing.T) {
	s := sampleSheet(5)
	s.Plan.Findings = append(s.Plan.Findings, fleet.Finding{Code: fleet.CodeNoNIC, Severity: fleet.Blocker, Path: "network", Text: "no port"})
	a := New(Options{Sheet: &s})
	a.hub.go_(stepReview)
	press(a, "5", "enter")
	if acts := press(a, "enter"); len(acts) != 0 || !strings.Contains(a.View().Text(), "1 blockers") {
		t.Fatalf("actions %+v\n%s", acts, a.View().Text())
	}
}

func TestLeavingAFieldLosesNothing(t *testing.T) {
	s := sampleSheet(5)
	a := New(Options{Sheet: &s})
	a.hub.go_(stepNetwork)
	press(a, "enter", "ctrl+u")
	typeText(a, "10.9.9.1")
	press(a, "esc", "esc", "down", "enter") // out, to another step and in
	a.hub.go_(stepNetwork)
	if text := a.View().Text(); !strings.Contains(text, "10.9.9.1 ") || !strings.Contains(text, "not saved") {
		t.Fatalf("the draft is lost:\n%s", text)
	}
	acts := press(a, "enter", "enter")
	if len(acts) != 1 || acts[0].Path != "network.firstAddress" || acts[0].Value != "10.9.9.1" {
		t.Fatalf("actions %+v", acts)
	}
	why := &fleet.Cause{Code: fleet.CodeSiteInvalid, Chain: []string{"prefix length is missing"}}
	a.Step(at(Input{Done: &Done{Do: DoSet, Path: "network.firstAddress", Err: why}}))
	if text := a.View().Text(); !strings.Contains(text, "prefix length is missing") || !strings.Contains(text, "10.9.9.1 ") {
		t.Fatalf("a refused value or its reason is lost:\n%s", text)
	}
}

func TestQuestionTakesNoKeyForHalfASecond(t *testing.T) {
	a := sized(Options{Attach: true}, 80, 24)
	press(a, "ctrl+c")
	if acts := press(a, "y"); len(acts) != 0 {
		t.Fatal("a key that was under way answered the question")
	}
	acts := a.Step(Input{At: noon.Add(time.Second), Text: "y"})
	if len(acts) != 1 || acts[0].Do != DoQuit {
		t.Fatalf("actions %+v", acts)
	}
}

func TestEngineGoneIsSaidAndComesBack(t *testing.T) {
	a := sized(Options{Attach: true}, 80, 24)
	run := sampleRun(5)
	a.Step(at(Input{Watched: &run}))
	gone := sampleRun(5)
	gone.Overview.Engine, gone.Events = false, nil
	acts := a.Step(at(Input{Watched: &gone}))
	if len(acts) != 1 || acts[0].Do != DoWatch || acts[0].After != a.run.after {
		t.Fatalf("it stopped looking: %+v", acts)
	}
	if !strings.Contains(a.View().Text(), "the engine is not running") {
		t.Fatalf("not said:\n%s", a.View().Text())
	}
	if acts := press(a, "e"); len(acts) != 1 || acts[0].Do != DoEngine {
		t.Fatalf("actions %+v", acts)
	}
	back := run
	back.Events = nil
	a.Step(at(Input{Watched: &back}))
	if !strings.Contains(a.View().Text(), "gone 1 times and runs again") {
		t.Fatalf("not said:\n%s", a.View().Text())
	}
}

func TestOnlyHeldServersAreRetried(t *testing.T) {
	a := sized(Options{Attach: true}, 80, 24)
	run := sampleRun(5)
	a.Step(at(Input{Watched: &run}))
	if acts := press(a, "r"); len(acts) != 0 {
		t.Fatalf("actions %+v", acts)
	}
	press(a, "h")
	if acts := press(a, "r"); len(acts) != 1 || acts[0].Do != DoRetry || acts[0].Server != "SN00002" {
		t.Fatalf("actions %+v", acts)
	}
}

func TestDetect(t *testing.T) {
	cases := map[string]Look{
		"TERM=xterm-256color LANG=C.UTF-8":       {Colour: true, Attributes: true, Unicode: true},
		"TERM=xterm LANG=C NO_COLOR=1":           {Attributes: true},
		"TERM=vt100 LANG=en_US.UTF-8":            {Attributes: true, Old: true},
		"TERM=vt220":                             {Attributes: true, Old: true},
		"TERM=linux LANG=ja_JP.UTF-8":            {Colour: true, Attributes: true, Unicode: true, Old: true},
		"TERM=dumb LANG=C.UTF-8":                 {Old: true},
		"":                                       {Old: true},
		"TERM=screen LC_ALL=C LANG=ja_JP.UTF-8":  {Colour: true, Attributes: true},
		"TERM=tmux-256color LC_CTYPE=ja_JP.utf8": {Colour: true, Attributes: true, Unicode: true},
	}
	for env, want := range cases {
		get := func(name string) string {
			for _, kv := range strings.Fields(env) {
				if v, ok := strings.CutPrefix(kv, name+"="); ok {
					return v
				}
			}
			return ""
		}
		k := Detect(get)
		if k != want {
			t.Errorf("%q: %+v, want %+v", env, k, want)
		}
		if DetectLanguage(get, k) == Japanese && k.Old {
			t.Errorf("%q: Japanese on a terminal without its letters", env)
		}
	}
}

func TestSieve(t *testing.T) {
	in := "a\x1b[?2026$p\x1b[?2027$p\x1b[>4;2m\x1b[=1;1u\x1b[?u\x1b[?1049h\x1b[?2004hb\x1b[2;5Hc\x1b[1mX\x1b[m\x1b]0;title\x07\x1b]2;t\x1b\\\x1bP+q\x1b\\\x1b[?25l\x1b[3X\x1b[K\x1b7\x1b[4 qz"
	want := "ab\x1b[2;5Hc\x1b[1mX\x1b[m\x1b[?25l\x1b[K\x1b7z"
	for cut := 1; cut < 7; cut++ { // sequences may be split anywhere
		var out bytes.Buffer
		s := &sieve{out: &out}
		for rest := in; rest != ""; {
			n := min(cut, len(rest))
			if _, err := s.Write([]byte(rest[:n])); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if out.String() != want {
			t.Fatalf("pieces of %d: %q, want %q", cut, out.String(), want)
		}
	}
}

// TestRouteOfTheNextAttemptIsChosen picks a way to boot for a held server; what
// the engine cannot serve is passed over, and only a held server has a choice.
func TestRouteOfTheNextAttemptIsChosen(t *testing.T) {
	run := sampleRun(5)
	a := sized(Options{Attach: true}, 80, 24)
	a.Step(at(Input{Watched: &run}))
	press(a, "down", "b")
	later := func(key string) []Action { return a.Step(Input{At: noon.Add(time.Second), Key: key}) }
	text := a.View().Text()
	for _, want := range []string{"cannot be taken: media are not served without TLS", "used by this attempt", "left: ", "nobody asked for its medium", "metalrise retry osaka-w2 --route"} {
		if !strings.Contains(strings.Join(strings.Fields(text), " "), want) {
			t.Errorf("%q is not shown:\n%s", want, text)
		}
	}
	later("down") // from virtual media past the one that is not served
	later("down")
	if acts := later("enter"); len(acts) != 1 || acts[0].Do != DoRetry || acts[0].Server != "SN00002" || acts[0].Route != fleet.PXE {
		t.Errorf("actions %+v", acts)
	}
	press(a, "up", "b")
	if a.popup == nil || a.popup.picks != nil {
		t.Error("a server that is not held has a choice")
	}
}

// TestForeignDiskIsGivenUpByItsSerial types the serial of a disk with another
// owner's data on the Disks step; anything else is refused, on screens and lines.
func TestForeignDiskIsGivenUpByItsSerial(t *testing.T) {
	sheet := sampleSheet(5)
	sheet.Plan.Findings = append(sheet.Plan.Findings, fleet.Finding{Code: fleet.CodeDiskForeign, Severity: fleet.Blocker, Server: "SN00002", Path: "servers[1].eraseForeign",
		Text: "serial D2-A was installed by site \"old\"", Remedy: "If its data may go, set eraseForeign to the disk's serial under servers; else name another disk."})
	for _, l := range Languages() {
		a := sized(Options{Language: l, Sheet: &sheet}, 80, 24)
		press(a, "f2")
		a.Step(Input{At: noon.Add(time.Second), Key: "enter"}) // leads to the field
		it, ok := a.hub.current()
		if !ok || it.field == nil || it.field.server != "SN00002" || a.hub.step != stepDisks {
			t.Fatalf("F2 leads to step %d, %+v", a.hub.step, it)
		}
		typeText(a, "D1-A")
		if acts := press(a, "enter"); len(acts) != 0 || !strings.Contains(a.View().Text(), "D2-A") {
			t.Errorf("another disk's serial: %+v\n%s", acts, a.View().Text())
		}
		press(a, "enter", "ctrl+u")
		typeText(a, "D2-A")
		acts := press(a, "enter")
		if len(acts) != 1 || acts[0].Do != DoOverride || acts[0].Server != "SN00002" || acts[0].Path != "eraseForeign" || acts[0].Value != "D2-A" {
			t.Errorf("actions %+v\n%s", acts, a.View().Text())
		}
	}
	k := newTalk(t, English, sheet)
	k.goes(stepDisks)
	k.hears("osaka-cp2: serial: empty. Blocker: ")
	n := slices.IndexFunc(k.a.hub.items(), func(it item) bool { return it.field != nil && it.field.server != "" })
	k.says(strconv.Itoa(n + 1))
	k.says("D1-A")
	k.hears("is not the disk that would be erased", "osaka-cp2: serial")
	if acts := k.says("D2-A"); len(acts) != 1 || acts[0].Do != DoOverride || acts[0].Value != "D2-A" {
		t.Errorf("actions %+v", acts)
	}
}
