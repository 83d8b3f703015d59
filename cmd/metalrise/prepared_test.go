package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"metalrise.dev/agent"
	"metalrise.dev/fleet"
	"metalrise.dev/fleet/site"
	"metalrise.dev/ignition"
	"metalrise.dev/provision"
	"metalrise.dev/provision/store"
)

const testBuild = "00112233445566778899aabbccddeeff"

// testMedium is a small prepared medium behind 1 MiB of something else.
func testMedium(t *testing.T) (path string, ref mediumRef) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "medium")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	a, err := newAppendix(f, 1<<20, testBuild)
	if err != nil {
		t.Fatal(err)
	}
	software := strings.Repeat("software ", 10_000)
	for _, c := range []struct {
		name, text string
		pack       bool
	}{{contentProgram, "program", false}, {hexDigest([]byte(software)), software, true}, {contentDisk, strings.Repeat("disk", 1000), false}} {
		if err := a.add(t.Context(), c.name, strings.NewReader(c.text), hexDigest([]byte(c.text)), int64(len(c.text)), c.pack); err != nil {
			t.Fatal(err)
		}
	}
	x := mediumIndex{Build: testBuild, Site: testSite, Image: fleet.ImageRef{Stream: "test", Version: "1", ISOSHA256: strings.Repeat("a", 64), DiskSHA256: strings.Repeat("b", 64), DiskBytes: 1 << 20}}
	ref = mediumRef{Build: testBuild, Offset: 1 << 20, Program: a.list[0]}
	size := int64(0)
	if ref.Index, size, err = a.close(&x); err != nil {
		t.Fatal(err)
	}
	if info, err := f.Stat(); err != nil || info.Size() != size || size%2048 != 0 {
		t.Fatalf("size %d, told %d, %v", info.Size(), size, err)
	}
	return path, ref
}

const testSite = `apiVersion: metalrise.dev/v1alpha1
kind: Site
name: edge
network: {firstAddress: 10.0.1.21/24}
image: /nowhere
`

func TestMedium(t *testing.T) {
	path, ref := testMedium(t)
	m, err := openMedium(path, ref.Offset, ref)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	packed := m.Contents[1]
	if packed.Stored >= packed.Bytes || m.carried() != m.Contents[2].At {
		t.Errorf("%+v", m.Contents)
	}
	to := filepath.Join(t.TempDir(), "out")
	if err := m.unpack(t.Context(), packed, to); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(to); err != nil || hexDigest(b) != packed.SHA256 {
		t.Errorf("%v, %d bytes", err, len(b))
	}
	if b, err := io.ReadAll(m.section(m.Contents[2])); err != nil || string(b) != strings.Repeat("disk", 1000) {
		t.Errorf("%v, %.20q", err, b)
	}
	other := ref
	other.Build = strings.Repeat("f", 32)
	if _, err := openMedium(path, ref.Offset, other); err == nil || !strings.Contains(err.Error(), "another") {
		t.Errorf("another medium: %v", err)
	}
}

func TestDamagedMedium(t *testing.T) {
	for name, c := range map[string]struct {
		at   func(mediumRef) int64
		want string
	}{
		"index":   {func(r mediumRef) int64 { return r.Offset + r.Index.At + 5 }, "digest"},
		"content": {func(r mediumRef) int64 { return r.Offset + 2*appendixHead + 20 }, ""},
	} {
		path, ref := testMedium(t)
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte{0xee}, c.at(ref)); err != nil {
			t.Fatal(err)
		}
		f.Close()
		m, err := openMedium(path, ref.Offset, ref)
		if c.want != "" {
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(t.TempDir(), "out")
		if err := m.unpack(t.Context(), m.Contents[1], to); err == nil {
			t.Errorf("%s: unpacked all the same", name)
		}
		if left, _ := os.ReadDir(filepath.Dir(to)); len(left) > 0 {
			t.Errorf("%s: %v is left", name, left)
		}
		m.Close()
	}
}

