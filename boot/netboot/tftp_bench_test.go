package netboot

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	pin "github.com/pin/tftp/v3"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// serveEnv makes the test binary a TFTP server for the benchmark: "ours FILE",
// "pin FILE", or "pin-N FILE" with pin/tftp sending N blocks ahead.
const serveEnv = "METALRISE_TEST_TFTP"

func serveForBenchmark(what, path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if what == "ours" {
		s, err := Listen(context.Background(), Config{Interface: delayedOuter, Mode: Whole, Guests: book(), Files: memory{"f": b}})
		if err != nil {
			return err
		}
		defer s.Close()
		fmt.Println("ready")
		select {}
	}
	srv := pin.NewServer(func(_ string, rf io.ReaderFrom) error {
		_, err := rf.ReadFrom(bytes.NewReader(b))
		return err
	}, nil)
	if n, ok := strings.CutPrefix(what, "pin-"); ok {
		ahead, err := strconv.Atoi(n)
		if err != nil {
			return err
		}
		srv.SetAnticipate(uint(ahead))
	}
	fmt.Println("ready")
	return srv.ListenAndServe("192.0.2.1:69")
}

const (
	delayedOuter = "nbt0" // our end of a line that takes its time
	// with what taps and threads add, a ping takes half a millisecond
	oneWay = 190 * time.Microsecond
)

// delayedLine is a line between this namespace (192.0.2.1) and the namespace "far"
// (192.0.2.11) on which each frame takes oneWay: what the kernel's netem does,
// where there is none. Its ends are two taps; a thread for each direction holds
// the frames back.
func delayedLine(b *testing.B) {
	b.Helper()
	if os.Getenv(apart) == "" {
		b.Skip("skipped: needs root")
	}
	ip := func(args ...string) {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			b.Fatalf("ip %v: %v: %s", args, err, out)
		}
	}
	var fds []int
	for _, name := range []string{delayedOuter, "nbt1"} {
		tap := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: name}, Mode: netlink.TUNTAP_MODE_TAP, Flags: netlink.TUNTAP_NO_PI, NonPersist: true, Queues: 1}
		if err := netlink.LinkAdd(tap); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { tap.Fds[0].Close() }) // and keep it until then: the tap goes with its file
		fd := int(tap.Fds[0].Fd())
		if err := unix.SetNonblock(fd, false); err != nil {
			b.Fatal(err)
		}
		fds = append(fds, fd)
	}
	ip("netns", "add", "far")
	ip("link", "set", "nbt1", "netns", "far")
	ip("addr", "add", "192.0.2.1/24", "dev", delayedOuter)
	ip("link", "set", delayedOuter, "up", "txqueuelen", "10000")
	ip("-n", "far", "addr", "add", "192.0.2.11/24", "dev", "nbt1")
	ip("-n", "far", "link", "set", "nbt1", "up", "txqueuelen", "10000")
	go hold(fds[0], fds[1])
	go hold(fds[1], fds[0])
}

type frame struct {
	due  int64
	data []byte
}

// hold reads frames at one end and writes them at the other when they are due.
func hold(from, to int) {
	line := make(chan frame, 4096)
	go func() {
		runtime.LockOSThread()
		_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0) // sleep to the microsecond, not to 50
		for f := range line {
			ts := unix.NsecToTimespec(f.due)
			for unix.ClockNanosleep(unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME, &ts, nil) == unix.EINTR {
			}
			_, _ = unix.Write(to, f.data)
		}
	}()
	runtime.LockOSThread()
	for {
		data := make([]byte, 2048)
		n, err := unix.Read(from, data)
		if err != nil {
			close(line)
			return
		}
		var now unix.Timespec
		_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
		line <- frame{now.Nano() + int64(oneWay), data[:n]}
	}
}

