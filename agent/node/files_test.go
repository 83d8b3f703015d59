package node

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

func TestFileIsWrittenOnce(t *testing.T) {
	m := newMachine(t)
	step := fileStep("/etc/kubernetes/pki/sa.key", 0o600, "key")
	m.must(m.do(step))
	at := filepath.Join(m.Root, "etc/kubernetes/pki/sa.key")
	before, err := os.Stat(at)
	m.must(err)
	if before.Mode().Perm() != 0o600 || m.read("etc/kubernetes/pki/sa.key") != "key" {
		t.Errorf("mode %v, content %q", before.Mode(), m.read("etc/kubernetes/pki/sa.key"))
	}
	if dir, err := os.Stat(filepath.Dir(at)); err != nil || dir.Mode().Perm() != 0o755 {
		t.Errorf("folder %v, %v", dir, err)
	}
	m.must(os.Chmod(at, 0o644))
	m.must(m.do(step))
	after, err := os.Stat(at)
	m.must(err)
	if !os.SameFile(before, after) || after.Mode().Perm() != 0o600 {
		t.Errorf("the same content was written again, or its mode is still %v", after.Mode())
	}
	step.File.Data = []byte("another")
	m.must(m.do(step))
	if m.read("etc/kubernetes/pki/sa.key") != "another" || strings.Contains(m.tree("etc/kubernetes"), ".new") {
		t.Errorf("%q; files:\n%s", m.read("etc/kubernetes/pki/sa.key"), m.tree("etc/kubernetes"))
	}
}

func TestLinks(t *testing.T) {
	m := newMachine(t)
	for range 2 {
		m.must(m.do(fileStep("/opt/metalrise/bin/hyper", 0o755, "x")))
		m.must(m.do(linkStep("/opt/metalrise/bin/kubelet", "hyper")))
		m.must(m.do(linkStep("/usr/local/bin/kubectl", "/opt/metalrise/bin/hyper")))
		m.must(m.do(linkStep("/etc/systemd/system/crio.service", "/dev/null")))
	}
	if m.read("var/opt/metalrise/bin/kubelet") != "x" {
		t.Error("a link of the system on the way was not gone through")
	}
	if to, err := os.Readlink(filepath.Join(m.Root, "var/usrlocal/bin/kubectl")); err != nil || to != "/opt/metalrise/bin/hyper" {
		t.Errorf("%q, %v", to, err)
	}
	m.must(m.do(linkStep("/opt/metalrise/bin/kubelet", "/usr/bin/ctr")))
	if to, _ := os.Readlink(filepath.Join(m.Root, "opt/metalrise/bin/kubelet")); to != "/usr/bin/ctr" {
		t.Errorf("the link was not replaced: %q", to)
	}
}

func TestFetch(t *testing.T) {
	m := newMachine(t)
	content := bytes.Repeat([]byte("0123456789abcdef"), 40_000)
	step := fetchStep(m, "/opt/metalrise/bin/hyper", content)
	var moved int64
	m.must(m.Do(t.Context(), m.shelf, step, func(n int64) { moved += n }))
	if m.read("opt/metalrise/bin/hyper") != string(content) || moved != int64(len(content)) {
		t.Errorf("%d bytes told, content right: %v", moved, m.read("opt/metalrise/bin/hyper") == string(content))
	}
	moved = 0
	m.must(m.Do(t.Context(), m.shelf, step, func(n int64) { moved += n }))
	if m.shelf.opens != 1 || moved != int64(len(content)) {
		t.Errorf("opened %d times, told of %d bytes", m.shelf.opens, moved)
	}
	m.must(m.do(fetchStep(m, "/opt/metalrise/empty", nil)))
	if m.read("opt/metalrise/empty") != "" {
		t.Error("an empty content")
	}
}

