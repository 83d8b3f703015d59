package tui

import (
	"strings"
	"testing"
	"time"

	"metalrise.dev/fleet"
)

func TestChangedDiskNeedsTypedConsent(t *testing.T) {
	a, s := changedDisk(English, 80, 24)
	text := a.View().Text()
	for _, want := range []string{"SN00002 osaka-cp2: disk serial D2-A → serial D2-B", "5 disks will be ERASED", "Disks to erase:"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not shown:\n%s", want, text)
		}
	}
	if acts := press(a, "enter"); len(acts) != 0 {
		t.Fatalf("started without consent: %+v", acts)
	}
	press(a, "4")
	if acts := press(a, "enter"); len(acts) != 0 || !strings.Contains(a.View().Text(), "this plan erases 5 disks") {
		t.Fatalf("started with a wrong number: %+v", acts)
	}
	press(a, "backspace", "5")
	if acts := press(a, "enter"); len(acts) != 0 {
		t.Fatalf("an Enter at the same moment started it: %+v", acts)
	}
	acts := a.Step(Input{At: noon.Add(time.Second), Key: "enter"})
	if len(acts) != 1 || acts[0].Do != DoApply || acts[0].Plan != s.Plan.ID || acts[0].Disks != 5 {
		t.Fatalf("actions %+v", acts)
	}
	a.Step(at(Input{Done: &Done{Do: DoApply, Sheet: &s, Err: &fleet.Cause{Code: fleet.CodeSiteLocked, Chain: []string{"plan 4be1c9d2a7f0 is still being applied"}}}}))
	if text := a.View().Text(); a.run.fix == nil || !strings.Contains(text, "still being applied") {
		t.Fatalf("a refused start is not said:\n%s", text)
	}
}

func TestNewPasswordNeedsNoConsent(t *testing.T) {
	a := onRun(English, 80, 24, heldBy(fleet.CodeBMCLoginRefused))
	press(a, "h", "c", "enter")
	typeText(a, "hunter2")
	if !a.Secret() || strings.Contains(a.View().Text(), "hunter2") {
		t.Fatal("the password is shown or recorded")
	}
	acts := press(a, "enter")
	if len(acts) != 1 || acts[0].Do != DoPassword || acts[0].Secret != "hunter2" {
		t.Fatalf("actions %+v", acts)
	}
	same := sampleSheet(5)
	same.Revision = 2
	a.Step(at(Input{Done: &Done{Do: DoPassword, Sheet: &same}}))
	if acts := press(a, "enter"); len(acts) != 1 || acts[0].Do != DoRetry || acts[0].Server != "SN00002" {
		t.Fatalf("actions %+v\n%s", acts, a.View().Text())
	}
}

// TestInstalledServersAreNotErasedAgain: a changed value must not cost the
// servers that are done.
func TestInstalledServersAreNotErasedAgain(t *testing.T) {
	a := onRun(English, 80, 24, sampleRun(5)) // its fourth server is installed
	a.run.view.Servers[1].Cause.Code = fleet.CodeDiskChanged
	press(a, "h", "c", "down", "enter")
	next := sampleSheet(5)
	next.Revision, next.Plan.ID = 2, "c0ffee"
	a.Step(at(Input{Done: &Done{Do: DoOverride, Sheet: &next}}))
	press(a, "5")
	if acts := a.Step(Input{At: noon.Add(time.Second), Key: "enter"}); len(acts) != 0 || !strings.Contains(a.View().Text(), "would erase 1 servers that are installed") {
		t.Fatalf("actions %+v\n%s", acts, a.View().Text())
	}
	press(a, "esc")
	kept := sampleSheet(5)
	kept.Revision, kept.Plan.ID = 3, "c0ffee2"
	kept.Plan.Assignments[3].Kept = "4be1c9d2a7f04be1c9d2a7f0"
	press(a, "c", "down", "enter")
	a.Step(at(Input{Done: &Done{Do: DoOverride, Sheet: &kept}}))
	acts := a.Step(Input{At: noon.Add(time.Second), Key: "enter"})
	if len(acts) != 1 || acts[0].Do != DoApply || acts[0].Disks != 4 {
		t.Fatalf("no disk is new, yet it does not start: %+v\n%s", acts, a.View().Text())
	}
}

