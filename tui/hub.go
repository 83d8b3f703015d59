package tui

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"metalrise.dev/fleet"
)

// hub is the state of the wizard: a rail of steps, any of which may be visited
// at any time, and the site as it is known.
type hub struct {
	step     step
	rail     bool // the keys go to the rail
	cursor   [stepHandOff + 1]int
	wide     [stepHandOff + 1]bool // fields that few people need are shown
	sheet    Sheet
	problems []fleet.Finding // of the sheet, worst first
	loaded   bool
	drafts   map[string]string // by path: typed and not accepted
	caret    int               // in letters, while editing
	editing  bool
	wrong    map[string]string // by path: why a value was refused
	typed    map[string]bool   // by path: accepted in this session
	busy     map[Do]Progress
	note     string
	noted    Style
	nodes    int       // of the run, for the hand-off's rows
	consent  string    // number of disks as typed
	since    time.Time // of the consent
}

const (
	pathName    = "name"
	pathConsent = "consent"
)

func newHub() hub {
	return hub{drafts: map[string]string{}, wrong: map[string]string{}, typed: map[string]bool{}, busy: map[Do]Progress{}}
}

// take puts a newer sheet in place. A consent is one for the plan that was
// shown: another plan asks for another one.
func (h *hub) take(s Sheet) {
	if h.loaded && s.Revision < h.sheet.Revision {
		return
	}
	if planID(s) != planID(h.sheet) {
		h.consent = ""
		delete(h.drafts, pathConsent)
	}
	h.sheet, h.loaded = s, true
	h.problems = problemsOf(s)
}

func planID(s Sheet) string {
	if s.Plan == nil {
		return ""
	}
	return s.Plan.ID
}

func (h *hub) start(do Do, a Action) []Action {
	h.busy[do] = Progress{Do: do}
	return []Action{a}
}

func (h *hub) progress(p Progress) {
	if _, ok := h.busy[p.Do]; ok {
		h.busy[p.Do] = p
	}
}

func (h *hub) say(style Style, text string) { h.noted, h.note = style, text }

func (h *hub) go_(s step) {
	h.step = min(max(s, stepWelcome), stepHandOff)
	h.editing = false
	h.note = ""
}

// jump goes to where a finding is solved: its field, or its server's row.
func (h *hub) jump(f fleet.Finding) {
	h.go_(stepOf(f))
	h.rail = false
	for i, it := range h.items() {
		switch {
		case it.field != nil && it.field.solves(f):
			h.cursor[h.step] = i
			return
		case it.field == nil && it.button == noButton && f.Server != "" && h.serverAt(it.row) == f.Server:
			h.cursor[h.step] = i
			return
		}
	}
}

// serverAt is the server that a row of the step's table is about.
func (h *hub) serverAt(row int) fleet.ServerID {
	switch h.step {
	case stepLook:
		return h.sheet.Servers[row].Server.ID
	case stepRoles:
		return h.assignments()[row].Server
	case stepDisks:
		return h.disks()[row].assignment.Server
	}
	return ""
}

// done takes the end of an action that concerns the site.
func (h *hub) done(a *App, d Done) []Action {
	delete(h.busy, d.Do)
	if d.Sheet != nil {
		h.take(*d.Sheet)
	}
	if d.Err != nil {
		if d.Path != "" {
			h.wrong[d.Path] = a.causeText(d.Err)
		}
		h.say(Bad, "✗ "+a.causeText(d.Err))
		return nil
	}
	if d.Stopped {
		h.say(Warn, "! "+a.t("stopped; what was read until then is kept"))
		return nil
	}
	if d.Path != "" {
		delete(h.drafts, d.Path)
		delete(h.wrong, d.Path)
		h.typed[d.Path] = true
		h.say(Good, "✓ "+a.f("saved in %s", h.sheet.Path))
	}
	switch d.Do {
	case DoCreate:
		h.go_(stepFind)
	case DoOverride:
		h.say(Good, "✓ "+a.f("saved in %s", h.sheet.Path))
	case DoFind:
		h.say(Plain, a.f("%d BMCs answer", len(h.sheet.Found)))
	case DoInspect:
		h.say(Plain, a.f("%d servers were read", len(h.sheet.Servers)))
	}
	return nil
}

// item is one thing on a step that the cursor can stand on.
type item struct {
	field  *field
	button button
	row    int // of the step's table, when neither of the others
}

