package bmc

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"metalrise.dev/fleet"
)

// Wish is a change of power.
type Wish string

const (
	On          Wish = "on"
	ForceOff    Wish = "force off"    // pull the plug
	GracefulOff Wish = "graceful off" // ask the running system; it may refuse
	Restart     Wish = "restart"      // hard; a server that is off is switched on
	Cycle       Wish = "cycle"        // off and on again; a server that is off is switched on
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
	case Cycle:
		return []string{"PowerCycle"}
	}
	return nil
}

// Power asks for a change of power and returns when the BMC has accepted it;
// WaitPower waits until it shows. A server that already is as wished is a
// success. What the BMC cannot do just now, such as switching on too soon
// after off, is tried again for Options.Settle. A restart that it has no word
// for, or refuses, becomes off and on. Faults: BMC-007 not offered, BMC-008
// refused; an uncertain fault means that Look must tell.
func (s *Session) Power(ctx context.Context, systemURI string, w Wish) error {
	if w.words() == nil {
		return s.wrap("power at", fleet.NewFault(fleet.CodeBMCUnsupported, fleet.Invalid, nil, "no such wish: %q", w))
	}
	return s.wrap("power "+string(w)+" at", s.power(ctx, systemURI, w))
}

func (s *Session) power(ctx context.Context, systemURI string, w Wish) error {
	sys, err := s.system(ctx, systemURI)
	if err != nil {
		return err
	}
	now := s.powerShown(ctx, sys)
	if (w == Restart || w == Cycle) && now == fleet.PowerOff {
		w = On
	}
	switch {
	case w == On && isOn(now), (w == ForceOff || w == GracefulOff) && now == fleet.PowerOff:
		return nil
	case (w == On || w == Restart || w == Cycle) && now == fleet.PoweringOff:
		if err := s.settleOff(ctx, sys.path); err != nil {
			return err
		}
		w = On
	}
	err = s.reset(ctx, sys, w)
	if w == Restart || w == Cycle {
		// Some list words that they then refuse (Huawei), some have none.
		var none *fleet.Fault
		if errors.As(err, &none) && none.Kind == fleet.Unsupported || isWordRefused(err) {
			return s.offAndOn(ctx, sys)
		}
	}
	return err
}

// isOn tells a server that has power and stays so. A paused one has its
// processors halted, not its power cut.
func isOn(p fleet.PowerState) bool { return p == fleet.PowerOn || p == fleet.PowerPaused }

func contains(list []string, word string) bool {
	return slices.ContainsFunc(list, func(s string) bool { return strings.EqualFold(s, word) })
}

