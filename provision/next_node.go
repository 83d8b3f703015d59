package provision

import (
	"slices"
	"time"

	"metalrise.dev/fleet"
)

// ClusterLook is what is known now of the cluster, for the decision about one
// of its nodes.
type ClusterLook struct {
	Up    bool // it was begun and has what every cluster needs
	Turn  bool // the node may begin or join now
	For   string
	Stuck bool // only a person can end the wait for the turn
	// Checks are the node's, nil while the API does not tell.
	Checks []fleet.Check
}

// nextNode takes an installed server to a ready node. The node's software is
// put in place at once and everywhere; then comes one control plane after the
// other, then all workers together.
//
// Transitions to: Joined by admit, Ready by ready, and finish.
func nextNode(t *Track, look Look, now time.Time, l Limits) Decision {
	n := &t.Node
	if n.Plan == nil || n.Ready {
		return Act{fleet.ActFinish, "nothing is left to do for it"}
	}
	if t.Pending != nil && settles(t.Pending.Action) {
		return t.trying(Settle{t.Pending.Action}, t.Pending.Action, now, l)
	}
	if !n.Joined {
		if d := nextSilent(t, look, now, l); d != nil {
			return d
		}
	}
	switch {
	case n.Task != nil:
		return Wait{Until: look.Heard.Add(l.NodeSilence), For: "the node: " + n.Task.ID}
	case !n.Prepared && !n.Joined:
		return t.trying(Act{fleet.ActPrepare, "the node needs its software"}, fleet.ActPrepare, now, l)
	case n.Dirty:
		return nextReset(t, now, l)
	case !n.Joined:
		return nextJoin(t, look, now, l)
	case n.Plan.Initial && !n.Based:
		return t.trying(Act{fleet.ActBase, "every cluster needs a pod network and rules of admission"}, fleet.ActBase, now, l)
	case !n.Admitted:
		return nextAdmit(t, look, now, l)
	}
	return nextReady(t, look, now, l)
}

// nextSilent deals with a node that says nothing though it has to. A machine
// that is switched off is switched on, once: half joined it may hold up the
// others.
func nextSilent(t *Track, look Look, now time.Time, l Limits) Decision {
	since := later(later(look.Heard, t.Node.Home.At), t.Retried)
	if now.Before(since.Add(l.NodeSilence)) {
		return nil
	}
	if d := nextOff(t, look, since, now, l); d != nil {
		return d
	}
	deadline := later(since.Add(l.NodeSilence), t.Marks[fleet.ActPowerOn].At).Add(l.ArriveTimeout)
	if now.Before(deadline) {
		what := "the node to speak again"
		if look.ByHand {
			what = "the node to speak again; it has no BMC, so look whether it is switched on"
		}
		return Wait{Until: deadline, For: what, Overdue: fleet.CodeNodeSilent}
	}
	if t.Node.Stale && look.Cluster.Up && t.Marks[fleet.ActLeave].Failures == 0 {
		// A control plane that is half a member keeps others from joining.
		return leaveFirst
	}
	return overdue(fleet.CodeNodeSilent, "the node was not heard for "+(l.NodeSilence+l.ArriveTimeout).String())
}

// nextOff looks whether a silent node is switched off, and switches it on; nil when
// there is nothing more to do, or no BMC to do it by.
func nextOff(t *Track, look Look, since, now time.Time, l Limits) Decision {
	if look.ByHand {
		return nil
	}
	m := t.Marks[fleet.ActIdentify]
	if !m.OK || !m.At.After(since) {
		return t.trying(Act{fleet.ActIdentify, "the node says nothing; look whether it is switched on"}, fleet.ActIdentify, now, l)
	}
	on := t.Marks[fleet.ActPowerOn]
	if t.Sight.Power == fleet.PowerOff && !(on.OK && on.At.After(since)) {
		return t.trying(Act{fleet.ActPowerOn, "it was switched off in the middle of the work"}, fleet.ActPowerOn, now, l)
	}
	return nil
}

