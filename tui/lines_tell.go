package tui

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"metalrise.dev/fleet"
)

// plainLine is a line of a screen without its columns and marks, to be read out.
func plainLine(l Line) string {
	var b strings.Builder
	for _, s := range l {
		b.WriteString(s.Text)
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// spokenNote is a message without its mark, which a screen reader would read
// as a name of a letter.
func (a *App) spokenNote(note string) string {
	for mark, word := range map[string]string{"✗ ": a.t("Problem:"), "! ": a.t("Mind:"), "✓ ": ""} {
		if rest, ok := strings.CutPrefix(note, mark); ok {
			return strings.TrimSpace(word + " " + rest)
		}
	}
	return note
}

func (a *App) tellNote() {
	if note := a.hub.note; note != "" {
		a.lines.say(a.spokenNote(note))
		a.hub.note = ""
	}
}

// tellProgress tells a long action's way at every quarter.
func (a *App) tellProgress(p Progress) {
	l := a.lines
	if _, busy := a.hub.busy[p.Do]; !busy || p.Total == 0 {
		return
	}
	if q := 4 * p.Done / p.Total; q > l.quarter[p.Do] {
		l.quarter[p.Do] = q
		l.say(a.f("%d of %d done.", p.Done, p.Total))
	}
}

// ask puts the question that is open now, after the step's introduction when
// the step is a new one.
func (a *App) ask() {
	l, h := a.lines, &a.hub
	switch l.mode {
	case askValue:
		l.prompt = a.valuePrompt(l.field) + " "
		return
	case askRole:
		l.say(strings.Join(l.server.Reasons, ". "))
		l.prompt = a.f("Role of %s, now %s. One of %s; Enter keeps it, - lets the plan decide:", l.server.Hostname, string(l.server.Role), strings.Join(roleNames(), ", ")) + " "
		return
	case askStep:
		for s := range steps() {
			mark, _ := a.markOf(step(s))
			l.say(fmt.Sprintf("%d. %s: %s", s+1, a.t(steps()[s].title), a.spokenMark(mark)))
		}
		l.prompt = a.t("Number of the step, or Enter to stay:") + " "
		return
	case askLeave:
		text := a.t("Leave metalrise? What you entered is in the site file; the next start shows it again.")
		if a.followsRun() {
			text = a.t("Leave this view? The engine goes on without it; metalrise attach shows it again.")
		}
		l.say(text)
		l.prompt = a.t("y leaves, Enter stays:") + " "
		return
	}
	if a.followsRun() {
		a.askRun()
		return
	}
	if l.shown != h.step {
		a.tellStep()
	}
	l.prompt = a.menuPrompt() + " "
}

// spokenMark says how a step stands.
func (a *App) spokenMark(mark string) string {
	switch mark {
	case "✓":
		return a.t("done")
	case "!":
		return a.t("has warnings")
	case "✗":
		return a.t("has problems")
	}
	return a.t("to do")
}

// menuPrompt names what Enter does.
func (a *App) menuPrompt() string {
	items := a.hub.items()
	if at := a.recommended(items); at >= 0 {
		return a.f("Enter: %s. Or a number, ? help, p problems, s steps, l list, q leave:", a.itemName(items[at]))
	}
	if a.hub.step == stepReview && a.consented() && a.blockers() == "" {
		return a.t("Type start to erase these disks and install. Or ? help, s steps, q leave:")
	}
	return a.t("A number, ? help, p problems, s steps, l list, q leave:")
}

// recommended is the item that Enter chooses: what is missing on this step, or
// the way to the next one. Starting the run is never chosen by Enter alone.
func (a *App) recommended(items []item) int {
	h := &a.hub
	next := -1
	for i, it := range items {
		f := it.field
		switch {
		case f != nil && f.path == pathConsent:
			if h.sheet.Plan != nil && !a.consented() && a.blockers() == "" {
				return i
			}
		case f != nil:
			value := ValueAt(h.sheet.Typed, f.path)
			if h.wrong[f.path] != "" || h.blocked(f) || f.needed && (value == "" || isExample(f.path, value)) {
				return i
			}
		case it.button == findButton && len(h.sheet.Found) == 0, it.button == lookButton && len(h.sheet.Servers) == 0, it.button == watchButton:
			return i
		case it.button == nextButton:
			next = i
		}
	}
	return next
}

// consented tells whether the right number of disks was typed for this plan.
func (a *App) consented() bool {
	p := a.hub.sheet.Plan
	return p != nil && a.hub.consent == strconv.Itoa(len(p.ErasedDisks()))
}

// blocked tells whether a problem with a field keeps the run from starting.
func (h *hub) blocked(f *field) bool {
	return slices.ContainsFunc(h.findings(), func(x fleet.Finding) bool {
		return x.Severity == fleet.Blocker && (f.solves(x) || strings.HasPrefix(x.Path, f.path+"."))
	})
}

// seenText says when something was seen.
func (a *App) seenText(at time.Time) string {
	if ago := a.seenAgo(at); at.IsZero() || a.now.Sub(at) > staleAfter {
		return a.f("seen %s ago", ago)
	}
	return a.t("seen just now")
}

// itemName is what an item is called in a question.
func (a *App) itemName(it item) string {
	if it.field != nil {
		return a.label(it.field)
	}
	return a.buttonName(it.button)
}

// tellStep introduces a step: what it is for, and everything on it.
func (a *App) tellStep() {
	l, h := a.lines, &a.hub
	l.shown = h.step
	l.say("", a.f("Step %d of %d: %s.", int(h.step)+1, len(steps()), a.t(steps()[h.step].title)))
	l.say(a.stepHelp(h.step))
	switch {
	case h.sheet.Unreadable != "":
		l.say(a.t("Problem:")+" "+h.sheet.Unreadable, a.f("Correct %s or move it away, then start again. Nothing was changed.", h.sheet.Path))
		return
	case !h.sheet.Exists && h.step != stepWelcome:
		l.say(a.t("There is no site yet: name it on Welcome first."))
		return
	}
	if age := a.factsAge(); age != "" && h.step >= stepRoles && h.step <= stepReview {
		l.say(age)
	}
	a.tellAbout()
	l.from = 0
	a.tellItems(true)
}

// tellAbout tells what a step shows besides fields and rows.
func (a *App) tellAbout() {
	l, h := a.lines, &a.hub
	switch h.step {
	case stepWelcome:
		if h.sheet.Exists {
			l.say(a.f("Site %s, kept in %s.", h.sheet.Typed.Name, h.sheet.Path), a.f("%d BMCs found, %d servers read.", len(h.sheet.Found), len(h.sheet.Servers)))
		}
	case stepFind:
		for _, f := range h.sheet.Found {
			l.say(a.f("%s answers as %s: %s, %s.", f.Address, f.What, strings.TrimSpace(f.Vendor+" "+f.Product), a.seenText(f.At)))
		}
	case stepNetwork:
		for _, as := range h.assignments() {
			l.say(a.f("%s gets %s on port %s.", as.Hostname, as.Network.Address, portText(as)))
		}
	case stepChecks:
		if len(h.findings()) == 0 && len(h.assignments()) > 0 {
			l.say(a.t("No problem is known."))
		}
	case stepVirt:
		for _, as := range h.assignments() {
			vendor, offered := a.virtText(as)
			l.say(a.f("%s: processor %s, virtualization %s.", as.Hostname, vendor, offered))
		}
	case stepHandOff:
		a.tellHandOff()
	case stepReview:
		a.tellReview()
	}
	a.tellFacts(a.platformLines(h.step))
}

// tellHandOff reads the screen out.
func (a *App) tellHandOff() {
	b := body{w: 200, chosen: -1}
	a.handOff(&b)
	for _, row := range b.lines {
		text := plainLine(row)
		if strings.HasPrefix(text, a.t("HOST")+" ") {
			return // the servers follow as rows
		}
		if text != "" && !strings.HasPrefix(text, "[ ") {
			a.lines.say(a.spokenNote(text))
		}
	}
}

// tellReview lists what will be erased.
func (a *App) tellReview() {
	l, h := a.lines, &a.hub
	if why := a.blockers(); why != "" {
		l.say(a.t("The run cannot start:") + " " + why)
	}
	if h.sheet.Plan == nil {
		return
	}
	l.say(a.f("%d disks will be ERASED:", len(h.sheet.Plan.ErasedDisks())))
	for _, d := range h.disks() {
		if d.erase {
			l.say(a.diskSentence(d))
		}
	}
	l.say(a.f("The same by command: metalrise apply -f %s", h.sheet.Path))
}

// tellItems lists what can be chosen, with its numbers: fields and buttons when
// all is true, and the next rows.
func (a *App) tellItems(all bool) {
	l, h := a.lines, &a.hub
	told, rows := 0, 0
	for i, it := range h.items() {
		if it.field != nil || it.button != noButton {
			if all {
				l.say(fmt.Sprintf("%d. %s", i+1, a.itemSentence(it)))
			}
			continue
		}
		rows++
		if it.row < l.from || told == tellRows {
			continue
		}
		told++
		l.say(fmt.Sprintf("%d. %s", i+1, a.rowSentence(it.row)))
	}
	l.from += told
	switch {
	case l.from < rows:
		l.say(a.f("%d more; m tells the next ones.", rows-l.from))
	case !all && told == 0:
		l.say(a.t("That is all."))
	}
}

// itemSentence is a field with its value, or what a button does.
func (a *App) itemSentence(it item) string {
	f := it.field
	if f == nil {
		return a.buttonName(it.button)
	}
	out := a.label(f) + ": " + a.spokenValue(f)
	if why := a.hub.wrong[f.path]; why != "" {
		return out + ". " + a.t("Problem:") + " " + why
	}
	for _, x := range a.hub.findings() {
		if f.solves(x) && x.Severity != fleet.Info {
			out += ". " + a.severityWord(x.Severity) + ": " + a.engineText(x.Text)
		}
	}
	return out
}

// spokenValue is a field's value and where it comes from.
func (a *App) spokenValue(f *field) string {
	value, from, _ := a.fieldValue(f)
	switch {
	case value == "" && f.needed:
		return a.t("empty, a value is needed here")
	case value == "":
		return a.t("empty")
	case from == "":
		return value
	}
	return value + " (" + from + ")"
}

func (a *App) valuePrompt(f *field) string {
	value := a.spokenValue(f)
	if f.kind == secret {
		return a.f("%s, now %s. Type it, nothing is shown; Enter keeps it, ? helps:", a.label(f), value)
	}
	if f.path == pathConsent {
		return a.t("Number of disks to erase, typed; Enter goes back:")
	}
	if o := a.offered(f); o != "" {
		return a.f("%s. Found: %s. Enter takes it; or type another value, ? helps:", a.label(f), o)
	}
	if f.kind == choice {
		return a.f("%s, now %s. One of %s; Enter keeps it, - empties it, ? helps:", a.label(f), value, strings.Join(f.options[1:], ", "))
	}
	return a.f("%s, now %s. New value; Enter keeps it, - empties it, ? helps:", a.label(f), value)
}

// rowSentence is one row of a step's table.
func (a *App) rowSentence(row int) string {
	h := &a.hub
	switch h.step {
	case stepLook:
		k := h.sheet.Servers[row]
		f := k.Facts
		return a.f("Server %s, %s: %s processors, %s of memory, %d ports, %d disks, %s.", string(k.Server.ID),
			strings.TrimSpace(f.Manufacturer.Or("")+" "+f.Model.Or("")), f.CPU.Threads.String(), memoryText(f.MemoryMiB), len(f.NICs), len(f.Disks), a.seenText(f.At))
	case stepRoles:
		as := h.assignments()[row]
		return a.f("Server %s becomes %s, %s.", string(as.Server), as.Hostname, a.t(string(as.Role)))
	case stepDisks:
		return a.diskSentence(h.disks()[row])
	case stepHandOff:
		if row < len(a.run.view.Servers) {
			return a.handOffSentence(a.run.view.Servers[row])
		}
	case stepChecks:
		f := h.findings()[row]
		return a.severityWord(f.Severity) + ", " + string(f.Code) + ": " + strings.TrimSpace(string(f.Server)+" "+a.engineText(f.Text))
	}
	return ""
}

// handOffSentence says how a server can be reached and whether it runs VMs.
func (a *App) handOffSentence(s fleet.Status) string {
	address, kvm := "?", a.t("unknown")
	if as, ok := a.assignment(s.Server); ok {
		address = as.Network.Address
	}
	if v, ok := s.KVM.Get(); ok && v.Usable {
		kvm = a.t("works")
	} else if ok {
		kvm = a.f("not usable: %s", v.Why)
	}
	return a.f("%s, %s: %s, %s, KVM %s.", name(s), address, a.t(string(s.Phase)), a.t(string(s.Condition)), kvm)
}

// tellCard tells what a screen would show in a card, and closes it.
func (a *App) tellCard() {
	if a.popup == nil {
		return
	}
	for _, row := range a.popup.body {
		a.lines.say(plainLine(row))
	}
	a.popup = nil
}

// tellEngineLog tells the end of the engine's own log.
func (a *App) tellEngineLog() {
	l, log := a.lines, &a.run.log
	if log.wrong != "" {
		l.say(a.t("Problem:") + " " + log.wrong)
		return
	}
	l.say(log.lines[max(len(log.lines)-tellRows, 0):]...)
}

// diskSentence says what happens to a disk, and what was found on it.
func (a *App) diskSentence(d diskRow) string {
	found := a.t("not read")
	if d.seen != nil && d.seen.Contents != nil {
		found = strings.Join(d.seen.Contents, ", ")
	}
	if d.erase {
		return a.f("%s: disk %s of %s will be ERASED; found on it: %s.", d.assignment.Hostname, d.disk.String(), diskSize(d), found)
	}
	return a.f("%s: disk %s of %s is kept; found on it: %s.", d.assignment.Hostname, d.disk.String(), diskSize(d), found)
}

func (a *App) severityWord(s fleet.Severity) string {
	switch s {
	case fleet.Blocker:
		return a.t("Blocker")
	case fleet.Warning:
		return a.t("Warning")
	}
	return a.t("Note")
}

func portText(as fleet.Assignment) string {
	if as.Network.Bond != nil {
		return as.Network.Bond.Mode + " " + strings.Join(as.Network.Bond.MACs, " ")
	}
	return as.Network.MAC
}

// tellProblems tells all findings, with what to do.
func (a *App) tellProblems() {
	all := a.hub.findings()
	if len(all) == 0 {
		a.lines.say(a.t("No problem is known."))
	}
	for _, f := range all {
		where := strings.TrimSpace(string(f.Server) + " " + f.Path)
		a.lines.say(a.severityWord(f.Severity)+", "+string(f.Code)+", "+where+": "+a.engineText(f.Text)+" "+a.engineText(f.Remedy), "  "+a.f("Solved on step %d, %s.", int(stepOf(f))+1, a.t(steps()[stepOf(f)].title)))
	}
}

func (a *App) tellHelp() {
	for _, s := range linesHelp() {
		a.lines.say(a.t(s))
	}
}

func linesHelp() []string {
	return []string{
		say("Type the number of a line and Enter to choose it. Enter alone does what the question names first."),
		say("A chosen field asks for its value. What you type is checked and saved in the site file at once."),
		say("p tells all problems, s goes to any step, l tells this step again, m tells more rows, q leaves after a question."),
		say("Nothing is erased before you typed the number of disks on Review and then start."),
	}
}
