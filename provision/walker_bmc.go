package provision

import (
	"context"

	"metalrise.dev/fleet"
)

// perform is the only place from which the world is changed.
func (w *walker) perform(ctx context.Context, a fleet.Action) (data any, err error) {
	ctx, cancel := context.WithTimeout(ctx, w.engine.Limits.ActionTimeout)
	defer cancel()
	bmc, err := w.dial(ctx)
	if err != nil {
		return nil, err
	}
	switch a {
	case fleet.ActIdentify:
		return w.identify(ctx, bmc)
	case fleet.ActPowerOff:
		err = bmc.Power(ctx, fleet.PowerOff)
	case fleet.ActPowerOn:
		err = bmc.Power(ctx, fleet.PowerOn)
	case fleet.ActInsert:
		err = bmc.Insert(ctx, w.mediaURL())
	case fleet.ActEject:
		err = bmc.Eject(ctx)
	case fleet.ActBootOnce:
		err = w.bootOnce(ctx, bmc)
	}
	return nil, err
}

func (w *walker) identify(ctx context.Context, bmc BMC) (any, error) {
	s, err := bmc.Look(ctx)
	if err != nil {
		return nil, err
	}
	if !w.plan.Identity.Match(s.Identity) {
		return nil, mismatch(w.plan.Identity, s.Identity)
	}
	s.Media = redactMedia(s.Media)
	return s, nil
}

func mismatch(planned, found fleet.Identity) error {
	return fleet.NewFault(fleet.CodeIdentityMismatch, fleet.Conflict, nil,
		"planned serial %q uuid %q, found serial %.80q uuid %.80q", planned.Serial, planned.UUID, found.Serial, found.UUID)
}

// redactMedia keeps unguessable addresses out of the journal: what matters to
// later decisions is only whether a medium is in the drive.
func redactMedia(m string) string {
	if m != "" {
		return "inserted"
	}
	return ""
}

// settle looks at what became of an action whose end nobody saw. The look goes
// through a new session, because the old one may be what broke.
func (w *walker) settle(ctx context.Context, a fleet.Action) {
	w.closeSession()
	look, cancel := context.WithTimeout(ctx, w.engine.Limits.ActionTimeout)
	defer cancel()
	bmc, err := w.dial(look)
	var s Sight
	if err == nil {
		s, err = bmc.Look(look)
	}
	if err != nil {
		w.end(ctx, a, fleet.Uncertain, nil, fleet.NewFault(fleet.CodeOf(err), uncertainUnlessFinal(err), err, "look whether %s was done", a))
		return
	}
	if !w.plan.Identity.Match(s.Identity) {
		w.end(ctx, a, fleet.Failed, nil, mismatch(w.plan.Identity, s.Identity))
		return
	}
	w.mu.Lock()
	route := w.track.Route.Now
	w.mu.Unlock()
	if Judge(a, s, w.mediaURL(), route) {
		w.end(ctx, a, fleet.Adopted, nil, nil)
		return
	}
	w.end(ctx, a, fleet.Failed, nil, fleet.NewFault(fleet.CodeInterrupted, fleet.Transient, nil, "looked after an unknown outcome: %s was not done", a))
}

func uncertainUnlessFinal(err error) fleet.Kind {
	if k := fleet.KindOf(err); k != fleet.Transient {
		return k
	}
	return fleet.UnsureKind
}

// sit waits for one of the engine's seats, which bound the BMC sessions of all
// walkers. The wait lies before an action, not in it: with a thousand servers it
// can be longer than any action may take, and no BMC is at fault then.
func (w *walker) sit(ctx context.Context) {
	w.mu.Lock()
	r := waiting
	if w.track.Live.Key != "" || w.track.Pending != nil {
		r = underWay
	}
	w.decision, w.acting = Wait{For: "a free BMC session"}, false
	w.mu.Unlock()
	w.seat = w.engine.seats.take(ctx, r)
}

// usesBMC tells for which actions the walker opens a session.
func usesBMC(a fleet.Action) bool { return settles(a) || a == fleet.ActIdentify }

// dial gives the walker's session, opening one when there is none. The walker
// has a seat.
func (w *walker) dial(ctx context.Context) (BMC, error) {
	if w.bmc != nil {
		return w.bmc, nil
	}
	bmc, err := w.engine.BMCs.Open(ctx, w.plan.BMC)
	if err != nil {
		w.hangUp()
		if fleet.KindOf(err) == fleet.UnsureKind { // nothing was asked of the server yet
			err = fleet.NewFault(fleet.CodeBMCUnreachable, fleet.Transient, err, "log in to BMC %s", w.plan.BMC.Address)
		}
		return nil, err
	}
	w.bmc = bmc
	return bmc, nil
}

// hangUp closes the session, if there is one, and gives the seat back.
func (w *walker) hangUp() {
	w.closeSession()
	if w.seat {
		w.engine.seats.give()
		w.seat = false
	}
}

func (w *walker) closeSession() {
	if w.bmc == nil {
		return
	}
	if err := w.bmc.Close(); err != nil {
		w.engine.Log.Warn("close BMC session", "server", w.plan.Server, "error", err)
	}
	w.bmc = nil
}
