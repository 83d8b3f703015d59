package netboot

import (
	"net/netip"
	"sync"
	"time"
)

// SightingKind is what was seen.
type SightingKind string

const (
	SightingUnknown  SightingKind = "unknown"  // a machine that nobody named asks to boot
	SightingLate     SightingKind = "late"     // a guest asks after its time
	SightingRefused  SightingKind = "refused"  // a guest asks for what is not planned
	SightingInvalid  SightingKind = "invalid"  // what Guests told of a machine cannot be answered
	SightingOffered  SightingKind = "offered"  // address and boot file were offered
	SightingLeased   SightingKind = "leased"   // the address was confirmed
	SightingProxied  SightingKind = "proxied"  // the boot file was told, beside another server
	SightingDeclined SightingKind = "declined" // the guest found its address in use
	SightingFetched  SightingKind = "fetched"  // a file was read to its end
	SightingBroken   SightingKind = "broken"   // a transfer ended early
	SightingForeign  SightingKind = "foreign"  // another DHCP server is at work
)

// Sighting is one thing seen on the wire, for journal and screens. What it says
// of machines is their word.
type Sighting struct {
	Kind   SightingKind
	At     time.Time
	Client Client     // of DHCP sightings
	Guest  string     // its name, where it is one
	Peer   netip.Addr // of transfers
	File   string     // of transfers: the name without its key
	Bytes  int64      // of transfers
	Text   string     // why, in one sentence
	// Foreign is set with SightingForeign.
	Foreign *ForeignServer
	// Unreported counts sightings that were left out before this one, because
	// there were too many.
	Unreported int
}

const (
	// The same sighting of the same machine is reported once in this time:
	// firmware repeats itself every few seconds for minutes.
	quiet = time.Minute
	// maxRemembered bounds what is remembered against repeats: 100 bytes each.
	maxRemembered = 4096
)

type sightingKey struct {
	kind SightingKind
	who  string
}

// reporter passes sightings on, each once a while, from any goroutine.
type reporter struct {
	to  func(Sighting)
	now func() time.Time

	mu    sync.Mutex
	last  map[sightingKey]time.Time
	left  int
	swept time.Time
}

func newReporter(to func(Sighting), now func() time.Time) *reporter {
	return &reporter{to: to, now: now, last: map[sightingKey]time.Time{}}
}

// report passes s on; who makes it the same as an earlier one.
func (r *reporter) report(who string, s Sighting) {
	if r.to == nil || s.Kind == "" {
		return
	}
	now := r.now()
	key := sightingKey{s.Kind, who}
	r.mu.Lock()
	if at, ok := r.last[key]; ok && now.Sub(at) < quiet {
		r.mu.Unlock()
		return
	}
	if len(r.last) >= maxRemembered && now.Sub(r.swept) >= sweepEach {
		r.forgetLocked(now)
	}
	if len(r.last) >= maxRemembered {
		r.left++ // a flood of invented machines: count it, keep the memory
		r.mu.Unlock()
		return
	}
	r.last[key] = now
	s.At, s.Unreported = now, r.left
	r.left = 0
	r.mu.Unlock()
	r.to(s)
}

func (r *reporter) forgetLocked(now time.Time) {
	r.swept = now
	for k, at := range r.last {
		if now.Sub(at) >= quiet {
			delete(r.last, k)
		}
	}
}
