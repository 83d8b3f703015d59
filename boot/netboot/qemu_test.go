package netboot

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cavaliergopher/cpio"

	"metalrise.dev/lab/nodeimage"
)

// kernel is that of the lab's node image: METALRISE_KERNEL, or the cache's.
func kernel(t *testing.T) string {
	t.Helper()
	return part(t, "METALRISE_KERNEL", "*-kernel.*")
}

// part is a file of the lab's node image.
func part(t *testing.T, variable, pattern string) string {
	t.Helper()
	if os.Getenv("METALRISE_REAL") != "1" {
		t.Skip("skipped: real parts run with METALRISE_REAL=1")
	}
	if os.Getenv("METALRISE_QEMU") != "1" {
		t.Skip("skipped: heavy, software emulation takes minutes; set METALRISE_QEMU=1")
	}
	if p := os.Getenv(variable); p != "" {
		return p
	}
	cache := os.Getenv("METALRISE_CACHE")
	if cache == "" {
		cache = t.TempDir()
	}
	dir, err := nodeimage.Ensure(t.Context(), cache, func(s string) { t.Log(s) })
	if err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	return found[0]
}

// archive is an initial RAM disk with one file.
func archive(t *testing.T, name string, mode cpio.FileMode, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := cpio.NewWriter(z)
	if err := w.WriteHeader(&cpio.Header{Name: name, Mode: cpio.TypeReg | mode, Size: int64(len(content))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func initramfs(t *testing.T) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "init")
	cmd := exec.Command("go", "build", "-o", out, "./testdata/init")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build init: %v: %s", err, said)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return archive(t, "init", 0o755, b)
}

// site is everything for one machine, and the server in front of it.
type site struct {
	*pages
	book    *guestBook
	loaders *Loaders
}

const bootMAC = "02:00:00:00:02:01"

func newSite(t *testing.T, mode Mode) *site {
	t.Helper()
	path := kernel(t)
	loaders, err := ReadLoaders(LoaderDirs()...)
	if err != nil {
		t.Fatal(err)
	}
	s := &site{book: book(), loaders: loaders}
	s.pages = newPages(t, s.book.report)
	listen(t, s.book, mode, func(c *Config) { c.Files = loaders })
	g := s.book.guests[knownMAC]
	g.Name, g.Address, g.Gateway = "q1", netip.MustParsePrefix("192.0.2.21/24"), netip.Addr{}
	args, err := ParseArgs("console=ttyS0,115200", "panic=-1", "metalrise.test=a.b/c:d@e,f")
	if err != nil {
		t.Fatal(err)
	}
	script, err := Script{
		Kernel: s.put("vmlinuz", ofFile(path)), Args: args,
		Initrds: []string{s.put("initrd0.img", ofBytes(initramfs(t))), s.put("initrd1.img", ofBytes(archive(t, "extra", 0o644, []byte("second"))))},
	}.Render()
	if err != nil {
		t.Fatal(err)
	}
	g.Script = s.put("boot.ipxe", ofBytes(script))
	s.book.guests[bootMAC] = g
	return s
}

func (s *site) change(change func(*Guest)) {
	s.book.mu.Lock()
	defer s.book.mu.Unlock()
	g := s.book.guests[bootMAC]
	change(&g)
	s.book.guests[bootMAC] = g
}

const ovmf = "/usr/share/OVMF/OVMF_"

// power runs a machine with nothing to boot from but the network, until it
// switches itself off, and returns what it said on its console.
func power(t *testing.T, uefi bool) string {
	t.Helper()
	return powerUntil(t, uefi, "")
}

// powerUntil also ends the machine when it has said something.
func powerUntil(t *testing.T, uefi bool, word string) string {
	t.Helper()
	run(t, "ip", "tuntap", "add", "nbq0", "mode", "tap")
	t.Cleanup(func() { run(t, "ip", "link", "del", "nbq0") })
	run(t, "ip", "link", "set", "nbq0", "master", bridge, "up")
	args := []string{"-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "EPYC", "-m", "2048", "-nodefaults", "-no-user-config", "-display", "none",
		"-no-reboot", "-serial", "stdio", "-netdev", "tap,id=n0,ifname=nbq0,script=no,downscript=no", "-device", "virtio-rng-pci",
		"-uuid", "11223344-5566-7788-99aa-bbccddeeff00"}
	nic := "virtio-net-pci,netdev=n0,bootindex=1,mac=" + bootMAC
	if uefi {
		vars, err := os.ReadFile(ovmf + "VARS_4M.fd")
		if err != nil {
			t.Fatal(err)
		}
		own := filepath.Join(t.TempDir(), "vars.fd")
		if err := os.WriteFile(own, vars, 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "-drive", "if=pflash,unit=0,readonly=on,format=raw,file="+ovmf+"CODE_4M.fd", "-drive", "if=pflash,unit=1,format=raw,file="+own)
		nic += ",romfile=" // the firmware's own PXE and HTTP clients, not the card's iPXE
	}
	cmd := exec.Command("qemu-system-x86_64", append(args, "-device", nic)...)
	var out lockedBuffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	defer func() {
		if p := os.Getenv("METALRISE_CONSOLE"); p != "" {
			_ = os.WriteFile(p, []byte(out.String()), 0o600)
		}
	}()
	for end := time.Now().Add(8 * time.Minute); ; {
		select {
		case <-done:
			return out.String()
		case <-time.After(time.Second):
		}
		late := time.Now().After(end)
		if late || word != "" && strings.Contains(out.String(), word) {
			_ = cmd.Process.Kill()
			<-done
			if late {
				t.Errorf("the machine did not come to its end")
			}
			return out.String()
		}
	}
}

// booted holds the console to what our system says when all of it arrived.
func (s *site) booted(t *testing.T, console string, uefi bool) {
	t.Helper()
	_, marker, ok := strings.Cut(console, "MARKER ")
	marker, _, _ = strings.Cut(marker, "\n")
	want := fmt.Sprintf("uefi=%v extra=\"second\" cmdline=", uefi)
	if !ok || !strings.HasPrefix(marker, want) || !strings.Contains(marker, "metalrise.test=a.b/c:d@e,f") {
		t.Errorf("the machine did not come up as wanted (%q), its console:\n%s", marker, tail(console, 3000))
	}
	s.book.mu.Lock()
	defer s.book.mu.Unlock()
	for _, seen := range s.book.seen {
		t.Logf("%s %s %s %s %s %d %s", seen.Kind, seen.Client.Class, seen.Client.Arch, seen.Client.UUID, seen.File, seen.Bytes, seen.Text)
	}
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

func (s *site) fetched(t *testing.T, name string) {
	t.Helper()
	s.book.mu.Lock()
	defer s.book.mu.Unlock()
	for _, seen := range s.book.seen {
		if seen.Kind == SightingFetched && seen.File == name {
			return
		}
	}
	t.Errorf("%s was not fetched", name)
}

// TestBootBIOS goes from the card's iPXE by TFTP to Debian's undionly.kpxe, and
// from there to kernel and initial RAM disks. QEMU has no PXE that is not iPXE;
// so a first script does what a plain PXE would: load the loader.
func TestBootBIOS(t *testing.T) {
	kernel(t)
	newSegment(t)
	s := newSite(t, Whole)
	throughLoader(t, s)
	s.booted(t, power(t, false), false)
	s.fetched(t, LoaderBIOS)
}

func throughLoader(t *testing.T, s *site) {
	t.Helper()
	real := s.book.guests[bootMAC].Script
	first := s.put("first.ipxe", ofBytes([]byte("#!ipxe\nchain tftp://"+ourself+"/"+LoaderBIOS+"\n")))
	s.change(func(g *Guest) { g.Script = first })
	go func() {
		for range 3000 {
			if f := s.book.saw(SightingFetched); f != nil {
				s.change(func(g *Guest) { g.Script = real })
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
}

func TestBootBIOSBesideDnsmasq(t *testing.T) {
	kernel(t)
	newSegment(t)
	dnsmasq(t)
	s := newSite(t, Beside)
	s.change(func(g *Guest) { g.Address = netip.Prefix{} })
	throughLoader(t, s)
	s.booted(t, power(t, false), false)
	s.fetched(t, LoaderBIOS)
}

func TestBootUEFI(t *testing.T) {
	kernel(t)
	newSegment(t)
	s := newSite(t, Whole)
	s.booted(t, power(t, true), true)
	s.fetched(t, LoaderUEFI)
	if seen := s.book.saw(SightingLeased); seen == nil || seen.Client.UUID != "11223344-5566-7788-99aa-bbccddeeff00" {
		t.Errorf("the machine's UUID: %+v", seen)
	}
}

func TestBootUEFIBesideDnsmasq(t *testing.T) {
	kernel(t)
	newSegment(t)
	dnsmasq(t)
	s := newSite(t, Beside)
	s.change(func(g *Guest) { g.Address = netip.Prefix{} })
	s.booted(t, power(t, true), true)
	s.fetched(t, LoaderUEFI)
}

// TestBootUEFIGivesUp takes the second initial RAM disk away: what is not
// complete is not started, and the firmware gets the machine back.
func TestBootUEFIGivesUp(t *testing.T) {
	kernel(t)
	newSegment(t)
	s := newSite(t, Whole)
	script, err := Script{Kernel: s.put("vmlinuz", ofBytes(noise(1<<20))), Initrds: []string{s.base + "/b/" + NewKey() + "/initrd.img"}}.Render()
	if err != nil {
		t.Fatal(err)
	}
	address := s.put("boot.ipxe", ofBytes(script))
	s.change(func(g *Guest) { g.Script = address })
	last := fmt.Sprintf("try %d of %d did not work", tries, tries)
	console := powerUntil(t, true, last)
	if !strings.Contains(console, last) || strings.Contains(console, "Linux version") {
		t.Errorf("the console:\n%s", tail(console, 3000))
	}
}

// TestBootUEFIHTTP boots an EFI program by the firmware's HTTP client, which is
// iPXE and goes on with its script. Its PXE client hears nothing before.
func TestBootUEFIHTTP(t *testing.T) {
	kernel(t)
	newSegment(t)
	s := newSite(t, Whole)
	loader, ok := s.loaders.Bytes(LoaderUEFI)
	if !ok {
		t.Fatal("no UEFI loader")
	}
	image := s.put(LoaderUEFI, ofBytes(loader))
	s.change(func(g *Guest) { g.Road, g.Image = RoadUEFIHTTP, image })
	s.booted(t, power(t, true), true)
	s.fetched(t, LoaderUEFI)
	if s.book.saw(SightingRefused) == nil {
		t.Error("its PXE client was not refused")
	}
}

// TestBootUEFIHTTPDisc boots a whole disc image by the firmware's HTTP client,
// which keeps it in memory and starts the boot loader on it. Whether the live
// system then finds its root there is the image's affair: it needs the drivers
// nfit and nd_pmem in its initial RAM disk.
func TestBootUEFIHTTPDisc(t *testing.T) {
	disc := part(t, "METALRISE_LIVE_ISO", "*.iso")
	newSegment(t)
	s := newSite(t, Whole)
	image := s.put("live.iso", ofFile(disc))
	s.change(func(g *Guest) { g.Road, g.Image = RoadUEFIHTTP, image })
	const alive = "Run /init as init process"
	console := powerUntil(t, true, alive)
	// an argument that only the disc's boot loader knows
	if !strings.Contains(console, alive) || !strings.Contains(console, "coreos.liveiso=") {
		t.Errorf("the kernel of the disc did not come up:\n%s", tail(console, 3000))
	}
	s.fetched(t, "live.iso")
}
