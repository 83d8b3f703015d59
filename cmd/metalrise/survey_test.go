package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"metalrise.dev/fleet"
	"metalrise.dev/lab/machine"
	"metalrise.dev/lab/machine/fake"
	"metalrise.dev/lab/redfish"
	"metalrise.dev/provision/store"
)

// surveyed is one emulated BMC and a site file that names it.
func surveyed(t *testing.T, limits redfish.Limits) (lab *redfish.BMC, dir string) {
	t.Helper()
	spec := machine.Spec{
		Name: "s1", UUID: "5b1f2c3d-0a4b-4c5d-8e6f-7a8b9c0d1e2f", Serial: "SURVEY01", Vendor: "Contoso", Model: "R1", Firmware: "uefi", CPUs: 4, MemoryMiB: 8192, Dir: "unused",
		Disks: []machine.Disk{{Name: "disk0", Serial: "DSK0", WWN: "5000c500a0b1c2d3", Model: "LABDISK", SizeBytes: 64 << 30}},
		NICs:  []machine.NIC{{MAC: "52:54:00:00:00:01", Bridge: "br0"}},
	}
	lab, err := redfish.Start(t.Context(), redfish.Config{Listen: "127.0.0.1:0", Username: "admin", Password: "secret", Spec: spec,
		Hardware: fake.New(spec, nil), Dir: t.TempDir(), Personality: redfish.Standard(), Limits: limits})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lab.Close() })
	dir = t.TempDir()
	write(t, filepath.Join(dir, "pw"), "secret\n")
	write(t, filepath.Join(dir, "wrong"), "not-it\n")
	return lab, dir
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// siteText is a site file with the given lines under bmcs.
func siteText(bmcs string) string {
	return "apiVersion: metalrise.dev/v1alpha1\nkind: Site\nname: survey\nbmcs:\n" + bmcs + "network: {firstAddress: 10.0.1.21/24}\nimage: image\n"
}

// metalrise runs the program in this process.
func metalrise(t *testing.T, dir string, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	args = append(args, "--state", filepath.Join(dir, "state"))
	code = run(t.Context(), args, strings.NewReader(""), &o, &e)
	return code, o.String(), e.String()
}

// A process that is killed leaves a session on the BMC. The next one closes it.
func TestKilledSessionsAreClosed(t *testing.T) {
	lab, dir := surveyed(t, redfish.Limits{Sessions: 2})
	site := filepath.Join(dir, "site.yaml")
	write(t, site, siteText(fmt.Sprintf("  addresses: [%q]\n  username: admin\n  password: {file: pw}\n", lab.Addr())))
	if code, _, errs := metalrise(t, dir, "discover", "-f", site); code != 0 {
		t.Fatal(errs)
	}
	for round := range 2 { // as many as the BMC has sessions
		if err := lab.SetFault(redfish.Fault{Kind: redfish.Slow, Delay: 200 * time.Millisecond}); err != nil {
			t.Fatal(err)
		}
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(self)
		cmd.Args = []string{"metalrise", "inspect", "-f", site, "--state", filepath.Join(dir, "state")}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		waitOpened(t, filepath.Join(dir, "state"), round)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		<-ended
		lab.ClearFaults()
		if n := lab.Status().Sessions; n != 1 {
			t.Fatalf("round %d: %d sessions are left by the killed one", round, n)
		}
		if round == 0 {
			code, _, errs := metalrise(t, dir, "inspect", "-f", site)
			if code != 0 || lab.Status().Sessions != 0 {
				t.Errorf("exit %d, %d sessions left: %s", code, lab.Status().Sessions, errs)
			}
			continue
		}
		// An engine does it at its start.
		st, err := store.Open(filepath.Join(dir, "state"))
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		left, err := st.AllOpened(t.Context())
		if err != nil || len(left) != 1 {
			t.Fatalf("%d in the book, %v", len(left), err)
		}
		newDoor(st).forget(t.Context(), left, func(_ store.Opened, err error) {
			if err != nil {
				t.Error(err)
			}
		})
		if left, _ := st.AllOpened(t.Context()); len(left) != 0 || lab.Status().Sessions != 0 {
			t.Errorf("%d in the book, %d on the BMC", len(left), lab.Status().Sessions)
		}
	}
}

func waitOpened(t *testing.T, state string, round int) {
	t.Helper()
	for range 400 {
		if st, err := store.OpenReader(state); err == nil {
			left, err := st.AllOpened(t.Context())
			_ = st.Close()
			if err == nil && len(left) == 1 {
				return
			}
		}
		time.Sleep(25 * time.Millisecond)
	}
	t.Fatalf("round %d: no session was written down", round)
}

