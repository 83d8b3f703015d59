package bmc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"time"

	"metalrise.dev/fleet"
)

const closeTimeout = 5 * time.Second

// Login is what a session needs: whom to reach, and the password itself, which
// is kept in memory only.
type Login struct {
	Endpoint fleet.Endpoint
	Password string
	Options  Options
}

// String names the login without its password.
func (l Login) String() string { return l.Endpoint.Username + "@" + l.Endpoint.Address }

// GoString keeps %#v from printing the password.
func (l Login) GoString() string { return "bmc.Login(" + l.String() + ")" }

// Options tune a session. Zero fields get the default named beside them.
type Options struct {
	// AcceptNewPin lets an endpoint without a fingerprint be trusted on first
	// use. Session.Fingerprint tells what was met.
	AcceptNewPin   bool
	Parallel       int           // requests at a time, 1 to 4; default 4
	ConnectTimeout time.Duration // TCP and TLS each; default 15 s
	RequestTimeout time.Duration // one request with its answer; default 60 s: slow BMCs need 10 to 60 s
	InsertTimeout  time.Duration // an insert request, which may load the image first; default 5 min
	Poll           time.Duration // first wait between looks, which then grows to five times; default 1 s
	Settle         time.Duration // how long an accepted act may take to show; default 60 s
	// SessionOpened is told the location of each session that is opened, so that
	// it can be written down and deleted after a crash. It must not use the
	// session. May be nil.
	SessionOpened func(location string)
	// LegacyTLS takes TLS 1.0 and 1.1, RSA key exchange, 3DES and certificates
	// with negative serial numbers from this BMC. Only a person may allow it.
	LegacyTLS bool
	// Ledger counts refused logins over all sessions of a run. nil counts those
	// of this session only.
	Ledger *Ledger

	first func() net.Conn // connection that exists already, once; nil when there is none
	met   *outdated       // told what is outdated about the TLS connection
}

func (o Options) withDefaults() Options {
	if o.Ledger == nil {
		o.Ledger = NewLedger()
	}
	if o.Parallel < 1 || o.Parallel > 4 {
		o.Parallel = 4
	}
	for _, d := range []struct {
		v *time.Duration
		d time.Duration
	}{
		{&o.ConnectTimeout, 15 * time.Second}, {&o.RequestTimeout, time.Minute},
		{&o.InsertTimeout, 5 * time.Minute}, {&o.Poll, time.Second}, {&o.Settle, time.Minute},
	} {
		if *d.v <= 0 {
			*d.v = d.d
		}
	}
	return o
}

// Session is one login to one BMC, shared by all requests until Close.
type Session struct {
	client   *client
	opts     Options
	address  string
	username string
	password string
	root     node
	expand   expansion
	choose   selection
	crowd    crowd

	mu       sync.Mutex
	token    string // "" with basic authentication
	basic    bool
	location string
	logins   *credential
	limit    int // refused logins that are risked
	useless  int // new logins that did not help the request that wanted them

	slotsMu sync.Mutex
	slotsOf map[string][]drivePlace // usable virtual drives by system
}

// Dial reads the service root, checks the certificate and logs in, with a
// Redfish session where there is one, else with basic authentication.
// Faults: BMC-001 not reached, BMC-002 no Redfish, BMC-003 login refused,
// BMC-004 wrong or missing pin, BMC-006 not ready, BMC-013 password must be
// changed, BMC-014 no session free, BMC-016 to BMC-018 outdated TLS, BMC-019
// refused too often before.
func Dial(ctx context.Context, l Login) (*Session, error) {
	s, err := open(l)
	if err != nil {
		return nil, s.wrap("log in to", err)
	}
	if err := s.start(ctx); err != nil {
		s.client.closeIdle()
		return nil, s.wrap("log in to", err)
	}
	return s, nil
}

// String names the session without its secrets.
func (s *Session) String() string { return "session on bmc " + s.address }

// GoString keeps %#v from printing secrets.
func (s *Session) GoString() string { return s.String() }

// open checks a login and makes a session that has not spoken yet.
func open(l Login) (*Session, error) {
	o := l.Options.withDefaults()
	e := l.Endpoint
	s := &Session{opts: o, address: e.Address, username: e.Username, password: l.Password, slotsOf: map[string][]drivePlace{}}
	o.LegacyTLS = o.LegacyTLS || e.LegacyTLS
	_, plain := hostPort(e.Address)
	if e.Fingerprint == "" && !o.AcceptNewPin && !plain {
		return s, fleet.NewFault(fleet.CodeBMCPinChanged, fleet.Invalid, nil, "no certificate fingerprint is pinned and new ones are not accepted")
	}
	if e.Username == "" || l.Password == "" {
		return s, fleet.NewFault(fleet.CodeBMCLoginRefused, fleet.Invalid, nil, "user name or password is empty")
	}
	s.limit, s.logins = maxBadLogins, o.Ledger.of(e.Address, e.Username, l.Password)
	s.client = newClient(e.Address, e.Fingerprint, o)
	s.client.hide.add(l.Password)
	return s, nil
}

func (s *Session) start(ctx context.Context) error {
	root, err := readRoot(ctx, s.client)
	if err != nil {
		return err
	}
	s.root = root
	s.expand.init(root)
	s.choose.init(root)
	return s.login(ctx)
}

