package bmc

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"metalrise.dev/fleet"
)

// Wish is a change of power.
type Wish string

const (
	On          Wish = "on"
	ForceOff    Wish = "force off"    // pull the plug
	GracefulOff Wish = "graceful off" // ask the running system; it may refuse
	Restart     Wish = "restart"      // hard; a server that is off is switched on
)

// words are the reset types that fulfil a wish, best first.
func (w Wish) words() []string {
	switch w {
	case On:
		return []string{"On", "ForceOn", "PushPowerButton"}
	case ForceOff:
		return []string{"ForceOff"}
	case GracefulOff:
		return []string{"GracefulShutdown", "PushPowerButton"}
	case Restart:
		return []string{"ForceRestart", "PowerCycle"}
	}
	return nil
}

// Power asks for a change of power and returns when the BMC has accepted it;
// WaitPower waits until it shows. A server that already is as wished is a
// success. Switching on is tried again for Options.Settle while the BMC says
// that it is too soon. Faults: BMC-007 not offered, BMC-008 refused; an
// uncertain fault means that Look must tell.
func (s *Session) Power(ctx context.Context, systemURI string, w Wish) error {
	if w.words() == nil {
		return s.wrap("power at", fleet.NewFault(fleet.CodeBMCUnsupported, fleet.Invalid, nil, "no such wish: %q", w))
	}
	sys, err := s.system(ctx, systemURI)
	if err != nil {
		return s.wrap("power "+string(w)+" at", err)
	}
	now := power(sys).Or(fleet.PowerOther)
	switch {
	case w == On && now == fleet.PowerOn, (w == ForceOff || w == GracefulOff) && now == fleet.PowerOff:
		return nil
	case w == Restart && now == fleet.PowerOff:
		w = On
	case w == On && now == fleet.PoweringOff:
		if err := s.settleOff(ctx, sys.path); err != nil {
			return s.wrap("power on at", err)
		}
	}
	allowed := resetTypes(ctx, s.reader(nil), sys)
	if w == Restart && len(allowed) > 0 && !slices.ContainsFunc(w.words(), func(t string) bool { return contains(allowed, t) }) {
		return s.wrap("restart at", s.offAndOn(ctx, sys, allowed))
	}
	return s.wrap("power "+string(w)+" at", s.reset(ctx, sys, w, allowed))
}

func contains(list []string, word string) bool {
	return slices.ContainsFunc(list, func(s string) bool { return strings.EqualFold(s, word) })
}

// offAndOn restarts a server whose BMC has no word for it.
func (s *Session) offAndOn(ctx context.Context, sys node, allowed []string) error {
	if err := s.reset(ctx, sys, ForceOff, allowed); err != nil {
		return err
	}
	if err := s.settleOff(ctx, sys.path); err != nil {
		return err
	}
	return s.reset(ctx, sys, On, allowed)
}

// settleOff waits for a server that is switching off, but not for ever: some
// BMCs stay in between.
func (s *Session) settleOff(ctx context.Context, path string) error {
	last := fleet.PowerOther
	err := s.until(ctx, func() (bool, error) {
		now, err := s.powerOf(ctx, path)
		if err == nil {
			last = now
		}
		return err == nil && now == fleet.PowerOff, err
	})
	if err != nil {
		return fleet.NewFault(fleet.CodePowerStuck, fleet.Transient, err, "%s should be off but is %s", path, last)
	}
	return nil
}

// reset sends the reset action with the first word that the BMC takes. Lists of
// allowed words are believed where they hold one that fits.
func (s *Session) reset(ctx context.Context, sys node, w Wish, allowed []string) error {
	target := localTarget(sys.object("Actions").object("#ComputerSystem.Reset"))
	if target == "" {
		return fleet.NewFault(fleet.CodeBMCUnsupported, fleet.Unsupported, nil, "%s has no Reset action", sys.path)
	}
	words := w.words()
	if len(allowed) > 0 {
		words = slices.DeleteFunc(words, func(t string) bool { return !contains(allowed, t) })
		if len(words) == 0 {
			return fleet.NewFault(fleet.CodeBMCUnsupported, fleet.Unsupported, nil, "%s offers none of the reset types %s, only %s",
				sys.path, strings.Join(w.words(), ", "), strings.Join(allowed, ", "))
		}
	}
	var last error
	for _, word := range words {
		last = s.resetWord(ctx, sys, target, w, word)
		var r *refusal
		if last == nil || !errors.As(last, &r) || !r.says("ActionParameterNotSupported", "ActionParameterValueNotInList", "ActionParameterValueFormatError", "PropertyValueNotInList") {
			return last
		}
	}
	return last
}

// resetWord sends one reset. A refusal is checked against what the server does
// now: "already on" comes as 400 or as 409. Too soon after switching off comes
// as 409 too, and is tried again.
func (s *Session) resetWord(ctx context.Context, sys node, target string, w Wish, word string) error {
	var refused error
	err := s.until(ctx, func() (bool, error) {
		_, err := s.do(ctx, ask{method: http.MethodPost, path: target, body: map[string]string{"ResetType": word}})
		if err == nil {
			refused = nil
			return true, nil
		}
		refused = err
		var r *refusal
		if !errors.As(err, &r) || fleet.KindOf(err) == fleet.UnsureKind {
			return true, nil // no answer, or a half-done act: whoever asked must look
		}
		if r.status == http.StatusConflict || r.status == http.StatusBadRequest {
			if now, look := s.powerOf(ctx, sys.path); look == nil && fulfilled(w, now) {
				refused = nil
				return true, nil
			}
		}
		again := w == On && (r.status == http.StatusConflict || r.isNotReady())
		return !again, nil
	})
	if refused != nil {
		return refused
	}
	return err
}

func fulfilled(w Wish, now fleet.PowerState) bool {
	switch w {
	case On:
		return now == fleet.PowerOn || now == fleet.PoweringOn
	case ForceOff, GracefulOff:
		return now == fleet.PowerOff || now == fleet.PoweringOff
	}
	return false
}

func (s *Session) powerOf(ctx context.Context, path string) (fleet.PowerState, error) {
	n, _, err := s.get(ctx, path, nil)
	if err != nil {
		return fleet.PowerOther, err
	}
	return power(n).Or(fleet.PowerOther), nil
}

// WaitPower looks until the server's power is as wanted or ctx ends; then the
// fault is BMC-011 and names what it was last. Looks that fail on the way, as
// they do while a BMC restarts, do not end the wait unless the login does.
func (s *Session) WaitPower(ctx context.Context, systemURI string, want fleet.PowerState) error {
	uri, err := s.resolveSystem(ctx, systemURI)
	if err != nil {
		return s.wrap("wait for power "+string(want)+" at", err)
	}
	last := fleet.PowerOther
	for wait := s.opts.Poll; ; wait = min(wait*3/2, 5*s.opts.Poll) {
		now, err := s.powerOf(ctx, uri)
		switch {
		case err == nil && now == want:
			return nil
		case err == nil:
			last = now
		case fleet.KindOf(err) == fleet.Denied, fleet.CodeOf(err) == fleet.CodeBMCPinChanged:
			return s.wrap("wait for power "+string(want)+" at", err)
		}
		if ended := pause(ctx, wait); ended != nil {
			cause := ended
			if err != nil {
				cause = err
			}
			return s.wrap("wait for power "+string(want)+" at", fleet.NewFault(fleet.CodePowerStuck, fleet.Transient, cause, "%s is still %s", uri, last))
		}
	}
}
