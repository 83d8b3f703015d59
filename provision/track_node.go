package provision

import (
	"encoding/json"
	"fmt"

	"metalrise.dev/fleet"
)

// NodeTrack is what the journal says of one server on its way from an installed
// system to a node of the cluster, and away from it again.
type NodeTrack struct {
	Plan      *fleet.NodePlan // nil: the server ends as an installed host
	Emulation bool            // a node without KVM may become Ready
	Kept      bool            // it was a node before this plan

	Home    Bound             // the installed system that redeemed its token
	Runtime fleet.NodeRuntime // as that reported
	Remedy  string            // how to switch KVM on, where it is off

	Task     *Task                // what the node works on now
	Begun    map[fleet.Action]int // tasks of each kind so far; their ids count on
	Prepared bool                 // its software is in place
	Dirty    bool                 // a begin or join was let happen and did not succeed yet
	Stale    bool                 // the cluster may remember an earlier try of it; that must go before anything is wiped
	Leaving  bool                 // it must be gone before the disk is written anew
	Joined   bool                 // begin or join succeeded
	Based    bool                 // of the initial node: the base was applied
	Admitted bool                 // the API shows it as planned
	Ready    bool                 // all its checks were true

	Removal *fleet.Removal
	Left    bool // it is no longer part of the cluster
	Erased  bool
	Removed bool
}

// Task is one task that a node was given.
type Task struct {
	Action fleet.Action `json:"-"`
	ID     string       `json:"task"`
}

// arrival is the data of an arrive event.
type arrival struct {
	fleet.KVM
	Key      string            `json:"key,omitempty"`
	Instance string            `json:"instance,omitempty"`
	Runtime  fleet.NodeRuntime `json:"runtime,omitzero"`
	Remedy   string            `json:"remedy,omitempty"`
}

// taskID names the next task of a kind.
func (n *NodeTrack) taskID(a fleet.Action) string { return fmt.Sprintf("%s-%d", a, n.Begun[a]+1) }

// foldArrival takes what an installed system said of itself.
func (t *Track) foldArrival(e fleet.Event) {
	var a arrival
	if json.Unmarshal(e.Data, &a) != nil {
		return
	}
	t.KVM = fleet.Known(a.KVM)
	t.Node.Home = Bound{Key: a.Key, Instance: a.Instance, At: e.At}
	t.Node.Runtime, t.Node.Remedy = a.Runtime, a.Remedy
}

// foldNode is for everything after the arrival. It tells whether the event was
// of that kind.
func (t *Track) foldNode(e fleet.Event) bool {
	n := &t.Node
	ok := e.Edge == fleet.Ended && (e.Outcome == fleet.OK || e.Outcome == fleet.Adopted)
	switch e.Action {
	case fleet.ActPrepare, fleet.ActBegin, fleet.ActJoin, fleet.ActReset:
		t.foldTask(e, ok)
	case fleet.ActBase:
		n.Based = n.Based || ok
	case fleet.ActAdmit:
		if ok {
			n.Admitted, t.Hold = true, nil // late is better than held
		}
	case fleet.ActReady:
		if ok {
			n.Ready, t.Hold = true, nil
		}
	case fleet.ActRemove:
		t.foldRemoval(e, ok)
	case fleet.ActLeave:
		n.Stale, n.Leaving = n.Stale && !ok, n.Leaving && !ok
		n.Left = n.Left || ok && n.Removal != nil
	case fleet.ActErase:
		if n.Erased = n.Erased || ok; ok { // it runs from the medium: look anew before its power is cut
			delete(t.Marks, fleet.ActIdentify)
			delete(t.Marks, fleet.ActPowerOff)
		}
	case fleet.ActInvite, fleet.ActDrain:
	default:
		return false
	}
	if e.Action == fleet.ActErase && e.Edge == fleet.Began {
		t.Marks[e.Action] = Mark{At: e.At}
	}
	t.mark(e)
	return true
}

func (t *Track) foldTask(e fleet.Event, ok bool) {
	n := &t.Node
	var named Task
	_ = json.Unmarshal(e.Data, &named)
	named.Action = e.Action
	if e.Edge == fleet.Began {
		if n.Begun == nil {
			n.Begun = map[fleet.Action]int{}
		}
		n.Begun[e.Action]++
		n.Task = &named
		n.Dirty = n.Dirty || e.Action == fleet.ActBegin || e.Action == fleet.ActJoin
		n.Stale = n.Stale || e.Action == fleet.ActJoin
		return
	}
	n.Task = nil
	switch {
	case e.Action == fleet.ActPrepare:
		n.Prepared = ok
	case e.Action == fleet.ActReset && ok:
		n.Dirty = false
	case ok: // begin or join
		n.Joined, n.Dirty, n.Stale = true, false, false
	case e.Action == fleet.ActJoin:
		n.Stale = true                   // also when it left while the node still tried
		delete(t.Marks, fleet.ActInvite) // the next try gets a fresh token
	}
}

func (t *Track) foldRemoval(e fleet.Event, ok bool) {
	if e.Edge == fleet.Began {
		var r fleet.Removal
		_ = json.Unmarshal(e.Data, &r)
		t.Node.Removal, t.Hold, t.Settled, t.Node.Task, t.Pending = &r, nil, false, nil, nil
		t.Staged, t.Live, t.Lent = false, Bound{}, nil
		t.Marks = map[fleet.Action]Mark{}
		return
	}
	t.Node.Removed = t.Node.Removed || ok
}

// again is the data of a retry.
type again struct {
	Reinstall bool            `json:"reinstall,omitempty"` // the disk is written anew
	Route     fleet.BootRoute `json:"route,omitempty"`     // by which the attempt begins; "" leaves it to the engine
}

// foldRetry begins anew on a person's word.
func (t *Track) foldRetry(e fleet.Event) {
	t.Hold, t.Pending, t.Staged, t.Settled = nil, nil, false, false
	t.Marks, t.Retried = map[fleet.Action]Mark{}, e.At
	t.Route.Missed, t.Route.Failed = nil, nil
	n := &t.Node
	n.Prepared = n.Joined // what was put in place is looked at again
	if n.Task == nil {
		n.Home.Key = "" // the person may have replaced what held it
	}
	var a again
	_ = json.Unmarshal(e.Data, &a) // older journals have none
	t.Route.Chosen = a.Route
	if a.Reinstall && !n.Joined {
		t.Written, t.Arrived, t.Allowed = false, false, e.At
		n.Leaving = n.Stale && n.Dirty
		n.Task, n.Dirty, n.Prepared, n.Home = nil, false, false, Bound{}
	}
}

// phase is the last milestone of a server that is, or was, installed.
func (n *NodeTrack) phase() fleet.Phase {
	switch {
	case n.Removed || n.Left:
		return fleet.Inspected
	case n.Ready:
		return fleet.Ready
	case n.Admitted:
		return fleet.Joined
	}
	return fleet.Installed
}
