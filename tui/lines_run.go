package tui

import (
	"strconv"
	"strings"

	"metalrise.dev/fleet"
)

// askRun is the question while the run is watched. What happens is told above
// it, as it comes.
func (a *App) askRun() {
	l := a.lines
	if l.shown != stepRun {
		l.shown = stepRun
		if a.options.Attach {
			l.say(a.f("The run of %s.", a.options.Title))
		} else {
			l.say("", a.f("Step %d of %d: %s.", int(stepRun)+1, len(steps()), a.t(steps()[stepRun].title)))
		}
		l.say(a.t("What happens is told as it comes. Type ? for what you can ask."))
		if a.run.seen {
			a.tellRun()
		}
	}
}

// tellRun tells what is new in the run: at most ten servers by name, and all
// that need a person.
func (a *App) tellRun() {
	l, r := a.lines, &a.run
	if r.lost == nil && !r.seen {
		return
	}
	if notice := strings.TrimSpace(plainLine(a.runNotice())); notice != l.notice && !strings.Contains(notice, a.t("REPLAY")) {
		l.notice = notice
		if notice != "" && a.now.Sub(r.view.At) < staleAfter || r.lost != nil {
			l.say(a.spokenNote(notice))
		}
	}
	if r.view.Plan == "" && l.told[""] == "" && r.lost == nil {
		l.told[""] = "nothing"
		l.say(a.t("No plan was applied yet; Review starts one. Type s for the steps."))
	}
	var changed []fleet.Status
	for _, s := range r.view.Servers {
		if now := runState(s); now != l.told[s.Server] {
			l.told[s.Server] = now
			changed = append(changed, s)
		}
	}
	for i, s := range changed {
		if i < 10 || s.Condition == fleet.Held {
			l.say(a.statusSentence(s))
		}
	}
	defer a.tellPlatform()
	if len(changed) > 10 {
		l.say(a.f("%d servers moved on; Enter tells how all stand.", len(changed)))
	}
}

// runState is what about a server is worth a sentence: not every percent.
func runState(s fleet.Status) string {
	quarter := int64(0)
	if s.Total > 0 {
		quarter = 4 * min(s.Done, s.Total) / s.Total
	}
	step := s.Step
	if s.Condition == fleet.Moving {
		step = "" // single acts of a second each
	}
	return strings.Join([]string{string(s.Phase), string(s.Condition), step, strconv.FormatInt(quarter, 10), strconv.Itoa(s.Attempt)}, "|")
}

// statusSentence is where a server is, in one sentence.
func (a *App) statusSentence(s fleet.Status) string {
	what := a.stepText(s)
	if s.Done > 0 && s.Total > 0 && s.Phase == fleet.Booted {
		what = a.f("%d %% of its disk is written", 100*min(s.Done, s.Total)/s.Total)
	}
	out := a.f("%s: %s, %s, %s.", name(s), a.t(string(s.Phase)), a.t(string(s.Condition)), what)
	if s.Cause != nil {
		out += " " + a.causeText(s.Cause)
	}
	return out
}

// answerRun takes a word about the run.
func (a *App) answerRun(text string) []Action {
	r := &a.run
	word, rest, _ := strings.Cut(text, " ")
	rest = strings.TrimSpace(rest)
	switch strings.ToLower(word) {
	case "":
		a.tellSummary()
	case "?":
		for _, s := range linesRunHelp() {
			a.lines.say(a.t(s))
		}
	case "s":
		if !a.options.Attach {
			return a.offerSteps()
		}
		a.lines.say(a.f("%q is none of the answers.", text))
	case "n":
		if !a.options.Attach {
			a.hub.go_(stepHandOff)
			a.ask()
		}
	case "h":
		a.nextHeld()
		if s, ok := r.chosen(); ok && s.Condition == fleet.Held {
			a.tellServer(s)
		} else {
			a.lines.say(a.t("no server is held"))
		}
	case "l":
		a.tellJournal(rest)
	case "r", "c", "x", "o", "b":
		return a.aboutNamed(strings.ToLower(word), rest)
	case "g":
		acts := a.gather()
		a.lines.say(r.note)
		return acts
	case "w":
		return []Action{{Do: DoLog}}
	case "e":
		acts := a.pressRun(Input{Text: "e", At: a.now})
		a.lines.say(r.note)
		return acts
	case "d":
		return a.quit()
	case "q":
		return a.offerLeave()
	default:
		if s, ok := a.statusOf(text); ok {
			a.tellServer(s)
		} else {
			a.lines.say(a.f("%q is none of the answers.", text))
		}
	}
	return nil
}