// button is something that Enter does.
type button string

const (
	noButton    button = ""
	nextButton  button = "next"
	findButton  button = "find"
	lookButton  button = "look"
	startButton button = "start"
	moreButton  button = "more"
	watchButton button = "watch"
	pasteButton button = "paste"
	stackButton button = "stack"
)

// items lists what the cursor can stand on, from top to bottom.
func (h *hub) items() []item {
	var out []item
	add := func(b button) { out = append(out, item{button: b}) }
	if h.step == stepWelcome && !h.sheet.Exists && h.sheet.Unreadable == "" {
		return []item{{field: nameField()}}
	}
	if !h.sheet.Exists {
		return nil
	}
	for _, f := range h.fields() {
		out = append(out, item{field: f})
	}
	switch h.step {
	case stepWelcome:
		if h.sheet.Applied != "" {
			add(watchButton)
		}
	case stepFind:
		add(findButton)
	case stepLook:
		add(lookButton)
	case stepReview:
		out = append(out, item{field: consentField()})
		add(startButton)
	case stepHandOff:
		add(pasteButton)
	}
	if h.step < stepReview {
		add(nextButton)
	}
	if h.hidesFields() {
		add(moreButton)
	}
	if h.hasPlatform() {
		add(stackButton)
	}
	for i := range h.rows() {
		out = append(out, item{row: i})
	}
	return out
}

// fields are those of the step that are shown: what few people need is hidden
// until it is asked for, has a value, or is wrong.
func (h *hub) fields() []*field {
	all := fields(h.step)
	if h.step == stepDisks {
		all = append(all, h.foreignFields()...)
	}
	return slices.DeleteFunc(all, func(f *field) bool { return f.more && !h.wide[h.step] && !h.inUse(f) })
}

// hidesFields tells whether the step has fields that are not in use.
func (h *hub) hidesFields() bool {
	return h.sheet.Exists && slices.ContainsFunc(fields(h.step), func(f *field) bool { return f.more && !h.inUse(f) })
}

func (h *hub) inUse(f *field) bool {
	if _, draft := h.drafts[f.path]; draft || h.wrong[f.path] != "" || ValueAt(h.sheet.Typed, f.path) != "" {
		return true
	}
	return slices.ContainsFunc(h.findings(), func(x fleet.Finding) bool { return x.Path == f.path })
}

// rows counts the rows of the step's table on which Space or Enter does
// something.
func (h *hub) rows() int {
	switch h.step {
	case stepLook:
		return len(h.sheet.Servers)
	case stepRoles:
		return len(h.assignments())
	case stepDisks:
		return len(h.disks())
	case stepChecks:
		return len(h.findings())
	case stepHandOff:
		return h.nodes
	}
	return 0
}

func nameField() *field {
	return &field{path: pathName, label: say("Site name"), needed: true, help: say("Small letters, digits and hyphens. Part of every host name.")}
}

func consentField() *field {
	return &field{path: pathConsent, label: say("Disks to erase"), needed: true, help: say("The number of disks to be erased, typed. It is your consent to erase exactly those that are listed.")}
}

// offered is a value that was found for a field which has none of its own yet.
func (a *App) offered(f *field) string {
	v := ValueAt(a.hub.sheet.Typed, f.path)
	if v == "" || isExample(f.path, v) {
		return a.hub.sheet.Offers[f.path]
	}
	return ""
}

func (h *hub) assignments() []fleet.Assignment {
	if h.sheet.Plan == nil {
		return nil
	}
	return h.sheet.Plan.Assignments
}

func (h *hub) current() (item, bool) {
	items := h.items()
	if len(items) == 0 {
		return item{}, false
	}
	h.cursor[h.step] = min(max(h.cursor[h.step], 0), len(items)-1)
	return items[h.cursor[h.step]], true
}

func (h *hub) typing() bool { return h.editing && !h.rail }

func (h *hub) secret() bool {
	it, ok := h.current()
	return ok && !h.rail && it.field != nil && it.field.kind == secret
}

// findings are all problems that are known, worst first.
func (h *hub) findings() []fleet.Finding { return h.problems }

func problemsOf(s Sheet) []fleet.Finding {
	out := slices.Concat(s.Findings, s.Survey)
	if s.Plan != nil {
		out = append(out, s.Plan.Findings...)
	}
	rank := map[fleet.Severity]int{fleet.Blocker: 0, fleet.Warning: 1, fleet.Info: 2}
	slices.SortStableFunc(out, func(x, y fleet.Finding) int { return rank[x.Severity] - rank[y.Severity] })
	return out
}

