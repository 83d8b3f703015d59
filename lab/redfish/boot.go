package redfish

import (
	"fmt"
	"maps"
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
	// The virtual drive of some makers, and the firmware's own HTTP client.
	TargetUsbCd    Target = "UsbCd"
	TargetUefiHTTP Target = "UefiHttp"
)

var (
	enableds    = []Enabled{Disabled, Once, Continuous}
	targets     = []Target{TargetNone, TargetPxe, TargetCd, TargetHdd} // of a BMC that says nothing else
	everyTarget = []Target{TargetNone, TargetPxe, TargetCd, TargetHdd, TargetUsbCd, TargetUefiHTTP}
)

// override is the boot override of the system.
type override struct {
	Enabled Enabled `json:"enabled"`
	Target  Target  `json:"target"`
	Mode    string  `json:"mode"`          // what the machine's firmware is: UEFI or Legacy
	URI     string  `json:"uri,omitempty"` // HttpBootUri
}

func noOverride(firmware string) override {
	mode := "UEFI"
	if firmware == "bios" {
		mode = "Legacy"
	}
	return override{Enabled: Disabled, Target: TargetNone, Mode: mode}
}

func (o override) valid(firmware string) bool {
	return slices.Contains(enableds, o.Enabled) && slices.Contains(everyTarget, o.Target) && o.Mode == noOverride(firmware).Mode
}

// String reads "Once Cd", or "none".
func (o override) String() string {
	if o.Enabled == Disabled || o.Target == TargetNone {
		return "none"
	}
	return string(o.Enabled) + " " + string(o.Target)
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
	b.httpBoot = ""
	switch {
	case ignored || !wanted:
	case b.boot.Target == TargetCd, b.boot.Target == TargetUsbCd:
		slices.Reverse(order)
	case b.boot.Target == TargetPxe && b.bootsFromNet(), b.boot.Target == TargetUefiHTTP && b.bootsFromNet():
		order = []machine.BootKind{machine.FromNet, machine.FromDisk, machine.FromMedia}
	case b.boot.Target == TargetUefiHTTP && b.cfg.Media == Lazy:
		slices.Reverse(order)
		if b.httpBoot = b.boot.URI; b.httpBoot == "" { // Dell keeps it among the BIOS attributes
			b.httpBoot, _ = b.bios["HttpDev1Uri"].(string)
		}
	}
	if b.boot.Enabled == Once && b.cfg.Personality.Once == OnceCleared {
		b.boot.Enabled, b.boot.Target, b.boot.URI = Disabled, TargetNone, ""
		b.saveLocked()
	}
	return order
}

func (b *BMC) bootsFromNet() bool {
	_, can := b.cfg.Hardware.(machine.NetBooter)
	return can
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
	if b.httpBoot != "" && kind == machine.FromMedia {
		from.ISO = b.httpBoot
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
	out := map[string]any{
		"BootMode":                       mode,
		b.cfg.Personality.Virtualization: "Enabled",
		"IommuSupport":                   "Enabled",
		"SriovGlobalEnable":              "Disabled",
		"LogicalProc":                    "Enabled",
		"WorkloadProfile":                "Balanced",
		"AcPowerRecovery":                "Off",
	}
	maps.Copy(out, b.cfg.Personality.BIOS)
	return out
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
