package provision

import (
	"context"
	"time"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

// Clusters is what an engine needs for plans with a cluster. It is left out
// where a site installs hosts and nothing else.
type Clusters struct {
	Flavour Flavour
	Vault   Vault
	Payload string // digest of the nodes' software that is served
	Stacks  Stacks // nil where plans end with ready nodes
	// Mirror says that this engine also serves the software's container images as
	// a registry, below the URL that the nodes know, to those whom Engine.Pulls lets.
	Mirror bool
}

// Flavour decides how a cluster is brought up. All but Connect is without
// effect on anything: the same arguments give the same task.
type Flavour interface {
	// Authority makes the cluster's certificates and keys. It is called once for
	// each cluster, as late as possible; the result is secret.
	Authority(p fleet.Plan) ([]byte, error)
	// Kubeconfig gives an administrator's way in.
	Kubeconfig(p fleet.Plan, authority []byte) ([]byte, error)
	// Prepare puts the nodes' software in place.
	Prepare(n NodeInput) (callhome.Task, error)
	// Begin makes the initial control plane.
	Begin(n NodeInput, authority []byte) (callhome.Task, error)
	// Join adds a node. token is in bootstrap form, "abcdef.0123456789abcdef".
	Join(n NodeInput, authority []byte, token string) (callhome.Task, error)
	// Reset removes what a Begin or Join left that did not succeed.
	Reset(n NodeInput) (callhome.Task, error)
	// Connect opens the way to the cluster's API; nothing is sent yet.
	Connect(p fleet.Plan, kubeconfig []byte) (Cluster, error)
}

// NodeInput is what a task for one node is made of.
type NodeInput struct {
	Plan       fleet.Plan
	Assignment fleet.Assignment
	Runtime    fleet.NodeRuntime
	Task       string                     // the task's ID
	Path       func(sha256 string) string // of a content of the payload, below the ticket's URL
	Mirror     Mirror                     // zero where this engine serves none
}

// Cluster is a cluster's API. Every call may be repeated.
type Cluster interface {
	// Base applies what every cluster of the plan needs, and lets nobody but us
	// admit nodes.
	Base(ctx context.Context) error
	// Invite brings a node's token into force until then.
	Invite(ctx context.Context, a fleet.Assignment, token string, until time.Time) error
	// Revoke ends a token; one that is not there is success.
	Revoke(ctx context.Context, token string) error
	// Dress gives a node its planned labels and taints.
	Dress(ctx context.Context, a fleet.Assignment) error
	// Follow watches the cluster until ctx ends, also while the API is away. It
	// approves the certificates of planned nodes and refuses others.
	Follow(ctx context.Context, f Follower) error
	// Drain moves a node's pods and VMs elsewhere, telling what it does.
	Drain(ctx context.Context, a fleet.Assignment, tell func(string)) error
	// Undrain lets pods on a node again that was drained or was about to be.
	Undrain(ctx context.Context, a fleet.Assignment) error
	// Leave takes a node out of etcd and of the cluster. Unless forced, it
	// refuses what would cost the majority.
	Leave(ctx context.Context, a fleet.Assignment, force bool) error
	// Close ends the connections. A call after it, or under way, opens others.
	Close()
}

// Follower hears what Follow sees.
type Follower struct {
	// Guest finds the server that a token in force was made for, by the token's id.
	Guest func(tokenID string) (fleet.Assignment, bool)
	// Seen is called with each change: at most some times a second, never
	// concurrently. It must not block.
	Seen func(ClusterSight)
	// Refused is called for each certificate that was refused.
	Refused func(server fleet.ServerID, cause fleet.Cause)
}

// ClusterSight is what the API shows at one moment.
type ClusterSight struct {
	Reachable bool
	Checks    []fleet.Check                    // of the cluster as a whole
	Nodes     map[fleet.ServerID][]fleet.Check // of planned nodes
}

// Vault keeps what is secret and what belongs to the administrator.
type Vault interface {
	// SecretOr reads a secret, or makes and stores it.
	SecretOr(name string, make func() ([]byte, error)) ([]byte, error)
	// KeepKubeconfig stores the administrator's way in, readable by its owner
	// only, and gives its path.
	KeepKubeconfig(content []byte) (path string, err error)
}
