package provision

import (
	"context"
	"fmt"
	"sync"
	"time"

	"metalrise.dev/fleet"
)

// cluster is what the walkers of one run share about the cluster they build.
// Its mutex is a leaf: nothing else is locked while it is held.
type cluster struct {
	plan    fleet.Plan
	initial fleet.ServerID
	begun   chan struct{} // closed when the initial control plane came up

	opening sync.Mutex // guards what follows
	keys    *clusterKeys
	way     *way

	mu         sync.Mutex
	members    map[fleet.ServerID]*member
	order      []fleet.ServerID
	planes     []fleet.ServerID // those of order that are no workers: few, and all that turns depend on
	raised     int              // members by which one sees that the cluster is up
	sight      ClusterSight
	kubeconfig string
	again      func()                       // has the cluster followed anew
	refusals   map[fleet.ServerID]time.Time // when one was journaled last
}

// clusterKeys are a cluster's secrets.
type clusterKeys struct{ authority, kubeconfig []byte }

// member is how far one server is, as the others need to know it.
type member struct {
	part   fleet.Assignment
	stage  stage
	held   bool
	based  bool // what every cluster needs was applied through it
	tokens int  // attempts at inviting it; part of its token
}

// stage orders how far a server is on its way into the cluster.
type stage int

const (
	away     stage = iota // not yet an installed system with its software in place
	prepared              // may join
	underJoin
	joined
	gone // it was taken away
)

func newCluster(p fleet.Plan) *cluster {
	c := &cluster{plan: p, begun: make(chan struct{}), members: map[fleet.ServerID]*member{}, refusals: map[fleet.ServerID]time.Time{}}
	for _, a := range p.Assignments {
		if a.Role == fleet.Excluded || a.Node == nil {
			continue
		}
		c.order = append(c.order, a.Server)
		c.members[a.Server] = &member{part: a}
		if a.Role != fleet.Worker {
			c.planes = append(c.planes, a.Server)
		}
		if a.Node.Initial {
			c.initial = a.Server
		}
	}
	return c
}

// id names the cluster for as long as it lives, also under later plans.
func (c *cluster) id() string { return clusterID(c.plan) }

func clusterID(p fleet.Plan) string {
	if since := p.Cluster.Since; since != "" {
		return since
	}
	return p.ID
}

// stageOf sums up a track.
func stageOf(t *Track) stage {
	n := &t.Node
	switch {
	case n.Removed || n.Left:
		return gone
	case n.Joined || n.Kept:
		return joined
	case n.Dirty:
		return underJoin
	case n.Prepared:
		return prepared
	}
	return away
}

// note takes in how far a server is, and tells whether that may matter to the
// others.
func (c *cluster) note(t *Track) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.members[t.Server]
	if m == nil {
		return false
	}
	now, held := stageOf(t), t.Hold != nil
	changed := m.stage != now || m.held != held
	if changed && now == gone && c.again != nil {
		c.again() // who follows must no longer expect it
	}
	changed = changed || m.based != t.Node.Based
	if m.raises() {
		c.raised--
	}
	m.stage, m.held, m.based, m.tokens = now, held, t.Node.Based, t.Node.Begun[fleet.ActJoin]
	if m.raises() {
		c.raised++
	}
	if now >= joined {
		select {
		case <-c.begun:
		default:
			close(c.begun)
		}
	}
	return changed && m.part.Role != fleet.Worker
}

// look is what the decision about one server needs.
func (c *cluster) look(t *Track) ClusterLook {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.turnLocked(t.Server)
	out.Up = c.upLocked()
	if c.sight.Reachable {
		out.Checks = c.checksLocked(t)
	}
	return out
}

// checks are those of a server that is a node, or is becoming one.
func (c *cluster) checks(t *Track) []fleet.Check {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m := c.members[t.Server]; m == nil || m.stage < joined || m.stage == gone || !c.sight.Reachable {
		return nil
	}
	return c.checksLocked(t)
}

func (c *cluster) upLocked() bool { return c.raised > 0 }

// raises tells whether one sees by this member that the cluster is up: nobody
// but the initial control plane joins a cluster that is not.
func (m *member) raises() bool { return m.based || m.stage == joined && !m.part.Node.Initial }

// turnLocked decides who may begin or join now: the initial control plane
// first, then the others one by one, because etcd takes in one member at a time,
// then every worker.
func (c *cluster) turnLocked(id fleet.ServerID) ClusterLook {
	me := c.members[id]
	if me == nil {
		return ClusterLook{}
	}
	if me.part.Node.Initial {
		return ClusterLook{Turn: true}
	}
	if first := c.members[c.initial]; !c.upLocked() && first != nil {
		return ClusterLook{For: first.part.Hostname + " to begin the cluster", Stuck: first.held || first.stage == gone}
	}
	for _, other := range c.planes {
		m := c.members[other]
		if other == id || m.held || m.stage >= joined {
			continue
		}
		if me.part.Role == fleet.Worker {
			return ClusterLook{For: "control plane " + m.part.Hostname + " to join"}
		}
		if m.stage == underJoin || m.stage == prepared && me.stage == prepared && before(c.planes, other, id) {
			return ClusterLook{For: "control plane " + m.part.Hostname + " to join"}
		}
	}
	return ClusterLook{Turn: true}
}

func before(order []fleet.ServerID, a, b fleet.ServerID) bool {
	for _, id := range order {
		if id == a || id == b {
			return id == a
		}
	}
	return false
}