// diskRow is one disk of one server, as the plan treats it.
type diskRow struct {
	assignment fleet.Assignment
	disk       fleet.DiskRef
	erase      bool
	seen       *fleet.Disk
}

func (h *hub) disks() []diskRow {
	facts := map[fleet.ServerID]fleet.Facts{}
	for _, k := range h.sheet.Servers {
		facts[k.Server.ID] = k.Facts
	}
	var out []diskRow
	for _, as := range h.assignments() {
		if as.Role == fleet.Excluded {
			continue
		}
		row := func(d fleet.DiskRef, erase bool) {
			r := diskRow{assignment: as, disk: d, erase: erase}
			for _, seen := range facts[as.Server].Disks {
				if d.Match(seen) {
					r.seen = &seen
				}
			}
			out = append(out, r)
		}
		if as.InstallDisk != (fleet.DiskRef{}) {
			row(as.InstallDisk, true)
		}
		for _, d := range as.KeepDisks {
			row(d, false)
		}
	}
	return out
}

// blockers tells why the run cannot start, in a few words; "" when it can.
func (a *App) blockers() string {
	h := &a.hub
	switch {
	case len(h.sheet.Servers) == 0:
		return a.t("no server was read yet: see Look inside")
	case h.sheet.Plan == nil:
		return a.t("nothing can be planned yet: see F2")
	}
	for s := stepFind; s < stepChecks; s++ {
		for _, f := range fields(s) {
			if _, ok := h.drafts[f.path]; ok {
				return a.f("%s was typed but not saved", a.label(f))
			}
		}
	}
	n := 0
	for _, f := range h.findings() {
		if f.Severity == fleet.Blocker {
			n++
		}
	}
	for s := stepFind; s < stepChecks; s++ {
		for _, f := range fields(s) {
			if f.needed && f.path != "image" && isExample(f.path, ValueAt(h.sheet.Typed, f.path)) {
				return a.f("%s still has an example value", a.label(f))
			}
		}
	}
	if n > 0 {
		return a.f("%d blockers: see F2", n)
	}
	return ""
}

// markOf tells how a step stands.
func (a *App) markOf(s step) (string, Style) {
	h := &a.hub
	worst := fleet.Severity("")
	for _, f := range h.findings() {
		if (stepOf(f) == s || s == stepChecks) && (worst == "" || f.Severity == fleet.Blocker) {
			worst = f.Severity
		}
	}
	for _, f := range fields(s) {
		v := ValueAt(h.sheet.Typed, f.path)
		if f.needed && (v == "" || isExample(f.path, v)) {
			return "·", Plain
		}
		if h.wrong[f.path] != "" {
			return "✗", Bad
		}
	}
	if worst == fleet.Blocker || worst == fleet.Warning {
		return severityMark(worst), severityStyle(worst)
	}
	done := h.sheet.Exists
	switch s {
	case stepFind:
		done = len(h.sheet.Found) > 0
	case stepLook:
		done = len(h.sheet.Servers) > 0
	case stepRoles, stepDisks, stepChecks:
		done = len(h.assignments()) > 0
	case stepReview:
		done = h.sheet.Applied != "" && h.sheet.Applied == planID(h.sheet)
	case stepRun, stepHandOff:
		settled, held := a.run.count()
		if held > 0 {
			return "✗", Bad
		}
		done = settled > 0 && settled == len(a.run.view.Servers)
	}
	if done {
		return "✓", Good
	}
	return "·", Plain
}

// parse turns what was typed into the value that the site file takes.
func (a *App) parse(f *field, typed string) (any, string) {
	typed = strings.TrimSpace(typed)
	switch {
	case typed == "" && f.needed:
		return nil, a.t("a value is needed here")
	case typed == "":
		return nil, ""
	case f.kind == list:
		return strings.FieldsFunc(typed, func(r rune) bool { return r == ',' || r == ' ' || r == '、' }), ""
	case f.kind == number || f.path == "cluster.controlPlanes":
		n, err := strconv.Atoi(typed)
		if err != nil {
			return nil, a.t("a whole number is needed here")
		}
		return n, ""
	case len(f.options) == 2 && f.options[1] == "true":
		return typed == "true", ""
	}
	return typed, ""
}
