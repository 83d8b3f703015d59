package qemu

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"metalrise.dev/lab/machine"
)

func spec(t *testing.T, firmware string) machine.Spec {
	return machine.Spec{
		Name: "t1", UUID: "6d5f3a52-1f0e-4c1b-9d39-0c6a3f1f7a01", Serial: "SN-T1", Vendor: "Lab, Inc.", Model: "Node 1",
		Firmware: firmware, CPUs: 2, MemoryMiB: 1024, Dir: t.TempDir(),
		Disks: []machine.Disk{
			{Name: "disk0", Serial: "LAB0001", WWN: "5000c500a1b2c301", Model: "LABDISK", SizeBytes: 2 << 30},
			{Name: "disk1", Serial: "LAB0002", WWN: "5000c500a1b2c302", Model: "LABDISK", SizeBytes: 1 << 30, Rotating: true},
		},
		NICs: []machine.NIC{{MAC: "52:54:00:00:00:01"}},
	}
}

// console collects what a machine says and tells when something was said.
type console struct {
	t     *testing.T
	mu    sync.Mutex
	text  bytes.Buffer
	waits map[string]chan struct{}
}

func newConsole(t *testing.T) *console { return &console{t: t, waits: map[string]chan struct{}{}} }

func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.text.Write(p)
	for mark, ch := range c.waits {
		if strings.Contains(c.text.String(), mark) {
			close(ch)
			delete(c.waits, mark)
		}
	}
	return len(p), nil
}

// said returns a channel that is closed once the machine has said mark.
func (c *console) said(mark string) <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	ch := make(chan struct{})
	if strings.Contains(c.text.String(), mark) {
		close(ch)
	} else {
		c.waits[mark] = ch
	}
	return ch
}

func (c *console) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.String()
}

// sector is a boot sector that says "OK" on the serial line and then runs code.
func sector(code ...byte) []byte {
	b := make([]byte, 512)
	copy(b, append([]byte{
		0xba, 0xf8, 0x03, // mov dx, 0x3f8
		0xb0, 'O', 0xee, 0xb0, 'K', 0xee, 0xb0, '\n', 0xee, // mov al, c; out dx, al
	}, code...))
	b[510], b[511] = 0x55, 0xaa
	return b
}

// booted starts a machine whose second disk holds the given boot sector.
func booted(t *testing.T, code ...byte) (m *Machine, con *console, stopped <-chan machine.Stop, cut func()) {
	t.Helper()
	needQEMU(t)
	s := spec(t, "bios")
	s.MemoryMiB = 256
	if err := os.WriteFile(filepath.Join(s.Dir, "disk1.raw"), sector(code...), 0o644); err != nil {
		t.Fatal(err)
	}
	m, err := New(s)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cut := context.WithCancel(t.Context())
	con = newConsole(t)
	ch := make(chan machine.Stop, 1)
	go func() {
		stop, err := m.Boot(ctx, machine.BootSource{Kind: machine.FromDisk}, con)
		if err != nil {
			t.Error(err)
		}
		ch <- stop
	}()
	return m, con, ch, cut
}

func needQEMU(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("skipped: needs root")
	}
	if _, err := exec.LookPath(program); err != nil {
		t.Fatalf("%s is missing; make deps installs it", program)
	}
}

// The first disk is empty, so the second one boots; how it stops is reported.
func TestStops(t *testing.T) {
	for _, c := range []struct {
		name string
		code []byte
		want machine.Stop
	}{
		{"reset", []byte{0xba, 0xf9, 0x0c, 0xb0, 0x06, 0xee, 0xf4}, machine.Rebooted},             // out 0xcf9, 6
		{"power off", []byte{0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef, 0xf4}, machine.PoweredOff}, // out 0x604, 0x2000 (PM1a: sleep type 5, enable)
	} {
		t.Run(c.name, func(t *testing.T) {
			_, con, stopped, cut := booted(t, c.code...)
			defer cut()
			if got := <-stopped; got != c.want {
				t.Errorf("stopped as %q, want %q\n%s", got, c.want, con)
			}
			if !strings.Contains(con.String(), "OK\n") {
				t.Errorf("console: %q", con)
			}
		})
	}
}

func TestCuttingPowerEndsEverything(t *testing.T) {
	m, con, stopped, cut := booted(t, 0xeb, 0xfe) // jmp $
	<-con.said("OK\n")
	pid, err := os.ReadFile(m.pidPath())
	if err != nil {
		t.Fatal(err)
	}
	proc := filepath.Join("/proc", strings.TrimSpace(string(pid)))
	if _, err := os.Stat(proc); err != nil {
		t.Fatal(err)
	}
	if err := m.Shutdown(t.Context()); err != nil {
		t.Errorf("a running machine takes the button: %v", err)
	}
	cut()
	if got := <-stopped; got != machine.Killed {
		t.Errorf("stopped as %q", got)
	}
	if _, err := os.Stat(proc); err == nil {
		t.Error("its process is still there")
	}
	if err := m.Shutdown(t.Context()); err == nil {
		t.Error("a machine that is off took the button")
	}
}

