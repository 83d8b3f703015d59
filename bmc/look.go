package bmc

import (
	"context"

	"metalrise.dev/fleet"
)

// Sight is what an act could have changed.
type Sight struct {
	Identity     fleet.Identity                `json:"identity"`
	Power        fleet.Maybe[fleet.PowerState] `json:"power"`
	BootOverride BootOverride                  `json:"bootOverride"`
	Media        []MediaState                  `json:"media"` // usable optical drives only
}

// Look reads identity, power, boot override and virtual drives as they are now:
// one request, and one per drive.
func (s *Session) Look(ctx context.Context, systemURI string) (Sight, error) {
	sys, err := s.system(ctx, systemURI)
	if err != nil {
		return Sight{}, s.wrap("look at "+systemURI+" of", err)
	}
	slots, _, err := s.slots(ctx, sys)
	if err != nil {
		return Sight{}, s.wrap("look at "+sys.path+" of", err)
	}
	sight := Sight{Identity: identity(sys), Power: power(sys), BootOverride: readOverride(sys)}
	if p := s.powerShown(ctx, sys); p != fleet.PowerOther {
		sight.Power = fleet.Known(p)
	}
	if !sight.BootOverride.IsSet() {
		// Some keep what is for the next start on the settings object alone.
		if next := sys.object("@Redfish.Settings").link("SettingsObject"); next != "" {
			if n, _, err := s.get(ctx, next, nil); err == nil && readOverride(n).IsSet() {
				sight.BootOverride = readOverride(n)
			}
		}
	}
	for _, sl := range slots {
		sight.Media = append(sight.Media, sl.shown)
	}
	return sight, nil
}

// system reads a system afresh.
func (s *Session) system(ctx context.Context, systemURI string) (node, error) {
	uri, err := s.resolveSystem(ctx, systemURI)
	if err != nil {
		return node{}, err
	}
	return s.readForChange(ctx, uri)
}
