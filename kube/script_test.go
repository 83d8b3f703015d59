package kube

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

// The shell reads every script.
func TestScriptsAreShell(t *testing.T) {
	seen := map[string]bool{}
	each(t, func(t *testing.T, _ shape, _ string, task callhome.Task) {
		for _, s := range task.Steps {
			if s.File == nil || !strings.HasPrefix(string(s.File.Data), "#!") || seen[string(s.File.Data)] {
				continue
			}
			seen[string(s.File.Data)] = true
			c := exec.Command(shell, "-n")
			c.Stdin = strings.NewReader(string(s.File.Data))
			if out, err := c.CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s", s.File.To, err, out)
			}
		}
	})
	if len(seen) < 6 {
		t.Errorf("only %d scripts", len(seen))
	}
}

// stage writes a script with its paths below a folder of the test, beside
// programs that note how they were called.
type stage struct {
	t   *testing.T
	dir string
}

func newStage(t *testing.T) stage { return stage{t, t.TempDir()} }

func (s stage) write(path, text string) string {
	s.t.Helper()
	path = filepath.Join(s.dir, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		s.t.Fatal(err)
	}
	return path
}

func (s stage) read(path string) string {
	raw, err := os.ReadFile(filepath.Join(s.dir, path))
	if err != nil {
		return ""
	}
	return string(raw)
}

// script writes a script whose absolute paths lead into the stage.
func (s stage) script(name, text string) string {
	for _, root := range []string{"/opt/", "/etc/", "/proc/", "/run/", "/boot/", "/usr/src/", "/usr/lib/modules/", "/usr/lib/ostree-boot/", "/usr/lib/kernel/"} {
		text = strings.ReplaceAll(text, root, s.dir+root)
	}
	return s.write(name, text)
}

func (s stage) run(argv ...string) error {
	out, err := exec.Command(shell, argv...).CombinedOutput()
	if err != nil {
		s.t.Logf("%v: %s", argv, out)
	}
	return err
}

func TestKubeadmRunsOnce(t *testing.T) {
	s := newStage(t)
	n := testNode(t, testPlan(t, 1, fleet.NodeAddress), "oslo-cp1", hardware())
	once := s.script("once", n.once())
	s.write("opt/metalrise/bin/kubeadm", "#!/bin/sh\necho \"$@\" >>"+s.dir+"/calls\n[ ! -e "+s.dir+"/broken ]\n")
	mark := filepath.Join(s.dir, "mark")
	s.write("broken", "")
	s.write("proc/config.gz", "")
	if s.run(once, mark, "init") == nil || s.read("calls") != "init\n" {
		t.Errorf("a failure is not told; calls: %q", s.read("calls"))
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("a failure left a mark")
	}
	if err := os.Remove(filepath.Join(s.dir, "broken")); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := s.run(once, mark, "init", "--config", "x y"); err != nil {
			t.Error(err)
		}
	}
	if got := s.read("calls"); got != "init\ninit --config x y\n" {
		t.Errorf("calls: %q", got)
	}
	for range 2 {
		if err := s.run(once, "-", "reset"); err != nil {
			t.Error(err)
		}
	}
	if got := s.read("calls"); !strings.HasSuffix(got, "reset\nreset\n") {
		t.Errorf("reset did not run each time: %q", got)
	}
}

