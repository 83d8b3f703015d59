package kubernetes

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/vishvananda/netlink"

	"metalrise.dev/fleet"
	"metalrise.dev/lab/machine"
	"metalrise.dev/lab/machine/container"
	"metalrise.dev/lab/machine/machinetest"
	"metalrise.dev/lab/nodeimage"
)

// testCluster is a cluster of container machines, configured by hand: three
// control planes behind a virtual address that they hold themselves, and a worker.
type testCluster struct {
	t       *testing.T
	payload fleet.Payload
	folder  string // of the payload
	bridge  string
	prefix  string // first three numbers of addresses
	url     string // where nodes fetch what they need
	pki     map[string][]byte
	caHash  string
	begin   time.Time
}

const testToken = "abcdef.0123456789abcdef"

func (c *testCluster) address(i int) string { return fmt.Sprintf("%s.%d", c.prefix, 10+i) }
func (c *testCluster) virtual() string      { return c.prefix + ".100" }

func (c *testCluster) say(format string, args ...any) {
	c.t.Helper()
	c.t.Logf("%6.1fs "+format, append([]any{time.Since(c.begin).Seconds()}, args...)...)
}

// testNode is one machine of it.
type testNode struct {
	name         string
	index        int
	controlPlane bool
	disk         string
	hw           *container.Machine
	console      *machinetest.Console
	cut          context.CancelFunc
	before       map[string]bool // control groups that a killed test left under the same name
	stopped      chan machine.Stop
}

// A real cluster comes up on container machines and answers.
func TestCluster(t *testing.T) {
	c := newTestCluster(t)
	image, ignition := nodeParts(t)
	var nodes []*testNode
	for i, name := range []string{"kc1", "kc2", "kc3", "kw1"} {
		nodes = append(nodes, c.node(i+1, name, i < 3, image, ignition))
	}
	c.begin = time.Now()
	for _, n := range nodes {
		c.power(n)
	}
	admin, err := c.admin()
	if err != nil {
		t.Fatal(err)
	}
	run := kubectl(t, c.folder, admin)
	c.eventually("API behind the virtual address", nodes, func() bool {
		return strings.TrimSpace(quiet(t, c.folder, admin, "get", "--raw", "/readyz")) == "ok"
	})
	// flannel is there before kube-proxy: it asks the API past the Service.
	run(strings.ReplaceAll(flannelManifest, "VIRTUAL", c.virtual()), "apply", "-f", "-")
	run(echoManifest, "apply", "-f", "-")
	c.eventually("four nodes Ready", nodes, func() bool {
		return ready(quiet(t, c.folder, admin, "get", "nodes", "--no-headers")) == len(nodes)
	})
	t.Log("\n" + run("", "get", "nodes", "-o", "wide"))
	c.eventually("workload ready", nodes, func() bool {
		return strings.Contains(quiet(t, c.folder, admin, "get", "daemonset", "echo", "-o", "jsonpath={.status.numberReady}"), "4")
	})
	c.eventually("CoreDNS ready", nodes, func() bool {
		return strings.Contains(quiet(t, c.folder, admin, "-n", "kube-system", "get", "deployment", "coredns", "-o", "jsonpath={.status.availableReplicas}"), "2")
	})
	pod := run("", "get", "pods", "-l", "app=echo", "-o", "jsonpath={.items[0].metadata.name}")
	answers := map[string]bool{}
	c.eventually("the Service answered by name from pods of every node", nodes, func() bool {
		answers[strings.TrimSpace(quiet(t, c.folder, admin, "exec", pod, "--", "/echo", "get", "http://echo.default.svc.cluster.local/"))] = true
		delete(answers, "")
		return len(answers) == len(nodes)
	})
	t.Log("\n" + run("", "get", "pods", "-A", "-o", "wide"))
	uuids := run("", "get", "nodes", "-o", "jsonpath={range .items[*]}{.status.nodeInfo.systemUUID}{\"\\n\"}{end}")
	for _, n := range nodes {
		if !strings.Contains(strings.ToLower(uuids), c.spec(n).UUID) {
			t.Errorf("no node shows the system UUID of %s: %q", n.name, uuids)
		}
	}
	c.say("memory: %s", memoryOf(nodes))
	c.hold(admin)
	nodes[0].cut()
	if stop := <-nodes[0].stopped; stop != machine.Killed {
		t.Errorf("kc1 stopped: %s", stop)
	}
	nodes[0].nothingLeft(t)
	c.eventually("the API answers without its first control plane", nodes[1:], func() bool {
		return quiet(t, c.folder, admin, "--request-timeout=3s", "get", "--raw", "/readyz") == "ok"
	})
	c.eventually("the cluster has noticed", nodes[1:], func() bool {
		return ready(quiet(t, c.folder, admin, "get", "nodes", "--no-headers")) == len(nodes)-1
	})
	c.power(nodes[0])
	c.eventually("the lost control plane is back", nodes, func() bool {
		return ready(quiet(t, c.folder, admin, "get", "nodes", "--no-headers")) == len(nodes) &&
			quiet(t, c.folder, admin, "--server=https://"+c.address(1)+":6443", "get", "--raw", "/readyz") == "ok"
	})
	for _, n := range nodes {
		n.cut()
		<-n.stopped
	}
	for _, n := range nodes {
		c.say("%s used at most %d MiB", n.name, n.hw.PeakMemory()>>20)
		n.nothingLeft(t)
	}
}

