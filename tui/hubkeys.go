package tui

import (
	"slices"
	"strconv"
	"strings"

	"metalrise.dev/fleet"
)

func hubHelp() []string {
	return []string{
		say("↑ ↓ Tab Shift-Tab PgUp PgDn Home End: move. Enter, → or Space: change a field, or do what the line says. Typing replaces a field's value."),
		say("While typing: ← → Home End move, Backspace and Del take a letter away, Ctrl-U takes all, Ctrl-A and Ctrl-E go to the ends."),
		say("Enter, ↑, ↓ or Tab accept what was typed and save it in the site file. Esc leaves it unsaved; it stays where it is."),
		say("Esc or ←: to the list of steps; ↑ ↓ choose one there, Enter or → goes in. Any order is fine; only the start is guarded."),
		say("F2: all problems; Enter leads to where one is solved."),
		say("Ctrl-C: leave, after a question. F1 or ?: this help."),
	}
}

// pressHub is for the keys of the wizard.
func (a *App) pressHub(in Input) []Action {
	h := &a.hub
	if h.rail {
		return a.pressRail(in)
	}
	it, ok := h.current()
	if !ok {
		if in.Key == "esc" {
			h.rail = true
		}
		return nil
	}
	if h.editing {
		return a.edit(it, in)
	}
	if by, ok := moves()[in.Key]; ok {
		h.cursor[h.step] += by
		h.current() // keeps it in bounds
		return nil
	}
	switch {
	case in.Key == "esc" || in.Key == "left":
		h.rail = true
		h.note = ""
		return nil
	case in.Key == "enter" || in.Key == "right" || in.Text == " " && !h.secret():
		return a.use(it)
	case in.Text != "" && it.field != nil && it.field.kind != choice:
		h.begin(it.field, "")
		return a.edit(it, in)
	}
	return nil
}

func (a *App) pressRail(in Input) []Action {
	h := &a.hub
	if by, ok := moves()[in.Key]; ok {
		h.go_(h.step + step(min(max(by, -20), 20)))
		return a.look()
	}
	if in.Key == "enter" || in.Key == "right" {
		h.rail = false
	}
	return nil
}

// look begins to watch the run when a step shows it.
func (a *App) look() []Action {
	if !a.watching() || a.run.asked {
		return nil
	}
	a.run.asked = true
	return []Action{{Do: DoWatch, After: a.run.after}}
}

// begin lets a field be edited, from what was typed before or from its value.
func (h *hub) begin(f *field, value string) {
	if d, ok := h.drafts[f.path]; ok {
		value = d
	}
	h.drafts[f.path], h.editing = value, true
	h.caret = len([]rune(value))
	h.note = ""
}

// use does what Enter or Space means on an item.
func (a *App) use(it item) []Action {
	h := &a.hub
	switch {
	case it.field != nil && it.field.kind == choice:
		at := slices.Index(it.field.options, ValueAt(h.sheet.Typed, it.field.path))
		return a.accept(it.field, it.field.options[(at+1)%len(it.field.options)])
	case it.field != nil:
		value := ValueAt(h.sheet.Typed, it.field.path)
		if it.field.kind == secret || it.field.kind == keys || isExample(it.field.path, value) {
			value = ""
		}
		if o := a.offered(it.field); o != "" {
			value = o
		}
		h.begin(it.field, value)
		return nil
	case it.button != noButton:
		return a.push(it.button)
	}
	return a.useRow(it.row)
}

func (a *App) push(b button) []Action {
	h := &a.hub
	switch b {
	case nextButton:
		h.go_(h.step + 1)
	case findButton, lookButton:
		do := map[button]Do{findButton: DoFind, lookButton: DoInspect}[b]
		if _, busy := h.busy[do]; busy {
			return []Action{{Do: DoCancel}}
		}
		if len(h.busy) > 0 {
			h.say(Warn, "! "+a.t("wait until what is under way has ended"))
			return nil
		}
		h.note = ""
		return h.start(do, Action{Do: do})
	case watchButton:
		h.go_(stepRun)
		return a.look()
	case moreButton:
		h.wide[h.step] = !h.wide[h.step]
		h.cursor[h.step] = max(slices.IndexFunc(h.items(), func(it item) bool { return it.button == moreButton }), 0)
		if a.lines != nil {
			a.lines.shown = -1
		}
	case startButton:
		return a.begin()
	case pasteButton:
		a.popup = a.pasteCard()
	case stackButton:
		a.popup = a.platformCard()
	}
	return nil
}

// begin starts the run, when everything is as it must be.
func (a *App) begin() []Action {
	h := &a.hub
	if why := a.blockers(); why != "" {
		h.say(Bad, "✗ "+why)
		return nil
	}
	want := len(h.sheet.Plan.ErasedDisks())
	if h.consent != strconv.Itoa(want) {
		h.say(Bad, "✗ "+a.t("type the number of disks to be erased first"))
		return nil
	}
	if a.lines == nil && a.now.Sub(h.since) < grace { // a second Enter that was still under way, or pasted
		h.say(Warn, "! "+a.t("press Enter once more to start"))
		return nil
	}
	if len(h.busy) > 0 {
		h.say(Warn, "! "+a.t("wait until what is under way has ended"))
		return nil
	}
	h.say(Plain, a.t("starting the engine; it verifies the image first"))
	return h.start(DoApply, Action{Do: DoApply, Plan: h.sheet.Plan.ID, Disks: want})
}

