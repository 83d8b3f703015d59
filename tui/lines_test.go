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

// talk is a person who reads what is told and answers.
type talk struct {
	t   *testing.T
	a   *App
	now time.Time
}

func newTalk(t *testing.T, l Language, s Sheet) *talk {
	t.Helper()
	k := &talk{t: t, a: New(Options{Language: l, Lines: true}), now: noon}
	if acts := k.a.Begin(); len(acts) != 1 || acts[0].Do != DoLoad {
		t.Fatalf("begins with %+v", acts)
	}
	k.step(Input{Done: &Done{Do: DoLoad, Sheet: &s}})
	return k
}

func (k *talk) step(in Input) []Action {
	k.now = k.now.Add(time.Second)
	in.At = k.now
	return k.a.Step(in)
}

func (k *talk) says(line string) []Action { return k.step(Input{Line: &line}) }

// hears holds that the last Step told every text.
func (k *talk) hears(texts ...string) {
	k.t.Helper()
	for _, s := range texts {
		if !strings.Contains(k.a.Said(), s) {
			k.t.Fatalf("%q was not told:\n%s", s, k.a.Said())
		}
	}
}

func (k *talk) goes(s step) []Action {
	k.t.Helper()
	k.says("s")
	return k.says(strconv.Itoa(int(s) + 1))
}

func (k *talk) done(d Done, s Sheet) {
	s.Revision = int(k.now.Unix())
	d.Sheet = &s
	k.step(Input{Done: &d})
}

// TestLinesReachEveryField chooses every field of every step by its number and
// gives it a value: the same action follows as on the screens.
func TestLinesReachEveryField(t *testing.T) {
	for _, l := range Languages() {
		k := newTalk(t, l, sampleSheet(5))
		for s := stepFind; s < stepReview; s++ {
			k.goes(s)
			k.a.hub.wide[s] = true
			for i, it := range k.a.hub.items() {
				if it.field == nil {
					continue
				}
				f := it.field
				k.says(strconv.Itoa(i + 1))
				k.hears(k.a.t(f.label))
				k.says("?")
				k.hears(k.a.t(f.help), f.path)
				value, want := "7", DoSet
				switch f.kind {
				case choice:
					value = f.options[1]
				case secret:
					want = DoPassword
				}
				acts := k.says(value)
				if len(acts) != 1 || acts[0].Do != want || acts[0].Path != f.path {
					t.Fatalf("%s in %s: %+v\n%s", f.path, l, acts, k.a.Said())
				}
				k.done(Done{Do: want, Path: f.path}, sampleSheet(5))
				k.hears("site.yaml")
			}
		}
	}
}

func TestLinesSayWhyAValueIsRefusedAndAskAgain(t *testing.T) {
	k := newTalk(t, English, sampleSheet(5))
	k.goes(stepNetwork)
	k.says("1")
	k.says("10.9.9.1")
	why := &fleet.Cause{Code: fleet.CodeSiteInvalid, Chain: []string{"prefix length is missing"}}
	k.done(Done{Do: DoSet, Path: "network.firstAddress", Err: why}, sampleSheet(5))
	k.hears("Problem: ", "prefix length is missing", "First address")
	if acts := k.says("10.9.9.1/24"); len(acts) != 1 || acts[0].Value != "10.9.9.1/24" {
		t.Fatalf("actions %+v", acts)
	}
}

func TestLinesConsentIsTypedAndStartIsNot(t *testing.T) {
	s := sampleSheet(5)
	k := newTalk(t, English, s)
	k.goes(stepReview)
	k.hears("5 disks will be ERASED", "D3-A", "Disks to erase")
	if acts := k.says("start"); len(acts) != 0 {
		t.Fatalf("started without consent: %+v", acts)
	}
	k.says("")
	k.says("4")
	k.hears("this plan erases 5 disks")
	k.says("5")
	if acts := k.says(""); len(acts) != 0 {
		t.Fatalf("Enter alone began to erase: %+v", acts)
	}
	acts := k.says("start")
	if len(acts) != 1 || acts[0].Do != DoApply || acts[0].Disks != 5 || acts[0].Plan != s.Plan.ID {
		t.Fatalf("actions %+v\n%s", acts, k.a.Said())
	}
	k.done(Done{Do: DoApply}, s)
	k.hears("Step 11 of 12")
}

