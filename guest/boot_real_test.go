package guest

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// staticProgram builds the guest's program.
func staticProgram(t *testing.T) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "init")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, "metalrise.dev/cmd/metalrise-guest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if b, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the guest: %v\n%s", err, b)
	}
	program, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if limit := 3 << 20; len(program) > limit {
		t.Errorf("the program has %d bytes, more than %d", len(program), limit)
	}
	return program
}

// kernel unpacks Debian's cloud kernel: its path, and the guest's modules.
func kernel(t *testing.T) (string, []Module) {
	t.Helper()
	dir := t.TempDir()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	debs, _ := filepath.Glob(filepath.Join(cache, "metalrise/debs/linux-image-[0-9]*-cloud-amd64_*.deb"))
	if len(debs) == 0 {
		get := exec.Command("sh", "-ec", `apt-get download "$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n1)"`)
		get.Dir = dir
		if b, err := get.CombinedOutput(); err != nil {
			t.Fatalf("fetch Debian's cloud kernel: %v\n%s", err, b)
		}
		debs, _ = filepath.Glob(filepath.Join(dir, "*.deb"))
	}
	if b, err := exec.Command("dpkg-deb", "-x", debs[len(debs)-1], dir).CombinedOutput(); err != nil {
		t.Fatalf("unpack the kernel: %v\n%s", err, b)
	}
	images, _ := filepath.Glob(filepath.Join(dir, "boot/vmlinuz-*"))
	if len(images) != 1 {
		t.Fatalf("kernels: %q", images)
	}
	byName := map[string]string{}
	filepath.WalkDir(filepath.Join(dir, "lib/modules"), func(path string, _ os.DirEntry, _ error) error {
		byName[filepath.Base(path)] = path
		return nil
	})
	var modules []Module
	for _, name := range Modules() {
		if data, err := os.ReadFile(byName[name]); err == nil {
			modules = append(modules, Module{name, data})
		}
	}
	return images[0], modules
}

// A guest boots in an emulated machine as it does in a VM of the cluster: it
// finds its network card and disks by MAC address and serial, calls itself,
// writes its mark, and ends when its time is over. A second boot finds the mark.
func TestGuestBoots(t *testing.T) {
	if os.Getenv("METALRISE_REAL") == "" {
		t.Skip("skipped: real parts run with METALRISE_REAL=1")
	}
	image, modules := kernel(t)
	dir := t.TempDir()
	var initrd bytes.Buffer
	if err := Pack(&initrd, staticProgram(t), modules); err != nil {
		t.Fatal(err)
	}
	cloud := append(make([]byte, 1<<16), `{"instance-id":"vm-1.proof"}`...)
	cloud = append(append(cloud, UserMark+" run-7 "...), make([]byte, 1<<16)...)
	for name, data := range map[string][]byte{"initrd": initrd.Bytes(), "disk": make([]byte, 8<<20), "cloud": cloud[:1<<16+512*4]} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	orders, err := ParseOrders("metalrise.nonce=run-7 metalrise.beat=250ms metalrise.net=52:54:00:00:00:07,10.0.2.15/24,10.0.2.2 metalrise.ping=10.0.2.2 " +
		"metalrise.listen=7007 metalrise.dial=10.0.2.15:7007 metalrise.disk=proofdisk metalrise.mark=one metalrise.cloud=proofcloud metalrise.life=8s")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	live := func() Beat {
		q := exec.CommandContext(ctx, "qemu-system-x86_64", "-accel", "tcg", "-m", "192", "-nographic", "-no-reboot", "-nodefaults", "-serial", "stdio",
			"-kernel", image, "-initrd", filepath.Join(dir, "initrd"), "-append", "console=ttyS0 quiet panic=-1 "+orders.Args(),
			"-drive", "file="+filepath.Join(dir, "disk")+",format=raw,if=none,id=d,cache=none", "-device", "virtio-blk-pci,drive=d,serial=proofdisk",
			"-drive", "file="+filepath.Join(dir, "cloud")+",format=raw,if=none,id=c,readonly=on", "-device", "virtio-blk-pci,drive=c,serial=proofcloud",
			"-netdev", "user,id=n", "-device", "virtio-net-pci,netdev=n,mac=52:54:00:00:00:07,romfile=")
		return last(t, q)
	}
	first := live()
	if first.Nonce != "run-7" || first.Found != Blank() || first.Holds != (Mark{"one", first.Boot}) || len(first.Addresses) != 1 {
		t.Errorf("first boot: %+v", first)
	}
	if first.Ping.Got == 0 || first.Dial.Got == 0 || first.Heard != first.Boot {
		t.Errorf("it reached nobody: %+v", first)
	}
	if first.Cloud != "vm-1.proof" || first.User != "run-7" {
		t.Errorf("cloud-init: %+v", first)
	}
	if second := live(); second.Boot == first.Boot || second.Found != first.Holds || second.Holds != first.Holds {
		t.Errorf("second boot: %+v, want another boot that finds %v", second, first.Holds)
	}
}

// last runs an emulated machine to its end and gives its last words.
func last(t *testing.T, q *exec.Cmd) Beat {
	t.Helper()
	var errors bytes.Buffer
	q.Stderr = &errors
	out, err := q.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Start(); err != nil {
		t.Fatal(err)
	}
	var b Beat
	var console strings.Builder
	for lines := bufio.NewScanner(io.TeeReader(out, &console)); lines.Scan(); {
		got, ok := ParseBeat(lines.Text())
		if !ok {
			continue
		}
		if b.Seq > 0 && (got.Seq != b.Seq+1 || got.Boot != b.Boot) {
			t.Errorf("line %d of boot %s after %d of %s", got.Seq, got.Boot, b.Seq, b.Boot)
		}
		b = got
	}
	if err := q.Wait(); err != nil || b.Seq == 0 {
		t.Fatalf("qemu: %v %s\n%s", err, errors.String(), console.String())
	}
	t.Logf("%s", b.Line())
	return b
}