// useRow is Enter or Space on a row of a table.
func (a *App) useRow(row int) []Action {
	h := &a.hub
	switch h.step {
	case stepLook:
		if row < len(h.sheet.Servers) {
			a.popup = a.serverCard(h.sheet.Servers[row])
		}
	case stepChecks:
		if all := h.findings(); row < len(all) {
			f := all[row]
			p := a.open(string(f.Code), a.explain(f.Code))
			p.body = append(p.body, nil, line(severityStyle(f.Severity), f.Path+" "+string(f.Server)), line(Plain, a.engineText(f.Text)), line(Plain, a.t("next")+"  "+a.engineText(f.Remedy)))
			a.popup = p
		}
	case stepRoles:
		if all := h.assignments(); row < len(all) {
			return h.start(DoOverride, Action{Do: DoOverride, Server: all[row].Server, Path: "role", Value: nextRole(all[row].Role)})
		}
	case stepDisks:
		if all := h.disks(); row < len(all) {
			d := all[row]
			if d.erase {
				h.say(Plain, a.t("choose a kept disk to take that one instead"))
				return nil
			}
			ref := map[string]string{}
			if d.disk.Serial != "" {
				ref["serial"] = d.disk.Serial
			} else {
				ref["wwn"] = d.disk.WWN
			}
			return h.start(DoOverride, Action{Do: DoOverride, Server: d.assignment.Server, Path: "disk", Value: ref})
		}
	}
	return nil
}

// nextRole cycles; nil leaves the choice to the plan again.
func nextRole(r fleet.Role) any {
	switch r {
	case fleet.ControlPlane:
		return string(fleet.Worker)
	case fleet.Worker:
		return string(fleet.Excluded)
	case fleet.SingleNode:
		return string(fleet.Excluded)
	}
	return nil
}

// edit is for keys while a field is typed.
func (a *App) edit(it item, in Input) []Action {
	h := &a.hub
	if it.field == nil {
		h.editing = false
		return nil
	}
	path := it.field.path
	letters := []rune(h.drafts[path])
	h.caret = min(max(h.caret, 0), len(letters))
	switch {
	case in.Text != "":
		typed := []rune(clean(strings.TrimRight(in.Text, "\r\n")))
		if len(letters)+len(typed) <= 16000 { // a pasted list of keys has room
			letters = slices.Insert(letters, h.caret, typed...)
			h.caret += len(typed)
		}
	case in.Key == "backspace" && h.caret > 0:
		letters = slices.Delete(letters, h.caret-1, h.caret)
		h.caret--
	case in.Key == "delete" && h.caret < len(letters):
		letters = slices.Delete(letters, h.caret, h.caret+1)
	case in.Key == "ctrl+u":
		letters, h.caret = nil, 0
	case in.Key == "left":
		h.caret--
	case in.Key == "right":
		h.caret++
	case in.Key == "home" || in.Key == "ctrl+a":
		h.caret = 0
	case in.Key == "end" || in.Key == "ctrl+e":
		h.caret = len(letters)
	case in.Key == "esc":
		h.editing = false
		if h.drafts[path] == "" || h.drafts[path] == ValueAt(h.sheet.Typed, path) || h.drafts[path] == a.offered(it.field) {
			delete(h.drafts, path)
		}
		return nil
	case in.Key == "enter" || in.Key == "tab" || in.Key == "down" || in.Key == "up" || in.Key == "shift+tab":
		h.editing = false
		acts := a.accept(it.field, h.drafts[path])
		if h.wrong[path] == "" {
			by := 1
			if in.Key == "up" || in.Key == "shift+tab" {
				by = -1
			}
			h.cursor[h.step] += by
			h.current()
		}
		return acts
	}
	h.drafts[path] = string(letters)
	h.caret = min(max(h.caret, 0), len(letters))
	return nil
}

// accept checks what was typed and has it saved.
func (a *App) accept(f *field, typed string) []Action {
	h := &a.hub
	delete(h.wrong, f.path)
	refuse := func(why string) []Action {
		h.wrong[f.path] = why
		h.say(Bad, "✗ "+why)
		return nil
	}
	switch f.path {
	case pathConsent:
		if h.sheet.Plan == nil {
			return refuse(a.t("there is no plan yet"))
		}
		h.consent = strings.TrimSpace(typed)
		if want := len(h.sheet.Plan.ErasedDisks()); h.consent != strconv.Itoa(want) {
			return refuse(a.f("this plan erases %d disks", want))
		}
		delete(h.drafts, f.path)
		h.since = a.now
		return nil
	case pathName:
		if typed == "" {
			return refuse(a.t("a value is needed here"))
		}
		return h.start(DoCreate, Action{Do: DoCreate, Path: f.path, Value: strings.TrimSpace(typed)})
	}
	if f.kind == secret && typed == "" && ValueAt(h.sheet.Typed, f.path) != "" {
		delete(h.drafts, f.path) // the one that is kept stays
		return nil
	}
	if f.kind == secret && typed != "" {
		delete(h.drafts, f.path) // a secret stays nowhere longer than it must
		return h.start(DoPassword, Action{Do: DoPassword, Path: f.path, Secret: typed})
	}
	value, why := a.parse(f, typed)
	if f.server != "" {
		why = a.notItsSerial(f, typed)
	}
	if why != "" {
		return refuse(why)
	}
	if ValueAt(h.sheet.Typed, f.path) == strings.TrimSpace(typed) {
		delete(h.drafts, f.path)
		h.typed[f.path] = true
		return nil
	}
	if f.server != "" {
		delete(h.drafts, f.path)
		h.typed[f.path] = true
		return h.start(DoOverride, Action{Do: DoOverride, Server: f.server, Path: eraseForeign, Value: value})
	}
	return h.start(DoSet, Action{Do: DoSet, Path: f.path, Value: value})
}
