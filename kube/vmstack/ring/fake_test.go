package ring

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"metalrise.dev/fleet"
	"metalrise.dev/guest"
	"metalrise.dev/kube"
)

// ills are ways in which a cluster is ill.
type ills struct {
	silent    bool // guests say nothing although VMs run
	dies      bool // guests stop after their second line
	pending   bool // no VM is ever Running
	crashes   bool // VMs fail again and again
	anew      bool // a migrated guest boots again
	refuses   bool // migrations fail
	lost      bool // what was written is gone after a restart
	unrelated bool // guests do not reach each other over VM networks
	stays     bool // a drained VM does not go
	noRestart bool // a lost VM is not started elsewhere
	noOff     bool // the BMC does not switch off
	noSnap    bool // snapshots do not become ready
	hangs     bool // deleted VMs stay until they are touched
	leaks     bool // cloud-init data do not arrive
	unfilled  bool // CDI calls a volume filled that is empty
	local     bool // a volume's snapshot is on one node, and a VM goes to another one where it may
}

// fake is a cluster with KubeVirt, as far as the proofs see it. Its VMs' guests
// read their orders from the kernel's arguments and speak as package guest does.
type fake struct {
	ills ills

	mu      sync.Mutex
	objects map[string]*unstructured.Unstructured
	nodes   []kube.NodeState
	off     map[string]bool
	vms     map[string]*fakeVM
	boots   int
	calls   []string
	stopped []string // pods ended by force
}

type fakeVM struct {
	m      *unstructured.Unstructured
	orders guest.Orders
	disk   guest.Mark // survives boots
	kept   guest.Mark // in the snapshot
	boot   string
	found  guest.Mark
	born   time.Time // of the boot
	phase  string
	stays  []stay // of this boot and earlier ones, the last is where it is
}

// stay is a time on one node in one pod.
type stay struct {
	node, pod, boot string
	from, to        time.Time // to is zero while it lasts
	seq             uint64    // of the first line
}

func newFake(nodes ...string) *fake {
	f := &fake{objects: map[string]*unstructured.Unstructured{}, vms: map[string]*fakeVM{}, off: map[string]bool{}}
	for _, n := range nodes {
		f.nodes = append(f.nodes, kube.NodeState{Name: n, Ready: true, Labels: map[string]string{schedulable: "true"}, Annotations: map[string]string{}})
	}
	return f
}

func key(kind schema.GroupVersionKind, namespace, name string) string {
	return kind.Kind + "/" + namespace + "/" + name
}

func (f *fake) called(format string, args ...any) {
	f.calls = append(f.calls, fmt.Sprintf(format, args...))
}

func (f *fake) node(name string) *kube.NodeState {
	i := slices.IndexFunc(f.nodes, func(n kube.NodeState) bool { return n.Name == name })
	return &f.nodes[i]
}

