package provision

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"metalrise.dev/fleet"
)

func TestFit(t *testing.T) {
	plan := fleet.Assignment{
		Identity:    fleet.Identity{Serial: "S", UUID: "00112233-4455-6677-8899-aabbccddeeff"},
		InstallDisk: fleet.DiskRef{Serial: "D", WWN: "5000000000000001", SizeBytes: 100},
		Network:     fleet.Network{MAC: "52:54:00:00:00:01"},
	}
	good := func() fleet.Facts {
		return fleet.Facts{
			Identity: plan.Identity, NICs: []fleet.NIC{{MAC: "52:54:00:00:00:01"}, {MAC: "52:54:00:00:00:02"}},
			Disks: []fleet.Disk{{Serial: "E", WWN: "5000000000000002"}, {Serial: "D", WWN: "5000000000000001", SizeBytes: fleet.Known(int64(100))}},
		}
	}
	for name, c := range map[string]struct {
		change func(*fleet.Facts, *fleet.Assignment)
		want   fleet.Code
	}{
		"as planned":            {func(*fleet.Facts, *fleet.Assignment) {}, ""},
		"another machine":       {func(f *fleet.Facts, _ *fleet.Assignment) { f.Identity.Serial = "T" }, fleet.CodeIdentityMismatch},
		"nothing identifies it": {func(f *fleet.Facts, _ *fleet.Assignment) { f.Identity = fleet.Identity{} }, fleet.CodeIdentityMismatch},
		"disk gone":             {func(f *fleet.Facts, _ *fleet.Assignment) { f.Disks = f.Disks[:1] }, fleet.CodeDiskChanged},
		"disk twice":            {func(f *fleet.Facts, _ *fleet.Assignment) { f.Disks = append(f.Disks, f.Disks[1]) }, fleet.CodeDiskChanged},
		"disk of another size":  {func(f *fleet.Facts, _ *fleet.Assignment) { f.Disks[1].SizeBytes = fleet.Known(int64(99)) }, fleet.CodeDiskChanged},
		"disk removable":        {func(f *fleet.Facts, _ *fleet.Assignment) { f.Disks[1].Removable = true }, fleet.CodeDiskChanged},
		"disk of a pool":        {func(f *fleet.Facts, _ *fleet.Assignment) { f.Disks[1].Members = []string{"ZFS member"} }, fleet.CodeDiskForeign},
		"another site's system": {func(f *fleet.Facts, _ *fleet.Assignment) { f.Disks[1].Owner = "kobe" }, fleet.CodeDiskForeign},
		"given up by a person":  {func(f *fleet.Facts, a *fleet.Assignment) { f.Disks[1].Owner, a.Foreign = "kobe", "D" }, ""},
		"our own system":        {func(f *fleet.Facts, _ *fleet.Assignment) { f.Disks[1].Owner = "osaka" }, ""},
		"another disk is full":  {func(f *fleet.Facts, _ *fleet.Assignment) { f.Disks[0].Members = []string{"ZFS member"} }, ""},
		"port gone":             {func(f *fleet.Facts, _ *fleet.Assignment) { f.NICs = f.NICs[1:] }, fleet.CodeFactsDiffer},
		"bond port gone": {func(_ *fleet.Facts, a *fleet.Assignment) {
			a.Network.Bond = &fleet.Bond{MACs: []string{"52:54:00:00:00:01", "52:54:00:00:00:03"}}
		}, fleet.CodeFactsDiffer},
	} {
		t.Run(name, func(t *testing.T) {
			f, a := good(), plan
			c.change(&f, &a)
			cause := Fit("osaka", a, f)
			switch {
			case c.want == "" && cause != nil:
				t.Errorf("%+v, want no objection", cause)
			case c.want != "" && (cause == nil || cause.Code != c.want || cause.Kind != fleet.Conflict):
				t.Errorf("%+v, want %s", cause, c.want)
			}
		})
	}
	f := good()
	f.Identity.Serial, f.Disks, f.NICs = "T", nil, nil
	if cause := Fit("osaka", plan, f); cause == nil || len(cause.Chain) != 3 {
		t.Errorf("%+v, want all three differences at once", cause)
	}
}

// TestFullDiskStopsTheWorkNotTheRun: while nothing can be written down, nothing
// is done (the world panics at an act that is not in the journal); afterwards
// the run goes on by itself.
func TestFullDiskStopsTheWorkNotTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(3)
		for _, at := range []time.Duration{2 * time.Second, 40 * time.Second, 90 * time.Second} {
			time.AfterFunc(at, func() { w.full(true) })
			time.AfterFunc(at+20*time.Second, func() { w.full(false) })
		}
		wantInstalled(t, w, install(t, w, 2*time.Hour))
	})
}

func TestBlockedPlansAndExcludedServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlow(2)
		s.plan.Assignments[1].Role = fleet.Excluded
		if err := s.plan.Seal(); err != nil {
			t.Fatal(err)
		}
		e, ctx, end := s.start(t)
		if err := e.Apply(ctx, fleet.Consent{Plan: s.plan.ID, EraseDisks: 1}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if r := s.servers["SN002"]; r.written() != 0 || r.powerOffs != 0 || len(e.Overview().Servers) != 1 {
			t.Errorf("an excluded server was touched: %d writes, %d power cuts", r.written(), r.powerOffs)
		}
		end()

		s = newSlow(1)
		s.plan.Findings = []fleet.Finding{{Code: fleet.CodeNoInstallDisk, Severity: fleet.Blocker}}
		if err := s.plan.Seal(); err != nil {
			t.Fatal(err)
		}
		e, ctx, end = s.start(t)
		defer end()
		if err := e.Apply(ctx, fleet.Consent{Plan: s.plan.ID, EraseDisks: 1}); fleet.CodeOf(err) != fleet.CodePlanBlocked {
			t.Errorf("a blocked plan: %v, want %s", err, fleet.CodePlanBlocked)
		}
	})
}

// TestOrdersSayWhatWasPlanned reads the write order that a machine gets.
func TestOrdersSayWhatWasPlanned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlow(1)
		s.plan.Assignments[0].Foreign = "D-SN001"
		if err := s.plan.Seal(); err != nil {
			t.Fatal(err)
		}
		e, _, end := s.start(t)
		defer end()
		w := newWalker(e, e.newRun(s.plan, nil), s.plan.Assignments[0])
		w.track.Reached.ByMachine = "https://10.0.0.250:8443"
		o, err := w.writeLocked()
		if err != nil {
			t.Fatal(err)
		}
		if o.Disk != s.plan.Assignments[0].InstallDisk || o.Foreign != "D-SN001" || o.Owner != "osaka" || o.Image.SHA256 != "good" || !strings.HasPrefix(o.Image.Path, "/m/") {
			t.Errorf("%+v", o)
		}
	})
}
