package bmc_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"metalrise.dev/bmc"
	"metalrise.dev/fleet"
	"metalrise.dev/lab/machine"
	"metalrise.dev/lab/machine/fake"
	"metalrise.dev/lab/redfish"
)

func labSpec() machine.Spec {
	return machine.Spec{
		Name: "b1", UUID: "5b1f2c3d-0a4b-4c5d-8e6f-7a8b9c0d1e2f", Serial: "BMCTEST01", Vendor: "Contoso", Model: "R1",
		Firmware: "uefi", CPUs: 4, MemoryMiB: 8192, Dir: "unused",
		Disks: []machine.Disk{
			{Name: "disk0", Serial: "DSK0", WWN: "5000c500a0b1c2d3", Model: "LABDISK", SizeBytes: 64 << 30},
			{Name: "disk1", Serial: "DSK1", WWN: "5000c500a0b1c2d4", Model: "LABDISK", SizeBytes: 32 << 30, Rotating: true},
		},
		NICs: []machine.NIC{{MAC: "52:54:00:00:00:01", Bridge: "br0"}, {MAC: "52:54:00:00:00:02"}},
	}
}

func startLab(t *testing.T, p redfish.Personality, limits redfish.Limits) (*redfish.BMC, bmc.Login) {
	t.Helper()
	b, err := redfish.Start(t.Context(), redfish.Config{
		Listen: "127.0.0.1:0", Username: "admin", Password: "secret", Spec: labSpec(),
		Hardware: fake.New(labSpec(), nil), Dir: t.TempDir(), Personality: p, Limits: limits,
		Delays: redfish.Delays{PowerOn: 20 * time.Millisecond, PowerOff: 20 * time.Millisecond},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b, bmc.Login{
		Endpoint: fleet.Endpoint{Address: b.Addr(), Fingerprint: b.Fingerprint(), Username: "admin"},
		Password: "secret",
		Options:  bmc.Options{Poll: 5 * time.Millisecond, Settle: 10 * time.Second},
	}
}

// image serves a small medium.
func image(t *testing.T) string {
	t.Helper()
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { // iRMC loads over https alone
		http.ServeContent(w, r, "live.iso", time.Time{}, strings.NewReader(strings.Repeat("medium", 1000)))
	}))
	t.Cleanup(srv.Close)
	return srv.URL + "/media/abc/live.iso"
}

// must fails unless err is nil.
func must(t *testing.T, doing string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", doing, err)
	}
}

