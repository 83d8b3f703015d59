package provision

import (
	"strconv"
	"time"

	"metalrise.dev/fleet"
)

// Decision is what happens next with one server: one of the types below.
type Decision interface{ decision() }

// Act: carry out one action through the BMC, or journal a grant.
type Act struct {
	Action fleet.Action
	Why    string
}

// Settle: an action's outcome is unknown; look and judge it.
type Settle struct{ Action fleet.Action }

// Descend: the attempt's route did not carry; begin another attempt on a lower
// rung of the boot ladder.
type Descend struct {
	To     fleet.BootRoute
	Missed []fleet.RouteFault // what was left, in the ladder's order
	Why    string
}

// Wait: nothing to do before Until, unless an event comes. If Overdue is set,
// passing Until is a fault of that code and not just the time to decide anew.
type Wait struct {
	Until   time.Time
	For     string // "the live system to call home"
	Overdue fleet.Code
	Stuck   bool // for another server that a person must see to
}

// Hold: a person must act.
type Hold struct{ Cause fleet.Cause }

// Done: the plan is fulfilled for this server.
type Done struct{}

func (Act) decision()     {}
func (Descend) decision() {}
func (Settle) decision()  {}
func (Wait) decision()    {}
func (Hold) decision()    {}
func (Done) decision()    {}

// Look is what is known now and not from the journal.
type Look struct {
	// Heard is when the server's own system last spoke to us, or when this
	// engine started if that was later: silence is counted from there.
	Heard time.Time
	// Started is when this engine did.
	Started time.Time
	// Cluster is what is known of the cluster that the server is to be part of.
	Cluster ClusterLook
	// Unattended: the engine drives no BMC.
	Unattended bool
	// ByHand: the server has no BMC that could be driven or asked.
	ByHand bool
	// Flow is how the current attempt's medium gets to the BMC.
	Flow Flow
	// Unmade is why no minimal medium can be made; "" when one can.
	Unmade string
	// Roads says of each route why this engine cannot serve it, "" when it can.
	// What is missing is not served; virtual media over HTTPS always is.
	Roads map[fleet.BootRoute]string
}

// Next decides what happens next with one server. It is pure: the same
// arguments give the same decision. now must not lie before the events.
func Next(t *Track, look Look, now time.Time, l Limits) Decision {
	switch {
	case t.Settled:
		return Done{}
	case t.Hold != nil && !recovered(t, look):
		return Hold{*t.Hold}
	case t.Node.Removal != nil:
		return nextRemoval(t, look, now, l)
	case t.Node.Kept && (t.Node.Plan == nil || t.Node.Ready):
		return Done{}
	case t.Arrived || t.Node.Kept:
		return nextNode(t, look, now, l)
	case t.Node.Leaving:
		return t.trying(leaveFirst, fleet.ActLeave, now, l)
	case !t.Staged:
		return t.trying(Act{fleet.ActStage, "a new attempt needs its own token and media address"}, fleet.ActStage, now, l)
	case t.Pending != nil && settles(t.Pending.Action) && !look.Unattended:
		return t.trying(Settle{t.Pending.Action}, t.Pending.Action, now, l)
	}
	if t.Written {
		return nextWritten(t, look, now, l)
	}
	if t.Live.Key != "" {
		return nextLive(t, look, now, l)
	}
	return nextBoot(t, look, now, l)
}

// identityLasts is for how long an identify is believed before the server is
// switched on: an engine that was away for days looks again first.
const identityLasts = 10 * time.Minute

// done tells whether a step of the current attempt needs not be done again.
func (t *Track) done(a fleet.Action, now time.Time) bool {
	m := t.Marks[a]
	if a == fleet.ActIdentify && !t.Marks[fleet.ActPowerOn].OK && now.Sub(m.At) > identityLasts {
		return false
	}
	return m.OK
}

