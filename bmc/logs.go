package bmc

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"metalrise.dev/fleet"
)

// LogEntry is one line of a BMC's log about a server.
type LogEntry struct {
	URI      string                 `json:"uri"`
	Log      string                 `json:"log"` // "SEL", "IML", "Lclog", … as the BMC names the log
	Created  fleet.Maybe[time.Time] `json:"created"`
	Severity string                 `json:"severity,omitempty"` // "OK", "Warning", "Critical"
	Message  string                 `json:"message"`
	ID       string                 `json:"messageId,omitempty"`

	number float64 // of its Id, for entries without a time
}

const (
	maxLogPages = 20 // of one log; what is older is left out
	maxLogs     = 8  // of one server
)

// Events reads the newest entries, at most limit, of the logs about a server:
// those under the system, and where it has none, those of its managers. The
// newest is the last. Logs that cannot be read are left out while another can.
// Faults: BMC-007 the BMC shows no log.
func (s *Session) Events(ctx context.Context, systemURI string, limit int) ([]LogEntry, error) {
	sys, err := s.system(ctx, systemURI)
	if err != nil {
		return nil, s.wrap("read log of", err)
	}
	r := s.reader(nil)
	logs := r.members(ctx, sys.link("LogServices"))
	if len(logs) == 0 {
		for _, m := range r.managers(ctx, sys, s.root) {
			if servers := m.object("Links").links("ManagerForServers"); len(servers) <= 1 {
				logs = append(logs, r.members(ctx, m.link("LogServices"))...)
			}
		}
	}
	if len(logs) > maxLogs {
		logs = logs[:maxLogs]
	}
	var out []LogEntry
	any := false
	for _, l := range logs {
		path := l.link("Entries")
		if path == "" || isDump(l) {
			continue
		}
		any = true
		out = append(out, r.entries(ctx, l, path, limit)...)
	}
	if failed := r.failure(); failed != nil && len(out) == 0 {
		return nil, s.wrap("read log of", failed)
	}
	if !any {
		return nil, s.wrap("read log of", fleet.NewFault(fleet.CodeBMCUnsupported, fleet.Unsupported, nil, "%s has no log", sys.path))
	}
	slices.SortStableFunc(out, func(a, b LogEntry) int {
		x, okX := a.Created.Get()
		y, okY := b.Created.Get()
		if okX && okY {
			return cmp.Or(x.Compare(y), cmp.Compare(a.number, b.number))
		}
		if okX != okY { // without a time: before all that have one
			if okX {
				return 1
			}
			return -1
		}
		return cmp.Compare(a.number, b.number)
	})
	return out[max(0, len(out)-limit):], nil
}

// isDump tells logs whose entries are files, not messages.
func isDump(l node) bool {
	id := strings.ToLower(l.str("Id"))
	return strings.Contains(id, "dump") || strings.Contains(id, "crash") || strings.Contains(id, "faultlog")
}

// entries reads a log within bounds. Some logs begin with the newest entry, most
// with the oldest: where entries must be read one by one, both ends are.
func (r *reader) entries(ctx context.Context, l node, path string, limit int) []LogEntry {
	pages, err := r.logPages(ctx, path)
	if err != nil {
		r.seen.add(path, "%v", err)
	}
	var refs []node
	for _, p := range pages {
		refs = append(refs, p.objects("Members")...)
	}
	if n := len(refs); n > 2*limit && !isWhole(refs[0]) {
		refs = append(slices.Clone(refs[:limit]), refs[n-limit:]...)
	}
	var out []LogEntry
	for _, n := range r.resolve(ctx, path, refs) {
		e := LogEntry{
			URI: n.path, Log: firstOf(l.str("Id"), l.str("Name")), Created: created(n), Severity: n.str("Severity"),
			Message: firstOf(n.str("Message"), n.str("Description"), n.str("Name")), ID: n.str("MessageId"),
		}
		e.number, _ = (node{m: n.m}).number("Id")
		out = append(out, e)
	}
	return out
}

// logPages reads a log's pages from its start, maxLogPages of them at most. Of a
// longer log that begins with its oldest entries the newest are not read.
func (r *reader) logPages(ctx context.Context, path string) ([]node, error) {
	first, err := r.get(ctx, path)
	if err != nil {
		return nil, err
	}
	out, visited := []node{first}, map[string]bool{path: true}
	for p := first; len(out) < maxLogPages; {
		next := firstOf(p.link("Members@odata.nextLink"), p.link("@odata.nextLink"))
		if next == "" || visited[next] {
			break
		}
		visited[next] = true
		if p, err = r.get(ctx, next); err != nil {
			return out, err
		}
		out = append(out, p)
	}
	return out, nil
}

// created reads an entry's time. BMCs without a clock write the year 1970, or
// words; both are unknown.
func created(n node) fleet.Maybe[time.Time] {
	text := n.str("Created")
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05"} {
		if t, err := time.Parse(layout, text); err == nil && t.Year() > 1971 {
			return fleet.Known(t)
		}
	}
	return fleet.Maybe[time.Time]{}
}
