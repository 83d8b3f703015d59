package provision

import (
	"context"
	"crypto/hmac"
	"fmt"
	"strings"
	"time"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

// askingGrant is what a live system that was made for the whole site carries. It
// opens one call, Who, and does not change with plans: a medium stays good.
func askingGrant() grant { return grant{kind: string(callhome.Asking)} }

// AskingTicket is the ticket of a live system that does not know whose it is.
// url is where this engine is reached.
func AskingTicket(secret []byte, site, url, ca string) callhome.Ticket {
	return callhome.Ticket{Protocol: callhome.Protocol, URL: url, CA: ca, Token: newKeyring(secret, "").derive(askingGrant()), Stage: callhome.Asking, Site: site}
}

// asks tells whether a token is that of such a system.
func (e *Engine) asks(token string) bool {
	return hmac.Equal([]byte(newKeyring(e.Secret, "").derive(askingGrant())), []byte(token))
}

// askAgain is how often a machine asks that has to wait.
const askAgain = 15 * time.Second

// Who tells a machine who it is. It gets the ticket of a server's current attempt
// only if that server waits to be booted by somebody, and if identity, disk and
// ports are the planned ones. Nothing is held because of what a stranger says.
func (e *Engine) Who(ctx context.Context, c Caller, m callhome.Who) (callhome.Orders, error) {
	switch {
	case !e.asks(c.Token):
		return callhome.Orders{}, refused("the token is not in force")
	case c.KeyHash == "":
		return callhome.Orders{}, refused("no client certificate was shown")
	case m.Protocol != callhome.Protocol:
		return callhome.Orders{}, fleet.NewFault(fleet.CodeTokenRefused, fleet.Invalid, nil, "protocol %d, this metalrise speaks %d", m.Protocol, callhome.Protocol)
	}
	var w *walker
	if r := e.current(); r != nil {
		w = r.is(m.Facts.Identity)
	}
	if w == nil {
		why := fmt.Sprintf("the plan does not name a machine with serial %s, uuid %s", quoted(m.Facts.Identity.Serial), quoted(m.Facts.Identity.UUID))
		if e.Unknown != nil {
			if more := e.Unknown(ctx, m.Facts); more != "" {
				why += "; " + more
			}
		}
		return leftAlone(why), nil
	}
	return w.who(c, m)
}

// leftAlone tells a machine to wait, and its console why.
func leftAlone(why string) callhome.Orders {
	return callhome.Orders{Verb: callhome.Hold, After: askAgain, Now: time.Now(), Why: fmt.Sprintf("%s. Nothing is done to this machine", why)}
}

func quoted(s string) string {
	if s == "" {
		return "unknown"
	}
	return clip(s)
}

// is finds the one server of the plan that a machine is.
func (r *run) is(id fleet.Identity) *walker {
	var found *walker
	for _, s := range r.order {
		if w := r.servers[s]; w.plan.Identity.Match(id) {
			if found != nil {
				return nil
			}
			found = w
		}
	}
	return found
}

// who answers a machine that is this server, as far as it says.
func (w *walker) who(c Caller, m callhome.Who) (callhome.Orders, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.track
	again := t.Live.Key != "" && t.Live.Key == c.KeyHash
	switch {
	case again:
	case t.Settled, t.Node.Kept, t.Arrived, t.Written, t.Live.Key != "":
		return leftAlone(fmt.Sprintf("server %s is installed already, or is being installed by another boot: let it start from its disk", w.plan.Server)), nil
	case !t.Staged || t.Hold != nil && !t.awaitsHand() || !w.engine.Unattended && !t.awaitsHand():
		return leftAlone(fmt.Sprintf("server %s does not wait to be started by hand now: %s", w.plan.Server, describe(w.decision))), nil
	default:
		if cause := Fit(w.engine.Site, w.plan, m.Facts); cause != nil {
			return leftAlone(fmt.Sprintf("%s this machine is not as planned: %s", cause.Code, strings.Join(trim(*cause).Chain, "; "))), nil
		}
	}
	ticket := w.ticketLocked(callhome.Live, w.run.keys.derive(liveGrant(w.plan.Server, t.Attempt)))
	return callhome.Orders{Verb: callhome.Go, Now: time.Now(), Ticket: &ticket}, nil
}
