package bmctest

import (
	"context"
	"sync"
	"time"

	"metalrise.dev/bmc"
	"metalrise.dev/fleet"
)

const (
	fakeSystem = "/redfish/v1/Systems/1"
	fakeSlot   = fakeSystem + "/VirtualMedia/CD"
)

// Fake is a session with a BMC that lives in memory: one server, one virtual
// drive, acts that show at once. It is for tests of those who drive servers; it
// keeps the promises of Session and knows no trouble.
type Fake struct {
	facts fleet.Facts

	mu     sync.Mutex
	power  fleet.PowerState
	boot   bmc.BootOverride
	image  string
	starts []string // what each start booted from: an image, or "disk"
}

var _ Session = (*Fake)(nil)

// NewFake makes a server that shows these facts and is off.
func NewFake(f fleet.Facts) *Fake {
	f.Source, f.SystemURI = fleet.SeenByBMC, fakeSystem
	f.VirtualMedia = []fleet.MediaSlot{{URI: fakeSlot, MediaTypes: []string{"CD"}, How: "action"}}
	return &Fake{facts: f, power: fleet.PowerOff}
}

// Starts tells what each start booted from, the oldest first.
func (f *Fake) Starts() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.starts...)
}

// find checks context and address, as every method must.
func (f *Fake) find(ctx context.Context, uri string) error {
	if err := ctx.Err(); err != nil {
		return fleet.NewFault(fleet.CodeBMCUnreachable, fleet.Transient, err, "cut short")
	}
	if uri != "" && uri != fakeSystem {
		return fleet.NewFault(fleet.CodeBMCUnsupported, fleet.Unsupported, nil, "there is no system %s", uri)
	}
	return nil
}

// Systems lists the one server.
func (f *Fake) Systems(ctx context.Context) ([]bmc.SystemRef, error) {
	if err := f.find(ctx, ""); err != nil {
		return nil, err
	}
	return []bmc.SystemRef{{URI: fakeSystem, Kind: bmc.IsServer, Why: "it is made so", Identity: f.facts.Identity}}, nil
}

// Inspect gives the facts with the present power.
func (f *Fake) Inspect(ctx context.Context, uri string) (fleet.Facts, error) {
	if err := f.find(ctx, uri); err != nil {
		return fleet.Facts{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	out := f.facts
	out.At, out.Power = time.Now().UTC(), fleet.Known(f.power)
	return out, nil
}

// Look tells power, override and drive.
func (f *Fake) Look(ctx context.Context, uri string) (bmc.Sight, error) {
	if err := f.find(ctx, uri); err != nil {
		return bmc.Sight{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return bmc.Sight{Identity: f.facts.Identity, Power: fleet.Known(f.power), BootOverride: f.boot,
		Media: []bmc.MediaState{{Slot: fakeSlot, Inserted: f.image != "", Image: f.image}}}, nil
}

// Power changes power at once.
func (f *Fake) Power(ctx context.Context, uri string, w bmc.Wish) error {
	if err := f.find(ctx, uri); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch w {
	case bmc.ForceOff, bmc.GracefulOff:
		f.power = fleet.PowerOff
	case bmc.On:
		if f.power == fleet.PowerOff {
			f.startLocked()
		}
	case bmc.Restart:
		f.startLocked()
	default:
		return fleet.NewFault(fleet.CodeBMCUnsupported, fleet.Invalid, nil, "no such wish: %q", w)
	}
	return nil
}

func (f *Fake) startLocked() {
	from := "disk"
	if f.boot.Target == "Cd" && f.image != "" {
		from = f.image
	}
	f.power, f.boot = fleet.PowerOn, bmc.BootOverride{Enabled: "Disabled", Target: "None"}
	f.starts = append(f.starts, from)
}

// WaitPower has nothing to wait for: what is not so will not become so.
func (f *Fake) WaitPower(ctx context.Context, uri string, want fleet.PowerState) error {
	s, err := f.Look(ctx, uri)
	if now := s.Power.Or(fleet.PowerOther); err == nil && now != want {
		err = fleet.NewFault(fleet.CodePowerStuck, fleet.Transient, nil, "%s is still %s", fakeSystem, now)
	}
	return err
}

// BootOnce sets what the next start boots from.
func (f *Fake) BootOnce(ctx context.Context, uri string, t bmc.Target) error {
	if err := f.find(ctx, uri); err != nil {
		return err
	}
	word := map[bmc.Target]string{bmc.Cd: "Cd", bmc.Hdd: "Hdd", bmc.Pxe: "Pxe"}[t]
	if word == "" {
		return fleet.NewFault(fleet.CodeBMCUnsupported, fleet.Unsupported, nil, "no boot target for %s", t)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.boot = bmc.BootOverride{Enabled: "Once", Target: word}
	return nil
}

// Insert puts an image into the drive.
func (f *Fake) Insert(ctx context.Context, uri, imageURL string) error {
	if err := f.find(ctx, uri); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.image = imageURL
	return nil
}

// Eject empties the drive.
func (f *Fake) Eject(ctx context.Context, uri string) error { return f.Insert(ctx, uri, "") }

// Close has nothing to leave behind.
func (f *Fake) Close() error { return nil }
