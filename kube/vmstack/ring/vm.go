package ring

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"metalrise.dev/fleet"
	"metalrise.dev/guest"
	"metalrise.dev/kube"
)

// consoleContainer of a VM's pod writes what the VM writes on its serial port
// (KubeVirt, field devices.logSerialConsole).
const consoleContainer = "guest-console-log"

// vm is one VM of a run, and what was heard of it. One goroutine works with it.
type vm struct {
	*run
	machine

	created time.Time
	story   story
	read    map[string]time.Time // until when each pod's console was read, by the node's clock
}

func (r *run) vm(m machine) *vm {
	m.run, m.proof, m.image = r.nonce, r.proof, r.plan.Stack.Guest
	return &vm{run: r, machine: m, read: map[string]time.Time{}}
}

// sight is how a VM stood at one look.
type sight struct {
	phase    string // of the VirtualMachineInstance: "Running"; "" when there is none
	uid      string // of it
	node     string
	ready    bool   // condition Ready
	fixed    string // why it cannot be migrated; "" when it can
	move     movement
	instance *unstructured.Unstructured
	pods     []corev1.Pod
	deaf     error // why a console could not be read
}

// movement is the state of the last live migration.
type movement struct {
	name      string // uid of its object
	completed bool
	failed    bool
	why       string
	to        string
	address   string // of the node it goes to, over which it comes
}

// create asks for the VM, with what it needs.
func (v *vm) create(ctx context.Context) error {
	objects := []*unstructured.Unstructured{service(v.machine)}
	if u := volume(v.machine, v.plan.Stack.Storage); u != nil {
		objects = append(objects, u)
	}
	v.created = time.Now()
	for _, u := range append(objects, v.machine.vm()) {
		if err := v.apply(ctx, u); err != nil {
			return err
		}
	}
	return nil
}

