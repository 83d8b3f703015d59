package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"metalrise.dev/boot/netboot"
	"metalrise.dev/fleet"
	"metalrise.dev/iso"
	"metalrise.dev/iso/isotest"
	"metalrise.dev/provision"
	"metalrise.dev/provision/store"
)

func TestNetGuest(t *testing.T) {
	g := provision.NetGuest{Server: "SN1", Hostname: "w1.example.org", Route: fleet.UEFIHTTP, Script: "http://10.0.0.5:8080/m/1/boot.ipxe", Loader: "http://10.0.0.5:8080/m/2/boot.efi",
		Network: fleet.Network{MAC: "52:54:00:00:00:01", Address: "10.0.0.21/24", Gateway: "10.0.0.1", DNS: []string{"10.0.0.2", "fd00::1"}}, Until: time.Now().Add(time.Hour)}
	whole, beside := netGuest(g, netboot.Whole), netGuest(g, netboot.Beside)
	if err := whole.Check(netboot.Whole); err != nil {
		t.Error(err)
	}
	if err := beside.Check(netboot.Beside); err != nil {
		t.Error(err)
	}
	if whole.Address != netip.MustParsePrefix("10.0.0.21/24") || whole.Host != "w1" || len(whole.DNS) != 1 || whole.Road != netboot.RoadUEFIHTTP || whole.Image != g.Loader {
		t.Errorf("%+v", whole)
	}
	if beside.Address.IsValid() || beside.Script != g.Script {
		t.Errorf("beside another DHCP server: %+v", beside)
	}
	if g.Route = fleet.PXE; netGuest(g, netboot.Whole).Image != "" {
		t.Error("an image for PXE firmware")
	}
}

func TestStrangersAreBoundedAndJournaledOnce(t *testing.T) {
	st, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	s := &strangers{store: st, all: map[string]fleet.Stranger{}}
	for i := range 300 {
		for range 2 {
			if err := s.see(t.Context(), netboot.Client{MAC: fmt.Sprintf("02:00:00:00:%02x:%02x", i>>8, i&255), Arch: netboot.ArchUEFIx64}, time.Now()); err != nil {
				t.Fatal(err)
			}
		}
	}
	events, err := st.Events(t.Context(), 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	if len(events) != mostStrangers || len(s.list()) != mostStrangers || events[0].Action != fleet.ActStranger || !strings.Contains(events[0].Note, "02:00:00:00:00:00") {
		t.Errorf("%d events, %d listed", len(events), len(s.list()))
	}
	if !slices.IsSortedFunc(s.list(), func(a, b fleet.Stranger) int { return strings.Compare(a.MAC, b.MAC) }) {
		t.Error("not in order")
	}
	var none *strangers
	if none.list() != nil {
		t.Error("an engine that nobody asks knows strangers")
	}
}

func TestForeignServersAreJournaledOnce(t *testing.T) {
	st, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	s, n := &strangers{store: st, all: map[string]fleet.Stranger{}}, &netRoad{book: &guestBook{engine: new(atomic.Pointer[provision.Engine])}, foreign: map[netip.Addr]bool{}}
	for i := range 600 {
		f := netboot.ForeignServer{ID: netip.AddrFrom4([4]byte{192, 0, byte(i / 2 >> 8), byte(i / 2)}), MAC: "02:00:00:00:00:66", Gives: netboot.GivesBoth, BootFile: "evil.0"}
		n.note(t.Context(), netboot.Sighting{At: time.Now(), Kind: netboot.SightingForeign, Foreign: &f}, s, slog.New(slog.DiscardHandler))
	}
	events, err := st.Events(t.Context(), 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	if want := `DHCP server 192.0.0.0 (02:00:00:00:00:66), gives addresses and boot, boots "evil.0"`; len(events) != mostStrangers || !strings.Contains(events[0].Note, want) {
		t.Errorf("%d events, the first %+v", len(events), events[0])
	}
	if len(s.list()) != 0 {
		t.Error("a server is listed as a machine")
	}
}

// TestNetArtefacts reads all parts of a boot from the network.
func TestNetArtefacts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "base.iso")
	if err := isotest.Build(path, isotest.Options{Files: map[string][]byte{"images/pxeboot/vmlinuz": []byte("the kernel")}}); err != nil {
		t.Fatal(err)
	}
	base, err := iso.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer base.Close()
	l := &library{base: base}
	read := func(name string) string {
		t.Helper()
		c, err := l.netArtefact(provision.Resource{Name: name, Ignition: func() ([]byte, error) { return []byte(`{"ignition":{"version":"3.4.0"}}`), nil },
			Address: func(name string) string { return "http://10.0.0.5:8080/m/00112233445566778899aabbccddeeff/" + name }})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		b, err := io.ReadAll(io.NewSectionReader(c.Body, 0, c.Size))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return string(b)
	}
	script := read(provision.NetScript)
	for _, want := range []string{"#!ipxe", "/vmlinuz", "/initrd.img", "/personal.img", " ignition.firstboot", " ignition.platform.id=metal", " coreos.live.rootfs_url=http://10.0.0.5:8080/m/"} {
		if !strings.Contains(script, want) {
			t.Errorf("the script lacks %q:\n%s", want, script)
		}
	}
	if strings.Contains(script, "coreos.liveiso") || strings.Count(script, "ignition.firstboot") != strings.Count(script, "kernel --name") {
		t.Errorf("the script speaks of a medium, or twice of the first boot:\n%s", script)
	}
	if got := read(provision.NetKernel); got != "the kernel" {
		t.Errorf("kernel %q", got)
	}
	if read(provision.NetInitrd) == "" || read(provision.NetRootfs) == "" || read(provision.NetPersonal) == "" {
		t.Error("a part is empty")
	}
	for _, name := range []string{provision.NetLoader, "../../etc/passwd", ""} {
		if _, err := l.netArtefact(provision.Resource{Name: name}); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: %v", name, err)
		}
	}
}
