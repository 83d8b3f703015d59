package iso_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"metalrise.dev/iso"
	"metalrise.dev/iso/isotest"
)

// roadEnv makes the test program serve a file in one of the ways compared, in a
// process of its own, so that its processor time can be told from the client's.
const roadEnv = "METALRISE_ISO_ROAD"

func TestMain(m *testing.M) {
	if road := os.Getenv(roadEnv); road != "" {
		fmt.Fprintln(os.Stderr, serveRoad(road, os.Getenv("METALRISE_ISO_FILE")))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// serveRoad serves until it is killed; its address is its first line of output.
func serveRoad(road, path string) error {
	base, err := iso.Open(path)
	if err != nil {
		return err
	}
	im, err := base.Personalise(iso.Personal{Ignition: config30k(), AppendKargs: []string{"console=ttyS0"}})
	if err != nil {
		return err
	}
	h, ok := map[string]http.Handler{
		"image": im,
		"file":  http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, path) }),
		"steps": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { inSteps(w, r, im) }),
	}[road]
	if !ok {
		return fmt.Errorf("no road %q", road)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	return http.Serve(l, h)
}

// inSteps serves as package boot does: steps of a MiB, a deadline for each.
func inSteps(w http.ResponseWriter, r *http.Request, im *iso.Image) {
	rd, err := im.Open()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer rd.Close()
	w.Header().Set("Content-Length", strconv.FormatInt(im.Size(), 10))
	for at := int64(0); at < im.Size(); {
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Minute))
		n, err := rd.WriteRange(w, at, min(1<<20, im.Size()-at))
		if at += n; err != nil {
			return
		}
	}
}

// config30k is a config as large as a real one.
func config30k() []byte {
	return []byte(`{"ignition":{"version":"3.4.0"},"x":"` + strings.Repeat("0123456789abcdef", 1900) + `"}`)
}

// road is one running server.
type road struct {
	name, addr, path string
	pids             []int
}

// ownRoad starts this program as a server.
func ownRoad(b *testing.B, name, file string) road {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roadEnv+"="+name, "METALRISE_ISO_FILE="+file)
	return started(b, name, cmd)
}

// started starts a server that prints its address.
func started(b *testing.B, name string, cmd *exec.Cmd) road {
	b.Helper()
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(name, err)
	}
	return road{name: name, addr: strings.TrimSpace(addr), path: "/", pids: []int{cmd.Process.Pid}}
}

// nginxRoad starts Debian's nginx with sendfile on the plain file.
func nginxRoad(b *testing.B, file string) road {
	b.Helper()
	program, err := exec.LookPath("nginx")
	if err != nil {
		b.Skip("skipped: no nginx (Debian package nginx-light)")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	dir := b.TempDir()
	conf := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf(`user root; worker_processes 1; pid %[1]s/pid; error_log %[1]s/error.log; daemon off;
events { worker_connections 1024; }
http { access_log off; sendfile on; tcp_nopush on; client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f;
uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s; server { listen %[2]s; root %[3]s; } }
`, dir, addr, filepath.Dir(file))
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(program, "-c", conf, "-p", dir)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { cmd.Process.Signal(syscall.SIGTERM); cmd.Wait() })
	for range 100 {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", cmd.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	r := road{name: "nginx sendfile", addr: addr, path: "/" + filepath.Base(file)}
	for _, f := range strings.Fields(string(children)) {
		pid, err := strconv.Atoi(f)
		if err != nil {
			b.Fatal(err)
		}
		r.pids = append(r.pids, pid)
	}
	return r
}

// isoeditorRoad serves by openshift/assisted-image-service, when the program in
// testdata/isoeditor can be built: its module is not one of ours.
func isoeditorRoad(b *testing.B, file string) road {
	b.Helper()
	program := filepath.Join(b.TempDir(), "isoeditor")
	build := exec.Command("go", "build", "-o", program, ".")
	build.Dir = "testdata/isoeditor"
	build.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		b.Skipf("skipped: isoeditor cannot be built: %s", out)
	}
	config := filepath.Join(b.TempDir(), "config.ign")
	if err := os.WriteFile(config, config30k(), 0o600); err != nil {
		b.Fatal(err)
	}
	return started(b, "isoeditor", exec.Command(program, file, config))
}

// cpu is the processor time of a server in seconds, and what it had written to
// storage in bytes.
func (r road) cpu(b *testing.B) (seconds float64, written int64) {
	b.Helper()
	for _, pid := range r.pids {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
		if err != nil || len(threads) == 0 {
			b.Fatal("no process", pid, err)
		}
		for _, t := range threads {
			text, err := os.ReadFile(t)
			if err != nil {
				continue // the thread ended
			}
			ns, err := strconv.ParseFloat(strings.Fields(string(text))[0], 64)
			if err != nil {
				b.Fatal(err)
			}
			seconds += ns / 1e9
		}
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
		if err != nil {
			b.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if v, ok := strings.CutPrefix(line, "write_bytes: "); ok {
				n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
				if err != nil {
					b.Fatal(err)
				}
				written += n
			}
		}
	}
	return seconds, written
}

