package agent

import (
	"context"
	"time"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

// asking asks who this machine is, as often as it must, and goes on as that
// server's live system. Until then it only looks. The client key stays the same,
// so an agent that is started again within the boot gets the same answer.
// Transitions to: live.
func (s *session) asking(ctx context.Context) error {
	said := ""
	for {
		if s.looked.IsZero() || time.Since(s.looked) > fresh {
			s.facts, s.looked = s.host.Look(ctx), time.Now()
		}
		orders, err := s.ask(ctx, callhome.PathWho, callhome.Who{
			Protocol: callhome.Protocol, Version: version(), Instance: s.seat.instance, Facts: s.facts})
		if err != nil {
			return err
		}
		if orders.Verb == callhome.Go && orders.Ticket != nil {
			if err := s.become(*orders.Ticket); err != nil {
				return err
			}
			return s.live(ctx)
		}
		if orders.Why == said { // a console is small: the same is said once
			orders.Why = ""
		} else {
			said = orders.Why
		}
		if err := s.wait(ctx, orders); err != nil {
			return err
		}
	}
}

// become takes a ticket that was given. It must be for this machine, by the one
// who was asked, and for this kind of system.
func (s *session) become(t callhome.Ticket) error {
	own := s.facts.Identity
	switch {
	case t.Protocol != callhome.Protocol, t.Stage != callhome.Live, t.CA != s.ticket.CA, t.Site != s.ticket.Site, t.Server == "", t.Plan == "":
		return fleet.NewFault(fleet.CodeAgentFailed, fleet.Invalid, nil, "the ticket that was given is none for a live system of this site")
	case !t.Identity.Match(own):
		return fleet.NewFault(fleet.CodeIdentityMismatch, fleet.Conflict, nil, "the ticket that was given is for serial %q uuid %q, this machine has serial %q uuid %q",
			t.Identity.Serial, t.Identity.UUID, own.Serial, own.UUID)
	}
	next, err := newLine(t, s.seat)
	if err != nil {
		return err
	}
	s.line.close()
	s.ticket, *s.line = t, *next
	s.say("this is server %s; calling %s", t.Server, t.URL)
	return nil
}
