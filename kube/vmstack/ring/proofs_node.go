package ring

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"metalrise.dev/fleet"
	"metalrise.dev/kube"
)

// choose finds the node that a proof takes away from others, and where its VM may go.
func (r *run) choose(ctx context.Context, code fleet.Code) (name string, others []string, err error) {
	names, err := r.names(ctx, 2, code)
	if err != nil {
		return "", nil, err
	}
	all, err := r.cluster.Objects(ctx, vmiKind, "", "")
	if err != nil {
		return "", nil, err
	}
	var nodes []node
	for _, name := range names {
		n := node{name: name, control: isControl(r.plan, name)}
		for _, u := range all {
			at, _, _ := unstructured.NestedString(u.Object, "status", "nodeName")
			if at == name && u.GetNamespace() != Namespace {
				n.strangers++
			}
		}
		nodes = append(nodes, n)
	}
	may := r.plan.Stack.Migration
	if r.proof == fleet.ProofFence {
		may = nil // a restart asks nothing of the CPUs' likeness
		nodes = slices.DeleteFunc(nodes, func(n node) bool { return n.control && r.cluster.CheckQuorum(ctx, n.name) != nil })
	}
	name, others, why := victim(nodes, may, names)
	if why != "" {
		return "", nil, &Skipped{why}
	}
	return name, others, nil
}

// proveDrain drains a node, and expects its VM to go on elsewhere.
func (r *run) proveDrain(ctx context.Context) error {
	name, others, err := r.choose(ctx, fleet.CodeEvacuationFailed)
	if err != nil {
		return err
	}
	v := r.vm(machine{name: nameOf("drain", name), nodes: append([]string{name}, others...), prefer: name, movable: true})
	if err := v.start(ctx); err != nil {
		return err
	}
	defer func() { v.seen(name) }()
	if at := v.now().node; at != name {
		return fleet.NewFault(fleet.CodeEvacuationFailed, fleet.Transient, nil, "VM %s was to start on %s and runs on %s: %s has no room for it", v.name, name, at, name)
	}
	boot := v.now().beat.Boot
	if err := r.cluster.AnnotateNode(ctx, name, drainedMark, r.nonce); err != nil {
		return fmt.Errorf("mark %s as ours before it is drained: %w", name, err)
	}
	v.story.rest()
	asked := time.Now()
	r.say("drain " + name)
	err = r.cluster.Drain(ctx, name, kube.Draining{Timeout: r.limits.drain, Unmoved: kube.KeepUnmoved}, func(text string) { r.say("drain " + name + ": " + text) })
	if err != nil {
		s, _ := v.look(ctx)
		return fleet.NewFault(fleet.CodeEvacuationFailed, kindOf(err), err, "drain %s with VM %s on it: %s", name, v.name, v.explain(ctx, s))
	}
	drained := time.Since(asked)
	s, err := v.until(ctx, r.limits.word, "wait for the guest of VM "+v.name+" away from "+name, func(s sight) (bool, error) {
		if l := v.story.newest(); l.boot != boot && l.heard >= enoughWords {
			return false, fleet.NewFault(fleet.CodeEvacuationFailed, fleet.Conflict, nil, "the guest of VM %s booted anew on %s when %s was drained, instead of moving", v.name, l.last.node, name)
		}
		return v.speaksElsewhere(s, name, boot), nil
	})
	if late(err) {
		return fleet.NewFault(fleet.CodeEvacuationFailed, fleet.Conflict, err, "%s was drained and the guest of VM %s does not go on elsewhere: %s", name, v.name, v.explain(ctx, s))
	}
	if err != nil {
		return err
	}
	down := silence(v.story.of(boot).gap, beatPace)
	r.measured("drainSeconds", seconds(drained))
	r.measured("downtimeMilliseconds", float64(down.Milliseconds()))
	r.saw("%s was drained in %s; its VM went on on %s without a new boot, not heard for %s", name, drained.Round(100*time.Millisecond), v.now().node, down.Round(10*time.Millisecond))
	return r.unmark(ctx, name, drainedMark)
}

