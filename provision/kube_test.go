package provision

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

// kube is a cluster of a world: what its nodes did to it, and its API.
type kube struct {
	w *world

	mu        sync.Mutex
	begun     int // times a cluster was begun; more than one is a second cluster
	based     bool
	tokens    map[string]fleet.ServerID // by id
	members   map[fleet.ServerID]time.Time
	dressed   map[fleet.ServerID]bool
	drained   []fleet.ServerID
	joining   int // control planes at this moment
	secrets   map[string][]byte
	away      bool // the API does not answer
	blocked   bool // pods do not leave
	opened    int  // ways to the API
	closed    int
	undrained []fleet.ServerID
	change    chan struct{}
	breaches  []string // of the rules that every run must keep
	stack     stackFake
}

func newKube(w *world) *kube {
	return &kube{w: w, tokens: map[string]fleet.ServerID{}, members: map[fleet.ServerID]time.Time{}, dressed: map[fleet.ServerID]bool{},
		secrets: map[string][]byte{}, change: make(chan struct{})}
}

func (w *world) clusters() *Clusters {
	if w.kube == nil {
		return nil
	}
	return &Clusters{Flavour: w.kube, Vault: w.kube, Payload: "software", Stacks: w.kube.stacks}
}

func (k *kube) breach(format string, args ...any) {
	k.breaches = append(k.breaches, fmt.Sprintf(format, args...))
}

func (k *kube) changedLocked() {
	close(k.change)
	k.change = make(chan struct{})
}

func (k *kube) SecretOr(name string, mk func() ([]byte, error)) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if b := k.secrets[name]; b != nil {
		return b, nil
	}
	b, err := mk()
	k.secrets[name] = b
	return b, err
}

func (k *kube) KeepKubeconfig([]byte) (string, error) { return "/state/kubeconfig", nil }

func (k *kube) Authority(fleet.Plan) ([]byte, error)              { return []byte("authority"), nil }
func (k *kube) Kubeconfig(_ fleet.Plan, a []byte) ([]byte, error) { return a, nil }

func (k *kube) Connect(fleet.Plan, []byte) (Cluster, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.opened++
	return k, nil
}

func (k *kube) Prepare(n NodeInput) (callhome.Task, error) {
	return callhome.Task{ID: n.Task, Steps: []callhome.Step{{Fetch: &callhome.FetchStep{Path: n.Path("kubelet")}}}}, nil
}
func (k *kube) Reset(n NodeInput) (callhome.Task, error) { return callhome.Task{ID: n.Task}, nil }
func (k *kube) Begin(n NodeInput, _ []byte) (callhome.Task, error) {
	return callhome.Task{ID: n.Task}, nil
}

func (k *kube) Join(n NodeInput, _ []byte, token string) (callhome.Task, error) {
	return callhome.Task{ID: n.Task, Name: token}, nil
}

