package main

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"metalrise.dev/fleet"
)

// TestRealRules starts two machines that nobody planned for from the site's
// medium, in a segment with a DHCP server of somebody else: one matches a rule and
// is enrolled and shown, the other one is shown; nothing is installed. After a plan
// and consent the first one goes on by itself and is installed, without another
// start; the second one is still only looked at.
func TestRealRules(t *testing.T) {
	r := newRack(t, "rules", 2)
	t.Cleanup(func() {
		for _, n := range []string{"n1", "n2"} {
			if b, err := os.ReadFile(filepath.Join(filepath.Dir(r.site), "servers", n, "console.log")); err == nil && t.Failed() {
				t.Logf("console of %s:\n%s", n, b[max(0, len(b)-4000):])
			}
		}
	})
	var lab struct {
		Bridge, Network string
		Servers         []struct{ Name, MAC, BMC string }
	}
	if err := json.Unmarshal([]byte(r.must("lab", "status", "--name", r.lab, "--output", "json")), &lab); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(r.site)
	if err != nil {
		t.Fatal(err)
	}
	bmcs := regexp.MustCompile(`(?m)^bmcs:\n(?: .*\n)+`)
	bare := bmcs.ReplaceAll(text, nil)
	bare = append(bare, "\nserving:\n  port: 18556\nrules:\n  - {name: first, role: control-plane, match: {macPrefix: \""+lab.Servers[0].MAC+"\", disks: 1}}\n"...)
	site := r.site
	r.site = filepath.Join(filepath.Dir(site), "rules.yaml")
	t.Cleanup(func() { _ = os.Remove(r.site) }) // else the lab's folder stays
	if err := os.WriteFile(r.site, bare, 0o600); err != nil {
		t.Fatal(err)
	}
	r.dhcp(lab.Bridge, lab.Network)
	file := filepath.Join(t.TempDir(), "site.iso")
	t.Logf("%s", r.must("iso", "build", "--to", file))
	serve := r.serves()
	r.await(time.Minute, "the engine serves", func(v fleet.Overview) bool { return v.Engine })
	r.site = site // its password is that of the BMCs, for the hand that inserts the medium
	for _, s := range lab.Servers {
		r.bootByHand(fleet.Status{BMC: s.BMC}, s.Name, file)
	}
	r.site = filepath.Join(filepath.Dir(site), "rules.yaml")
	begin := time.Now()
	v := r.await(3*time.Minute, "both machines are shown", func(v fleet.Overview) bool { return len(v.Strangers) == 2 })
	for _, s := range v.Strangers {
		t.Logf("after %s: %s: %s", time.Since(begin).Round(time.Second), s.Serial, s.Note)
		if (s.Serial == "LAB0001") != (s.Rule == "first") {
			t.Errorf("%+v", s)
		}
	}
	t.Logf("%s", r.must("status"))
	serve()
	for _, s := range r.labView().Servers {
		if s.Touched != "" {
			t.Errorf("%s was written without consent: %s", s.Name, s.Touched)
		}
	}
	var p planReport
	if err := json.Unmarshal([]byte(r.must("plan", "--output", "json")), &p); err != nil || len(p.Erase) != 1 || p.Plan.Assignments[0].Server != "LAB0001" {
		t.Fatalf("plan: %v %+v", err, p)
	}
	if _, code := r.try("apply", "--erase-disks", "1"); code == 0 {
		t.Error("apply took a server without a BMC")
	}
	serve = r.serves("--erase-disks", "1")
	defer serve()
	v = r.await(5*time.Minute, "the machine of the rule is installed", allSettled)
	t.Logf("%+v", v.Servers)
	console, err := os.ReadFile(filepath.Join(filepath.Dir(r.site), "servers", "n2", "console.log"))
	if err != nil || !strings.Contains(string(console), "no rule of the site file matches it") || strings.Contains(string(console), "told to write") {
		t.Errorf("console of the other machine (%v):\n%s", err, console[max(0, len(console)-2000):])
	}
	for _, s := range r.labView().Servers {
		if s.Touched != "" || s.Name == "n2" && s.Boots != 1 {
			t.Errorf("%s: touched %q, %d boots", s.Name, s.Touched, s.Boots)
		}
	}
	r.installedOnce()
}

// serves runs metalrise serve until the function it gives is called.
func (r *rack) serves(args ...string) func() {
	r.t.Helper()
	var log bytes.Buffer
	cmd := exec.Command(r.bin, append([]string{"serve", "-f", r.site, "--state", r.state}, args...)...)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	ended := false
	stop := func() {
		if ended {
			return
		}
		ended = true
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		r.t.Logf("serve said:\n%s", log.String())
	}
	r.t.Cleanup(stop)
	return stop
}

// dhcp is somebody else's DHCP server in the lab's network, in a network namespace
// of its own: this computer may run another one.
func (r *rack) dhcp(bridge, network string) {
	r.t.Helper()
	n, err := netip.ParsePrefix(network)
	if err != nil {
		r.t.Fatal(err)
	}
	at := func(host byte) string {
		b := n.Masked().Addr().As4()
		b[3] += host
		return netip.AddrFrom4(b).String()
	}
	space, dir := "mr-"+r.lab+"-dhcp", r.t.TempDir()
	for _, line := range []string{
		"netns add " + space,
		"link add mrdhcp0 type veth peer name mrdhcp1 netns " + space,
		"link set mrdhcp0 master " + bridge + " up",
		"-n " + space + " address add " + at(250) + "/" + strconv.Itoa(n.Bits()) + " dev mrdhcp1",
		"-n " + space + " link set mrdhcp1 up",
	} {
		if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
			r.t.Fatalf("ip %s: %v\n%s", line, err, out)
		}
		if strings.HasPrefix(line, "netns") {
			r.t.Cleanup(func() { _ = exec.Command("ip", "netns", "delete", space).Run() })
		}
	}
	cmd := exec.Command("ip", "netns", "exec", space, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--interface=mrdhcp1", "--bind-interfaces",
		"--dhcp-range="+at(200)+","+at(220)+",10m", "--dhcp-leasefile="+filepath.Join(dir, "leases"), "--pid-file="+filepath.Join(dir, "pid"), "--user=root", "--group=root")
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait(); r.t.Logf("dnsmasq said: %s", log.String()) })
}