// Logins are tried in order until one works; the one that worked goes first
// from then on, and no account gets more refusals than it must.
func TestLoginsAreTriedInOrder(t *testing.T) {
	lab, dir := surveyed(t, redfish.Limits{})
	site := filepath.Join(dir, "site.yaml")
	write(t, site, siteText(fmt.Sprintf(`  addresses: [%q]
  username: root
  password: {file: wrong}
  credentials:
    - {username: ADMIN, password: {file: wrong}}
    - {username: admin, password: {file: pw}}
`, lab.Addr())))
	if code, _, errs := metalrise(t, dir, "discover", "-f", site); code != 0 {
		t.Fatal(errs)
	}
	code, out, errs := metalrise(t, dir, "inspect", "-f", site, "--output", "json")
	if code != 0 || !strings.Contains(out, "SURVEY01") {
		t.Fatalf("exit %d: %s", code, errs)
	}
	st, err := store.OpenReader(filepath.Join(dir, "state"))
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	servers, err := st.Servers(t.Context())
	var kept fleet.Server
	for _, v := range servers {
		if v.ID == "SURVEY01" {
			kept = v
		}
	}
	if err != nil || kept.BMC.Username != "admin" || !strings.HasSuffix(kept.BMC.Password.File, "pw") {
		t.Errorf("%+v, %v", servers, err)
	}
	s, _, err := (&options{streams: &streams{}, file: site}).loadSite()
	if err != nil {
		t.Fatal(err)
	}
	found, err := st.Found(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	at := endpoints(s, found)
	if len(at) != 1 || at[0].Username != "admin" || len(at[0].Fallback) != 2 || found[lab.Addr()].Behind != "server" {
		t.Errorf("next time: %+v; found %+v", at, found)
	}
}

// Three passwords for one name: only two are tried, because the BMC counts
// refusals by name.
func TestOneNameIsRefusedTwiceAtMost(t *testing.T) {
	lab, dir := surveyed(t, redfish.Limits{})
	d := newDoor(nil)
	at := fleet.Endpoint{Address: lab.Addr(), Username: "admin", Password: fleet.SecretRef{File: filepath.Join(dir, "wrong")}}
	t.Setenv("ALSO_WRONG", "no")
	at.Fallback = []fleet.Credential{{Username: "admin", Password: fleet.SecretRef{Env: "ALSO_WRONG"}}, {Username: "admin", Password: fleet.SecretRef{File: filepath.Join(dir, "pw")}}}
	for range 3 {
		_, _, err := d.login(t.Context(), at, true)
		if fleet.KindOf(err) != fleet.Denied || !strings.Contains(err.Error(), "is not tried") || strings.Contains(err.Error(), "not-it") {
			t.Errorf("%v", err)
		}
	}
	if n := lab.Status().Sessions; n != 0 {
		t.Errorf("%d sessions", n)
	}
}

// A list gives each BMC its own login, its server a role and a place.
func TestImportedList(t *testing.T) {
	lab, dir := surveyed(t, redfish.Limits{})
	site := filepath.Join(dir, "site.yaml")
	write(t, filepath.Join(dir, "rack.csv"), "address,user,password,role,position\n"+lab.Addr()+",admin,file:pw,excluded,R7 U12\n")
	write(t, site, siteText("  import: rack.csv\n"))
	code, out, errs := metalrise(t, dir, "discover", "-f", site)
	if code != 0 || !strings.Contains(out, "R7 U12") {
		t.Fatalf("exit %d: %s%s", code, out, errs)
	}
	if code, _, errs := metalrise(t, dir, "inspect", "-f", site); code != 0 {
		t.Fatal(errs)
	}
	_, out, errs = metalrise(t, dir, "plan", "-f", site)
	if !strings.Contains(out, "excluded") {
		t.Errorf("the role of the list is not in the plan: %s%s", out, errs)
	}
	if code, _, errs := metalrise(t, dir, "discover", "--csv", filepath.Join(dir, "wrong")); code != exitFindings || !strings.Contains(errs, "SITE-001") {
		t.Errorf("exit %d: %s", code, errs)
	}
}

// An interrupted discovery says how to go on, and goes on.
func TestDiscoverResumes(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, errs bytes.Buffer
	args := []string{"discover", "127.93.0.0/24", "--state", filepath.Join(dir, "state")}
	if code := run(ctx, args, strings.NewReader(""), &out, &errs); code != exitInterrupted || !strings.Contains(errs.String(), "--resume") {
		t.Errorf("exit %d: %s", code, errs.String())
	}
	code, text, _ := metalrise(t, dir, "discover", "127.93.0.0/24", "--resume", "--output", "json")
	if code != 0 || !strings.Contains(text, `"asked": 254`) || !strings.Contains(text, `"silent": 254`) {
		t.Errorf("exit %d: %s", code, text)
	}
	if code := run(t.Context(), []string{"discover", "127.93.0.1", "--resume"}, strings.NewReader(""), &out, &errs); code != exitUsage {
		t.Errorf("resume without a state: exit %d", code)
	}
}

// Servers behind one BMC share its session; the last one ends it.
func TestOneSessionForOneBMC(t *testing.T) {
	lab, dir := surveyed(t, redfish.Limits{Sessions: 1})
	st, err := store.Open(filepath.Join(dir, "state"))
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	s := newShared(newDoor(st))
	at := fleet.Endpoint{Address: lab.Addr(), Fingerprint: lab.Fingerprint(), Username: "admin", Password: fleet.SecretRef{File: filepath.Join(dir, "pw")}}
	for range 2 {
		var guests [6]*guest
		var group sync.WaitGroup
		for i := range guests {
			group.Go(func() {
				var err error
				if guests[i], err = s.dial(t.Context(), at); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		for i, g := range guests {
			if lab.Status().Sessions != 1 {
				t.Errorf("%d sessions while guest %d is there", lab.Status().Sessions, i)
			}
			if _, err := g.Look(t.Context(), "/redfish/v1/Systems/"+lab.SystemID()); err != nil {
				t.Error(err)
			}
			if err := errors.Join(g.Close(), g.Close()); err != nil {
				t.Error(err)
			}
		}
		if left, _ := st.AllOpened(t.Context()); lab.Status().Sessions != 0 || len(left) != 0 {
			t.Errorf("%d sessions, %d in the book", lab.Status().Sessions, len(left))
		}
	}
	bad := at
	bad.Password.File = filepath.Join(dir, "wrong")
	for range 4 {
		if _, err := s.dial(t.Context(), bad); fleet.KindOf(err) != fleet.Denied {
			t.Errorf("%v", err)
		}
	}
	if g, err := s.dial(t.Context(), at); err != nil {
		t.Errorf("after refusals: %v", err)
	} else if err := g.Close(); err != nil {
		t.Error(err)
	}
}