// What was fetched before a break is not fetched again, also by another process.
func TestFetchGoesOn(t *testing.T) {
	m := newMachine(t)
	content := bytes.Repeat([]byte("0123456789abcdef"), 100_000)
	step := fetchStep(m, "/opt/metalrise/bin/hyper", content)
	m.shelf.cut = 500_000
	tries := 0
	for ; tries < 10; tries++ {
		err := m.do(step)
		if err == nil {
			break
		}
		if fleet.KindOf(err) != fleet.Transient || fleet.CodeOf(err) != fleet.CodeNodePrepare {
			t.Fatalf("%s %s: %v", fleet.CodeOf(err), fleet.KindOf(err), err)
		}
		if _, err := os.Stat(filepath.Join(m.Root, "opt/metalrise/bin/hyper")); !errors.Is(err, fs.ErrNotExist) {
			t.Fatal("half a file is in its place")
		}
	}
	if tries != 3 || m.shelf.sent != int64(len(content)) || m.read("opt/metalrise/bin/hyper") != string(content) {
		t.Errorf("%d broken tries, %d bytes sent for %d", tries, m.shelf.sent, len(content))
	}
	if got := m.tree("var/opt/metalrise/bin"); got != "/var/opt/metalrise/bin/hyper\n" {
		t.Errorf("left behind:\n%s", got)
	}
}

func TestFetchHealsWhatWasKept(t *testing.T) {
	m := newMachine(t)
	content := bytes.Repeat([]byte("0123456789abcdef"), 1000)
	step := fetchStep(m, "/opt/metalrise/bin/hyper", content)
	part := filepath.Join(m.Root, "var/opt/metalrise/bin", ".hyper."+sum(content)[:16]+".part")
	m.must(os.MkdirAll(filepath.Dir(part), 0o755))
	for name, kept := range map[string][]byte{"rotten": bytes.Repeat([]byte("x"), 5000), "too long": bytes.Repeat([]byte("x"), 20000), "whole": content} {
		m.must(os.WriteFile(part, kept, 0o600))
		_ = os.Remove(filepath.Join(m.Root, "opt/metalrise/bin/hyper"))
		if err := m.do(step); err != nil || m.read("opt/metalrise/bin/hyper") != string(content) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWrongContentIsNeverInPlace(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789abcdef"), 1000)
	for name, served := range map[string][]byte{
		"another": bytes.Repeat([]byte("0123456789abcdeF"), 1000), "shorter": content[:15_000], "longer": append(bytes.Clone(content), 'x'), "nothing": {},
	} {
		m := newMachine(t)
		step := fetchStep(m, "/opt/metalrise/bin/hyper", content)
		m.shelf.items[step.Fetch.Path] = served
		err := m.do(step)
		if fleet.CodeOf(err) != fleet.CodePayloadCorrupt || fleet.KindOf(err) == fleet.Transient {
			t.Errorf("%s: %s %s: %v", name, fleet.CodeOf(err), fleet.KindOf(err), err)
		}
		if got := m.tree("var/opt"); got != "" {
			t.Errorf("%s: there is\n%s", name, got)
		}
	}
}

// Links below a place that lead out of it, and places that are links.
func TestLinksAreNotFollowedOut(t *testing.T) {
	for name, c := range map[string]struct {
		link, to string
		step     callhome.Step
	}{
		"folder on the way":  {"etc/kubernetes/pki", "../../boot", fileStep("/etc/kubernetes/pki/x", 0o644, "x")},
		"absolute":           {"etc/kubernetes/pki", "/boot", fileStep("/etc/kubernetes/pki/x", 0o644, "x")},
		"place itself":       {"etc/kubernetes", "../boot", fileStep("/etc/kubernetes/x", 0o644, "x")},
		"place to a home":    {"var/lib/etcd", "../../home", goneStep("/var/lib/etcd")},
		"below that place":   {"var/lib/etcd", "../../home", goneStep("/var/lib/etcd/precious")},
		"remove through one": {"var/lib/kubelet/x", "../../../home", goneStep("/var/lib/kubelet/x/precious")},
		"into the agent's":   {"var/lib/metalrise/spool", "agent", goneStep("/var/lib/metalrise/spool/precious")},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			for _, dir := range []string{"boot", "home", "var/lib/metalrise/agent"} {
				m.must(os.MkdirAll(filepath.Join(m.Root, dir), 0o755))
				m.must(os.WriteFile(filepath.Join(m.Root, dir, "precious"), nil, 0o644))
			}
			m.must(os.MkdirAll(filepath.Join(m.Root, filepath.Dir(c.link)), 0o755))
			m.must(os.Symlink(c.to, filepath.Join(m.Root, c.link)))
			before := m.tree("")
			if err := m.do(c.step); fleet.CodeOf(err) != fleet.CodeNodePrepare {
				t.Errorf("%v", err)
			}
			if after := m.tree(""); after != before {
				t.Errorf("before\n%s\nafter\n%s", before, after)
			}
		})
	}
}