func TestAppendixWantsWhatWasVerified(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "medium"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	a, err := newAppendix(f, 0, testBuild)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.add(t.Context(), "x", strings.NewReader("other"), hexDigest([]byte("this")), 4, true); fleet.CodeOf(err) != fleet.CodeImageCorrupt {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.add(ctx, "x", strings.NewReader("this"), "", -1, false); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// TestCarry gives a system what it needs: with room for the medium and without,
// and in the two layouts that root file systems have.
func TestCarry(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("skipped: needs root")
	}
	path, ref := testMedium(t)
	m, err := openMedium(path, ref.Offset, ref)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	state := t.TempDir()
	st, err := store.Open(state)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	if _, err := st.Secret("tokens"); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		size, inside string
		copied       bool
	}{
		"room":          {"256m", "var", true},
		"ostree":        {"256m", "ostree/deploy/os/var", true},
		"hardly enough": {"64m", "var", false},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			if err := unix.Mount("tmpfs", root, "tmpfs", 0, "size="+c.size); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = unix.Unmount(root, unix.MNT_DETACH) }()
			if err := os.MkdirAll(filepath.Join(root, c.inside), 0o755); err != nil {
				t.Fatal(err)
			}
			said := ""
			for range 2 { // an agent that was started again carries again
				if err := carryInto(t.Context(), m, ref, state, root, func(s string) { said = s }); err != nil {
					t.Fatal(err)
				}
			}
			dir := filepath.Join(root, c.inside, "lib/metalrise/prepared")
			for _, file := range []string{"pending", "site.yaml", "site/state.db", "site/secrets/tokens"} {
				if info, err := os.Stat(filepath.Join(dir, file)); err != nil || info.Mode().Perm() != 0o600 {
					t.Errorf("%s: %v", file, err)
				}
			}
			again, err := openMedium(filepath.Join(dir, "medium"), 0, ref)
			if c.copied != (err == nil) || c.copied == strings.Contains(said, "leave it in") {
				t.Fatalf("copy: %v; said %q", err, said)
			}
			if !c.copied {
				return
			}
			defer again.Close()
			if err := again.unpack(t.Context(), again.Contents[1], filepath.Join(root, "out")); err != nil || !again.isCopy() {
				t.Error(err)
			}
		})
	}
}

type fakeAgent struct{ on bool }

func (a *fakeAgent) Running(context.Context) (bool, error) { return a.on, nil }
func (a *fakeAgent) Start(context.Context) error           { a.on = true; return nil }
func (a *fakeAgent) Stop(context.Context) error            { a.on = false; return nil }

