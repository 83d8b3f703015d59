package redfish

import (
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"metalrise.dev/lab/machine"
)

func delayed(c *Config) {
	c.Delays = Delays{PowerOn: 3 * time.Second, PowerOff: 2 * time.Second, POST: 5 * time.Second}
}

// expect sleeps and then looks: inside synctest the clock is exact.
func (r *rig) expect(after time.Duration, want PowerState, boots string) {
	r.t.Helper()
	time.Sleep(after)
	synctest.Wait()
	got := r.ask("GET", system, nil)
	if got.path("PowerState") != string(want) || r.board.kinds() != boots {
		r.t.Errorf("power %v with boots%s, want %s with%s", got.path("PowerState"), r.board.kinds(), want, boots)
	}
}

func TestPowerOnAndForceOffTakeTheirTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, delayed)
		r.expect(0, PowerOff, "")
		r.reset(ResetOn)
		r.expect(2*time.Second, PoweringOn, "")
		r.expect(2*time.Second, PowerOn, "")
		if got := r.ask("GET", system, nil).path("BootProgress", "LastState"); got != string(progressPOST) {
			t.Errorf("boot progress %v", got)
		}
		r.expect(5*time.Second, PowerOn, " disk")
		r.reset(ResetForceOff)
		r.expect(0, PoweringOff, " disk")
		r.expect(3*time.Second, PowerOff, " disk")
		if s := r.bmc.Status(); s.LastStop != machine.Killed || s.Boots != 1 {
			t.Errorf("status %+v", s)
		}
	})
}

func TestForceOffDuringEveryPhase(t *testing.T) {
	for _, at := range []time.Duration{0, time.Second, 4 * time.Second, 9 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, delayed)
			r.reset(ResetOn)
			time.Sleep(at)
			r.reset(ResetForceOff)
			r.reset(ResetForceOff) // while PoweringOff it is still the same wish
			time.Sleep(2500 * time.Millisecond)
			synctest.Wait()
			if r.power() != PowerOff {
				t.Errorf("cut %v after On: %s", at, r.power())
			}
			boots := r.board.kinds()
			r.expect(time.Minute, PowerOff, boots)
			r.reset(ResetOn)
			r.expect(time.Minute, PowerOn, boots+" disk")
		})
	}
}

func TestRestartsKeepPowerAndCycleDropsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, delayed)
		r.reset(ResetOn)
		r.expect(9*time.Second, PowerOn, " disk")
		r.reset(ResetForceRestart)
		r.expect(0, PowerOn, " disk")
		r.expect(6*time.Second, PowerOn, " disk disk")
		r.reset(ResetGracefulRestart)
		r.expect(6*time.Second, PowerOn, " disk disk disk")
		r.reset(ResetPowerCycle)
		r.expect(time.Second, PoweringOff, " disk disk disk")
		r.expect(2*time.Second, PoweringOn, " disk disk disk")
		r.expect(8*time.Second, PowerOn, " disk disk disk disk")
		r.reset(ResetGracefulShutdown)
		r.expect(3*time.Second, PowerOff, " disk disk disk disk")
		if s := r.bmc.Status(); s.LastStop != machine.PoweredOff {
			t.Errorf("last stop %q", s.LastStop)
		}
	})
}

func TestForceOffWinsOverACycle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, delayed)
		r.reset(ResetOn)
		r.expect(9*time.Second, PowerOn, " disk")
		r.reset(ResetPowerCycle)
		time.Sleep(time.Second)
		r.reset(ResetForceOff)
		r.expect(time.Minute, PowerOff, " disk")
	})
}

func TestPowerButton(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, delayed)
		press := func(f func() error) {
			if err := f(); err != nil {
				t.Error(err)
			}
		}
		press(r.bmc.PressPower)
		r.expect(9*time.Second, PowerOn, " disk")
		r.board.steps = []step{{runs: true, deaf: true}}
		press(r.bmc.PressPower)
		r.expect(3*time.Second, PowerOff, " disk")
		press(r.bmc.PressPower)
		r.expect(9*time.Second, PowerOn, " disk disk")
		press(r.bmc.PressPower) // the system does not listen
		r.expect(time.Minute, PowerOn, " disk disk")
		press(r.bmc.HoldPower)
		r.expect(3*time.Second, PowerOff, " disk disk")
	})
}