// A kernel that does not show its configuration is no reason to refuse a node.
func TestKubeadmWithoutKernelConfig(t *testing.T) {
	s := newStage(t)
	n := testNode(t, testPlan(t, 1, fleet.NodeAddress), "oslo-cp1", hardware())
	once := s.script("once", n.once())
	s.write("opt/metalrise/bin/kubeadm", "#!/bin/sh\necho \"$@\" >>"+s.dir+"/calls\n")
	s.write("opt/metalrise/bin/uname", "#!/bin/sh\necho 6.1.0-56-cloud\n")
	calls := func() string {
		_ = os.Remove(filepath.Join(s.dir, "calls"))
		for _, verb := range []string{"init", "join", "reset"} {
			if err := s.run(once, "-", verb, "--config", "x"); err != nil {
				t.Error(err)
			}
		}
		return s.read("calls")
	}
	const ignore = " --ignore-preflight-errors=SystemVerification"
	if got := calls(); got != "init --config x"+ignore+"\njoin --config x"+ignore+"\nreset --config x\n" {
		t.Errorf("without: %q", got)
	}
	for _, file := range []string{"boot/config-6.1.0-56-cloud", "usr/lib/modules/6.1.0-56-cloud/config"} {
		s.write(file, "")
		if got := calls(); strings.Contains(got, "ignore") {
			t.Errorf("with %s: %q", file, got)
		}
		if err := os.Remove(filepath.Join(s.dir, file)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestBeforeKubelet(t *testing.T) {
	for name, c := range map[string]struct {
		runtime fleet.NodeRuntime
		swaps   string
		swapoff bool
	}{
		"hardware with swap":    {hardware(), "Filename\n/dev/zram0\n", true},
		"hardware without swap": {hardware(), "Filename\n", false},
		"container":             {container(), "Filename\n/dev/sda2\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			n := testNode(t, testPlan(t, 3, fleet.VirtualIP), "oslo-cp1", c.runtime)
			s.write("proc/swaps", c.swaps)
			s.write("proc/sys/net/ipv4/ip_forward", "0\n")
			s.write("etc/metalrise/kube/keepalived.conf.in", n.keepalivedConfig())
			note := "#!/bin/sh\necho \"$0 $@\" >>" + s.dir + "/calls\n"
			s.write("opt/metalrise/bin/modprobe", note+"exit 1\n")
			s.write("opt/metalrise/bin/swapoff", note)
			s.write("opt/metalrise/bin/ip", note+"echo '4: vlan30@bond0    inet 10.0.1.21/24 brd 10.0.1.255 scope global vlan30'\n")
			if err := s.run(s.script("before", n.beforeKubeletScript())); err != nil {
				t.Fatal(err)
			}
			if got := s.read("proc/sys/net/ipv4/ip_forward"); got != "1\n" {
				t.Errorf("ip_forward is %q", got)
			}
			if got := s.read("run/metalrise/keepalived/keepalived.conf"); !strings.Contains(got, "interface vlan30\n") || strings.Contains(got, "@") {
				t.Errorf("keepalived.conf:\n%s", got)
			}
			if got := strings.Contains(s.read("calls"), "swapoff -a"); got != c.swapoff {
				t.Errorf("swapoff was called: %t", got)
			}
			if !strings.Contains(s.read("calls"), "address show to 10.0.1.21/32") {
				t.Errorf("calls: %s", s.read("calls"))
			}
		})
	}
}

// A kernel that does not forward carries no pods: that is said, not passed over.
func TestBeforeKubeletRefusesAKernelWithoutForwarding(t *testing.T) {
	s := newStage(t)
	n := testNode(t, testPlan(t, 1, fleet.NodeAddress), "oslo-cp1", hardware())
	s.write("proc/swaps", "Filename\n")
	if s.run(s.script("before", n.beforeKubeletScript())) == nil {
		t.Error("it went on without ip_forward")
	}
}

func TestAfterResetGivesTheAddressBack(t *testing.T) {
	s := newStage(t)
	n := testNode(t, testPlan(t, 3, fleet.VirtualIP), "oslo-cp2", hardware())
	s.write("opt/metalrise/bin/ip", "#!/bin/sh\necho \"$@\" >>"+s.dir+"/calls\ncase \"$*\" in *show*) echo '2: eth0    inet 10.0.1.20/32 scope global eth0';; esac\n")
	s.write("opt/metalrise/bin/nft", "#!/bin/sh\nexit 1\n")
	if err := s.run(s.script("after", n.afterResetScript())); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"link delete cni0", "link delete flannel.1", "address delete 10.0.1.20/32 dev eth0"} {
		if !strings.Contains(s.read("calls"), want+"\n") {
			t.Errorf("no %q in %s", want, s.read("calls"))
		}
	}
}
