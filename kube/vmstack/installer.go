package vmstack

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"metalrise.dev/fleet"
	"metalrise.dev/kube"
)

// Pace is how patient an installer is.
type Pace struct {
	Look   time.Duration // between two looks at what was applied
	Refuse time.Duration // how long an object may be refused for reasons that pass: a webhook that starts, an API that is away
	Still  time.Duration // how long nothing may change before a component is called stuck
	Most   time.Duration // how long a component may take in all
}

// DefaultPace fits slow machines: KubeVirt takes two to four minutes, most of it
// images that are unpacked without a visible change.
func DefaultPace() Pace {
	return Pace{Look: time.Second, Refuse: 3 * time.Minute, Still: 10 * time.Minute, Most: 60 * time.Minute}
}

// Installer installs components on one cluster. It may be used by several
// goroutines, for different components.
type Installer struct {
	cluster *kube.Cluster
	plan    fleet.Plan
	content func(sha256 string) ([]byte, error)
	pace    Pace
	warned  func(object, text string)
}

// New makes an installer. content reads what lies in the nodes' software under a
// digest; its answer is believed to be what the digest says.
func New(c *kube.Cluster, p fleet.Plan, content func(sha256 string) ([]byte, error)) *Installer {
	return &Installer{cluster: c, plan: p, content: content, pace: DefaultPace(), warned: func(string, string) {}}
}

// WithPace gives an installer of another patience.
func (i *Installer) WithPace(p Pace) *Installer {
	out := *i
	out.pace = p
	return &out
}

// OnWarning gives an installer that tells of the API's warnings, such as outdated
// fields, with the object that they are about.
func (i *Installer) OnWarning(tell func(object, text string)) *Installer {
	out := *i
	out.warned = tell
	return &out
}

// Teller is told how an installation goes: what is done or waited for, in one
// sentence, and what must be true, nil while that is not known.
type Teller = func(note string, checks []fleet.Check)

// Install applies one component and returns when it is ready. It may be
// repeated at any time, also after it was cut off: what is there already is
// left as it is. What an earlier version brought and this one does not is
// deleted, but never namespaces and definitions.
//
// Faults: VM-002 when the software lacks it, VM-003 when its content cannot be
// read, VM-004 when it does not become ready, VM-005 when the API refuses it,
// and those of an API that is away.
func (i *Installer) Install(ctx context.Context, c fleet.ComponentPlan, tell Teller) error {
	if err := i.install(ctx, c, once(tell)); err != nil {
		return fmt.Errorf("install %s: %w", c.Name, err)
	}
	return nil
}

func (i *Installer) install(ctx context.Context, c fleet.ComponentPlan, tell Teller) error {
	entry, ok := fleet.CatalogueOf(c.Name)
	if !ok {
		return fleet.NewFault(fleet.CodeComponentMissing, fleet.Invalid, nil, "component %q is not in the catalogue", c.Name)
	}
	brought, err := i.brought(c, entry)
	if err != nil {
		return err
	}
	own, err := i.written(ctx, c.Name)
	if err != nil {
		return err
	}
	if own, err = i.joined(ctx, own, tell); err != nil {
		return err
	}
	brought = without(brought, own)
	late := i.late(c.Name)
	before, err := i.inventory(ctx, c.Name)
	if err != nil {
		return err
	}
	list := inventory{Component: c.Name, Version: c.Version, State: stateApplying, Objects: refsOf(slices.Concat(brought, own, late))}
	noted := list
	if before != nil {
		noted.Objects = union(before.Objects, list.Objects) // until the rest is deleted
	}
	if err := i.note(ctx, noted); err != nil {
		return err
	}
	started := time.Now()
	if err := i.applyAll(ctx, c.Name, brought, tell); err != nil {
		return err
	}
	// The component's own operator comes first: it checks what is written for it.
	if err := i.wait(ctx, task{component: c.Name, objects: brought, since: started}, tell); err != nil {
		return err
	}
	if err := i.applyAll(ctx, c.Name, own, tell); err != nil {
		return err
	}
	all := append(slices.Clone(brought), own...)
	if err := i.wait(ctx, task{component: c.Name, objects: all, extra: i.extra(c.Name, c.Version), since: started}, tell); err != nil {
		return err
	}
	if err := i.applyAll(ctx, c.Name, late, tell); err != nil {
		return err
	}
	list.Objects = refsOf(append(all, late...)) // with the namespaces that the API gave
	if before != nil {
		if err := i.prune(ctx, before.Objects, list.Objects, tell); err != nil {
			return err
		}
	}
	list.State = stateReady
	return i.note(ctx, list)
}

