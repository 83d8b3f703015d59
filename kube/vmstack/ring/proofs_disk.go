package ring

import (
	"context"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"metalrise.dev/fleet"
	"metalrise.dev/guest"
	"metalrise.dev/kube"
)

// What the guest writes before and after the snapshot.
const (
	markBefore = "before"
	markAfter  = "after"
)

// diskOf tells what volumes are made of: CDI makes them where the plan has it.
func diskOf(p fleet.Plan) disk {
	for _, c := range p.Stack.Components {
		if c.Name == fleet.ComponentCDI {
			return imported
		}
	}
	return claimed
}

// fresh is what a guest finds on a new disk.
func (d disk) fresh() guest.Mark {
	if d == imported {
		return guest.Shipped()
	}
	return guest.Blank()
}

// written starts a VM with a new volume, which its guest finds as it must be and
// writes.
func (r *run) written(ctx context.Context, name string) (*vm, error) {
	names, err := r.names(ctx, 1, fleet.CodeVolumeFailed)
	if err != nil {
		return nil, err
	}
	v := r.vm(machine{name: name, nodes: names, disk: diskOf(r.plan), mark: markBefore})
	if err := v.start(ctx); err != nil {
		return v, v.volumeFault(ctx, err)
	}
	if err := v.holds(ctx, v.disk.fresh(), guest.Mark{Text: markBefore, Boot: v.now().beat.Boot}); err != nil {
		return v, err
	}
	if v.disk == imported {
		r.saw("CDI filled a new volume of class %s from the disk in the image %s: the guest of VM %s on %s found all of it, wrote 4 MiB of its own and read them back",
			r.plan.Stack.Storage.Class, r.plan.Stack.Guest, name, v.now().node)
	} else {
		r.saw("the guest of VM %s on %s found its new volume of class %s blank, wrote 4 MiB and read them back", name, v.now().node, r.plan.Stack.Storage.Class)
	}
	return v, nil
}

// holds waits until the guest says what it found on its disk and what is there now.
func (v *vm) holds(ctx context.Context, found, holds guest.Mark) error {
	err := v.hears(ctx, v.limits.disk, "wait until the guest of VM "+v.name+" has read and written its volume", func(b guest.Beat) bool {
		return !b.Holds.Zero() || b.Fault != "" && b.Found.Zero()
	})
	b := v.now().beat
	switch {
	case err != nil && !late(err):
		return err
	case err != nil || b.Holds.Zero():
		return fleet.NewFault(fleet.CodeVolumeFailed, fleet.Conflict, err, "the guest of VM %s on %s could not use its volume: it found %s, it says %q", v.name, v.now().node, shown(b.Found), b.Fault)
	case b.Found != found || b.Holds != holds:
		return fleet.NewFault(fleet.CodeVolumeFailed, fleet.Conflict, nil, "the guest of VM %s on %s found %s on its volume instead of %s, and it holds %s instead of %s",
			v.name, v.now().node, shown(b.Found), shown(found), shown(b.Holds), shown(holds))
	}
	return nil
}

func shown(m guest.Mark) string {
	switch m {
	case guest.Mark{}:
		return "nothing it could read"
	case guest.Blank():
		return "nothing written"
	case guest.Shipped():
		return "the disk of the guest's image"
	}
	return fmt.Sprintf("%q of boot %s", m.Text, m.Boot)
}

// volumeFault gives a VM that did not start for want of its volume the code of
// volumes, with the volume's own state.
func (v *vm) volumeFault(ctx context.Context, err error) error {
	if fleet.CodeOf(err) != fleet.CodeVMNotStarted || !late(err) {
		return err
	}
	for _, kind := range []schema.GroupVersionKind{volumeKind, claimKind} {
		u, looked := v.cluster.Object(context.WithoutCancel(ctx), kind, Namespace, v.name)
		if looked != nil || u == nil {
			continue
		}
		phase, _, _ := unstructured.NestedString(u.Object, "status", "phase")
		if phase == "Bound" || phase == "Succeeded" {
			continue
		}
		said := []string{kube.NameOf(u) + " is " + nonEmpty(phase, "without a phase")}
		for _, c := range conditions(u) { // CDI says there how its pod fared
			if c.status != "True" && c.reason+c.message != "" {
				said = append(said, c.kind+": "+c.words())
			}
		}
		return fleet.NewFault(fleet.CodeVolumeFailed, fleet.Conflict, err, "%s", strings.Join(said, "; "))
	}
	return err
}