// A file in whose place a link lies replaces the link, not what it leads to.
func TestFileReplacesLink(t *testing.T) {
	m := newMachine(t)
	m.must(os.MkdirAll(filepath.Join(m.Root, "etc/kubernetes"), 0o755))
	m.must(os.WriteFile(filepath.Join(m.Root, "boot/kernel"), []byte("kernel"), 0o644))
	m.must(os.Symlink("../../boot/kernel", filepath.Join(m.Root, "etc/kubernetes/x")))
	m.must(m.do(fileStep("/etc/kubernetes/x", 0o644, "mine")))
	if m.read("boot/kernel") != "kernel" || m.read("etc/kubernetes/x") != "mine" {
		t.Errorf("kernel %q, x %q", m.read("boot/kernel"), m.read("etc/kubernetes/x"))
	}
}

func TestGone(t *testing.T) {
	m := newMachine(t)
	for _, f := range []string{"var/lib/etcd/member/wal/0", "var/lib/etcd/member/snap", "etc/kubernetes/manifests/a.yaml", "etc/kubernetes/admin.conf", "home/precious"} {
		m.must(os.MkdirAll(filepath.Join(m.Root, filepath.Dir(f)), 0o755))
		m.must(os.WriteFile(filepath.Join(m.Root, f), nil, 0o600))
	}
	m.must(os.Symlink("../../home", filepath.Join(m.Root, "etc/kubernetes/link")))
	for range 2 {
		m.must(m.do(goneStep("/var/lib/etcd")))
		m.must(m.do(goneStep("/etc/kubernetes/manifests")))
		m.must(m.do(goneStep("/etc/kubernetes/link")))
		m.must(m.do(goneStep("/etc/cni/net.d")))
		m.must(m.do(goneStep("/run/metalrise/keepalived")))
	}
	if got := m.tree("var/lib") + m.tree("etc") + m.tree("home"); got != "/etc/kubernetes/admin.conf\n/home/precious\n" {
		t.Errorf("left:\n%s", got)
	}
}

func TestGoneStopsAtMounts(t *testing.T) {
	m := newMachine(t)
	m.must(os.MkdirAll(filepath.Join(m.Root, "var/lib/kubelet/pods/1/volumes/my data"), 0o755))
	m.must(os.WriteFile(filepath.Join(m.Root, "var/lib/kubelet/pods/1/volumes/my data/rows"), nil, 0o600))
	m.must(os.MkdirAll(filepath.Join(m.Root, "proc/self"), 0o755))
	info := filepath.Join(m.Root, "proc/self/mountinfo")
	m.must(os.WriteFile(info, []byte("30 1 8:33 / /var/lib/kubelet/pods/1/volumes/my\\040data rw - ext4 /dev/sdc1 rw\n"), 0o644))
	err := m.do(goneStep("/var/lib/kubelet"))
	if fleet.CodeOf(err) != fleet.CodeNodePrepare || !strings.Contains(err.Error(), "/var/lib/kubelet/pods/1/volumes/my data") {
		t.Errorf("%v", err)
	}
	if !strings.Contains(m.tree("var/lib/kubelet"), "rows") {
		t.Error("what is mounted was removed")
	}
	// The place itself may be mounted: its content goes, it stays.
	m.must(os.WriteFile(info, []byte("30 1 8:33 / /var/lib/kubelet rw - ext4 /dev/sdc1 rw\n"), 0o644))
	m.must(m.do(goneStep("/var/lib/kubelet")))
	if got := m.tree("var/lib/kubelet"); got != "" {
		t.Errorf("left:\n%s", got)
	}
}