// checksLocked are a node's checks as the API shows them, and the one that only
// its own system can answer.
func (c *cluster) checksLocked(t *Track) []fleet.Check {
	out := []fleet.Check{}
	for _, k := range c.sight.Nodes[t.Server] {
		if k.Name != fleet.CheckKVM {
			out = append(out, k)
		}
	}
	if len(out) == 0 {
		out = append(out, fleet.Check{Name: fleet.CheckRegistered, Missing: "the API does not show the node"})
	}
	return append(out, kvmCheck(t))
}

// see takes in what the API shows and gives the servers for whom that changed
// anything.
func (c *cluster) see(s ClusterSight) (changed []fleet.ServerID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	was := c.sight
	c.sight = s
	for _, id := range c.order {
		if was.Reachable != s.Reachable || !sameChecks(was.Nodes[id], s.Nodes[id]) {
			changed = append(changed, id)
		}
	}
	return changed
}

func sameChecks(a, b []fleet.Check) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].Name != b[i].Name || a[i].OK != b[i].OK || a[i].Missing != b[i].Missing {
			return false
		}
	}
	return true
}

// status is for people and programs.
func (c *cluster) status() *fleet.ClusterStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.plan.Cluster
	s := &fleet.ClusterStatus{Flavour: p.Flavour, Version: p.Version, Endpoint: endpointURL(p.Endpoint), Reachable: c.sight.Reachable,
		Up: c.upLocked(), Kubeconfig: c.kubeconfig, Checks: c.sight.Checks}
	if m := c.members[c.initial]; m != nil {
		s.Begun = m.stage >= underJoin
	}
	return s
}

// guest finds the server that a bootstrap token in force was made for.
func (r *run) guest(tokenID string) (fleet.Assignment, bool) {
	c := r.cluster
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range c.order {
		m := c.members[id]
		if m.stage != underJoin && m.stage != joined {
			continue
		}
		if r.keys.bootstrapToken(id, m.tokens)[:6] == tokenID {
			return m.part, true
		}
	}
	return fleet.Assignment{}, false
}

// secrets gives the cluster's authority, made when it is asked for first, and
// the administrator's way in.
func (e *Engine) secrets(r *run) (clusterKeys, error) {
	c := r.cluster
	c.opening.Lock()
	defer c.opening.Unlock()
	return e.secretsLocked(r)
}

func (e *Engine) secretsLocked(r *run) (clusterKeys, error) {
	c := r.cluster
	if c.keys != nil {
		return *c.keys, nil
	}
	id := c.id()
	id = id[:min(12, len(id))]
	v, f := e.Clusters.Vault, e.Clusters.Flavour
	var k clusterKeys
	var err error
	if k.authority, err = v.SecretOr("cluster-"+id, func() ([]byte, error) { return f.Authority(r.plan) }); err != nil {
		return k, err
	}
	// Its certificate is good for a year: each half-year brings a new one.
	now := time.Now()
	half := fmt.Sprintf("-%dh%d", now.Year(), 1+(int(now.Month())-1)/6)
	if k.kubeconfig, err = v.SecretOr("kubeconfig-"+id+half, func() ([]byte, error) { return f.Kubeconfig(r.plan, k.authority) }); err != nil {
		return k, err
	}
	c.keys = &k
	return k, nil
}

// follow watches the run's cluster from the moment it was begun.
func (e *Engine) follow(ctx context.Context, r *run) {
	select {
	case <-r.cluster.begun:
	case <-ctx.Done():
		return
	}
	defer r.cluster.reconnect()
	for ctx.Err() == nil {
		watch, again := context.WithCancel(ctx)
		r.cluster.followed(again)
		client, release, err := e.client(r)
		if err == nil {
			err = client.Follow(watch, Follower{Guest: r.guest, Seen: r.see, Refused: func(id fleet.ServerID, cause fleet.Cause) { e.refusedCertificate(ctx, r, id, cause) }})
		}
		ended := watch.Err() != nil
		again()
		release()
		if ctx.Err() != nil {
			return
		}
		if ended { // a server was taken away
			r.cluster.reconnect()
			continue
		}
		e.Log.Warn("watch of the cluster ended; it begins anew", "error", err)
		select {
		case <-time.After(5 * time.Second):
		case <-ctx.Done():
		}
	}
}

// present is the plan without the servers that were taken away.
func (c *cluster) present() fleet.Plan {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.plan
	p.Assignments = nil
	for _, a := range c.plan.Assignments {
		if m := c.members[a.Server]; m == nil || m.stage != gone {
			p.Assignments = append(p.Assignments, a)
		}
	}
	return p
}

func (c *cluster) followed(again func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.again = again
}

func (r *run) see(s ClusterSight) {
	if r.platform != nil {
		defer r.platform.rouse()
	}
	for _, id := range r.cluster.see(s) {
		if w := r.servers[id]; w != nil {
			w.rouse()
		}
	}
}

// refusedCertificate writes down that somebody asked for a certificate that is
// not his. It holds nobody: the node's own checks tell what it lacks.
func (e *Engine) refusedCertificate(ctx context.Context, r *run, id fleet.ServerID, cause fleet.Cause) {
	c, now := r.cluster, time.Now()
	c.mu.Lock()
	soon := now.Sub(c.refusals[id]) < time.Minute // who asks may ask again and again
	if !soon {
		c.refusals[id] = now
	}
	c.mu.Unlock()
	if soon {
		return
	}
	ev := fleet.Event{At: now, Server: id, Plan: r.plan.ID, Action: fleet.ActProgress, Edge: fleet.Progressed, Cause: &cause, Note: "a certificate was refused"}
	if _, err := e.Journal.Append(ctx, ev); err != nil {
		e.Log.Error("journal", "server", id, "error", err)
	}
}