// A machine left by a lab that was killed is found by its files and ended.
func TestCleanKillsWhatWasLeft(t *testing.T) {
	needQEMU(t)
	m, err := New(spec(t, "bios"))
	if err != nil {
		t.Fatal(err)
	}
	// as Boot starts it, but for the monitor and without being cared for
	left := exec.Command(program, "-S", "-nodefaults", "-display", "none", "-uuid", m.spec.UUID, "-drive", "if=none,"+options("file", m.varsPath(), "format", "raw"))
	if err := os.WriteFile(m.varsPath(), make([]byte, 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := left.Start(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(m.pidPath(), []byte(strconv.Itoa(left.Process.Pid)), 0o644); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- left.Wait() }()
	if err := m.Clean(t.Context()); err != nil {
		t.Error(err)
	}
	<-ended
	if _, err := os.Stat(m.pidPath()); err == nil {
		t.Error("its note is still there")
	}
	if err := m.Clean(t.Context()); err != nil {
		t.Errorf("again: %v", err)
	}
}

func TestCleanSparesOthers(t *testing.T) {
	s := spec(t, "bios")
	m, err := New(s)
	if err != nil {
		t.Fatal(err)
	}
	other := exec.Command("sleep", "600")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer other.Wait()
	defer other.Process.Kill()
	if m.owns(other.Process.Pid) {
		t.Error("took a sleep for its own")
	}
}

func TestBootRefuses(t *testing.T) {
	m, err := New(spec(t, "bios"))
	if err != nil {
		t.Fatal(err)
	}
	for _, from := range []machine.BootSource{{}, {Kind: machine.FromMedia}, {Kind: machine.FromMedia, ISO: "/nowhere.iso"}} {
		if _, err := m.Boot(t.Context(), from, nil); err == nil {
			t.Errorf("%+v: booted", from)
		}
	}
}

func TestNothingToBoot(t *testing.T) {
	for _, firmware := range []string{"bios", "uefi"} {
		s := spec(t, firmware)
		iso := filepath.Join(s.Dir, "empty.iso")
		if err := os.WriteFile(iso, make([]byte, 64<<10), 0o644); err != nil {
			t.Fatal(err)
		}
		m, err := New(s)
		if err != nil {
			t.Fatal(err)
		}
		for _, from := range []machine.BootSource{{Kind: machine.FromDisk}, {Kind: machine.FromMedia, ISO: iso}} {
			if stop, err := m.Boot(t.Context(), from, nil); err != nil || stop != machine.NotBooted {
				t.Errorf("%s: %+v: %q, %v", firmware, from, stop, err)
			}
		}
	}
}

func TestArguments(t *testing.T) {
	s := spec(t, "uefi")
	s.NICs = append(s.NICs, machine.NIC{MAC: "52:54:00:00:00:02", Bridge: "br"})
	m, err := New(s)
	if err != nil {
		t.Fatal(err)
	}
	text := func(from machine.BootSource) string {
		return strings.Join(m.arguments(from, []int{1}, 3, []int{-1, 4}), " ")
	}
	media := text(machine.BootSource{Kind: machine.FromMedia, ISO: "/a,b.iso"})
	for _, want := range []string{
		"manufacturer=Lab,, Inc.", "file=/a,,b.iso", "drive=medium,bootindex=1",
		"serial=LAB0001,product=LABDISK,wwn=0x5000c500a1b2c301,rotation_rate=1",
		"serial=LAB0002,product=LABDISK,wwn=0x5000c500a1b2c302,rotation_rate=7200",
		"hubport,id=net0", "tap,id=net1,fd=4", "mac=52:54:00:00:00:02,romfile=,addr=0x11",
	} {
		if !strings.Contains(media, want) {
			t.Errorf("media boot lacks %q in %s", want, media)
		}
	}
	if strings.Count(media, "bootindex") != 1 {
		t.Errorf("media boot may boot other things: %s", media)
	}
	disk := text(machine.BootSource{Kind: machine.FromDisk, ISO: "/a.iso"})
	for _, want := range []string{"rotation_rate=7200,bootindex=1", "drive=medium"} {
		if !strings.Contains(disk, want) {
			t.Errorf("disk boot lacks %q in %s", want, disk)
		}
	}
	if i := slices.Index(m.arguments(machine.BootSource{Kind: machine.FromDisk}, nil, 3, []int{-1, 4}), "-no-reboot"); i < 0 {
		t.Error("a reset would not end the run")
	}
}

func TestDiskIsNeverCut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d.raw")
	if err := makeDisk(path, 2<<20); err != nil {
		t.Fatal(err)
	}
	if err := makeDisk(path, 1<<20); err == nil {
		t.Error("made a disk smaller")
	}
}
