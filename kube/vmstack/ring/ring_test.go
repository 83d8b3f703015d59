package ring

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"metalrise.dev/fleet"
)

func somePlan(nodes ...string) fleet.Plan {
	p := fleet.Plan{Stack: &fleet.StackPlan{
		Guest: "example/guest:v1", Networks: []fleet.VMNetwork{{Name: "red", Bridge: "br-red", Port: "eth1", Subnet: "10.0.20.0/24"}},
		Storage:    fleet.VMStorage{Class: "disks", Shared: true, Snapshots: "shots"},
		Components: []fleet.ComponentPlan{{Name: fleet.ComponentKubeVirt}},
	}}
	for _, n := range nodes {
		p.Assignments = append(p.Assignments, fleet.Assignment{Role: fleet.Worker, Node: &fleet.NodePlan{Name: n, Labels: map[string]string{fleet.LabelWorker: ""}}})
	}
	return p
}

// prove runs a proof on a fake cluster in no time.
func prove(t *testing.T, f *fake, p fleet.Plan, proof fleet.Proof) (result fleet.ProofResult, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &Ring{cluster: f, limits: usual()}
		result, err = r.Prove(t.Context(), p, proof, f, func(note string) { t.Log(note) })
	})
	left := slices.DeleteFunc(slices.Collect(keys(f)), func(k string) bool { return false })
	if len(left) > 0 {
		t.Errorf("it left %q", left)
	}
	for _, n := range f.nodes {
		if n.Cordoned || n.Fenced || n.Annotations[drainedMark]+n.Annotations[fencedMark] != "" || f.off[n.Name] {
			t.Errorf("node %+v is not given back", n)
		}
	}
	return result, err
}

func keys(f *fake) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range f.objects {
			if !yield(k) {
				return
			}
		}
	}
}

func TestProofsOfAHealthyCluster(t *testing.T) {
	for _, proof := range fleet.Proofs() {
		t.Run(string(proof), func(t *testing.T) {
			f := newFake("w1", "w2", "w3")
			result, err := prove(t, f, somePlan("w1", "w2", "w3"), proof)
			if err != nil {
				t.Fatal(err)
			}
			if len(result.VMs) == 0 || len(result.Words) == 0 || len(result.Measured) == 0 {
				t.Errorf("little was seen: %+v", result)
			}
			for _, vm := range result.VMs {
				if vm.Guest == "" || vm.Node == "" {
					t.Errorf("VM without words: %+v", vm)
				}
			}
			switch proof {
			case fleet.ProofStart, fleet.ProofMigrate:
				if len(result.VMs) != 3 {
					t.Errorf("VMs: %+v", result.VMs)
				}
			}
			if down, ok := result.Measured["downtimeMilliseconds"]; ok && (down < 700 || down > 1300) {
				t.Errorf("the guest paused for a second, measured were %v ms", down)
			}
		})
	}
}

func TestProofsOfAnIllCluster(t *testing.T) {
	for name, c := range map[string]struct {
		ills  ills
		proof fleet.Proof
		code  fleet.Code
		says  string
	}{
		"a VM runs and its guest is silent":         {ills{silent: true}, fleet.ProofStart, fleet.CodeGuestSilent, "SeaBIOS"},
		"a guest that stops at once":                {ills{dies: true}, fleet.ProofStart, fleet.CodeGuestSilent, "number 2"},
		"a VM without room":                         {ills{pending: true}, fleet.ProofStart, fleet.CodeVMNotStarted, "0/3 nodes are available"},
		"a VM that crashes again and again":         {ills{crashes: true}, fleet.ProofStart, fleet.CodeVMNotStarted, "again and again"},
		"cloud-init data do not arrive":             {ills{leaks: true}, fleet.ProofStart, fleet.CodeVMNotStarted, "cloud-init"},
		"a refused migration":                       {ills{refuses: true}, fleet.ProofMigrate, fleet.CodeMigrationFailed, "no room"},
		"a new boot instead of a migration":         {ills{anew: true}, fleet.ProofMigrate, fleet.CodeMigrationFailed, "booted anew"},
		"a network without its port":                {ills{unrelated: true}, fleet.ProofNetwork, fleet.CodeVMNetworkFailed, "VM network red"},
		"a volume that forgets":                     {ills{lost: true}, fleet.ProofVolume, fleet.CodeVolumeFailed, "nothing written"},
		"a snapshot that is never ready":            {ills{noSnap: true}, fleet.ProofSnapshot, fleet.CodeVolumeFailed, "the driver said no"},
		"a node that is not drained":                {ills{stays: true}, fleet.ProofDrain, fleet.CodeEvacuationFailed, "do not leave"},
		"a drained VM that boots anew":              {ills{anew: true}, fleet.ProofDrain, fleet.CodeEvacuationFailed, "booted anew"},
		"a BMC that does not switch off":            {ills{noOff: true}, fleet.ProofFence, fleet.CodeFencingFailed, "does not answer"},
		"a VM that is not restarted after its node": {ills{noRestart: true}, fleet.ProofFence, fleet.CodeFencingFailed, "not restarted elsewhere"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake("w1", "w2", "w3")
			f.ills = c.ills
			_, err := prove(t, f, somePlan("w1", "w2", "w3"), c.proof)
			if fleet.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %s %v, want %s with %q", fleet.CodeOf(err), err, c.code, c.says)
			}
		})
	}
}