// offAndOn restarts a server whose BMC has no word for it.
func (s *Session) offAndOn(ctx context.Context, sys node) error {
	if err := s.reset(ctx, sys, ForceOff); err != nil {
		return err
	}
	if err := s.settleOff(ctx, sys.path); err != nil {
		return err
	}
	sys, err := s.system(ctx, sys.path)
	if err != nil {
		return err
	}
	return s.reset(ctx, sys, On)
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

// reset sends the reset action with the first word that the BMC takes.
// Refusals that may pass are repeated: nothing was done by a request that was
// refused. The system is read anew for that, because on some BMCs (iRMC) the
// allowed words follow the power state.
func (s *Session) reset(ctx context.Context, sys node, w Wish) error {
	var refused error
	fresh := true
	err := s.until(ctx, func() (bool, error) {
		if !fresh {
			again, err := s.system(ctx, sys.path)
			if err != nil {
				return false, err
			}
			sys = again
		}
		fresh = false
		now := s.powerShown(ctx, sys)
		if fulfilled(w, now) {
			refused = nil
			return true, nil
		}
		var again bool
		again, refused = s.resetOnce(ctx, sys, w, now)
		return !again, nil
	})
	if refused != nil {
		return refused
	}
	return err
}

// resetOnce tries each fitting word once. again tells that the refusal may pass.
func (s *Session) resetOnce(ctx context.Context, sys node, w Wish, now fleet.PowerState) (again bool, err error) {
	target := localTarget(sys.object("Actions").object("#ComputerSystem.Reset"))
	if target == "" {
		return false, fleet.NewFault(fleet.CodeBMCUnsupported, fleet.Unsupported, nil, "%s has no Reset action", sys.path)
	}
	words := w.words()
	if allowed := resetTypes(ctx, s.reader(nil), sys); len(allowed) > 0 {
		words = slices.DeleteFunc(words, func(t string) bool { return !contains(allowed, t) })
		if len(words) == 0 {
			between := now == fleet.PoweringOn || now == fleet.PoweringOff
			return between, fleet.NewFault(fleet.CodeBMCUnsupported, fleet.Unsupported, nil, "%s offers none of the reset types %s, only %s",
				sys.path, strings.Join(w.words(), ", "), strings.Join(allowed, ", "))
		}
	}
	for _, word := range words {
		again, err = s.resetWord(ctx, sys.path, target, w, word)
		if err == nil || !isWordRefused(err) {
			return again, err
		}
	}
	return false, err
}

// isWordRefused tells that the BMC does not take the reset type it was given.
func isWordRefused(err error) bool {
	var r *refusal
	return errors.As(err, &r) && r.status < 500 && r.says("ActionParameterNotSupported", "ActionParameterValueNotInList",
		"ActionParameterValueFormatError", "PropertyValueNotInList", "ActionParameterValueTypeError", "ActionParameterValueError")
}

// resetWord sends one reset. A refusal is checked against what the server does
// now: "already on" comes as 400 or as 409. Too soon after switching off comes
// as 409 too.
func (s *Session) resetWord(ctx context.Context, path, target string, w Wish, word string) (again bool, err error) {
	a, err := s.do(ctx, ask{method: http.MethodPost, path: target, body: map[string]string{"ResetType": word}})
	if err == nil {
		return false, s.watchTask(ctx, a)
	}
	var r *refusal
	if !errors.As(err, &r) || fleet.KindOf(err) == fleet.UnsureKind {
		return false, err // no answer, or a half-done act: whoever asked must look
	}
	again = r.status == http.StatusConflict || r.isNotReady() || r.says("ActionParameterValueConflict", "ResourceInUse")
	states := w != Restart && w != Cycle
	if states && !again && fleet.KindOf(err) == fleet.Invalid && !isWordRefused(err) {
		// Perhaps it is so already and the BMC still shows the old state.
		looked := s.within(ctx, s.opts.Settle/6, func() (bool, error) {
			now, err := s.powerOf(ctx, path)
			return err == nil && fulfilled(w, now), err
		})
		if looked == nil {
			return false, nil
		}
	}
	return again, err
}

// fulfilled tells that a wish needs no request any more.
func fulfilled(w Wish, now fleet.PowerState) bool {
	switch w {
	case On:
		return isOn(now) || now == fleet.PoweringOn
	case ForceOff, GracefulOff:
		return now == fleet.PowerOff || now == fleet.PoweringOff
	}
	return false
}

func (s *Session) powerOf(ctx context.Context, path string) (fleet.PowerState, error) {
	if p, ok := s.chosenPower(ctx, path); ok {
		return p, nil
	}
	n, _, err := s.get(ctx, path, nil)
	if err != nil {
		return fleet.PowerOther, err
	}
	return s.powerShown(ctx, n), nil
}

// powerShown reads a system's power state. Where the system tells none, that
// of its only chassis does; and "Starting", which belongs into Status, means
// that it is being switched on.
func (s *Session) powerShown(ctx context.Context, sys node) fleet.PowerState {
	if strings.EqualFold(sys.str("PowerState"), "Starting") {
		return fleet.PoweringOn
	}
	if p, ok := power(sys).Get(); ok {
		return p
	}
	links := sys.object("Links")
	if chassis := links.links("Chassis"); len(chassis) == 1 {
		if n, _, err := s.get(ctx, chassis[0], nil); err == nil && len(n.object("Links").links("ComputerSystems")) <= 1 {
			return power(n).Or(fleet.PowerOther)
		}
	}
	return fleet.PowerOther
}

// WaitPower looks until the server's power is as wanted or ctx ends; then the
// fault is BMC-011 and names what it was last. Looks that fail on the way, as
// they do while a BMC restarts, do not end the wait unless the login does. A
// paused server counts as on, and so does one that was "powering on" for all of
// Options.Settle: some BMCs never show more.
func (s *Session) WaitPower(ctx context.Context, systemURI string, want fleet.PowerState) error {
	uri, err := s.resolveSystem(ctx, systemURI)
	if err != nil {
		return s.wrap("wait for power "+string(want)+" at", err)
	}
	last := fleet.PowerOther
	var rising time.Time
	for wait := s.opts.Poll; ; wait = min(wait*3/2, 5*s.opts.Poll) {
		now, err := s.powerOf(ctx, uri)
		if now != fleet.PoweringOn {
			rising = time.Time{}
		} else if rising.IsZero() {
			rising = time.Now()
		}
		switch {
		case err == nil && (now == want || want == fleet.PowerOn && isOn(now)):
			return nil
		case err == nil && want == fleet.PowerOn && !rising.IsZero() && time.Since(rising) >= s.opts.Settle:
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
