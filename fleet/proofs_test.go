package fleet

import "testing"

func TestWhyNot(t *testing.T) {
	node := func(name string, r Role) Assignment {
		return Assignment{Server: ServerID(name), Role: r, Node: &NodePlan{Name: name, Labels: map[string]string{LabelWorker: ""}}}
	}
	plan := func(s StackPlan, all ...Assignment) Plan { return Plan{Stack: &s, Assignments: all} }
	full := StackPlan{Guest: "guest", Storage: VMStorage{Class: "c", Snapshots: "s"}}
	with := func(change func(*StackPlan)) StackPlan { s := full; change(&s); return s }
	w1, w2, c1, c2, c3 := node("w1", Worker), node("w2", Worker), node("c1", ControlPlane), node("c2", ControlPlane), node("c3", ControlPlane)
	bare := node("c4", ControlPlane)
	bare.Node.Labels = nil
	all := Proofs()
	for name, c := range map[string]struct {
		plan Plan
		not  []Proof
	}{
		"two workers":                         {plan(full, bare, w1, w2), nil},
		"one node":                            {plan(full, node("s1", SingleNode)), []Proof{ProofMigrate, ProofDrain, ProofFence}},
		"one worker, a control plane without": {plan(full, bare, w1), []Proof{ProofMigrate, ProofDrain, ProofFence}},
		"two control planes":                  {plan(full, c1, c2), []Proof{ProofFence}},
		"three control planes":                {plan(full, c1, c2, c3), nil},
		"no guest":                            {plan(with(func(s *StackPlan) { s.Guest = "" }), w1, w2), all},
		"no hypervisor":                       {plan(full, bare), all},
		"no class":                            {plan(with(func(s *StackPlan) { s.Storage = VMStorage{} }), w1, w2), []Proof{ProofVolume, ProofSnapshot}},
		"no snapshots":                        {plan(with(func(s *StackPlan) { s.Storage.Snapshots = "" }), w1, w2), []Proof{ProofSnapshot}},
		"nobody fits":                         {plan(with(func(s *StackPlan) { s.Migration = map[string][]string{"w1": {}, "w2": nil} }), w1, w2), []Proof{ProofMigrate, ProofDrain}},
		"one way fits":                        {plan(with(func(s *StackPlan) { s.Migration = map[string][]string{"w1": {"w2"}, "w2": {}} }), w1, w2), nil},
		"one is not known":                    {plan(with(func(s *StackPlan) { s.Migration = map[string][]string{"w1": {}} }), w1, w2), nil},
		"only one that is left out fits":      {plan(with(func(s *StackPlan) { s.Migration = map[string][]string{"w1": {"w3"}, "w2": {"w3"}} }), w1, w2), []Proof{ProofMigrate, ProofDrain}},
	} {
		g := GroundOf(c.plan)
		for _, p := range all {
			want := false
			for _, n := range c.not {
				want = want || n == p
			}
			if why := g.WhyNot(p); (why != "") != want {
				t.Errorf("%s: %s: %q", name, p, why)
			}
		}
	}
}