// nextBoot takes a server from any state to its live system's call.
//
// Transitions to: nextLive, by the desk's hello event.
func nextBoot(t *Track, look Look, now time.Time, l Limits) Decision {
	switch {
	case look.Unattended && !byNet(t.Route.Now) && t.Route.Now != look.comes():
		return t.trying(Descend{To: look.comes(), Why: "servers are served as they come: they boot from the network by themselves"}, fleet.ActStage, now, l)
	case look.Unattended && t.Route.Now == fleet.USB:
		return Wait{Until: now.Add(time.Hour), For: "the machine to be started from the site's medium"}
	case look.Unattended: // whenever that is: nobody said that the machine is on
		return Wait{Until: now.Add(time.Hour), For: "the machine to be switched on and to boot from the network"}
	case t.Route.Now == fleet.USB:
		return t.byHand()
	case look.ByHand:
		return t.trying(Descend{To: fleet.USB, Why: "it has no BMC: a person starts it"}, fleet.ActStage, now, l)
	}
	if d := t.deserted(look, now, l); d != nil {
		return d
	}
	if d := t.tooSlow(look, false, now, l); d != nil {
		return d
	}
	net := byNet(t.Route.Now)
	goal := "the next boot goes to the medium, later ones to the disk"
	if net {
		goal = "the next boot goes to the network, later ones to the disk"
	}
	for _, step := range []struct {
		action fleet.Action
		needed bool
		why    string
	}{
		{fleet.ActIdentify, true, "make sure that the BMC still belongs to this server"},
		{fleet.ActPowerOff, t.Sight.Power != fleet.PowerOff, "media must not change under a running system"},
		{fleet.ActInsert, !net, "the live system is on this medium"},
		{fleet.ActBootOnce, true, goal},
		{fleet.ActPowerOn, true, "boot the live system"},
	} {
		if step.needed && !t.done(step.action, now) {
			if d := t.fallen(step.action, look, now, l); d != nil {
				return d
			}
			return t.trying(Act{step.action, step.why}, step.action, now, l)
		}
	}
	since := later(t.Marks[fleet.ActPowerOn].At, look.Heard)
	if deadline := since.Add(l.BootTimeout); now.Before(deadline) {
		return Wait{Until: deadline, For: "the live system to call home", Overdue: fleet.CodeBootSilent}
	}
	if d := t.tooSlow(look, true, now, l); d != nil {
		return d
	}
	silent := t.silence(look, now, l)
	if t.Route.Read != Taken { // what was read did boot: another road would not be heard either
		if d := t.descend(silent.Cause, look, now, l); d != nil {
			return d
		}
	}
	if t.Route.Tries < l.AutoAttempts {
		return t.trying(Act{fleet.ActStage, "the live system did not call home; trying once more"}, fleet.ActStage, now, l)
	}
	return silent
}

// nextLive waits for a live system that called home, was judged fit and got its
// grant. It never starts anything: what may be half done belongs to a person.
//
// Transitions to: nextWritten, by the desk's write event.
func nextLive(t *Track, look Look, now time.Time, l Limits) Decision {
	if m := t.Marks[fleet.ActWrite]; m.Cause != nil {
		return Hold{*m.Cause}
	}
	deadline := later(t.Live.At, look.Heard).Add(l.AgentSilence)
	if now.Before(deadline) {
		return Wait{Until: deadline, For: "the agent to write the disk", Overdue: fleet.CodeAgentSilent}
	}
	return overdue(fleet.CodeAgentSilent, "the agent was not heard for "+l.AgentSilence.String())
}