// look reads how the VM stands and what its guest said since the last look.
func (v *vm) look(ctx context.Context) (sight, error) {
	var s sight
	u, err := v.cluster.Object(ctx, vmiKind, Namespace, v.name)
	if err != nil {
		return s, err
	}
	if u != nil {
		s = readInstance(u)
	}
	if s.pods, err = v.cluster.Pods(ctx, Namespace, vmLabel+"="+v.name); err != nil {
		return s, err
	}
	slices.SortFunc(s.pods, func(a, b corev1.Pod) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
	for i := range s.pods {
		if err := v.listen(ctx, &s.pods[i]); err != nil {
			s.deaf = err // a dead node's kubelet does not answer: what else is known still counts
		}
	}
	return s, ctx.Err()
}

// listen reads a pod's console.
func (v *vm) listen(ctx context.Context, p *corev1.Pod) error {
	if p.Status.Phase == corev1.PodPending || p.Spec.NodeName == "" {
		return nil
	}
	log, err := v.cluster.Console(ctx, Namespace, p.Name, consoleContainer, v.read[p.Name])
	if err != nil {
		return err
	}
	words, raw, until := readConsole(log, p.Spec.NodeName, v.machine.run)
	if !until.IsZero() {
		v.read[p.Name] = until
	}
	if raw != "" {
		v.story.raw = raw
	}
	v.story.add(words)
	return nil
}

// readInstance reads a VirtualMachineInstance.
func readInstance(u *unstructured.Unstructured) sight {
	text := func(fields ...string) string { s, _, _ := unstructured.NestedString(u.Object, fields...); return s }
	is := func(fields ...string) bool { b, _, _ := unstructured.NestedBool(u.Object, fields...); return b }
	s := sight{
		phase: text("status", "phase"), uid: string(u.GetUID()), node: text("status", "nodeName"), instance: u,
		move: movement{
			name: text("status", "migrationState", "migrationUid"), completed: is("status", "migrationState", "completed"),
			failed: is("status", "migrationState", "failed"), why: text("status", "migrationState", "failureReason"),
			to: text("status", "migrationState", "targetNode"), address: text("status", "migrationState", "targetNodeAddress"),
		},
	}
	for _, c := range conditions(u) {
		switch {
		case c.kind == "Ready":
			s.ready = c.status == "True"
		case c.kind == "LiveMigratable" && c.status == "False":
			s.fixed = c.words()
		}
	}
	return s
}

// condition is one of an object's status.
type condition struct{ kind, status, reason, message string }

func (c condition) words() string {
	return kube.Words(strings.Trim(c.reason+": "+c.message, ": "))
}

func conditions(u *unstructured.Unstructured) []condition {
	list, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	var out []condition
	for _, one := range list {
		m, _ := one.(map[string]any)
		text := func(key string) string { s, _ := m[key].(string); return s }
		out = append(out, condition{text("type"), text("status"), text("reason"), text("message")})
	}
	return out
}

// errLate is a wait that took longer than its limit.
type errLate struct {
	what  string
	limit time.Duration
	err   error // of the API, when the last look failed
}

func (e *errLate) Error() string {
	text := fmt.Sprintf("%s: not within %s", e.what, e.limit)
	if e.err != nil {
		text += "; the last look failed: " + e.err.Error()
	}
	return text
}

// until looks until done says so, or the limit is over. An API that is away for
// a while is waited for: control planes fail over.
func (v *vm) until(ctx context.Context, limit time.Duration, what string, done func(sight) (bool, error)) (sight, error) {
	var last sight
	err := v.poll(ctx, limit, what, func(ctx context.Context) (bool, error) {
		s, err := v.look(ctx)
		if err != nil {
			return false, err
		}
		last = s
		return done(s)
	})
	return last, err
}

// poll asks until the answer is yes, an error that will not go away, or the
// limit. Errors of kind transient are kept for the end.
func (r *run) poll(ctx context.Context, limit time.Duration, what string, ask func(context.Context) (bool, error)) error {
	return poll(ctx, limit, r.limits.pace, what, ask)
}

func poll(ctx context.Context, limit, pace time.Duration, what string, ask func(context.Context) (bool, error)) error {
	end := time.NewTimer(limit)
	defer end.Stop()
	var trouble error
	for {
		yes, err := ask(ctx)
		if yes && err == nil {
			return nil
		}
		if err != nil && (ctx.Err() != nil || isSkip(err) || fleet.KindOf(err) != fleet.Transient) {
			return err
		}
		trouble = err
		select {
		case <-ctx.Done():
			return fleet.NewFault(fleet.CodeInterrupted, fleet.Transient, ctx.Err(), "%s", what)
		case <-end.C:
			return &errLate{what, limit, trouble}
		case <-time.After(pace):
		}
	}
}

// start creates the VM and waits until its guest speaks. That Kubernetes calls
// it Running is where the wait for the guest begins, not where it ends.
func (v *vm) start(ctx context.Context) error {
	if err := v.create(ctx); err != nil {
		return fleet.NewFault(fleet.CodeVMNotStarted, kindOf(err), err, "start VM %s", v.name)
	}
	return v.speaks(ctx, "")
}

// enoughWords of a boot are life: one line could be the last before it hangs.
const enoughWords = 3

// speaks waits until the VM is Running and a boot other than the given one is
// heard several times.
func (v *vm) speaks(ctx context.Context, notBoot string) error {
	alive := func() *life {
		if l := v.story.newest(); l != nil && l.boot != notBoot && l.heard >= enoughWords {
			return l
		}
		return nil
	}
	s, err := v.until(ctx, v.limits.start, "wait until VM "+v.name+" is Running", func(s sight) (bool, error) {
		if s.phase == "Running" || alive() != nil {
			return true, nil
		}
		if err := v.unplaced(s); err != nil {
			return false, err
		}
		return false, v.crashed(ctx, s)
	})
	if err != nil {
		return v.unstarted(ctx, s, err)
	}
	since := time.Now()
	s, err = v.until(ctx, v.limits.word, "wait for the first word of the guest of VM "+v.name, func(sight) (bool, error) {
		return alive() != nil, nil
	})
	if err != nil {
		return v.silent(ctx, s, time.Since(since), err)
	}
	return nil
}

// crashed is the fault of a VM that KubeVirt itself has given up to start at once:
// nothing is gained by waiting to the end.
func (v *vm) crashed(ctx context.Context, s sight) error {
	u, err := v.cluster.Object(ctx, vmKind, Namespace, v.name)
	if err != nil || u == nil {
		return err
	}
	if status, _, _ := unstructured.NestedString(u.Object, "status", "printableStatus"); status != "CrashLoopBackOff" {
		return nil
	}
	return fleet.NewFault(fleet.CodeVMNotStarted, fleet.Conflict, nil, "VM %s on %s fails again and again: %s", v.name, listed(v.nodes), v.explain(ctx, s))
}

func (v *vm) unstarted(ctx context.Context, s sight, err error) error {
	if !late(err) {
		return err
	}
	return fleet.NewFault(fleet.CodeVMNotStarted, fleet.Conflict, err, "VM %s on %s: %s", v.name, listed(v.nodes), v.explain(ctx, s))
}

// silent is the fault of a VM that is called Running while nothing is heard from
// inside of it.
func (v *vm) silent(ctx context.Context, s sight, waited time.Duration, err error) error {
	if !late(err) {
		return err
	}
	if s.phase != "Running" {
		return v.unstarted(ctx, s, err)
	}
	said := "its console is empty"
	if v.story.raw != "" {
		said = fmt.Sprintf("the last line of its console is %q", kube.Words(v.story.raw))
	}
	if l := v.story.newest(); l != nil {
		said = fmt.Sprintf("its last word was number %d", l.last.beat.Seq)
	}
	return fleet.NewFault(fleet.CodeGuestSilent, fleet.Conflict, err,
		"VM %s is Running on %s since %s, and its guest says nothing: %s", v.name, s.node, waited.Round(time.Second), said)
}

// now is how the guest's newest boot was last heard.
func (v *vm) now() word {
	if l := v.story.newest(); l != nil {
		return l.last
	}
	return word{}
}

// seen adds the VM to the result.
func (v *vm) seen(from string) {
	w := v.now()
	node := w.node
	v.sight(fleet.VMSight{Name: v.name, Node: node, From: from, Guest: wordsOf(w)})
}

func wordsOf(w word) string {
	if w.beat.Seq == 0 {
		return ""
	}
	return w.beat.Line()
}

// hears waits until a condition on what the guest says holds.
func (v *vm) hears(ctx context.Context, limit time.Duration, what string, done func(guest.Beat) bool) error {
	_, err := v.until(ctx, limit, what, func(sight) (bool, error) { return done(v.now().beat), nil })
	return err
}

// halt stops the VM and waits until nothing of it runs.
func (v *vm) halt(ctx context.Context) error {
	if err := v.strategy(ctx, "Halted"); err != nil {
		return err
	}
	_, err := v.until(ctx, v.limits.stop, "wait until VM "+v.name+" is stopped", func(s sight) (bool, error) { return s.phase == "", nil })
	return err
}

// strategy changes nothing but whether the VM is to run.
func (v *vm) strategy(ctx context.Context, strategy string) error {
	if err := v.cluster.Merge(ctx, vmKind, Namespace, v.name, object{"spec": object{"runStrategy": strategy}}); err != nil {
		return fmt.Errorf("make VM %s %s: %w", v.name, strings.ToLower(strategy), err)
	}
	return nil
}