func TestLinesTellDisksRolesProblemsAndServers(t *testing.T) {
	k := newTalk(t, English, sampleSheet(5))
	k.goes(stepDisks)
	k.hears("osaka-cp1: disk serial D1-A of 480 GB will be ERASED; found on it: not read.", "is kept; found on it: LVM physical volume.")
	items := k.a.hub.items()
	at := slices.IndexFunc(items, func(it item) bool { return it.field == nil && it.button == noButton && it.row == 1 })
	if acts := k.says(strconv.Itoa(at + 1)); len(acts) != 1 || acts[0].Do != DoOverride || acts[0].Path != "disk" {
		t.Fatalf("actions %+v", acts)
	}
	k.done(Done{Do: DoOverride}, sampleSheet(5))
	k.goes(stepRoles)
	k.hears("Server SN00004 becomes osaka-w1, worker.")
	items = k.a.hub.items()
	k.says(strconv.Itoa(len(items)))
	k.hears("three control planes, filled in the order of servers", "Role of osaka-w2")
	if acts := k.says("excluded"); len(acts) != 1 || acts[0].Server != "SN00005" || acts[0].Value != "excluded" {
		t.Fatalf("actions %+v", acts)
	}
	k.done(Done{Do: DoOverride}, sampleSheet(5))
	k.says("p")
	k.hears("Warning, ", "two ports have link", "Name the MAC under servers.")
	k.goes(stepLook)
	k.hears("Server SN00001, Example R7: 64 processors, 256 GiB of memory, 1 ports, 2 disks, seen 4")
	k.says(strconv.Itoa(len(k.a.hub.items())))
	k.hears("D5-B")
}

func TestLinesFollowTheRun(t *testing.T) {
	k := newTalk(t, English, sampleSheet(5))
	acts := k.goes(stepRun)
	if len(acts) == 0 || acts[0].Do != DoWatch {
		t.Fatalf("actions %+v", acts)
	}
	run := sampleRun(5)
	run.Overview.At = k.now
	k.step(Input{Watched: &run})
	k.hears("osaka-w1: Booted, Moving, 43 % of its disk is written.", "osaka-w2: Booted, Held", "BMC shows power on")
	again := run
	again.Events = nil
	k.step(Input{Watched: &again})
	if said := k.a.Said(); said != "" {
		t.Fatalf("told twice:\n%s", said)
	}
	k.says("")
	k.hears("1 of 5 installed", "4. osaka-w4: Installed")
	k.says("osaka-w2")
	k.hears("no call within 20m0s", "attempt 1")
	if acts := k.says("r osaka-w2"); len(acts) != 1 || acts[0].Do != DoRetry || acts[0].Server != "SN00002" {
		t.Fatalf("actions %+v\n%s", acts, k.a.Said())
	}
	k.says("q")
	k.hears("The engine goes on")
	if acts := k.says("y"); len(acts) != 1 || acts[0].Do != DoQuit {
		t.Fatalf("actions %+v", acts)
	}
}

func TestLinesTellNoControlSequence(t *testing.T) {
	s := sampleSheet(1)
	s.Found[0].Vendor = "Evil\x1b[2J\u202e"
	k := newTalk(t, English, s)
	k.goes(stepFind)
	if said := k.a.Said(); strings.ContainsAny(said, "\x1b\u202e") {
		t.Fatalf("%q", said)
	}
}

