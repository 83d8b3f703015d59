package provision

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"metalrise.dev/fleet"
)

const (
	fullBytes    = 1 << 30
	minimalBytes = 100 << 20
)

// linkToBMC is how a rig's BMC reads media.
type linkToBMC struct {
	rate    int64 // bytes in a second; 0 is at once
	unknown bool  // the kernel does not tell how long bytes were under way
	stops   int64 // the machine wants no more than so many bytes; 0: all
	waits   bool  // it reads a lot at once, and then takes nothing for minutes
	away    bool  // the server's own network does not lead to us
}

func (w *world) Keyfiles(a fleet.Assignment) ([]Keyfile, error) {
	return []Keyfile{{Name: "port.nmconnection", Text: a.Network.Address}}, nil
}

func (w *world) Unmade(m fleet.Medium) string {
	if m == fleet.MinimalMedium {
		return w.noMinimal
	}
	return ""
}

func (w *world) Bytes(m fleet.Medium) int64 {
	if m == fleet.MinimalMedium {
		return minimalBytes
	}
	return fullBytes
}

// answering waits for an engine: it may be killed at any time. nil: the machine
// lost its power first.
func (r *rig) answering(ctx context.Context) *Engine {
	for {
		if e := r.w.engine.Load(); e != nil {
			return e
		}
		if !pause(ctx, time.Second) {
			return nil
		}
	}
}

// read is the BMC reading a medium, then the server's own fetch of what is not on
// it. False: the machine does not come up.
func (r *rig) read(ctx context.Context, opens string) bool {
	e := r.answering(ctx)
	if e == nil {
		return false
	}
	r.mu.Lock()
	link := r.link
	r.mu.Unlock()
	res, ok, _ := e.Open(opens)
	if link.rate == 0 && res.Medium != fleet.MinimalMedium {
		e.Fetched(opens, 1<<30, 0)
		return true
	}
	if !ok {
		return false
	}
	if link.rate == 0 {
		link.rate = minimalBytes
	}
	size := r.w.Bytes(res.Medium)
	for done := int64(0); done < size; {
		const step = 5 * time.Second
		if !pause(ctx, step) {
			return false
		}
		if e = r.w.engine.Load(); e == nil {
			continue
		}
		if link.stops > 0 && done >= link.stops {
			continue
		}
		n := min(size-done, link.rate*5)
		done += n
		e.Fetched(opens, n, size)
		busy := min(step, time.Duration(n)*time.Second/time.Duration(link.rate))
		if link.waits && done == n {
			busy += 5 * time.Minute
		}
		if !link.unknown {
			e.Flowed(opens, n, busy)
		}
	}
	if res.Medium != fleet.MinimalMedium {
		return true
	}
	if link.away {
		return false
	}
	if e = r.answering(ctx); e == nil {
		return false
	}
	files, err := res.Keyfiles()
	root := keyOf(res.Address(NetRootfs))
	if got, ok, _ := e.Open(root); err != nil || len(files) != 1 || !ok || got.Name != NetRootfs {
		return false
	}
	e.Fetched(root, fullBytes-minimalBytes, 0)
	return true
}

// keyOf is the key in an address.
func keyOf(address string) string {
	_, key, _ := strings.Cut(address, "/m/")
	key, _, _ = strings.Cut(key, "/")
	return key
}