// nextReset decides about a begin or join that did not succeed: what is left of
// it goes, then it is tried once more. After that a person must look.
func nextReset(t *Track, now time.Time, l Limits) Decision {
	if t.Node.Stale { // a member of etcd whose data are wiped would cost the majority
		return t.trying(leaveFirst, fleet.ActLeave, now, l)
	}
	m := t.Marks[joining(t)]
	if m.Cause != nil && (m.Failures >= 2 || m.Cause.Code == fleet.CodeAddressTaken || m.Cause.Code == fleet.CodePayloadCorrupt) {
		return Hold{*m.Cause}
	}
	return t.trying(Act{fleet.ActReset, "what is left of a try that failed must go"}, fleet.ActReset, now, l)
}

// leaveFirst comes before anything of a node is wiped that may be a member.
var leaveFirst = Act{fleet.ActLeave, "what the cluster remembers of an earlier try must go first"}

// joining is how the node becomes part of the cluster.
func joining(t *Track) fleet.Action {
	if t.Node.Plan.Initial {
		return fleet.ActBegin
	}
	return fleet.ActJoin
}

func nextJoin(t *Track, look Look, now time.Time, l Limits) Decision {
	if !look.Cluster.Turn {
		return Wait{Until: now.Add(time.Minute), For: look.Cluster.For, Stuck: look.Cluster.Stuck}
	}
	if t.Node.Plan.Initial {
		return Act{fleet.ActBegin, "it is the initial control plane"}
	}
	if t.Node.Stale {
		return t.trying(leaveFirst, fleet.ActLeave, now, l)
	}
	if m := t.Marks[fleet.ActInvite]; !m.OK || now.Sub(m.At) > l.TokenLife/2 {
		return t.trying(Act{fleet.ActInvite, "the node needs a token of its own"}, fleet.ActInvite, now, l)
	}
	return Act{fleet.ActJoin, "it is its turn"}
}

func nextAdmit(t *Track, look Look, now time.Time, l Limits) Decision {
	c, known := check(look.Cluster.Checks, fleet.CheckRegistered)
	if c.OK {
		return t.trying(Act{fleet.ActAdmit, "the API shows it as planned"}, fleet.ActAdmit, now, l)
	}
	deadline := t.waits(t.Marks[joining(t)], look).Add(l.AdmitTimeout)
	if now.Before(deadline) {
		return Wait{Until: deadline, For: "the API to show the node", Overdue: fleet.CodeNodeNotAdmitted}
	}
	why := c.Missing
	if !known {
		why = "the API does not answer"
	}
	return overdue(fleet.CodeNodeNotAdmitted, "not within "+l.AdmitTimeout.String()+": "+why)
}

func nextReady(t *Track, look Look, now time.Time, l Limits) Decision {
	missing := unmet(look.Cluster.Checks)
	switch {
	case look.Cluster.Checks == nil:
		missing = []string{"the API does not answer"}
	case len(missing) == 0:
		return Act{fleet.ActReady, "every check is true"}
	case len(missing) == 1 && !kvmCheck(t).OK: // nothing else is missing, and this does not come by waiting
		return Hold{fleet.Cause{Code: fleet.CodeKVMUnproven, Kind: fleet.Conflict, Chain: missing}}
	}
	deadline := t.waits(t.Marks[fleet.ActAdmit], look).Add(l.ReadyTimeout)
	if now.Before(deadline) {
		return Wait{Until: deadline, For: missing[0], Overdue: fleet.CodeNodeNotReady}
	}
	return Hold{fleet.Cause{Code: fleet.CodeNodeNotReady, Kind: fleet.Transient, Chain: missing}}
}

// waits is since when something is waited for that follows a step. Where the
// step belongs to an earlier plan that is since this engine runs.
func (t *Track) waits(after Mark, look Look) time.Time {
	if after.At.IsZero() {
		return later(look.Started, t.Retried)
	}
	return later(after.At, t.Retried)
}

// recovered tells whether a hold is over because what was missing came true.
func recovered(t *Track, look Look) bool {
	if t.Hold == nil || t.Node.Plan == nil || t.Node.Removal != nil {
		return false
	}
	switch t.Hold.Code {
	case fleet.CodeNodeNotAdmitted:
		c, _ := check(look.Cluster.Checks, fleet.CheckRegistered)
		return c.OK
	case fleet.CodeNodeNotReady, fleet.CodeKVMUnproven:
		return look.Cluster.Checks != nil && len(unmet(look.Cluster.Checks)) == 0
	}
	return false
}

