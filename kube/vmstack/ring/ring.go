package ring

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"metalrise.dev/fleet"
	"metalrise.dev/kube"
)

// objects is what the proofs ask of the API about objects of any kind, as
// kube.Cluster promises it.
type objects interface {
	Apply(ctx context.Context, u *unstructured.Unstructured) (*unstructured.Unstructured, []string, error)
	Merge(ctx context.Context, kind schema.GroupVersionKind, namespace, name string, patch map[string]any) error
	Object(ctx context.Context, kind schema.GroupVersionKind, namespace, name string) (*unstructured.Unstructured, error)
	Objects(ctx context.Context, kind schema.GroupVersionKind, namespace, selector string) ([]*unstructured.Unstructured, error)
	DeleteObject(ctx context.Context, kind schema.GroupVersionKind, namespace, name string) error
}

// pods is what they ask about the pods that VMs run in.
type pods interface {
	Pods(ctx context.Context, namespace, selector string) ([]corev1.Pod, error)
	Warnings(ctx context.Context, namespace string) ([]corev1.Event, error)
	Log(ctx context.Context, namespace, pod, container string, lines int, previous bool) (string, error)
	Console(ctx context.Context, namespace, pod, container string, since time.Time) ([]byte, error)
	EndPod(ctx context.Context, namespace, pod string) error
}

// nodes is what they ask about nodes.
type nodes interface {
	NodeStates(ctx context.Context) ([]kube.NodeState, error)
	KubeletHeard(ctx context.Context, node string) (time.Time, error)
	AnnotateNode(ctx context.Context, node, key, value string) error
	Fence(ctx context.Context, node string) error
	Unfence(ctx context.Context, node string) error
	Drain(ctx context.Context, node string, o kube.Draining, progress func(string)) error
	CheckQuorum(ctx context.Context, node string) error
}

type cluster interface {
	objects
	pods
	nodes
}

// Fencer switches nodes off and on through their BMCs.
type Fencer interface {
	// Off returns once the BMC says that the node's server is off: what ran on it
	// may then be started elsewhere.
	Off(ctx context.Context, node string) error
	// On returns once it is switched on; not once it is ready. A server that is on
	// stays on.
	On(ctx context.Context, node string) error
}

// Skipped is a proof that cannot be run on this cluster. It is no failure.
type Skipped struct {
	Why string // for people
}

func (s *Skipped) Error() string { return "skipped: " + s.Why }

// Ring runs the proofs on one cluster, one at a time.
type Ring struct {
	cluster cluster
	limits  limits
}

// New makes a ring. It says nothing to the cluster yet.
func New(c *kube.Cluster) *Ring { return &Ring{cluster: c, limits: usual()} }

// limits bound each wait of a proof.
type limits struct {
	start   time.Duration // until a VM is Running: its image may have to be fetched
	place   time.Duration // until a node has room for it
	word    time.Duration // from Running to the guest's first word
	move    time.Duration // of a live migration
	reach   time.Duration // from both guests' words to enough answers between them
	disk    time.Duration // to write and read a volume
	stop    time.Duration // of a VM
	shot    time.Duration // a snapshot, a restore
	drain   time.Duration // of a node
	restart time.Duration // from power-off to the first word elsewhere
	back    time.Duration // from power-on to a ready node
	clean   time.Duration // to remove all that was made
	pace    time.Duration // between two looks
}

// usual limits are several times what is needed on real hardware: a VM starts
// there within 20 s, a node is Ready 2 to 6 minutes after power-on.
func usual() limits {
	return limits{
		start: 4 * time.Minute, place: 90 * time.Second, word: time.Minute, move: 3 * time.Minute, reach: time.Minute, disk: time.Minute, stop: 2 * time.Minute,
		shot: 3 * time.Minute, drain: 8 * time.Minute, restart: 8 * time.Minute, back: 15 * time.Minute, clean: 3 * time.Minute, pace: time.Second,
	}
}

// emulated limits are for VMs without KVM, which run tens of times slower.
func (l limits) emulated() limits {
	for _, d := range []*time.Duration{&l.start, &l.word, &l.move, &l.reach, &l.disk, &l.stop, &l.shot} {
		*d *= 3
	}
	return l
}

// atOnce bounds the VMs that run at a time, so that a proof of many nodes asks
// little of the API and of any one of them.
const atOnce = 4

// run is one run of one proof.
type run struct {
	*Ring
	limits limits
	plan   fleet.Plan
	proof  fleet.Proof
	fencer Fencer
	nonce  string
	begun  time.Time

	mu     sync.Mutex
	note   func(string)
	result fleet.ProofResult
}

