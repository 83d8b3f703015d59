package bmctest_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"metalrise.dev/bmc"
	"metalrise.dev/fleet"
	"metalrise.dev/lab/redfish"
)

func powerRows() []row {
	std := redfish.Standard()
	onOff := std
	onOff.ResetTypes = []redfish.ResetType{redfish.ResetOn, redfish.ResetForceOff}
	late := func(p redfish.Personality) func(*testing.T) error {
		return worksAs(p, func(c *redfish.Config) { c.Delays.Show = 150 * time.Millisecond })
	}
	between := func(q redfish.Quirk) func(*testing.T) error {
		return worksAs(std.With(q), func(c *redfish.Config) {
			c.Delays.PowerOn, c.Delays.PowerOff = 60*time.Millisecond, 60*time.Millisecond
		})
	}
	future := redfish.Standard().With(redfish.FutureState)
	future.BootSettings, future.Match = "/SD", redfish.MatchRequired
	return []row{
		{46, "a reset to the state there is, refused with 409 or 400", "looked at, and taken as done", []proof{
			{"409", "", repeated()}, {"400", "", repeated(redfish.RepeatIs400)},
		}},
		{47, "reset types that are not there, or listed and refused", "another way with the same end: off, then on", []proof{
			{"on and off only", "", works(onOff)}, {"listed and refused", "", works(std, redfish.ListedButRefused)},
		}},
		{48, "power states in between, missing, unknown or without end", "waited for, with an end (BMC-011)", []proof{
			{"null", "", between(redfish.NoPowerInBetween)}, {"paused", "", between(redfish.PausedInBetween)}, {"unknown word", "", between(redfish.OddPowerInBetween)},
			{"for ever", "", forEver},
		}},
		{49, "an act that shows seconds later", "looked for until it shows", []proof{{"late", "", late(std)}}},
		{50, "on refused right after off", "asked again", []proof{{"too soon", "", tooSoon}}},
		{51, "changes taken only by the address of the future state", "sent there, with its ETag", []proof{
			{"linked", "", works(future)},
			{"not linked", "", worksAs(future, func(c *redfish.Config) {
				c.Reshape = edit("/Systems/QUIRK001", func(b object) { delete(b, "@Redfish.Settings") })
			})},
		}},
		{52, "allowed values by ActionInfo, or of the present power only", "read anew before each act", []proof{
			{"action info", "", works(std, redfish.ResetInActionInfo)}, {"by power", "", works(std, redfish.ResetByPower)},
		}},
	}
}

// repeated asks for what is so already while one look still shows the state of
// before, so that the request goes out and is refused.
func repeated(quirks ...redfish.Quirk) func(*testing.T) error {
	return func(t *testing.T) error {
		var old atomic.Value // PowerState that the next look shows; "" shows the true one
		old.Store("")
		r := newRack(t, redfish.Standard().With(quirks...), func(c *redfish.Config) {
			c.Reshape = edit("/Systems/QUIRK001", func(b object) {
				if was := old.Swap("").(string); was != "" {
					b["PowerState"] = was
				}
			})
		})
		return r.with(t, func(ctx context.Context, s *bmc.Session) error {
			var at steps
			for _, one := range []struct {
				wish bmc.Wish
				then fleet.PowerState
				was  string
			}{{bmc.On, fleet.PowerOn, "Off"}, {bmc.ForceOff, fleet.PowerOff, "On"}} {
				name := string(one.wish)
				at.do(name, func() error { return s.Power(ctx, r.system(), one.wish) })
				at.do("wait", func() error { return s.WaitPower(ctx, r.system(), one.then) })
				old.Store(one.was)
				at.do(name+" again", func() error { return s.Power(ctx, r.system(), one.wish) })
				at.do("asked", func() error { return want(old.Load() == "", "it was not looked at") })
			}
			return at.err
		})
	}
}

func forEver(t *testing.T) error {
	r := newRack(t, redfish.Standard().With(redfish.ForEverPoweringOn), nil)
	return r.with(t, func(ctx context.Context, s *bmc.Session) error {
		if err := s.Power(ctx, r.system(), bmc.On); err != nil {
			return err
		}
		short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		defer cancel()
		if err := refused(s.WaitPower(short, r.system(), fleet.PowerOn), fleet.CodePowerStuck, "powering on"); err != nil {
			return err
		}
		if err := s.Power(ctx, r.system(), bmc.ForceOff); err != nil {
			return fmt.Errorf("switch it off all the same: %w", err)
		}
		return s.WaitPower(ctx, r.system(), fleet.PowerOff)
	})
}