func (f *fake) Apply(_ context.Context, u *unstructured.Unstructured) (*unstructured.Unstructured, []string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	u = u.DeepCopy()
	if old := f.objects[key(u.GroupVersionKind(), u.GetNamespace(), u.GetName())]; old != nil && u.GetKind() == "Service" {
		return old, nil, nil
	}
	f.objects[key(u.GroupVersionKind(), u.GetNamespace(), u.GetName())] = u
	switch u.GetKind() {
	case "Service":
		unstructured.SetNestedField(u.Object, fmt.Sprintf("10.96.0.%d", 10+len(f.objects)), "spec", "clusterIP")
	case "VirtualMachine":
		vm := f.vms[u.GetName()]
		if vm == nil {
			vm = &fakeVM{disk: guest.Blank()}
			if v := f.objects[key(volumeKind, Namespace, u.GetName())]; v != nil && !f.ills.unfilled {
				url, _, _ := unstructured.NestedString(v.Object, "spec", "source", "registry", "url")
				image, _, _ := unstructured.NestedString(u.Object, "spec", "template", "spec", "domain", "firmware", "kernelBoot", "container", "image")
				if url == "docker://"+image {
					vm.disk = guest.Shipped()
				}
			}
			f.vms[u.GetName()] = vm
		}
		vm.m = u
		f.strategy(vm)
	case "DataVolume":
		if f.ills.pending {
			u.Object["status"] = map[string]any{"phase": "ImportInProgress", "conditions": []any{
				map[string]any{"type": "Bound", "status": "True", "reason": "Bound"},
				map[string]any{"type": "Running", "status": "False", "reason": "Error", "message": "permission denied"},
				map[string]any{"type": "Ready", "status": "False"},
			}}
		}
	case "VirtualMachineInstanceMigration":
		if vm := f.vms[u.GetName()]; f.ills.refuses {
			unstructured.SetNestedField(u.Object, "Failed", "status", "phase")
		} else {
			f.move(vm)
			unstructured.SetNestedField(u.Object, "Succeeded", "status", "phase")
		}
	case "VirtualMachineSnapshot":
		f.vms[u.GetName()].kept = f.vms[u.GetName()].disk
		unstructured.SetNestedField(u.Object, !f.ills.noSnap, "status", "readyToUse")
		unstructured.SetNestedField(u.Object, "the driver said no", "status", "error", "message")
	case "VirtualMachineRestore":
		vm := f.vms[u.GetName()]
		vm.disk = vm.kept
		if f.ills.local && len(f.allowed(vm)) > 1 {
			vm.disk = guest.Blank()
		}
		args, _, _ := unstructured.NestedString(vm.m.Object, "spec", "template", "spec", "domain", "firmware", "kernelBoot", "kernelArgs")
		unstructured.SetNestedField(vm.m.Object, strings.Replace(args, "mark="+markAfter, "mark="+markBefore, 1), "spec", "template", "spec", "domain", "firmware", "kernelBoot", "kernelArgs")
		unstructured.SetNestedField(u.Object, true, "status", "complete")
	}
	return u, nil, nil
}

// strategy starts or stops a VM as it is asked for.
func (f *fake) strategy(vm *fakeVM) {
	strategy, _, _ := unstructured.NestedString(vm.m.Object, "spec", "runStrategy")
	switch {
	case strategy == "Always" && vm.phase == "":
		f.boot(vm, "")
	case strategy == "Halted" && vm.phase != "":
		f.end(vm)
		vm.phase = ""
	}
}

func (f *fake) end(vm *fakeVM) {
	if n := len(vm.stays); n > 0 && vm.stays[n-1].to.IsZero() {
		vm.stays[n-1].to = time.Now()
	}
}

// boot starts a VM on the best of its nodes.
func (f *fake) boot(vm *fakeVM, not string) {
	f.boots++
	spec, _, _ := unstructured.NestedMap(vm.m.Object, "spec", "template", "spec")
	args, _, _ := unstructured.NestedString(spec, "domain", "firmware", "kernelBoot", "kernelArgs")
	vm.orders, _ = guest.ParseOrders(args)
	vm.boot, vm.born, vm.phase = fmt.Sprintf("%016x", f.boots), time.Now().Add(3*time.Second), "Running"
	if f.ills.pending || f.ills.crashes {
		vm.phase = "Scheduling"
	}
	if f.ills.crashes {
		unstructured.SetNestedField(vm.m.Object, "CrashLoopBackOff", "status", "printableStatus")
	}
	if f.ills.lost && f.boots > 1 {
		vm.disk = guest.Blank()
	}
	vm.found = vm.disk
	if vm.orders.Disk != "" && vm.disk.Text != vm.orders.Mark {
		vm.disk = guest.Mark{Text: vm.orders.Mark, Boot: vm.boot}
	}
	vm.stays = append(vm.stays, stay{node: f.place(vm, not), pod: fmt.Sprintf("virt-launcher-%s-%d", vm.m.GetName(), f.boots), boot: vm.boot, from: vm.born, seq: 1})
}

// place gives the first node that a VM may run on.
func (f *fake) place(vm *fakeVM, not string) string {
	for _, v := range f.allowed(vm) {
		if name := v.(string); name != not && !f.node(name).Cordoned && !f.off[name] {
			return name
		}
	}
	return ""
}

// allowed are the nodes that a VM asks for.
func (f *fake) allowed(vm *fakeVM) []any {
	term, _, _ := unstructured.NestedMap(vm.m.Object, "spec", "template", "spec", "affinity", "nodeAffinity")
	list, _, _ := unstructured.NestedSlice(term, "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms")
	return list[0].(map[string]any)["matchExpressions"].([]any)[0].(map[string]any)["values"].([]any)
}

