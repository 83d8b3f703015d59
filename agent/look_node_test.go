package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"metalrise.dev/agent/internal/fixture"
	"metalrise.dev/fleet"
)

func lookNode(t *testing.T, files map[string]string) (fleet.NodeRuntime, fleet.KVM, []fleet.Problem) {
	t.Helper()
	root := t.TempDir()
	fixture.Write(t, root, files)
	f := fleet.Facts{KVM: fleet.Known(fleet.KVM{Why: "no"})}
	NewHost(root).LookNode(&f)
	r, ok := f.Runtime.Get()
	k, okKVM := f.KVM.Get()
	if !ok || !okKVM {
		t.Fatal("nothing was looked at")
	}
	return r, k, f.Problems
}

func TestLookNode(t *testing.T) {
	status := "CapInh:\t0000000000000000\nCapEff:\t%s\nCapBnd:\t%s\n"
	const all, without = "000001ffffffffff", "000001fffeffffff" // CAP_SYS_RESOURCE is bit 24
	hardware := map[string]string{
		"sys/fs/cgroup/cgroup.controllers": "cpu memory\n", "proc/sys/kernel/osrelease": "6.18.2-200.fc43.x86_64\n",
		"proc/self/status": fmt.Sprintf(status, all, all), "proc/swaps": "Filename\tType\tSize\tUsed\tPriority\n/dev/zram0 partition 1 0 100\n",
		"proc/cpuinfo": "processor\t: 0\nvmx flags\t: vnmi\nflags\t\t: fpu svm avx2\n", "dev/vhost-net": "", "dev/net/tun": "",
		"proc/1/environ": "HOME=/\x00TERM=linux\x00",
	}
	r, k, problems := lookNode(t, hardware)
	if want := (fleet.NodeRuntime{CgroupVersion: 2, MayLowerOOM: true, Swap: true, Kernel: "6.18.2-200.fc43.x86_64"}); r != want {
		t.Errorf("%+v, want %+v", r, want)
	}
	if !k.VhostNet.Or(false) || !k.Tun.Or(false) || k.Flag != "svm" || k.Why != "no" || len(problems) > 0 {
		t.Errorf("%+v %v", k, problems)
	}
	container := map[string]string{
		"sys/fs/cgroup/unified/cgroup.controllers": "", "proc/self/status": fmt.Sprintf(status, all, without), "proc/swaps": "Filename\tType\n",
		"proc/1/environ": "container=lab\x00", "dev/net/tun": "",
	}
	r, k, problems = lookNode(t, container)
	if want := (fleet.NodeRuntime{CgroupVersion: 1, Container: "lab"}); r != want {
		t.Errorf("%+v, want %+v", r, want)
	}
	if k.VhostNet.Or(true) || !k.Tun.Or(false) || k.Flag != "" || len(problems) != 1 || problems[0].Path != "/dev/vhost-net" || problems[0].Text != "open: no such file or directory" {
		t.Errorf("%+v %v", k, problems)
	}
	container["run/systemd/container"] = "systemd-nspawn\n"
	if r, _, _ = lookNode(t, container); r.Container != "systemd-nspawn" {
		t.Errorf("container %q", r.Container)
	}
}

func TestSaveOutlivesTheBoot(t *testing.T) {
	m := NewHost(t.TempDir())
	for _, v := range []string{"one", "two"} {
		if err := m.Save("a", []byte(v)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.RemoveAll(m.path("run")); err != nil {
		t.Fatal(err)
	}
	if v, err := m.Load("a"); err != nil || string(v) != "two" {
		t.Errorf("%q, %v", v, err)
	}
	entries, err := os.ReadDir(m.path(stateDir))
	if err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
	if info, err := os.Stat(filepath.Join(m.path(stateDir))); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info, err)
	}
}