func TestLinesKeepSecretsOutOfTheRecord(t *testing.T) {
	k := newTalk(t, English, sampleSheet(2))
	var file bytes.Buffer
	rec, err := NewRecorder(&file, k.a.options)
	if err != nil {
		t.Fatal(err)
	}
	k.goes(stepFind)
	k.says("3")
	if !k.a.Secret() {
		t.Fatal("a password is asked for, and would be echoed")
	}
	secret := "hunter2 "
	rec.note(Input{Line: &secret}, k.a.Secret())
	if acts := k.says(secret); len(acts) != 1 || acts[0].Do != DoPassword || acts[0].Secret != secret {
		t.Fatalf("actions %+v", acts)
	}
	if strings.Contains(file.String(), "hunter") || strings.Contains(k.a.Said(), "hunter") {
		t.Fatalf("the secret is in the record or told: %s", file.String())
	}
	k.done(Done{Do: DoPassword, Path: "bmcs.password"}, sampleSheet(2))
	if k.a.Secret() {
		t.Fatal("nothing is echoed any more")
	}
}

// TestLinesHelpAHeldServer goes every way of the run screen by answers alone, in
// both languages.
func TestLinesHelpAHeldServer(t *testing.T) {
	for _, l := range Languages() {
		k := newTalk(t, l, sampleSheet(5))
		k.goes(stepRun)
		run := sampleRun(5)
		run.Overview.At, run.Overview.Plan = k.now, k.a.hub.sheet.Plan.ID
		k.step(Input{Watched: &run})
		k.says("o osaka-w2")
		k.hears("https://10.0.9.12", "sol activate")
		k.says("b osaka-w2")
		k.hears("1. ", "PXE", "TLS")
		if acts := k.says("3"); len(acts) != 1 || acts[0].Do != DoRetry || acts[0].Route != fleet.PXE || acts[0].Server != "SN00002" {
			t.Fatalf("actions %+v\n%s", acts, k.a.Said())
		}
		if acts := k.says("g"); len(acts) != 1 || acts[0].Do != DoGather {
			t.Fatalf("actions %+v", acts)
		}
		k.step(Input{Done: &Done{Do: DoGather, File: "report.tar.gz"}})
		k.hears("report.tar.gz")
		if acts := k.says("w"); len(acts) != 1 || acts[0].Do != DoLog {
			t.Fatalf("actions %+v", acts)
		}
		k.step(Input{Done: &Done{Do: DoLog, Lines: []string{"engine ready"}}})
		k.hears("engine ready")
		k.says("l no such thing")
		k.hears(k.a.t("The journal has no such line."))
		// A value is changed; the plan stays the same, so another attempt is all.
		k.says("c osaka-w2")
		k.hears("1. " + k.a.t("Own address"))
		k.says("99")
		k.hears("99")
		k.says("1")
		acts := k.says("10.0.9.2")
		if len(acts) != 1 || acts[0].Do != DoSet || acts[0].Path != "serving.address" || acts[0].Value != "10.0.9.2" {
			t.Fatalf("actions %+v\n%s", acts, k.a.Said())
		}
		k.done(Done{Do: DoSet, Path: "serving.address"}, sampleSheet(5))
		k.hears(k.a.t("Enter begins another attempt; - goes back:"))
		if acts := k.says(""); len(acts) != 1 || acts[0].Do != DoRetry || acts[0].Server != "SN00002" {
			t.Fatalf("actions %+v\n%s", acts, k.a.Said())
		}
		// A server is left out only after a word.
		k.says("x osaka-w2")
		k.hears(k.a.t("Leave it out?"))
		if acts := k.says(""); len(acts) != 0 || k.a.run.fix != nil {
			t.Fatalf("Enter alone left a server out: %+v", acts)
		}
		k.says("x osaka-w2")
		if acts := k.says("y"); len(acts) != 1 || acts[0].Do != DoOverride || acts[0].Path != "role" || acts[0].Value != "excluded" {
			t.Fatalf("actions %+v", acts)
		}
		other := sampleSheet(5)
		other.Plan.ID = "ffff"
		other.Plan.Assignments[1].Role = fleet.Excluded
		k.done(Done{Do: DoOverride}, other)
		k.says("")
		if k.a.run.fix != nil {
			t.Errorf("it is not over:\n%s", k.a.Said())
		}
	}
}
