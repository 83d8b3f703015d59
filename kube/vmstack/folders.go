package vmstack

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"metalrise.dev/fleet"
)

// foldersName names the DaemonSet that has the kubelets make the volumes' folders.
const foldersName = "metalrise-volumes"

// folders is a DaemonSet that does nothing but mount the folders of volumes, so
// that the kubelet of each hypervisor makes those that are not there. Local
// volumes, unlike those of the kind hostPath, belong to the group of the pod
// that mounts them, which is how CDI can write into them without being root; but
// nobody makes their folders. It is nil where no volume needs one.
func folders(p fleet.Plan, volumes []*unstructured.Unstructured) *unstructured.Unstructured {
	var paths []string
	for _, v := range volumes {
		if path, ok, _ := unstructured.NestedString(v.Object, "spec", "local", "path"); ok {
			paths = append(paths, path)
		}
	}
	if len(paths) == 0 {
		return nil
	}
	slices.Sort(paths)
	var from, to []any
	for n, path := range slices.Compact(paths) {
		name := fmt.Sprintf("folder-%d", n)
		from = append(from, map[string]any{"name": name, "hostPath": map[string]any{"path": path, "type": "DirectoryOrCreate"}})
		to = append(to, map[string]any{"name": name, "mountPath": fmt.Sprintf("/volumes/%d", n)})
	}
	var names []string
	for _, a := range hypervisors(p) {
		names = append(names, a.Node.Name)
	}
	spec := map[string]any{
		"automountServiceAccountToken":  false,
		"priorityClassName":             "system-node-critical",
		"terminationGracePeriodSeconds": int64(1),
		"containers": []any{map[string]any{
			"name": "pause", "image": p.Stack.Pause, "imagePullPolicy": "IfNotPresent", "volumeMounts": to,
			"resources": map[string]any{"requests": map[string]any{"cpu": "1m", "memory": "4Mi"}},
		}},
		"volumes": from,
		"affinity": map[string]any{"nodeAffinity": map[string]any{"requiredDuringSchedulingIgnoredDuringExecution": map[string]any{
			"nodeSelectorTerms": []any{map[string]any{"matchExpressions": []any{map[string]any{"key": "kubernetes.io/hostname", "operator": "In", "values": texts(names)}}}},
		}}},
	}
	if t := tolerations(p); len(t) > 0 {
		spec["tolerations"] = t
	}
	labels := map[string]any{"app.kubernetes.io/name": foldersName}
	return object("apps/v1", "DaemonSet", "kube-system", foldersName, map[string]any{"spec": map[string]any{
		"selector":       map[string]any{"matchLabels": labels},
		"updateStrategy": map[string]any{"type": "RollingUpdate", "rollingUpdate": map[string]any{"maxUnavailable": "100%"}},
		"template":       map[string]any{"metadata": map[string]any{"labels": labels}, "spec": spec},
	}})
}

// storageProfile tells CDI what the volumes of local storage can do, so that
// disks may be asked for without saying it. CDI knows that of drivers only.
func storageProfile(class string) *unstructured.Unstructured {
	return object("cdi.kubevirt.io/v1beta1", "StorageProfile", "", class, map[string]any{"spec": map[string]any{
		"claimPropertySets": []any{map[string]any{"accessModes": []any{"ReadWriteOnce"}, "volumeMode": "Filesystem"}},
	}})
}
