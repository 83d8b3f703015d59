package ring

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"metalrise.dev/fleet"
	"metalrise.dev/kube"
)

// realRing connects to the cluster that METALRISE_KUBECONFIG names.
func realRing(t *testing.T) (*Ring, fleet.Plan) {
	t.Helper()
	path := os.Getenv("METALRISE_KUBECONFIG")
	if os.Getenv("METALRISE_REAL") == "" || path == "" {
		t.Skip("skipped: real parts run with METALRISE_REAL=1 and a cluster with KubeVirt in METALRISE_KUBECONFIG")
	}
	config, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p := fleet.Plan{Stack: &fleet.StackPlan{Emulation: true, Guest: "metalrise.dev/guest:v1"}}
	if image := os.Getenv("METALRISE_GUEST"); image != "" {
		p.Stack.Guest = image
	}
	if text := os.Getenv("METALRISE_STACK"); text != "" { // networks, storage and so on
		if err := json.Unmarshal([]byte(text), p.Stack); err != nil {
			t.Fatal(err)
		}
	}
	c, err := kube.Connect(config, p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	states, err := c.NodeStates(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range states {
		a := fleet.Assignment{Role: fleet.ControlPlane, Node: &fleet.NodePlan{Name: n.Name}}
		if _, works := n.Labels[fleet.LabelWorker]; works || n.Labels["node-role.kubernetes.io/control-plane"] != n.Labels[fleet.LabelWorker] {
			a.Role, a.Node.Labels = fleet.Worker, map[string]string{fleet.LabelWorker: ""}
		}
		if _, control := n.Labels["node-role.kubernetes.io/control-plane"]; !control {
			a.Role, a.Node.Labels = fleet.Worker, map[string]string{fleet.LabelWorker: ""}
		}
		p.Assignments = append(p.Assignments, a)
	}
	t.Logf("hypervisors: %v", fleet.GroundOf(p).Hypervisors)
	return New(c), p
}

// command fences by programs: METALRISE_OFF and METALRISE_ON are given the
// node's name.
type command struct{ off, on string }

func (c command) Off(ctx context.Context, node string) error { return c.run(ctx, c.off, node) }
func (c command) On(ctx context.Context, node string) error  { return c.run(ctx, c.on, node) }

func (c command) run(ctx context.Context, program, node string) error {
	out, err := exec.CommandContext(ctx, program, node).CombinedOutput()
	if err != nil {
		return errors.New(strings.TrimSpace(string(out)) + ": " + err.Error())
	}
	return nil
}

// TestRealProofs runs the ring on a real cluster, one subtest for each proof.
func TestRealProofs(t *testing.T) {
	r, p := realRing(t)
	var fencer Fencer
	if off, on := os.Getenv("METALRISE_OFF"), os.Getenv("METALRISE_ON"); off != "" && on != "" {
		fencer = command{off, on}
	}
	for _, proof := range fleet.Proofs() {
		t.Run(string(proof), func(t *testing.T) {
			begun := time.Now()
			result, err := r.Prove(t.Context(), p, proof, fencer, func(note string) { t.Logf("%6.1f %s", time.Since(begun).Seconds(), note) })
			out, _ := json.MarshalIndent(result, "", "  ")
			t.Logf("%s", out)
			var skip *Skipped
			switch {
			case errors.As(err, &skip):
				t.Skipf("skipped: %s", skip.Why)
			case err != nil:
				t.Errorf("%s: %s", fleet.CodeOf(err), strings.Join(fleet.CauseOf(err).Chain, "\n  because "))
			}
		})
	}
	if err := r.Clean(context.WithoutCancel(t.Context()), fencer); err != nil {
		t.Error(err)
	}
}

// TestRealSilentGuest starts a VM whose kernel finds no program to begin with and
// stops: KubeVirt goes on to call it Running, and the fault must say that its
// guest is silent, with the kernel's own last words.
func TestRealSilentGuest(t *testing.T) {
	r, p := realRing(t)
	defer func() {
		if err := r.Clean(context.WithoutCancel(t.Context()), nil); err != nil {
			t.Error(err)
		}
	}()
	limits := usual().emulated()
	limits.word = 25 * time.Second // a guest that begins speaks within 15 s, emulated on two busy cores
	one := &run{Ring: r, limits: limits, plan: p, proof: fleet.ProofStart, nonce: nonce(), begun: time.Now(), note: func(note string) { t.Log(note) }}
	if err := r.sweep(t.Context(), leaveNothing); err != nil {
		t.Fatal(err)
	}
	if err := one.prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	v := one.vm(machine{name: "silent", nodes: fleet.GroundOf(p).Hypervisors})
	u := v.machine.vm()
	args := []string{"spec", "template", "spec", "domain", "firmware", "kernelBoot", "kernelArgs"}
	ordered, _, _ := unstructured.NestedString(u.Object, args...)
	if err := unstructured.SetNestedField(u.Object, strings.Replace(ordered, "panic=-1", "panic=0", 1)+" rdinit=/none", args...); err != nil {
		t.Fatal(err)
	}
	if err := one.apply(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	err := v.speaks(t.Context(), "")
	t.Logf("%v", err)
	if fleet.CodeOf(err) != fleet.CodeGuestSilent {
		t.Fatalf("got %s %v, want %s", fleet.CodeOf(err), err, fleet.CodeGuestSilent)
	}
	for _, want := range []string{"is Running on", "Kernel panic"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the fault does not say %q: %v", want, err)
		}
	}
	s, err := v.look(t.Context())
	if err != nil || s.phase != "Running" || !s.ready {
		t.Errorf("KubeVirt calls it %q, ready %v: %v", s.phase, s.ready, err)
	}
}