func TestRepeatedAndUntimelyResets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, delayed)
		refused := func(typ ResetType) {
			t.Helper()
			a := r.want(http.StatusConflict, "POST", reset, object{"ResetType": typ})
			if a.id() != "ActionParameterValueConflict" {
				t.Errorf("%s: message %q", typ, a.id())
			}
		}
		for _, typ := range []ResetType{ResetForceOff, ResetForceRestart, ResetPowerCycle, ResetGracefulShutdown, ResetGracefulRestart} {
			refused(typ)
		}
		r.reset(ResetOn)
		refused(ResetOn)
		r.expect(9*time.Second, PowerOn, " disk")
		refused(ResetOn)
		r.reset(ResetForceOff)
		refused(ResetOn)
		refused(ResetForceRestart)

		lax := newRig(t, func(c *Config) { c.Personality = Standard(); c.Personality.Repeat = AcceptRepeat })
		lax.reset(ResetForceOff)
		lax.reset(ResetOn)
		lax.reset(ResetOn)
	})
}

func TestSystemThatRebootsAndSwitchesItselfOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, delayed)
		r.board.steps = []step{{stop: machine.Rebooted}, {stop: machine.Rebooted}, {stop: machine.PoweredOff}}
		r.reset(ResetOn)
		r.expect(time.Minute, PowerOff, " disk disk disk")
	})
}

func TestWishToRestartIsForgottenOnceTheSystemRestarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, delayed)
		r.board.steps = []step{{runs: true, then: machine.Rebooted}, {runs: true}}
		r.reset(ResetOn)
		r.expect(9*time.Second, PowerOn, " disk")
		r.reset(ResetGracefulRestart)
		r.expect(9*time.Second, PowerOn, " disk disk")
		if err := r.board.Shutdown(t.Context()); err != nil { // someone in the system says poweroff
			t.Error(err)
		}
		r.expect(time.Minute, PowerOff, " disk disk")
	})
}

func TestNothingBootableWaitsForPowerToBeCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, delayed)
		r.insertISO("http://images/a.iso")
		r.board.steps = []step{{stop: machine.NotBooted}}
		r.reset(ResetOn)
		r.expect(time.Minute, PowerOn, " disk media")
		r.reset(ResetGracefulShutdown) // firmware obeys at once
		r.expect(3*time.Second, PowerOff, " disk media")
	})
}

func TestHardwareFaultIsShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, delayed)
		r.board.steps = []step{{err: errors.New("no such bridge")}}
		r.reset(ResetOn)
		r.expect(time.Minute, PowerOff, " disk")
		if got := r.ask("GET", system, nil).path("Status", "Health"); got != "Critical" {
			t.Errorf("health %v", got)
		}
		if r.bmc.Status().Err == nil {
			t.Error("status has no error")
		}
	})
}

func TestOnceIsUsedForOneBoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, delayed)
		r.insertISO("http://images/a.iso")
		r.override(Once, TargetCd)
		r.board.steps = []step{{stop: machine.Rebooted}, {runs: true}}
		r.reset(ResetOn)
		r.expect(time.Minute, PowerOn, " media disk")
		for i, from := range r.board.seen() {
			if from.ISO != "http://images/a.iso" {
				t.Errorf("boot %d: medium %q; it stays inserted", i, from.ISO)
			}
		}
		if got := r.ask("GET", system, nil).path("Boot", "BootSourceOverrideEnabled"); got != "Disabled" {
			t.Errorf("after the boot the override is %v", got)
		}
	})
}

func TestContinuousKeptAndEmptyOverrides(t *testing.T) {
	two := []step{{stop: machine.Rebooted}, {runs: true}}
	for name, c := range map[string]struct {
		enabled Enabled
		target  Target
		iso     bool
		once    OnceRule
		want    string
	}{
		"continuous cd":           {Continuous, TargetCd, true, OnceCleared, " media media"},
		"cd without medium":       {Once, TargetCd, false, OnceCleared, " disk disk"},
		"pxe finds nobody":        {Once, TargetPxe, true, OnceCleared, " disk disk"},
		"none":                    {Disabled, TargetNone, true, OnceCleared, " disk disk"},
		"once that is never used": {Once, TargetCd, true, OnceKept, " media media"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, func(cfg *Config) { cfg.Personality = Standard(); cfg.Personality.Once = c.once })
				r.board.steps = two
				if c.iso {
					r.insertISO("http://images/a.iso")
				}
				r.override(c.enabled, c.target)
				r.reset(ResetOn)
				r.expect(time.Minute, PowerOn, c.want)
			})
		})
	}
}

func TestCloseCutsPower(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, delayed)
		r.reset(ResetOn)
		r.expect(time.Minute, PowerOn, " disk")
		if err := r.bmc.Close(); err != nil {
			t.Error(err)
		}
		if r.board.running != 0 || r.power() != PowerOff {
			t.Errorf("after Close %d machines run, power %s", r.board.running, r.power())
		}
		r.want(http.StatusServiceUnavailable, "POST", reset, object{"ResetType": ResetOn})
	})
}
