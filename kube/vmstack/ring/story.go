package ring

import (
	"bytes"
	"slices"
	"time"

	"metalrise.dev/guest"
)

// word is one line of a guest, and when its node heard it.
type word struct {
	at   time.Time // by the node's clock
	node string
	beat guest.Beat
}

// Bounds of what is kept of a console, which is text of others.
const (
	maxStamp = 40
	maxRaw   = 200 // bytes of the last line that is no word of a guest
)

// readConsole finds the words of one run's guest in a console's log, each line
// of which begins with a time. raw is the last line that is something else: what
// firmware or a kernel said last before it hung. until is the time of the last line.
func readConsole(log []byte, node, nonce string) (words []word, raw string, until time.Time) {
	for line := range bytes.Lines(log) {
		stamp, text, _ := bytes.Cut(bytes.TrimRight(line, "\r\n"), []byte(" "))
		if len(stamp) > maxStamp {
			continue
		}
		at, err := time.Parse(time.RFC3339Nano, string(stamp))
		if err != nil {
			continue
		}
		until = at
		beat, ok := guest.ParseBeat(string(text))
		switch {
		case ok && beat.Nonce == nonce:
			words = append(words, word{at, node, beat})
		case !ok && len(bytes.TrimSpace(text)) > 0:
			raw = string(text[:min(len(text), maxRaw)])
		}
	}
	return words, raw, until
}

// maxBoots bounds how many boots of a guest are kept apart: more is a loop of
// crashes, and the last of them are enough to see it.
const maxBoots = 16

// story is what was heard of one guest so far.
type story struct {
	boots []life // in the order in which they were first heard
	raw   string // the last line that was no word of the guest
}

// life is what was heard of one boot. A line is counted once, wherever and
// however often it is read.
type life struct {
	boot        string
	first, last word
	heard       int
	gap         time.Duration // longest time between two lines that follow each other
	moved       int           // lines heard on the node of the last one
	beats       map[uint64]time.Time
}

// maxBeats bounds the lines of a boot that are remembered to join others to.
const maxBeats = 4096

// add takes words in, in any order.
func (s *story) add(words []word) {
	for _, w := range words {
		l := s.life(w.beat.Boot)
		if l == nil {
			continue
		}
		if _, twice := l.beats[w.beat.Seq]; twice {
			continue
		}
		if len(l.beats) >= maxBeats {
			l.forget()
		}
		l.beats[w.beat.Seq] = w.at
		l.heard++
		if l.heard == 1 || w.beat.Seq < l.first.beat.Seq {
			l.first = w
		}
		if l.heard == 1 || w.beat.Seq > l.last.beat.Seq {
			if w.node != l.last.node {
				l.moved = 0
			}
			l.last = w
		}
		if w.node == l.last.node {
			l.moved++
		}
		if before, ok := l.beats[w.beat.Seq-1]; ok {
			l.gap = max(l.gap, w.at.Sub(before))
		}
		if after, ok := l.beats[w.beat.Seq+1]; ok {
			l.gap = max(l.gap, after.Sub(w.at))
		}
	}
}

// forget drops the older half of the remembered lines.
func (l *life) forget() {
	for seq := range l.beats {
		if seq+maxBeats/2 < l.last.beat.Seq {
			delete(l.beats, seq)
		}
	}
	if len(l.beats) >= maxBeats { // numbers that no guest of ours counts
		clear(l.beats)
	}
}

func (s *story) life(boot string) *life {
	if i := slices.IndexFunc(s.boots, func(l life) bool { return l.boot == boot }); i >= 0 {
		return &s.boots[i]
	}
	if len(s.boots) == maxBoots {
		return nil
	}
	s.boots = append(s.boots, life{boot: boot, beats: map[uint64]time.Time{}})
	return &s.boots[len(s.boots)-1]
}

// of gives what was heard of one boot, nil when nothing was.
func (s *story) of(boot string) *life {
	if i := slices.IndexFunc(s.boots, func(l life) bool { return l.boot == boot }); i >= 0 {
		return &s.boots[i]
	}
	return nil
}

// newest is the boot that began last, nil when none was heard.
func (s *story) newest() *life {
	if len(s.boots) == 0 {
		return nil
	}
	return &s.boots[len(s.boots)-1]
}

// rest begins to measure gaps anew.
func (s *story) rest() {
	for i := range s.boots {
		s.boots[i].gap = 0
	}
}

// silence is for how long a guest was not heard beyond its own pace.
func silence(gap, beat time.Duration) time.Duration { return max(0, gap-beat) }