// move migrates a VM, with a pause of a second.
func (f *fake) move(vm *fakeVM) {
	now := time.Now()
	last := &vm.stays[len(vm.stays)-1]
	last.to = now
	next := stay{node: f.place(vm, last.node), pod: last.pod + "m", boot: vm.boot, from: now.Add(time.Second), seq: last.seq + uint64(now.Sub(last.from)/beatPace) + 1}
	if f.ills.anew {
		f.boots++
		vm.boot, next.seq = fmt.Sprintf("%016x", f.boots), 1
		next.boot = vm.boot
	}
	vm.stays = append(vm.stays, next)
}

func (f *fake) Merge(_ context.Context, kind schema.GroupVersionKind, namespace, name string, patch map[string]any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	u := f.objects[key(kind, namespace, name)]
	if patch["spec"] == nil { // a touch
		if u.GetDeletionTimestamp() != nil {
			delete(f.objects, key(kind, namespace, name))
			delete(f.vms, name)
		}
		return nil
	}
	maps.Copy(u.Object["spec"].(map[string]any), patch["spec"].(map[string]any))
	f.strategy(f.vms[name])
	return nil
}

func (f *fake) Object(_ context.Context, kind schema.GroupVersionKind, namespace, name string) (*unstructured.Unstructured, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if kind == vmiKind {
		if vm := f.vms[name]; vm != nil && vm.phase != "" {
			return f.instance(name, vm), nil
		}
		return nil, nil
	}
	return f.objects[key(kind, namespace, name)], nil
}

func (f *fake) instance(name string, vm *fakeVM) *unstructured.Unstructured {
	last := vm.stays[len(vm.stays)-1]
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "status": map[string]any{
		"phase": vm.phase, "nodeName": last.node,
		"conditions": []any{
			map[string]any{"type": "Ready", "status": "True"}, map[string]any{"type": "LiveMigratable", "status": "True"},
			map[string]any{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available"},
		},
	}}}
	u.SetName(name)
	u.SetNamespace(Namespace)
	if vm.phase == "Running" && time.Now().Before(vm.born) {
		unstructured.SetNestedField(u.Object, "Scheduled", "status", "phase")
	}
	return u
}

func (f *fake) Objects(_ context.Context, kind schema.GroupVersionKind, namespace, _ string) ([]*unstructured.Unstructured, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []*unstructured.Unstructured
	for k, u := range f.objects {
		if strings.HasPrefix(k, kind.Kind+"/"+namespace) {
			out = append(out, u)
		}
	}
	return out, nil
}

func (f *fake) DeleteObject(_ context.Context, kind schema.GroupVersionKind, namespace, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.called("delete %s %s", kind.Kind, name)
	if u := f.objects[key(kind, namespace, name)]; f.ills.hangs && kind == vmKind && u != nil {
		now := metav1.Now()
		u.SetDeletionTimestamp(&now)
		return nil
	}
	delete(f.objects, key(kind, namespace, name))
	if kind == vmKind {
		delete(f.vms, name)
	}
	return nil
}

func (f *fake) Pods(_ context.Context, _, selector string) ([]corev1.Pod, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []corev1.Pod
	for name, vm := range f.vms {
		if selector != "" && selector != vmLabel+"="+name {
			continue
		}
		for _, s := range vm.stays {
			if !slices.Contains(f.stopped, s.pod) {
				out = append(out, corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: s.pod}, Spec: corev1.PodSpec{NodeName: s.node}, Status: corev1.PodStatus{Phase: corev1.PodRunning}})
			}
		}
	}
	return out, nil
}

func (f *fake) Warnings(context.Context, string) ([]corev1.Event, error) { return nil, nil }

func (f *fake) Log(context.Context, string, string, string, int, bool) (string, error) {
	return `{"level":"error","msg":"Failed to start","reason":"no room"}`, nil
}

// Console writes what the guest of a pod said until now.
func (f *fake) Console(_ context.Context, _, pod, _ string, since time.Time) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []byte
	for name, vm := range f.vms {
		for _, s := range vm.stays {
			if s.pod != pod {
				continue
			}
			if f.off[s.node] {
				return nil, errors.New("kubelet does not answer")
			}
			out = append(out, f.say(name, vm, s, since.Truncate(time.Second))...)
		}
	}
	return out, nil
}

