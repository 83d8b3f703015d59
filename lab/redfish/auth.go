package redfish

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// accounts are the one account and its sessions. Lock order: its lock is taken
// alone or inside BMC.mu, never around it.
type accounts struct {
	user, pass [sha256.Size]byte // hashes: comparisons take the same time for all inputs
	userName   string
	limits     Limits

	mu       sync.Mutex
	timeout  time.Duration
	serial   int
	sessions map[[sha256.Size]byte]*session // by hash of the token: a look-up tells nothing of tokens
	failures int
	lastFail time.Time
	lockedTo time.Time
	changed  bool // the password was changed since the start
}

type session struct {
	number  int
	id      string // the number as text
	created time.Time
	used    time.Time
}

func (a *accounts) init(user, pass string, l Limits) {
	a.user, a.pass, a.userName = sha256.Sum256([]byte(user)), sha256.Sum256([]byte(pass)), user
	a.limits, a.timeout = l, l.SessionTimeout
	a.sessions = map[[sha256.Size]byte]*session{}
}

// login checks a user name and password, and counts failures. While locked even
// the right password is refused.
func (a *accounts) login(user, pass string) bool {
	u, p := sha256.Sum256([]byte(user)), sha256.Sum256([]byte(pass))
	a.mu.Lock()
	defer a.mu.Unlock()
	right := subtle.ConstantTimeCompare(u[:], a.user[:])&subtle.ConstantTimeCompare(p[:], a.pass[:]) == 1
	now := time.Now()
	if now.Before(a.lockedTo) {
		return false
	}
	if now.Sub(a.lastFail) >= a.limits.LockoutDuration {
		a.failures = 0
	}
	if right {
		a.failures = 0
		return true
	}
	a.failures++
	a.lastFail = now
	if a.limits.LockoutThreshold > 0 && a.failures >= a.limits.LockoutThreshold {
		a.lockedTo, a.failures = now.Add(a.limits.LockoutDuration), 0
	}
	return false
}

// change sets a new password, for this process only.
func (a *accounts) change(pass string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.pass, a.changed = sha256.Sum256([]byte(pass)), true
}

func (a *accounts) isChanged() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.changed
}

func (a *accounts) locked() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return time.Now().Before(a.lockedTo)
}

func (a *accounts) expireLocked() {
	now := time.Now()
	for k, s := range a.sessions {
		if now.Sub(s.used) >= a.timeout {
			delete(a.sessions, k)
		}
	}
}

// open makes a session and its token; false when limit sessions are open.
func (a *accounts) open(limit int) (token string, s session, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.expireLocked()
	if len(a.sessions) >= limit {
		return "", session{}, false
	}
	var secret [16]byte
	_, _ = rand.Read(secret[:]) // never fails (crypto/rand)
	token = hex.EncodeToString(secret[:])
	a.serial++
	now := time.Now()
	s = session{number: a.serial, id: strconv.Itoa(a.serial), created: now, used: now}
	a.sessions[sha256.Sum256([]byte(token))] = &s
	return token, s, true
}

// valid tells whether a token is that of a live session, and renews it.
func (a *accounts) valid(token string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.expireLocked()
	s, ok := a.sessions[sha256.Sum256([]byte(token))]
	if ok {
		s.used = time.Now()
	}
	return ok
}

// list gives the live sessions, the oldest first.
func (a *accounts) list() []session {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.expireLocked()
	out := make([]session, 0, len(a.sessions))
	for _, s := range a.sessions {
		out = append(out, *s)
	}
	slices.SortFunc(out, func(x, y session) int { return x.number - y.number })
	return out
}

func (a *accounts) count() int { return len(a.list()) }

func (a *accounts) close(id string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for k, s := range a.sessions {
		if s.id == id {
			delete(a.sessions, k)
			return true
		}
	}
	return false
}

func (a *accounts) dropAll() {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.sessions)
}

// authorize checks the login of a request: a token if there is one, else basic.
func (b *BMC) authorize(r *http.Request) *problem {
	if token := r.Header.Get("X-Auth-Token"); token != "" {
		if b.accounts.valid(token) {
			return nil
		}
		return noSession()
	}
	user, pass, ok := r.BasicAuth()
	switch {
	case !ok || b.is(BasicOff):
		return noSession()
	case !b.accounts.login(user, pass):
		return loginRefused(r.URL.Path)
	}
	return nil
}

// createSession is POST to the session collection, the one write without a login.
func (b *BMC) createSession(r *http.Request, in object) reply {
	user, okUser := in["UserName"].(string)
	pass, okPass := in["Password"].(string)
	domain := b.wantsDomain(in)
	switch {
	case domain != nil:
		return fail(domain)
	case !okUser:
		return fail(propertyMissing("UserName"))
	case !okPass:
		return fail(propertyMissing("Password"))
	case !b.accounts.login(user, pass):
		return fail(loginRefused(r.URL.Path))
	}
	limit := b.cfg.Limits.Sessions
	if f, hit := b.faults.strike(SessionLimit, "", ""); hit {
		limit = f.Limit
	}
	token, s, ok := b.accounts.open(limit)
	if !ok {
		return fail(b.tooMany())
	}
	body := b.sessionBody(s)
	h := http.Header{}
	h.Set("Location", pathSessions+"/"+s.id)
	h.Set("X-Auth-Token", token)
	if noToken := b.is(NoSessionToken); noToken || b.is(NoSessionLocation) {
		h.Del("Location")
		body = object{}
		if noToken {
			h.Del("X-Auth-Token")
		}
	}
	return reply{status: http.StatusCreated, header: h, body: body}
}

func (b *BMC) sessionBody(s session) object {
	return object{
		"@odata.id": pathSessions + "/" + s.id, "@odata.type": "#Session.v1_3_0.Session",
		"Id": s.id, "Name": "Session " + s.id, "UserName": b.accounts.userName,
		"CreatedTime": s.created.UTC().Format(time.RFC3339),
	}
}

func (b *BMC) sessionNode(id string) (node, bool) {
	for _, s := range b.accounts.list() {
		if s.id == id {
			return node{
				get: func() object { return b.sessionBody(s) },
				delete: func() *problem {
					if !b.accounts.close(id) {
						return notFound(pathSessions + "/" + id)
					}
					return nil
				},
			}, true
		}
	}
	return node{}, false
}

// age is how long a session lives without a request.
func (a *accounts) age() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.timeout
}

func (a *accounts) setAge(d time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.timeout = d
}
