package tui

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"metalrise.dev/fleet"
)

// railWidth holds the longest title in either language, its number and mark.
const railWidth = 20

// body is what a step shows, line by line.
type body struct {
	w      int
	lines  []Line
	at     int    // line of the chosen item
	cursor *Point // in lines of the body
	next   int    // number of the next item
	chosen int    // -1: the keys are elsewhere
}

func (b *body) add(l Line) { b.lines = append(b.lines, l) }

func (b *body) text(style Style, s string) {
	for _, t := range wrap(s, b.w-1) {
		b.add(line(style, t))
	}
}

// under is text that belongs to the line above it.
func (b *body) under(style Style, s string) {
	for _, t := range wrap(s, b.w-5) {
		b.add(line(style, "    "+t))
	}
}

func (b *body) gap() { b.add(nil) }

// item draws something that the cursor can stand on, and tells whether it does.
func (b *body) item() (here bool, point string) {
	here = b.next == b.chosen
	b.next++
	if here {
		b.at = len(b.lines)
		return true, "▸ "
	}
	return false, "  "
}

func (a *App) viewHub() Picture {
	h := &a.hub
	if h.step == stepRun && !h.rail {
		return a.viewRun()
	}
	p := Picture{Lines: []Line{a.hubTitle()}}
	room := a.height - 3
	b := a.body(a.width - railWidth - 2)
	top := max(0, min(b.at-room/2, len(b.lines)-room))
	for i := range room {
		l := append(a.railRow(i), Span{Faint, "│ "})
		if top+i < len(b.lines) {
			l = append(l, b.lines[top+i]...)
		}
		p.Lines = append(p.Lines, l)
	}
	if b.cursor != nil && b.cursor.Y >= top && b.cursor.Y < top+room {
		p.Cursor = &Point{min(railWidth+2+b.cursor.X, a.width-1), b.cursor.Y - top + 1}
	}
	p.Lines = append(p.Lines, line(h.noted, " "+a.hubMessage()), line(Heading, " "+a.hubKeys()))
	return p
}

func (a *App) hubTitle() Line {
	h := &a.hub
	text := " metalrise · " + a.f("%d/%d %s", int(h.step)+1, len(steps()), a.t(steps()[h.step].title))
	if h.sheet.Exists {
		text += " · " + a.f("site %s", h.sheet.Typed.Name)
	}
	if id := planID(h.sheet); id != "" {
		text += " · " + a.f("plan %.12s", id)
	}
	if a.options.Replay {
		text += " · " + a.t("REPLAY")
	}
	return line(Title, text).fit(a.width)
}

func (a *App) railRow(i int) Line {
	if i >= len(steps()) {
		return Line{{Plain, strings.Repeat(" ", railWidth)}}
	}
	mark, style := a.markOf(step(i))
	text := Span{Plain, fit(fmt.Sprintf("%2d %s", i+1, a.t(steps()[i].title)), railWidth-3)}
	point := " "
	if step(i) == a.hub.step {
		text.Style, point = Heading, "▸"
		if a.hub.rail {
			text.Style = Selected
		}
	}
	return Line{{Plain, point}, {style, mark}, text, {Plain, " "}}
}

// stepHelp says what a step is for.
func (a *App) stepHelp(s step) string {
	about := steps()[s]
	more := about.keys
	if a.lines != nil {
		more = about.lines
	}
	if more == "" {
		return a.t(about.help)
	}
	return a.t(about.help) + a.gap() + a.t(more)
}

func (a *App) hubMessage() string {
	h := &a.hub
	for _, do := range []Do{DoFind, DoInspect, DoApply, DoCreate, DoSet, DoPassword, DoOverride} {
		p, ok := h.busy[do]
		if !ok {
			continue
		}
		switch do {
		case DoFind:
			return a.f("asking addresses: %d of %d done; Enter on Stop ends it", p.Done, p.Total)
		case DoInspect:
			return a.f("reading BMCs: %d of %d done; Enter on Stop ends it", p.Done, p.Total)
		case DoApply:
			return a.t("starting the engine; it verifies the image first")
		}
		return a.t("saving …")
	}
	return h.note
}

