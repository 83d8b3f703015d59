package provision

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"metalrise.dev/fleet"
)

// Roads tells which rungs of the boot ladder this engine can serve besides
// virtual media over HTTPS, which it always can.
type Roads interface {
	// Unserved says why a route cannot be served now; "" when it can.
	Unserved(r fleet.BootRoute) string
	// Plain gives the base URL without TLS for callers at host (an IP address).
	Plain(host string) (string, error)
}

// RouteTrack is where a server stands on its boot ladder.
type RouteTrack struct {
	Ladder []fleet.BootRoute  // of the plan
	Now    fleet.BootRoute    // of the current attempt; "" before the first one
	Medium fleet.Medium       // given in it to the BMC; "" is the full one
	Tries  int                // attempts on it in a row
	Good   fleet.BootRoute    // by which a live system called home last
	Chosen fleet.BootRoute    // by a person, for the next attempt; "" leaves it to the ladder
	Missed []fleet.RouteFault // rungs that did not carry, since a person began anew
	Read   Reading            // of the current attempt's medium

	Wish    fleet.Medium // of the plan; "" is AutoMedium
	Slow    bool         // the full medium got to the BMC too slowly
	Tallied bool         // Fetched is in the journal
	Fetched int64        // bytes that the BMC read of the current attempt's medium
	Sign    time.Time    // of life, the last one, before a hold
	Given   time.Time    // when the attempt's addresses were given away last
	// Failed are the rungs that did not stand the probe, until a person begins anew.
	Failed map[fleet.BootRoute]fleet.Cause
}

// Reading is how much of an attempt's medium was read, as our own server saw it.
type Reading string

const (
	Unasked Reading = ""      // nobody asked for it
	Asked   Reading = "asked" // no more than a look: a BMC does so when it inserts
	Taken   Reading = "taken" // enough to boot from
)

// bootable is how much must be read before a kernel can run: kernel and initial
// RAM disk of the smallest release have several times this, and a BMC that only
// looks whether an image is there reads far less.
const bootable = 8 << 20

// rungTries is how often a step is tried that another rung can do without.
const rungTries = 2

// staged is the data of a stage event.
type staged struct {
	Reached
	Route  fleet.BootRoute    `json:"route,omitempty"` // "" in journals of before the ladder: virtual media
	Missed []fleet.RouteFault `json:"missed,omitempty"`
	Medium fleet.Medium       `json:"medium,omitempty"` // "": the full one
}

// fetched is the data of a fetch event.
type fetched struct {
	Read  Reading `json:"read"`
	Bytes int64   `json:"bytes"`
	Told  bool    `json:"told,omitempty"` // its firmware was told the attempt's addresses
}

// ladderOf is the order in which the routes of a server are tried.
func ladderOf(a fleet.Assignment) []fleet.BootRoute {
	if len(a.BootRoutes) > 0 {
		return a.BootRoutes
	}
	return fleet.BootRoutes()
}

// byNet tells that the firmware boots from the network and not from a drive.
func byNet(r fleet.BootRoute) bool { return r == fleet.UEFIHTTP || r == fleet.PXE }

// unserved says why a route cannot be taken with this engine; "" when it can.
func (l Look) unserved(r fleet.BootRoute) string {
	if r == fleet.VirtualMedia {
		return ""
	}
	why, known := l.Roads[r]
	if !known {
		return "this engine does not serve it"
	}
	return why
}

// comes is how a machine comes that nobody sends: from the network where that is
// served, else from the site's medium.
func (l Look) comes() fleet.BootRoute {
	if l.unserved(fleet.PXE) == "" {
		return fleet.PXE
	}
	return fleet.USB
}

// after gives the first rung below r that can be served and did not fail the
// probe, and those left out on the way; "" when none is left. Below "" is the
// whole ladder.
func (t *RouteTrack) after(r fleet.BootRoute, look Look) (fleet.BootRoute, []fleet.RouteFault) {
	var skipped []fleet.RouteFault
	for _, next := range t.Ladder[slices.Index(t.Ladder, r)+1:] {
		missed, barred := t.barred(next, look)
		if !barred {
			return next, skipped
		}
		skipped = append(skipped, missed)
	}
	return "", skipped
}

// start is the rung for a first attempt, or the first one after a person's
// retry: what that person chose, else what worked before, else the top.
func (t *RouteTrack) start(look Look) (fleet.BootRoute, []fleet.RouteFault) {
	if t.Chosen != "" && look.unserved(t.Chosen) == "" {
		return t.Chosen, nil
	}
	switch {
	case look.Unattended:
		return look.comes(), nil
	case look.ByHand:
		return fleet.USB, nil
	}
	if t.Good != "" && look.unserved(t.Good) == "" {
		return t.Good, nil
	}
	if r, skipped := t.after("", look); r != "" {
		return r, skipped
	}
	return t.Ladder[0], nil // it says by itself why it does not carry
}

// curable tells whether another route can do without the step that failed. What
// is wrong with the server, its BMC or the login is wrong on every route.
func curable(a fleet.Action, c fleet.Cause) bool {
	if a != fleet.ActInsert && a != fleet.ActBootOnce {
		return false
	}
	switch c.Code {
	case fleet.CodeBMCUnsupported, fleet.CodeBMCLicence, fleet.CodeMediaLost, fleet.CodeBMCRejected, fleet.CodeNoVirtualMedia:
		return true
	}
	return false
}

