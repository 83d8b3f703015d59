package tui

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"metalrise.dev/fleet"
)

// runRoom is how many lines are left for what a page shows: above are title,
// bar, notice and the cluster, below the message and two lines of keys.
func (a *App) runRoom() int {
	room := a.height - 6
	if a.run.view.Cluster != nil {
		room--
	}
	if a.run.view.Stack != nil {
		room--
	}
	return room
}

func (a *App) viewRun() Picture {
	var p Picture
	p.Lines = append(p.Lines, a.runTitle(), a.siteBar(), a.runNotice())
	if a.run.view.Cluster != nil {
		p.Lines = append(p.Lines, a.clusterLine())
	}
	if a.run.view.Stack != nil {
		p.Lines = append(p.Lines, a.platformLine())
	}
	room := a.runRoom()
	switch {
	case a.run.fix != nil:
		rows, cursor := a.fixRows(room)
		if cursor != nil {
			cursor.Y += len(p.Lines)
			p.Cursor = cursor
		}
		p.Lines = append(p.Lines, rows...)
	case !a.run.seen:
		text := a.t("looking for the run …")
		if a.run.lost != nil {
			text = ""
		}
		p.Lines = append(p.Lines, line(Plain, " "+text))
	case a.run.view.Plan == "":
		text := a.t("No plan was applied yet; there is nothing to watch. metalrise apply begins one.")
		if !a.options.Attach {
			text = a.t("No plan was applied yet; Review starts one. Esc leads to the steps.")
		}
		p.Lines = append(p.Lines, nil, line(Plain, " "+text))
	case a.run.page == pageLog:
		p.Lines = append(p.Lines, a.logRows(room)...)
	case a.run.page == pageCard:
		p.Lines = append(p.Lines, a.cardRows(a.width, room)...)
	case a.width >= 112:
		p.Lines = append(p.Lines, a.beside(room)...)
	default:
		rows := min(max(len(a.run.view.Servers), 1), max(room/2-2, 5))
		p.Lines = append(p.Lines, a.table(a.width, rows+1)...)
		p.Lines = append(p.Lines, line(Faint, strings.Repeat("─", a.width)))
		p.Lines = append(p.Lines, a.details(a.width, room-rows-2)...)
	}
	for len(p.Lines) < a.height-3 {
		p.Lines = append(p.Lines, nil)
	}
	keys := a.runKeys()
	p.Lines = append(p.Lines[:a.height-3], line(Plain, " "+a.runMessage()), line(Heading, " "+keys[0]), line(Heading, " "+keys[1]))
	return p
}

func (a *App) runTitle() Line {
	r := &a.run
	title := a.options.Title
	if r.view.Site != "" {
		title = r.view.Site
	}
	text := " metalrise · " + a.t("Run") + " · " + title
	if r.view.Plan != "" {
		text += " · " + a.f("plan %.12s", r.view.Plan)
	}
	if a.options.Replay {
		text += " · " + a.t("REPLAY")
	}
	return line(Title, text).fit(a.width)
}

// siteBar sums up all servers.
func (a *App) siteBar() Line {
	r := &a.run
	if len(r.view.Servers) == 0 {
		return nil
	}
	settled, held := r.count()
	part := r.whole()
	if settled < len(r.view.Servers) {
		part = min(part, 0.99)
	}
	done := a.f("%d of %d installed", settled, len(r.view.Servers))
	if r.view.Cluster != nil {
		done = a.f("%d of %d ready", settled, len(r.view.Servers))
	}
	l := Line{{Plain, " "}, {Busy, bar(part, 16)}, {Heading, fmt.Sprintf(" %3d %%  ", int(part*100))}, {Plain, done}}
	if held > 0 {
		l = append(l, Span{Plain, "  "}, Span{Bad, a.f("%d held", held)})
	}
	if r.began.IsZero() {
		return l
	}
	end := a.now
	if r.view.Quiet && !r.last.IsZero() {
		end = r.last
	}
	l = append(l, Span{Plain, "  " + a.f("elapsed %s", span(end.Sub(r.began)))})
	if left, ok := r.estimate(a.now); ok && r.view.Engine {
		l = append(l, Span{Plain, "  " + a.f("about %s left", span(left))})
	}
	return l
}

