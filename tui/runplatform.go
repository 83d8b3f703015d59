package tui

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"metalrise.dev/fleet"
)

// stepTitle names a step of the VM platform.
func (a *App) stepTitle(s fleet.StackStep) string {
	if s.Component != "" {
		return string(s.Component)
	}
	return a.proofTitle(s.Proof)
}

func (a *App) proofTitle(p fleet.Proof) string {
	switch p {
	case fleet.ProofStart:
		return a.t("proof start")
	case fleet.ProofMigrate:
		return a.t("proof migrate")
	case fleet.ProofNetwork:
		return a.t("proof network")
	case fleet.ProofVolume:
		return a.t("proof volume")
	case fleet.ProofSnapshot:
		return a.t("proof snapshot")
	case fleet.ProofDrain:
		return a.t("proof drain")
	case fleet.ProofFence:
		return a.t("proof fence")
	}
	return string(p)
}

// stackCount counts the steps that ended well and those that are left out.
func stackCount(s fleet.StackStatus) (done, left int) {
	for _, x := range s.Steps {
		switch x.State {
		case fleet.StepOK:
			done++
		case fleet.StepSkipped:
			left++
		}
	}
	return done, left
}

// busyStep is the step that a person wants to see: the failed one, else the
// running one, else the first that did not begin.
func busyStep(s fleet.StackStatus) (fleet.StackStep, bool) {
	for _, state := range []fleet.StepState{fleet.StepFailed, fleet.StepRunning, fleet.StepPending} {
		if i := slices.IndexFunc(s.Steps, func(x fleet.StackStep) bool { return x.State == state }); i >= 0 {
			return s.Steps[i], true
		}
	}
	return fleet.StackStep{}, false
}

// platformLine is where the VM platform stands, on one line.
func (a *App) platformLine() Line {
	s := *a.run.view.Stack
	done, left := stackCount(s)
	mark, style := "●", Busy
	switch {
	case s.Held:
		mark, style = "✗", Bad
	case s.Done:
		mark, style = "✓", Good
	}
	text := a.f("VM platform %d/%d", done, len(s.Steps)-left)
	if left > 0 {
		text += ", " + a.f("%d left out", left)
	}
	l := Line{{Plain, " "}, {style, mark}, {Plain, " " + text}}
	if x, ok := busyStep(s); ok && !s.Done {
		l = append(l, Span{Plain, " · " + a.stepTitle(x) + ": "}, Span{style, a.stepWords(x)})
	}
	return l.fit(a.width)
}

// stepWords is what is to be said of a step, beside its name.
func (a *App) stepWords(s fleet.StackStep) string {
	switch s.State {
	case fleet.StepFailed:
		if s.Cause != nil {
			return a.causeText(s.Cause)
		}
		return a.t("failed")
	case fleet.StepOK:
		text := a.t("passed")
		if s.Component != "" {
			text = strings.TrimSpace(s.Version + " " + a.t("ready"))
		}
		if s.Took >= 1 {
			text += ", " + fmt.Sprintf("%.0f s", s.Took)
		}
		if s.Result != nil {
			if f := measured(s.Result.Measured); f != "" {
				text += ", " + f
			}
		}
		if s.Note != "" {
			text += ", " + a.engineText(s.Note)
		}
		return text
	case fleet.StepSkipped:
		return a.f("not proven: %s", a.engineText(s.Note))
	case fleet.StepPending, fleet.StepRunning:
	}
	switch {
	case s.Note != "":
		return a.engineText(s.Note)
	case s.State == fleet.StepRunning:
		return a.t("running")
	}
	return a.t("pending")
}

// measured prints figures: "ping 0.4 ms, restart 95 s".
func measured(m map[string]float64) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		label, unit := name, ""
		if l, ok := strings.CutSuffix(name, "Milliseconds"); ok {
			label, unit = l, " ms"
		} else if l, ok := strings.CutSuffix(name, "Seconds"); ok {
			label, unit = l, " s"
		}
		out = append(out, fmt.Sprintf("%s %.4g%s", label, m[name], unit))
	}
	return strings.Join(out, ", ")
}

// handOffPlatform lists every component and proof with its result.
func (a *App) handOffPlatform(b *body, s fleet.StackStatus) {
	done, left := stackCount(s)
	style, text := Warn, a.f("VM platform: %d of %d steps ended well.", done, len(s.Steps)-left)
	switch {
	case s.Done && left > 0:
		style, text = Good, a.f("The VM platform is there; %d steps were left out.", left)
	case s.Done:
		style, text = Good, a.t("The VM platform is there and proven.")
	case s.Held:
		style, text = Bad, text+" "+a.t("It is held: metalrise retry --platform tries again, --waive NAME leaves a step out.")
	}
	b.text(style, text)
	for _, x := range s.Steps {
		mark, style := "·", Plain
		switch x.State {
		case fleet.StepOK:
			mark, style = "✓", Good
		case fleet.StepFailed:
			mark, style = "✗", Bad
		case fleet.StepRunning:
			mark, style = "●", Busy
		case fleet.StepSkipped:
			mark, style = "-", Warn
		case fleet.StepPending:
		}
		for i, words := range wrap(a.stepWords(x), b.w-25) {
			if i == 0 {
				b.add(Line{{Plain, " "}, {style, mark}, {Plain, " " + fit(a.stepTitle(x), 20) + " " + words}})
			} else if i < 3 {
				b.add(line(Plain, strings.Repeat(" ", 24)+words))
			}
		}
		if unproven := a.unproven(x.Component); unproven != "" {
			b.under(Warn, a.f("unproven: %s", a.engineText(unproven)))
		}
	}
}

// unproven says why a component of the plan was not seen to work by its makers.
func (a *App) unproven(c fleet.Component) string {
	if c == "" || a.hub.sheet.Plan == nil || a.hub.sheet.Plan.Stack == nil {
		return ""
	}
	for _, x := range a.hub.sheet.Plan.Stack.Components {
		if x.Name == c {
			return x.Unproven
		}
	}
	return ""
}

// tellPlatform tells what is new of the VM platform, a sentence for each step.
func (a *App) tellPlatform() {
	s := a.run.view.Stack
	if s == nil {
		return
	}
	for _, x := range s.Steps {
		key := fleet.ServerID("step " + string(x.Component) + string(x.Proof))
		if a.lines.told[key] == string(x.State) || x.State == fleet.StepPending {
			continue
		}
		a.lines.told[key] = string(x.State)
		a.lines.say(a.stepTitle(x) + ": " + a.stepWords(x))
	}
}
