package bmc

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"metalrise.dev/fleet"
)

func resets(f *fakeBMC) string {
	var sent []string
	for _, call := range f.changes() {
		_, word, _ := strings.Cut(call, `"ResetType":"`)
		sent = append(sent, strings.TrimSuffix(word, `"}`))
	}
	return strings.Join(sent, " ")
}

func TestCycle(t *testing.T) {
	for _, c := range []struct{ power, want string }{{"On", "ForceOff On"}, {"Off", "On"}, {"Paused", "ForceOff On"}} {
		f := newFake() // offers no PowerCycle
		f.resources[sysPath]["PowerState"] = c.power
		noError(t, dial(t, serve(t, f)).Power(t.Context(), sysPath, Cycle))
		if got := resets(f); got != c.want {
			t.Errorf("from %s sent %q, want %q", c.power, got, c.want)
		}
	}
}

// Huawei lists a word that it then refuses.
func TestRestartListedAndRefused(t *testing.T) {
	f := newFake()
	f.resources[sysPath]["PowerState"] = "On"
	f.hook = func(w http.ResponseWriter, r *http.Request, body object) bool {
		if body["ResetType"] == "ForceRestart" {
			complain(w, 400, "Base.1.4.ActionParameterValueNotInList", "ForceRestart", "ResetType")
			return true
		}
		return false
	}
	noError(t, dial(t, serve(t, f)).Power(t.Context(), sysPath, Restart))
	if got := resets(f); got != "ForceOff On" {
		t.Errorf("sent %q", got)
	}
}

// On iRMC the allowed words follow the power state.
func TestWordsFollowThePower(t *testing.T) {
	f := newFake()
	f.resources[sysPath]["PowerState"] = "On"
	f.hook = func(_ http.ResponseWriter, r *http.Request, _ object) bool {
		words := []any{"ForceOff", "GracefulShutdown"}
		if f.resources[sysPath]["PowerState"] == "Off" {
			words = []any{"On"}
		}
		f.resources[sysPath]["Actions"].(object)["#ComputerSystem.Reset"].(object)["ResetType@Redfish.AllowableValues"] = words
		return false
	}
	noError(t, dial(t, serve(t, f)).Power(t.Context(), sysPath, Cycle))
	if got := resets(f); got != "ForceOff On" {
		t.Errorf("sent %q", got)
	}
}

func TestPowerStatesOfTheField(t *testing.T) {
	chassis := func(power any) func(f *fakeBMC) {
		return func(f *fakeBMC) {
			f.resources[sysPath]["PowerState"] = nil
			f.resources[sysPath]["Links"].(object)["Chassis"] = []any{ref("/redfish/v1/Chassis/1")}
			f.resources["/redfish/v1/Chassis/1"] = object{"PowerState": power}
		}
	}
	state := func(power any) func(f *fakeBMC) {
		return func(f *fakeBMC) { f.resources[sysPath]["PowerState"] = power }
	}
	for name, c := range map[string]struct {
		change func(f *fakeBMC)
		want   fleet.PowerState
	}{
		"paused is on":           {state("Paused"), fleet.PowerOn},
		"chassis tells on":       {chassis("On"), fleet.PowerOn},
		"chassis tells off":      {chassis("Off"), fleet.PowerOff},
		"for ever powering on":   {state("PoweringOn"), fleet.PowerOn},
		"starting, a wrong word": {state("Starting"), fleet.PowerOn},
	} {
		f := newFake()
		c.change(f)
		l := serve(t, f)
		l.Options.Settle = 30 * time.Millisecond
		s := dial(t, l)
		if err := s.WaitPower(t.Context(), sysPath, c.want); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		sight, err := s.Look(t.Context(), sysPath)
		if err != nil || !sight.Power.IsKnown() || sight.Power.Or(fleet.PowerOther) == fleet.PowerOther {
			t.Errorf("%s: looks %v, %v", name, sight.Power, err)
		}
	}
	for _, power := range []any{nil, "PoweringOff", "Moonlight"} {
		f := newFake()
		f.resources[sysPath]["PowerState"] = power
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		err := dial(t, serve(t, f)).WaitPower(ctx, sysPath, fleet.PowerOn)
		cancel()
		wantFault(t, err, fleet.CodePowerStuck, fleet.Transient)
	}
}

// A 400 without a reason may mean that it is so already, and shows late.
func TestPowerAlreadySoShowsLate(t *testing.T) {
	f := newFake()
	f.hook = func(w http.ResponseWriter, r *http.Request, _ object) bool {
		if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "Reset") {
			complain(w, 400, "Base.1.0.GeneralError")
			time.AfterFunc(20*time.Millisecond, func() { f.with(func() { f.resources[sysPath]["PowerState"] = "On" }) })
			return true
		}
		return false
	}
	noError(t, dial(t, serve(t, f)).Power(t.Context(), sysPath, On))
	f = newFake()
	n := 0
	f.hook = onRequest("POST", sysPath+"/Actions/Reset", func(k int, w http.ResponseWriter, _ *http.Request, _ object) bool {
		n = k
		complain(w, 400, "Base.1.0.GeneralError")
		return true
	})
	l := serve(t, f)
	l.Options.Settle = 60 * time.Millisecond
	wantFault(t, dial(t, l).Power(t.Context(), sysPath, On), fleet.CodeBMCRejected, fleet.Invalid)
	if n != 1 {
		t.Errorf("%d requests", n)
	}
}

// A reset whose answer is lost is never sent again.
func TestLostResetIsNotRepeated(t *testing.T) {
	for _, w := range []Wish{On, Restart, Cycle, ForceOff} {
		f := newFake()
		f.resources[sysPath]["PowerState"] = map[bool]string{true: "Off", false: "On"}[w == On]
		n := 0
		f.hook = onRequest("POST", sysPath+"/Actions/Reset", func(k int, rw http.ResponseWriter, _ *http.Request, _ object) bool {
			n = k
			c, _, err := rw.(http.Hijacker).Hijack()
			if err == nil {
				_ = c.Close()
			}
			return true
		})
		err := dial(t, serve(t, f)).Power(t.Context(), sysPath, w)
		wantFault(t, err, fleet.CodeBMCUnreachable, fleet.UnsureKind)
		if n != 1 {
			t.Errorf("%s: sent %d times", w, n)
		}
	}
}