// clusterLine is where the cluster stands.
func (a *App) clusterLine() Line {
	c := a.run.view.Cluster
	if !c.Begun {
		return line(Plain, " "+a.f("cluster %s not begun yet: control planes are being installed first", c.Version))
	}
	mark, style, reach := "✓", Good, a.t("answers")
	switch {
	case !c.Up:
		mark, style, reach = "●", Busy, a.t("is being begun")
	case !c.Reachable:
		mark, style, reach = "✗", Bad, a.t("does not answer")
	}
	joined, planes := a.run.controlPlanes()
	l := Line{{Plain, " "}, {style, mark}, {Plain, " API " + c.Endpoint + " "}, {style, reach},
		{Plain, " · " + a.f("control planes %d/%d", joined, planes)}}
	if c.Kubeconfig != "" {
		l = append(l, Span{Plain, " · " + c.Kubeconfig})
	}
	return l
}

// controlPlanes counts those that joined, and all of the plan.
func (r *run) controlPlanes() (joined, all int) {
	for _, s := range r.view.Servers {
		if s.Role != fleet.ControlPlane && s.Role != fleet.SingleNode {
			continue
		}
		all++
		if s.Phase == fleet.Joined || s.Phase == fleet.Ready {
			joined++
		}
	}
	return joined, all
}

// runNotice says when what is shown is not live.
func (a *App) runNotice() Line {
	r := &a.run
	switch {
	case r.lost != nil:
		return line(Bad, " ✗ "+a.f("the run cannot be read: %s; trying again", a.causeText(r.lost)))
	case !r.seen || r.view.Plan == "":
		return nil
	case !r.view.Engine && !r.view.Quiet:
		return line(Bad, " ✗ "+a.t("the engine is not running; nothing is lost. Press e to start it again"))
	case a.now.Sub(r.view.At) > 10*time.Second:
		return line(Warn, " ! "+a.f("seen %s ago", span(a.now.Sub(r.view.At))))
	case r.view.Quiet:
		settled, held := r.count()
		if held > 0 {
			return line(Warn, " ! "+a.f("nothing moves: %d installed, %d held for a person", settled, held))
		}
		if s := r.view.Stack; s != nil && !s.Done {
			return line(Warn, " ! "+a.t("nothing moves: the VM platform needs a person; r tries it again"))
		} else if s != nil {
			return line(Good, " ✓ "+a.t("the VM platform is there; Hand-off says how to use it"))
		}
		if r.view.Cluster != nil {
			return line(Good, " ✓ "+a.t("all nodes are ready; Hand-off says how to use the cluster"))
		}
		return line(Good, " ✓ "+a.t("all servers are installed"))
	case r.gone > 0:
		return line(Warn, " ! "+a.f("the engine was gone %d times and runs again", r.gone))
	}
	return nil
}

func (a *App) runMessage() string {
	if a.run.note != "" {
		return a.run.note
	}
	if n := len(a.run.events); n > 0 {
		return a.t("last:") + " " + a.eventText(a.run.events[n-1])
	}
	return ""
}