func TestOwnMachine(t *testing.T) {
	id := fleet.NewIdentity("", "SN1")
	a := &fakeAgent{}
	m := &ownMachine{identity: func() fleet.Identity { return id }, agent: a, engine: &atomic.Pointer[provision.Engine]{}}
	look := func() provision.Sight {
		s, err := m.Look(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if s := look(); s.Power != fleet.PowerOff || s.Identity != id {
		t.Errorf("at first: %+v", s)
	}
	if err := errors.Join(m.BootOnce(t.Context()), m.Power(t.Context(), fleet.PowerOn)); err != nil {
		t.Fatal(err)
	}
	if s := look(); s.Power != fleet.PowerOn || !s.BootOnce || !a.on {
		t.Errorf("switched on: %+v", s)
	}
	if err := errors.Join(m.Eject(t.Context()), m.Power(t.Context(), fleet.PowerOff)); err != nil || a.on {
		t.Errorf("switched off: %v", err)
	}
	m.agent = nil // the installed system
	if s := look(); s.Power != fleet.PowerOn || s.Media != "" {
		t.Errorf("installed: %+v", s)
	}
	if err := m.Power(t.Context(), fleet.PowerOff); fleet.KindOf(err) != fleet.Unsupported {
		t.Errorf("switched off under its own engine: %v", err)
	}
}

func testPreparing(t *testing.T, server fleet.Identity) *preparing {
	t.Helper()
	path, ref := testMedium(t)
	m, err := openMedium(path, ref.Offset, ref)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	m.Server = server
	f, findings := site.Read(strings.NewReader(m.Site), "site.yaml")
	if len(findings) == 0 || len(withoutBMCs(findings)) > 0 {
		t.Fatalf("of %d findings %v are not about BMCs", len(findings), withoutBMCs(findings))
	}
	return &preparing{options: &options{streams: &streams{out: io.Discard, errs: io.Discard}}, ref: ref, medium: m, file: f, host: agent.NewHost(t.TempDir())}
}

func testFacts() fleet.Facts {
	return fleet.Facts{Source: fleet.SeenByAgent, At: time.Now(), Identity: fleet.NewIdentity("", "SN1"), MemoryMiB: fleet.Known(int64(8192)),
		NICs:         []fleet.NIC{{MAC: "52:54:00:00:00:01", Link: fleet.Known(true)}},
		Disks:        []fleet.Disk{{Serial: "D1", SizeBytes: fleet.Known(int64(20 << 30)), Media: fleet.MediaSSD}},
		VirtualMedia: []fleet.MediaSlot{{URI: "/dev/sr0", MediaTypes: []string{"CD"}, How: "action"}}}
}

// TestPreparedPlan holds the plan of a machine's own engine to the medium.
func TestPreparedPlan(t *testing.T) {
	for name, c := range map[string]struct {
		server  fleet.Identity
		change  func(*fleet.Facts)
		blocked fleet.Code
	}{
		"any machine":    {},
		"the one named":  {server: fleet.NewIdentity("", "SN1")},
		"another one":    {server: fleet.NewIdentity("", "SN2"), blocked: fleet.CodeIdentityMismatch},
		"another's disk": {change: func(f *fleet.Facts) { f.Disks[0].Owner = "oslo" }, blocked: fleet.CodeDiskForeign},
		"our own disk":   {change: func(f *fleet.Facts) { f.Disks[0].Owner = "edge" }},
		"no disk":        {change: func(f *fleet.Facts) { f.Disks = nil }, blocked: fleet.CodeNoInstallDisk},
		"no identity":    {change: func(f *fleet.Facts) { f.Identity = fleet.Identity{} }, blocked: fleet.CodeNoIdentity},
	} {
		p, facts := testPreparing(t, c.server), testFacts()
		if c.change != nil {
			c.change(&facts)
		}
		planned, err := p.plan(facts)
		if err != nil {
			t.Fatal(err)
		}
		codes := ""
		for _, f := range planned.Findings {
			if f.Severity == fleet.Blocker {
				codes += string(f.Code) + " "
			}
		}
		if planned.Blocked() != (c.blocked != "") || !strings.Contains(codes, string(c.blocked)) || planned.ID == "" {
			t.Errorf("%s: blockers %q, want %q", name, codes, c.blocked)
		}
		if c.blocked == "" && (len(planned.ErasedDisks()) != 1 || planned.Assignments[0].Role != fleet.SingleNode) {
			t.Errorf("%s: %+v", name, planned.Assignments)
		}
	}
}

// TestForeseen finds at building what would stop every machine, and nothing that
// only the machine can tell.
func TestForeseen(t *testing.T) {
	p := testPreparing(t, fleet.Identity{})
	x := p.medium.mediumIndex
	if found, err := foreseen(p.file, &x); err != nil || len(found) > 0 {
		t.Errorf("of a good site: %+v, %v", found, err)
	}
	x.Image = fleet.ImageRef{}
	found, err := foreseen(p.file, &x)
	if err != nil || len(found) != 1 || found[0].Code != fleet.CodeImageMissing {
		t.Errorf("without an image: %+v, %v", found, err)
	}
}

func TestConsentToErase(t *testing.T) {
	named := fleet.NewIdentity("", "SN1")
	for name, c := range map[string]struct {
		server       fleet.Identity
		given, typed string
		want         fleet.Code
	}{
		"any, typed":          {fleet.Identity{}, "", "any\n", ""},
		"any, by flag":        {fleet.Identity{}, "any", "", ""},
		"any, something else": {fleet.Identity{}, "", "yes\n", fleet.CodeConsentMismatch},
		"any, nobody there":   {fleet.Identity{}, "", "", fleet.CodeConsentMissing},
		"named, typed":        {named, "", "SN1\n", ""},
		"named, any":          {named, "any", "", fleet.CodeConsentMismatch},
		"named, no line end":  {named, "", "SN1", ""},
	} {
		var said bytes.Buffer
		o := &options{streams: &streams{in: strings.NewReader(c.typed), errs: &said}}
		if err := o.consentToErase(c.server, c.given); fleet.CodeOf(err) != c.want && !(err == nil && c.want == "") {
			t.Errorf("%s: %v", name, err)
		}
		if c.given == "" && !strings.Contains(said.String(), "erases") {
			t.Errorf("%s: it was not said what is consented to: %q", name, said.String())
		}
	}
}

func TestSingleServer(t *testing.T) {
	for name, c := range map[string]struct {
		site fleet.Site
		want fleet.ServerID
		ok   bool
	}{
		"none":   {fleet.Site{}, "", true},
		"one":    {fleet.Site{Servers: []fleet.Override{{Serial: "SN1"}}}, "SN1", true},
		"two":    {fleet.Site{Servers: []fleet.Override{{Serial: "SN1"}, {Serial: "SN2"}}}, "", false},
		"three":  {fleet.Site{Cluster: fleet.Cluster{ControlPlanes: 3}}, "", false},
		"a vip":  {fleet.Site{Cluster: fleet.Cluster{VIP: "10.0.1.9"}}, "", false},
		"1 only": {fleet.Site{Cluster: fleet.Cluster{ControlPlanes: 1}}, "", true},
	} {
		id, err := singleServer(c.site)
		if (err == nil) != c.ok || id.ID() != c.want {
			t.Errorf("%s: %v, %v", name, id, err)
		}
	}
}

// TestMediumTellsIgnitionEnough renders the config of a real medium.
func TestMediumTellsIgnitionEnough(t *testing.T) {
	_, ref := testMedium(t)
	raw, err := ignition.PreparedLive(ref.describe(), fleet.Access{}, "")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(raw, []byte(testBuild)) {
		t.Error("the config does not name the medium")
	}
}
