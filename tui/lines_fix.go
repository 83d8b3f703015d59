package tui

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// What the run screen has as pages of their own is asked here line by line: the
// way from a held server to its next attempt, leaving a server out, and the
// choice of a way to boot. The state is that of the screens, and every answer
// becomes the key that they would get.

// offerPicks tells a card whose rows can be chosen, and asks for one.
func (a *App) offerPicks() []Action {
	l, p := a.lines, a.popup
	n := 0
	for i, row := range p.body {
		text := a.spokenNote(plainLine(row))
		if i < len(p.picks) && p.picks[i] != nil {
			n++
			text = fmt.Sprintf("%d. %s", n, text)
		}
		if text != "" {
			l.say(text)
		}
	}
	l.picks = slices.DeleteFunc(slices.Clone(p.picks), func(f func() []Action) bool { return f == nil })
	a.popup = nil
	l.mode, l.prompt = askPick, a.t("Number to begin another attempt this way, or Enter to go back:")+" "
	return nil
}

// answerPick takes the number of a row.
func (a *App) answerPick(text string) []Action {
	l := a.lines
	l.mode = askMenu
	n, err := strconv.Atoi(text)
	if text != "" && (err != nil || n < 1 || n > len(l.picks)) {
		l.say(a.f("%q is none of the answers.", text))
	}
	if text == "" || err != nil || n < 1 || n > len(l.picks) {
		a.ask()
		return nil
	}
	acts := l.picks[n-1]()
	l.say(a.run.note)
	a.ask()
	return acts
}

// askFix tells where the way to a next attempt is and asks what is open on it.
// acts are passed on.
func (a *App) askFix(acts []Action) []Action {
	l, f := a.lines, a.run.fix
	if f == nil { // it is over
		l.mode = askMenu
		l.say(a.run.note)
		a.ask()
		return acts
	}
	l.mode = askFixing
	if f.stage != fixAsking && f.stage != fixTyping {
		a.tellFix()
	} else if f.wrong != "" {
		l.say(a.t("Problem:") + " " + f.wrong)
	}
	switch f.stage {
	case fixAsking:
		a.tellRemedies()
	case fixTyping:
		r := f.rows[f.cursor]
		l.prompt = a.f("%s, now %s. New value; Enter keeps it:", r.label, a.spokenRemedy(r)) + " "
	case fixSame:
		l.prompt = a.t("Enter begins another attempt; - goes back:") + " "
	case fixConsent:
		switch {
		case a.fixBlocked() != "":
			l.prompt = a.t("Enter goes back:") + " "
		case a.moreIsErased():
			l.prompt = a.t("Number of disks to erase, typed; Enter goes back:") + " "
		default:
			l.prompt = a.t("Type start for the new plan; Enter goes back, the change stays in the file:") + " "
		}
	}
	return acts
}

// tellFix reads the screen out.
func (a *App) tellFix() {
	rows, _ := a.fixRows(200)
	for _, row := range rows {
		if text := plainLine(row); text != "" {
			a.lines.say(a.spokenNote(text))
		}
	}
}

func (a *App) tellRemedies() {
	l, f := a.lines, a.run.fix
	if f.exclude {
		if s, ok := a.run.status(f.server); ok {
			l.say(a.excludeText(s)...)
		}
		l.prompt = a.t("y leaves it out, Enter goes back:") + " "
		return
	}
	for i, r := range f.rows {
		l.say(fmt.Sprintf("%d. %s: %s", i+1, r.label, a.spokenRemedy(r)))
	}
	l.prompt = a.t("Number of the value to change, or Enter to go back:") + " "
}

func (a *App) spokenRemedy(r remedy) string {
	switch {
	case r.now == "":
		return a.t("empty")
	case r.kind == secret:
		return a.t("kept")
	}
	return r.now
}

// answerFix takes an answer on that way.
func (a *App) answerFix(text string) []Action {
	l, f := a.lines, a.run.fix
	if f == nil {
		return a.askFix(nil)
	}
	word := strings.ToLower(strings.TrimSpace(text))
	back := func() []Action {
		a.run.fix, a.run.note = nil, a.t("nothing more is changed")
		return a.askFix(nil)
	}
	key := func(in Input) []Action {
		in.At = a.now
		return a.askFix(a.pressFix(in))
	}
	switch f.stage {
	case fixAsking:
		n, err := strconv.Atoi(word)
		switch {
		case word == "":
			return back()
		case f.exclude && (word == "y" || word == "yes" || word == "はい"):
			return key(Input{Text: "y"})
		case !f.exclude && err == nil && n >= 1 && n <= len(f.rows):
			f.cursor, f.wrong = n-1, ""
			return key(Input{Key: "enter"})
		}
	case fixTyping:
		if text == "" {
			return key(Input{Key: "esc"})
		}
		f.text, f.caret = text, 0
		return key(Input{Key: "enter"})
	case fixSame:
		if word == "" {
			return key(Input{Key: "enter"})
		}
		return back()
	case fixConsent:
		switch {
		case word == "" || a.fixBlocked() != "":
			return back()
		case a.moreIsErased():
			f.consent, f.typed = word, a.now.Add(-grace) // a line is ended on purpose
			return key(Input{Key: "enter"})
		case word == "start":
			return key(Input{Key: "enter"})
		}
	default: // saving, reading or starting: the next question comes by itself
		l.say(a.t("saving …"))
		return nil
	}
	l.say(a.f("%q is none of the answers.", text))
	return a.askFix(nil)
}