// runKeys are the keys that work now, on two lines.
func (a *App) runKeys() [2]string {
	r := &a.run
	switch {
	case r.fix != nil:
		return [2]string{"", a.fixKeys()}
	case r.page == pageLog && r.log.asking:
		return [2]string{"", a.t("type what to look for   Enter keep it   Esc show all   Ctrl-U clear")}
	case r.page == pageLog:
		return [2]string{a.t("/ filter   s chosen server or all   w journal or engine's log   F5 read again"),
			a.t("↑↓ PgUp PgDn scroll   End follow   Esc back   g gather   d detach   ? help")}
	}
	first := a.t("r retry  c change value  b boot method  x exclude  o console  h next held")
	if r.page == pageCard {
		return [2]string{first, a.t("Esc back  Tab next server  ↑↓ scroll  l log  g gather  d detach  ? help")}
	}
	if !a.options.Attach {
		return [2]string{first, a.t("↑↓ choose  Enter details  l log  g gather  d detach  Esc steps  ? help")}
	}
	return [2]string{first, a.t("↑↓ choose  Enter details  l log  g gather  e engine  d detach  ? help")}
}

func runHelp() []string {
	return []string{
		say("↑ ↓ PgUp PgDn: choose a server. Enter: all about it. Esc: back."),
		say("r: another attempt with the held server. A disk that was written well is not written again."),
		say("c: change the value because of which it is held. It is saved, the plan is made again, what differs is shown; if other disks are erased, you type their number."),
		say("b: the ways to boot this server. x: leave it out of the plan; it is never touched again."),
		say("o: how to reach its console, by commands to paste. No password is shown."),
		say("h: go to the next server that is held for a person."),
		say("l or F8: the journal and the engine's log, with a filter."),
		say("g or F9: write journal, plan and facts into one file for a helper. No secret is in it."),
		say("e: start the engine again when it is gone. It continues where it was."),
		say("d or F10: detach. The engine goes on; metalrise attach shows it again, in any terminal, for several people at once."),
		say("q or Ctrl-C: leave, after a question."),
		say("A server passes Planned, Staged, Booted and Installed; as a node of a cluster also Joined and Ready. Moving: something is done. Waiting: for the machine, with the time since when. Held: a person must act. Settled: done."),
		say("The percentage counts steps, not time: booting and writing weigh most. The time left is learnt from earlier runs of the same model; a first run shows none."),
		say("F1 or ?: this help."),
	}
}

// beside draws table and details next to each other on wide terminals.
func (a *App) beside(room int) []Line {
	left := a.width * 6 / 10
	rows := a.table(left, room)
	right := a.details(a.width-left-3, room)
	out := make([]Line, room)
	for i := range out {
		var l Line
		if i < len(rows) {
			l = rows[i]
		}
		out[i] = append(l.fit(left), Span{Faint, " │ "})
		if i < len(right) {
			out[i] = append(out[i], right[i]...)
		}
	}
	return out
}

// table draws a heading and the rows around the cursor.
func (a *App) table(w, room int) []Line {
	r := &a.run
	host := 14
	for _, s := range r.view.Servers {
		host = max(host, width(name(s)))
	}
	host = min(host, w/3)
	step := w - host - 3 - 10 - 9 - 7 - 5
	head := fit("", 3) + fit(a.t("HOST"), host) + " " + fit(a.t("PHASE"), 10) + fit(a.t("IS"), 9) + fit(a.t("STEP"), step-1) + " " + fit(a.t("FOR"), 6) + fit(a.t("TRY"), 4)
	out := []Line{line(Heading, head)}
	room--
	top := max(0, min(r.cursor-room/2, len(r.view.Servers)-room))
	for i := top; i < min(top+room, len(r.view.Servers)); i++ {
		s := r.view.Servers[i]
		mark, style := conditionMark(s)
		point := " "
		if i == r.cursor {
			point = "▸"
		}
		names := Span{Plain, fit(name(s), host) + " " + fit(a.t(string(s.Phase)), 10)}
		if i == r.cursor {
			names.Style = Selected
		}
		out = append(out, Line{{Plain, point}, {style, mark + " "}, names, {style, fit(a.t(string(s.Condition)), 9)},
			{Plain, fit(a.stepText(s), step-1) + " " + fit(a.since(s), 6) + fit(strconv.Itoa(s.Attempt), 4)}})
	}
	return out
}