func TestLabCycle(t *testing.T) {
	for _, p := range redfish.Personalities() {
		t.Run(p.Name, func(t *testing.T) {
			lab, login := startLab(t, p, redfish.Limits{})
			ctx := t.Context()
			s, err := bmc.Dial(ctx, login)
			must(t, "dial", err)
			systems, err := s.Systems(ctx)
			must(t, "systems", err)
			if len(systems) != 1 || systems[0].Kind != bmc.IsServer || systems[0].Identity.Serial != "BMCTEST01" {
				t.Fatalf("systems: %+v", systems)
			}
			uri := systems[0].URI
			checkLabFacts(t, s, uri)

			t.Logf("dial, systems, inspect: %+v", s.Stats())
			iso := image(t)
			must(t, "insert", s.Insert(ctx, uri, iso))
			must(t, "insert again", s.Insert(ctx, uri, iso))
			must(t, "boot once", s.BootOnce(ctx, uri, bmc.Cd))
			must(t, "on", s.Power(ctx, uri, bmc.On))
			must(t, "wait on", s.WaitPower(ctx, uri, fleet.PowerOn))
			must(t, "on again", s.Power(ctx, uri, bmc.On))
			sight, err := s.Look(ctx, uri)
			must(t, "look", err)
			if sight.Power.Or("") != fleet.PowerOn || !slices.ContainsFunc(sight.Media, func(m bmc.MediaState) bool { return m.Inserted && m.Image == iso }) {
				t.Errorf("sight after start: %+v", sight)
			}
			waitFor(t, "a boot from the medium", func() bool { return lab.Status().LastBoot.Kind == machine.FromMedia })
			must(t, "eject", s.Eject(ctx, uri))
			must(t, "eject again", s.Eject(ctx, uri))
			must(t, "restart", s.Power(ctx, uri, bmc.Restart))
			waitFor(t, "a boot from disk", func() bool { return lab.Status().LastBoot.Kind == machine.FromDisk })
			must(t, "off", s.Power(ctx, uri, bmc.ForceOff))
			must(t, "wait off", s.WaitPower(ctx, uri, fleet.PowerOff))
			must(t, "off again", s.Power(ctx, uri, bmc.ForceOff))
			sight, err = s.Look(ctx, uri)
			must(t, "look", err)
			for _, m := range sight.Media {
				if m.Inserted {
					t.Errorf("medium after eject: %+v", m)
				}
			}
			t.Logf("whole cycle: %+v", s.Stats())
			must(t, "close", s.Close())
			if n := lab.Status().Sessions; n != 0 {
				t.Errorf("%d sessions left", n)
			}
		})
	}
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 1000 {
		if ok() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("never saw %s", what)
}

func checkLabFacts(t *testing.T, s *bmc.Session, uri string) {
	t.Helper()
	f, err := s.Inspect(t.Context(), uri)
	must(t, "inspect", err)
	if len(f.Problems) > 0 {
		t.Errorf("problems: %+v", f.Problems)
	}
	spec := labSpec()
	if f.Identity != fleet.NewIdentity(spec.UUID, spec.Serial) || f.MemoryMiB.Or(0) != 8192 || f.CPU.Threads.Or(0) != 4 ||
		f.Power.Or("") != fleet.PowerOff || f.BootMode.Or("") != "uefi" || !f.CPU.Virtualization.Or(false) {
		t.Errorf("facts: %+v", f)
	}
	if len(f.NICs) != 2 || f.NICs[0].MAC != spec.NICs[0].MAC || f.NICs[1].MAC != spec.NICs[1].MAC {
		t.Errorf("nics: %+v", f.NICs)
	}
	if len(f.Disks) != 2 || f.Disks[0].WWN != spec.Disks[0].WWN || f.Disks[0].Serial != "DSK0" || f.Disks[0].Media != fleet.MediaSSD ||
		f.Disks[1].Media != fleet.MediaHDD || f.Disks[1].SizeBytes.Or(0) != 32<<30 {
		t.Errorf("disks: %+v", f.Disks)
	}
	usable := 0
	for _, m := range f.VirtualMedia {
		if m.How == "action" || m.How == "patch" {
			usable++
		}
	}
	if usable == 0 || len(f.ResetTypes) == 0 || len(f.BootTargets) == 0 {
		t.Errorf("media %+v, reset types %v, boot targets %v", f.VirtualMedia, f.ResetTypes, f.BootTargets)
	}
}

func TestLabFaults(t *testing.T) {
	lab, login := startLab(t, redfish.Standard(), redfish.Limits{})
	ctx := t.Context()
	s, err := bmc.Dial(ctx, login)
	must(t, "dial", err)
	defer s.Close()
	uri := "/redfish/v1/Systems/" + lab.SystemID()
	arm := func(f redfish.Fault) { t.Helper(); must(t, "arm", lab.SetFault(f)) }

	arm(redfish.Fault{Kind: redfish.SessionsLost})
	if _, err := s.Look(ctx, uri); err != nil {
		t.Errorf("sessions lost: %v", err)
	}
	arm(redfish.Fault{Kind: redfish.LoseReply, Method: http.MethodPost, Path: "*Reset", Times: 1})
	if err := s.Power(ctx, uri, bmc.On); fleet.KindOf(err) != fleet.UnsureKind {
		t.Errorf("lost reply to power on: %v", err)
	}
	must(t, "it was done all the same", s.WaitPower(ctx, uri, fleet.PowerOn))
	lab.ClearFaults()

	arm(redfish.Fault{Kind: redfish.MediaDownloadFails, Times: 1})
	err = s.Insert(ctx, uri, image(t))
	if err == nil {
		t.Error("insert succeeded though the download failed")
	}
	t.Logf("download fails: %v (%s, %s)", err, fleet.CodeOf(err), fleet.KindOf(err))
	must(t, "insert", s.Insert(ctx, uri, image(t)))

	arm(redfish.Fault{Kind: redfish.EjectFails, Times: 1})
	if err := s.Eject(ctx, uri); err == nil {
		t.Error("eject succeeded though it failed")
	}
	lab.ClearFaults()
	must(t, "eject", s.Eject(ctx, uri))

	arm(redfish.Fault{Kind: redfish.Busy, Times: 2})
	if _, err := s.Look(ctx, uri); err != nil {
		t.Errorf("busy twice: %v", err)
	}
}

func TestLabWrongPasswordIsTriedOnce(t *testing.T) {
	_, login := startLab(t, redfish.Standard(), redfish.Limits{LockoutThreshold: 2})
	good := login.Password
	login.Password = "not-it"
	_, err := bmc.Dial(t.Context(), login)
	if fleet.CodeOf(err) != fleet.CodeBMCLoginRefused || fleet.KindOf(err) != fleet.Denied || strings.Contains(err.Error(), "not-it") {
		t.Errorf("wrong password: %v", err)
	}
	login.Password = good
	s, err := bmc.Dial(t.Context(), login) // would be locked out had two logins been tried
	must(t, "dial", err)
	must(t, "close", s.Close())
}

func TestLabForget(t *testing.T) {
	lab, login := startLab(t, redfish.Standard(), redfish.Limits{})
	s, err := bmc.Dial(t.Context(), login)
	must(t, "dial", err)
	location := s.Location()
	if lab.Status().Sessions != 1 || location == "" {
		t.Fatalf("sessions %d, location %q", lab.Status().Sessions, location)
	}
	must(t, "forget", bmc.Forget(t.Context(), login, location))
	must(t, "forget again", bmc.Forget(t.Context(), login, location))
	if n := lab.Status().Sessions; n != 0 {
		t.Errorf("%d sessions left", n)
	}
}

func TestLabForgetWhenNoSessionIsFree(t *testing.T) {
	lab, login := startLab(t, redfish.Standard(), redfish.Limits{Sessions: 1})
	s, err := bmc.Dial(t.Context(), login)
	must(t, "dial", err)
	if _, err := bmc.Dial(t.Context(), login); fleet.CodeOf(err) != fleet.CodeBMCSessionLimit || fleet.KindOf(err) != fleet.Transient {
		t.Errorf("second session: %v", err)
	}
	must(t, "forget", bmc.Forget(t.Context(), login, s.Location()))
	if n := lab.Status().Sessions; n != 0 {
		t.Errorf("%d sessions left", n)
	}
}

func TestLabProbe(t *testing.T) {
	lab, _ := startLab(t, redfish.Standard(), redfish.Limits{})
	f, err := bmc.Probe(t.Context(), lab.Addr())
	must(t, "probe", err)
	if f.What != bmc.RedfishService || f.Fingerprint != lab.Fingerprint() || f.RedfishVersion == "" {
		t.Errorf("found: %+v", f)
	}
}
