package bmc

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"metalrise.dev/fleet"
)

const (
	maxPages   = 100    // of one collection
	maxMembers = 2000   // of one collection; a rack's worth of drives is below it
	maxWork    = 10_000 // members of one inspection; the largest honest one seen has 62

	// Of one inspection; the largest honest one seen has 85 requests and 0.2 MB.
	maxReads     = 5000
	maxReadBytes = 64 << 20
)

// expansion is what is known of a BMC's $expand. What the service root says is
// believed only until it proves wrong twice.
type expansion struct {
	mu     sync.Mutex
	query  string // "" when not offered
	broken int
}

func (e *expansion) init(root node) {
	q := root.object("ProtocolFeaturesSupported").object("ExpandQuery")
	levels := q.flag("Levels").Or(false)
	switch {
	case q.flag("NoLinks").Or(false):
		e.query = "."
	case q.flag("ExpandAll").Or(false):
		e.query = "*"
	default:
		return
	}
	if levels {
		e.query += "($levels=1)"
	}
	e.query = "$expand=" + e.query
}

func (e *expansion) get() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.broken >= 2 {
		return ""
	}
	return e.query
}

func (e *expansion) failed() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.broken++
}

// reader reads many resources of one BMC for one purpose: each path once.
type reader struct {
	s    *Session
	seen *problems

	mu   sync.Mutex
	read map[string]*reading
	work int // members handled

	reads, bytes atomic.Int64 // asked for, and what came
}

type reading struct {
	done chan struct{}
	n    node
	err  error
}

func (s *Session) reader(seen *problems) *reader {
	return &reader{s: s, seen: seen, read: map[string]*reading{}}
}

// get reads a resource, or gives what was read of it before.
func (r *reader) get(ctx context.Context, path string) (node, error) {
	key := same(path)
	r.mu.Lock()
	g, known := r.read[key]
	if !known {
		g = &reading{done: make(chan struct{})}
		r.read[key] = g
	}
	r.mu.Unlock()
	if known {
		select {
		case <-g.done:
			return g.n, g.err
		case <-ctx.Done():
			return node{}, ctx.Err()
		}
	}
	g.n, g.err = r.fetch(ctx, path)
	close(g.done)
	return g.n, g.err
}

// fetch reads from the BMC within the bounds of one inspection.
func (r *reader) fetch(ctx context.Context, path string) (node, error) {
	if r.reads.Add(1) > maxReads || r.bytes.Load() > maxReadBytes {
		return node{}, fleet.NewFault(fleet.CodeBMCAnswerInvalid, fleet.Invalid, nil, "not read: more than %d resources or %d MiB in all", maxReads, maxReadBytes>>20)
	}
	n, a, err := r.s.get(ctx, path, r.seen)
	if a != nil {
		r.bytes.Add(int64(len(a.body)))
	}
	return n, err
}

// put remembers a resource that came inside another.
func (r *reader) put(n node) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.read[same(n.path)]; !known {
		g := &reading{done: make(chan struct{}), n: n}
		close(g.done)
		r.read[same(n.path)] = g
	}
}

// try reads a resource and notes when it cannot be read.
func (r *reader) try(ctx context.Context, path string) (node, bool) {
	if path == "" {
		return node{}, false
	}
	n, err := r.get(ctx, path)
	if err != nil {
		r.seen.add(path, "%v", err)
		return node{}, false
	}
	if n.object("error").exists() && !n.has("@odata.id") && !n.has("Id") {
		r.seen.add(path, "an error with a status of success: %s", messagesText(n))
		return node{}, false
	}
	return n, true
}

func messagesText(n node) string {
	var out []string
	for _, m := range n.object("error").objects("@Message.ExtendedInfo") {
		out = append(out, m.str("MessageId"))
	}
	return strings.Join(out, ", ")
}

// members reads all members of a collection, in its order. A member that
// cannot be read is noted and left out. Nil means that there is no collection,
// or none that can be read.
func (r *reader) members(ctx context.Context, path string) []node {
	if path == "" {
		return nil
	}
	pages, err := r.pages(ctx, path)
	if err != nil {
		r.seen.add(path, "%v", err)
	}
	var all []node
	read := false
	for _, p := range pages {
		if !p.has("Members") {
			r.seen.add(p.path, "a collection without Members")
			continue
		}
		read = true
		all = append(all, p.objects("Members")...)
	}
	if !read {
		return nil
	}
	return r.resolve(ctx, path, all)
}

