package redfish

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"metalrise.dev/lab/machine"
)

// PowerState is the PowerState of a system.
type PowerState string

const (
	PowerOff    PowerState = "Off"
	PoweringOn  PowerState = "PoweringOn"
	PowerOn     PowerState = "On"
	PoweringOff PowerState = "PoweringOff"
)

// ResetType is the parameter of ComputerSystem.Reset.
type ResetType string

const (
	ResetOn               ResetType = "On"
	ResetForceOn          ResetType = "ForceOn"
	ResetForceOff         ResetType = "ForceOff"
	ResetForceRestart     ResetType = "ForceRestart"
	ResetGracefulShutdown ResetType = "GracefulShutdown"
	ResetGracefulRestart  ResetType = "GracefulRestart"
	ResetPushPowerButton  ResetType = "PushPowerButton"
	ResetPowerCycle       ResetType = "PowerCycle"
)

var resetTypes = []ResetType{ResetOn, ResetForceOn, ResetForceOff, ResetForceRestart,
	ResetGracefulShutdown, ResetGracefulRestart, ResetPushPowerButton, ResetPowerCycle}

// next is what follows when one run of the system ended.
type next int

const (
	nothing   next = iota // nothing was asked for
	goOff                 // stay off
	goRestart             // reset without losing power
	goCycle               // off, then on
)

// run is one stretch of power, from On to Off. Its fields are guarded by BMC.mu.
type run struct {
	end     context.CancelFunc // ends the present phase: cuts the power of the machine
	forced  next               // asked for by a cut; wins over graceful
	polite  next               // asked for by a request to the system; counts when it obeyed
	booting bool               // inside Hardware.Boot
}

// shutdownTime bounds how long the hardware may take to deliver the wish; the
// system itself may take as long as it likes.
const shutdownTime = 30 * time.Second

