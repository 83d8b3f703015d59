package tui

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"metalrise.dev/fleet"
)

// fix is the way from a held server to its next attempt: choose the value
// because of which it is held, change it, see what differs in the plan, consent
// again if other disks are erased, go on. Leaving a server out of the plan goes
// the same way.
type fix struct {
	server  fleet.ServerID
	exclude bool
	stage   fixStage
	rows    []remedy
	cursor  int
	text    string
	caret   int
	wrong   string
	before  *fleet.Plan // as it was planned when the screen opened
	saved   string      // path of what was changed last
	consent string
	typed   time.Time // when consent became right
}

type fixStage int

const (
	fixLoading  fixStage = iota // the site file is read
	fixAsking                   // choose a value, or say yes to leaving out
	fixTyping                   // a value is typed
	fixSaving                   // it is written to the site file
	fixReading                  // BMCs are looked at anew, because the way to them changed
	fixSame                     // the plan is the same: another attempt is all
	fixConsent                  // the plan is another one: type the number of disks
	fixStarting                 // it is handed to the engine
)

// remedy is one value that can be changed, or one choice of it.
type remedy struct {
	label string
	path  string // in the site file; of the server's entry when one
	one   bool   // concerns this server alone
	kind  kind
	now   string // the present value
	value any    // of a choice
	pick  bool
}

// openFix opens the screen. Without a sheet the site file is read first.
func (a *App) openFix(s fleet.Status, exclude bool) []Action {
	a.run.page = pageList
	f := &fix{server: s.Server, exclude: exclude}
	a.run.fix = f
	if !a.hub.loaded {
		return a.hub.start(DoLoad, Action{Do: DoLoad})
	}
	a.fixReady()
	return nil
}

// fixReady lists what can be changed, from the sheet as it is now.
func (a *App) fixReady() {
	f := a.run.fix
	f.stage, f.before = fixAsking, a.hub.sheet.Plan
	f.rows = nil
	if s, ok := a.run.status(f.server); ok && !f.exclude && s.Cause != nil {
		f.rows = a.remedies(s)
	}
}

// pressFix is for the keys of the screen.
func (a *App) pressFix(in Input) []Action {
	f := a.run.fix
	if f.stage == fixTyping {
		return a.typeFix(in)
	}
	if in.Key == "esc" && f.stage != fixSaving && f.stage != fixReading && f.stage != fixStarting {
		a.run.fix = nil
		return nil
	}
	switch f.stage {
	case fixAsking:
		if by, ok := moves()[in.Key]; ok {
			f.cursor = min(max(f.cursor+by, 0), max(len(f.rows)-1, 0))
			return nil
		}
		if f.exclude && (in.Text == "y" || in.Text == "Y") {
			return a.saveFix(Action{Do: DoOverride, Server: f.server, Path: "role", Value: string(fleet.Excluded)})
		}
		if f.exclude && (in.Text == "n" || in.Text == "N") {
			a.run.fix = nil
		}
		if in.Key == "enter" && f.cursor < len(f.rows) {
			return a.chooseFix(f.rows[f.cursor])
		}
	case fixSame:
		if in.Key == "enter" {
			a.run.fix = nil
			a.run.note = a.f("asking for another attempt with %s", a.run.nameOf(f.server))
			return []Action{{Do: DoRetry, Server: f.server}}
		}
	case fixConsent:
		return a.consentFix(in)
	}
	return nil
}

func (a *App) chooseFix(r remedy) []Action {
	f := a.run.fix
	if r.pick {
		return a.saveFix(Action{Do: DoOverride, Server: f.server, Path: r.path, Value: r.value})
	}
	f.stage, f.text, f.wrong = fixTyping, "", ""
	if r.kind != secret {
		f.text = r.now
	}
	f.caret = len([]rune(f.text))
	return nil
}

// typeFix is for keys while a value is typed.
func (a *App) typeFix(in Input) []Action {
	f := a.run.fix
	switch in.Key {
	case "esc":
		f.stage, f.text = fixAsking, ""
		return nil
	case "enter":
		r := f.rows[f.cursor]
		if r.kind == secret {
			if f.text == "" {
				f.wrong = a.t("a value is needed here")
				return nil
			}
			text := f.text
			f.text = "" // a secret stays nowhere longer than it must
			return a.saveFix(Action{Do: DoPassword, Path: r.path, Secret: text})
		}
		if r.one {
			var value any = strings.TrimSpace(f.text)
			if value == "" {
				value = nil
			}
			return a.saveFix(Action{Do: DoOverride, Server: f.server, Path: r.path, Value: value})
		}
		value, why := a.parse(&field{path: r.path, kind: r.kind}, f.text)
		if why != "" {
			f.wrong = why
			return nil
		}
		return a.saveFix(Action{Do: DoSet, Path: r.path, Value: value})
	}
	f.text, f.caret = typeInto(f.text, f.caret, in)
	return nil
}

// typeInto changes a text of one line as a key says.
func typeInto(text string, caret int, in Input) (string, int) {
	letters := []rune(text)
	caret = min(max(caret, 0), len(letters))
	switch {
	case in.Text != "":
		typed := []rune(clean(strings.TrimRight(in.Text, "\r\n")))
		if len(letters)+len(typed) > 4000 {
			return text, caret
		}
		return string(slices.Insert(letters, caret, typed...)), caret + len(typed)
	case in.Key == "backspace" && caret > 0:
		return string(slices.Delete(letters, caret-1, caret)), caret - 1
	case in.Key == "delete" && caret < len(letters):
		return string(slices.Delete(letters, caret, caret+1)), caret
	case in.Key == "ctrl+u":
		return "", 0
	case in.Key == "left":
		return text, max(caret-1, 0)
	case in.Key == "right":
		return text, min(caret+1, len(letters))
	case in.Key == "home":
		return text, 0
	case in.Key == "end":
		return text, len(letters)
	}
	return text, caret
}

