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
	"metalrise.dev/lab/machine"
	"metalrise.dev/lab/redfish"
)

func optical(ids ...string) []redfish.Slot {
	var out []redfish.Slot
	for _, id := range ids {
		out = append(out, redfish.Slot{ID: id, Types: []string{"CD", "DVD"}})
	}
	return out
}

// slots is a standard BMC with these optical slots.
func slots(ids ...string) redfish.Personality {
	p := redfish.Standard()
	p.Slots = optical(ids...)
	return p
}

func mediaRows() []row {
	std := redfish.Standard()
	place := func(m redfish.MediaPlace) redfish.Personality { p := std; p.MediaPlace = m; return p }
	slot := func(change func(body object)) func(*testing.T) error {
		return worksAs(std, func(c *redfish.Config) { c.Reshape = edit("/VirtualMedia/CD1", change) })
	}
	byPatch := std
	byPatch.Media = redfish.MediaByPatch
	dvd := std
	dvd.Slots = []redfish.Slot{{ID: "DVD1", Types: []string{"DVD"}}}
	return []row{
		{64, "virtual media under the system, the manager or both", "both are asked; one drive seen twice is one", []proof{
			{"system", "", works(place(redfish.UnderSystem))}, {"manager", "", works(place(redfish.UnderManager))}, {"both", "", works(place(redfish.UnderBoth))},
		}},
		{65, "no insert action", "the image is set by PATCH", []proof{{"patch", "", works(byPatch)}, {"patch with If-Match", "", works(redfish.XCC())}}},
		{66, "a slot that cannot insert, or answers 405", "the next one is taken", []proof{
			{"405", "", works(slots("A", "B"), redfish.FirstSlotDead)},
			{"no action", "", worksAs(slots("A", "B"), func(c *redfish.Config) {
				c.Reshape = edit("/VirtualMedia/A", func(b object) { delete(b, "Actions"); delete(b, "Image") })
			})},
		}},
		{67, "slots without media types, image or eject, or for DVD only", "chosen by what they can do", []proof{
			{"no media types", "", slot(func(b object) { delete(b, "MediaTypes") })}, {"DVD only", "", works(dvd)},
			{"no image", "", slot(func(b object) { delete(b, "Image"); delete(b, "ImageName") })},
			{"no eject", "", insertWithoutEject},
		}},
		{68, "insert bodies with too much or too little", "amended by what the BMC says", []proof{
			{"no flags", "", works(std, redfish.InsertRefusesFlags)}, {"protocol", "", works(std, redfish.InsertWantsProtocol)},
			{"method", "", works(std, redfish.InsertWantsMethod)}, {"user", "", works(std, redfish.InsertWantsUser)},
			{"all of them", "", works(std, redfish.InsertRefusesFlags, redfish.InsertWantsProtocol, redfish.InsertWantsMethod, redfish.InsertWantsUser)},
		}},
		{69, "ejects that need a body, or something to eject", "an empty object is sent; an empty drive is a success", []proof{
			{"body", "", avoids(std, redfish.EjectWantsObject)}, {"empty", "", avoids(std, redfish.EjectEmptyRefused)},
			{"empty, shown full", "", ejectShownFull},
		}},
		{70, "drives that show old media, or lie", "ejected first; only Inserted and Image are believed", []proof{
			{"stale", "", works(std, redfish.StaleMedium)}, {"name kept", "", works(std, redfish.ImageNameKept)}, {"connected via", "", works(std, redfish.ConnectedViaLies)},
		}},
		{71, "media detached, in use, or barred by a job", "told with the BMC's own words and tried again by the engine", []proof{
			{"detached", "", insertRefused("VRM0021", redfish.MediaDetached)}, {"job", "", insertRefused("RAC0720", redfish.MediaJobConflict)},
			{"then attached", "", thenWorks(redfish.MediaDetached)},
		}},
		{72, "firmware that cannot insert, or has other slots", "BMC-007 before anything is done; slots are found, not assumed", []proof{
			{"old", "", func(t *testing.T) error {
				r := newRack(t, std.With(redfish.NoInsert), func(c *redfish.Config) {})
				return r.with(t, func(ctx context.Context, s *bmc.Session) error {
					return refused(s.Insert(ctx, r.system(), liveISO), fleet.CodeBMCUnsupported)
				})
			}},
			{"9", "", works(redfish.IDRAC9())}, {"10", "", works(redfish.IDRAC10())},
		}},
	}
}