func (f *fake) say(name string, vm *fakeVM, s stay, since time.Time) (out []byte) {
	out = fmt.Appendf(out, "%s SeaBIOS (version 1.16)\r\n", s.from.Add(-time.Second).Format(time.RFC3339Nano))
	for i := 0; ; i++ {
		at := s.from.Add(time.Duration(i) * beatPace)
		if at.After(time.Now()) || !s.to.IsZero() && at.After(s.to) || f.ills.silent || f.ills.pending || f.ills.crashes || f.ills.dies && i > 1 {
			return out
		}
		if at.Before(since) {
			continue
		}
		b := guest.Beat{Nonce: vm.orders.Nonce, Boot: s.boot, Seq: s.seq + uint64(i), Up: at.Sub(vm.born), Cloud: name, User: vm.orders.Nonce}
		if f.ills.leaks {
			b.User = ""
		}
		if vm.orders.Disk != "" {
			b.Found, b.Holds = vm.found, vm.disk
		}
		got := guest.Trips{Sent: uint64(i), Got: uint64(i), Min: time.Millisecond, Mean: 2 * time.Millisecond, Max: time.Second}
		if vm.orders.Dial.IsValid() {
			b.Dial, b.Heard = got, f.bootAt(vm.orders.Dial.Addr())
		}
		if vm.orders.Ping.IsValid() && !f.ills.unrelated {
			b.Ping = got
		}
		out = fmt.Appendf(out, "%s %s\r\n", at.Format(time.RFC3339Nano), b.Line())
	}
}

func (f *fake) bootAt(a netip.Addr) string {
	for k, u := range f.objects {
		if ip, _, _ := unstructured.NestedString(u.Object, "spec", "clusterIP"); strings.HasPrefix(k, "Service/") && ip == a.String() && f.vms[u.GetName()] != nil {
			return f.vms[u.GetName()].boot
		}
	}
	return ""
}

func (f *fake) EndPod(_ context.Context, _, pod string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stopped = append(f.stopped, pod)
	for _, vm := range f.vms {
		if last := vm.stays[len(vm.stays)-1]; last.pod == pod && !f.ills.noRestart {
			f.end(vm)
			f.boot(vm, last.node)
		}
	}
	return nil
}

func (f *fake) NodeStates(context.Context) ([]kube.NodeState, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := slices.Clone(f.nodes)
	for i := range out {
		out[i].Annotations = maps.Clone(out[i].Annotations)
	}
	return out, nil
}

func (f *fake) KubeletHeard(_ context.Context, node string) (time.Time, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.off[node] {
		return time.Unix(1, 0), nil
	}
	return time.Now(), nil
}

func (f *fake) AnnotateNode(_ context.Context, node, key, value string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.called("annotate %s %s=%s", node, key, value)
	f.node(node).Annotations[key] = value
	return nil
}

func (f *fake) Fence(_ context.Context, node string) error   { return f.fence(node, true) }
func (f *fake) Unfence(_ context.Context, node string) error { return f.fence(node, false) }

func (f *fake) fence(node string, yes bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.called("fence %s %v", node, yes)
	f.node(node).Fenced, f.node(node).Cordoned = yes, yes
	return nil
}

func (f *fake) Drain(_ context.Context, node string, _ kube.Draining, _ func(string)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.called("drain %s", node)
	f.node(node).Cordoned = true
	if f.ills.stays {
		return fleet.NewFault(fleet.CodeDrainBlocked, fleet.Conflict, nil, "1 pods do not leave %s", node)
	}
	for _, vm := range f.vms {
		f.move(vm)
	}
	return nil
}

func (f *fake) CheckQuorum(context.Context, string) error { return nil }

func (f *fake) Off(_ context.Context, node string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.called("off %s", node)
	if f.ills.noOff {
		return fleet.NewFault(fleet.CodePowerStuck, fleet.Transient, nil, "the BMC does not answer")
	}
	f.off[node] = true
	for _, vm := range f.vms {
		if vm.stays[len(vm.stays)-1].node == node {
			f.end(vm)
		}
	}
	return nil
}

func (f *fake) On(_ context.Context, node string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.called("on %s", node)
	f.off[node] = false
	return nil
}
