package provision

import (
	"context"

	"metalrise.dev/fleet"
)

// Stacks opens the way to the VM platform of a cluster; nothing is sent yet. The
// plan is without the servers that were taken away or are left out.
type Stacks func(p fleet.Plan, kubeconfig []byte) (Stack, error)

// Stack installs the VM platform of one cluster and proves it.
type Stack interface {
	// Install applies one component and returns when it is ready. It may be
	// repeated, also after it was broken off. tell says what is happening; checks
	// are what must be true of it, nil when that is not known.
	Install(ctx context.Context, c fleet.ComponentPlan, tell func(note string, checks []fleet.Check)) error
	// Prove runs one step of the ring with VMs of its own and removes them when it
	// is done, also when it failed. Broken off it leaves them for Clean. Where the
	// cluster cannot do it the error is a *Skipped.
	Prove(ctx context.Context, proof fleet.Proof, power Fencer, tell func(note string)) (fleet.ProofResult, error)
	// Clean removes all that proofs left in the cluster, and switches on what they
	// switched off; nothing there is success.
	Clean(ctx context.Context, power Fencer) error
	// Close ends the connections.
	Close()
}

// Skipped is a proof that turned out to be impossible here. It is no failure.
type Skipped struct{ Why string }

func (s *Skipped) Error() string { return s.Why }

// Fencer switches nodes off and on again through their BMCs, for a proof. Nodes
// are named as in the cluster.
type Fencer interface {
	// Off does not ask the operating system, and returns when the BMC shows that
	// the server is off. It refuses where the cluster would not survive that.
	Off(ctx context.Context, node string) error
	// On returns when the BMC shows that the server is on; its system then still
	// boots.
	On(ctx context.Context, node string) error
}