// again starts a stopped VM and waits for its next boot.
func (v *vm) again(ctx context.Context) error {
	before := v.now().beat.Boot
	if err := v.strategy(ctx, "Always"); err != nil {
		return err
	}
	return v.speaks(ctx, before)
}

// proveVolume has a volume written, and found as it was after a restart of the VM.
func (r *run) proveVolume(ctx context.Context) error {
	v, err := r.written(ctx, "volume")
	if v != nil {
		defer v.seen("")
	}
	if err != nil {
		return err
	}
	wrote := v.now().beat.Holds
	asked := time.Now()
	if err := v.halt(ctx); err != nil {
		return err
	}
	if err := v.again(ctx); err != nil {
		return err
	}
	if err := v.holds(ctx, wrote, wrote); err != nil {
		return err
	}
	r.measured("restartSeconds", seconds(time.Since(asked)))
	r.saw("after a restart of the VM the next boot of the guest, on %s, found all of it unchanged", v.now().node)
	return nil
}

// proveSnapshot takes a snapshot of a VM with a volume, has the volume
// overwritten, restores it, and expects what was there before.
func (r *run) proveSnapshot(ctx context.Context) error {
	v, err := r.written(ctx, "snapshot")
	if v != nil {
		defer v.seen("")
	}
	if err != nil {
		return err
	}
	before := v.now().beat.Holds
	if err := v.halt(ctx); err != nil {
		return err
	}
	if err := v.stay(ctx); err != nil {
		return err
	}
	asked := time.Now()
	if err := v.shot(ctx, snapshot(v.machine), snapshotKind, "readyToUse"); err != nil {
		return err
	}
	r.measured("snapshotSeconds", seconds(time.Since(asked)))
	if err := v.overwrite(ctx, before); err != nil {
		return err
	}
	asked = time.Now()
	if err := v.shot(ctx, restore(v.machine), restoreKind, "complete"); err != nil {
		return err
	}
	r.measured("restoreSeconds", seconds(time.Since(asked)))
	if err := v.again(ctx); err != nil {
		return err
	}
	if err := v.holds(ctx, before, before); err != nil {
		return err
	}
	r.saw("the volume was overwritten after a snapshot and restored from it: the guest found what was there before")
	return nil
}

// stay keeps a halted VM on the node where it ran, unless several nodes can attach
// its volume. A volume that is restored on demand is made where the VM is sent,
// and storage of one node has the snapshot on that node alone, which the
// scheduler does not know.
func (v *vm) stay(ctx context.Context) error {
	if v.plan.Stack.Storage.Shared {
		return nil
	}
	v.nodes, v.halted = []string{v.now().node}, true
	return v.apply(ctx, v.machine.vm())
}

// overwrite has the guest write another mark, and stops it.
func (v *vm) overwrite(ctx context.Context, before guest.Mark) error {
	v.mark, v.halted = markAfter, true
	if err := v.apply(ctx, v.machine.vm()); err != nil {
		return err
	}
	if err := v.again(ctx); err != nil {
		return err
	}
	if err := v.holds(ctx, before, guest.Mark{Text: markAfter, Boot: v.now().beat.Boot}); err != nil {
		return err
	}
	return v.halt(ctx)
}

// shot makes a snapshot or restores one, and waits until it says that it is done.
func (v *vm) shot(ctx context.Context, u *unstructured.Unstructured, kind schema.GroupVersionKind, done string) error {
	name := kube.NameOf(u)
	if err := v.apply(ctx, u); err != nil {
		return fleet.NewFault(fleet.CodeVolumeFailed, kindOf(err), err, "make %s", name)
	}
	var last *unstructured.Unstructured
	err := v.poll(ctx, v.limits.shot, "wait for "+name, func(ctx context.Context) (bool, error) {
		u, err := v.cluster.Object(ctx, kind, Namespace, v.name)
		if err != nil || u == nil {
			return false, err
		}
		last = u
		yes, _, _ := unstructured.NestedBool(u.Object, "status", done)
		return yes, nil
	})
	if !late(err) {
		return err
	}
	why := "it says nothing"
	if last != nil {
		if text, _, _ := unstructured.NestedString(last.Object, "status", "error", "message"); text != "" {
			why = kube.Words(text)
		} else {
			for _, c := range conditions(last) {
				if c.status != "True" {
					why = c.kind + ": " + c.words()
				}
			}
		}
	}
	return fleet.NewFault(fleet.CodeVolumeFailed, fleet.Conflict, err, "%s is not done: %s", name, why)
}