// Prove runs one proof and removes what it made. tell is given a sentence for
// each thing that happens, and may be nil. fencer is needed for fleet.ProofFence
// alone.
//
// The result is what was seen, also when the proof failed. The error is a fault
// with one of the codes VM-006 to VM-012, a *Skipped where the cluster cannot do
// it, or what the API said. It may be repeated at any time.
func (r *Ring) Prove(ctx context.Context, p fleet.Plan, proof fleet.Proof, fencer Fencer, tell func(note string)) (fleet.ProofResult, error) {
	if why := whyNot(p, proof); why != "" {
		return fleet.ProofResult{}, &Skipped{why}
	}
	if tell == nil {
		tell = func(string) {}
	}
	one := &run{Ring: r, limits: r.limits, plan: p, proof: proof, fencer: fencer, nonce: nonce(), begun: time.Now(), note: tell}
	if p.Stack.Emulation {
		one.limits = r.limits.emulated()
	}
	if err := r.clean(ctx, fencer, one.say); err != nil {
		return fleet.ProofResult{}, r.left(ctx, err, "an earlier proof left something behind")
	}
	err := one.prepare(ctx)
	if err == nil {
		err = one.prove(ctx)
	}
	if tidy := one.tidy(ctx); tidy != nil && err == nil {
		err = r.left(ctx, tidy, "the proof passed, and not all that it made is gone")
	}
	one.mu.Lock()
	defer one.mu.Unlock()
	return one.result, err
}

func (r *run) prove(ctx context.Context) error {
	switch r.proof {
	case fleet.ProofStart:
		return r.proveStart(ctx)
	case fleet.ProofMigrate:
		return r.proveMigrate(ctx)
	case fleet.ProofNetwork:
		return r.proveNetwork(ctx)
	case fleet.ProofVolume:
		return r.proveVolume(ctx)
	case fleet.ProofSnapshot:
		return r.proveSnapshot(ctx)
	case fleet.ProofDrain:
		return r.proveDrain(ctx)
	case fleet.ProofFence:
		return r.proveFence(ctx)
	}
	return fleet.NewFault(fleet.CodeUnexpected, fleet.Invalid, nil, "there is no proof %q", r.proof)
}

// tidy removes what the run made, also when its context ended: in that case as
// much as goes in a short time, because somebody waits for the end. Whether a
// node came back after it was switched off, the proof itself has said.
func (r *run) tidy(ctx context.Context) error {
	if ctx.Err() != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), shortTidy)
		defer cancel()
	}
	return errors.Join(r.giveBack(ctx, drainedMark, r.undrain), r.sweep(ctx, dropSpace))
}

const shortTidy = 20 * time.Second

// prepare makes the namespace and the VMs' size.
func (r *run) prepare(ctx context.Context) error {
	for _, u := range []*unstructured.Unstructured{space(), size(machine{proof: r.proof, run: r.nonce})} {
		if err := r.apply(ctx, u); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) apply(ctx context.Context, u *unstructured.Unstructured) error {
	_, warned, err := r.cluster.Apply(ctx, u)
	if err != nil {
		return fmt.Errorf("make %s: %w", kube.NameOf(u), err)
	}
	for _, w := range warned {
		r.say(kube.NameOf(u) + ": the API warns: " + w)
	}
	return nil
}

func (r *run) say(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.note(text)
}

// saw keeps a sentence of the result.
func (r *run) saw(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.result.Words = append(r.result.Words, text)
	r.note(text)
}

// measured keeps a figure, the largest of several.
func (r *run) measured(name string, value float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.result.Measured == nil {
		r.result.Measured = map[string]float64{}
	}
	if old, ok := r.result.Measured[name]; !ok || value > old {
		r.result.Measured[name] = value
	}
}

func (r *run) sight(s fleet.VMSight) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.result.VMs = append(r.result.VMs, s)
}

// each does something for several things, some at a time. After a failure
// nothing new is begun; the first error in the order of the things counts.
func each[T any](all []T, do func(T) error) error {
	slots := make(chan struct{}, atOnce)
	errs := make([]error, len(all))
	var group sync.WaitGroup
	var failed atomic.Bool
	for i, one := range all {
		slots <- struct{}{}
		if failed.Load() {
			break
		}
		group.Go(func() {
			if errs[i] = do(one); errs[i] != nil {
				failed.Store(true)
			}
			<-slots
		})
	}
	group.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func nonce() string {
	b := make([]byte, 5)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// isSkip tells whether an error is no failure.
func isSkip(err error) bool {
	var s *Skipped
	return errors.As(err, &s)
}
