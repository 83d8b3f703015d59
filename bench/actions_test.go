package bench

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"metalrise.dev/fleet"
)

// timeline prints how long each action took, and when, from the journal.
func (h *house) timeline(t testing.TB, ctx context.Context) {
	type key struct {
		s fleet.ServerID
		a fleet.Action
	}
	began := map[key]time.Time{}
	took := map[fleet.Action][]time.Duration{}
	first, last := map[fleet.Action]time.Time{}, map[fleet.Action]time.Time{}
	prev := map[fleet.ServerID]time.Time{}
	gap := map[string][]time.Duration{}
	prevName := map[fleet.ServerID]string{}
	var zero time.Time
	for after := int64(0); ; {
		events, err := h.store.Events(ctx, after, 10_000)
		if err != nil {
			t.Fatal(err)
		}
		if len(events) == 0 {
			break
		}
		after = events[len(events)-1].Seq
		for _, e := range events {
			if e.Action == fleet.ActConsent {
				zero = e.At
			}
			if first[e.Action].IsZero() {
				first[e.Action] = e.At
			}
			last[e.Action] = e.At
			k := key{e.Server, e.Action}
			if e.Edge == fleet.Began {
				began[k] = e.At
			} else if b, ok := began[k]; ok {
				took[e.Action] = append(took[e.Action], e.At.Sub(b))
			}
			name := string(e.Action) + " " + string(e.Edge)
			if p, ok := prev[e.Server]; ok && !zero.IsZero() {
				gap[prevName[e.Server]+" -> "+name] = append(gap[prevName[e.Server]+" -> "+name], e.At.Sub(p))
			}
			prev[e.Server], prevName[e.Server] = e.At, name
			if e.Cause != nil {
				fmt.Fprintf(os.Stderr, "CAUSE %s %s %v\n", e.Server, e.Action, *e.Cause)
			}
		}
	}
	for a, d := range took {
		slices.Sort(d)
		fmt.Fprintf(os.Stderr, "%-10s n=%d med=%v p90=%v max=%v first=%v last=%v\n", a, len(d), d[len(d)/2], d[len(d)*9/10], d[len(d)-1], first[a].Sub(zero), last[a].Sub(zero))
	}
	for n, d := range gap {
		slices.Sort(d)
		fmt.Fprintf(os.Stderr, "gap %-50s n=%d med=%v p90=%v max=%v\n", n, len(d), d[len(d)/2], d[len(d)*9/10], d[len(d)-1])
	}
}