// insertWithoutEject has a slot that offers no eject action: setting no image
// does it.
func insertWithoutEject(t *testing.T) error {
	r := newRack(t, redfish.Standard(), func(c *redfish.Config) {
		c.Reshape = edit("/VirtualMedia/CD1", func(b object) { delete(b["Actions"].(object), "#VirtualMedia.EjectMedia") })
	})
	return r.with(t, func(ctx context.Context, s *bmc.Session) error {
		if err := s.Insert(ctx, r.system(), liveISO); err != nil {
			return err
		}
		// The lab's slot takes no PATCH of Image: that must be told, not passed over.
		return want(s.Eject(ctx, r.system()) != nil, "an eject that was refused passed as a success")
	})
}

func insertRefused(words string, q redfish.Quirk) func(*testing.T) error {
	return func(t *testing.T) error {
		r := newRack(t, redfish.Standard().With(q), nil)
		r.login.Options.Settle = 300 * time.Millisecond
		return r.with(t, func(ctx context.Context, s *bmc.Session) error {
			err := s.Insert(ctx, r.system(), liveISO)
			if err == nil || !strings.Contains(err.Error(), words) {
				return fmt.Errorf("insert: %w", err)
			}
			return want(fleet.KindOf(err) == fleet.Transient || fleet.KindOf(err) == fleet.UnsureKind, "kind %s of %v", fleet.KindOf(err), err)
		})
	}
}

// thenWorks has the quirk act once; one more insert at most must do.
func thenWorks(q redfish.Quirk) func(*testing.T) error {
	return func(t *testing.T) error {
		r := newRack(t, redfish.Standard(), nil)
		return r.with(t, func(ctx context.Context, s *bmc.Session) error {
			if err := r.lab.SetFault(redfish.Fault{Kind: redfish.Behave, Quirk: q, Times: 1}); err != nil {
				return err
			}
			if err := s.Insert(ctx, r.system(), liveISO); err == nil {
				return nil
			}
			return s.Insert(ctx, r.system(), liveISO)
		})
	}
}

func slotRows() []row {
	std := redfish.Standard()
	late, task := std, std
	late.Insert, task.Insert = redfish.InsertLate, redfish.InsertTask
	vmm, cfg := redfish.IBMC(), redfish.X11()
	vmm.Quirks, cfg.Media, cfg.Slots, cfg.Quirks = nil, redfish.MediaByCfgCD, optical("CfgCD"), nil
	return []row{
		{73, "one medium at a time", "all drives are emptied before one is filled", []proof{{"two slots", "", avoids(slots("A", "B").With(redfish.StaleMedium), redfish.OneMedium)}}},
		{74, "a licence that is missing", "an error code of its own (BMC-030), not tried again", []proof{
			{"Dell", "", licence(redfish.LicenceDell)}, {"HPE", "", licence(redfish.LicenceHPE)}, {"Supermicro", "", licence(redfish.LicenceSupermicro)}, {"Fujitsu", "", licence(redfish.LicenceFujitsu)}, {"Fujitsu, nothing allowed", "", licenceOf(redfish.IRMC().With(redfish.LicenceFujitsu))},
		}},
		{75, "demands on the address of an image", "https and .iso as most want it; what is refused is told, and no drive that stays empty passes", []proof{
			{"suffix", "", avoids(std, redfish.ImageWantsSuffix)}, {"https", "", avoids(std, redfish.ImageWantsTLS)},
			{"https told", "", addressTold("http://192.0.2.9/live.iso", "https", redfish.ImageWantsTLS)},
			{"files only told", "", addressTold(liveISO, "NFS", redfish.ImageFromFilesOnly)},
			{"stays empty", "", staysEmpty},
			{"NFS and CIFS", "metalrise serves media by HTTPS only", nil},
		}},
		{76, "inserts that go on after the answer", "the task is followed, the drive is looked at", []proof{
			{"task", "", works(task)}, {"task that vanishes", "", works(task, redfish.TaskVanishes)},
			{"late", "", worksAs(late, func(c *redfish.Config) { c.Delays.Insert = 200 * time.Millisecond })},
		}},
		{77, "inserts by a maker's action", "Huawei's VmmControl, Supermicro's CfgCD and Fujitsu's FTSVirtualMedia (over HTTPS) are spoken", []proof{
			{"VmmControl", "", works(vmm)}, {"CfgCD", "", works(cfg)},
			{"FTSVirtualMedia", "", works(redfish.IRMC())},
		}},
		{78, "an eject that disturbs the running system", "the engine ejects when the disk is written, then restarts: that works also when the eject stopped the system", []proof{
			{"after off", "", ejectAfterOff},
			{"while it runs", "", ejectRunning},
		}},
		{79, "slots for uploads only", "left out", []proof{{"RDOC", "", uploadSlot}}},
	}
}

func licence(q redfish.Quirk) func(*testing.T) error { return licenceOf(redfish.Standard().With(q)) }