// BenchmarkTFTP compares servers at half a millisecond there and back, with
// atftp as the client of all. The rounds are interleaved, so that whatever else
// the computer does meets all of them; the median of each counts.
func BenchmarkTFTP(b *testing.B) {
	for _, p := range []string{"atftp", "atftpd", "ping"} {
		if _, err := exec.LookPath(p); err != nil {
			b.Fatalf("%s is missing: install the Debian packages atftp, atftpd and iputils-ping", p)
		}
	}
	delayedLine(b)
	out, err := exec.Command("ip", "netns", "exec", "far", "ping", "-q", "-i", "0.01", "-c", "100", "192.0.2.1").CombinedOutput()
	if err != nil {
		b.Fatalf("ping: %v: %s", err, out)
	}
	b.Logf("the line: %s", lastLine(out))
	dir := b.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil { // atftpd reads as nobody
		b.Fatal(err)
	}
	_ = os.Chmod(filepath.Dir(dir), 0o755)
	want := noise(8 << 20)
	path := filepath.Join(dir, "f")
	if err := os.WriteFile(path, want, 0o644); err != nil {
		b.Fatal(err)
	}
	rounds := 5
	var table strings.Builder
	for _, window := range []int{1, 4, 16, 64} {
		servers := []string{"atftpd", "ours", "pin"}
		if window > 1 {
			servers = append(servers, "pin-"+strconv.Itoa(window))
		}
		speed := map[string][]float64{}
		for range rounds {
			for _, s := range servers {
				speed[s] = append(speed[s], fetch(b, s, path, window, want))
			}
		}
		// one line for each window: the testing package cuts a benchmark's log
		fmt.Fprintf(&table, "\nwindow %2d:", window)
		for _, s := range servers {
			slices.Sort(speed[s])
			median, base := speed[s][rounds/2], speed["atftpd"][rounds/2]
			fmt.Fprintf(&table, "  %s %.2f (%.2f to %.2f) %.2f", s, median, speed[s][0], speed[s][rounds-1], median/base)
			if s == "ours" {
				b.ReportMetric(median/base, "of-atftpd-w"+strconv.Itoa(window))
			}
		}
	}
	b.Log("MB/s: median (least to most), share of atftpd", table.String())
}

// fetch starts a server, fetches the file once and returns MB/s; 0 when the
// client did not get the file.
func fetch(b *testing.B, server, path string, window int, want []byte) float64 {
	b.Helper()
	var cmd *exec.Cmd
	if server == "atftpd" {
		cmd = exec.Command("atftpd", "--daemon", "--no-fork", "--bind-address", "192.0.2.1", "--logfile", "-", "--verbose=5", filepath.Dir(path))
	} else {
		self, err := os.Executable()
		if err != nil {
			b.Fatal(err)
		}
		cmd = exec.Command(self)
		cmd.Env = append(os.Environ(), serveEnv+"="+server+" "+path)
	}
	var said lockedBuffer
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	for i := 0; !strings.Contains(said.String(), "ready") && !portOpen(); i++ {
		if i > 300 {
			b.Fatalf("%s does not listen: %s", server, said.String())
		}
		time.Sleep(20 * time.Millisecond)
	}
	got := filepath.Join(b.TempDir(), "got")
	args := []string{"netns", "exec", "far", "atftp", "--option", "blksize 1428"}
	if window > 1 {
		args = append(args, "--option", "windowsize "+strconv.Itoa(window))
	}
	args = append(args, "-g", "-r", "f", "-l", got, "192.0.2.1")
	start := time.Now()
	out, err := exec.Command("ip", args...).CombinedOutput()
	took := time.Since(start)
	have, _ := os.ReadFile(got)
	if err != nil || !bytes.Equal(have, want) {
		b.Logf("window %d: %s gave %d of %d bytes (%v): %s %s", window, server, len(have), len(want), err, lastLine(out), lastLine([]byte(said.String())))
		return 0
	}
	return float64(len(want)) / took.Seconds() / 1e6
}

// portOpen says whether something listens at UDP port 69 of this namespace.
func portOpen() bool {
	b, _ := os.ReadFile("/proc/self/net/udp")
	return strings.Contains(string(b), "010200C0:0045")
}

func lastLine(b []byte) string {
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return lines[len(lines)-1]
}