func (a *App) hubKeys() string {
	h := &a.hub
	it, ok := h.current()
	switch {
	case h.rail:
		return a.t("↑↓ choose a step   Enter go in   F2 problems   ? help   Ctrl-C leave")
	case h.editing:
		return a.t("Enter accept   Esc leave unsaved   Ctrl-U clear   F1 help")
	case ok && it.field != nil && it.field.kind == choice:
		return a.t("Space next value   ↑↓ move   Esc steps   F2 problems   ? help")
	case ok && it.field == nil && it.button == noButton && (h.step == stepRoles || h.step == stepDisks):
		return a.t("Space change   ↑↓ move   Esc steps   F2 problems   ? help")
	}
	return a.t("Enter go   ↑↓ move   Esc steps   F2 problems   ? help   Ctrl-C leave")
}

// body draws the step.
func (a *App) body(w int) body {
	h := &a.hub
	b := body{w: w, chosen: -1}
	if !h.rail {
		h.current()
		b.chosen = h.cursor[h.step]
	}
	b.add(line(Heading, a.t(steps()[h.step].title)))
	b.text(Plain, a.stepHelp(h.step))
	b.gap()
	if !h.sheet.Exists && h.sheet.Unreadable == "" && h.step != stepWelcome {
		b.text(Warn, a.t("There is no site yet: name it on Welcome first."))
		return b
	}
	if h.sheet.Unreadable != "" {
		a.welcome(&b)
		return b
	}
	for _, f := range h.fields() {
		a.fieldRow(&b, f)
	}
	switch h.step {
	case stepWelcome:
		a.welcome(&b)
	case stepFind:
		a.buttonRow(&b, findButton)
	case stepLook:
		a.buttonRow(&b, lookButton)
	case stepReview:
		a.review(&b)
	case stepHandOff:
		a.handOff(&b)
	case stepRun:
		b.text(Plain, a.t("Enter shows the run."))
	}
	if h.step < stepReview && h.sheet.Exists {
		a.buttonRow(&b, nextButton)
	}
	if h.hidesFields() {
		a.buttonRow(&b, moreButton)
	}
	if h.hasPlatform() {
		a.buttonRow(&b, stackButton)
	}
	b.gap()
	a.tables(&b)
	return b
}

func (a *App) welcome(b *body) {
	s := a.hub.sheet
	if s.Unreadable != "" {
		b.text(Bad, "✗ "+a.engineText(s.Unreadable))
		b.text(Plain, a.f("Correct %s or move it away, then start again. Nothing was changed.", s.Path))
		return
	}
	if !s.Exists {
		a.fieldRow(b, nameField())
		b.gap()
		if a.hub.loaded {
			b.text(Plain, a.f("A new site file is written to %s.", s.Path))
		}
		return
	}
	b.text(Plain, a.f("Site %s, kept in %s.", s.Typed.Name, s.Path))
	b.text(Plain, a.f("%d BMCs found, %d servers read.", len(s.Found), len(s.Servers)))
	if s.Applied != "" {
		b.text(Plain, a.f("Plan %.12s was started; its run can be watched.", s.Applied))
		b.gap()
		a.buttonRow(b, watchButton)
	}
}

// buttonName says what a button does.
func (a *App) buttonName(which button) string {
	switch which {
	case nextButton:
		return a.f("Next: %s", a.t(steps()[a.hub.step+1].title))
	case findButton:
		if _, busy := a.hub.busy[DoFind]; busy {
			return a.t("Stop")
		}
		return a.t("Find servers now")
	case lookButton:
		if _, busy := a.hub.busy[DoInspect]; busy {
			return a.t("Stop")
		}
		return a.t("Read all servers now")
	case startButton:
		return a.t("START: erase the disks above and install")
	case watchButton:
		return a.t("Watch the run")
	case pasteButton:
		return a.t("Commands to paste")
	case stackButton:
		return a.t("The VM platform in full")
	case moreButton:
		if a.hub.wide[a.hub.step] {
			return a.t("Fewer settings")
		}
		return a.t("More settings")
	}
	return ""
}

func (a *App) buttonRow(b *body, which button) {
	label := a.buttonName(which)
	here, point := b.item()
	style := Heading
	if here {
		style = Selected
	}
	b.add(Line{{Plain, point}, {style, "[ " + label + " ]"}})
}

