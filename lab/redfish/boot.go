package redfish

import (
	"fmt"
	"slices"
	"time"

	"metalrise.dev/lab/machine"
)

// Enabled is BootSourceOverrideEnabled.
type Enabled string

const (
	Disabled   Enabled = "Disabled"
	Once       Enabled = "Once"
	Continuous Enabled = "Continuous"
)

// Target is BootSourceOverrideTarget.
type Target string

const (
	TargetNone Target = "None"
	TargetCd   Target = "Cd"
	TargetHdd  Target = "Hdd"
	TargetPxe  Target = "Pxe"
)

var (
	enableds = []Enabled{Disabled, Once, Continuous}
	targets  = []Target{TargetNone, TargetPxe, TargetCd, TargetHdd}
)

// override is the boot override of the system.
type override struct {
	Enabled Enabled `json:"enabled"`
	Target  Target  `json:"target"`
	Mode    string  `json:"mode"` // what the machine's firmware is: UEFI or Legacy
}

func noOverride(firmware string) override {
	mode := "UEFI"
	if firmware == "bios" {
		mode = "Legacy"
	}
	return override{Enabled: Disabled, Target: TargetNone, Mode: mode}
}

func (o override) valid(firmware string) bool {
	return slices.Contains(enableds, o.Enabled) && slices.Contains(targets, o.Target) && o.Mode == noOverride(firmware).Mode
}

// String reads "Once Cd", or "none".
func (o override) String() string {
	if o.Enabled == Disabled || o.Target == TargetNone {
		return "none"
	}
	return string(o.Enabled) + " " + string(o.Target)
}

func (o override) body() object {
	return object{
		"BootSourceOverrideEnabled":                         o.Enabled,
		"BootSourceOverrideEnabled@Redfish.AllowableValues": enableds,
		"BootSourceOverrideTarget":                          o.Target,
		"BootSourceOverrideTarget@Redfish.AllowableValues":  targets,
		"BootSourceOverrideMode":                            o.Mode,
		"BootSourceOverrideMode@Redfish.AllowableValues":    []string{o.Mode},
	}
}

// merge applies the Boot object of a PATCH. Nothing changes unless all of it is good.
func (o override) merge(in object) (override, *problem) {
	for _, key := range sortedKeys(in) {
		text, isText := in[key].(string)
		at := "Boot/" + key
		switch key {
		case "BootSourceOverrideEnabled":
			o.Enabled = Enabled(text)
			if !slices.Contains(enableds, o.Enabled) {
				return o, propertyValueNotInList(at, in[key])
			}
		case "BootSourceOverrideTarget":
			o.Target = Target(text)
			if !slices.Contains(targets, o.Target) {
				return o, propertyValueNotInList(at, in[key])
			}
		case "BootSourceOverrideMode":
			// The firmware of a lab machine is built in, so only its own mode is offered.
			if !isText || text != o.Mode {
				return o, propertyValueNotInList(at, in[key])
			}
		default:
			return o, propertyUnknown(at)
		}
	}
	if o.Target == TargetNone {
		o.Enabled = Disabled
	}
	return o, nil
}

// progressState is BootProgress.LastState, as far as a BMC without an agent in
// the system can know it.
type progressState string

const (
	progressNone   progressState = "None"
	progressPOST   progressState = "SystemHardwareInitializationComplete"
	progressLoader progressState = "OSBootStarted"
)

type bootProgress struct {
	state progressState
	since time.Time
}

func (p *bootProgress) set(s progressState) { p.state, p.since = s, time.Now().UTC() }

// takeOrder says what to try at this boot, first to last, and uses up a one-time
// override. Firmware goes on with the normal order (disk, then medium) when the
// override finds nothing.
func (b *BMC) takeOrder() []machine.BootKind {
	b.mu.Lock()
	defer b.mu.Unlock()
	wanted := b.boot.Enabled != Disabled
	ignored := wanted && b.faults.hits(BootOverrideIgnored)
	order := []machine.BootKind{machine.FromDisk, machine.FromMedia}
	if wanted && !ignored && b.boot.Target == TargetCd {
		slices.Reverse(order)
	}
	if b.boot.Enabled == Once && b.cfg.Personality.Once == OnceCleared {
		b.boot.Enabled, b.boot.Target = Disabled, TargetNone
		b.saveLocked()
	}
	return order
}

// source makes the boot source of one attempt; false when there is nothing to try.
func (b *BMC) source(kind machine.BootKind) (machine.BootSource, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	from := machine.BootSource{Kind: kind}
	for _, s := range b.slots {
		if s.medium != nil && s.optical() {
			from.ISO = s.medium.Image
			if s.medium.File != "" {
				from.ISO = b.mediumPath(s.medium)
			}
			break
		}
	}
	switch {
	case kind == machine.FromMedia && from.ISO == "", kind == machine.FromDisk && len(b.cfg.Spec.Disks) == 0:
		return from, false
	}
	b.last.boots++
	b.last.from, b.last.stop = from, ""
	b.progress.set(progressLoader)
	return from, true
}

// defaultBIOS is what the setup of the machine holds when nobody changed it.
func (b *BMC) defaultBIOS() map[string]any {
	mode := "Uefi"
	if b.cfg.Spec.Firmware == "bios" {
		mode = "Legacy"
	}
	return map[string]any{
		"BootMode":                       mode,
		b.cfg.Personality.Virtualization: "Enabled",
		"IommuSupport":                   "Enabled",
		"SriovGlobalEnable":              "Disabled",
		"LogicalProc":                    "Enabled",
		"WorkloadProfile":                "Balanced",
		"AcPowerRecovery":                "Off",
	}
}

// mergeBIOS checks a PATCH of the pending BIOS attributes.
func (b *BMC) mergeBIOSLocked(in object) *problem {
	next := map[string]any{}
	for k, v := range b.pending {
		next[k] = v
	}
	for _, key := range sortedKeys(in) {
		old, known := b.bios[key]
		at := "Attributes/" + key
		switch {
		case !known:
			return propertyUnknown(at)
		case key == "BootMode":
			return propertyNotWritable(at)
		case fmt.Sprintf("%T", old) != fmt.Sprintf("%T", in[key]):
			return propertyValueTypeError(at, in[key])
		}
		next[key] = in[key]
	}
	b.pending = next
	return nil
}