func tooSoon(t *testing.T) error {
	r := newRack(t, redfish.Standard(), func(c *redfish.Config) { c.Delays.Rest = 200 * time.Millisecond })
	return r.with(t, func(ctx context.Context, s *bmc.Session) error {
		var at steps
		for range 2 {
			at.do("on", func() error { return s.Power(ctx, r.system(), bmc.On) })
			at.do("wait on", func() error { return s.WaitPower(ctx, r.system(), fleet.PowerOn) })
			at.do("off", func() error { return s.Power(ctx, r.system(), bmc.ForceOff) })
			at.do("wait off", func() error { return s.WaitPower(ctx, r.system(), fleet.PowerOff) })
		}
		return at.err
	})
}

func bootRows() []row {
	std := redfish.Standard()
	at := func(way string, quirks ...redfish.Quirk) redfish.Personality {
		p := std.With(quirks...)
		p.BootSettings = way
		return p
	}
	usb := std
	usb.Targets = []redfish.Target{redfish.TargetNone, redfish.TargetHdd, redfish.TargetUsbCd}
	none := std
	none.Targets = []redfish.Target{redfish.TargetNone, redfish.TargetHdd}
	kept := std
	kept.Once = redfish.OnceKept
	return []row{
		{53, "no boot mode, one that is read only, or one that must always be sent", "the full form first, then the smaller ones", []proof{
			{"none", "", works(std, redfish.NoBootMode)}, {"read only", "", works(std, redfish.BootModeReadOnly)}, {"all wanted", "", works(std, redfish.BootWantsAll)},
		}},
		{54, "an override that must go to a settings object", "sent where a Boot is offered, and read back", []proof{
			{"settings", "", works(at("/Settings"))}, {"pending", "", works(at("/Pending"))}, {"SD", "", works(at("/SD"))},
			{"settings without boot", "", worksAs(std, func(c *redfish.Config) {
				c.Reshape = func(path string, b object) object {
					const odd = "/redfish/v1/Systems/QUIRK001/Settings"
					if path == odd {
						return object{"@odata.id": odd, "Id": "Settings", "AssetTag": ""}
					}
					return edit("/Systems/QUIRK001", func(b object) { b["@Redfish.Settings"] = object{"SettingsObject": object{"@odata.id": odd}} })(path, b)
				}
			})},
		}},
		{55, "If-Match wanted, or refused in one of its forms", "as given, strong, without quotes, without", []proof{
			{"wanted", "", works(strict())}, {"weak", "", works(strict(), redfish.ETagWeak)}, {"unquoted", "", works(strict(), redfish.ETagUnquoted)},
			{"refused", "", works(std, redfish.ETagRefused)},
		}},
		{56, "no Continuous", "only Once is asked for", []proof{{"none", "", works(std, redfish.NoContinuous)}}},
		{57, "Once that is kept, or shown as Continuous", "the medium is ejected at the end, the override is taken back", []proof{
			{"kept", "", works(kept)}, {"taken back", "", takenBack(kept)}, {"shown as continuous", "", works(std, redfish.OnceSaysContinuous)},
		}},
		{58, "Disabled or None refused", "the other form of taking back is sent", []proof{
			{"none refused", "", takenBack(kept.With(redfish.DisabledWithNone))}, {"disabled refused", "", takenBack(kept.With(redfish.DisabledRefused))},
		}},
		{59, "other names of the virtual drive, or none", "taken from what is listed; none is BMC-007", []proof{
			{"usb", "", works(usb)}, {"not listed", "", func(t *testing.T) error {
				r := newRack(t, none, nil)
				return r.with(t, func(ctx context.Context, s *bmc.Session) error {
					return refused(s.BootOnce(ctx, r.system(), bmc.Cd), fleet.CodeBMCUnsupported, "Hdd")
				})
			}},
		}},
		{60, "no change during the self test", "asked again until it is over", []proof{{"in post", "", inPOST}}},
		{61, "a boot order of its own", "every start that matters has its own override; what was booted is known by the call home only", []proof{
			{"once from disk", "", onceFromDisk},
			{"told by the BMC", "no BMC tells what it booted; an old system that starts is found by its silence (RUN-005, RUN-013)", nil},
		}},
		{62, "UEFI HTTP in several places, plain HTTP refused", "Boot, its settings object or the maker's BIOS attribute", []proof{
			{"in boot", "", httpBoot(std.With(redfish.HTTPBoot), true)}, {"in settings", "", httpBoot(at("/Settings", redfish.HTTPBoot), true)},
			{"plain refused", "", httpRefused}, {"BIOS attribute", "", httpByBIOS},
		}},
		{63, "Secure Boot changes that fail and then work", "tried again after a look; told as it is set, and as it is until the next start", []proof{
			{"read", "", secureBootRead},
			{"changed", "", secureBootChanged(redfish.Standard())}, {"flaky", "", secureBootChanged(redfish.Standard().With(redfish.SecureBootFlaky))},
			{"flaky and If-Match wanted", "", secureBootChanged(strict().With(redfish.SecureBootFlaky))},
		}},
	}
}