// pages reads a collection and what follows it.
func (r *reader) pages(ctx context.Context, path string) ([]node, error) {
	first, err := r.expanded(ctx, path)
	if err != nil {
		return nil, err
	}
	out, visited := []node{first}, map[string]bool{path: true}
	count := len(first.list("Members"))
	for p := first; ; {
		next := p.link("Members@odata.nextLink")
		if next == "" {
			next = p.link("@odata.nextLink")
		}
		if next == "" {
			return out, nil
		}
		if visited[next] || len(out) >= maxPages || count > maxMembers {
			return out, fleet.NewFault(fleet.CodeBMCAnswerInvalid, fleet.Invalid, nil, "collection does not end: page %d, %d members, next %q", len(out), count, next)
		}
		visited[next] = true
		if p, err = r.get(ctx, next); err != nil {
			return out, err
		}
		count += len(p.list("Members"))
		out = append(out, p)
	}
}

// expanded reads a resource with what it links to in place, where the BMC can.
// Callers must look at what they got.
func (r *reader) expanded(ctx context.Context, path string) (node, error) {
	query := r.s.expand.get()
	if query == "" || strings.Contains(path, "?") {
		return r.get(ctx, path)
	}
	r.mu.Lock()
	_, known := r.read[same(path)]
	r.mu.Unlock()
	if known {
		return r.get(ctx, path)
	}
	n, err := r.fetch(ctx, path+"?"+query)
	if err != nil {
		r.s.expand.failed()
		return r.get(ctx, path)
	}
	n.path = path
	if !isExpanded(n) {
		r.s.expand.failed()
	}
	r.put(n)
	return n, nil
}

// isExpanded tells whether members or drives came with content. An empty list
// proves nothing against it.
func isExpanded(n node) bool {
	for _, key := range []string{"Members", "Drives"} {
		for _, m := range n.objects(key) {
			return isWhole(m)
		}
	}
	return true
}

// isWhole tells a resource from a link to one.
func isWhole(n node) bool {
	for k := range n.m {
		if !strings.HasPrefix(k, "@") {
			return true
		}
	}
	return false
}

// resolve reads what is behind links, in parallel within the session's limit.
// Duplicates are left out.
func (r *reader) resolve(ctx context.Context, from string, refs []node) []node {
	if len(refs) > maxMembers {
		r.seen.add(from, "%d members; only the first %d were read", len(refs), maxMembers)
		refs = refs[:maxMembers]
	}
	if !r.admit(len(refs)) {
		r.seen.add(from, "more than %d members in all; these were not read", maxWork)
		return nil
	}
	out := make([]node, len(refs))
	visited := map[string]bool{}
	var group sync.WaitGroup
	for i, ref := range refs {
		self := ref.self()
		if self != "" {
			if visited[same(self)] {
				continue
			}
			visited[same(self)] = true
		}
		if isWhole(ref) {
			if self != "" {
				ref.path = self
				r.put(ref)
			}
			out[i] = ref
			continue
		}
		if self == "" {
			r.seen.add(ref.path, "a member without @odata.id")
			continue
		}
		group.Go(func() {
			if n, ok := r.try(ctx, self); ok {
				out[i] = n
			}
		})
	}
	group.Wait()
	kept := out[:0]
	for _, n := range out {
		if n.exists() {
			kept = append(kept, n)
		}
	}
	return kept
}

// admit bounds what one inspection does, however collections are nested.
func (r *reader) admit(n int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.work += n
	return r.work <= maxWork
}

// failure gives an error that kept a resource from being read which may well
// be there, nil when there was none.
func (r *reader) failure() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, g := range r.read {
		select {
		case <-g.done:
			if g.err != nil && fleet.KindOf(g.err) != fleet.Unsupported {
				return g.err
			}
		default:
		}
	}
	return nil
}

// refs makes links out of addresses, for resolve.
func (r *reader) refs(paths ...string) []node {
	var out []node
	for i, p := range paths {
		if p != "" {
			out = append(out, node{path: fmt.Sprintf("%s#[%d]", p, i), m: map[string]any{"@odata.id": p}, seen: r.seen})
		}
	}
	return out
}

// memberLinks gives the addresses of a collection's members without reading
// them, for collections of which one is wanted.
func (r *reader) memberLinks(ctx context.Context, path string) []string {
	if path == "" {
		return nil
	}
	n, ok := r.try(ctx, path)
	if !ok {
		return nil
	}
	return n.links("Members")
}
