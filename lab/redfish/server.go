package redfish

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
)

const (
	maxBody = 64 << 10 // largest request body in bytes; real requests are below 1 KiB

	pathRoot     = "/redfish/v1"
	pathSessions = pathRoot + "/SessionService/Sessions"
)

type object = map[string]any

// node is one resource or action target: what it can do is what is not nil.
type node struct {
	open    bool            // readable without a login
	get     func() object   // called with BMC.mu held
	members func() []string // of a collection: paths; called with BMC.mu held
	patch   func(object) *problem
	post    func(*http.Request, object) reply
	delete  func() *problem
	monitor func() reply // of a task: the whole answer to a GET
}

func (n node) allow() string {
	var out []string
	if n.get != nil || n.monitor != nil {
		out = append(out, "GET", "HEAD")
	}
	if n.patch != nil {
		out = append(out, "PATCH")
	}
	if n.post != nil {
		out = append(out, "POST")
	}
	if n.delete != nil {
		out = append(out, "DELETE")
	}
	return strings.Join(out, ", ")
}

// reply is an answer before it is written. A zero status is 204 without a body.
type reply struct {
	status int
	header http.Header
	body   object
	// problem is why it is no success, nil when it is one.
	problem *problem
}

func fail(p *problem) reply {
	h := http.Header{}
	if p.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(p.retryAfter.Seconds())))
	}
	if p.allow != "" {
		h.Set("Allow", p.allow)
	}
	if p.status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Basic realm="redfish"`)
	}
	return reply{status: p.status, header: h, body: p.body(), problem: p}
}

func done(p *problem) reply {
	if p != nil {
		return fail(p)
	}
	return reply{}
}

// ServeHTTP answers one request, faults first.
func (b *BMC) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.asked.Add(1)
	if b.faults.hits(Unreachable) {
		panic(http.ErrAbortHandler) // closes the connection
	}
	leave, dead := b.frozen()
	defer leave()
	if dead {
		panic(http.ErrAbortHandler)
	}
	delay := b.cfg.Delays.Response
	if f, hit := b.faults.strike(Slow, r.Method, r.URL.Path); hit {
		delay += f.Delay
	}
	if sleep(r.Context(), delay) != nil {
		return
	}
	if b.redirected(w, r) {
		return
	}
	if f, hit := b.faults.strike(Busy, r.Method, r.URL.Path); hit {
		b.write(w, r, fail(busyFor(f.RetryAfter)))
		return
	}
	if p := b.notReady(); p != nil {
		b.write(w, r, fail(p))
		return
	}
	if f, hit := b.faults.strike(Answer, r.Method, r.URL.Path); hit {
		b.writeFault(w, r, f)
		return
	}
	_, lost := b.faults.strike(LoseReply, r.Method, r.URL.Path)
	answer := b.answer(w, r)
	if lost {
		panic(http.ErrAbortHandler)
	}
	b.write(w, r, answer)
}

// answer does what the request asks for.
func (b *BMC) answer(w http.ResponseWriter, r *http.Request) reply {
	at := path.Clean("/" + strings.TrimSuffix(r.URL.Path, "/"))
	n, found := b.find(at)
	if at == pathSessions && r.Method == http.MethodPost {
		if p := b.gatekeeper(r); p != nil {
			return fail(p)
		}
	}
	if !found || !n.open && !(at == pathSessions && r.Method == http.MethodPost) {
		if p := b.authorize(r); p != nil {
			return fail(p)
		}
		if p := b.mustChange(r, at); p != nil {
			return fail(p)
		}
	}
	if !found && r.Method == http.MethodGet {
		if body := b.reshape(at, nil); body != nil {
			return reply{status: http.StatusOK, body: body}
		}
	}
	if !found {
		return fail(notFound(at))
	}
	if !accepts(r.Header.Get("Accept")) {
		return fail(notAcceptable(r.Header.Get("Accept")))
	}
	switch {
	case (r.Method == http.MethodGet || r.Method == http.MethodHead) && n.get != nil:
		return b.read(r, at, n)
	case r.Method == http.MethodGet && n.monitor != nil:
		return n.monitor()
	case r.Method == http.MethodPatch && n.patch != nil:
		in, p := readBody(w, r)
		if p != nil {
			return fail(p)
		}
		return b.change(r, n, in)
	case r.Method == http.MethodPost && n.post != nil:
		in, p := readBody(w, r)
		if p != nil {
			return fail(p)
		}
		return n.post(r, in)
	case r.Method == http.MethodDelete && n.delete != nil:
		return done(n.delete())
	}
	return fail(notAllowed(r.Method, n.allow()))
}

func (b *BMC) find(at string) (node, bool) {
	if n, ok := b.nodes[at]; ok {
		return n, true
	}
	dir, id := path.Split(at)
	switch strings.TrimSuffix(dir, "/") {
	case pathSessions:
		return b.sessionNode(id)
	case pathTasks:
		return b.tasks.node(id)
	case pathMonitors:
		return b.tasks.monitor(id)
	}
	return node{}, false
}

// body is the present state of a resource without its version.
func (b *BMC) body(n node) object {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := n.get()
	if n.members != nil {
		links := []object{}
		for _, m := range n.members() {
			links = append(links, link(m))
		}
		out["Members"], out["Members@odata.count"] = links, len(links)
	}
	return out
}

// version is the strong ETag of a body (RFC 9110 8.8.3).
func version(body object) string {
	text, _ := json.Marshal(body) // maps of plain values always encode, keys in order
	sum := sha256.Sum256(text)
	return fmt.Sprintf("%q", fmt.Sprintf("%x", sum[:8]))
}

// read answers a GET.
func (b *BMC) read(r *http.Request, at string, n node) reply {
	body := b.body(n)
	tag := version(body)
	q, p := parseQuery(r.URL.Query(), n.members != nil)
	if p != nil {
		return fail(p)
	}
	if n.members != nil {
		b.page(at, body, q)
	}
	h := http.Header{}
	h.Set("ETag", b.shownETag(tag))
	h.Set("Allow", n.allow())
	if r.Header.Get("If-None-Match") == tag {
		return reply{status: http.StatusNotModified, header: h}
	}
	body["@odata.etag"] = b.shownETag(tag)
	if body = b.reshape(at, body); body == nil {
		return fail(notFound(at))
	}
	if b.is(AnnotatedErrorSuccess) {
		body = internal("The resource could not be read.").body()
	}
	return reply{status: http.StatusOK, header: h, body: body}
}

// reshape gives the resource as Config.Reshape wants it shown.
func (b *BMC) reshape(at string, body object) object {
	if b.cfg.Reshape == nil {
		return body
	}
	return b.cfg.Reshape(at, body)
}

// page cuts and expands the members of a collection as the query asks.
func (b *BMC) page(at string, body object, q query) {
	links := body["Members"].([]object)
	from := min(q.skip, len(links))
	to := len(links)
	if q.top >= 0 {
		to = min(to, from+q.top)
	}
	if size := b.cfg.Personality.PageSize; size > 0 && to-from > size {
		to = from + size
		key := "Members@odata.nextLink"
		if b.is(MembersNotPaged) {
			key = "@odata.nextLink"
		}
		body[key] = at + "?$skip=" + strconv.Itoa(to)
	} else if size > 0 && from > 0 && b.is(NextLinkLoops) {
		body["Members@odata.nextLink"] = at + "?$skip=0"
	}
	links = links[from:to]
	if q.expand {
		for i, l := range links {
			at := l["@odata.id"].(string)
			if n, ok := b.find(at); ok {
				links[i] = b.body(n)
				links[i]["@odata.etag"] = version(links[i])
				if links[i] = b.reshape(at, links[i]); links[i] == nil {
					links[i] = l // the client meets the 404 itself
				}
			}
		}
	}
	body["Members"] = links
}

// change answers a PATCH: the version is checked and the change made as one.
func (b *BMC) change(r *http.Request, n node, in object) reply {
	// Annotations tell the client about what it read; they are not part of a change.
	maps.DeleteFunc(in, func(key string, _ any) bool { return strings.HasPrefix(key, "@odata.") })
	if len(in) == 0 {
		return fail(noOperation())
	}
	b.writes.Lock()
	defer b.writes.Unlock()
	want := r.Header.Values("If-Match")
	if len(want) == 0 && b.cfg.Personality.Match == MatchRequired {
		return fail(preconditionRequired())
	}
	if len(want) > 0 && !b.isMatch(want, version(b.body(n))) {
		return fail(preconditionFailed())
	}
	if p := n.patch(in); p != nil {
		return fail(p)
	}
	body := b.body(n)
	h := http.Header{}
	h.Set("ETag", b.shownETag(version(body)))
	body["@odata.etag"] = h.Get("ETag")
	return reply{status: http.StatusOK, header: h, body: body}
}

// matches compares strongly, as If-Match must (RFC 9110 13.1.1).
func matches(headers []string, tag string) bool {
	for _, h := range headers {
		for one := range strings.SplitSeq(h, ",") {
			if one = strings.TrimSpace(one); one == "*" || one == tag {
				return true
			}
		}
	}
	return false
}

func accepts(header string) bool {
	if header == "" {
		return true
	}
	for one := range strings.SplitSeq(header, ",") {
		kind, _, err := mime.ParseMediaType(one)
		if err == nil && (kind == "*/*" || kind == "application/*" || kind == "application/json") {
			return true
		}
	}
	return false
}

// readBody reads the JSON object of a request; an empty body is an empty object,
// as clients send none with actions that need no parameter.
func readBody(w http.ResponseWriter, r *http.Request) (object, *problem) {
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		if large := new(http.MaxBytesError); errors.As(err, &large) {
			return nil, tooLarge()
		}
		return nil, malformed(err.Error())
	}
	if len(text) == 0 {
		return object{}, nil
	}
	if got := r.Header.Get("Content-Type"); got != "" {
		if kind, _, err := mime.ParseMediaType(got); err != nil || kind != "application/json" {
			return nil, wrongMediaType(got)
		}
	}
	var in object
	if err := json.Unmarshal(text, &in); err != nil {
		return nil, malformed(err.Error())
	}
	if in == nil {
		return nil, malformed("it is null")
	}
	return in, nil
}

// write sends a reply with the headers every Redfish answer has (DSP0266).
func (b *BMC) write(w http.ResponseWriter, r *http.Request, a reply) {
	h := w.Header()
	for k, v := range a.header {
		h[k] = v
	}
	h.Set("OData-Version", "4.0")
	h.Set("Cache-Control", "no-cache")
	if a.status == 0 {
		a.status = http.StatusNoContent
	}
	if a.body == nil {
		w.WriteHeader(a.status)
		return
	}
	text, err := json.Marshal(b.oddError(a.body))
	if err != nil {
		http.Error(w, "cannot encode", http.StatusInternalServerError)
		return
	}
	h.Set("Content-Type", "application/json; charset=utf-8")
	text = b.encode(h, a.status, text)
	h.Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(a.status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(text) // the client went away: nobody to tell
	}
}
