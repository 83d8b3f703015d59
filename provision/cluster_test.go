package provision

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"metalrise.dev/fleet"
)

// newClusterWorld is a world whose plan makes a cluster: control planes first, then
// workers.
func newClusterWorld(controls, workers int) *world {
	w := newWorld(controls + workers)
	w.kube = newKube(w)
	w.plan.Cluster = &fleet.ClusterPlan{Flavour: fleet.Kubeadm, Version: "v1.34.4", PayloadDigest: "software",
		Endpoint: fleet.APIEndpoint{Kind: fleet.VirtualIP, Address: "10.0.0.200", Port: 6443}}
	for i := range w.plan.Assignments {
		a := &w.plan.Assignments[i]
		a.Role, a.Wave = fleet.Worker, 1
		if i < controls {
			a.Role, a.Wave = fleet.ControlPlane, 0
		}
		a.Node = &fleet.NodePlan{Name: a.Hostname, Initial: i == 0}
	}
	if err := w.plan.Seal(); err != nil {
		panic(err)
	}
	return w
}

func wantReady(t *testing.T, w *world, o fleet.Overview, but ...fleet.ServerID) {
	t.Helper()
	for _, s := range o.Servers {
		if slices.Contains(but, s.Server) {
			continue
		}
		if s.Phase != fleet.Ready || s.Condition != fleet.Settled {
			t.Errorf("%s: %s, %s, %s, %+v", s.Server, s.Phase, s.Condition, s.Step, s.Cause)
		}
		if !w.kube.dressed[s.Server] {
			t.Errorf("%s has no labels", s.Server)
		}
		if r := w.servers[s.Server]; r.writes > 1 {
			t.Errorf("%s was written %d times", s.Server, r.writes)
		}
	}
	if w.kube.begun != 1 {
		t.Errorf("%d clusters were begun", w.kube.begun)
	}
	for _, b := range w.kube.breaches {
		t.Error(b)
	}
	for id, s := range w.kube.tokens {
		if !slices.Contains(but, s) {
			t.Errorf("token %s of %s is still in force", id, s)
		}
	}
	if o.Cluster == nil || !o.Cluster.Up {
		t.Errorf("cluster %+v", o.Cluster)
	}
}

func TestClusterComesUp(t *testing.T) {
	for _, shape := range [][2]int{{1, 0}, {1, 2}, {3, 0}, {3, 2}, {5, 3}} {
		t.Run(fmt.Sprint(shape), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newClusterWorld(shape[0], shape[1])
				wantReady(t, w, install(t, w, 3*time.Hour))
			})
		})
	}
}

// TestClusterSurvivesKills kills the engine at every event, lost and durable.
func TestClusterSurvivesKills(t *testing.T) {
	var events int
	synctest.Test(t, func(t *testing.T) {
		w := newClusterWorld(3, 1)
		install(t, w, 3*time.Hour)
		events = len(w.events)
	})
	if events < 100 {
		t.Fatalf("a cluster of 4 servers has only %d events", events)
	}
	for cut := 1; cut <= events; cut++ {
		for _, durable := range []bool{false, true} {
			t.Run(fmt.Sprintf("event %d durable %v", cut, durable), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newClusterWorld(3, 1)
					w.cut, w.durable = cut, durable
					wantReady(t, w, install(t, w, 4*time.Hour))
				})
			})
		}
	}
}