func linesRunHelp() []string {
	return []string{
		say("Enter: how all servers stand. A host's name or number: everything about it."),
		say("h: the next server that is held. Without a NAME, a letter below is for the server that was told last."),
		say("r NAME: another attempt with it. c NAME: change the value that holds it and go on. x NAME: leave it out of the plan."),
		say("b NAME: ways to boot it. o NAME: how to reach its console."),
		say("l TEXT: the last lines of the journal, only those with TEXT where one is given. w: the engine's own log. g: gather a report."),
		say("e: start the engine again when it is gone. n: Hand-off. s: the steps."),
		say("d: leave; the engine goes on. q: the same, after a question."),
	}
}

// statusOf finds a server by host name, id or number in the list.
func (a *App) statusOf(text string) (fleet.Status, bool) {
	for i, s := range a.run.view.Servers {
		if text == s.Hostname || text == string(s.Server) || text == strconv.Itoa(i+1) {
			a.run.move(i - a.run.cursor)
			return s, true
		}
	}
	return fleet.Status{}, false
}

// aboutNamed does what a key of the run screen does with one server; without a
// name with the one that was told last.
func (a *App) aboutNamed(key, text string) []Action {
	l, r := a.lines, &a.run
	if text != "" {
		if _, ok := a.statusOf(text); !ok {
			l.say(a.f("%q is none of the answers.", text))
			return nil
		}
	}
	acts := a.letter(key)
	if r.fix != nil {
		return a.askFix(acts)
	}
	if p := a.popup; p != nil && len(p.picks) > 0 {
		return a.offerPicks()
	}
	if a.popup != nil {
		a.tellCard()
		return acts
	}
	l.say(r.note)
	return acts
}

// tellJournal tells the last lines of the journal that hold a text.
func (a *App) tellJournal(text string) {
	var rows []string
	want := strings.ToLower(text)
	for _, e := range a.run.events {
		if row := a.logText(e); strings.Contains(strings.ToLower(row), want) {
			rows = append(rows, row)
		}
	}
	if len(rows) == 0 {
		a.lines.say(a.t("The journal has no such line."))
	}
	a.lines.say(rows[max(len(rows)-tellRows, 0):]...)
}

func (a *App) tellSummary() {
	l, r := a.lines, &a.run
	if len(r.view.Servers) == 0 {
		l.say(a.t("No plan was applied yet; Review starts one. Type s for the steps."))
		return
	}
	bar := a.siteBar()
	l.say(plainLine(bar[min(2, len(bar)):]))
	if notice := a.runNotice(); notice != nil {
		l.say(a.spokenNote(plainLine(notice)))
	}
	for i, s := range r.view.Servers {
		if i < tellRows || s.Condition == fleet.Held {
			l.say(strconv.Itoa(i+1) + ". " + a.statusSentence(s))
		}
	}
	if n := len(r.view.Servers); n > tellRows {
		l.say(a.f("%d servers in all; type a host's name for one of the others.", n))
	}
}

func (a *App) tellServer(s fleet.Status) {
	for _, row := range a.about(s, 200) {
		a.lines.say(a.spokenNote(plainLine(row)))
	}
}