// proveFence switches a node off through its BMC, and expects its VM to be
// started on another one. The node is switched on again in any case.
func (r *run) proveFence(ctx context.Context) error {
	if r.fencer == nil {
		return &Skipped{"nobody is here who can switch nodes off through their BMCs"}
	}
	name, others, err := r.choose(ctx, fleet.CodeFencingFailed)
	if err != nil {
		return err
	}
	v := r.vm(machine{name: nameOf("fence", name), nodes: append([]string{name}, others...), prefer: name})
	if err := v.start(ctx); err != nil {
		return err
	}
	defer func() { v.seen(name) }()
	if at := v.now().node; at != name {
		return fleet.NewFault(fleet.CodeFencingFailed, fleet.Transient, nil, "VM %s was to start on %s and runs on %s: %s has no room for it", v.name, name, at, name)
	}
	err = r.fence(ctx, v, name)
	back := time.Now()
	if revived := r.reviveAlways(ctx, name); revived != nil {
		return errors.Join(err, revived)
	}
	if err == nil {
		r.measured("backSeconds", seconds(time.Since(back)))
		r.saw("%s was switched on again and is ready", name)
	}
	return err
}

// reviveAlways switches the node on also when the proof was interrupted; then it
// does not wait until it is ready, which Clean does later.
func (r *run) reviveAlways(ctx context.Context, name string) error {
	if ctx.Err() == nil {
		return r.revive(ctx, r.fencer, name, r.say)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shortTidy)
	defer cancel()
	return r.fencer.On(ctx, name)
}

// fence switches the node off and waits for the VM's guest elsewhere.
func (r *run) fence(ctx context.Context, v *vm, name string) error {
	boot := v.now().beat.Boot
	if err := r.cluster.AnnotateNode(ctx, name, fencedMark, r.nonce); err != nil {
		return fmt.Errorf("mark %s as ours before it is switched off: %w", name, err)
	}
	r.say("switch " + name + " off through its BMC")
	off := time.Now()
	if err := r.fencer.Off(ctx, name); err != nil {
		return fleet.NewFault(fleet.CodeFencingFailed, fleet.KindOf(err), err, "switch %s off", name)
	}
	r.say(name + " is off")
	var s sight
	err := r.poll(ctx, r.limits.restart, "wait for the guest of VM "+v.name+" on another node than "+name, func(ctx context.Context) (bool, error) {
		if err := r.release(ctx, v, name); err != nil {
			return false, err
		}
		var err error
		if s, err = v.look(ctx); err != nil {
			return false, err
		}
		l := v.story.newest()
		return l.boot != boot && l.last.node != name && l.heard >= enoughWords, nil
	})
	if late(err) {
		return fleet.NewFault(fleet.CodeFencingFailed, fleet.Conflict, err, "%s is off and VM %s was not restarted elsewhere: %s", name, v.name, v.explain(ctx, s))
	}
	if err != nil {
		return err
	}
	took := time.Since(off)
	r.measured("restartSeconds", seconds(took))
	r.saw("%s was switched off through its BMC; the guest of its VM spoke on %s %s later", name, v.now().node, took.Round(100*time.Millisecond))
	return nil
}

// release lets go what the dead node holds of the VM. The API may be away for a
// while after the loss of a node, so it is done again at each look.
func (r *run) release(ctx context.Context, v *vm, name string) error {
	if err := r.cluster.Fence(ctx, name); err != nil {
		return err
	}
	pods, err := r.cluster.Pods(ctx, Namespace, vmLabel+"="+v.name)
	if err != nil {
		return err
	}
	for _, p := range pods {
		if p.Spec.NodeName == name {
			if err := r.cluster.EndPod(ctx, Namespace, p.Name); err != nil {
				return err
			}
		}
	}
	return nil
}
