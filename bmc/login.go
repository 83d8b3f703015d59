package bmc

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"metalrise.dev/fleet"
)

const (
	rootPath     = "/redfish/v1/"
	maxBadLogins = 2 // many accounts lock at three
)

// readRoot reads the service root, which needs no login.
func readRoot(ctx context.Context, c *client) (node, error) {
	var a *answer
	var err error
	for _, path := range []string{rootPath, strings.TrimSuffix(rootPath, "/")} {
		if a, err = c.send(ctx, ask{method: http.MethodGet, path: path}); err != nil {
			return node{}, err
		}
		if a.status != http.StatusNotFound {
			break
		}
	}
	if a.status != http.StatusOK {
		r := &refusal{method: http.MethodGet, path: rootPath, status: a.status, messages: c.hide.messages(a.body)}
		if r.isNotReady() {
			return node{}, r.fault()
		}
		return node{}, fleet.NewFault(fleet.CodeBMCNotRedfish, fleet.Unsupported, r, "no Redfish service root")
	}
	m, err := decode(a.body)
	if err != nil {
		return node{}, fleet.NewFault(fleet.CodeBMCNotRedfish, fleet.Unsupported, err, "%s is not a Redfish service root", rootPath)
	}
	n := node{path: a.path, m: m}
	if !n.has("RedfishVersion") && !n.has("Systems") && !n.has("Chassis") && !n.has("Managers") {
		return node{}, fleet.NewFault(fleet.CodeBMCNotRedfish, fleet.Unsupported, nil, "%s is not a Redfish service root: it names no version and no collection", rootPath)
	}
	return n, nil
}

// login opens a session, or settles for basic authentication.
func (s *Session) login(ctx context.Context) error {
	if err := s.logins.enter(ctx, s.limit); err != nil {
		return err
	}
	defer s.logins.leave()
	path := s.sessionsPath()
	post := ask{
		method: http.MethodPost, path: path,
		body: map[string]string{"UserName": s.username, "Password": s.password},
	}
	a, err := s.client.send(ctx, post)
	lost := 0 // logins that got no answer, which may have been a refusal
	if err != nil && isDropped(err) && ctx.Err() == nil && s.logins.refused+1 < s.limit {
		lost = 1
		a, err = s.client.send(ctx, post) // the connection of the read before died without a word
	}
	if err != nil {
		if fleet.KindOf(err) == fleet.UnsureKind { // at worst a session leaks until the BMC times it out
			err = fleet.NewFault(fleet.CodeBMCUnreachable, fleet.Transient, err, "the login got no answer")
		}
		return err
	}
	if token := a.header.Get("X-Auth-Token"); a.status < 300 && token != "" {
		s.token, s.basic, s.location = token, false, sessionLocation(a)
		if s.opts.SessionOpened != nil && s.location != "" {
			s.opts.SessionOpened(s.location)
		}
		return s.mustChange(ctx, a)
	}
	r := &refusal{method: http.MethodPost, path: path, status: a.status, messages: s.client.hide.messages(a.body)}
	switch {
	case r.isNotReady() || r.says(passwordChange):
		return r.fault()
	case a.status == http.StatusUnauthorized, a.status == http.StatusForbidden:
		s.logins.refused += 1 + lost
		// An answer that is not Redfish, or that misses a login with the request,
		// comes from a gate in front of the session service, which wants basic
		// authentication.
		if len(r.messages) > 0 && !r.says("NoValidSession") || !strings.HasPrefix(strings.ToLower(a.header.Get("WWW-Authenticate")), "basic") {
			return fleet.NewFault(fleet.CodeBMCLoginRefused, fleet.Denied, r, "the BMC refused the login of user %q", s.username)
		}
	}
	return s.tryBasic(ctx, r)
}

// mustChange recognises a login that is good for changing the password only.
// The session is given back at once.
func (s *Session) mustChange(ctx context.Context, a *answer) error {
	r := &refusal{method: http.MethodPost, path: a.path, status: a.status, messages: s.client.hide.messages(a.body)}
	if !r.says(passwordChange) {
		return nil
	}
	if s.location != "" {
		h := http.Header{}
		h.Set("X-Auth-Token", s.token)
		_, _ = s.client.send(ctx, ask{method: http.MethodDelete, path: s.location, header: h})
	}
	s.token, s.location = "", ""
	return r.fault()
}