// takenBack sets an override that the BMC does not use up, and takes it back.
func takenBack(p redfish.Personality) func(*testing.T) error {
	return func(t *testing.T) error {
		r := newRack(t, p, nil)
		return r.with(t, func(ctx context.Context, s *bmc.Session) error {
			var at steps
			at.do("once", func() error { return s.BootOnce(ctx, r.system(), bmc.Cd) })
			at.do("back", func() error { return s.ClearBoot(ctx, r.system()) })
			at.do("is none", func() error {
				now := r.lab.Status().Override
				return want(!strings.HasSuffix(now, "Cd"), "the override is %s", now)
			})
			return at.err
		})
	}
}

func inPOST(t *testing.T) error {
	r := newRack(t, redfish.Standard().With(redfish.BootLockedInPOST), func(c *redfish.Config) { c.Delays.POST = 300 * time.Millisecond })
	return r.with(t, func(ctx context.Context, s *bmc.Session) error {
		var at steps
		at.do("on", func() error { return s.Power(ctx, r.system(), bmc.On) })
		at.do("wait on", func() error { return s.WaitPower(ctx, r.system(), fleet.PowerOn) })
		at.do("once", func() error { return s.BootOnce(ctx, r.system(), bmc.Cd) })
		return at.err
	})
}

func onceFromDisk(t *testing.T) error {
	r := newRack(t, redfish.Standard(), nil)
	return r.with(t, func(ctx context.Context, s *bmc.Session) error {
		if err := s.BootOnce(ctx, r.system(), bmc.Hdd); err != nil {
			return err
		}
		return want(r.lab.Status().Override == "Once Hdd", "override %s", r.lab.Status().Override)
	})
}

const liveEFI = "https://192.0.2.9:8443/boot/abc/live.efi"

func httpBoot(p redfish.Personality, _ bool) func(*testing.T) error {
	return func(t *testing.T) error {
		r := newRack(t, p, nil)
		return r.with(t, func(ctx context.Context, s *bmc.Session) error {
			var at steps
			at.do("once by http", func() error { return s.BootHTTP(ctx, r.system(), liveEFI) })
			at.do("on", func() error { return s.Power(ctx, r.system(), bmc.On) })
			at.do("booted", func() error {
				return within("a boot by http", func() bool { return r.lab.Status().LastBoot.ISO == liveEFI })
			})
			return at.err
		})
	}
}

func httpRefused(t *testing.T) error {
	r := newRack(t, redfish.Standard().With(redfish.HTTPBoot, redfish.HTTPBootWantsTLS), nil)
	return r.with(t, func(ctx context.Context, s *bmc.Session) error {
		return refused(s.BootHTTP(ctx, r.system(), "http://192.0.2.9/boot/live.efi"), fleet.CodeBMCUnsupported, "UEFI0417")
	})
}

func httpByBIOS(t *testing.T) error {
	p := redfish.IDRAC9()
	p.Targets = []redfish.Target{redfish.TargetNone, redfish.TargetPxe, redfish.TargetHdd, redfish.TargetCd, redfish.TargetUefiHTTP}
	p.BIOS = map[string]any{"HttpDev1EnDis": "Disabled", "HttpDev1Uri": "", "HttpDev1TlsMode": "None"}
	r := newRack(t, p, nil)
	return r.with(t, func(ctx context.Context, s *bmc.Session) error {
		var at steps
		at.do("once by http", func() error { return s.BootHTTP(ctx, r.system(), liveEFI) })
		at.do("on", func() error { return s.Power(ctx, r.system(), bmc.On) })
		at.do("booted", func() error {
			return within("a boot by http", func() bool { return r.lab.Status().LastBoot.ISO == liveEFI })
		})
		return at.err
	})
}

func secureBootChanged(p redfish.Personality) func(*testing.T) error {
	return func(t *testing.T) error {
		r := newRack(t, p, nil)
		return r.with(t, func(ctx context.Context, s *bmc.Session) error {
			for _, on := range []bool{true, true, false} {
				if err := s.SetSecureBoot(ctx, r.system(), on); err != nil {
					return err
				}
				if got := r.lab.Status().SecureBoot; got != on {
					return fmt.Errorf("secure boot is %t", got)
				}
			}
			return nil
		})
	}
}

func secureBootRead(t *testing.T) error {
	r := newRack(t, redfish.Standard(), nil)
	return r.with(t, func(ctx context.Context, s *bmc.Session) error {
		f, err := s.Inspect(ctx, r.system())
		if err != nil {
			return err
		}
		return want(f.SecureBoot.IsKnown() && !f.SecureBoot.Or(true), "secure boot %v", f.SecureBoot)
	})
}