func TestFaultsOfOneNode(t *testing.T) {
	for name, c := range map[string]struct {
		server string
		fault  func(*rig)
		code   fleet.Code // "" when it ends well by itself
	}{
		"a join fails once":                         {"SN002", func(r *rig) { r.failTasks = map[string]int{"join": 1} }, ""},
		"a join fails twice":                        {"SN005", func(r *rig) { r.failTasks = map[string]int{"join": 2} }, fleet.CodeNodeJoin},
		"a control plane's join fails twice":        {"SN002", func(r *rig) { r.failTasks = map[string]int{"join": 2} }, fleet.CodeNodeJoin},
		"the begin fails once":                      {"SN001", func(r *rig) { r.failTasks = map[string]int{"begin": 1} }, ""},
		"the software cannot be put in place":       {"SN004", func(r *rig) { r.failTasks = map[string]int{"prepare": 9} }, fleet.CodeNodePrepare},
		"a control plane loses power while joining": {"SN003", func(r *rig) { r.stall = "join" }, ""},
		"the first one loses power while it begins": {"SN001", func(r *rig) { r.stall = "begin" }, ""},
		"a worker never comes":                      {"SN004", func(r *rig) { r.noReport = true }, fleet.CodeArriveSilent},
		"its disk was swapped":                      {"SN002", func(r *rig) { r.wrongDisk = true }, fleet.CodeDiskChanged},
		"it has no KVM":                             {"SN005", func(r *rig) { r.noKVM = true }, fleet.CodeKVMUnproven},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newClusterWorld(3, 2)
				id := fleet.ServerID(c.server)
				c.fault(w.servers[id])
				o := install(t, w, 6*time.Hour)
				if c.code == "" {
					wantReady(t, w, o)
					return
				}
				wantReady(t, w, o, id)
				for _, s := range o.Servers {
					if s.Server == id && (s.Condition != fleet.Held || s.Cause.Code != c.code || len(s.Cause.Chain) == 0) {
						t.Errorf("%s: %s %+v, want %s", id, s.Condition, s.Cause, c.code)
					}
				}
			})
		})
	}
}

// TestOthersWaitForTheFirst: without the first control plane there is nothing
// to join. The run is quiet all the same, and a retry finishes it.
func TestOthersWaitForTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newClusterWorld(3, 1)
		w.servers["SN001"].failTasks = map[string]int{"begin": 2}
		e, err := w.boot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for !e.Quiet() {
			time.Sleep(10 * time.Second)
		}
		o := e.Overview()
		if s := o.Servers[0]; s.Condition != fleet.Held || s.Cause.Code != fleet.CodeClusterBegin {
			t.Fatalf("first: %s %+v", s.Condition, s.Cause)
		}
		if s := o.Servers[1]; s.Condition != fleet.Waiting || s.Phase != fleet.Installed {
			t.Errorf("second: %s %s %s", s.Phase, s.Condition, s.Step)
		}
		if err := e.Retry(t.Context(), "SN001", "test"); err != nil {
			t.Fatal(err)
		}
		for !e.Quiet() {
			time.Sleep(10 * time.Second)
		}
		wantReady(t, w, e.Overview())
		w.kill()
		e.Wait()
		w.unplug()
		synctest.Wait()
	})
}

// TestServerIsTakenAway removes a worker and a control plane of a cluster, the
// engine being killed at every event of it.
func TestServerIsTakenAway(t *testing.T) {
	for cut := 0; cut < 45; cut++ {
		t.Run(fmt.Sprint("cut ", cut), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newClusterWorld(3, 2)
				e, err := w.boot(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				for !e.Quiet() {
					time.Sleep(10 * time.Second)
				}
				if cut > 0 {
					w.mu.Lock()
					w.cut, w.durable = len(w.events)+cut, cut%2 == 0
					w.mu.Unlock()
				}
				w.servers["SN005"].mu.Lock()
				w.servers["SN005"].toErase = true
				w.servers["SN005"].mu.Unlock()
				ask := func() {
					_ = e.Remove(t.Context(), "SN002", fleet.Removal{By: "test"}) // asked again, as a person would
					_ = e.Remove(t.Context(), "SN005", fleet.Removal{By: "test", Erase: true})
				}
				ask()
				for range 100 {
					time.Sleep(10 * time.Second)
					if w.engine.Load() == nil {
						e.Wait()
						if e, err = w.boot(t.Context()); err != nil {
							t.Fatal(err)
						}
						ask()
					}
				}
				o := e.Overview()
				wantReady(t, w, o, "SN002", "SN005")
				for _, i := range []int{1, 4} {
					if s := o.Servers[i]; s.Phase != fleet.Inspected || s.Condition != fleet.Settled || s.Step != "removed" {
						t.Errorf("%s: %s %s %s", s.Server, s.Phase, s.Condition, s.Step)
					}
					if r := w.servers[o.Servers[i].Server]; r.power != fleet.PowerOff {
						t.Errorf("%s is still switched on", r.id)
					}
				}
				if r := w.servers["SN005"]; r.erased != 1 || r.disk != nil || r.media != "" {
					t.Errorf("erased %d times, medium %q", r.erased, r.media)
				}
				if r := w.servers["SN002"]; r.erased != 0 || r.disk == nil {
					t.Error("a disk was erased that nobody named")
				}
				if len(w.kube.members) != 3 {
					t.Errorf("members %v", w.kube.members)
				}
				w.kill()
				e.Wait()
				w.unplug()
				synctest.Wait()
			})
		})
	}
}