// tryBasic uses basic authentication where sessions do not work.
func (s *Session) tryBasic(ctx context.Context, why error) error {
	path := s.root.link("Systems")
	if path == "" {
		path = s.root.link("Chassis")
	}
	if path == "" {
		return fleet.NewFault(fleet.CodeBMCUnsupported, fleet.Unsupported, why, "no session can be opened, and nothing is there to try basic authentication on")
	}
	h := http.Header{}
	h.Set("Authorization", s.basicHeader())
	a, err := s.client.send(ctx, ask{method: http.MethodGet, path: path, header: h})
	if err != nil {
		return err
	}
	if a.status == http.StatusUnauthorized || a.status == http.StatusForbidden {
		s.logins.refused++
		return fleet.NewFault(fleet.CodeBMCLoginRefused, fleet.Denied, why, "the BMC refused the login of user %q, also by basic authentication", s.username)
	}
	s.token, s.basic, s.location = "", true, ""
	return nil
}

func (s *Session) basicHeader() string {
	r := http.Request{Header: http.Header{}}
	r.SetBasicAuth(s.username, s.password)
	return r.Header.Get("Authorization")
}

func (s *Session) sessionsPath() string {
	if p := s.root.object("Links").link("Sessions"); p != "" {
		return p
	}
	if p := s.root.link("SessionService"); p != "" {
		return strings.TrimRight(p, "/") + "/Sessions"
	}
	return rootPath + "SessionService/Sessions"
}

// sessionLocation finds where the new session lives. Its host is ignored: some
// BMCs name themselves by an inner address.
func sessionLocation(a *answer) string {
	if u, err := url.Parse(a.header.Get("Location")); err == nil && u.Path != "" {
		if p, err := cleanPath(u.EscapedPath()); err == nil {
			return p
		}
	}
	if m, err := decode(a.body); err == nil {
		return node{m: m}.self()
	}
	return ""
}

// auth gives the headers of a request and the token they carry.
func (s *Session) auth() (http.Header, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := http.Header{}
	if s.basic {
		h.Set("Authorization", s.basicHeader())
	} else {
		h.Set("X-Auth-Token", s.token)
	}
	return h, s.token
}

// relogin gets a new token unless somebody else already did.
func (s *Session) relogin(ctx context.Context, used string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.token != used {
		return nil
	}
	if s.basic {
		return fleet.NewFault(fleet.CodeBMCLoginRefused, fleet.Denied, nil, "the BMC no longer accepts the login of user %q", s.username)
	}
	if s.useless >= maxBadLogins {
		return fleet.NewFault(fleet.CodeBMCSessionRefused, fleet.Denied, nil, "%d new sessions of user %q were not accepted either", s.useless, s.username)
	}
	old := s.location
	if err := s.login(ctx); err != nil {
		return err
	}
	if old != "" && old != s.location && !s.basic { // it is most likely gone; else it would leak
		h := http.Header{}
		h.Set("X-Auth-Token", s.token)
		_, _ = s.client.send(ctx, ask{method: http.MethodDelete, path: old, header: h})
	}
	return nil
}

// passwordChange is the message key of a BMC that wants a new password (Redfish
// base registry); its argument is the account's URI.
const passwordChange = "PasswordChangeRequired"

// Lockout reads after how many refused logins the BMC locks an account; 0 when
// it never does, unknown when it does not say. From then on the session risks
// fewer than that.
func (s *Session) Lockout(ctx context.Context) (fleet.Maybe[int], error) {
	path := s.root.link("AccountService")
	if path == "" {
		return fleet.Maybe[int]{}, nil
	}
	n, _, err := s.get(ctx, path, nil)
	if err != nil {
		return fleet.Maybe[int]{}, s.wrap("read lockout of", err)
	}
	v, ok := n.whole("AccountLockoutThreshold", 0, 1000).Get()
	if !ok {
		return fleet.Maybe[int]{}, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if v > 0 {
		s.limit = max(1, min(maxBadLogins, int(v)-1))
	}
	return fleet.Known(int(v)), nil
}

// sessionLimit are those of a BMC that is out of sessions: Redfish base
// registry; Dell RAC0218.
var sessionLimit = [...]string{"SessionLimitExceeded", "CreateLimitReachedForResource", "RAC0218"}

// account names what PasswordChangeRequired is about.
func (r *refusal) account() string {
	for _, m := range r.messages {
		if strings.EqualFold(m.key(), passwordChange) && len(m.args) > 0 {
			return "account " + m.args[0]
		}
	}
	return "the account"
}