// nextWritten takes a server whose disk is written to its installed system.
// If its live system still waits for us, that one reboots by itself; else (a
// later attempt) the BMC switches it.
//
// Transitions to: Installed, by the desk's arrive event.
func nextWritten(t *Track, look Look, now time.Time, l Limits) Decision {
	waiting := t.Live.Key != ""
	if (look.Unattended || look.ByHand) && !waiting {
		return Wait{Until: now.Add(time.Hour), For: "the machine to be switched on and to boot from its disk"}
	}
	for _, step := range []struct {
		action fleet.Action
		needed bool
		why    string
	}{
		{fleet.ActIdentify, !waiting, "make sure that the BMC still belongs to this server"},
		{fleet.ActPowerOff, !waiting && t.Sight.Power != fleet.PowerOff, "boot anew from the written disk"},
		{fleet.ActEject, !look.Unattended && !look.ByHand, "the next boot must not find the medium"},
		{fleet.ActRestart, waiting, "the disk is written and the medium is out"},
		{fleet.ActPowerOn, !waiting, "boot the installed system"},
	} {
		if step.needed && !t.done(step.action, now) {
			return t.trying(Act{step.action, step.why}, step.action, now, l)
		}
	}
	since := later(later(t.Marks[fleet.ActRestart].At, t.Marks[fleet.ActPowerOn].At), look.Heard)
	if deadline := since.Add(l.ArriveTimeout); now.Before(deadline) {
		return Wait{Until: deadline, For: "the installed system to report", Overdue: fleet.CodeArriveSilent}
	}
	return overdue(fleet.CodeArriveSilent, "the installed system did not report within "+l.ArriveTimeout.String())
}

// trying lets d happen unless the action has failed in a way or number that
// forbids it, or its back-off time is not over.
func (t *Track) trying(d Decision, a fleet.Action, now time.Time, l Limits) Decision {
	m := t.Marks[a]
	if m.Failures == 0 || m.Cause == nil {
		return d
	}
	switch m.Cause.Kind {
	case fleet.Transient, fleet.UnsureKind:
	default:
		return Hold{*m.Cause}
	}
	if m.Failures >= l.ActionTries {
		spent := fleet.Cause{Code: m.Cause.Code, Kind: m.Cause.Kind, Chain: append([]string{string(a) + " failed " + times(m.Failures)}, m.Cause.Chain...)}
		if spent.Code == fleet.CodeUnexpected {
			spent.Code = fleet.CodeRetriesSpent
		}
		return Hold{spent}
	}
	if again := m.At.Add(backoff(l.Backoff, m.Failures)); now.Before(again) {
		return Wait{Until: again, For: "the next try of " + string(a)}
	}
	return d
}

// settles tells for which actions a look through the BMC can show whether they
// were done.
func settles(a fleet.Action) bool {
	switch a {
	case fleet.ActEject, fleet.ActInsert, fleet.ActBootOnce, fleet.ActPowerOff, fleet.ActPowerOn:
		return true
	}
	return false
}

// Judge tells whether an action with unknown outcome was done, from what the
// BMC shows. Sight must be newer than the action. media is the image address
// that Insert puts in, route the attempt's.
func Judge(a fleet.Action, s Sight, media string, route fleet.BootRoute) bool {
	switch a {
	case fleet.ActEject:
		return s.Media == ""
	case fleet.ActInsert:
		return s.Media == media
	case fleet.ActBootOnce:
		if byNet(route) {
			return s.NetOnce == route
		}
		return s.BootOnce
	case fleet.ActPowerOff:
		return s.Power == fleet.PowerOff
	case fleet.ActPowerOn:
		return s.Power == fleet.PowerOn
	}
	return false
}

func overdue(code fleet.Code, text string) Hold {
	return Hold{fleet.Cause{Code: code, Kind: fleet.Transient, Chain: []string{text}}}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// backoff doubles from base to a minute: 2, 4, 8, 16 s with the default base,
// so five tries span half a minute, the time a BMC needs to come back from a
// short stall, while a person still sees a hold within a minute or two.
func backoff(base time.Duration, failures int) time.Duration {
	d := base << min(failures-1, 10)
	return min(d, time.Minute)
}

func times(n int) string {
	switch n {
	case 1:
		return "once"
	case 2:
		return "twice"
	}
	return strconv.Itoa(n) + " times"
}
