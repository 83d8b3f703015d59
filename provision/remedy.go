package provision

import (
	"context"
	"fmt"
	"strings"
	"time"

	"metalrise.dev/fleet"
)

// remedyLasts bounds the look into the archive: a machine waits for its answer,
// and it can do without a name.
const remedyLasts = 5 * time.Second

// remedy says how virtualization is switched on at one server. It asks no BMC:
// what the last inspection read is in the archive.
func (e *Engine) remedy(ctx context.Context, a fleet.Assignment) string {
	ctx, done := context.WithTimeout(ctx, remedyLasts)
	defer done()
	f, ok, err := e.Archive.OutOfBand(ctx, a.Identity)
	if err != nil || !ok {
		f = fleet.Facts{}
	}
	return KVMRemedy(f)
}

// KVMRemedy names the firmware attribute that switches virtualization on, as
// the maker of the server calls it, by what its BMC told. Of several the one
// that is off comes first, then one whose value nobody here knows, and of
// those that of the processor's maker. One that is on is not blamed.
func KVMRemedy(f fleet.Facts) string {
	var best *fleet.BIOSSetting
	rank := 0
	for i, s := range f.BIOSSettings {
		if r := suspicion(s, f.CPU.Model.Or("")); r > rank {
			best, rank = &f.BIOSSettings[i], r
		}
	}
	if best == nil {
		return "switch on VT-x or AMD-V in the BIOS settings"
	}
	name, value := clip(best.Name), clip(best.Value)
	if best.Label != "" {
		name += " (" + clip(best.Label) + ")"
	}
	if best.On.Or(false) {
		return fmt.Sprintf("BIOS attribute %s was %s when this server was inspected, so that is not the reason unless it was changed since", name, value)
	}
	return fmt.Sprintf("BIOS attribute %s is %s at this server; switch it on", name, value)
}

// suspicion tells how likely a setting is why there is no KVM; 0: it is none of
// those that switch it.
func suspicion(s fleet.BIOSSetting, cpu string) int {
	rank := 0
	switch {
	case s.Feature != fleet.FeatureVTx && s.Feature != fleet.FeatureAMDV:
		return 0
	case !s.On.IsKnown():
		rank = 3
	case !s.On.Or(false):
		rank = 5
	default:
		rank = 1
	}
	cpu = strings.ToLower(cpu)
	if s.Feature == fleet.FeatureAMDV && strings.Contains(cpu, "amd") || s.Feature == fleet.FeatureVTx && strings.Contains(cpu, "intel") {
		rank++
	}
	return rank
}
