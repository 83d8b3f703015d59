package provision

import (
	"context"
	"time"

	"metalrise.dev/fleet"
)

// Halt ends what must not be left half done when the engine ends: a proof is
// broken off, what it switched off is switched on again, and its VMs go. It
// returns within some minutes. An engine that is killed instead does the same
// when it is started again.
func (e *Engine) Halt(ctx context.Context) {
	if r := e.current(); r != nil {
		e.halt(ctx, r)
	}
}

func (e *Engine) halt(ctx context.Context, r *run) {
	if r.platform != nil && r.ctx != nil {
		r.platform.halt(ctx)
	}
}

// Withdraw takes the consent back: nothing more is begun, and nothing is
// resumed, until a plan is consented to again. A machine that writes already
// is told to hold.
func (e *Engine) Withdraw(ctx context.Context, by string) error {
	select {
	case e.applying <- struct{}{}:
		defer func() { <-e.applying }()
	case <-ctx.Done():
		return ctx.Err()
	}
	r := e.current()
	if r == nil {
		return nil
	}
	_, err := e.Journal.Append(ctx, fleet.Event{At: time.Now(), Plan: r.plan.ID, Action: fleet.ActWithdraw, Edge: fleet.Ended, Outcome: fleet.OK, Note: "taken back by " + by})
	if err != nil {
		return err
	}
	e.halt(ctx, r)
	r.end()
	e.walkers.Wait()
	e.mu.Lock()
	e.run = nil
	e.mu.Unlock()
	return e.undrain(ctx, r)
}
