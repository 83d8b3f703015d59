package provision

import (
	"context"
	"fmt"
	"slices"
	"time"

	"metalrise.dev/fleet"
)

// stackFake is a VM platform with state. It is guarded by its kube's mutex.
type stackFake struct {
	installs map[fleet.Component]int // times it became ready
	proofs   map[fleet.Proof]int     // times it ended well
	began    map[string]int
	vms      bool           // a proof's VMs are there
	nodes    map[string]int // nodes of the plan in each proof
	fails    map[string]int // by name: how many more tries fail in a way that may pass
	refuses  map[string]bool
	skips    map[string]bool
	hangs    map[string]int // tries that never end by themselves
	cleans   int
	sticky   int // how many more times cleaning fails
}

type stackView struct {
	k    *kube
	plan fleet.Plan
}

func (k *kube) stacks(p fleet.Plan, _ []byte) (Stack, error) { return stackView{k, p}, nil }

func (s stackView) Close() {}

// begin notes a step and gives what is to go wrong with it.
func (s stackView) begin(ctx context.Context, name string) error {
	if err := s.k.call(ctx, func() {}); err != nil {
		return err
	}
	s.k.mu.Lock()
	f := &s.k.stack
	if f.began == nil {
		f.began, f.installs, f.proofs, f.nodes = map[string]int{}, map[fleet.Component]int{}, map[fleet.Proof]int{}, map[string]int{}
	}
	f.began[name]++
	f.nodes[name] = len(s.plan.Assignments)
	fails, hangs := f.fails[name] > 0, f.hangs[name] > 0
	if fails {
		f.fails[name]--
	}
	if hangs {
		f.hangs[name]--
	}
	refuses := f.refuses[name]
	s.k.mu.Unlock()
	skips := f.skips[name]
	switch {
	case skips:
		return &Skipped{"no node can take it"}
	case hangs:
		<-ctx.Done()
		return ctx.Err()
	case !pause(ctx, 3*time.Second):
		return ctx.Err()
	case refuses:
		return fleet.NewFault(fleet.CodeComponentRefused, fleet.Invalid, nil, "unknown field")
	case fails:
		return fleet.NewFault(fleet.CodeComponentStuck, fleet.Transient, nil, "image cannot be pulled")
	}
	return nil
}

func (s stackView) Install(ctx context.Context, c fleet.ComponentPlan, tell func(string, []fleet.Check)) error {
	tell("applying", nil)
	if err := s.begin(ctx, string(c.Name)); err != nil {
		return err
	}
	for i := range 3 {
		tell(fmt.Sprintf("%d of 3 pods are ready", i), []fleet.Check{{Name: "deployment", OK: i == 2, Missing: "pods"}})
		if !pause(ctx, 4*time.Second) {
			return ctx.Err()
		}
	}
	s.k.mu.Lock()
	defer s.k.mu.Unlock()
	s.k.stack.installs[c.Name]++
	return nil
}

func (s stackView) Prove(ctx context.Context, proof fleet.Proof, power Fencer, tell func(string)) (fleet.ProofResult, error) {
	s.k.mu.Lock()
	if s.k.stack.vms {
		s.k.breach("proof %s begins with VMs of another one", proof)
	}
	for _, c := range s.k.w.plan.Stack.Components {
		if s.k.stack.installs[c.Name] == 0 {
			s.k.breach("proof %s begins without %s", proof, c.Name)
		}
	}
	s.k.stack.vms = true
	s.k.mu.Unlock()
	err := s.begin(ctx, string(proof))
	if err == nil && proof == fleet.ProofFence {
		err = s.fence(ctx, power)
	}
	if ctx.Err() != nil {
		return fleet.ProofResult{}, ctx.Err()
	}
	tell("removing the VMs")
	s.k.mu.Lock()
	defer s.k.mu.Unlock()
	s.k.stack.vms = false
	if err == nil {
		s.k.stack.proofs[proof]++
	}
	return fleet.ProofResult{Words: []string{"it lives"}, Measured: map[string]float64{"restartSeconds": 20}}, err
}

func (s stackView) fence(ctx context.Context, power Fencer) error {
	last := s.plan.Assignments[len(s.plan.Assignments)-1].Node.Name
	if err := power.Off(ctx, last); err != nil {
		return err
	}
	if !pause(ctx, 20*time.Second) {
		return ctx.Err()
	}
	s.k.mu.Lock()
	hangs := s.k.stack.hangs["dark"] > 0
	s.k.stack.hangs["dark"] = 0
	s.k.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	return power.On(ctx, last)
}

func (s stackView) Clean(ctx context.Context, _ Fencer) error {
	if err := s.k.call(ctx, func() {}); err != nil {
		return err
	}
	s.k.mu.Lock()
	defer s.k.mu.Unlock()
	if s.k.stack.sticky > 0 {
		s.k.stack.sticky--
		return fleet.NewFault(fleet.CodeAPIRefused, fleet.Transient, nil, "namespace is terminating")
	}
	s.k.stack.cleans++
	s.k.stack.vms = false
	return nil
}

// poke has the sight of the cluster made anew.
func (k *kube) poke() {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.changedLocked()
}

// systemUp is how long an installed system takes from power-on to its kubelet.
const systemUp = 45 * time.Second

func (r *rig) isUp() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.power == fleet.PowerOn && time.Since(r.since) >= systemUp
}

// newPlatformWorld is a cluster whose plan has a VM platform.
func newPlatformWorld(control, workers int) *world {
	w := newClusterWorld(control, workers)
	w.kube.stack.hangs, w.kube.stack.fails, w.kube.stack.refuses = map[string]int{}, map[string]int{}, map[string]bool{}
	s := &fleet.StackPlan{Components: []fleet.ComponentPlan{{Name: fleet.ComponentKubeVirt, Version: "v1.6.0"}, {Name: fleet.ComponentCDI, Version: "v1.62.0"}, {Name: fleet.ComponentInstanceTypes}}}
	for _, p := range fleet.Proofs() {
		skip := ""
		if p == fleet.ProofSnapshot {
			skip = "no snapshot class"
		}
		if p == fleet.ProofFence && workers < 2 {
			skip = "one hypervisor"
		}
		s.Proofs = append(s.Proofs, fleet.ProofPlan{Name: p, Skip: skip})
	}
	w.plan.Stack = s
	for i, a := range w.plan.Assignments {
		if a.Role == fleet.ControlPlane && workers > 0 {
			w.plan.Assignments[i].Node.Taints = []fleet.Taint{{Key: "control-plane", Effect: "NoSchedule"}}
		}
	}
	if err := w.plan.Seal(); err != nil {
		panic(err)
	}
	return w
}

func stepOf(s *fleet.StackStatus, name string) fleet.StackStep {
	i := slices.IndexFunc(s.Steps, func(x fleet.StackStep) bool { return string(x.Component) == name || string(x.Proof) == name })
	if i < 0 {
		return fleet.StackStep{}
	}
	return s.Steps[i]
}