// Whatever a node is doing when its power is cut (running a control plane,
// unpacking images, fetching), all of it is gone at once, and it boots again. The
// first cut comes last in the life of a node: Ignition does not survive a cut in
// the middle of its own run, on any machine.
func TestPowerCutAnywhere(t *testing.T) {
	c := newTestCluster(t)
	image, ignition := nodeParts(t)
	n := c.node(1, "kx1", true, image, ignition)
	for _, moment := range []string{"kube-apiserver is healthy", "CLUSTER containerd runs", "CLUSTER files fetched", "CLUSTER images imported"} {
		n.console = machinetest.NewConsole()
		c.power(n)
		c.eventually(moment, []*testNode{n}, func() bool { return strings.Contains(n.console.Tail(1<<20), moment) })
		n.cut()
		begin := time.Now()
		if stop := <-n.stopped; stop != machine.Killed {
			t.Errorf("cut after %q: stopped: %s\n%s", moment, stop, n.console.Tail(2000))
		}
		c.say("gone after %.1f s, %d MiB at most", time.Since(begin).Seconds(), n.hw.PeakMemory()>>20)
		n.nothingLeft(t)
	}
	if err := n.hw.Clean(t.Context()); err != nil {
		t.Error(err)
	}
}

// nothingLeft checks what can be seen of a machine from outside after its power
// was cut.
func (n *testNode) nothingLeft(t *testing.T) {
	t.Helper()
	err := filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.HasPrefix(d.Name(), "metalrise-"+n.name+"-") && !n.before[d.Name()] {
			t.Errorf("control group %s is left", path)
		}
		return nil // groups of others come and go meanwhile
	})
	if err != nil {
		t.Error(err)
	}
	backing, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, f := range backing {
		if b, _ := os.ReadFile(f); strings.HasPrefix(string(b), n.disk) {
			t.Errorf("loop device left over %s", b)
		}
	}
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil || strings.Contains(string(mounts), n.disk) {
		t.Errorf("mounts left below %s (%v)", n.disk, err)
	}
}

// ready counts the nodes that are, in kubectl's list.
func ready(list string) int {
	return len(regexp.MustCompile(`(?m)^\S+ +Ready\b`).FindAllString(list, -1))
}

func newTestCluster(t *testing.T) *testCluster {
	t.Helper()
	c := &testCluster{t: t, folder: payload(t), begin: time.Now()}
	text, err := os.ReadFile(filepath.Join(c.folder, payloadFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &c.payload); err != nil {
		t.Fatal(err)
	}
	id := os.Getpid() % 60000
	c.bridge, c.prefix = fmt.Sprintf("kt%d", id), fmt.Sprintf("10.%d.%d", 200+id/250%50, id%250)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = c.bridge
	bridge := &netlink.Bridge{LinkAttrs: attrs}
	if err := netlink.LinkAdd(bridge); err != nil {
		t.Fatalf("make bridge %s: %v", c.bridge, err)
	}
	t.Cleanup(func() { _ = netlink.LinkDel(bridge) })
	address, err := netlink.ParseAddr(c.prefix + ".1/24")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.AddrAdd(bridge, address); err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(bridge); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", c.prefix+".1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.FileServer(http.Dir(c.folder))}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	c.url = "http://" + l.Addr().String()
	if err := c.makePKI(); err != nil {
		t.Fatal(err)
	}
	return c
}

// makePKI makes what every control plane must have in common, under the names
// that kubeadm looks for: with these there nothing secret needs to be uploaded.
func (c *testCluster) makePKI() error {
	c.pki = map[string][]byte{}
	for name, subject := range map[string]string{"ca": "kubernetes", "front-proxy-ca": "front-proxy-ca", "etcd/ca": "etcd-ca"} {
		a, err := newAuthority(subject)
		if err != nil {
			return err
		}
		key, err := keyBlock(a.key)
		if err != nil {
			return err
		}
		c.pki[name+".crt"], c.pki[name+".key"] = a.pem, key
		if name == "ca" {
			c.caHash = fmt.Sprintf("sha256:%x", sha256.Sum256(a.cert.RawSubjectPublicKeyInfo))
		}
	}
	private, public, err := newTokenKey()
	c.pki["sa.key"], c.pki["sa.pub"] = private, public
	return err
}

