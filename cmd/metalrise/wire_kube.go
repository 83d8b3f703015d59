package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
	"metalrise.dev/images"
	"metalrise.dev/kube"
	"metalrise.dev/provision"
)

// administratorLasts is for how long the administrator's certificate is good:
// as long as those that kubeadm makes for the control planes.
const administratorLasts = 365 * 24 * time.Hour

// kubeadm is provision's way to package kube.
type kubeadm struct{ payload fleet.Payload }

func (kubeadm) Authority(p fleet.Plan) ([]byte, error) {
	a, err := kube.NewAuthority(time.Now(), rand.Reader, p)
	if err != nil {
		return nil, err
	}
	return a.Marshal()
}

func (kubeadm) Kubeconfig(p fleet.Plan, authority []byte) ([]byte, error) {
	a, err := kube.ParseAuthority(authority)
	if err != nil {
		return nil, err
	}
	return a.Kubeconfig(time.Now(), rand.Reader, p.Cluster.Endpoint, p.Site, administratorLasts)
}

func (k kubeadm) node(n provision.NodeInput) kube.Node {
	return kube.Node{Plan: n.Plan, Assignment: n.Assignment, Runtime: n.Runtime, Payload: k.payload, Attempt: 1, Path: n.Path, Gates: gatesOf(n.Plan),
		Mirror: mirrorOf(n.Mirror)}
}

// gatesOf are the feature gates that the cluster is begun with.
func gatesOf(p fleet.Plan) map[string]bool {
	if p.Cluster == nil {
		return nil
	}
	return p.Cluster.Gates
}

func (k kubeadm) Prepare(n provision.NodeInput) (callhome.Task, error) {
	return kube.Prepare(k.node(n))
}

func (k kubeadm) Reset(n provision.NodeInput) (callhome.Task, error) { return kube.Reset(k.node(n)) }

func (k kubeadm) Begin(n provision.NodeInput, authority []byte) (callhome.Task, error) {
	a, err := kube.ParseAuthority(authority)
	if err != nil {
		return callhome.Task{}, err
	}
	return kube.Begin(k.node(n), a)
}

func (k kubeadm) Join(n provision.NodeInput, authority []byte, token string) (callhome.Task, error) {
	a, err := kube.ParseAuthority(authority)
	if err != nil {
		return callhome.Task{}, err
	}
	return kube.Join(k.node(n), a, token)
}

func (k kubeadm) Connect(p fleet.Plan, kubeconfig []byte) (provision.Cluster, error) {
	manifests, err := kube.BaseManifests(p, k.payload)
	if err != nil {
		return nil, err
	}
	c, err := kube.Connect(kubeconfig, p)
	if err != nil {
		return nil, err
	}
	return &clusterAPI{Cluster: c, manifests: manifests}, nil
}

// clusterAPI is provision's way to a cluster's API.
type clusterAPI struct {
	*kube.Cluster
	manifests []byte
}

func (c *clusterAPI) Base(ctx context.Context) error { return c.Cluster.Base(ctx, c.manifests) }

func (c *clusterAPI) Follow(ctx context.Context, f provision.Follower) error {
	return c.Cluster.Follow(ctx, kube.Follower{
		Guest: f.Guest,
		See: func(v kube.View) {
			f.Seen(provision.ClusterSight{Reachable: v.Reachable, Checks: v.Cluster, Nodes: v.Nodes})
		},
		Judged: func(a kube.Admission) {
			if !a.OK && a.Cause != nil {
				f.Refused(a.Server, *a.Cause)
			}
		},
	})
}

// drainLasts bounds one drain: VMs are moved one after the other.
const drainLasts = 10 * time.Minute

func (c *clusterAPI) Drain(ctx context.Context, a fleet.Assignment, tell func(string)) error {
	if a.Role != fleet.Worker { // before VMs are moved for nothing
		if err := c.CheckQuorum(ctx, a.Node.Name); err != nil {
			return err
		}
	}
	return c.Cluster.Drain(ctx, a.Node.Name, kube.Draining{Timeout: drainLasts}, tell)
}

func (c *clusterAPI) Undrain(ctx context.Context, a fleet.Assignment) error {
	return c.Uncordon(ctx, a.Node.Name)
}

func (c *clusterAPI) Leave(ctx context.Context, a fleet.Assignment, force bool) error {
	if a.Role != fleet.Worker {
		if !force {
			if err := c.CheckQuorum(ctx, a.Node.Name); err != nil {
				return err
			}
		}
		if err := c.LeaveEtcd(ctx, a); err != nil {
			return fmt.Errorf("leave etcd: %w", err)
		}
	}
	return c.Delete(ctx, a)
}

// clusters loads and verifies the nodes' software, if the site names some.
func (d *daemon) clusters(s fleet.Site, lib *library) (*provision.Clusters, error) {
	if s.Cluster.Software == "" {
		return nil, nil
	}
	payload, err := verifiedPayload(d.ctx, s.Cluster.Software, d.store.Dir())
	if err != nil {
		return nil, err
	}
	lib.software = payload
	d.images.serve(payload)
	return &provision.Clusters{Flavour: kubeadm{payload.Value()}, Vault: d.store, Payload: payload.Digest(), Mirror: true, Stacks: stacksOf(payload)}, nil
}

var errNoSoftware = errors.New("the site names no software for nodes")

// verifiedPayload opens the nodes' software and reads all of it once: nothing is
// served that was not verified. What did not change since is not read again.
func verifiedPayload(ctx context.Context, folder, state string) (*images.Payload, error) {
	payload, err := images.LoadPayload(ctx, folder)
	if err != nil {
		return nil, err
	}
	return payload, payload.Verify(ctx, images.Verifier{Cache: filepath.Join(state, "verified")}, nil)
}
