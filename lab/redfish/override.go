package redfish

import (
	"net/http"
	"slices"
	"strings"
)

// vendor is the maker as the BMC names it.
func (b *BMC) vendor() string {
	if v := b.cfg.Personality.Vendor; v != "" {
		return v
	}
	return b.cfg.Spec.Vendor
}

func (b *BMC) enableds() []Enabled {
	out := slices.Clone(enableds)
	if b.is(NoContinuous) {
		out = []Enabled{Disabled, Once}
	}
	return out
}

func (b *BMC) targets() []Target {
	out := b.cfg.Personality.targets()
	if b.is(HTTPBoot) {
		out = append(slices.Clone(out), TargetUefiHTTP)
	}
	return out
}

// bootBody is the Boot object as this BMC shows it.
func (b *BMC) bootBody() object {
	o := b.boot
	shown := o.Enabled
	if shown == Once && b.is(OnceSaysContinuous) {
		shown = Continuous
	}
	out := object{
		"BootSourceOverrideEnabled":                         shown,
		"BootSourceOverrideEnabled@Redfish.AllowableValues": b.enableds(),
		"BootSourceOverrideTarget":                          o.Target,
		"BootSourceOverrideTarget@Redfish.AllowableValues":  b.targets(),
	}
	if !b.is(NoBootMode) {
		out["BootSourceOverrideMode"] = o.Mode
		out["BootSourceOverrideMode@Redfish.AllowableValues"] = []string{o.Mode}
	}
	if b.is(HTTPBoot) {
		out["HttpBootUri"] = nil
		if o.URI != "" {
			out["HttpBootUri"] = o.URI
		}
	}
	return out
}

// bootSettingsBody is the settings object in which some BMCs want the override.
func (b *BMC) bootSettingsBody(at string) object {
	return object{"@odata.id": at, "@odata.type": "#ComputerSystem.v1_22_1.ComputerSystem", "Id": at[strings.LastIndexByte(at, '/')+1:],
		"Name": "System as of the next boot", "Boot": b.bootBody()}
}

// bootElsewhere refuses a change of the override on the system itself.
func (b *BMC) bootElsewhere() *problem {
	if !b.is(FutureState) {
		return nil
	}
	to := b.systemPath() + b.cfg.Personality.BootSettings
	return &problem{status: http.StatusBadRequest, id: "OperationSupportedInFutureStateURI", args: []string{to},
		text: "This is changed at " + to + " only.", remedy: "Send it there."}
}

func (b *BMC) patchBootSettings(in object) *problem {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, key := range sortedKeys(in) {
		want, isObject := in[key].(object)
		switch {
		case key != "Boot":
			return propertyUnknown(key)
		case !isObject:
			return propertyValueTypeError(key, in[key])
		}
		boot, p := b.mergeBootLocked(want)
		if p != nil {
			return p
		}
		b.boot = boot
	}
	b.saveLocked()
	return nil
}

// mergeBootLocked applies the Boot object of a PATCH. Nothing changes unless all
// of it is good.
func (b *BMC) mergeBootLocked(in object) (override, *problem) {
	o := b.boot
	if p := b.bootForm(in); p != nil {
		return o, p
	}
	for _, key := range sortedKeys(in) {
		text, isText := in[key].(string)
		at := "Boot/" + key
		switch key {
		case "BootSourceOverrideEnabled":
			o.Enabled = Enabled(text)
			if !slices.Contains(b.enableds(), o.Enabled) || o.Enabled == Disabled && b.is(DisabledRefused) {
				return o, propertyValueNotInList(at, in[key])
			}
		case "BootSourceOverrideTarget":
			o.Target = Target(text)
			if !slices.Contains(b.targets(), o.Target) || o.Target == TargetNone && b.is(DisabledWithNone) {
				return o, propertyValueNotInList(at, in[key])
			}
		case "BootSourceOverrideMode":
			// The firmware of a lab machine is built in, so only its own mode is offered.
			if !isText || text != o.Mode {
				return o, propertyValueNotInList(at, in[key])
			}
		case "HttpBootUri":
			if in[key] != nil && (!isText || !b.is(HTTPBoot)) {
				return o, propertyUnknown(at)
			}
			if strings.HasPrefix(text, "http:") && b.is(HTTPBootWantsTLS) {
				return o, &problem{status: http.StatusBadRequest, id: "UEFI0417", args: []string{at}, related: pointer(at),
					text: "An address of plain HTTP is not taken for network boot.", remedy: "Use https."}
			}
			o.URI = text
		default:
			return o, propertyUnknown(at)
		}
	}
	if o.Target == TargetNone {
		o.Enabled = Disabled
	}
	return o, nil
}

// bootForm judges what a PATCH of Boot holds, not its values.
func (b *BMC) bootForm(in object) *problem {
	const mode = "BootSourceOverrideMode"
	_, hasMode := in[mode]
	switch {
	case b.progress.state == progressPOST && b.is(BootLockedInPOST):
		return &problem{status: http.StatusBadRequest, id: "UnableToModifyDuringSystemPOST",
			text: "This cannot be changed while the system tests itself.", remedy: "Wait for the end of the self test."}
	case hasMode && b.is(NoBootMode):
		return propertyUnknown("Boot/" + mode)
	case hasMode && b.is(BootModeReadOnly):
		return propertyNotWritable("Boot/" + mode)
	case b.is(BootWantsAll):
		for _, key := range []string{"BootSourceOverrideEnabled", mode, "BootSourceOverrideTarget"} {
			if _, given := in[key]; !given {
				return propertyMissing("Boot/" + key)
			}
		}
	}
	return nil
}

// patchSecureBoot switches Secure Boot, which acts from the next boot on.
func (b *BMC) patchSecureBoot(in object) *problem {
	for _, key := range sortedKeys(in) {
		if key != "SecureBootEnable" {
			return propertyUnknown(key)
		}
	}
	v, isBool := in["SecureBootEnable"].(bool)
	if !isBool {
		return propertyValueTypeError("SecureBootEnable", in["SecureBootEnable"])
	}
	if b.is(SecureBootFlaky) {
		b.mu.Lock()
		b.flakes++
		odd := b.flakes%2 == 1
		b.mu.Unlock()
		if odd {
			return internal("Secure Boot could not be changed.")
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.secureBoot = v
	return nil
}
