package provision

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strconv"
	"time"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

// usesCluster tells for which actions the cluster's API is asked.
func usesCluster(a fleet.Action) bool {
	switch a {
	case fleet.ActBase, fleet.ActInvite, fleet.ActAdmit, fleet.ActDrain, fleet.ActLeave:
		return true
	}
	return false
}

// giveTask lets the node carry out a task. Its orders follow from the event.
func (w *walker) giveTask(ctx context.Context, d Act) {
	w.mu.Lock()
	task := Task{Action: d.Action, ID: w.track.Node.taskID(d.Action)}
	w.mu.Unlock()
	data, err := json.Marshal(task)
	if err != nil {
		w.engine.Log.Error("encode task", "server", w.plan.Server, "error", err)
		return
	}
	w.record(ctx, fleet.Event{Action: d.Action, Edge: fleet.Began, Note: d.Why, Data: data})
}

// performCluster is the only place from which the cluster is changed.
func (w *walker) performCluster(ctx context.Context, a fleet.Action) error {
	limit := w.engine.Limits.ActionTimeout
	if a == fleet.ActDrain {
		limit = w.engine.Limits.ReadyTimeout // VMs move one after the other
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	client, release, err := w.engine.client(w.run)
	if err != nil {
		return err
	}
	defer release()
	switch a {
	case fleet.ActBase:
		return client.Base(ctx)
	case fleet.ActInvite:
		if err := client.Revoke(ctx, w.token(0)); err != nil { // of a try that failed
			return err
		}
		return client.Invite(ctx, w.plan, w.token(1), time.Now().Add(w.engine.Limits.TokenLife))
	case fleet.ActAdmit:
		if err := client.Dress(ctx, w.plan); err != nil {
			return err
		}
		return client.Revoke(ctx, w.token(0))
	case fleet.ActDrain:
		return client.Drain(ctx, w.plan, func(line string) { w.tell(ctx, a, line) })
	case fleet.ActLeave:
		w.mu.Lock()
		force := w.track.Node.Removal != nil && w.track.Node.Removal.Force
		w.mu.Unlock()
		return client.Leave(ctx, w.plan, force)
	}
	return fmt.Errorf("no way to %s", a)
}

// token is the node's bootstrap token: of the try to join that comes next with
// ahead 1, of the last one with 0.
func (w *walker) token(ahead int) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.run.keys.bootstrapToken(w.plan.Server, w.track.Node.Begun[fleet.ActJoin]+ahead)
}

// tell journals how far an action is, at most each second.
func (w *walker) tell(ctx context.Context, a fleet.Action, line string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now := time.Now(); now.Sub(w.told) >= time.Second {
		w.told = now
		if err := w.recordLocked(ctx, fleet.Event{Action: a, Edge: fleet.Progressed, Note: clip(line)}); err != nil {
			w.engine.Log.Warn("journal", "server", w.plan.Server, "error", err)
		}
	}
}

// taskLocked renders the task that the node works on.
func (w *walker) taskLocked() (*callhome.Task, error) {
	e, t := w.engine, w.track
	if e.Clusters == nil {
		return nil, fleet.NewFault(fleet.CodePayloadInvalid, fleet.Conflict, nil, "this engine has no software for nodes")
	}
	in := NodeInput{Plan: w.run.plan, Assignment: w.plan, Runtime: t.Node.Runtime, Task: t.Node.Task.ID, Path: w.run.blobPath, Mirror: w.mirrorLocked()}
	f := e.Clusters.Flavour
	var task callhome.Task
	var err error
	switch t.Node.Task.Action {
	case fleet.ActPrepare:
		task, err = f.Prepare(in)
	case fleet.ActReset:
		task, err = f.Reset(in)
	case fleet.ActBegin, fleet.ActJoin:
		var keys clusterKeys
		if keys, err = e.secrets(w.run); err != nil {
			break
		}
		if t.Node.Task.Action == fleet.ActBegin {
			task, err = f.Begin(in, keys.authority)
		} else {
			task, err = f.Join(in, keys.authority, w.run.keys.bootstrapToken(w.plan.Server, t.Node.Begun[fleet.ActJoin]))
		}
	}
	if err != nil {
		return nil, fmt.Errorf("task %s of %s: %w", t.Node.Task.ID, w.plan.Server, err)
	}
	task.ID = t.Node.Task.ID
	return &task, nil
}

// blobPath is where a content of the nodes' software is fetched from.
func (r *run) blobPath(sha256 string) string {
	return mediaPath(r.keys.allow(grant{kind: string(NodeSoftware), name: sha256}), "blob")
}

func endpointURL(e fleet.APIEndpoint) string {
	return "https://" + net.JoinHostPort(e.Address, strconv.Itoa(e.Port))
}

// Remove takes a server away: its part in the cluster, then its power.
func (e *Engine) Remove(ctx context.Context, id fleet.ServerID, r fleet.Removal) error {
	select {
	case e.applying <- struct{}{}:
		defer func() { <-e.applying }()
	case <-ctx.Done():
		return ctx.Err()
	}
	run := e.current()
	if run == nil {
		return fleet.NewFault(fleet.CodePlanUnknown, fleet.Invalid, nil, "no plan is being applied")
	}
	w := run.servers[id]
	if w == nil {
		return fleet.NewFault(fleet.CodeSiteUnknownServer, fleet.Invalid, nil, "server %q is not part of the plan", id)
	}
	if r.Erase {
		if err := e.released("erase the disk of " + string(id)); err != nil {
			return err
		}
	}
	data, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode removal: %w", err)
	}
	w.mu.Lock()
	if w.track.Lent != nil {
		w.mu.Unlock()
		return fleet.NewFault(fleet.CodeFencingFailed, fleet.Conflict, nil, "server %s is switched off for a proof; remove it when that is over", id)
	}
	if already := w.track.Node.Removal; already != nil && (w.track.Node.Removed || *already == r && w.track.Hold == nil) {
		w.mu.Unlock()
		return nil
	}
	w.decision = nil
	err = w.recordLocked(ctx, fleet.Event{Action: fleet.ActRemove, Edge: fleet.Began, Data: data, Note: "asked for by " + r.By})
	w.mu.Unlock()
	if err != nil {
		return err
	}
	w.setOff()
	return nil
}