// nextRemoval takes a server away. What it gives the cluster is given up first,
// then its power.
func nextRemoval(t *Track, look Look, now time.Time, l Limits) Decision {
	n := &t.Node
	member := n.Plan != nil && (n.Kept || n.Joined || n.Dirty && look.Cluster.Up)
	switch {
	case n.Removed:
		return Done{}
	case t.Pending != nil && settles(t.Pending.Action):
		return t.trying(Settle{t.Pending.Action}, t.Pending.Action, now, l)
	case member && !n.Removal.Force && !n.Left && !t.Marks[fleet.ActDrain].OK:
		return t.trying(Act{fleet.ActDrain, "its pods and VMs go elsewhere"}, fleet.ActDrain, now, l)
	case member && !n.Left && !(n.Removal.Force && t.Marks[fleet.ActLeave].Failures >= 2):
		return t.trying(Act{fleet.ActLeave, "etcd and the API forget it"}, fleet.ActLeave, now, l)
	case n.Removal.Force && !n.Removal.Erase:
		return Act{fleet.ActRemove, "it is taken for gone"}
	case n.Removal.Erase && !n.Erased:
		return nextErase(t, look, now, l)
	case look.ByHand:
		return Act{fleet.ActRemove, "nothing of it is left in the cluster; it has no BMC, so a person switches it off"}
	case t.Media():
		return t.trying(Act{fleet.ActEject, "the medium has done its work"}, fleet.ActEject, now, l)
	case !t.done(fleet.ActIdentify, now):
		return t.trying(Act{fleet.ActIdentify, "make sure that the BMC still belongs to this server"}, fleet.ActIdentify, now, l)
	case t.Sight.Power != fleet.PowerOff && !t.Marks[fleet.ActPowerOff].OK:
		return t.trying(Act{fleet.ActPowerOff, "it is no longer needed"}, fleet.ActPowerOff, now, l)
	}
	return Act{fleet.ActRemove, "nothing of it is left in the cluster"}
}

// nextErase boots the live system once more, to have the install disk erased.
func nextErase(t *Track, look Look, now time.Time, l Limits) Decision {
	switch {
	case !t.Staged:
		return t.trying(Act{fleet.ActStage, "the live system that erases needs its own token and media address"}, fleet.ActStage, now, l)
	case t.Live.Key == "":
		return nextBoot(t, look, now, l)
	}
	if m := t.Marks[fleet.ActErase]; m.Cause != nil {
		return Hold{*m.Cause}
	}
	deadline := later(t.Live.At, look.Heard).Add(l.EraseTimeout)
	if now.Before(deadline) {
		return Wait{Until: deadline, For: "the agent to erase the disk", Overdue: fleet.CodeAgentSilent}
	}
	return overdue(fleet.CodeAgentSilent, "the agent did not report the erased disk within "+l.EraseTimeout.String())
}

// Media tells whether a medium that we inserted may still be in the drive.
func (t *Track) Media() bool { return t.Marks[fleet.ActInsert].OK && !t.Marks[fleet.ActEject].OK }

func check(all []fleet.Check, name string) (fleet.Check, bool) {
	i := slices.IndexFunc(all, func(c fleet.Check) bool { return c.Name == name })
	if i < 0 {
		return fleet.Check{Name: name}, false
	}
	return all[i], true
}

// unmet says what is missing, a line for each check that is not true.
func unmet(all []fleet.Check) []string {
	var out []string
	for _, c := range all {
		if !c.OK {
			out = append(out, c.Name+": "+c.Missing)
		}
	}
	return out
}

// kvmCheck judges what the installed system reported of itself.
func kvmCheck(t *Track) fleet.Check {
	c := fleet.Check{Name: fleet.CheckKVM, Since: t.Node.Home.At}
	kvm, known := t.KVM.Get()
	lacks := func(why string) fleet.Check {
		if c.OK = t.Node.Emulation; !c.OK {
			c.Missing = why
			if t.Node.Remedy != "" {
				c.Missing += "; " + t.Node.Remedy
			}
		}
		return c
	}
	switch {
	case !known:
		return lacks("the installed system did not tell")
	case !kvm.Usable:
		return lacks(kvm.Why)
	case !kvm.VhostNet.Or(true):
		return lacks("/dev/vhost-net cannot be opened")
	case !kvm.Tun.Or(true):
		return lacks("/dev/net/tun cannot be opened")
	}
	c.OK = true
	return c
}