// brought reads the component's manifests as its makers publish them.
func (i *Installer) brought(c fleet.ComponentPlan, entry fleet.CatalogueEntry) ([]*unstructured.Unstructured, error) {
	if len(c.Manifests) == 0 && !entry.Own {
		return nil, fleet.NewFault(fleet.CodeComponentMissing, fleet.Invalid, nil, "the plan names no manifests of %s", entry.Title)
	}
	var out []*unstructured.Unstructured
	for _, digest := range c.Manifests {
		text, err := i.content(digest)
		if err != nil {
			return nil, fleet.NewFault(fleet.CodeComponentMissing, fleet.Invalid, err, "read manifests %s of %s", short(digest), entry.Title)
		}
		objects, err := kube.ReadObjects(text)
		if err != nil {
			return nil, fleet.NewFault(fleet.CodeComponentRefused, fleet.Invalid, err, "read manifests %s of %s", short(digest), entry.Title)
		}
		out = append(out, objects...)
	}
	return out, nil
}

func short(digest string) string {
	if len(digest) > 12 {
		return digest[:12]
	}
	return digest
}

// without drops those of objects that are among own.
func without(objects, own []*unstructured.Unstructured) []*unstructured.Unstructured {
	mine := refsOf(own)
	return slices.DeleteFunc(objects, func(o *unstructured.Unstructured) bool { return slices.Contains(mine, refOf(o)) })
}

// componentLabel says to which component an object belongs.
const componentLabel = "metalrise.dev/component"

// applyAll applies objects in their order. Definitions are waited for before
// anything that comes after them.
func (i *Installer) applyAll(ctx context.Context, c fleet.Component, objects []*unstructured.Unstructured, tell Teller) error {
	var defined []*unstructured.Unstructured
	for n, o := range objects {
		if o.GetKind() == kindDefinition {
			defined = append(defined, o)
		} else if len(defined) > 0 {
			if err := i.wait(ctx, task{component: c, objects: defined, since: time.Now()}, tell); err != nil {
				return err
			}
			defined = nil
		}
		tell(fmt.Sprintf("applying %d of %d: %s", n+1, len(objects), kube.NameOf(o)), nil)
		if err := i.apply(ctx, c, o, tell); err != nil {
			return err
		}
	}
	return nil
}

// managerOf is the name under which an object is applied. Nodes are dressed by
// others of metalrise too, so that each component has a name of its own there.
func managerOf(c fleet.Component, kind string) string {
	if kind == "Node" {
		return kube.Manager + "-" + string(c)
	}
	return kube.Manager
}

// apply sends one object until it is taken, refused for good, or patience ends.
func (i *Installer) apply(ctx context.Context, c fleet.Component, given *unstructured.Unstructured, tell Teller) error {
	o := given.DeepCopy()
	labels := o.GetLabels()
	if labels == nil {
		labels = map[string]string{}
	}
	labels[componentLabel] = string(c)
	o.SetLabels(labels)
	until := time.Now().Add(i.pace.Refuse)
	for {
		applied, warnings, err := i.cluster.ApplyAs(ctx, managerOf(c, o.GetKind()), o)
		for _, w := range warnings {
			i.warned(kube.NameOf(o), w)
		}
		if err == nil {
			given.SetNamespace(applied.GetNamespace()) // where the manifest says none
			return nil
		}
		if !passing(err) || ctx.Err() != nil || time.Now().After(until) {
			return refused(o, err)
		}
		tell("waiting until the API takes "+kube.NameOf(o)+": "+reason(err), nil)
		if err := pause(ctx, i.pace.Look); err != nil {
			return err
		}
	}
}

// passing tells whether an object may be taken later: the API is away, the
// webhook that checks it does not run yet, its definition or its namespace came,
// or goes, this moment.
func passing(err error) bool {
	return fleet.KindOf(err) == fleet.Transient || apierrors.IsNotFound(err) || apierrors.IsConflict(err) ||
		apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause)
}

// refused makes the API's refusal the component's fault. An API that does not
// answer stays what it is.
func refused(o *unstructured.Unstructured, err error) error {
	switch fleet.CodeOf(err) {
	case fleet.CodeAPIUnreachable, fleet.CodeInterrupted:
		return fmt.Errorf("apply %s: %w", kube.NameOf(o), err)
	}
	cause := err
	var said *fleet.Fault
	if errors.As(err, &said) && said.Err != nil {
		cause = said.Err // its own text says the same as ours
	}
	return fleet.NewFault(fleet.CodeComponentRefused, fleet.KindOf(err), cause, "apply %s", kube.NameOf(o))
}

// reason is the innermost part of an error, which the API said.
func reason(err error) string {
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		return kube.Words(status.Status().Message)
	}
	return kube.Words(err.Error())
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return fleet.NewFault(fleet.CodeInterrupted, fleet.Transient, ctx.Err(), "wait for the component")
	case <-time.After(d):
		return nil
	}
}

// oneLine joins words of several places.
func oneLine(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), "; ")
}