// fallen decides about a step that failed: nil means that it is to be tried
// again, or that only a person can help.
func (t *Track) fallen(a fleet.Action, look Look, now time.Time, l Limits) Decision {
	m := t.Marks[a]
	if m.OK || m.Failures == 0 || m.Cause == nil || !curable(a, *m.Cause) {
		return nil
	}
	if (m.Cause.Kind == fleet.Transient || m.Cause.Kind == fleet.UnsureKind) && m.Failures < rungTries {
		return nil
	}
	return t.descend(*m.Cause, look, now, l)
}

// descend goes to the next rung; nil when none is left.
func (t *Track) descend(c fleet.Cause, look Look, now time.Time, l Limits) Decision {
	to, skipped := t.Route.after(t.Route.Now, look)
	if to == "" {
		return nil
	}
	missed := append([]fleet.RouteFault{{Route: t.Route.Now, Cause: c}}, skipped...)
	return t.trying(Descend{To: to, Missed: missed, Why: why(missed) + "; next is " + string(to)}, fleet.ActStage, now, l)
}

// deserted decides about an attempt whose route an earlier engine could serve and
// this one cannot; nil when that is not so, or too late.
func (t *Track) deserted(look Look, now time.Time, l Limits) Decision {
	reason := look.unserved(t.Route.Now)
	if reason == "" || look.Roads == nil || t.Marks[fleet.ActPowerOn].OK {
		return nil
	}
	to, skipped := t.Route.start(look)
	missed := []fleet.RouteFault{{Route: t.Route.Now, Cause: fleet.Cause{Code: fleet.CodeNoVirtualMedia, Kind: fleet.Unsupported, Chain: []string{reason}}}}
	for _, s := range skipped {
		if s.Route != t.Route.Now {
			missed = append(missed, s)
		}
	}
	return t.trying(Descend{To: to, Missed: missed, Why: why(missed) + "; next is " + string(to)}, fleet.ActStage, now, l)
}

// why says in one line why rungs were left.
func why(missed []fleet.RouteFault) string {
	var parts []string
	for _, m := range missed {
		text := string(m.Cause.Code)
		if n := len(m.Cause.Chain); n > 0 {
			text = m.Cause.Chain[n-1] // the innermost cause says most
		}
		parts = append(parts, string(m.Route)+": "+text)
	}
	return strings.Join(parts, "; ")
}

// brief is why for a line of a table.
func brief(missed []fleet.RouteFault) string {
	var parts []string
	for _, m := range missed {
		parts = append(parts, string(m.Route)+" "+string(m.Cause.Code))
	}
	return "of " + strings.Join(parts, ", ")
}

// byHand holds a server that only a person can boot.
func (t *Track) byHand() Hold {
	c := fleet.Cause{Code: fleet.CodeNoVirtualMedia, Kind: fleet.Unsupported, Chain: []string{
		fmt.Sprintf("no way is left to boot this server from here. Write its medium with `metalrise medium %s --to FILE`, copy the file onto a USB drive, "+
			"boot the server from that once, and take the drive out when the server restarts. The engine waits for it", t.Server)}}
	for _, m := range t.Route.Missed {
		c.Chain = append(c.Chain, why([]fleet.RouteFault{m}))
	}
	return Hold{c}
}

// awaitsHand tells that the server is held only until a person boots it.
func (t *Track) awaitsHand() bool {
	return t.Hold != nil && t.Route.Now == fleet.USB && t.Hold.Code == fleet.CodeNoVirtualMedia && t.Live.Key == ""
}

// begin folds the beginning of an attempt.
func (r *RouteTrack) begin(s staged) {
	if s.Route == "" {
		s.Route = fleet.VirtualMedia
	}
	if s.Route == r.Now && s.Medium == r.Medium {
		r.Tries++
	} else {
		r.Now, r.Medium, r.Tries = s.Route, s.Medium, 1
	}
	r.Read, r.Chosen, r.Tallied, r.Fetched = Unasked, "", false, 0
	r.Missed = append(r.Missed, s.Missed...)
	r.Slow = r.Slow || slices.ContainsFunc(s.Missed, tooLarge)
}

// foldFetch folds what our server saw of the medium.
func (t *Track) foldFetch(e fleet.Event) {
	var f fetched
	if e.Attempt != t.Attempt || json.Unmarshal(e.Data, &f) != nil {
		return
	}
	if f.Read == Asked && t.Route.Read == Unasked || f.Read == Taken {
		t.Route.Read = f.Read
	}
	if f.Told && t.Hold == nil {
		t.Route.Given = later(t.Route.Given, e.At)
	}
}

// silent says what is known of a boot that did not call home.
func (t *Track) silent(l Limits) string {
	text := "the live system did not call home within " + l.BootTimeout.String()
	switch {
	case t.Route.Read == Unasked:
		return text + ", and nobody asked for its medium"
	case t.Route.Read == Asked:
		return text + ", and its medium was looked at but not read"
	}
	return text
}