// reset does a ComputerSystem.Reset: it answers once the wish is accepted; the
// power state follows.
func (b *BMC) reset(t ResetType) *problem {
	if !slices.Contains(resetTypes, t) {
		return actionParameterValueNotInList("ResetType", t, "ComputerSystem.Reset")
	}
	// A struck power-on fault swallows the wish whole; what it would have done is not looked at.
	if t == ResetOn || t == ResetForceOn {
		if b.faults.hits(PowerOnIgnored) {
			return nil
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch t {
	case ResetOn, ResetForceOn:
		return b.onLocked(t)
	case ResetForceOff:
		return b.cutLocked(t, goOff)
	case ResetForceRestart:
		return b.cutLocked(t, goRestart)
	case ResetPowerCycle:
		return b.cutLocked(t, goCycle)
	case ResetGracefulShutdown:
		return b.askLocked(t, goOff)
	case ResetGracefulRestart:
		return b.askLocked(t, goRestart)
	default: // PushPowerButton
		if b.power == PowerOff {
			return b.onLocked(t)
		}
		return b.askLocked(t, goOff)
	}
}

// PressPower is a short press of the power button: on when off, else the system
// is asked to shut down.
func (b *BMC) PressPower() error { return b.press(ResetPushPowerButton) }

// HoldPower is a long press of the power button: power is cut.
func (b *BMC) HoldPower() error { return b.press(ResetForceOff) }

func (b *BMC) press(t ResetType) error {
	if p := b.reset(t); p != nil {
		return fmt.Errorf("bmc of %s: %w", b.cfg.Spec.Name, p)
	}
	return nil
}

func (b *BMC) onLocked(t ResetType) *problem {
	switch b.power {
	case PowerOff:
		if p := b.resting(t); p != nil {
			return p
		}
	case PoweringOff:
		return actionNotNow("ComputerSystem.Reset", "ResetType", string(t), "the system is still PoweringOff")
	default:
		return b.repeat(t)
	}
	if !b.beginLocked() {
		return shuttingDown()
	}
	b.setPowerLocked(PoweringOn)
	r := &run{end: func() {}}
	b.run = r
	go func() {
		defer b.work.Done()
		b.powered(r)
	}()
	return nil
}

// cutLocked pulls the plug, whatever the system does.
func (b *BMC) cutLocked(t ResetType, then next) *problem {
	if b.run == nil {
		return b.repeat(t)
	}
	if b.power == PoweringOff && then != goOff {
		return actionNotNow("ComputerSystem.Reset", "ResetType", string(t), "the system is still PoweringOff")
	}
	b.run.forced = then
	if then != goRestart {
		b.setPowerLocked(PoweringOff)
	}
	b.run.end()
	return nil
}

// askLocked presses the ACPI power button. Where no system runs to hear it (POST,
// or nothing bootable), firmware itself obeys at once.
func (b *BMC) askLocked(t ResetType, then next) *problem {
	if b.run == nil || b.power == PoweringOff {
		return b.repeat(t)
	}
	if !b.run.booting {
		return b.cutLocked(t, then)
	}
	if !b.beginLocked() {
		return shuttingDown()
	}
	b.run.polite = then
	hardware := b.cfg.Hardware // the server may have another disk once it is off
	go func() {
		defer b.work.Done()
		ctx, cancel := context.WithTimeout(b.ctx, shutdownTime)
		defer cancel()
		if err := hardware.Shutdown(ctx); err != nil {
			b.log.Warn("the wish to shut down did not reach the system", "error", err)
		}
	}()
	return nil
}

func (b *BMC) setPowerLocked(p PowerState) {
	if b.power == p {
		return
	}
	if p == PowerOn || p == PowerOff {
		b.before, b.changed = PowerOff, time.Now()
		if p == PowerOff {
			b.before = PowerOn
		}
	}
	b.power = p
	b.log.Debug("power", "state", p)
	b.saveLocked()
}

func (b *BMC) setPower(p PowerState) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.setPowerLocked(p)
}

// powered is the life of one run: it ends with power Off.
func (b *BMC) powered(r *run) {
	then := b.system(r, b.cfg.Delays.PowerOn)
	for {
		switch then {
		case goRestart:
			then = b.system(r, 0)
			continue
		case goCycle:
			b.setPower(PoweringOff)
			_ = sleep(b.ctx, b.cfg.Delays.PowerOff)
			if b.take(r, goCycle) == goCycle && b.ctx.Err() == nil {
				b.setPower(PoweringOn)
				then = b.system(r, b.cfg.Delays.PowerOn)
				continue
			}
		default:
			b.setPower(PoweringOff)
			_ = sleep(b.ctx, b.cfg.Delays.PowerOff)
		}
		b.mu.Lock()
		b.run = nil
		b.progress.set(progressNone)
		b.setPowerLocked(PowerOff)
		b.mu.Unlock()
		return
	}
}

// take gives what a cut asked for, or def when nothing did, and forgets it.
func (b *BMC) take(r *run, def next) next {
	b.mu.Lock()
	defer b.mu.Unlock()
	return r.takeLocked(def)
}

func (r *run) takeLocked(def next) next {
	if r.forced != nothing {
		def = r.forced
	}
	r.forced, r.polite = nothing, nothing
	return def
}

// phase starts a stretch that a cut ends. A cut that came just before ends it at once.
func (b *BMC) phase(r *run) context.Context {
	ctx, end := context.WithCancel(b.ctx)
	b.mu.Lock()
	defer b.mu.Unlock()
	r.end = end
	if r.forced != nothing {
		end()
	}
	return ctx
}

// system runs the machine from reset until it stops for good, and says what follows.
func (b *BMC) system(r *run, ramp time.Duration) next {
	ctx := b.phase(r)
	defer func() { b.mu.Lock(); r.end(); b.mu.Unlock() }()
	if sleep(ctx, ramp) != nil {
		return b.take(r, goOff)
	}
	for {
		if !b.post(ctx) {
			return b.take(r, goOff)
		}
		stop, err := b.tryBoot(ctx, r)
		b.mu.Lock()
		r.booting = false
		b.last.stop, b.last.err = stop, err
		polite := r.polite
		b.mu.Unlock()
		switch {
		case ctx.Err() != nil:
			return b.take(r, goOff)
		case err != nil:
			b.log.Error("the machine is faulty", "error", err)
			return b.take(r, goOff)
		case stop == machine.Rebooted:
			b.mu.Lock()
			r.polite = nothing // it restarted by itself: the wish is fulfilled or overtaken
			b.mu.Unlock()
		case stop == machine.PoweredOff && polite != nothing:
			return b.take(r, polite)
		case stop == machine.NotBooted:
			<-ctx.Done()
			return b.take(r, goOff)
		default:
			return b.take(r, goOff)
		}
	}
}

// post is the power-on self test: pending BIOS attributes take effect here.
func (b *BMC) post(ctx context.Context) bool {
	b.mu.Lock()
	if ctx.Err() == nil && b.power != PoweringOff {
		b.setPowerLocked(PowerOn)
	}
	b.progress.set(progressPOST)
	if len(b.pending) > 0 {
		maps.Copy(b.bios, b.pending)
		b.pending = nil
		b.saveLocked()
	}
	b.mu.Unlock()
	return sleep(ctx, b.cfg.Delays.POST) == nil
}

// tryBoot goes through the boot order until something boots.
func (b *BMC) tryBoot(ctx context.Context, r *run) (machine.Stop, error) {
	for _, kind := range b.takeOrder() {
		from, ok := b.source(kind)
		if !ok {
			continue
		}
		b.mu.Lock()
		r.booting = true
		b.mu.Unlock()
		b.log.Debug("boot", "from", from.Kind, "iso", from.ISO)
		stop, err := b.cfg.Hardware.Boot(ctx, from, b.cfg.Console)
		if err != nil && !errors.Is(err, ctx.Err()) {
			return stop, fmt.Errorf("boot %s from %s: %w", b.cfg.Spec.Name, from.Kind, err)
		}
		if err != nil || stop != machine.NotBooted {
			return stop, nil
		}
		b.mu.Lock()
		r.booting = false
		b.progress.set(progressPOST)
		b.mu.Unlock()
	}
	return machine.NotBooted, nil
}

// sleep waits; an error when ctx ended first or had ended before.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}