// TestMinimalAttemptServesTheRootFileSystemAlone: no part of a boot from the network
// opens besides, a full medium opens none of them, and an attempt that was left
// serves nothing.
func TestMinimalAttemptServesTheRootFileSystemAlone(t *testing.T) {
	for _, wish := range []fleet.Medium{fleet.FullMedium, fleet.MinimalMedium} {
		synctest.Test(t, func(t *testing.T) {
			w := laddered(1)
			w.plan.Assignments[0].Medium = wish
			if err := w.plan.Seal(); err != nil {
				t.Fatal(err)
			}
			r := w.servers["SN001"]
			r.link, r.deaf = linkToBMC{rate: 1 << 20}, true
			e, err := w.boot(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			medium := w.engine.Load().current().keys.derive(mediumGrant("SN001", 1))
			res, ok, err := e.Open(medium)
			if err != nil || !ok || res.Medium != wish {
				t.Fatalf("%v %v %+v", ok, err, res)
			}
			for _, part := range netArtefacts() {
				_, ok, _ := e.Open(keyOf(res.Address(part)))
				if want := wish == fleet.MinimalMedium && part == NetRootfs; ok != want {
					t.Errorf("%s medium: %s opens %v, want %v", wish, part, ok, want)
				}
			}
			if !e.Serves(medium) {
				t.Error("the present medium is cut")
			}
			time.Sleep(3 * time.Hour) // nobody called: the attempt is left
			if e.Serves(medium) {
				t.Error("a medium whose attempt was left is served on")
			}
			w.kill()
			e.Wait()
			w.unplug()
		})
	}
}

// given lists route and medium of a server's attempts, and what the journal says
// of each; tallies are the last words about media.
func given(w *world, id fleet.ServerID) (attempts []string, notes, tallies string) {
	t := NewTrack(id, w.plan.ID)
	for _, e := range w.journal() {
		t.Fold(e)
		if e.Server == id && e.Action == fleet.ActStage {
			attempts = append(attempts, string(t.Route.Now)+" "+string(t.Route.medium()))
			notes += e.Note + "\n"
		}
		if e.Server == id && e.Action == fleet.ActFetch && strings.Contains(e.Note, " of the ") {
			tallies += e.Note + "\n"
		}
	}
	return attempts, notes, tallies
}

func TestMedia(t *testing.T) {
	const full, minimal, plain = "virtual-media full", "virtual-media minimal", "virtual-media-http "
	const megabit = 1e6 / 8
	for name, c := range map[string]struct {
		wish      fleet.Medium
		link      linkToBMC
		break_    func(*world, *rig)
		want      []string
		note      string
		tally     string
		held      fleet.Code
		cause     string
		withinMin time.Duration // of the last stage; 0: any
	}{
		"quick link":                               {"", linkToBMC{}, nil, []string{full}, "", "1073.7 MB of the full medium", "", "", 0},
		"slow link":                                {"", linkToBMC{rate: 2 * megabit}, nil, []string{full, minimal}, "at 2 Mbit/s: all 1073.7 MB would take 1h12m0s", "104.9 MB of the minimal medium at 2 Mbit/s; the server itself read 968.9 MB", "", "", 5 * time.Minute},
		"link that suffices":                       {"", linkToBMC{rate: 40 * megabit}, nil, []string{full}, "", "1073.7 MB of the full medium at 40 Mbit/s", "", "", 0},
		"machine waits while it reads":             {"", linkToBMC{rate: 40 * megabit, waits: true}, nil, []string{full}, "", "1073.7 MB of the full medium at 40 Mbit/s", "", "", 0},
		"slow, no rate known":                      {"", linkToBMC{rate: 2 * megabit, unknown: true}, nil, []string{full, minimal}, "and still reads; next is the minimal medium", "of the minimal medium; the", "", "", 0},
		"machine hangs":                            {"", linkToBMC{rate: 40 * megabit, stops: 200e6}, nil, []string{full, full}, "trying once more", "", fleet.CodeBootSilent, "did not call home", 0},
		"minimal is asked for":                     {fleet.MinimalMedium, linkToBMC{rate: 40 * megabit}, nil, []string{minimal}, "", "104.9 MB of the minimal medium", "", "", 0},
		"full is asked for":                        {fleet.FullMedium, linkToBMC{rate: 2 * megabit}, nil, []string{full, full}, "trying once more", "", fleet.CodeMediumSlow, "would take 1h12m", 0},
		"no minimal one can be made, full is slow": {"", linkToBMC{rate: 2 * megabit}, func(w *world, _ *rig) { w.noMinimal = "no kargs.json" }, []string{full, full}, "", "", fleet.CodeMediumSlow, "would take 1h12m", 0},
		"no minimal one can be made, but must":     {fleet.MinimalMedium, linkToBMC{}, func(w *world, _ *rig) { w.noMinimal = "no kargs.json" }, []string{"uefi-http full"}, "no minimal medium can be made: no kargs.json", "", "", "", 0},
		"minimal without TLS":                      {fleet.MinimalMedium, linkToBMC{}, func(_ *world, r *rig) { r.noTLS = true }, []string{minimal, plain + "minimal"}, "certificate not trusted", "104.9 MB of the minimal medium", "", "", 0},
		"the server does not reach us":             {fleet.MinimalMedium, linkToBMC{away: true}, nil, []string{minimal, minimal}, "trying once more", "", fleet.CodeBootSilent, "did not ask for its root file system at", 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := laddered(1)
				w.plan.Assignments[0].Medium = c.wish
				if err := w.plan.Seal(); err != nil {
					t.Fatal(err)
				}
				r := w.servers["SN001"]
				r.link = c.link
				if c.break_ != nil {
					c.break_(w, r)
				}
				begin := time.Now()
				o := install(t, w, 5*time.Hour)
				attempts, notes, tallies := given(w, "SN001")
				if !slices.Equal(attempts, c.want) || !strings.Contains(notes, c.note) || !strings.Contains(tallies, c.tally) || c.tally == "" && tallies != "" && c.held != "" {
					t.Errorf("attempts %v, want %v; notes must tell %q:\n%s%s", attempts, c.want, c.note, notes, tallies)
				}
				s := o.Servers[0]
				switch {
				case c.held == "" && (s.Condition != fleet.Settled || r.writes != 1):
					t.Errorf("%+v, %d writes", s, r.writes)
				case c.held != "" && (s.Condition != fleet.Held || s.Cause.Code != c.held || !strings.Contains(strings.Join(s.Cause.Chain, " "), c.cause)):
					t.Errorf("held by %+v, want %s with %q", s.Cause, c.held, c.cause)
				}
				if s.Route.ByBMC() && (string(s.Route)+" "+string(s.Medium) != attempts[len(attempts)-1] || c.held == "" && s.Fetched == 0) {
					t.Errorf("status shows %s %s, %d bytes fetched", s.Route, s.Medium, s.Fetched)
				}
				for _, e := range w.journal() {
					if c.withinMin > 0 && e.Action == fleet.ActStage && e.At.Sub(begin) > c.withinMin {
						t.Errorf("it took %s to see that the link is slow", e.At.Sub(begin))
					}
				}
			})
		})
	}
}