func (a *App) saveFix(act Action) []Action {
	f := a.run.fix
	f.stage, f.wrong, f.saved = fixSaving, "", act.Path
	return a.hub.start(act.Do, act)
}

// fixDone takes the end of what the screen asked for.
func (a *App) fixDone(d Done) []Action {
	f := a.run.fix
	switch {
	case f.stage == fixLoading && d.Do == DoLoad:
		if d.Err != nil || a.hub.sheet.Plan == nil {
			f.stage, f.wrong = fixAsking, a.t("the site file cannot be read here, so nothing can be changed; metalrise -f FILE names it")
			if d.Err != nil {
				f.wrong = a.causeText(d.Err)
			}
			return nil
		}
		a.fixReady()
	case f.stage == fixStarting && d.Do == DoApply:
		if d.Err != nil {
			f.stage, f.consent, f.wrong = fixConsent, "", a.causeText(d.Err)
			return nil
		}
		a.run.fix, a.run.note = nil, a.t("the new plan runs")
	case f.stage == fixSaving && d.Err != nil:
		f.stage, f.wrong = fixAsking, a.causeText(d.Err)
	case f.stage == fixSaving && slices.Contains([]Do{DoSet, DoOverride, DoPassword}, d.Do):
		return a.fixSaved()
	case f.stage == fixReading && d.Do == DoFind && d.Err == nil:
		return a.hub.start(DoInspect, Action{Do: DoInspect})
	case f.stage == fixReading && (d.Do == DoFind || d.Do == DoInspect):
		f.stage = fixConsent
		if d.Err != nil {
			f.wrong = a.causeText(d.Err)
		}
	}
	return nil
}

// fixSaved goes on after a value was saved. The way to a BMC is kept with its
// server: when it changed, BMCs are looked at anew.
func (a *App) fixSaved() []Action {
	f := a.run.fix
	f.stage, f.wrong = fixConsent, ""
	p := a.hub.sheet.Plan
	if p != nil && (p.ID == a.run.view.Plan || f.before != nil && p.ID == f.before.ID) {
		f.stage = fixSame
	}
	switch {
	case f.saved == "bmcs.addresses":
		f.stage = fixReading
		return a.hub.start(DoFind, Action{Do: DoFind})
	case f.saved == "bmcs.password" && f.stage == fixSame:
	case strings.HasPrefix(f.saved, "bmcs."):
		f.stage = fixReading
		return a.hub.start(DoInspect, Action{Do: DoInspect})
	}
	return nil
}

// consentFix is for keys while the new plan is shown.
func (a *App) consentFix(in Input) []Action {
	f := a.run.fix
	p := a.hub.sheet.Plan
	if a.fixBlocked() != "" {
		return nil
	}
	want := strconv.Itoa(len(p.ErasedDisks()))
	if in.Key != "enter" {
		if a.moreIsErased() {
			f.consent, _ = typeInto(f.consent, len([]rune(f.consent)), in)
			f.wrong = ""
			if f.consent == want {
				f.typed = a.now
			}
		}
		return nil
	}
	if a.moreIsErased() {
		if strings.TrimSpace(f.consent) != want {
			f.wrong = a.f("this plan erases %d disks", len(p.ErasedDisks()))
			return nil
		}
		if a.now.Sub(f.typed) < grace {
			f.wrong = a.t("press Enter once more to start")
			return nil
		}
	}
	f.stage = fixStarting
	return a.hub.start(DoApply, Action{Do: DoApply, Plan: p.ID, Disks: len(p.ErasedDisks())})
}

// fixBlocked tells why the new plan cannot be started from here; "" when it can.
func (a *App) fixBlocked() string {
	p := a.hub.sheet.Plan
	switch {
	case p == nil || p.Blocked():
		return a.t("nothing can be started: the plan has blockers")
	case a.blockers() != "":
		return a.blockers()
	case len(a.erasedAgain()) > 0:
		return a.f("this plan would erase %d servers that are installed already; that is not done from here", len(a.erasedAgain()))
	}
	return ""
}

// erasedAgain lists servers that this run installed and the new plan erases.
func (a *App) erasedAgain() []fleet.ServerID {
	var out []fleet.ServerID
	if a.hub.sheet.Plan == nil {
		return nil
	}
	for _, as := range a.hub.sheet.Plan.Assignments {
		if s, ok := a.run.status(as.Server); ok && as.Role != fleet.Excluded && as.Kept == "" && phaseAtLeast(s.Phase, fleet.Installed) {
			out = append(out, as.Server)
		}
	}
	return out
}

// moreIsErased tells whether the new plan erases a disk that nobody consented to
// before.
func (a *App) moreIsErased() bool {
	f := a.run.fix
	if f.before == nil || a.hub.sheet.Plan == nil {
		return true
	}
	old := f.before.ErasedDisks()
	for _, d := range a.hub.sheet.Plan.ErasedDisks() {
		if !slices.Contains(old, d) {
			return true
		}
	}
	return false
}

func (f *fix) secret() bool {
	return f.stage == fixTyping && f.cursor < len(f.rows) && f.rows[f.cursor].kind == secret
}
