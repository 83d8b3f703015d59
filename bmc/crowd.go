package bmc

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"metalrise.dev/fleet"
)

// crowd lets the reads of one session run side by side until the BMC drops one:
// some freeze when several requests run. From then on they go one by one.
type crowd struct {
	gate  sync.RWMutex // held shared by reads side by side, alone by those after
	alone atomic.Bool
	vain  atomic.Int32 // reads that were dropped though they were alone
}

// enoughVain drops of single reads show that it is not the crowd the BMC minds.
const enoughVain = 3

// read runs get, and once more on its own when the BMC dropped it in company. A
// BMC that still drops it gets a moment to come back.
func (c *crowd) read(ctx context.Context, moment time.Duration, get func() (*answer, error)) (*answer, error) {
	if !c.alone.Load() || c.vain.Load() >= enoughVain {
		c.gate.RLock()
		a, err := get()
		c.gate.RUnlock()
		if err == nil || !wasDropped(err) || ctx.Err() != nil || c.vain.Load() >= enoughVain {
			return a, err
		}
		c.alone.Store(true)
	}
	c.gate.Lock()
	defer c.gate.Unlock()
	a, err := get()
	if err != nil && wasDropped(err) && pause(ctx, max(moment, 200*time.Millisecond)) == nil {
		a, err = get()
	}
	if err != nil && wasDropped(err) {
		c.vain.Add(1)
	}
	return a, err
}

// wasDropped tells a connection that broke from an answer whose JSON is cut short.
func wasDropped(err error) bool {
	return fleet.CodeOf(err) == fleet.CodeBMCUnreachable && isDropped(err)
}