// nodeParts returns the disk image, raw, and Ignition.
func nodeParts(t *testing.T) (raw, ignition string) {
	t.Helper()
	cache := cacheDir(t)
	say := func(s string) { t.Log(s) }
	ignition, err := nodeimage.IgnitionBinary(t.Context(), cache, say)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := nodeimage.Ensure(t.Context(), cache, say)
	if err != nil {
		t.Fatal(err)
	}
	packed, err := filepath.Glob(filepath.Join(dir, "*.raw.zst"))
	if err != nil || len(packed) != 1 {
		t.Fatalf("disk image in %s: %v, %v", dir, packed, err)
	}
	in, err := os.Open(packed[0])
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	z, err := zstd.NewReader(in)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	out, err := os.Create(filepath.Join(t.TempDir(), "disk.raw"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := z.WriteTo(out); err != nil {
		t.Fatal(err)
	}
	return out.Name(), ignition
}

func (c *testCluster) spec(n *testNode) machine.Spec {
	return machine.Spec{
		Name: n.name, UUID: fmt.Sprintf("4c4c4544-0035-4a10-8054-b7c04f395a%02x", n.index), Serial: fmt.Sprintf("KSN-%d", n.index),
		Vendor: "Example Corp", Model: "Rack 1U", Firmware: "uefi", CPUs: 2, MemoryMiB: 2048, Dir: n.disk,
		Disks: []machine.Disk{{Name: "disk0", Serial: fmt.Sprintf("KUBE%d", n.index), WWN: fmt.Sprintf("5000c500aabbc0%02x", n.index), Model: "SSD", SizeBytes: 8 << 30}},
		NICs:  []machine.NIC{{MAC: fmt.Sprintf("52:54:00:ac:00:%02x", n.index), Bridge: c.bridge}},
	}
}

// node makes an installed machine: the disk image and its Ignition config.
func (c *testCluster) node(i int, name string, controlPlane bool, image, ignition string) *testNode {
	c.t.Helper()
	n := &testNode{name: name, index: i, controlPlane: controlPlane, disk: c.t.TempDir(), console: machinetest.NewConsole(), stopped: make(chan machine.Stop, 1)}
	spec := c.spec(n)
	disk := filepath.Join(n.disk, "disk0.raw")
	machinetest.CopyFile(c.t, image, disk)
	if err := os.Truncate(disk, spec.Disks[0].SizeBytes); err != nil {
		c.t.Fatal(err)
	}
	machinetest.OpenBootFS(c.t, disk).Write("/ignition/config.ign", c.config(n))
	hw, err := container.New(spec, ignition)
	if err != nil {
		c.t.Fatal(err)
	}
	n.hw, n.before = hw, map[string]bool{}
	left, _ := filepath.Glob("/sys/fs/cgroup/pids/metalrise-" + name + "-*")
	for _, dir := range left {
		n.before[filepath.Base(dir)] = true
	}
	return n
}

func (c *testCluster) power(n *testNode) {
	ctx, cut := context.WithCancel(context.Background())
	n.cut = cut
	var once sync.Once
	done := make(chan struct{})
	go func() {
		stop, err := n.hw.Boot(ctx, machine.BootSource{Kind: machine.FromDisk}, n.console)
		if err != nil {
			c.t.Errorf("%s: %v", n.name, err)
		}
		n.stopped <- stop
		once.Do(func() { close(done) })
	}()
	c.t.Cleanup(func() { cut(); <-done })
}

// hold keeps the cluster for someone who wants to look at it: METALRISE_HOLD names
// a file that gets the kubeconfig, and whose removal lets the test go on.
func (c *testCluster) hold(admin []byte) {
	path := os.Getenv("METALRISE_HOLD")
	if path == "" {
		return
	}
	if err := os.WriteFile(path, admin, 0o600); err != nil {
		c.t.Error(err)
	}
	for _, err := os.Stat(path); err == nil; _, err = os.Stat(path) {
		time.Sleep(time.Second)
	}
}

// patience is for a computer on which much else runs; nothing here is about time.
const patience = 10 * time.Minute

// eventually waits for something to be true.
func (c *testCluster) eventually(what string, nodes []*testNode, ok func() bool) {
	c.t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			for _, n := range nodes {
				c.t.Logf("console of %s:\n%s", n.name, n.console.Tail(5000))
			}
			admin, _ := c.admin()
			c.hold(admin)
			c.t.Fatalf("not within %v: %s", patience, what)
		}
		time.Sleep(500 * time.Millisecond)
	}
	c.say("%s", what)
}

// ignitionFile is one file of an Ignition config.
func ignitionFile(path string, mode int, text string) map[string]any {
	return map[string]any{"path": path, "mode": mode, "overwrite": true, "contents": map[string]any{"source": "data:," + url.PathEscape(text)}}
}