// TestClusterGrows applies a later plan that keeps what is there: nothing kept
// is touched, and the new server joins.
func TestClusterGrows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newClusterWorld(1, 2)
		last := w.plan.Assignments[2]
		w.plan.Assignments = w.plan.Assignments[:2]
		if err := w.plan.Seal(); err != nil {
			t.Fatal(err)
		}
		o := install(t, w, 3*time.Hour)
		wantReady(t, w, o)
		first := w.plan
		w.older = []fleet.Plan{first}
		w.plan.Assignments = append(slices.Clone(first.Assignments), last)
		for i := range 2 {
			w.plan.Assignments[i].Kept = first.ID
		}
		w.plan.Assignments[0].Kept = "a later plan" // as after it was replaced
		grown := *first.Cluster
		grown.Since = first.ID
		w.plan.Cluster = &grown
		if err := w.plan.Seal(); err != nil {
			t.Fatal(err)
		}
		writes := w.servers["SN001"].writes
		o = install(t, w, 3*time.Hour)
		wantReady(t, w, o)
		if r := w.servers["SN001"]; r.writes != writes || r.diskBoots != 1 || r.powerOffs != 1 {
			t.Errorf("a kept server was touched: %d writes, %d boots, %d times power cut", r.writes, r.diskBoots, r.powerOffs)
		}
		authorities := 0
		for name := range w.kube.secrets {
			if strings.HasPrefix(name, "cluster-") {
				authorities++
			}
		}
		if authorities != 1 {
			t.Errorf("the cluster got %d authorities, a cluster has one for its life", authorities)
		}
		if r := w.servers["SN003"]; r.writes != 1 {
			t.Errorf("the new server was written %d times", r.writes)
		}
	})
}

// TestReinstallWritesAnew: a system that never comes up is written anew on a
// person's word, and only then.
func TestReinstallWritesAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newClusterWorld(3, 1)
		sick := w.servers["SN003"]
		sick.noReport = true
		e, err := w.boot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		quiet := func() {
			for !e.Quiet() {
				time.Sleep(10 * time.Second)
			}
		}
		quiet()
		if err := e.Reinstall(t.Context(), "SN001", "test"); err == nil {
			t.Error("a ready node was let be written anew")
		}
		if err := e.Retry(t.Context(), "SN003", "test"); err != nil {
			t.Fatal(err)
		}
		quiet()
		if sick.written() != 1 {
			t.Fatalf("a plain retry wrote the disk: %d writes", sick.written())
		}
		sick.mu.Lock()
		sick.noReport = false
		sick.mu.Unlock()
		if err := e.Reinstall(t.Context(), "SN003", "test"); err != nil {
			t.Fatal(err)
		}
		quiet()
		if sick.written() != 2 {
			t.Errorf("%d writes, want 2", sick.written())
		}
		wantReady(t, w, e.Overview(), "SN003")
		if s := e.Overview().Servers[2]; s.Phase != fleet.Ready {
			t.Errorf("reinstalled: %s %s %+v", s.Phase, s.Step, s.Cause)
		}
		w.kill()
		e.Wait()
		w.unplug()
		synctest.Wait()
	})
}
