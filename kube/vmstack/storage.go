package vmstack

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"strconv"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"metalrise.dev/fleet"
)

// Names of local storage where the plan gives none.
const (
	defaultClass = "metalrise-local"
	defaultPath  = "/var/lib/metalrise/volumes"
)

const (
	volumesPerNode = 8
	// Each volume promises a sixteenth of the install disk, so that all of a node
	// together take half of it.
	volumeShare = 2 * volumesPerNode
	volumeUnit  = 64 << 20
	volumeLeast = 128 << 20
	volumeGuess = 4 << 30 // where the plan does not know the disk
)

const (
	volumeLabel    = "metalrise.dev/local-volume" // "NODE"; the slot and the round are annotations
	volumeSelector = volumeLabel
	slotMark       = "metalrise.dev/slot"
	roundMark      = "metalrise.dev/round"
)

// LocalStorage is a storage class and a number of volumes on each hypervisor's
// own disk. there are those that the cluster has already.
//
// Volumes are folders, which a DaemonSet has the kubelets make. Their size is a
// promise that nobody enforces. A volume that was given back keeps its data; its
// slot gets a new folder, in the next round. Without an image for the DaemonSet
// volumes are of the kind hostPath, which only root can write to.
func LocalStorage(p fleet.Plan, there []*unstructured.Unstructured) []*unstructured.Unstructured {
	class, root := cmp.Or(p.Stack.Storage.Class, defaultClass), cmp.Or(p.Stack.Storage.Path, defaultPath)
	storage := object("storage.k8s.io/v1", "StorageClass", "", class, map[string]any{
		"provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "WaitForFirstConsumer", "reclaimPolicy": "Retain",
	})
	storage.SetAnnotations(map[string]string{"storageclass.kubernetes.io/is-default-class": "true"})
	var out []*unstructured.Unstructured
	have := slots(there)
	for _, a := range hypervisors(p) {
		for slot := range volumesPerNode {
			was := have[slotKey{a.Node.Name, slot}]
			if was.kept != nil {
				out = append(out, again(was.kept))
				continue
			}
			out = append(out, volume(a, class, root, slot, was.rounds, p.Stack.Pause != ""))
		}
	}
	if makers := folders(p, out); makers != nil {
		out = append([]*unstructured.Unstructured{makers}, out...)
	}
	return append([]*unstructured.Unstructured{storage}, out...)
}

type slotKey struct {
	node string
	slot int
}

// slotState is what became of a slot so far.
type slotState struct {
	kept   *unstructured.Unstructured // its volume that is free or in use
	rounds int                        // begun
}

func slots(there []*unstructured.Unstructured) map[slotKey]slotState {
	out := map[slotKey]slotState{}
	for _, v := range there {
		slot, err := strconv.Atoi(v.GetAnnotations()[slotMark])
		round, err2 := strconv.Atoi(v.GetAnnotations()[roundMark])
		if err != nil || err2 != nil {
			continue
		}
		key := slotKey{v.GetLabels()[volumeLabel], slot}
		s := out[key]
		s.rounds = max(s.rounds, round+1)
		if phase := phaseOf(v); phase != "Released" && phase != "Failed" && v.GetDeletionTimestamp() == nil {
			s.kept = v
		}
		out[key] = s
	}
	return out
}

func volume(a fleet.Assignment, class, root string, slot, round int, made bool) *unstructured.Unstructured {
	name := fmt.Sprintf("local-%s-%d", a.Node.Name, slot)
	if round > 0 {
		name += "-" + strconv.Itoa(round)
	}
	where := path.Join(root, fmt.Sprintf("%d-%d", slot, round))
	spec := map[string]any{
		"capacity":                      map[string]any{"storage": fmt.Sprintf("%dMi", volumeBytes(a)>>20)},
		"accessModes":                   []any{"ReadWriteOnce"},
		"volumeMode":                    "Filesystem",
		"persistentVolumeReclaimPolicy": "Retain",
		"storageClassName":              class,
		"nodeAffinity": map[string]any{"required": map[string]any{"nodeSelectorTerms": []any{map[string]any{
			"matchExpressions": []any{map[string]any{"key": "kubernetes.io/hostname", "operator": "In", "values": []any{a.Node.Name}}},
		}}}},
	}
	if made {
		spec["local"] = map[string]any{"path": where}
	} else {
		spec["hostPath"] = map[string]any{"path": where, "type": "DirectoryOrCreate"}
	}
	v := object("v1", "PersistentVolume", "", name, map[string]any{"spec": spec})
	v.SetLabels(map[string]string{volumeLabel: a.Node.Name})
	v.SetAnnotations(map[string]string{slotMark: strconv.Itoa(slot), roundMark: strconv.Itoa(round)})
	return v
}

// again is a volume as it is: where it lies must not change.
func again(v *unstructured.Unstructured) *unstructured.Unstructured {
	was, _, _ := unstructured.NestedMap(v.Object, "spec")
	spec := map[string]any{}
	for _, field := range []string{"capacity", "accessModes", "volumeMode", "persistentVolumeReclaimPolicy", "storageClassName", "hostPath", "local", "nodeAffinity"} {
		if value, ok := was[field]; ok {
			spec[field] = value
		}
	}
	out := object("v1", "PersistentVolume", "", v.GetName(), map[string]any{"spec": spec})
	out.SetLabels(map[string]string{volumeLabel: v.GetLabels()[volumeLabel]})
	out.SetAnnotations(map[string]string{slotMark: v.GetAnnotations()[slotMark], roundMark: v.GetAnnotations()[roundMark]})
	return out
}

func volumeBytes(a fleet.Assignment) int64 {
	if a.InstallDisk.SizeBytes <= 0 {
		return volumeGuess
	}
	return max(volumeLeast, a.InstallDisk.SizeBytes/volumeShare/volumeUnit*volumeUnit)
}

// volumes looks whether each hypervisor has its volumes. One that was given back
// counts as there: its slot gets a new folder when the component is installed
// again.
func (i *Installer) volumes(ctx context.Context) ([]fleet.Check, error) {
	there, err := i.cluster.Objects(ctx, kindVolume, "", volumeSelector)
	if err != nil {
		return nil, err
	}
	have := slots(there)
	var out []fleet.Check
	for _, a := range hypervisors(i.plan) {
		begun, good := 0, 0
		for slot := range volumesPerNode {
			s := have[slotKey{a.Node.Name, slot}]
			if s.rounds > 0 {
				begun++
			}
			if s.kept != nil {
				good++
			}
		}
		check := fleet.Check{Name: "volumes on " + a.Node.Name, OK: begun == volumesPerNode && good > 0}
		if !check.OK {
			check.Missing = fmt.Sprintf("%d of %d volumes are free or in use", good, volumesPerNode)
		}
		out = append(out, check)
	}
	return out, nil
}
