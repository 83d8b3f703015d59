package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"metalrise.dev/fleet"
)

// TestRealPlatform takes a control plane and two hypervisors from powered off to
// a VM platform that was handed over: real KubeVirt is installed, and every
// proof that the machines can give is given by the words of guests. The engine
// is killed while KubeVirt comes up and while a VM moves.
func TestRealPlatform(t *testing.T) {
	r := newRack(t, "platform", 3, "--platform", "--vm-network", "--csi")
	text, err := os.ReadFile(r.site)
	if err != nil {
		t.Fatal(err)
	}
	site := regexp.MustCompile(`(?m)^  vip: .*$`).ReplaceAllString(string(text), "  controlPlanes: 1")
	if site == string(text) {
		t.Fatalf("the site file asks for its cluster otherwise:\n%s", text)
	}
	if err := os.WriteFile(r.site, []byte(site), 0o644); err != nil {
		t.Fatal(err)
	}
	r.planned(3)
	begin := time.Now()
	r.must("apply", "--erase-disks", "3", "--detach")
	kills := []string{string(fleet.ComponentKubeVirt), string(fleet.ProofMigrate)}
	v := r.await(25*time.Minute, "a VM platform that is handed over", func(v fleet.Overview) bool {
		if v.Stack == nil {
			t.Fatal("the plan has no VM platform")
		}
		if len(kills) > 0 && running(v.Stack, kills[0]) {
			if pid := r.engine(); pid != 0 {
				t.Logf("%s: the engine is killed in step %s", time.Since(begin).Round(time.Second), kills[0])
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
			kills = kills[1:]
			r.must("apply", "--detach")
		}
		for _, server := range v.Servers {
			if server.Condition == fleet.Held {
				t.Fatalf("%s is held: %+v", server.Server, server.Cause)
			}
		}
		if v.Stack.Held {
			for _, s := range v.Stack.Steps {
				t.Logf("%+v", s)
			}
			t.Fatal("the VM platform is held")
		}
		return v.Stack.Done
	})
	t.Logf("handed over after %s, %d MiB", time.Since(begin).Round(time.Second), r.memory())
	if len(kills) > 0 {
		t.Errorf("the engine was never killed in %s", kills)
	}
	r.proven(v.Stack)
	page := r.must("handover")
	for _, want := range []string{"kubeconfig", "https://", "kubectl apply"} {
		if !strings.Contains(page, want) {
			t.Errorf("the hand-off page does not say %q:\n%s", want, page)
		}
	}
	r.servesOn(3)
	r.pastesPage()
	r.hearsSilence(filepath.Join(r.state, "kubeconfig"))
	r.eventually(time.Minute, "nothing of the proofs is left", func() error {
		out, err := r.kubectl("", "get", "virtualmachines,virtualmachineinstances", "-A", "-o", "name")
		if err == nil && strings.TrimSpace(out) != "" {
			t.Fatalf("left: %s", out)
		}
		return annotate(err, out)
	})
	// The node that was switched off is back, and KubeVirt looks for its handler there.
	r.eventually(3*time.Minute, "all is as the as-built report says", func() error {
		out, code := r.try("verify")
		if code != exitOK {
			return fmt.Errorf("exit %d: %.600s", code, out)
		}
		return nil
	})
}

// running tells whether this component or proof is under way.
func running(s *fleet.StackStatus, name string) bool {
	for _, step := range s.Steps {
		if (string(step.Component) == name || string(step.Proof) == name) && step.State == fleet.StepRunning {
			return true
		}
	}
	return false
}

// proven wants each proof done, with guests that spoke, and a reason beside what
// is left out of the components.
func (r *rack) proven(s *fleet.StackStatus) {
	r.t.Helper()
	must := map[fleet.Proof]bool{}
	for _, p := range fleet.Proofs() {
		must[p] = true
		if !slices.ContainsFunc(s.Steps, func(step fleet.StackStep) bool { return step.Proof == p }) {
			r.t.Errorf("proof %s is not among the steps", p)
		}
	}
	// Words that a proof must have: what it went over, and who filled a volume.
	over := map[fleet.Proof]string{fleet.ProofMigrate: "by way of 198.19.", fleet.ProofNetwork: "over VM network vms echoes", fleet.ProofVolume: "CDI filled"}
	for _, step := range s.Steps {
		r.t.Logf("%s%s %s %.0f s, tries %d: %s %+v", step.Component, step.Proof, step.State, step.Took, step.Tries, step.Note, step.Result)
		switch {
		case step.State == fleet.StepSkipped && step.Note == "":
			r.t.Errorf("%s%s is skipped without a reason", step.Component, step.Proof)
		case must[step.Proof] && step.State != fleet.StepOK:
			r.t.Errorf("proof %s is %s: %s", step.Proof, step.State, step.Note)
		case must[step.Proof] && (step.Result == nil || len(step.Result.VMs) == 0):
			r.t.Errorf("proof %s saw no VM", step.Proof)
		case must[step.Proof] && !strings.Contains(strings.Join(step.Result.Words, " "), over[step.Proof]):
			r.t.Errorf("proof %s does not say %q: %q", step.Proof, over[step.Proof], step.Result.Words)
		}
		if must[step.Proof] && step.Result != nil {
			for _, vm := range step.Result.VMs {
				if vm.Guest == "" {
					r.t.Errorf("proof %s: the guest of %s said nothing", step.Proof, vm.Name)
				}
			}
		}
	}
}