// fetch reads a whole answer and drops it in the kernel, so that the client
// takes as little of the machine as can be. It gives the bytes of the body and
// the time to its first byte.
func (r road) fetch(header string) (int64, time.Duration, error) {
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		return 0, 0, err
	}
	defer c.Close()
	begin := time.Now()
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s\r\n", r.path, header); err != nil {
		return 0, 0, err
	}
	in := bufio.NewReaderSize(c, 4096)
	line, err := textproto.NewReader(in).ReadLine()
	if err != nil || !strings.Contains(line, " 20") {
		return 0, 0, fmt.Errorf("%s: %q, %w", r.name, line, err)
	}
	if _, err := textproto.NewReader(in).ReadMIMEHeader(); err != nil {
		return 0, 0, err
	}
	if _, err := in.Peek(1); err != nil {
		return 0, 0, err
	}
	first := time.Since(begin)
	n, err := discard(c)
	return n + int64(in.Buffered()), first, err
}

func discard(c net.Conn) (int64, error) {
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	buf := make([]byte, 8<<20) // its length only says how much to drop
	total := int64(0)
	for {
		var n int
		var fault error
		err := raw.Read(func(fd uintptr) bool {
			n, _, fault = syscall.Recvfrom(int(fd), buf, syscall.MSG_TRUNC)
			return !errors.Is(fault, syscall.EAGAIN)
		})
		if err := errors.Join(err, fault); err != nil {
			return total, err
		}
		if n == 0 {
			return total, nil
		}
		total += int64(n)
	}
}

// BenchmarkRoads compares ways to serve one ISO of a GiB, over plain HTTP on
// loopback, in one run: processor time of the server per 10⁹ bytes, time to first
// byte (median), and what was written to storage. Give it rounds:
//
//	go test -run '^$' -bench Roads -benchtime 16x ./iso
func BenchmarkRoads(b *testing.B) {
	file := filepath.Join(b.TempDir(), "base.iso")
	if err := isotest.Build(file, isotest.Options{RootfsSize: 1 << 30}); err != nil {
		b.Fatal(err)
	}
	// All of it in the page cache, for all alike.
	f, err := os.Open(file)
	if err != nil {
		b.Fatal(err)
	}
	size, err := io.Copy(io.Discard, f)
	if err := errors.Join(err, f.Close()); err != nil {
		b.Fatal(err)
	}
	for _, way := range []struct {
		name  string
		start func(b *testing.B) road
	}{
		{"nginx sendfile", func(b *testing.B) road { return nginxRoad(b, file) }},
		{"image", func(b *testing.B) road { return ownRoad(b, "image", file) }},
		{"image in steps", func(b *testing.B) road { return ownRoad(b, "steps", file) }},
		{"plain file", func(b *testing.B) road { return ownRoad(b, "file", file) }},
		{"isoeditor", func(b *testing.B) road { return isoeditorRoad(b, file) }},
	} {
		for _, clients := range []int{1, 16} {
			b.Run(fmt.Sprintf("%s/%d", way.name, clients), func(b *testing.B) { measure(b, way.start(b), clients, size) })
		}
	}
}

func measure(b *testing.B, r road, clients int, size int64) {
	var firsts []time.Duration
	for range 100 {
		_, first, err := r.fetch("Range: bytes=0-2047\r\n")
		if err != nil {
			b.Fatal(err)
		}
		firsts = append(firsts, first)
	}
	slices.Sort(firsts)
	before, written := r.cpu(b)
	b.SetBytes(size)
	b.ResetTimer()
	errs := make(chan error)
	for i := range clients {
		go func() {
			for n := i; n < b.N; n += clients {
				if got, _, err := r.fetch(""); err != nil || got != size {
					errs <- fmt.Errorf("%d of %d bytes: %w", got, size, err)
					return
				}
			}
			errs <- nil
		}()
	}
	for range clients {
		if err := <-errs; err != nil {
			b.Error(err)
		}
	}
	b.StopTimer()
	after, now := r.cpu(b)
	b.ReportMetric((after-before)/float64(size)/float64(b.N)*1e9, "cpu-s/GB")
	b.ReportMetric(float64(firsts[len(firsts)/2].Microseconds()), "µs-first-byte")
	b.ReportMetric(float64(now-written), "B-written")
}
