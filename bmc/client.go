package bmc

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"metalrise.dev/fleet"
)

const (
	maxBody      = 8 << 20 // the largest honest answer seen is 0.6 MB (a deep $expand)
	maxRedirects = 3
)

// client sends bounded requests to one BMC and nowhere else.
type client struct {
	plain bool   // without TLS, because the address begins with http://
	host  string // host:port
	http  *http.Client
	hide  veil
	slots chan struct{} // one token per request that may run at a time
	pin   pin
	wait  time.Duration // of one request, all in all
	count counters
}

// Stats counts what a session cost.
type Stats struct {
	Requests    int64 // sent, logins and redirects included
	Connections int64 // TCP connections opened
	Bytes       int64 // of answer bodies
}

type counters struct{ requests, connections, bytes atomic.Int64 }

func (c *counters) stats() Stats {
	return Stats{Requests: c.requests.Load(), Connections: c.connections.Load(), Bytes: c.bytes.Load()}
}

// pin holds the certificate fingerprint that must be met. With accept, the
// first one met becomes the pin.
type pin struct {
	mu     sync.Mutex
	want   string
	accept bool
}

func (p *pin) get() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.want
}

// check compares a certificate in DER form with the pin.
func (p *pin) check(der []byte) error {
	sum := sha256.Sum256(der)
	seen := hex.EncodeToString(sum[:])
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.want == "" && p.accept {
		p.want = seen
	}
	if p.want != seen {
		return fleet.NewFault(fleet.CodeBMCPinChanged, fleet.Conflict, nil, "certificate has fingerprint %s, pinned is %s", seen, p.want)
	}
	return nil
}

func newClient(address, fingerprint string, o Options) *client {
	c := &client{
		slots: make(chan struct{}, o.Parallel),
		wait:  o.RequestTimeout,
	}
	c.host, c.plain = hostPort(address)
	c.pin.want, c.pin.accept = strings.ToLower(strings.TrimSpace(fingerprint)), o.AcceptNewPin
	dialer := &net.Dialer{Timeout: o.ConnectTimeout}
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		c.count.connections.Add(1)
		if o.first != nil {
			if known := o.first(); known != nil {
				return known, nil
			}
		}
		return dialer.DialContext(ctx, network, addr)
	}
	name, _, _ := net.SplitHostPort(c.host)
	h := &handshake{host: name, legacy: o.LegacyTLS, wait: o.ConnectTimeout, pin: &c.pin, cache: tls.NewLRUClientSessionCache(1), dial: dial, met: o.met}
	c.http = &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext:            dial,
			DialTLSContext:         h.connect,
			MaxConnsPerHost:        o.Parallel,
			MaxIdleConnsPerHost:    o.Parallel,
			IdleConnTimeout:        10 * time.Second, // BMCs drop idle connections soon and without a word
			DisableCompression:     true,             // some answer gzip with a changed ETag (gofish #512)
			MaxResponseHeaderBytes: 64 << 10,
		},
	}
	return c
}

func (c *client) closeIdle() { c.http.CloseIdleConnections() }

// ask is one request.
type ask struct {
	method string
	path   string
	body   any           // nil: none
	header http.Header   // nil: none
	wait   time.Duration // 0: the client's
}

// answer is a whole response.
type answer struct {
	status int
	header http.Header
	body   []byte
	path   string // after redirects
}

func (a *answer) node(seen *problems) (node, error) {
	m, err := decode(a.body)
	if err != nil {
		return node{}, fleet.NewFault(fleet.CodeBMCAnswerInvalid, fleet.Invalid, err, "%s is not a JSON object", a.path)
	}
	return node{path: a.path, m: m, seen: seen}, nil
}

// send sends one request and reads the whole answer. Any status is an answer;
// an error means that there was none. For a request that changes something, an
// error after it may have left is uncertain.
func (c *client) send(ctx context.Context, q ask) (*answer, error) {
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return nil, fleet.NewFault(fleet.CodeBMCUnreachable, fleet.Transient, ctx.Err(), "%s %s was not sent", q.method, q.path)
	}
	wait := q.wait
	if wait == 0 {
		wait = c.wait
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	var payload []byte
	if q.body != nil {
		var err error
		if payload, err = json.Marshal(q.body); err != nil {
			return nil, fmt.Errorf("encode body of %s %s: %w", q.method, q.path, err)
		}
		c.hide.learn(q.body)
	}
	path := q.path
	for range maxRedirects + 1 {
		a, err := c.once(ctx, q, path, payload)
		if err != nil {
			return nil, err
		}
		next, err := c.redirect(a)
		if err != nil || next == "" {
			return a, err
		}
		path = next
	}
	return nil, fleet.NewFault(fleet.CodeBMCAnswerInvalid, fleet.Invalid, nil, "%s %s redirects more than %d times", q.method, q.path, maxRedirects)
}

