package main

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"metalrise.dev/boot"
	"metalrise.dev/boot/netboot"
	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
	"metalrise.dev/iso"
	"metalrise.dev/iso/isotest"
	"metalrise.dev/provision"
)

// TestAskingRoad answers firmware whose MAC a rule names, and serves it a live
// system that holds nothing but the ticket to ask with.
func TestAskingRoad(t *testing.T) {
	authority, err := boot.NewAuthority("oslo")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "base.iso")
	if err := isotest.Build(path, isotest.Options{Files: map[string][]byte{"images/pxeboot/vmlinuz": []byte("the kernel")}}); err != nil {
		t.Fatal(err)
	}
	base, err := iso.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer base.Close()
	program := filepath.Join(t.TempDir(), "metalrise")
	if err := os.WriteFile(program, []byte("the program"), 0o755); err != nil {
		t.Fatal(err)
	}
	site := fleet.Site{Name: "oslo", Rules: []fleet.Rule{
		{Name: "a", Role: fleet.Worker, Match: fleet.Match{MACPrefix: "B4:45:06"}},
		{Name: "b", Role: fleet.Worker, Match: fleet.Match{Manufacturer: "Dell Inc."}},
	}}
	ticket := provision.AskingTicket([]byte("0123456789abcdef"), "oslo", "https://10.0.0.5:8443", string(authority.PEM()))
	l := &library{base: base, agentPath: program, agentFile: agentFile{sha256: strings.Repeat("a", 64), bytes: 11}}
	l.asking = newAskingRoad(site, ticket, l.agentFile, "http://10.0.0.5:8080")

	now := time.Now()
	for _, c := range []struct {
		client netboot.Client
		road   netboot.Road
		ok     bool
	}{
		{netboot.Client{MAC: "b4:45:06:00:00:01"}, netboot.RoadPXE, true},
		{netboot.Client{MAC: "b4:45:06:00:00:01", Class: netboot.ClassHTTP}, netboot.RoadUEFIHTTP, true},
		{netboot.Client{MAC: "b4:45:07:00:00:01"}, "", false}, // a rule by maker says nothing of a MAC
	} {
		g, ok := l.asking.guest(c.client, now)
		if ok != c.ok || ok && (g.Road != c.road || !g.Until.After(now)) {
			t.Errorf("%+v: %+v %v", c.client, g, ok)
		}
		if ok {
			if err := g.Check(netboot.Beside); err != nil {
				t.Error(err)
			}
		}
	}
	if _, ok := (*askingRoad)(nil).guest(netboot.Client{MAC: "b4:45:06:00:00:01"}, now); ok {
		t.Error("answered without rules")
	}
	if _, ok := (&guestBook{engine: new(atomic.Pointer[provision.Engine]), asking: l.asking}).Guest(netboot.Client{MAC: "b4:45:06:00:00:01"}); ok {
		t.Error("answered before the engine is there")
	}
	read := func(name string) string {
		t.Helper()
		c, err := l.Open(t.Context(), l.asking.keys[name])
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if c.Close != nil {
			defer c.Close()
		}
		b, err := io.ReadAll(io.NewSectionReader(c.Body, 0, c.Size))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	script := read(provision.NetScript)
	for _, part := range []string{provision.NetKernel, provision.NetInitrd, provision.NetPersonal, provision.NetRootfs} {
		if !strings.Contains(script, l.asking.addresses(l.asking.keys)(part)) {
			t.Errorf("the script does not name %s:\n%s", part, script)
		}
	}
	if read(askingAgent) != "the program" || read(provision.NetKernel) != "the kernel" || read(provision.NetPersonal) == "" {
		t.Error("another content")
	}
	if _, err := l.Open(t.Context(), netboot.NewKey()); err == nil || err == fs.ErrNotExist {
		t.Errorf("an unknown key while the engine starts: %v", err)
	}
	r, _, _ := l.asking.open(l.asking.keys[provision.NetPersonal], now)
	config, err := r.Ignition()
	if err != nil || !strings.Contains(string(config), "metalrise-any.nmconnection") || strings.Contains(string(config), "\"disks\"") {
		t.Errorf("%v %s", err, config)
	}
	if !json.Valid(config) || !strings.Contains(string(config), ticket.Token) {
		t.Errorf("%s", config)
	}
	l.asking.ticket.Stage = callhome.Live
	if _, err := r.Ignition(); err == nil {
		t.Error("a live system's ticket was put into what everybody gets")
	}
}

// TestAskingAddressesEnd an hour after any machine was told them: then they are
// refused, which is said once, and the next machine is told others.
func TestAskingAddressesEnd(t *testing.T) {
	site := fleet.Site{Rules: []fleet.Rule{{Name: "a", Match: fleet.Match{MACPrefix: "b4:45:06"}}}}
	a := newAskingRoad(site, callhome.Ticket{}, agentFile{}, "http://10.0.0.5:8080")
	var late []time.Time
	a.late = func(end time.Time) { late = append(late, end) }
	tell := func(at time.Time) string {
		t.Helper()
		g, ok := a.guest(netboot.Client{MAC: "b4:45:06:00:00:01"}, at)
		if !ok {
			t.Fatal("not answered")
		}
		return strings.Split(g.Script, "/")[4]
	}
	open := func(key string, at time.Time, want bool, err error) {
		t.Helper()
		if _, ok, got := a.open(key, at); ok != want || !errors.Is(got, err) {
			t.Errorf("after %s: open %t, %v; want %t, %v", at.Sub(time.Unix(0, 0)), ok, got, want, err)
		}
	}
	now := time.Unix(0, 0)
	first := tell(now)
	open(first, now.Add(59*time.Minute), true, nil)
	if tell(now.Add(50*time.Minute)) != first {
		t.Error("a machine beside another one is told other addresses")
	}
	open(first, now.Add(100*time.Minute), true, nil)
	end := now.Add(110 * time.Minute)
	open(first, end, false, boot.ErrEnded)
	open(first, end, false, boot.ErrEnded)
	if len(late) != 1 || !late[0].Equal(end) {
		t.Errorf("said %v, want once that it ended at %v", late, end)
	}
	second := tell(end.Add(time.Hour))
	open(first, end.Add(time.Hour), false, nil)
	open(second, end.Add(time.Hour), true, nil)
	if first == second {
		t.Error("an address that ended came back")
	}
}
