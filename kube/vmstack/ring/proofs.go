package ring

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"metalrise.dev/fleet"
	"metalrise.dev/guest"
	"metalrise.dev/kube"
)

// schedulable is KubeVirt's label of a node that can take VMs (its virt-handler
// found KVM, or emulation is allowed).
const schedulable = "kubevirt.io/schedulable"

// ready lists the hypervisors that can take VMs now, and those that cannot with
// the reason.
func (r *run) ready(ctx context.Context) (can []kube.NodeState, cannot []string, err error) {
	states, err := r.cluster.NodeStates(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, name := range fleet.GroundOf(r.plan).Hypervisors {
		i := slices.IndexFunc(states, func(n kube.NodeState) bool { return n.Name == name })
		switch {
		case i < 0:
			cannot = append(cannot, name+" is not in the cluster")
		case !states[i].Ready:
			cannot = append(cannot, name+" is not ready")
		case states[i].Cordoned:
			cannot = append(cannot, name+" is cordoned")
		case states[i].Labels[schedulable] != "true":
			cannot = append(cannot, fmt.Sprintf("%s: KubeVirt takes no VMs there (label %s is %q)", name, schedulable, states[i].Labels[schedulable]))
		default:
			can = append(can, states[i])
		}
	}
	return can, cannot, nil
}

// names lists the nodes that take VMs; fewer than least is a fault.
func (r *run) names(ctx context.Context, least int, code fleet.Code) ([]string, error) {
	can, cannot, err := r.ready(ctx)
	if err != nil {
		return nil, err
	}
	if len(can) < least {
		return nil, fleet.NewFault(code, fleet.Conflict, nil, "%d hypervisors take VMs, the proof needs %d: %s", len(can), least, strings.Join(cannot, "; "))
	}
	var names []string
	for _, n := range can {
		names = append(names, n.Name)
	}
	return names, nil
}

// proveStart starts one VM on each hypervisor.
func (r *run) proveStart(ctx context.Context) error {
	can, cannot, err := r.ready(ctx)
	if err != nil {
		return err
	}
	if len(cannot) > 0 {
		return fleet.NewFault(fleet.CodeVMNotStarted, fleet.Conflict, nil, "not all hypervisors take VMs: %s", strings.Join(cannot, "; "))
	}
	return each(can, func(n kube.NodeState) error {
		v := r.vm(machine{name: nameOf("start", n.Name), nodes: []string{n.Name}})
		if err := v.start(ctx); err != nil {
			v.seen("")
			return err
		}
		defer v.seen("")
		if err := v.reads(ctx); err != nil {
			return err
		}
		took := time.Since(v.created)
		r.measured("startSeconds", seconds(took))
		r.saw("the guest of VM %s on %s reported life %s after the VM was asked for", v.name, v.now().node, took.Round(100*time.Millisecond))
		return v.remove(ctx)
	})
}

// reads waits until the guest read its cloud-init disk.
func (v *vm) reads(ctx context.Context) error {
	err := v.hears(ctx, v.limits.disk, "wait until the guest of VM "+v.name+" reads its cloud-init disk", func(b guest.Beat) bool {
		return b.Cloud != "" && b.User == v.machine.run
	})
	if late(err) {
		b := v.now().beat
		return fleet.NewFault(fleet.CodeVMNotStarted, fleet.Conflict, err, "the guest of VM %s found no cloud-init data of this run: instance %q, user data %q, it says %q",
			v.name, b.Cloud, b.User, b.Fault)
	}
	return err
}

// remove deletes the VM to make room for the next one; the rest of it goes with
// the namespace.
func (v *vm) remove(ctx context.Context) error {
	return v.cluster.DeleteObject(ctx, vmKind, Namespace, v.name)
}

// proveMigrate moves each node's VM to the next one, round the ring.
func (r *run) proveMigrate(ctx context.Context) error {
	names, err := r.names(ctx, 2, fleet.CodeMigrationFailed)
	if err != nil {
		return err
	}
	moves := Moves(names, r.plan.Stack.Migration)
	for _, name := range names {
		if !slices.ContainsFunc(moves, func(m Move) bool { return m.From == name }) {
			r.saw("no VM moves away from %s: no other hypervisor's CPU fits", name)
		}
	}
	if s := r.plan.Stack.Storage; s.Class != "" && !s.Shared {
		r.saw("VMs with a disk of storage class %s cannot move: only one node at a time attaches its volumes", s.Class)
	}
	return each(moves, func(m Move) error {
		v := r.vm(machine{name: nameOf("move", m.From), nodes: []string{m.From, m.To}, prefer: m.From, movable: true})
		if err := v.start(ctx); err != nil {
			return err
		}
		from := v.now().node
		err := v.migrate(ctx)
		v.seen(from)
		if err != nil {
			return err
		}
		return v.remove(ctx)
	})
}

// migrate moves the VM to the other of its nodes, and is content when the same
// boot speaks there.
func (v *vm) migrate(ctx context.Context) error {
	from, boot := v.now().node, v.now().beat.Boot
	s, err := v.until(ctx, v.limits.word, "wait until VM "+v.name+" can be migrated", func(s sight) (bool, error) {
		return s.ready && s.fixed == "", nil
	})
	if err != nil {
		if late(err) && s.fixed != "" {
			return fleet.NewFault(fleet.CodeMigrationFailed, fleet.Conflict, err, "VM %s on %s cannot be migrated: %s", v.name, from, s.fixed)
		}
		return v.unmoved(ctx, s, from, err)
	}
	v.say(fmt.Sprintf("migrate VM %s away from %s", v.name, from))
	v.story.rest()
	asked := time.Now()
	if err := v.apply(ctx, migration(v.machine, v.name)); err != nil {
		return fleet.NewFault(fleet.CodeMigrationFailed, kindOf(err), err, "migrate VM %s", v.name)
	}
	s, err = v.until(ctx, v.limits.move, "wait until VM "+v.name+" has left "+from, func(s sight) (bool, error) {
		return v.arrived(ctx, s, from, boot)
	})
	if err != nil {
		return v.unmoved(ctx, s, from, err)
	}
	w := v.now()
	down := silence(v.story.of(boot).gap, beatPace)
	v.measured("downtimeMilliseconds", float64(down.Milliseconds()))
	v.measured("migrationSeconds", seconds(time.Since(asked)))
	v.saw("VM %s moved from %s to %s within %s without a new boot; its guest was not heard for %s",
		v.name, from, w.node, time.Since(asked).Round(100*time.Millisecond), down.Round(10*time.Millisecond))
	return v.cameBy(s)
}

// cameBy holds the way that the VM took against the network that is there for it.
// KubeVirt goes over that of the pods where it finds no address of that network.
func (v *vm) cameBy(s sight) error {
	i := slices.IndexFunc(v.plan.Stack.Networks, func(n fleet.VMNetwork) bool { return n.Name == v.plan.Stack.MigrationNetwork })
	if i < 0 {
		return nil
	}
	n := v.plan.Stack.Networks[i]
	subnet, _ := netip.ParsePrefix(n.Subnet)
	if a, err := netip.ParseAddr(s.move.address); err != nil || !subnet.Contains(a) {
		return fleet.NewFault(fleet.CodeMigrationFailed, fleet.Conflict, err, "VM %s came to %s by way of %q instead of an address of network %s, which is there for live migrations (%s)",
			v.name, s.node, s.move.address, n.Name, n.Subnet)
	}
	v.saw("it came by way of %s of VM network %s", s.move.address, n.Name)
	return nil
}

// arrived tells whether the guest speaks on another node, and fails when the
// migration did, or the guest began anew.
func (v *vm) arrived(ctx context.Context, s sight, from, boot string) (bool, error) {
	if l := v.story.newest(); l != nil && l.boot != boot {
		return false, fleet.NewFault(fleet.CodeMigrationFailed, fleet.Conflict, nil, "the guest of VM %s booted anew on %s instead of moving from %s", v.name, l.last.node, from)
	}
	u, err := v.cluster.Object(ctx, moveKind, Namespace, v.name)
	if err != nil {
		return false, err
	}
	if u != nil {
		phase, _, _ := unstructured.NestedString(u.Object, "status", "phase")
		if phase == "Failed" {
			return false, fleet.NewFault(fleet.CodeMigrationFailed, fleet.Conflict, nil, "the live migration of VM %s from %s to %s failed: %s; %s",
				v.name, from, nonEmpty(s.move.to, "another node"), nonEmpty(kube.Words(s.move.why), "KubeVirt gives no reason"), v.explain(ctx, s))
		}
		if phase != "Succeeded" {
			return false, nil
		}
	}
	return v.speaksElsewhere(s, from, boot), nil
}

// speaksElsewhere tells whether one boot was heard several times on another node.
func (v *vm) speaksElsewhere(s sight, from, boot string) bool {
	l := v.story.of(boot)
	return l != nil && s.node != from && l.last.node != from && l.moved >= enoughWords
}

func (v *vm) unmoved(ctx context.Context, s sight, from string, err error) error {
	if !late(err) {
		return err
	}
	if l := v.story.newest(); l != nil && s.node != from && s.phase == "Running" && l.last.node == from {
		return fleet.NewFault(fleet.CodeGuestSilent, fleet.Conflict, err, "VM %s moved from %s to %s, and its guest says nothing there: its last word was number %d",
			v.name, from, s.node, l.last.beat.Seq)
	}
	return fleet.NewFault(fleet.CodeMigrationFailed, fleet.Conflict, err, "VM %s on %s: %s", v.name, from, v.explain(ctx, s))
}

// proveNetwork lets the guests of pairs of hypervisors reach each other: over
// the pods' network, and over each VM network of the site.
func (r *run) proveNetwork(ctx context.Context) error {
	names, err := r.names(ctx, 1, fleet.CodeVMNetworkFailed)
	if err != nil {
		return err
	}
	if len(names) == 1 {
		r.saw("there is one hypervisor: both VMs run on it")
	}
	if len(r.plan.Stack.Networks) == 0 {
		r.saw("the site has no VM network: only the pods' network is tried")
	}
	if err := each(pairs(names), func(p Move) error { return r.reach(ctx, p, nil) }); err != nil {
		return err
	}
	for _, n := range r.plan.Stack.Networks {
		nodes := pairs(names)
		if n.Port == "" {
			r.saw("VM network %s has no port of the node: VMs reach those of the same node only", n.Name)
			nodes = nil
			for _, name := range names {
				nodes = append(nodes, Move{name, name})
			}
		}
		for _, p := range nodes { // one after the other: all pairs take the same two addresses
			if err := r.reach(ctx, p, &n); err != nil {
				return err
			}
		}
	}
	return nil
}

// enoughAnswers of a peer are a figure.
const enoughAnswers = 8

// reach starts a VM on each of two nodes and waits until they reach each other.
func (r *run) reach(ctx context.Context, p Move, n *fleet.VMNetwork) error {
	wires := [2]*wire{}
	label := "pods"
	if n != nil {
		addresses, err := pair(*n)
		if err != nil {
			return fleet.NewFault(fleet.CodeVMNetworkFailed, fleet.Invalid, err, "choose two addresses")
		}
		label = n.Name
		for i, a := range addresses {
			wires[i] = &wire{network: attachment(*n), address: a}
		}
	}
	ends := [2]machine{}
	for i, node := range []string{p.From, p.To} {
		ends[i] = machine{name: nameOf("net", label, node, []string{"a", "b"}[i]), nodes: []string{node}, wire: wires[i], run: r.nonce, proof: r.proof}
		if wires[1-i] != nil {
			ends[i].ping = wires[1-i].address.Addr()
		}
	}
	vms := [2]*vm{}
	for i := range ends {
		to, err := r.call(ctx, ends[1-i])
		if err != nil {
			return err
		}
		ends[i].dial = to
		vms[i] = r.vm(ends[i])
	}
	if err := each(vms[:], func(v *vm) error { return v.start(ctx) }); err != nil {
		return err
	}
	for i, v := range vms {
		if err := v.reaches(ctx, vms[1-i], n); err != nil {
			return err
		}
	}
	for _, v := range vms {
		if err := v.remove(ctx); err != nil {
			return err
		}
	}
	return nil
}

// call makes the Service of a VM and returns its address.
func (r *run) call(ctx context.Context, m machine) (netip.AddrPort, error) {
	u := service(m)
	if err := r.apply(ctx, u); err != nil {
		return netip.AddrPort{}, err
	}
	made, err := r.cluster.Object(ctx, serviceKind, Namespace, m.name)
	if err != nil || made == nil {
		return netip.AddrPort{}, fmt.Errorf("read the address of %s: %w", kube.NameOf(u), err)
	}
	text, _, _ := unstructured.NestedString(made.Object, "spec", "clusterIP")
	a, err := netip.ParseAddr(text)
	if err != nil || !a.Is4() {
		return netip.AddrPort{}, fleet.NewFault(fleet.CodeVMNetworkFailed, fleet.Unsupported, nil, "%s has the address %q; the guests speak IPv4 only", kube.NameOf(u), text)
	}
	return netip.AddrPortFrom(a, listenPort), nil
}

// reaches waits until a guest has enough answers of another one.
func (v *vm) reaches(ctx context.Context, peer *vm, n *fleet.VMNetwork) error {
	defer v.seen("")
	called := func(b guest.Beat) bool { return b.Dial.Got >= enoughAnswers && b.Heard == peer.now().beat.Boot }
	pinged := func(b guest.Beat) bool { return n == nil || b.Ping.Got >= enoughAnswers }
	err := v.hears(ctx, v.limits.reach, "wait until VMs "+v.name+" and "+peer.name+" reach each other", func(b guest.Beat) bool { return called(b) && pinged(b) })
	b := v.now().beat
	here, there := v.now().node, peer.now().node
	switch {
	case late(err) && !pinged(b):
		return fleet.NewFault(fleet.CodeVMNetworkFailed, fleet.Conflict, err, "over VM network %s a guest on %s sent %d echo requests to %s on %s and got %d answers; it says %q",
			n.Name, here, b.Ping.Sent, v.ping, there, b.Ping.Got, b.Fault)
	case late(err):
		return fleet.NewFault(fleet.CodeVMNetworkFailed, fleet.Conflict, err, "over the pods' network a guest on %s called the Service %s of a guest on %s %d times and got %d answers, the last from boot %s of a guest instead of %s; it says %q",
			here, v.dial, there, b.Dial.Sent, b.Dial.Got, nonEmpty(b.Heard, "none"), peer.now().beat.Boot, b.Fault)
	case err != nil:
		return err
	}
	v.measured("callMilliseconds", milliseconds(b.Dial.Mean))
	v.saw("a guest on %s calls one on %s through a Service of the pods' network in %.1f ms on average", here, there, milliseconds(b.Dial.Mean))
	if n != nil {
		v.measured("pingMilliseconds", milliseconds(b.Ping.Mean))
		v.saw("over VM network %s echoes from %s to %s take %.2f ms on average, %.2f at least", n.Name, here, there, milliseconds(b.Ping.Mean), milliseconds(b.Ping.Min))
	}
	return nil
}

func seconds(d time.Duration) float64 { return float64(d.Milliseconds()) / 1000 }

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