func (a *App) since(s fleet.Status) string {
	if s.Since.IsZero() {
		return "-"
	}
	end := a.now
	if s.Condition == fleet.Settled {
		return "-"
	}
	return span(end.Sub(s.Since))
}

func conditionMark(s fleet.Status) (string, Style) {
	switch s.Condition {
	case fleet.Settled:
		return "✓", Good
	case fleet.Held:
		return "✗", Bad
	case fleet.Moving:
		return "●", Busy
	}
	return "·", Plain
}

// stepText says what a server is at; while it writes, how far.
func (a *App) stepText(s fleet.Status) string {
	switch {
	case s.Condition == fleet.Settled:
		return a.doneText(s)
	case s.Phase == fleet.Joined && len(s.Checks) > 0:
		missing, _ := missingChecks(s)
		if len(missing) > 0 {
			return a.f("waits for %s, %d of %d checks true", a.t(missing[0].Name), len(s.Checks)-len(missing), len(s.Checks))
		}
	case s.Done > 0 && s.Total > 0 && s.Phase == fleet.Booted:
		share := float64(min(s.Done, s.Total)) / float64(s.Total)
		return fmt.Sprintf("%s %s %3d %%", a.t("write"), bar(share, 8), int(share*100))
	case s.Done > 0 && s.Total > 0 && phaseAtLeast(s.Phase, fleet.Installed):
		return fmt.Sprintf("%3d %% %s", 100*min(s.Done, s.Total)/s.Total, a.engineText(s.Step))
	case s.Cause != nil:
		return string(s.Cause.Code) + " " + a.page(s.Cause.Code).Title
	}
	return a.engineText(s.Step)
}

func (a *App) doneText(s fleet.Status) string {
	kvm, known := s.KVM.Get()
	if a.run.view.Cluster != nil {
		switch {
		case s.Step != "" && s.Step != "ready" && s.Step != "installed": // kept as it is, or removed
			return a.engineText(s.Step)
		case known && kvm.Usable:
			return a.t("ready; KVM works")
		case known:
			return a.t("ready; VMs are emulated")
		}
		return a.t("ready")
	}
	switch {
	case known && kvm.Usable:
		return a.t("installed; KVM works")
	case known:
		return a.t("installed; no KVM")
	}
	return a.t("installed")
}

// missingChecks parts the checks of a node.
func missingChecks(s fleet.Status) (missing, ok []fleet.Check) {
	for _, c := range s.Checks {
		if c.OK {
			ok = append(ok, c)
		} else {
			missing = append(missing, c)
		}
	}
	return missing, ok
}

// details are the lines below or beside the table, about the server on which
// the cursor rests.
func (a *App) details(w, room int) []Line {
	s, ok := a.run.status(a.run.shown)
	if !ok || room <= 0 {
		return nil
	}
	all := a.about(s, w)
	if s.Condition != fleet.Held && len(all) > room { // keep the head, and the newest of the rest
		rest := all[len(all)-room+1:]
		for len(rest) > 0 && len(rest[0]) == 1 && strings.HasPrefix(rest[0][0].Text, "      ") {
			rest = rest[1:] // the end of a note whose beginning is not shown
		}
		all = append(all[:1:1], rest...)
	}
	return all[:min(room, len(all))]
}

// status finds a server of the run.
func (r *run) status(id fleet.ServerID) (fleet.Status, bool) {
	for _, s := range r.view.Servers {
		if s.Server == id {
			return s, true
		}
	}
	return fleet.Status{}, false
}

// cardRows is the chosen server alone, scrolled.
func (a *App) cardRows(w, room int) []Line {
	s, ok := a.run.chosen()
	if !ok {
		return nil
	}
	all := a.about(s, w)
	r := &a.run
	r.scroll = min(r.scroll, max(len(all)-room, 0))
	return all[r.scroll:min(r.scroll+room, len(all))]
}

func orEmpty(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}