// Storage of one node gives a snapshot back where it lies, and only there: the VM
// is kept on its node, unless the storage is called shared.
func TestSnapshotOfOneNodesStorage(t *testing.T) {
	for _, shared := range []bool{false, true} {
		f, p := newFake("w1", "w2"), somePlan("w1", "w2")
		f.ills.local, p.Stack.Storage.Shared = true, shared
		_, err := prove(t, f, p, fleet.ProofSnapshot)
		if failed := err != nil && fleet.CodeOf(err) == fleet.CodeVolumeFailed; failed != shared || !shared && err != nil {
			t.Errorf("shared %t: %v", shared, err)
		}
	}
}

// The mark on the node is written before the act, and the node is switched on
// again before anything is called ready.
func TestFencingKeepsItsOrder(t *testing.T) {
	f := newFake("w1", "w2")
	if _, err := prove(t, f, somePlan("w1", "w2"), fleet.ProofFence); err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, c := range f.calls {
		for _, word := range []string{"annotate w2 " + fencedMark, "off w2", "fence w2 true", "on w2", "fence w2 false"} {
			if strings.HasPrefix(c, word) && (len(order) == 0 || order[len(order)-1] != word) {
				order = append(order, word)
			}
		}
	}
	want := []string{"annotate w2 " + fencedMark, "off w2", "fence w2 true", "on w2", "fence w2 false", "annotate w2 " + fencedMark}
	if !slices.Equal(order, want) {
		t.Errorf("got %q\nwant %q", order, want)
	}
}

// What a killed process left is put right by the next one.
func TestCleanAfterACrash(t *testing.T) {
	f := newFake("w1", "w2")
	synctest.Test(t, func(t *testing.T) {
		ctx, kill := context.WithCancel(t.Context())
		r := &Ring{cluster: f, limits: usual()}
		run := &run{Ring: r, limits: usual(), plan: somePlan("w1", "w2"), proof: fleet.ProofFence, fencer: f, nonce: "old", note: func(string) {}}
		if err := run.prepare(ctx); err != nil {
			t.Fatal(err)
		}
		v := run.vm(machine{name: "left", nodes: []string{"w2"}})
		if err := v.start(ctx); err != nil {
			t.Fatal(err)
		}
		f.ills.noRestart = true
		go run.fence(ctx, v, "w2")
		synctest.Wait()
		kill()
		synctest.Wait()
		f.AnnotateNode(t.Context(), "w1", drainedMark, "older")
		f.fence("w1", true)
		if !f.off["w2"] {
			t.Fatal("the node was not switched off")
		}
		if err := r.Clean(t.Context(), nil); fleet.CodeOf(err) != fleet.CodeFencingFailed {
			t.Errorf("a node stays off, and Clean says %v", err)
		}
		for range 2 {
			if err := r.Clean(t.Context(), f); err != nil {
				t.Fatal(err)
			}
		}
	})
	if len(f.objects) > 0 || f.off["w2"] || f.node("w1").Cordoned || f.node("w2").Fenced {
		t.Errorf("left: %v, %+v", f.objects, f.nodes)
	}
}

// A VM whose controller sleeps is woken by a change.
func TestHangingVMsAreWoken(t *testing.T) {
	f := newFake("w1", "w2")
	f.ills.hangs = true
	if _, err := prove(t, f, somePlan("w1", "w2"), fleet.ProofStart); err != nil {
		t.Fatal(err)
	}
}

func TestForeignNamespaceIsLeftAlone(t *testing.T) {
	f := newFake("w1")
	u := space()
	u.SetLabels(nil)
	f.objects[key(spaceKind, "", Namespace)] = u
	synctest.Test(t, func(t *testing.T) {
		r := &Ring{cluster: f, limits: usual()}
		if _, err := r.Prove(t.Context(), somePlan("w1"), fleet.ProofStart, nil, nil); err == nil || !strings.Contains(err.Error(), "is not ours") {
			t.Errorf("got %v", err)
		}
	})
	if len(f.calls) > 0 {
		t.Errorf("calls: %q", f.calls)
	}
}

func TestVMsOfOthersAreNotMoved(t *testing.T) {
	for _, proof := range []fleet.Proof{fleet.ProofDrain, fleet.ProofFence} {
		f := newFake("w1", "w2")
		for _, n := range []string{"w1", "w2"} {
			u := f.instance("theirs-"+n, &fakeVM{phase: "Running", stays: []stay{{node: n}}})
			u.SetNamespace("shop")
			f.objects[key(vmiKind, "shop", u.GetName())] = u
		}
		synctest.Test(t, func(t *testing.T) {
			r := &Ring{cluster: f, limits: usual()}
			var skip *Skipped
			if _, err := r.Prove(t.Context(), somePlan("w1", "w2"), proof, f, nil); !errors.As(err, &skip) || !strings.Contains(skip.Why, "VMs of others") {
				t.Errorf("%s: %v", proof, err)
			}
		})
		if slices.ContainsFunc(f.calls, func(c string) bool { return strings.HasPrefix(c, "drain") || strings.HasPrefix(c, "off") }) {
			t.Errorf("%s: calls %q", proof, f.calls)
		}
	}
}

func TestInterruptedProofTidies(t *testing.T) {
	f := newFake("w1", "w2")
	f.ills.silent = true
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), usual().word/2)
		defer cancel()
		r := &Ring{cluster: f, limits: usual()}
		if _, err := r.Prove(ctx, somePlan("w1", "w2"), fleet.ProofStart, nil, nil); err == nil {
			t.Error("no error")
		}
	})
	if len(f.objects) > 0 {
		t.Errorf("left %v", f.objects)
	}
}