func TestExcludeAsksAndShowsWhatFollows(t *testing.T) {
	a := onRun(English, 80, 24, heldBy(fleet.CodeBootSilent))
	press(a, "h")
	if acts := press(a, "x"); len(acts) != 0 {
		t.Fatalf("one key excluded a server: %+v", acts)
	}
	acts := press(a, "y")
	if len(acts) != 1 || acts[0].Do != DoOverride || acts[0].Path != "role" || acts[0].Value != string(fleet.Excluded) {
		t.Fatalf("actions %+v", acts)
	}
	next := sampleSheet(5)
	next.Revision, next.Plan.ID = 2, "c0ffee"
	next.Plan.Assignments[1].Role = fleet.Excluded
	a.Step(at(Input{Done: &Done{Do: DoOverride, Sheet: &next}}))
	if text := a.View().Text(); !strings.Contains(text, "role control-plane → excluded") {
		t.Fatalf("not shown:\n%s", text)
	}
	if acts := press(a, "enter"); len(acts) != 1 || acts[0].Do != DoApply || acts[0].Disks != 4 {
		t.Fatalf("actions %+v", acts)
	}
}

func TestStepsFollowTheRestingCursor(t *testing.T) {
	a := onRun(English, 80, 24, sampleRun(5))
	acts := press(a, "down")
	if len(acts) != 1 || acts[0].Do != DoRest || strings.Contains(a.View().Text(), "SN00002  worker") {
		t.Fatalf("steps came with the key: %+v", acts)
	}
	a.Step(Input{At: noon.Add(100 * time.Millisecond), Key: "down"})
	a.Step(Input{At: noon.Add(310 * time.Millisecond), Done: &Done{Do: DoRest}})
	if strings.Contains(a.View().Text(), "SN00003  worker") {
		t.Fatal("steps came while the cursor moved")
	}
	a.Step(Input{At: noon.Add(410 * time.Millisecond), Done: &Done{Do: DoRest}})
	if !strings.Contains(a.View().Text(), "SN00003  worker") {
		t.Fatalf("steps do not come:\n%s", a.View().Text())
	}
}

func TestLogIsFiltered(t *testing.T) {
	a := onRun(English, 80, 24, sampleRun(5))
	press(a, "l", "/")
	typeText(a, "503 ?") // no help while typing
	if a.popup != nil {
		t.Fatal("a letter of the filter opened the help")
	}
	press(a, "backspace", "backspace", "enter")
	text := a.View().Text()
	if n := strings.Count(text, "503 service unavailable"); n != 2 || strings.Contains(text, "power-on ok") {
		t.Fatalf("%d rows:\n%s", n, text)
	}
	press(a, "esc", "s")
	if text := a.View().Text(); strings.Contains(text, "osaka-w2 insert ") || !strings.Contains(text, "osaka-w1 insert") {
		t.Fatalf("not the chosen server's:\n%s", text)
	}
	if acts := press(a, "w"); len(acts) != 1 || acts[0].Do != DoLog {
		t.Fatalf("actions %+v", acts)
	}
}

func TestTwoViewersShowTheSame(t *testing.T) {
	run := sampleCluster(5)
	x, y := onRun(English, 80, 24, run), sized(Options{Attach: true}, 80, 24)
	y.Step(at(Input{Watched: &run}))
	cut := func(a *App) string { // without the keys, which differ
		lines := strings.Split(a.View().Text(), "\n")
		return strings.Join(lines[:len(lines)-2], "\n")
	}
	if cut(x) != cut(y) {
		t.Fatal(firstDifference(cut(x), cut(y)))
	}
}
