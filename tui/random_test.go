package tui

import (
	"bytes"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"metalrise.dev/fleet"
)

// TestRandomInputs presses keys, types, resizes and feeds answers at random:
// screens never panic and always fill the terminal. METALRISE_STEPS sets how
// long; make test-screens takes a million.
func TestRandomInputs(t *testing.T) {
	steps := 100_000
	if n, err := strconv.Atoi(os.Getenv("METALRISE_STEPS")); err == nil {
		steps = n
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	sheets, runs := randomSheets(), randomRuns()
	var a *App
	for i := range steps {
		if i%2000 == 0 {
			s := sheets[r.IntN(len(sheets))]
			a = New(Options{Language: Languages()[r.IntN(2)], Attach: r.IntN(3) == 0, Lines: r.IntN(4) == 0, Sheet: &s})
			a.Begin()
		}
		in := randomInput(r, i, sheets, runs)
		if a.lines != nil {
			in = asLine(r, in)
		}
		for _, act := range a.Step(in) {
			if act.Do == DoApply && (a.blockers() != "" || act.Disks != len(a.hub.sheet.Plan.ErasedDisks())) {
				t.Fatalf("step %d applies %+v though %s", i, act, a.blockers())
			}
		}
		if a.lines != nil {
			if said := a.Said(); strings.ContainsAny(said, "\x1b\x00\u202e") {
				t.Fatalf("step %d tells %q", i, said)
			}
		} else if i%10 == 0 {
			checkPicture(t, "step "+strconv.Itoa(i), a, a.View())
		}
	}
}

// asLine makes a typed line of a key.
func asLine(r *rand.Rand, in Input) Input {
	if in.Key == "" && in.Text == "" {
		return in
	}
	answers := []string{"", "", "", "1", "2", "3", "5", "9", "12", "?", "p", "s", "l", "m", "q", "n", "h", "e", "start", "stop", "-", "c", "x osaka-w2", "c osaka-w2", "b", "b osaka-w2", "o 1", "g", "l sn", "w", "y", "5", "true", "worker", "osaka-w1", "r osaka-w2", "10.0.1.5/24", "日本\x1b[2J\u202e"}
	line := answers[r.IntN(len(answers))]
	return Input{At: in.At, Line: &line}
}

func randomSheets() []Sheet {
	broken := sampleSheet(3)
	broken.Plan.Findings = append(broken.Plan.Findings, fleet.Finding{Code: fleet.CodeNoNIC, Severity: fleet.Blocker, Path: "network", Text: "x"})
	broken.Servers[0].Facts = fleet.Facts{}
	return []Sheet{{Path: "site.yaml", Revision: 1}, sampleSheet(1), sampleSheet(5), sampleSheet(40), broken, {Path: "s", Exists: true}}
}

func randomRuns() []Watched {
	odd := sampleRun(2)
	odd.Overview.Servers[0].Hostname = "大阪\x1b[31m\x00-w1\u202e"
	odd.Overview.Servers[1].Cause = &fleet.Cause{Code: "NEW-001"}
	return []Watched{sampleRun(1), sampleRun(5), sampleRun(100), sampleCluster(5), {}, odd, {Err: &fleet.Cause{Chain: []string{"gone"}}}}
}

func randomInput(r *rand.Rand, i int, sheets []Sheet, runs []Watched) Input {
	in := Input{At: noon.Add(time.Duration(i) * 300 * time.Millisecond)}
	names := []string{"up", "down", "left", "right", "enter", "esc", "tab", "shift+tab", "pgup", "pgdown", "home", "end", "backspace", "delete",
		"ctrl+u", "ctrl+c", "f1", "f2", "f5", "f8", "f9", "f10", "ctrl+a", "enter", "down", "enter", "down"}
	texts := []string{"a", "5", " ", "?", "r", "l", "h", "e", "d", "q", "y", "n", "c", "c", "x", "b", "o", "g", "/", "s", "w", "10.0.1.5/24", "日本", "\x1b[2J", "e\u0301", "2\n", "👩‍👩‍👧"}
	switch n := r.IntN(100); {
	case n < 55:
		in.Key = names[r.IntN(len(names))]
	case n < 85:
		in.Text = texts[r.IntN(len(texts))]
	case n < 88:
		in.Size = &Size{r.IntN(200), r.IntN(60)}
	case n < 90:
		in.Size = &Size{80, 24}
	case n < 95:
		w := runs[r.IntN(len(runs))]
		in.Watched = &w
	default:
		does := []Do{DoLoad, DoSet, DoFind, DoInspect, DoApply, DoRetry, DoEngine, DoPassword, DoCreate, DoOverride, DoPace, DoLog, DoGather, DoRest}
		s := sheets[r.IntN(len(sheets))]
		s.Revision = i
		in.Done = &Done{Do: does[r.IntN(len(does))], Sheet: &s, Path: "network.vlan"}
		if r.IntN(3) == 0 {
			in.Done.Err = &fleet.Cause{Code: fleet.CodeSiteInvalid, Chain: []string{"a", "b"}}
		}
	}
	return in
}

func TestRecordPlaysTheSameScreens(t *testing.T) {
	s := sampleSheet(5)
	o := Options{Language: Japanese, Sheet: &s}
	var file bytes.Buffer
	rec, err := NewRecorder(&file, o)
	if err != nil {
		t.Fatal(err)
	}
	a := New(o)
	r := rand.New(rand.NewPCG(7, 7))
	var want []string
	for i := range 500 {
		in := randomInput(r, i, randomSheets(), randomRuns())
		if a.Secret() || strings.ContainsAny(in.Text, "\x1b\x00") {
			continue // replaced by stars, so that the caret is the same and the text is not
		}
		rec.note(in, a.Secret())
		a.Step(in)
		want = append(want, a.View().Text())
	}
	err = Replay(&file, func(b *App, _ Input) error {
		if got := b.View().Text(); got != want[0] {
			t.Fatalf("screen differs: %s", firstDifference(want[0], got))
		}
		want = want[1:]
		return nil
	})
	if err != nil || len(want) > 0 {
		t.Fatalf("%d screens left: %v", len(want), err)
	}
}

func TestSecretsAreNeitherShownNorRecorded(t *testing.T) {
	s := sampleSheet(2)
	var file bytes.Buffer
	rec, err := NewRecorder(&file, Options{})
	if err != nil {
		t.Fatal(err)
	}
	a := New(Options{Sheet: &s})
	press(a, "esc", "down", "enter", "down", "down")
	var acts []Action
	for _, in := range []Input{{Text: "h"}, {Text: "unter2"}, {Key: "enter"}} {
		rec.note(in, a.Secret())
		acts = append(acts, a.Step(at(in))...)
		if text := a.View().Text(); strings.Contains(text, "hunter") || strings.Contains(text, "unter2") {
			t.Fatalf("the secret is on the screen:\n%s", text)
		}
	}
	if len(acts) != 1 || acts[0].Do != DoPassword || acts[0].Secret != "hunter2" {
		t.Fatalf("actions %+v", acts)
	}
	if strings.Contains(file.String(), "unter2") {
		t.Fatalf("the secret is in the record: %s", file.String())
	}
	if len(a.hub.drafts) != 0 {
		t.Fatalf("the secret stays in memory as a draft")
	}
}

// bigRun is a run of a thousand servers with the journal of their whole way.
func bigRun() Watched {
	run := sampleRun(1000)
	acts := []fleet.Action{fleet.ActStage, fleet.ActIdentify, fleet.ActPowerOff, fleet.ActInsert, fleet.ActBootOnce, fleet.ActPowerOn, fleet.ActHello, fleet.ActWrite, fleet.ActArrive}
	run.Events = nil
	for _, act := range acts {
		for _, s := range run.Overview.Servers {
			for _, edge := range []fleet.Edge{fleet.Began, fleet.Ended} {
				e := fleet.Event{Seq: int64(len(run.Events) + 1), At: noon, Server: s.Server, Plan: run.Overview.Plan, Attempt: 1, Action: act, Edge: edge}
				if edge == fleet.Ended {
					e.Outcome = fleet.OK
				}
				run.Events = append(run.Events, e)
			}
		}
	}
	return run
}

func benchFrames(b *testing.B, l Language, w, h int, keys ...string) {
	run := bigRun()
	a := sized(Options{Attach: true, Language: l}, w, h)
	a.Step(at(Input{Watched: &run}))
	look := Look{Colour: true, Attributes: true, Unicode: true}
	for i := 0; b.Loop(); i++ {
		press(a, keys[i%len(keys)])
		a.Step(Input{At: noon.Add(time.Duration(i) * time.Second), Done: &Done{Do: DoRest}})
		look.Paint(a.View())
	}
}

func BenchmarkFrame1000Servers(b *testing.B) {
	b.Run("80x24", func(b *testing.B) { benchFrames(b, English, 80, 24, "down", "up", "pgdown") })
	b.Run("120x40", func(b *testing.B) { benchFrames(b, English, 120, 40, "down", "up", "pgdown") })
	b.Run("120x40 ja", func(b *testing.B) { benchFrames(b, Japanese, 120, 40, "down", "up", "pgdown") })
	b.Run("log 120x40", func(b *testing.B) { benchFrames(b, English, 120, 40, "l", "up", "up", "esc") })
	b.Run("log filtered", func(b *testing.B) {
		benchFrames(b, English, 120, 40, "l", "/", "S", "N", "0", "0", "5", "enter", "pgup", "esc", "esc")
	})
}

// BenchmarkLook1000Servers is what each look at the engine costs, twice a second.
func BenchmarkLook1000Servers(b *testing.B) {
	run := bigRun()
	a := sized(Options{Attach: true}, 120, 40)
	a.Step(at(Input{Watched: &run}))
	next := Watched{Overview: run.Overview}
	for b.Loop() {
		a.Step(at(Input{Watched: &next}))
	}
}

func BenchmarkWizardFrame1000Servers(b *testing.B) {
	s := sampleSheet(1000)
	a := sized(Options{Sheet: &s}, 120, 40)
	press(a, "esc", "down", "down", "down", "enter")
	look := Look{Colour: true, Attributes: true, Unicode: true}
	for i := 0; b.Loop(); i++ {
		press(a, []string{"down", "up", "pgdown"}[i%3])
		look.Paint(a.View())
	}
}
