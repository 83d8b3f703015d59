package redfish

import (
	"net/http"
	"slices"
	"time"
)

// shownPower is PowerState as this BMC shows it: late, or oddly in between.
func (b *BMC) shownPower() any {
	power := b.power
	if b.cfg.Delays.Show > 0 && time.Since(b.changed) < b.cfg.Delays.Show {
		power = b.before
	}
	if power == PowerOn && b.is(ForEverPoweringOn) {
		return PoweringOn
	}
	if power != PoweringOn && power != PoweringOff {
		return power
	}
	switch {
	case b.is(NoPowerInBetween):
		return nil
	case b.is(PausedInBetween):
		return "Paused"
	case b.is(OddPowerInBetween):
		return "Starting"
	}
	return power
}

func (b *BMC) resetInfoPath() string { return b.systemPath() + "/ResetActionInfo" }

// allowedResets are the reset types this BMC says it takes now.
func (b *BMC) allowedResets() []ResetType {
	out := b.cfg.Personality.resets()
	if !b.is(ResetByPower) {
		return out
	}
	off := []ResetType{ResetOn, ResetForceOn, ResetPushPowerButton}
	return slices.DeleteFunc(slices.Clone(out), func(t ResetType) bool {
		return t != ResetPushPowerButton && slices.Contains(off, t) != (b.power == PowerOff)
	})
}

// resetBody is the Reset action as the system shows it.
func (b *BMC) resetBody(at string) object {
	out := object{"target": at + "/Actions/ComputerSystem.Reset"}
	if b.has(ResetInActionInfo) {
		out["@Redfish.ActionInfo"] = b.resetInfoPath()
	} else {
		out["ResetType@Redfish.AllowableValues"] = b.allowedResets()
	}
	return out
}

// refuseReset judges a reset type before anything is looked at.
func (b *BMC) refuseReset(t ResetType) *problem {
	const action = "ComputerSystem.Reset"
	if !slices.Contains(b.cfg.Personality.resets(), t) || t == ResetForceRestart && b.is(ListedButRefused) {
		return actionParameterValueNotInList("ResetType", t, action)
	}
	return nil
}

// resting refuses On while the power supplies rest. Called with b.mu held.
func (b *BMC) resting(t ResetType) *problem {
	if rest := b.cfg.Delays.Rest; rest > 0 && b.power == PowerOff && !b.changed.IsZero() && time.Since(b.changed) < rest {
		return actionNotNow("ComputerSystem.Reset", "ResetType", string(t), "the power was switched off a moment ago")
	}
	return nil
}

// repeat answers a reset that asks for the state there is.
func (b *BMC) repeat(t ResetType) *problem {
	if b.cfg.Personality.Repeat == AcceptRepeat {
		return nil
	}
	if b.is(RepeatIs400) {
		return &problem{status: http.StatusBadRequest, id: "GeneralError", text: "A general error has occurred.", remedy: "None."}
	}
	return actionNotNow("ComputerSystem.Reset", "ResetType", string(t), "the system is "+string(b.power))
}