// fieldRow draws label, value and origin, and what is wrong below.
func (a *App) fieldRow(b *body, f *field) {
	h := &a.hub
	here, point := b.item()
	const label, origin = 17, 10
	room := b.w - 2 - label - origin - 1
	value, from, style := a.fieldValue(f)
	editing := here && h.editing
	if editing {
		style = Editing
		shown := []rune(value)
		caret := min(max(h.caret, 0), len(shown))
		begin := 0
		for width(string(shown[begin:caret])) > room-1 {
			begin++
		}
		b.cursor = &Point{2 + label + width(string(shown[begin:caret])), len(b.lines)}
		value = string(shown[begin:])
	} else if here {
		style = Selected
	}
	if value == "" && !editing {
		value = "–"
	}
	b.add(Line{{Plain, point}, {Plain, fit(a.label(f), label)}, {style, fit(value, room)}, {Plain, " " + fit(from, origin)}})
	if why := h.wrong[f.path]; why != "" {
		b.under(Bad, "✗ "+why)
		return
	}
	if a.offered(f) != "" && !editing { // what is wrong with the value before does not matter
		if here {
			b.under(Plain, a.t("found on this computer; Enter and Enter again take it"))
		}
		return
	}
	for _, x := range h.findings() {
		if f.solves(x) && x.Severity != fleet.Info {
			b.under(severityStyle(x.Severity), severityMark(x.Severity)+" "+a.engineText(x.Text))
		}
	}
	if editing {
		b.under(Plain, a.t(f.help))
	}
}

// fieldValue gives what is shown of a field, and where it comes from.
func (a *App) fieldValue(f *field) (value, origin string, style Style) {
	h := &a.hub
	if d, ok := h.drafts[f.path]; ok {
		if f.kind == secret {
			d = strings.Repeat("*", len([]rune(d)))
		}
		return d, a.t("not saved"), Warn
	}
	if f.path == pathConsent {
		return h.consent, "", Plain
	}
	typed, full := ValueAt(h.sheet.Typed, f.path), ValueAt(h.sheet.Site, f.path)
	switch offer := a.offered(f); {
	case offer != "":
		return offer, a.t("found?"), Warn
	case typed != "" && typed == h.sheet.Offers[f.path]:
		return typed, a.t("found"), Plain
	case isExample(f.path, typed):
		return typed, a.t("example"), Faint
	case typed != "" && h.typed[f.path]:
		return typed, a.t("typed"), Plain
	case typed != "":
		return typed, a.t("file"), Plain
	case full != "":
		return full, a.t("default"), Plain
	}
	return "", "", Plain
}

// review is the one page before disks are erased.
func (a *App) review(b *body) {
	h := &a.hub
	p := h.sheet.Plan
	if p == nil {
		b.text(Warn, a.t("nothing can be planned yet: see F2"))
		b.next += 2
		return
	}
	active := 0
	for _, as := range p.Assignments {
		if as.Role != fleet.Excluded {
			active++
		}
	}
	b.text(Plain, strings.TrimSpace(a.f("%d servers get %s %s.", active, p.Image.Stream, p.Image.Version)+a.gap()+a.factsAge()))
	if why := a.blockers(); why != "" {
		b.text(Bad, "✗ "+why)
	}
	b.text(Bad, a.f("%d disks will be ERASED:", len(p.ErasedDisks())))
	for _, d := range h.disks() {
		if d.erase {
			b.add(Line{{Plain, "  " + fit(d.assignment.Hostname, 14) + " " + fit(d.disk.String(), 30) + " " + diskSize(d)}})
		}
	}
	b.gap()
	a.fieldRow(b, consentField())
	a.buttonRow(b, startButton)
	b.gap()
	b.text(Plain, a.f("The same by command: metalrise apply -f %s", h.sheet.Path))
}

func diskSize(d diskRow) string {
	size := d.disk.SizeBytes
	if d.seen != nil {
		size = d.seen.SizeBytes.Or(size)
	}
	if size == 0 {
		return "?"
	}
	return sizeText(size)
}

// staleAfter is the age from which something seen is shown with its age.
const staleAfter = 10 * time.Second

// seenAgo is the age of something read from hardware.
func (a *App) seenAgo(at time.Time) string {
	if at.IsZero() {
		return "-"
	}
	if d := a.now.Sub(at); d > staleAfter {
		return span(d)
	}
	return a.t("now")
}

// factsAge tells the age of the oldest facts that the plan is made from; nothing
// when they are fresh.
func (a *App) factsAge() string {
	var oldest time.Time
	for _, k := range a.hub.sheet.Servers {
		if oldest.IsZero() || k.Facts.At.Before(oldest) {
			oldest = k.Facts.At
		}
	}
	if oldest.IsZero() || a.now.Sub(oldest) <= staleAfter {
		return ""
	}
	return a.f("Made from what was read %s ago.", span(a.now.Sub(oldest)))
}

func memoryText(m fleet.Maybe[int64]) string {
	if v, ok := m.Get(); ok {
		return strconv.FormatInt((v+512)/1024, 10) + " GiB"
	}
	return "?"
}
