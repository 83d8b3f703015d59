package bmc

import (
	"context"
	"sync/atomic"

	"metalrise.dev/fleet"
)

// selection is whether the service can be asked for single properties
// ($select, DSP0266 7.3). It is believed until an answer shows otherwise.
type selection struct{ works atomic.Bool }

func (c *selection) init(root node) {
	c.works.Store(root.object("ProtocolFeaturesSupported").flag("SelectQuery").Or(false))
}

// bare is how many members beside a chosen one an answer may have: @odata.id,
// .type, .etag and .context, Id and Name.
const bare = 6

// chosenPower reads nothing but the power state of a system; false when the
// service cannot do that or did not answer, and then it is not asked again. Waiting for a power
// state repeats this read, and a system's whole resource is 5 to 20 kB.
func (s *Session) chosenPower(ctx context.Context, path string) (fleet.PowerState, bool) {
	if !s.choose.works.Load() {
		return fleet.PowerOther, false
	}
	n, _, err := s.get(ctx, path+"?$select=PowerState", nil)
	if err == nil && len(n.m) <= 1+bare {
		if p, ok := power(n).Get(); ok {
			return p, true
		}
	}
	s.choose.works.Store(false)
	return fleet.PowerOther, false
}
