package node

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

func TestRun(t *testing.T) {
	m := newMachine(t)
	m.script("/opt/metalrise/bin/kubeadm", `echo "$# $1 $2 PATH=$PATH TOKEN=$SECRET" >>'`+m.Root+`/log'; touch '`+m.Root+`/etc/done'`)
	t.Setenv("SECRET", "agent's own")
	step := runStep("/etc/done", "/opt/metalrise/bin/kubeadm", "$(reboot)", "a b; c")
	for range 3 {
		m.must(m.do(step))
	}
	want := "2 $(reboot) a b; c PATH=" + strings.TrimPrefix(environment()[0], "PATH=") + " TOKEN=\n"
	if got := m.read("log"); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestRunFails(t *testing.T) {
	m := newMachine(t)
	m.script("/usr/bin/tool", `i=0; while [ $i -lt 2000 ]; do echo "line $i"; i=$((i+1)); done
printf 'bad \033[31mred\377 token abcdef.0123456789abcdef --certificate-key %064d\n' 0 >&2; exit 3`)
	err := m.do(runStep("", "/usr/bin/tool"))
	if fleet.CodeOf(err) != fleet.CodeNodePrepare || fleet.KindOf(err) != fleet.Conflict || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("%s %s: %v", fleet.CodeOf(err), fleet.KindOf(err), err)
	}
	out := OutputOf(err)
	if len(out) > maxTail || !utf8.ValidString(out) || strings.Contains(out, "\x1b") || !strings.Contains(out, "line 1999\n") || strings.Contains(out, "line 0\n") {
		t.Errorf("%d bytes: %q…", len(out), out[max(0, len(out)-200):])
	}
	if strings.Contains(out, "0123456789abcdef") || strings.Contains(out, strings.Repeat("0", 64)) || !strings.Contains(out, "token [secret]") {
		t.Errorf("secrets: %q", out[max(0, len(out)-200):])
	}
	if err := m.do(runStep("", "/usr/bin/absent")); !strings.Contains(fmt.Sprint(err), "no such file") || strings.Contains(err.Error(), m.Root) {
		t.Errorf("%v", err)
	}
}

// A program that does not end is ended with all its children.
func TestRunIsBounded(t *testing.T) {
	m := newMachine(t)
	m.script("/usr/bin/slow", `sleep 300 & echo $! >'`+m.Root+`/child'; wait`)
	step := runStep("", "/usr/bin/slow")
	step.Run.Timeout = 300 * time.Millisecond
	if err := m.do(step); err == nil || !strings.Contains(err.Error(), "not done after 300ms") {
		t.Errorf("%v", err)
	}
	wantDead(t, m)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(300*time.Millisecond, cancel)
	step.Run.Timeout = 0
	if err := m.Do(ctx, m.shelf, step, nil); err == nil {
		t.Error("no error")
	}
	wantDead(t, m)
}

// A child that stays behind with the output open holds nobody up.
func TestRunLeavesNobody(t *testing.T) {
	m := newMachine(t)
	m.script("/usr/bin/forks", `sleep 300 & echo $! >'`+m.Root+`/child'; exit 0`)
	m.must(m.do(runStep("", "/usr/bin/forks")))
	wantDead(t, m)
}

func wantDead(t *testing.T, m *machine) {
	t.Helper()
	var pid int
	if _, err := fmt.Sscan(m.read("child"), &pid); err != nil {
		t.Fatal(err)
	}
	for range 50 { // the kernel takes a moment
		b, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(pid), "stat"))
		if err != nil || strings.Contains(string(b), ") Z ") {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
	t.Errorf("process %d still runs", pid)
}

func TestUnits(t *testing.T) {
	m := newMachine(t)
	unit := func(verb, name string) error {
		return m.do(callhome.Step{Name: "unit", Unit: &callhome.UnitStep{Verb: verb, Name: name}})
	}
	m.must(unit("daemon-reload", ""))
	m.must(unit("enable", "kubelet.service"))
	m.must(unit("restart", "containerd.service"))
	m.must(unit("stop", "absent.service"))
	m.must(unit("disable", "kubelet.service"))
	want := `--no-ask-password daemon-reload
--no-ask-password enable -- kubelet.service
--no-ask-password reset-failed -- containerd.service
--no-ask-password restart -- containerd.service
--no-ask-password show --property=LoadState --value -- absent.service
--no-ask-password show --property=LoadState --value -- kubelet.service
--no-ask-password disable -- kubelet.service
`
	if got := m.read("systemctl.log"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if err := unit("start", "bad.service"); OutputOf(err) != "Job for bad.service failed.\n" {
		t.Errorf("%v with output %q", err, OutputOf(err))
	}
}

func TestImages(t *testing.T) {
	m := newMachine(t)
	archive := []byte("registry.k8s.io/pause:3.10.1\nregistry.k8s.io/etcd:3.6.5-0\n")
	s, n := m.serve("/m/key/images", archive)
	step := callhome.Step{Name: "image", Image: &callhome.ImageStep{Path: "/m/key/images", SHA256: s, Bytes: n, References: []string{"registry.k8s.io/pause:3.10.1", "registry.k8s.io/etcd:3.6.5-0"}}}
	m.must(os.WriteFile(filepath.Join(m.Root, "starting"), nil, 0o600)) // it does not answer yet
	for range 2 {
		m.must(m.do(step))
	}
	if m.shelf.opens != 1 || strings.Count(m.read("ctr.log"), " import ") != 1 || m.tree("var/lib/metalrise") != "" {
		t.Errorf("opened %d times; ctr:\n%s\nspool:\n%s", m.shelf.opens, m.read("ctr.log"), m.tree("var/lib/metalrise"))
	}
	if !strings.Contains(m.read("ctr.log"), "images label registry.k8s.io/pause:3.10.1 io.cri-containerd.pinned=pinned") {
		t.Errorf("not pinned:\n%s", m.read("ctr.log"))
	}
	step.Image.References = append(step.Image.References, "registry.k8s.io/other:1")
	if err := m.do(step); fleet.CodeOf(err) != fleet.CodePayloadCorrupt || !strings.Contains(err.Error(), "registry.k8s.io/other:1") {
		t.Errorf("%v", err)
	}
	m.must(os.Remove(filepath.Join(m.Root, "usr/bin/ctr")))
	if err := m.do(step); err == nil || !strings.Contains(err.Error(), "ctr is in none of") {
		t.Errorf("%v", err)
	}
}