// do sends a request with the session's credentials, logs in again once when
// they have expired, and waits for a busy BMC where nothing was done yet.
// Answers that are no success become faults.
func (s *Session) do(ctx context.Context, q ask) (*answer, error) {
	const tries = 3
	renewed, broken := false, false
	for try := 1; ; try++ {
		h, token := s.auth()
		for k, v := range q.header {
			h[k] = v
		}
		sent := q
		sent.header = h
		a, err := s.client.send(ctx, sent)
		if err != nil {
			// BMCs drop kept connections without a word: one more try for a read.
			// After a time-out there is none, it would only take as long again.
			if !isChange(q.method) && !broken && isDropped(err) && ctx.Err() == nil {
				broken = true
				continue
			}
			return nil, err
		}
		if a.status < 300 {
			return a, nil
		}
		r := &refusal{method: q.method, path: q.path, status: a.status, messages: s.client.hide.messages(a.body)}
		switch {
		case a.status == http.StatusUnauthorized && !renewed:
			renewed = true
			if err := s.relogin(ctx, token); err != nil {
				return nil, errors.Join(err, r)
			}
			try--
			continue
		case a.status == http.StatusUnauthorized:
			s.mu.Lock()
			s.useless++
			s.mu.Unlock()
		case r.isNotReady() && !isChange(q.method) && try < tries:
			if err := pause(ctx, retryAfter(a, s.opts.Poll)); err == nil {
				continue
			}
		}
		return a, r.fault()
	}
}

// isDropped tells a connection that broke from one that took too long or could
// not be made.
func isDropped(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET)
}

// retryAfter reads the header in its form of seconds, within reason.
func retryAfter(a *answer, least time.Duration) time.Duration {
	var seconds int
	if _, err := fmt.Sscanf(a.header.Get("Retry-After"), "%d", &seconds); err != nil || seconds < 0 {
		return least
	}
	return max(least, min(time.Duration(seconds)*time.Second, 30*time.Second))
}

// pause waits, or ends early with the context's error.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// get reads one resource.
func (s *Session) get(ctx context.Context, path string, seen *problems) (node, *answer, error) {
	path, err := cleanPath(path)
	if err == nil && path == "" {
		err = errors.New("empty path")
	}
	if err != nil {
		return node{}, nil, fleet.NewFault(fleet.CodeBMCAnswerInvalid, fleet.Invalid, err, "cannot read resource")
	}
	a, err := s.crowd.read(ctx, s.opts.Poll, func() (*answer, error) { return s.do(ctx, ask{method: http.MethodGet, path: path}) })
	if err != nil {
		return node{}, a, err
	}
	n, err := a.node(seen)
	n.path = path
	return n, a, err
}

// Location is where the session can be deleted; "" with basic authentication.
func (s *Session) Location() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.location
}

// Fingerprint is that of the certificate the BMC showed.
func (s *Session) Fingerprint() string { return s.client.pin.get() }

// Address is the BMC's.
func (s *Session) Address() string { return s.address }

// Stats tells what the session cost so far.
func (s *Session) Stats() Stats { return s.client.count.stats() }

// Close deletes the session on the BMC, whatever became of the context that
// opened it. The session must not be used afterwards.
func (s *Session) Close() error {
	defer s.client.closeIdle()
	s.mu.Lock()
	location, token := s.location, s.token
	s.location, s.token = "", ""
	s.mu.Unlock()
	if location == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	h := http.Header{}
	h.Set("X-Auth-Token", token)
	a, err := s.client.send(ctx, ask{method: http.MethodDelete, path: location, header: h})
	if err != nil && isDropped(err) { // deleting twice is deleting
		a, err = s.client.send(ctx, ask{method: http.MethodDelete, path: location, header: h})
	}
	return s.wrap("close session on", s.gone(a, err, location))
}

// gone judges the answer to a DELETE: not being there, or no longer being
// logged in, is as good as deleted.
func (s *Session) gone(a *answer, err error, path string) error {
	if err != nil {
		return err
	}
	if a.status < 300 || a.status == http.StatusNotFound || a.status == http.StatusGone || a.status == http.StatusUnauthorized {
		return nil
	}
	return (&refusal{method: http.MethodDelete, path: path, status: a.status, messages: s.client.hide.messages(a.body)}).fault()
}

// Forget deletes a session that an earlier process opened and could not close.
// A session that no longer exists is a success.
func Forget(ctx context.Context, l Login, location string) error {
	path, err := cleanPath(location)
	if err != nil || !strings.HasPrefix(strings.ToLower(path), "/redfish/v1/") || !strings.Contains(strings.ToLower(path), "/sessions/") {
		return fleet.NewFault(fleet.CodeBMCAnswerInvalid, fleet.Invalid, err, "%q is not the location of a session", location)
	}
	s, err := Dial(ctx, l)
	if c := fleet.CodeOf(err); c == fleet.CodeBMCBusy || c == fleet.CodeBMCSessionLimit {
		// Perhaps no session is free because of this very one: without a session then.
		if s, err = open(l); err == nil {
			s.basic = true
		}
	}
	if err != nil {
		return fmt.Errorf("forget session %s: %w", path, err)
	}
	h, _ := s.auth()
	a, err := s.client.send(ctx, ask{method: http.MethodDelete, path: path, header: h})
	return errors.Join(s.wrap("forget session on", s.gone(a, err, path)), s.Close())
}

// wrap names operation and BMC.
func (s *Session) wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	if s.client != nil {
		err = s.client.hide.errors(err)
	}
	return fmt.Errorf("%s bmc %s: %w", doing, s.address, err)
}
