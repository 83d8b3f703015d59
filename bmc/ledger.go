package bmc

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"sync"

	"metalrise.dev/fleet"
)

// Ledger counts refused logins over all sessions of one run, so that no account
// is locked by trying again. Give the same one to every Dial. It keeps no
// password.
type Ledger struct {
	key [32]byte

	mu   sync.Mutex
	sets map[[32]byte]*credential
}

// credential is one user name and password on one BMC.
type credential struct {
	turn    chan struct{} // one login at a time, so that the count is known before the next
	refused int
}

// NewLedger makes an empty ledger.
func NewLedger() *Ledger {
	l := &Ledger{sets: map[[32]byte]*credential{}}
	_, _ = rand.Read(l.key[:]) // never fails (crypto/rand)
	return l
}

// of finds the account of one credential set. Passwords are told apart by a
// keyed hash whose key is forgotten with the process.
func (l *Ledger) of(address, username, password string) *credential {
	m := hmac.New(sha256.New, l.key[:])
	for _, s := range []string{address, username, password} {
		sum := sha256.Sum256([]byte(s))
		m.Write(sum[:])
	}
	var k [32]byte
	m.Sum(k[:0])
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.sets[k]
	if c == nil {
		c = &credential{turn: make(chan struct{}, 1)}
		l.sets[k] = c
	}
	return c
}

// enter waits for this credential's turn. It refuses when limit logins were
// refused already. On success leave must be called.
func (c *credential) enter(ctx context.Context, limit int) error {
	select {
	case c.turn <- struct{}{}:
	case <-ctx.Done():
		return fleet.NewFault(fleet.CodeBMCUnreachable, fleet.Transient, ctx.Err(), "the login was not sent")
	}
	if c.refused >= limit {
		defer c.leave()
		return fleet.NewFault(fleet.CodeBMCLoginsSpent, fleet.Denied, nil, "this login was refused %d times before and is not tried again", c.refused)
	}
	return nil
}

func (c *credential) leave() { <-c.turn }
