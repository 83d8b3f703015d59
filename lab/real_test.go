package lab

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"metalrise.dev/lab/machine"
	"metalrise.dev/lab/machine/machinetest"
	"metalrise.dev/lab/nodeimage"
)

// realConfig is a lab of two container machines. METALRISE_CACHE keeps the parts
// between runs; METALRISE_NODE_IMAGE names a folder with an image to take.
func realConfig(t *testing.T) Config {
	t.Helper()
	machinetest.Require(t)
	cache := os.Getenv("METALRISE_CACHE")
	if cache == "" {
		cache = t.TempDir()
	}
	say := func(s string) { t.Log(s) }
	ignition, err := nodeimage.IgnitionBinary(t.Context(), cache, say)
	if err != nil {
		t.Fatal(err)
	}
	image := os.Getenv("METALRISE_NODE_IMAGE")
	if image == "" {
		if image, err = nodeimage.Ensure(t.Context(), cache, say); err != nil {
			t.Fatal(err)
		}
	}
	return Config{
		// The process number keeps runs on one host apart.
		Name: fmt.Sprintf("real%d", os.Getpid()), Dir: shortDir(t), Servers: 2, Machine: machine.Container, Firmware: "uefi",
		Disks: 2, Personality: "standard", ImageDir: image, Ignition: ignition, BMCPort: 443, Delays: DefaultDelays(),
	}
}

// traces lists what of a lab is to be seen on the host, by what it is.
func traces(t *testing.T, c Config) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	add := func(kind, what string) { found[kind] = append(found[kind], what) }
	tags := map[string]string{}
	for n := 1; n <= c.Servers; n++ {
		s := c.spec(n)
		sum := sha256.Sum256([]byte(s.Name + "\x00" + s.Dir))
		tags[s.Name] = hex.EncodeToString(sum[:])
	}
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if l.Attrs().Name == c.bridge() {
			add("bridge", c.bridge())
		}
		for name, tag := range tags {
			if strings.HasPrefix(l.Attrs().Name, name+".") && strings.HasSuffix(l.Attrs().Name, tag[:4]) {
				add("link", l.Attrs().Name)
			}
		}
	}
	loops, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range loops {
		if b, err := os.ReadFile(l); err == nil && strings.HasPrefix(string(b), c.Dir) {
			add("loop", string(b))
		}
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mounts), c.Dir) {
		add("mount", c.Dir)
	}
	err = filepath.WalkDir("/sys/fs/cgroup", func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() {
			return nil // groups of others come and go
		}
		for name, tag := range tags {
			if e.Name() == "metalrise-"+name+"-"+tag[:8] {
				add("cgroup", path)
				return fs.SkipDir
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// redfishCall acts on a BMC as any client does.
func redfishCall(t *testing.T, s Server, password, method, path string, body any) {
	t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, s.BMC.URL()+path, bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth(username, password)
	req.Header.Set("Content-Type", "application/json")
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}
	res, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode/100 != 2 {
		text, _ := io.ReadAll(res.Body)
		t.Fatalf("%s %s: %s %s", method, path, res.Status, text)
	}
}

func TestRealRackBootsAMediumAndLeavesNothing(t *testing.T) {
	c := realConfig(t)
	l, err := Start(t.Context(), c, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c = l.Config()
	password, err := c.password()
	if err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(filepath.Join(c.ImageDir, "*.iso"))
	if err != nil || len(found) != 1 {
		t.Fatalf("live media %v, %v", found, err)
	}
	// The medium is served where a real lab's is: on the bridge.
	ln, err := net.Listen("tcp", net.JoinHostPort(c.host(1).String(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	web := &http.Server{Handler: http.FileServer(http.Dir(c.ImageDir))}
	go web.Serve(ln)
	defer web.Close()

	s := l.Servers()[0]
	system := "Systems/" + s.BMC.SystemID()
	redfishCall(t, s, password, "POST", system+"/VirtualMedia/CD1/Actions/VirtualMedia.InsertMedia",
		map[string]any{"Image": "http://" + ln.Addr().String() + "/" + filepath.Base(found[0])})
	redfishCall(t, s, password, "PATCH", system, map[string]any{"Boot": map[string]string{"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "Cd"}})
	redfishCall(t, s, password, "POST", system+"/Actions/ComputerSystem.Reset", map[string]string{"ResetType": "On"})
	defer func() {
		if t.Failed() {
			b, err := os.ReadFile(s.console.path)
			t.Logf("console, %v:\n%s", err, b[max(0, len(b)-3000):])
		}
	}()
	up := regexp.MustCompile(`Reached target .*multi-user\.target`)
	until(t, "the live system is up", func() bool {
		b, _, err := s.console.read(0)
		return err == nil && up.Match(b)
	})
	if v := s.view(); v.Doing != RunsMedium || v.Override != "none" || len(v.Media) != 1 {
		t.Errorf("%+v; want it to run the medium with its override used", v)
	} else if mib := v.MemoryBytes >> 20; mib < 10 || mib > defaultMemoryMiB {
		t.Errorf("a running system uses %d MiB", mib)
	}
	if v := l.Servers()[1].view(); v.Doing != DoingNothing {
		t.Errorf("%+v; want the other one off", v)
	}
	if err := l.Untouched(); err != nil {
		t.Error(err)
	}
	seen := traces(t, c)
	for _, kind := range []string{"bridge", "link", "loop", "cgroup"} {
		if len(seen[kind]) == 0 {
			t.Errorf("no %s of a running lab is to be seen: this test cannot tell whether one is left", kind)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if left := traces(t, c); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestRealRackIsCleanedAfterAKill(t *testing.T) {
	c := realConfig(t)
	if err := c.Save(); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	client := NewClient(c)
	serve := func() *exec.Cmd {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), serveEnv+"="+c.Dir)
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	daemon := serve()
	until(t, "the lab answers", func() bool { _, err := client.View(t.Context()); return err == nil })
	installImage(t, c)
	if err := client.Power(t.Context(), "n1", On); err != nil {
		t.Fatal(err)
	}
	until(t, "n1 runs its disk", func() bool {
		return len(traces(t, c)["link"]) > 0
	})
	if err := daemon.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = daemon.Wait() // "signal: killed"
	if len(traces(t, c)) == 0 {
		t.Error("a killed lab left nothing: this test cannot tell whether cleaning works")
	}

	daemon = serve()
	until(t, "the lab answers again", func() bool { _, err := client.View(t.Context()); return err == nil })
	v, err := client.View(t.Context())
	if err != nil || v.Servers[0].Doing != DoingNothing || v.Servers[0].Touched != "" {
		t.Errorf("after a kill: %+v, %v; want all off, data disks as they were", v, err)
	}
	if err := daemon.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = daemon.Wait()
	if err := c.Remove(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
	if left := traces(t, c); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if _, err := os.Stat(c.Dir); err == nil {
		t.Error("the folder is still there")
	}
}

// installImage puts the system on the first disk of n1, as an installer would.
func installImage(t *testing.T, c Config) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(c.ImageDir, "*.raw.zst"))
	if err != nil || len(found) != 1 {
		t.Fatalf("disk images %v, %v", found, err)
	}
	s := c.spec(1)
	disk := diskPath(s, s.Disks[0])
	if out, err := exec.Command("zstd", "-q", "-f", "-d", "--sparse", found[0], "-o", disk).CombinedOutput(); err != nil {
		t.Fatalf("unpack the disk image: %v: %s", err, out)
	}
	if err := os.Truncate(disk, s.Disks[0].SizeBytes); err != nil {
		t.Fatal(err)
	}
}