func (c *client) once(ctx context.Context, q ask, path string, payload []byte) (*answer, error) {
	var left atomic.Bool
	trace := &httptrace.ClientTrace{WroteHeaders: func() { left.Store(true) }}
	var body io.Reader
	if payload != nil {
		body = bytes.NewReader(payload)
	}
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, trace), q.method, c.scheme()+"://"+c.host+path, body)
	if err != nil {
		return nil, fleet.NewFault(fleet.CodeBMCAnswerInvalid, fleet.Invalid, err, "%q is not a path", path)
	}
	for k, v := range q.header {
		req.Header[k] = v
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Accept-Encoding", "identity")
	req.Header.Set("OData-Version", "4.0")
	if payload != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	c.count.requests.Add(1)
	res, err := c.http.Do(req)
	if err != nil {
		return nil, lost(q.method, path, err, left.Load())
	}
	defer res.Body.Close()
	data, err := io.ReadAll(io.LimitReader(&unpacked{res: res}, maxBody+1))
	c.count.bytes.Add(int64(len(data)))
	if err != nil {
		return nil, lost(q.method, path, err, true)
	}
	if len(data) > maxBody {
		kind := fleet.Invalid
		if isChange(q.method) {
			kind = fleet.UnsureKind
		}
		return nil, fleet.NewFault(fleet.CodeBMCAnswerInvalid, kind, nil, "answer to %s %s is larger than %d MiB", q.method, path, maxBody>>20)
	}
	return &answer{status: res.StatusCode, header: res.Header, body: data, path: path}, nil
}

// lost says what a broken exchange means. left tells whether the request may
// have reached the BMC.
func lost(method, path string, err error, left bool) error {
	var f *fleet.Fault
	if errors.As(err, &f) {
		return f // the pin
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err // without the URL, which is in the text already
	}
	switch {
	case isChange(method) && left:
		return fleet.NewFault(fleet.CodeBMCUnreachable, fleet.UnsureKind, err, "no answer to %s %s: it may have been done", method, path)
	case left:
		return fleet.NewFault(fleet.CodeBMCUnreachable, fleet.Transient, err, "no answer to %s %s", method, path)
	}
	return fleet.NewFault(fleet.CodeBMCUnreachable, fleet.Transient, err, "cannot connect for %s %s", method, path)
}

// redirect gives the path to go to, "" when the answer is no redirect. It
// never leaves the host: whoever is named there has not shown the pinned
// certificate.
func (c *client) redirect(a *answer) (string, error) {
	switch a.status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
	default:
		return "", nil
	}
	to, err := c.local(a.header.Get("Location"))
	if err != nil || to == "" {
		return "", fleet.NewFault(fleet.CodeBMCAnswerInvalid, fleet.Unsupported, err, "%s redirects to %q, which is not followed", a.path, a.header.Get("Location"))
	}
	return to, nil
}

// local turns a Location header into a path of this BMC.
func (c *client) local(location string) (string, error) {
	if location == "" {
		return "", nil
	}
	u, err := url.Parse(location)
	if err != nil {
		return "", err
	}
	if u.Host != "" && (u.Scheme != c.scheme() && u.Scheme != "" || !sameHost(u.Host, c.host)) {
		return "", errForeignLink
	}
	return cleanPath(u.RequestURI())
}

func sameHost(a, b string) bool {
	return strings.EqualFold(withPort(a), withPort(b))
}

func (c *client) scheme() string {
	if c.plain {
		return "http"
	}
	return "https"
}

// plainPrefix stands before the address of a BMC without TLS. It is never
// assumed: somebody typed it.
const plainPrefix = "http://"

// hostPort reads the address of a BMC: host, host:port, or http://host:port.
func hostPort(address string) (host string, plain bool) {
	rest, plain := strings.CutPrefix(address, plainPrefix)
	if _, _, err := net.SplitHostPort(rest); err != nil && plain {
		return net.JoinHostPort(strings.Trim(rest, "[]"), "80"), true
	}
	return withPort(rest), plain
}

func withPort(h string) string {
	if _, _, err := net.SplitHostPort(h); err == nil {
		return h
	}
	return net.JoinHostPort(strings.Trim(h, "[]"), "443")
}