func licenceOf(p redfish.Personality) func(*testing.T) error {
	return func(t *testing.T) error {
		r := newRack(t, p, nil)
		return r.with(t, func(ctx context.Context, s *bmc.Session) error {
			err := s.Insert(ctx, r.system(), liveISO)
			if err := refused(err, fleet.CodeBMCLicence); err != nil {
				return err
			}
			return want(fleet.KindOf(err) == fleet.Denied || fleet.KindOf(err) == fleet.Unsupported, "kind %s", fleet.KindOf(err))
		})
	}
}

func addressTold(image, words string, q redfish.Quirk) func(*testing.T) error {
	return func(t *testing.T) error {
		r := newRack(t, redfish.Standard().With(q), nil)
		return r.with(t, func(ctx context.Context, s *bmc.Session) error {
			err := s.Insert(ctx, r.system(), image)
			return want(err != nil && strings.Contains(err.Error(), words), "insert: %v", err)
		})
	}
}

func staysEmpty(t *testing.T) error {
	r := newRack(t, redfish.Standard().With(redfish.InsertLies), nil)
	r.login.Options.Settle = 200 * time.Millisecond
	return r.with(t, func(ctx context.Context, s *bmc.Session) error {
		return refused(s.Insert(ctx, r.system(), liveISO), fleet.CodeMediaLost)
	})
}

// running brings a machine up from its medium.
func running(ctx context.Context, r *rack, s *bmc.Session) error {
	var at steps
	at.do("insert", func() error { return s.Insert(ctx, r.system(), liveISO) })
	at.do("once", func() error { return s.BootOnce(ctx, r.system(), bmc.Cd) })
	at.do("on", func() error { return s.Power(ctx, r.system(), bmc.On) })
	at.do("booted", func() error {
		return within("a boot", func() bool { return r.lab.Status().LastBoot.ISO == liveISO })
	})
	return at.err
}

func ejectAfterOff(t *testing.T) error {
	r := newRack(t, redfish.Standard().With(redfish.EjectDisturbs), nil)
	return r.with(t, func(ctx context.Context, s *bmc.Session) error {
		var at steps
		at.do("run", func() error { return running(ctx, r, s) })
		at.do("off", func() error { return s.Power(ctx, r.system(), bmc.ForceOff) })
		at.do("wait off", func() error { return s.WaitPower(ctx, r.system(), fleet.PowerOff) })
		at.do("eject", func() error { return s.Eject(ctx, r.system()) })
		at.do("empty", func() error { return empty(ctx, s, r.system()) })
		return at.err
	})
}

// ejectRunning ejects as the engine does, when the disk is written: should that
// stop the system, the restart that follows starts it from its disk.
func ejectRunning(t *testing.T) error {
	r := newRack(t, redfish.Standard().With(redfish.EjectDisturbs), nil)
	return r.with(t, func(ctx context.Context, s *bmc.Session) error {
		var at steps
		at.do("run", func() error { return running(ctx, r, s) })
		at.do("eject", func() error { return s.Eject(ctx, r.system()) })
		at.do("stopped", func() error {
			return within("the power off", func() bool { return r.lab.Status().Power == redfish.PowerOff })
		})
		at.do("restart", func() error { return s.Power(ctx, r.system(), bmc.Restart) })
		at.do("from disk", func() error {
			return within("a boot from disk", func() bool { return r.lab.Status().LastBoot.Kind == machine.FromDisk })
		})
		return at.err
	})
}

// ejectShownFull has one look show a medium that is not there, so that an eject
// goes out and is refused.
func ejectShownFull(t *testing.T) error {
	var lie atomic.Int32
	r := newRack(t, redfish.Standard().With(redfish.EjectEmptyRefused), func(c *redfish.Config) {
		c.Personality.MediaPlace = redfish.UnderManager
		c.Reshape = edit("/VirtualMedia/CD1", func(b object) {
			if lie.Add(1) == 1 {
				b["Inserted"], b["Image"] = true, liveISO
			}
		})
	})
	return r.with(t, func(ctx context.Context, s *bmc.Session) error {
		if err := s.Eject(ctx, r.system()); err != nil {
			return err
		}
		return want(r.lab.Acted(redfish.EjectEmptyRefused), "the refusal was never met")
	})
}

func uploadSlot(t *testing.T) error {
	p := redfish.XCC()
	p.Match = redfish.MatchOptional
	r := newRack(t, p, nil)
	return r.with(t, func(ctx context.Context, s *bmc.Session) error {
		if err := s.Insert(ctx, r.system(), liveISO); err != nil {
			return err
		}
		media := r.lab.Status().Media
		return want(len(media) == 1 && media[0].Slot == "EXT1", "media %+v", media)
	})
}
