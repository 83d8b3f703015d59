package node

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

// wholeTask is a task with a step of every kind that needs no network.
func wholeTask(m *machine) callhome.Task {
	m.script("/usr/bin/kubeadm", `echo "$1" >>'`+m.Root+`/kubeadm.log'; mkdir -p '`+m.Root+`/etc/metalrise/kube' && : >'`+m.Root+`/etc/metalrise/kube/begun'`)
	m.must(os.MkdirAll(filepath.Join(m.Root, "var/lib/etcd/member"), 0o755))
	archive := []byte("registry.k8s.io/pause:3.10.1\n")
	s, n := m.serve("/m/key/images", archive)
	return task(
		goneStep("/var/lib/etcd"),
		fetchStep(m, "/opt/metalrise/bin/hyper", bytes.Repeat([]byte("0123456789abcdef"), 50_000)),
		linkStep("/opt/metalrise/bin/kubelet", "hyper"),
		fileStep("/etc/systemd/system/kubelet.service", 0o644, "[Service]\n"),
		callhome.Step{Name: "reload", Unit: &callhome.UnitStep{Verb: "daemon-reload"}},
		callhome.Step{Name: "image", Image: &callhome.ImageStep{Path: "/m/key/images", SHA256: s, Bytes: n, References: []string{"registry.k8s.io/pause:3.10.1"}}},
		runStep("/etc/metalrise/kube/begun", "/usr/bin/kubeadm", "init"),
		callhome.Step{Name: "start", Unit: &callhome.UnitStep{Verb: "restart", Name: "kubelet.service"}},
	)
}

// A machine that stops in the middle of any step ends as one that never did,
// and what must happen once happened once.
func TestCutAtEveryStep(t *testing.T) {
	whole := newMachine(t)
	run(t, whole, wholeTask(whole))
	want := whole.tree("")
	steps := len(wholeTask(newMachine(t)).Steps)
	for i := range steps {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("step %d, after it %v", i+1, after), func(t *testing.T) {
				m := newMachine(t)
				all := wholeTask(m)
				for j, step := range all.Steps[:i+1] {
					if j < i || after {
						m.must(m.do(step))
						continue
					}
					// In its middle: contents break off, programs are killed.
					ctx, cancel := context.WithCancel(t.Context())
					m.shelf.cut = 100_000
					if step.Fetch == nil {
						cancel()
					}
					_ = m.Do(ctx, m.shelf, step, nil)
					m.shelf.cut = 0
					cancel()
				}
				run(t, m, all)
				if got := m.tree(""); got != want {
					t.Errorf("got\n%s\nwant\n%s", got, want)
				}
				if got := m.read("kubeadm.log"); got != "init\n" {
					t.Errorf("kubeadm ran %d times", strings.Count(got, "\n"))
				}
				if m.shelf.sent > 800_000+100_000 {
					t.Errorf("%d bytes were fetched", m.shelf.sent)
				}
			})
		}
	}
}

func run(t *testing.T, m *machine, all callhome.Task) {
	t.Helper()
	if err := Check(all); err != nil {
		t.Fatal(err)
	}
	for _, step := range all.Steps {
		if err := m.do(step); err != nil {
			t.Fatalf("%s: %v (%s)", step.Name, err, fleet.CodeOf(err))
		}
	}
}
