package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"metalrise.dev/fleet"
)

// TestRealSiteISO starts two machines from one medium with nobody at a BMC: the
// one that the plan names is installed, once, and the other one is left alone and
// says so. No virtual medium of the engine is used.
func TestRealSiteISO(t *testing.T) {
	r := newRack(t, "siteiso", 2)
	text, err := os.ReadFile(r.site)
	if err != nil {
		t.Fatal(err)
	}
	text = append(text, "\nserving:\n  port: 18555\nservers:\n  - serial: LAB0002\n    role: excluded\n"...)
	if err := os.WriteFile(r.site, text, 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "site.iso")
	if _, code := r.try("iso", "build", "--to", file); code == 0 {
		t.Fatal("a medium was made without a plan")
	}
	r.planned(1)
	begin := time.Now()
	t.Logf("%s", r.must("iso", "build", "--to", file))
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v %v", info, err)
	}
	t.Logf("%d MiB made in %.1f s", info.Size()>>20, time.Since(begin).Seconds())
	if _, code := r.try("serve", "--erase-disks", "2"); code != exitDenied {
		t.Errorf("serve with the wrong number of disks: exit %d", code)
	}
	var log bytes.Buffer
	serve := exec.Command(r.bin, "serve", "--erase-disks", "1", "-f", r.site, "--state", r.state)
	serve.Stdout, serve.Stderr = &log, &log
	if err := serve.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { r.try("stop"); _ = serve.Wait(); t.Logf("serve said:\n%s", log.String()) }()
	v := r.await(time.Minute, "the engine serves", func(v fleet.Overview) bool { return v.Engine && len(v.Servers) == 1 })
	t.Logf("%s: %s", v.Servers[0].Server, v.Servers[0].Step)
	begin = time.Now()
	for _, s := range r.labView().Servers {
		r.bootByHand(fleet.Status{BMC: s.BMC}, s.Name, file)
	}
	v = r.await(5*time.Minute, "the planned server is installed", allSettled)
	t.Logf("installed after %s: %+v", time.Since(begin).Round(time.Second), v.Servers[0])
	if v.Servers[0].Route != fleet.USB || v.Servers[0].Phase != fleet.Installed {
		t.Errorf("%+v", v.Servers[0])
	}
	console := func(name string) string {
		b, err := os.ReadFile(filepath.Join(filepath.Dir(r.site), "servers", name, "console.log"))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for _, want := range []string{"this machine is LAB0001", "told to write"} {
		if !strings.Contains(console("n1"), want) {
			t.Errorf("the console of the planned machine does not show %q", want)
		}
	}
	const left = "this machine (serial LAB0002"
	r.happens(time.Minute, "the other machine says that it is left alone", func() bool { return strings.Contains(console("n2"), left) })
	i := strings.Index(console("n2"), left)
	t.Logf("n2: %s", strings.SplitN(console("n2")[max(0, i-80):], "\n", 3))
	for _, e := range r.events() {
		if e.Action == fleet.ActInsert || e.Action == fleet.ActPowerOn || e.Action == fleet.ActPowerOff || e.Action == fleet.ActBootOnce {
			t.Errorf("the engine drove a BMC: %+v", e)
		}
	}
	r.installedOnce()
}