// TestSlowLinkIsRemembered: another plan begins with the minimal medium at once.
func TestSlowLinkIsRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := laddered(1)
		r := w.servers["SN001"]
		r.link = linkToBMC{rate: 250e3}
		install(t, w, 5*time.Hour)
		p := w.plan
		p.Findings = append(p.Findings, fleet.Finding{Text: "another plan"})
		if err := p.Seal(); err != nil {
			t.Fatal(err)
		}
		next := func(age time.Duration) fleet.Medium {
			time.Sleep(age)
			e, err := NewEngine(Config{Site: "osaka", Journal: w, Archive: w, BMCs: w, Configs: w, Routes: w, Roads: w, Secret: []byte("0123456789abcdef0123456789abcdef")})
			if err != nil {
				t.Fatal(err)
			}
			return e.newRun(p, w.events).servers["SN001"].track.Route.mediumBy(fleet.VirtualMedia, nil)
		}
		if got := next(0); got != fleet.MinimalMedium {
			t.Errorf("the next plan begins with the %s medium", got)
		}
		if got := next(ProbeLasts); got != fleet.FullMedium {
			t.Errorf("a day later it is the %s medium", got)
		}
	})
}

// TestSlowLinkKilledAtEveryEvent kills the engine at every event of an install
// that goes on with the minimal medium.
func TestSlowLinkKilledAtEveryEvent(t *testing.T) {
	make := func() *world {
		w := laddered(1)
		w.servers["SN001"].link = linkToBMC{rate: 250e3}
		return w
	}
	events := 0
	synctest.Test(t, func(t *testing.T) {
		w := make()
		install(t, w, 5*time.Hour)
		events = len(w.events)
	})
	for cut := 1; cut <= events; cut++ {
		for _, durable := range []bool{false, true} {
			t.Run(fmt.Sprintf("event %d durable %v", cut, durable), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := make()
					w.cut, w.durable = cut, durable
					o := install(t, w, 5*time.Hour)
					r := w.servers["SN001"]
					if s := o.Servers[0]; s.Condition != fleet.Settled || r.writes != 1 || s.Medium != fleet.MinimalMedium {
						got, notes, _ := given(w, "SN001")
						t.Errorf("%+v: %d writes; %v\n%s", s, r.writes, got, notes)
					}
				})
			})
		}
	}
}

func TestRates(t *testing.T) {
	for bytes, want := range map[float64]string{125e3: "1 Mbit/s", 187.5e3: "1.5 Mbit/s", 8e3: "64 kbit/s", 125e6: "1000 Mbit/s"} {
		if got := megabits(bytes); got != want {
			t.Errorf("%v bytes/s: %s, want %s", bytes, got, want)
		}
	}
}