// work is what the agent of an installed system does with a task.
func (r *rig) work(ctx context.Context, c Caller, t callhome.Task) callhome.TaskReport {
	done := callhome.TaskReport{Task: t.ID, State: callhome.TaskDone}
	kind, _, _ := strings.Cut(t.ID, "-")
	r.mu.Lock()
	again := r.finished[t.ID]
	r.mu.Unlock()
	if again || !pause(ctx, 5*time.Second) {
		return done
	}
	r.ask(ctx, "", func(e *Engine) (callhome.Orders, error) {
		return e.Task(ctx, c, callhome.TaskReport{Task: t.ID, State: callhome.TaskRunning, Name: "half"})
	})
	for _, s := range t.Steps {
		if e := r.w.engine.Load(); e != nil {
			if _, ok, err := e.Open(strings.Split(s.Fetch.Path, "/")[2]); err == nil && !ok {
				r.w.kube.mu.Lock()
				r.w.kube.breach("%s cannot fetch what its task names", r.id)
				r.w.kube.mu.Unlock()
			}
		}
	}
	if err := r.w.kube.undergo(ctx, r, kind, t); err != nil {
		return callhome.TaskReport{Task: t.ID, State: callhome.TaskFailed, Cause: fleet.CauseOf(err), Output: "it says no\n"}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if ctx.Err() == nil {
		if r.finished == nil {
			r.finished = map[string]bool{}
		}
		r.finished[t.ID] = true
	}
	return done
}

// undergo is what a task of one node does to the cluster.
func (k *kube) undergo(ctx context.Context, r *rig, kind string, t callhome.Task) error {
	a, _ := k.w.plan.Assignment(r.id)
	r.mu.Lock()
	lost, fails := r.stall == kind, r.failTasks[kind] > 0
	if lost {
		r.stall = ""
		r.power = fleet.PowerOff
		r.off()
	}
	if fails {
		r.failTasks[kind]--
	}
	r.mu.Unlock()
	k.mu.Lock()
	control := a.Role != fleet.Worker && kind == "join"
	if control {
		if k.joining++; k.joining > 1 {
			k.breach("%d control planes join at once", k.joining)
		}
	}
	if kind == "join" {
		if k.begun != 1 || !k.based {
			k.breach("%s joins before the cluster is up", r.id)
		}
		if k.tokens[t.Name[:6]] != r.id {
			k.mu.Unlock()
			k.ended(control)
			return errors.New("the token is not known")
		}
	}
	k.mu.Unlock()
	defer k.ended(control)
	if lost {
		return ctx.Err()
	}
	if !pause(ctx, 10*time.Second) {
		return ctx.Err()
	}
	if fails {
		return errors.New("kubeadm ended with status 1")
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	switch kind {
	case "begin":
		k.begun++
		k.members[r.id] = time.Now()
	case "join":
		k.members[r.id] = time.Now()
	case "reset":
		if r.w.kube.members[r.id] != (time.Time{}) {
			k.breach("%s was reset though it is a member", r.id)
		}
	}
	k.changedLocked()
	time.AfterFunc(20*time.Second, func() { // it turns ready by itself
		k.mu.Lock()
		defer k.mu.Unlock()
		k.changedLocked()
	})
	return nil
}

func (k *kube) ended(control bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if control {
		k.joining--
	}
}

// call takes a moment and fails while the API is away.
func (k *kube) call(ctx context.Context, act func()) error {
	if !pause(ctx, 300*time.Millisecond) {
		return ctx.Err()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.away || k.begun == 0 {
		return fleet.NewFault(fleet.CodeAPIUnreachable, fleet.Transient, nil, "no answer")
	}
	act()
	k.changedLocked()
	return nil
}

func (k *kube) Base(ctx context.Context) error {
	return k.call(ctx, func() { k.based = true })
}

func (k *kube) Invite(ctx context.Context, a fleet.Assignment, token string, _ time.Time) error {
	return k.call(ctx, func() { k.tokens[token[:6]] = a.Server })
}

func (k *kube) Revoke(ctx context.Context, token string) error {
	return k.call(ctx, func() { delete(k.tokens, token[:6]) })
}

func (k *kube) Dress(ctx context.Context, a fleet.Assignment) error {
	return k.call(ctx, func() { k.dressed[a.Server] = true })
}

func (k *kube) Drain(ctx context.Context, a fleet.Assignment, tell func(string)) error {
	tell("moving")
	var err error
	return errors.Join(k.call(ctx, func() {
		if k.blocked {
			err = fleet.NewFault(fleet.CodeDrainBlocked, fleet.Conflict, nil, "pod db-0 stays")
			return
		}
		k.drained = append(k.drained, a.Server)
	}), err)
}

func (k *kube) Undrain(ctx context.Context, a fleet.Assignment) error {
	return k.call(ctx, func() { k.undrained = append(k.undrained, a.Server) })
}

// Close: nobody may have a call under way on it.
func (k *kube) Close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed++
}

func (k *kube) Leave(ctx context.Context, a fleet.Assignment, _ bool) error {
	return k.call(ctx, func() {
		if _, member := k.members[a.Server]; member && !slices.Contains(k.drained, a.Server) {
			k.breach("%s left before it was drained", a.Server)
		}
		delete(k.members, a.Server)
	})
}

func (k *kube) Follow(ctx context.Context, f Follower) error {
	for {
		k.mu.Lock()
		s := ClusterSight{Reachable: !k.away, Nodes: map[fleet.ServerID][]fleet.Check{}}
		for id, since := range k.members {
			ready := fleet.Check{Name: fleet.CheckKubelet, OK: time.Since(since) >= 20*time.Second && k.w.servers[id].isUp(), Missing: "the pod network is not up"}
			s.Nodes[id] = []fleet.Check{{Name: fleet.CheckRegistered, OK: true}, ready}
		}
		change := k.change
		k.mu.Unlock()
		f.Seen(s)
		select {
		case <-change:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (k *kube) isDressed(id fleet.ServerID) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.dressed[id]
}
